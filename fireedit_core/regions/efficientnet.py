# SPDX-License-Identifier: GPL-3.0-or-later
"""EfficientNet-Lite0: what one thing in a photograph is, among ImageNet's 1000 classes; 4.7 M parameters, 0.03 s on a core.

Source: EfficientNet (arXiv 1905.11946) in Google's Lite variant for accelerators (Apache-2.0): inverted residual blocks without squeeze
and excitation, ReLU6 throughout, stem and head of fixed width. Batch norms are folded into the convolutions. TensorFlow pads what is
strided by one more pixel at the right and bottom, and so do its weights. The layers here were written anew;
`authoring/make_photo_classifier.py` fills them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INPUT_SIZE = 224  # px, of the square that crops are scaled to
CLASSES = 1000
_MEAN, _STD = 127 / 255, 128 / 255  # of 0..1
# repeats, kernel, stride of the first, expansion, channels out
_STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))
_STEM, _HEAD = 32, 1280  # channels


class ConvSame(nn.Conv2d):
    """A convolution padded as TensorFlow's "SAME" does: (B, C, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        pads = []
        for side, kernel, stride in ((-1, self.kernel_size[1], self.stride[1]), (-2, self.kernel_size[0], self.stride[0])):
            over = max((-(-x.shape[side] // stride) - 1) * stride + kernel - x.shape[side], 0)
            pads += [over // 2, over - over // 2]
        return super().forward(F.pad(x, pads))


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; added to what came where the shape stays: (B, C, H, W) -> (B, out, H / stride, W / stride)."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        inside = channels * expansion
        widen = [ConvSame(channels, inside, 1), nn.ReLU6()] if expansion > 1 else []
        self.layers = nn.Sequential(*widen, ConvSame(inside, inside, kernel, stride, groups=inside), nn.ReLU6(), ConvSame(inside, out, 1))
        self.adds = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x + self.layers(x) if self.adds else self.layers(x)


class EfficientNetLite0(nn.Module):
    """Prepared crops -> a logit for each of ImageNet's classes, in its usual order (tench first)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvSame(3, _STEM, 3, 2)
        blocks, channels = [], _STEM
        for repeats, kernel, stride, expansion, out in _STAGES:
            for number in range(repeats):
                blocks.append(InvertedResidual(channels, out, kernel, 1 if number else stride, expansion))
                channels = out
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvSame(channels, _HEAD, 1)
        self.classifier = nn.Linear(_HEAD, CLASSES)

    def features(self, prepared: Tensor) -> Tensor:
        """prepared (B, 3, 224, 224), see `prepare` -> (B, 1280, 7, 7): what is seen where."""
        return F.relu6(self.head(self.blocks(F.relu6(self.stem(prepared)))))

    def forward(self, prepared: Tensor) -> Tensor:
        """prepared (B, 3, 224, 224), see `prepare` -> (B, 1000)."""
        return self.classifier(self.features(prepared).mean(dim=(2, 3)))


def prepare(crop: Tensor) -> Tensor:
    """(B, 3, H, W) RGB in 0..1 -> (B, 3, 224, 224), normalised."""
    scaled = F.interpolate(crop.float(), (INPUT_SIZE, INPUT_SIZE), mode="bicubic", align_corners=False, antialias=True)
    return ((scaled.clamp(0, 1) - _MEAN) / _STD).to(crop.dtype)


def quantised(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A `state_dict` as it is stored: weights as int8 with one step per output channel (`.step`, float32), the rest as float16."""
    stored = {}
    for name, value in state.items():
        if name.endswith(".weight"):
            step = (value.flatten(1).abs().amax(dim=1) / 127).clamp(min=1e-12)
            stored[name] = (value / step.reshape(-1, *[1] * (value.ndim - 1))).round().to(torch.int8)
            stored[name.removesuffix("weight") + "step"] = step.float()
        else:
            stored[name] = value.half()
    return {name: value.contiguous() for name, value in stored.items()}


def dequantised(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `quantised`, in float32; off by at most half a step.

    Raises:
        KeyError: for weights without their step.
    """
    state = {}
    for name, value in stored.items():
        if name.endswith(".weight"):
            step = stored[name.removesuffix("weight") + "step"].float()
            state[name] = value.float() * step.reshape(-1, *[1] * (value.ndim - 1))
        elif not name.endswith(".step"):
            state[name] = value.float()
    return state
