# SPDX-License-Identifier: GPL-3.0-or-later
"""The one interface that every segmenter of the pack fulfils: `segment`. And the crop that all families look at."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

FARTHEST = 0.05  # of the box, on each side: nothing of a mask that was made lies beyond, since boxes are hardly farther off


class Segmenter(Protocol):
    """What nodes ask of a segmenter, whichever family it is of.

    Attributes:
        family: its name in reports, for example "grabcut".
        soft: whether its masks are mattes already, with hair and all, so that an edge as fine as the photo is left alone.
        blind: whether it is never told the box and cuts out what stands out near it, so that its mask may be of something else.
    """

    family: str
    soft: bool
    blind: bool

    def pixel(self, box: Tensor, size: tuple[int, int]) -> float:
        """How many pixels of a photo of `size` = (height, width) one pixel covers that it made the mask of this box (4,) in."""
        ...

    def segment(self, image: Tensor, boxes: Tensor, progress: Callable[[int], None] | None = None) -> Tensor:
        """Masks (n, H, W) in 0..1, float32 on the CPU, of boxes (n, 4) xyxy in pixels of a picture (3, H, W) in 0..1.

        `progress(done)` is called after each box and may raise to stop. A box in which nothing is found gives an empty mask.
        """
        ...


def check_boxes(image: Tensor, boxes: Tensor, family: str) -> Tensor:
    """Boxes cut to the picture, as float32 (n, 4).

    Raises:
        ValueError: for another shape of picture or boxes, or numbers that are not finite.
    """
    if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point() or not image.numel():
        raise ValueError(f"{family}: expected a picture (3, H, W) of floats in 0..1, got {tuple(image.shape)} of {image.dtype}.")
    boxes = torch.as_tensor(boxes, dtype=torch.float32).cpu()
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not torch.isfinite(boxes).all():
        raise ValueError(f"{family}: expected finite boxes (n, 4) = x1, y1, x2, y2, got {tuple(boxes.shape)}.")
    height, width = image.shape[-2:]
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))


def crop_around(box: Tensor, size: tuple[int, int], margin: float, least: int = 6) -> tuple[int, int, int, int]:
    """Whole pixels left, top, right, bottom of a box (4,) enlarged on each side, inside a picture of `size` = (height, width).

    A long box gets some context on its long sides too: a side grows by `margin` of itself, and by a third of that of the other.
    """
    x1, y1, x2, y2 = box.tolist()
    wide, tall = x2 - x1, y2 - y1
    grow_x, grow_y = max(margin * wide, margin * tall / 3, least), max(margin * tall, margin * wide / 3, least)
    height, width = size
    left, top = max(math.floor(x1 - grow_x), 0), max(math.floor(y1 - grow_y), 0)
    right, bottom = min(math.ceil(x2 + grow_x), width), min(math.ceil(y2 + grow_y), height)
    return min(left, width - 1), min(top, height - 1), max(right, left + 1), max(bottom, top + 1)


def bounds(mask: Tensor, within: tuple[int, int, int, int] | None = None) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom of what is above a half in a mask (H, W), or None; `within` such numbers, where it is known to lie."""
    left, top, right, bottom = within or (0, 0, mask.shape[1], mask.shape[0])
    found = mask[top:bottom, left:right].numpy() > 0.5
    rows = found.any(1).nonzero()[0]
    if not len(rows):
        return None
    columns = found[rows[0] : rows[-1] + 1].any(0).nonzero()[0]
    return left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1
