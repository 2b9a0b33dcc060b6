# SPDX-License-Identifier: GPL-3.0-or-later
"""Regions get masks at the photo's own size: cut out, others taken off, edges sharpened, and each with a figure of how good it looks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..regions.dialects import MOST_MASK_PIXELS
from ..regions.record import Regions
from .matting import refine
from .overlaps import settle, take_off
from .quality import quality_of
from .segmenter import FARTHEST, Segmenter, bounds, crop_around

BOX, GIVEN = "box", "given"  # families of masks that no segmenter made: the box itself, and what the regions brought
_ENOUGH, _ENOUGH_BLIND = 0.5, 0.9  # a quality from this on is taken without asking another family
_CLEARLY = 0.1  # better, a later family's mask must be: the first one is what was asked for
DOUBTFUL = 0.35  # a quality below this is named as doubtful
_LEAST, _SPAN = 0.04, 0.5  # of the box: the area that a mask must have, and the part of either side that it must span


@dataclass(frozen=True)
class MaskReport:
    """How one mask came about.

    Attributes:
        label: the region's. family: who made the mask; "box" where nobody could, "given" where the region had one.
        quality: 0..1, see `quality.quality_of`. area: share of the photo that the mask covers, 0..1.
        failed: what the families before it gave, in words. taken_by: labels of regions that lie in front and took a part of it.
    """

    label: str
    family: str
    quality: float
    area: float
    failed: tuple[str, ...] = ()
    taken_by: tuple[str, ...] = ()

    @property
    def doubtful(self) -> bool:
        """Whether a person should look at the mask before using it."""
        return self.quality < DOUBTFUL or self.family == BOX

    def __str__(self) -> str:
        text = f"{self.label}: {self.family}, quality {self.quality:.2f}, {self.area:.1%} of the picture"
        if self.taken_by:
            text += f", without {', '.join(dict.fromkeys(self.taken_by))} in front"
        if self.failed:
            text += f" ({'; '.join(self.failed)})"
        return text + (" - doubtful, look at it" if self.doubtful else "")


def most_masks(size: tuple[int, int]) -> int:
    """How many masks of a photo of `size` = (height, width) are made at most: a gigabyte of float32 in all."""
    return max(MOST_MASK_PIXELS // (size[0] * size[1]), 1)


@torch.no_grad()
def region_masks(
    image: Tensor,
    regions: Regions,
    segmenter: Segmenter,
    fallbacks: Sequence[Segmenter] = (),
    max_regions: int = 32,
    progress: Callable[[int], None] | None = None,
) -> tuple[Regions, tuple[MaskReport, ...]]:
    """The same regions with masks (n, H, W) in 0..1, and how each came about.

    Args:
        image: (3, H, W) in 0..1, the photo that the regions belong to, of any size; it is never resized as a whole.
        segmenter: makes the masks. fallbacks: are asked in turn where it gives none, or one that looks poor; the best is taken.
            The box is the last resort.
        max_regions: only so many are kept, best score first, and never more than `most_masks`; the caller says so.
        progress: called with the number of regions done; may raise to stop.

    Masks that the regions bring are kept as they are and only sharpened, but for those that are no more than boxes (`Regions.boxed`).

    Raises:
        ValueError: if the regions belong to another picture. ImportError: without OpenCV.
    """
    size = (int(image.shape[-2]), int(image.shape[-1]))
    regions.check_image(size)
    limit = min(max_regions, most_masks(size))
    kept = regions if len(regions) <= limit else regions.top(limit)
    masks = torch.zeros(len(kept), *size)
    families: list[str] = []
    failed: list[list[str]] = [[] for _ in range(len(kept))]
    pixels: list[float] = []
    for i, box in enumerate(kept.boxes):
        if kept.masks is not None and not kept.boxed[i] and bool((kept.masks[i] > 0.5).any()):
            masks[i] = kept.masks[i].float().clamp(0, 1)
            families.append(GIVEN)
            pixels.append(1.0)
        else:
            family, pixel = _first_good((segmenter, *fallbacks), image, box, masks[i], failed[i])
            families.append(family)
            pixels.append(pixel)
        if progress is not None:
            progress(i + 1)
    cut = kept.clipped().boxes if len(kept) else kept.boxes
    inside = replace(kept, masks=None) if len(cut) != len(kept) else replace(kept, boxes=cut, masks=None)
    taken = take_off(inside, masks, {i for i, family in enumerate(families) if family == BOX})
    # a mask that came with the regions may lie anywhere
    within = [None if family == GIVEN else crop_around(box, size, FARTHEST, 4) for family, box in zip(families, inside.boxes, strict=True)]
    for i, pixel in enumerate(pixels):
        if pixel:
            refine(image, masks[i], pixel, within[i])
    settle(inside, masks, taken)
    reports = []
    for i, box in enumerate(inside.boxes):
        reports.append(
            MaskReport(
                kept.labels[i], families[i], quality_of(image, masks[i], box, within[i]), _share(masks[i], within[i]), tuple(failed[i]),
                tuple(kept.labels[j] for j in sorted(taken[i])),
            )
        )  # fmt: skip
    return replace(kept, masks=masks, boxed=[family == BOX for family in families]), tuple(reports)


def _first_good(segmenters: Sequence[Segmenter], image: Tensor, box: Tensor, mask: Tensor, failed: list[str]) -> tuple[str, float]:
    """Write the first mask that is no failure and looks good, or one that looks clearly better, into `mask` (H, W).

    How good a mask of a blind segmenter looks says less: it may be a fine mask of the wrong thing, so a second opinion is asked more often.

    Returns:
        The family's name, and the pixels to sharpen by (0: leave it).
    """
    size = (int(mask.shape[0]), int(mask.shape[1]))
    left, top, right, bottom = within = crop_around(box, size, FARTHEST, 4)
    best, family, by = -1.0, BOX, 0.0
    for segmenter in segmenters:
        made = torch.zeros_like(mask)
        made[top:bottom, left:right] = segmenter.segment(image, box[None])[0, top:bottom, left:right]
        wrong = what_is_wrong(made, box)
        if wrong:
            failed.append(f"{segmenter.family} {wrong}")
            continue
        # one family alone has nobody to be compared with
        quality = quality_of(image, made, box, within) if len(segmenters) > 1 else 1.0
        if best < 0 or quality > best + _CLEARLY:
            if best >= 0:
                failed.append(f"{family} only {best:.2f}")
            mask.copy_(made)
            pixel = segmenter.pixel(box, size)
            best, family, by = quality, segmenter.family, 0.0 if segmenter.soft and pixel <= 2 else pixel
        if best >= (_ENOUGH_BLIND if segmenter.blind else _ENOUGH):
            break
    if family == BOX:
        x1, y1, x2, y2 = (int(v) for v in box.round())
        mask[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)] = 1
    return family, by


def _share(mask: Tensor, within: tuple[int, int, int, int] | None) -> float:
    left, top, right, bottom = within or (0, 0, mask.shape[1], mask.shape[0])
    return float(mask[top:bottom, left:right].sum()) / mask.numel()


def what_is_wrong(mask: Tensor, box: Tensor) -> str:
    """Why a mask (H, W) of a box (4,) cannot be the thing, in words; "" where it can be."""
    height, width = mask.shape
    corners = box.clamp(min=0)
    x1, y1 = int(corners[0]), int(corners[1])
    x2, y2 = min(int(corners[2].ceil()), width), min(int(corners[3].ceil()), height)
    if x2 <= x1 or y2 <= y1:
        return "found nothing"
    found = bounds(mask, (x1, y1, x2, y2))
    if found is None:
        return "found nothing"
    share = float((mask[y1:y2, x1:x2].numpy() > 0.5).mean())
    tall, wide = (found[3] - found[1]) / (y2 - y1), (found[2] - found[0]) / (x2 - x1)
    cut = x1 <= 1 or y1 <= 1 or x2 >= width - 1 or y2 >= height - 1
    if share < _LEAST or min(tall, wide) < _SPAN:
        return f"found only {share:.0%} of the box" + (", which the photo's frame cuts" if cut else "")
    return ""
