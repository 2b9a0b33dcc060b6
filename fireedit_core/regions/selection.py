# SPDX-License-Identifier: GPL-3.0-or-later
"""Choosing among regions, and joining those of several detectors."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..thumbnail import resembles
from .record import Regions
from .suppression import box_iou, non_maximum_suppression


@dataclass(frozen=True)
class RegionFilter:
    """What a region must be to stay. Everything that is given must hold; the rest of the record keeps its order.

    Attributes:
        labels: names, of which a region's label must be one (case aside); empty allows any.
        least_score, most_score: bounds of the score, both included; none unless set, as scores of other packs may lie outside of 0..1.
        least_area, most_area: bounds of the box's share (0..1) of the picture, both included.
        indices: numbers of regions as `FireEdit Regions Preview` writes them; None allows all. Negative ones count from the end.
        top: at most this many, best score first to be kept; 0 keeps all.
    """

    labels: tuple[str, ...] = ()
    least_score: float = -math.inf
    most_score: float = math.inf
    least_area: float = 0.0
    most_area: float = 1.0
    indices: tuple[int, ...] | None = None
    top: int = 0

    def split(self, regions: Regions) -> tuple[Regions, Regions]:
        """(those that stay, all others), each in the order of the record.

        Raises:
            ValueError: for an index that the record does not have.
        """
        keep = torch.ones(len(regions), dtype=torch.bool)
        if self.labels:
            wanted = {label.strip().lower() for label in self.labels}
            keep &= torch.tensor([label.lower() in wanted for label in regions.labels], dtype=torch.bool)
        scores = regions.scores.cpu()
        keep &= (scores >= self.least_score) & (scores <= self.most_score)
        share = area_share(regions)
        keep &= (share >= self.least_area) & (share <= self.most_area)
        if self.indices is not None:
            wrong = [i for i in self.indices if not -len(regions) <= i < len(regions)]
            if wrong:
                raise ValueError(f"there is no region {wrong[0]}: this picture has {len(regions)}, numbered from 0.")
            chosen = torch.zeros_like(keep)
            chosen[torch.tensor([i % len(regions) for i in self.indices], dtype=torch.long)] = True
            keep &= chosen
        if self.top:
            order = torch.argsort(torch.where(keep, scores, -torch.inf), descending=True, stable=True)[: self.top]
            keep &= torch.zeros_like(keep).index_fill(0, order, True)
        return regions.select(keep), regions.select(~keep)


def area_share(regions: Regions) -> Tensor:
    """(n,) share of the picture that each box covers, 0..1; what lies outside the picture does not count."""
    height, width = regions.image_size
    limit = regions.boxes.new_tensor([width, height, width, height])
    corners = torch.minimum(regions.boxes.clamp(min=0), limit)
    return ((corners[:, 2:] - corners[:, :2]).prod(1) / (height * width)).cpu()


def parse_indices(text: str) -> tuple[int, ...] | None:
    """Numbers of "0, 2, 5-7"; None for an empty text.

    Raises:
        ValueError: for anything else.
    """
    found: list[int] = []
    for part in re.split(r"[,;\s，、；]+", text.strip()):
        if not part:
            continue
        match = re.fullmatch(r"(-?\d+)(?:-(\d+))?", part)
        if not match:
            raise ValueError(f"region numbers look like 0, 2, 5-7; {part!r} is none.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"{part!r} counts backwards; write {last}-{first}.")
        found += range(first, last + 1)
    return tuple(dict.fromkeys(found)) if text.strip() else None


def merge_regions(sets: Sequence[Regions], iou_threshold: float = 1.0) -> Regions:
    """All regions of several detections of one picture, best score first.

    Args:
        iou_threshold: of two that overlap by more than this only the better stays; 1 keeps all. Masks are as in `join`; where one that
            stays is `boxed` and one that goes was cut out, it keeps the place and the mask of that.

    Raises:
        ValueError: for none, or for sets of pictures of different sizes, or of different content where both know theirs.
    """
    if not sets:
        raise ValueError("there are no regions to merge.")
    size = sets[0].image_size
    for one in sets[1:]:
        one.check_image(size)
    pictures = [one.picture for one in sets if one.picture]
    if not all(resembles(pictures[0], other) for other in pictures[1:]):
        raise ValueError("these regions were found on different pictures. Give those of one picture.")
    joined = join(sets, next(iter(pictures), ""))
    if iou_threshold >= 1:
        return joined.sorted_by_score()
    kept = non_maximum_suppression(joined.boxes, joined.scores, iou_threshold)
    return _with_outlines(joined, kept, iou_threshold).select(kept)


def _with_outlines(regions: Regions, kept: Tensor, iou_threshold: float) -> Regions:
    """The regions, those of `kept` that are `boxed` at the place and with the mask of the best that goes for them and was cut out."""
    if not any(regions.boxed):
        return regions
    boxes, masks, boxed = regions.boxes.clone(), regions.masks.clone(), list(regions.boxed)
    outlined = torch.tensor([not flag for flag in regions.boxed])
    same = (box_iou(regions.boxes, regions.boxes) > iou_threshold) & outlined
    for i in kept.tolist():
        if regions.boxed[i] and bool(same[i].any()):
            best = int(torch.where(same[i], regions.scores, -torch.inf).argmax())
            boxes[i], masks[i], boxed[i] = regions.boxes[best], regions.masks[best], False
    return replace(regions, boxes=boxes, masks=masks, boxed=boxed)


def join(sets: Sequence[Regions], picture: str = "") -> Regions:
    """All regions of several sets of one picture, one set after the other.

    Where some have masks and others none, the others have their boxes in place of them, and are `boxed`.
    """
    if any(one.masks is not None for one in sets):
        sets = [replace(one, masks=box_masks(one), boxed=(True,) * len(one)) if one.masks is None else one for one in sets]
    return Regions(
        torch.cat([one.boxes.cpu() for one in sets]), torch.cat([one.scores.cpu() for one in sets]),
        tuple(label for one in sets for label in one.labels), sets[0].image_size,
        None if sets[0].masks is None else torch.cat([one.masks.float().cpu() for one in sets]), picture,
        tuple(flag for one in sets for flag in one.boxed),
    )  # fmt: skip


def box_masks(regions: Regions) -> Tensor:
    """(n, H, W) masks that are 1 inside each box."""
    height, width = regions.image_size
    masks = torch.zeros(len(regions), height, width)
    for mask, (x1, y1, x2, y2) in zip(masks, regions.boxes.round().int().tolist(), strict=True):
        mask[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)] = 1
    return masks
