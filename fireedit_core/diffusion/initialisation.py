# SPDX-License-Identifier: GPL-3.0-or-later
"""Start an x0-predicting editing UNet as the editor that changes nothing: its first output is the source latent."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from torch import nn

_CONSTANT = 8.0


@torch.no_grad()
def identity_init_(unet: UNet2DConditionModel) -> None:
    """Rewrite a few channels of a fresh UNet (in_channels = 2c, out_channels = c, "sample" prediction) in place.

    The source latent s rides through the outermost skip connection to the output. Between the last residual block and
    the output stand GroupNorm and SiLU; both become the identity for s with two tricks: SiLU(a) - SiLU(-a) = a, and a
    large constant in the group of (s, -s) makes the GroupNorm's scale nearly independent of s. Everything stays
    trainable. Needs one GroupNorm group of at least 3 channels per latent channel at the outermost level.

    Raises:
        ValueError: if the UNet has not that shape.
    """
    c = unet.config.out_channels
    width = unet.config.block_out_channels[0]
    group = width // unet.config.norm_num_groups
    if unet.config.in_channels != 2 * c or group < 3 or width < group * c:
        raise ValueError(
            f"identity_init_ needs in_channels = 2 x out_channels and GroupNorm groups of >= 3 channels for each of them; got "
            f"in {unet.config.in_channels}, out {c}, width {width}, groups of {group}"
        )
    # conv_in: channel 2i carries s_i, channel 2i+1 carries -s_i
    unet.conv_in.weight[: 2 * c] = 0
    unet.conv_in.bias[: 2 * c] = 0
    for i in range(c):
        unet.conv_in.weight[2 * i, c + i, 1, 1] = 1
        unet.conv_in.weight[2 * i + 1, c + i, 1, 1] = -1
    # last residual block: (s, -s, C, 0 ...) per group, fed from the skip connection alone
    block = unet.up_blocks[-1]
    resnet = block.resnets[-1]
    hidden = resnet.conv_shortcut.in_channels - width  # the skip's channels come after the hidden state's
    reserved = slice(0, group * c)
    for layer in (resnet.conv_shortcut, resnet.conv2):
        layer.weight[reserved] = 0
        layer.bias[reserved] = 0
    for i in range(c):
        resnet.conv_shortcut.weight[group * i, hidden + 2 * i] = 1
        resnet.conv_shortcut.weight[group * i + 1, hidden + 2 * i + 1] = 1
        resnet.conv_shortcut.bias[group * i + 2] = _CONSTANT
    if getattr(block, "attentions", None):
        out: nn.Module = block.attentions[-1].proj_out
        out.weight[reserved] = 0
        out.bias[reserved] = 0
    # undo the GroupNorm: mean and deviation of a group when s has unit variance
    mean = _CONSTANT / group
    unet.conv_norm_out.weight[reserved] = ((2 + _CONSTANT**2) / group - mean**2) ** 0.5
    unet.conv_norm_out.bias[reserved] = mean
    unet.conv_out.weight.mul_(0.1)
    unet.conv_out.weight[:, reserved] = 0
    unet.conv_out.bias.zero_()
    for i in range(c):
        unet.conv_out.weight[i, group * i, 1, 1] = 1
        unet.conv_out.weight[i, group * i + 1, 1, 1] = -1
