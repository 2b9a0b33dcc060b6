# SPDX-License-Identifier: GPL-3.0-or-later
"""NanoDet-g: 80 named things in photographs, 3.8 M parameters, about a tenth of a second on a core. It ships as `models/photo-detector`.

Source: NanoDet (RangiLyu, Apache-2.0), its variant for accelerators: plain 3 x 3 convolutions in residual blocks that split and join
(CSP), a path aggregation neck that only adds, one head per stride, and a distance to each side of a box as a distribution over bins
(generalised focal loss, arXiv 2006.04388). Batch norms are folded into the convolutions. The layers here were written anew;
`authoring/make_photo_detector.py` fills them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from ..checkpoints.weights import check_weights
from .detector import LabelledDetector, Proposals, select_regions
from .efficientnet import dequantised
from .second_look import EAGER, SecondLook

INPUT_SIZE = 416  # px, of the square that pictures are stretched to
STRIDES = (8, 16, 32)
BINS = 11  # a side lies 0 to 10 strides away from the middle
_MEAN, _STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)  # of 0..255, in the order blue, green, red
# channels in, inside, stride, blocks; what leaves has twice the inside, and all but the first serve the neck
_STAGES = ((32, 32, 1, 1), (64, 64, 2, 2), (128, 128, 2, 2), (256, 256, 2, 3))
_NECK = 128  # channels


class ConvLeaky(nn.Sequential):
    """A 3 x 3 convolution that keeps the size (or halves it), then a leaky ReLU."""

    def __init__(self, channels: int, out: int, stride: int = 1):
        super().__init__(nn.Conv2d(channels, out, 3, stride, padding=1), nn.LeakyReLU(0.1))


class TinyBlock(nn.Module):
    """Two convolutions of half the channels, side by side in the result: (B, C, H, W) -> the same."""

    def __init__(self, channels: int):
        super().__init__()
        self.first, self.second = ConvLeaky(channels, channels // 2), ConvLeaky(channels // 2, channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        x = self.first(x)
        return torch.cat([self.second(x), x], dim=1)


class Stage(nn.Module):
    """(B, C, H, W) -> (B, 2 x inside, H / stride, W / stride): what the blocks make beside what they began with."""

    def __init__(self, channels: int, inside: int, stride: int, blocks: int):
        super().__init__()
        self.enter = ConvLeaky(channels, inside, stride)
        self.blocks = nn.Sequential(*(TinyBlock(inside) for _ in range(blocks)))
        self.leave = ConvLeaky(inside, inside)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.enter(x)
        return torch.cat([self.leave(self.blocks(x)), x], dim=1)


class Neck(nn.Module):
    """Three maps of the backbone, finest first -> three of 128 channels that have seen each other: down to fine, then up again."""

    def __init__(self, channels: tuple[int, ...]):
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(count, _NECK, 1) for count in channels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """See the class; sizes stay."""
        maps = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]
        for i in (1, 0):
            maps[i] = maps[i] + _resize(maps[i + 1], maps[i])
        for i in (1, 2):
            maps[i] = maps[i] + _resize(maps[i - 1], maps[i])
        return maps


class NanoDet(nn.Module):
    """Prepared pictures -> class scores and distances for every cell of three grids.

    Args:
        classes: how many things are told apart.
    """

    def __init__(self, classes: int):
        super().__init__()
        self.classes = classes
        self.stem = ConvLeaky(3, 32, stride=2)
        self.stages = nn.ModuleList(Stage(*numbers) for numbers in _STAGES)
        self.neck = Neck(tuple(2 * inside for _, inside, _, _ in _STAGES[1:]))
        self.heads = nn.ModuleList(
            nn.Sequential(ConvLeaky(_NECK, _NECK), nn.Conv2d(_NECK, classes + 4 * BINS, 1)) for _ in STRIDES
        )

    def forward(self, prepared: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """prepared (B, 3, S, S), see `prepare` -> per stride: scores (B, cells, classes) in 0..1, bins (B, cells, 4 x 11), before softmax.

        Cells run along rows; the sides of a box are left, top, right, bottom.
        """
        x = F.max_pool2d(self.stem(prepared), 3, stride=2, padding=1)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        outs = [head(x).flatten(2).transpose(1, 2) for head, x in zip(self.heads, self.neck(maps[1:]), strict=True)]
        return [out[..., : self.classes].sigmoid() for out in outs], [out[..., self.classes :] for out in outs]


class NanoDetDetector(LabelledDetector):
    """NanoDet with the names of its classes. It knows these and nothing else.

    Args:
        names: of the classes, in the order of the network.
        second_look: names what it finds again, and brings names of its own.
    """

    second_opinions = True
    own_threshold = 0.35  # as the photo workflows have it

    def __init__(self, names: list[str], second_look: SecondLook | None = None):
        super().__init__()
        self.names = tuple(names)
        self.network = NanoDet(len(self.names)).eval().requires_grad_(False)
        self.second_look = second_look

    def detect(self, images: Tensor, score_threshold: float = 0.4, iou_threshold: float = 0.5, max_regions: int = 100, prompt: str = ""):
        """As `LabelledDetector.detect`, with the thresholds that NanoDet is used with."""
        return super().detect(images, score_threshold, iou_threshold, max_regions, prompt)

    def propose(self, image: Tensor, score_threshold: float, iou_threshold: float, prompt: str = "") -> Proposals:
        """See `LabelledDetector.propose`; the prompt means nothing to a network of fixed classes."""
        scores, bins = self.network(prepare(image))
        best, kinds = torch.cat(scores, dim=1)[0].max(dim=1)
        boxes = torch.cat([cell_boxes(b[0], stride) for b, stride in zip(bins, STRIDES, strict=True)])
        least = score_threshold * (EAGER if self.second_look else 1)
        sure = (best > least).nonzero().flatten()
        boxes = boxes[sure] * boxes.new_tensor([image.shape[-1], image.shape[-2]] * 2) / INPUT_SIZE
        labels = [self.names[i] for i in kinds[sure].tolist()]
        if self.second_look is None:
            return Proposals(boxes, best[sure], labels)
        size = (image.shape[-2], image.shape[-1])
        found = select_regions(boxes.float().cpu(), best[sure].float().cpu(), size, least, iou_threshold, len(labels), labels, None, True)
        return self.second_look(image, Proposals(found.boxes, found.scores, found.labels), score_threshold)


def prepare(image: Tensor) -> Tensor:
    """(B, 3, H, W) RGB in 0..1 -> (B, 3, 416, 416) blue, green, red, normalised. Stretched, as in NanoDet's own training."""
    if tuple(image.shape[-2:]) != (INPUT_SIZE, INPUT_SIZE):
        stretched = F.interpolate(image.float(), (INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=False, antialias=True)
        image = stretched.to(image.dtype)
    mean, std = (image.new_tensor(numbers)[:, None, None] for numbers in (_MEAN, _STD))
    return (image.flip(1) * 255 - mean) / std


def cell_boxes(bins: Tensor, stride: int) -> Tensor:
    """Boxes (cells, 4) xyxy in pixels of the square, of bins (cells, 4 x 11): a distance is the mean of its distribution."""
    side = INPUT_SIZE // stride
    distances = bins.reshape(-1, 4, BINS).softmax(dim=-1) @ torch.arange(BINS, dtype=bins.dtype, device=bins.device) * stride
    middles = (torch.arange(side, dtype=bins.dtype, device=bins.device) + 0.5) * stride
    y, x = torch.meshgrid(middles, middles, indexing="ij")
    middle = torch.stack([x.flatten(), y.flatten()], dim=1)
    return torch.cat([middle - distances[:, :2], middle + distances[:, 2:]], dim=1)


def load_nanodet(folder: Path | str, config: dict[str, Any] | None = None) -> NanoDetDetector:
    """The detector in a folder with config.json (names of the classes) and model.safetensors, on the CPU in float32.

    Where the config has a `classifier` (`names` of ImageNet's classes, and which names are `living`), it takes a second look with the
    weights of classifier.safetensors.

    Raises:
        ValueError: for a config without names, or weights that are missing, a pickle, broken, or of another network.
    """
    folder = Path(folder)
    if config is None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    names = config.get("names")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"{folder / 'config.json'}: expected 'names', a list of the names of the classes, got {names!r}.")
    check_weights(folder, "model.safetensors")
    detector = NanoDetDetector(names, _second_look(folder, config.get("classifier")))
    file = folder / "model.safetensors"
    try:
        detector.network.load_state_dict({key: value.float() for key, value in load_file(file).items()})
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{file} does not hold a NanoDet-g of {len(names)} classes; copy the folder again ({error})") from error
    return detector


def _second_look(folder: Path, config: Any) -> SecondLook | None:
    if config is None:
        return None
    file = folder / "classifier.safetensors"
    check_weights(folder, file.name)
    try:
        look = SecondLook(config["names"], config["living"])
        look.network.load_state_dict(dequantised(load_file(file)))
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{folder / 'config.json'}: 'classifier' is not as it ships; copy the folder again ({error})") from error
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{file} does not hold an EfficientNet-Lite0; copy the folder again ({error})") from error
    return look


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)
