# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m tests.host.inside.make_controlnet FILE BUNDLE`: a ControlNet for a bundle's UNet, as a file of the original layout.

Its weights are random and not zero, so that it has an effect. In a process of its own, because it needs the host's modules.
"""

from __future__ import annotations

import sys

import torch
from safetensors.torch import save_file

import tests.host.inside.pack  # noqa: F401  first: it makes the host importable

import comfy.cldm.cldm  # isort: skip
import comfy.ops  # isort: skip
from fireedit_pack.nodes.host import models  # isort: skip


def make_controlnet(unet_config: dict, channels: int, std: float = 0.05) -> torch.nn.Module:
    """A ControlNet shaped like a host UNet of `unet_config` that denoises `channels` latent channels."""
    torch.manual_seed(4)
    settings = dict(unet_config)
    for name in ("out_channels", "transformer_depth_output", "disable_unet_model_creation"):
        settings.pop(name, None)
    settings |= {"in_channels": channels, "hint_channels": 3, "dtype": torch.float32}
    made = comfy.cldm.cldm.ControlNet(**settings, operations=comfy.ops.disable_weight_init)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return made.eval()


if __name__ == "__main__":
    file, folder = sys.argv[1:]
    _, model, _ = models.load(folder, "bundle")
    made = make_controlnet(model.model.model_config.unet_config, model.model.latent_format.latent_channels)
    save_file({name: value.contiguous() for name, value in made.state_dict().items()}, file)
