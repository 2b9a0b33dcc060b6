# SPDX-License-Identifier: GPL-3.0-or-later
"""Where to cut photographs for a model: the part around a mask, and the grid on which the model sees it (design D14)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import torch.nn.functional as F
from torch import Tensor

from .frame import PhotoFrame
from .paste import box_of

Box = tuple[int, int, int, int]  # x0, y0, x1, y1

MEGAPIXEL = 1024**2
LARGEST_SCALE = 4.0  # a part is not shown larger than that: it takes in more of the photo instead


@dataclass(frozen=True)
class CropSettings:
    """How photographs are cut.

    Attributes:
        megapixels: area of the grid, as the host counts: 1 is 1024 x 1024 px. What the model was trained at.
        multiple: both sides of the grid are whole multiples of it, px: a latent cell times a model's patch.
        context: share of a mark's mean side that is taken in on every side of it.
        whole_above: share of the photo, 0..1, from which on a part with its context gives way to the whole photo; 1 never.

    Raises:
        ValueError: for numbers out of range, and for so few megapixels that no grid is left.
    """

    megapixels: float = 1.0
    multiple: int = 16
    context: float = 0.5
    whole_above: float = 0.4

    def __post_init__(self) -> None:
        positive = self.multiple >= 1 and 0 < self.megapixels < math.inf
        if not positive or not 0 <= self.context < math.inf or not 0 <= self.whole_above <= 1:
            raise ValueError(
                f"a crop needs megapixels > 0, multiple >= 1, context >= 0 and whole_above in 0..1, got {self}"
            )
        if self.megapixels * MEGAPIXEL < 4 * self.multiple**2:
            raise ValueError(
                f"{self.megapixels:g} megapixels leave less than 2 x 2 steps of {self.multiple} px: nothing could be seen. Raise "
                f"megapixels to {4 * self.multiple**2 / MEGAPIXEL:.4f} or more; most models want about 1."
            )


def frames_for(photos: list[Tensor], masks: list[Tensor], settings: CropSettings = CropSettings()) -> list[PhotoFrame]:  # noqa: B008
    """One frame per photo, all on one grid, so that the crops make a batch; each photo keeps a scale of its own.

    Args:
        photos: (H, W, C) each, of any sizes. masks: (H, W) each, what is to be edited; one that is 0 everywhere means the whole photo.
    """
    parts = [_part(mask, settings) for mask in masks]
    sizes = [(y1 - y0, x1 - x0) for x0, y0, x1, y1 in parts]
    grid = _grid(sizes, [tuple(mask.shape) for mask in masks], settings)
    return [
        PhotoFrame.fit(photo, _filled(part, tuple(mask.shape), grid), grid) for photo, mask, part in zip(photos, masks, parts, strict=True)
    ]


def mask_on_cells(mask: Tensor, cells: tuple[int, int]) -> Tensor:
    """A mask (B, h, w) of the grid on the model's latent cells, (B, 1, *cells): a cell counts as far as any of its px does."""
    return F.adaptive_max_pool2d(mask[:, None].float(), cells)


def _part(mask: Tensor, settings: CropSettings) -> Box:
    """The mark of a mask (H, W) with its context, or the whole photo."""
    height, width = mask.shape
    if not bool((mask > 0).any()):
        return (0, 0, width, height)
    top, bottom, left, right = box_of(mask)
    # the mean of both sides, so that a thin thing has something around it too
    margin = math.ceil(settings.context * ((bottom - top) + (right - left)) / 2)
    wide, high = right - left + 2 * margin, bottom - top + 2 * margin
    more = max(1.0, math.sqrt(settings.megapixels * MEGAPIXEL / (wide * high)) / LARGEST_SCALE)
    x0, x1 = _grown(left, right, math.ceil(wide * more), width)
    y0, y1 = _grown(top, bottom, math.ceil(high * more), height)
    if (x1 - x0) * (y1 - y0) > settings.whole_above * height * width:
        return (0, 0, width, height)
    return (x0, y0, x1, y1)


def _grid(parts: list[tuple[int, int]], photos: list[tuple[int, int]], settings: CropSettings) -> tuple[int, int]:
    """(height, width) of the grid in the mean shape of all parts.

    It is never the size of a photo of which it shows a part only: of a mask that comes back at that size, nothing could say whether it is
    the crop's or the photo's.
    """
    shape = math.exp(sum(math.log(width / height) for height, width in parts) / len(parts))
    largest = LARGEST_SCALE**2 * max(height * width for height, width in photos)
    area = min(settings.megapixels * MEGAPIXEL, max(largest, 4 * settings.multiple**2))
    sides = (math.sqrt(area / shape), math.sqrt(area * shape))
    steps = [max(1, round(side / settings.multiple)) for side in sides]
    taken = {photo for part, photo in zip(parts, photos, strict=True) if part != photo}
    more = range(len(taken) + 1)
    grids = [tuple((step + by) * settings.multiple for step, by in zip(steps, each, strict=True)) for each in product(more, more)]
    return min((grid for grid in grids if grid not in taken), key=lambda grid: math.dist(grid, sides))


def _filled(part: Box, photo: tuple[int, int], grid: tuple[int, int]) -> Box:
    """The part grown to the grid's shape, and so far that it is not shown too large, as far as the photo goes."""
    x0, y0, x1, y1 = part
    scale = min(grid[1] / (x1 - x0), grid[0] / (y1 - y0), LARGEST_SCALE)
    wanted = (math.floor(grid[0] / scale + 1e-6), math.floor(grid[1] / scale + 1e-6))
    left, right = _grown(x0, x1, wanted[1], photo[1])
    top, bottom = _grown(y0, y1, wanted[0], photo[0])
    return (left, top, right, bottom)


def _grown(first: int, last: int, length: int, limit: int) -> tuple[int, int]:
    """An interval of at least `length` around another, moved and cut so that it lies in 0..limit."""
    length = min(max(length, last - first), limit)
    start = first - (length - (last - first)) // 2
    start = min(max(start, 0), limit - length)
    return start, start + length
