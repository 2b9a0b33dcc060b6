# SPDX-License-Identifier: GPL-3.0-or-later
"""Who keeps a place that two masks claim: the person in front of the bus, not the bus."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from ..grounding.names import ANIMALS, GROUPS, label_name
from ..opencv import opencv
from ..regions.record import Regions
from ..regions.suppression import box_iou

# Found as things of their own, but worn or held: who removes the person removes them too.
WORN = frozenset({"tie", "hat", "glasses", "sunglasses", "backpack", "handbag", "watch", "shoe", "helmet", "badge", "glove"})
WEARERS = frozenset({"person", "man", "woman", "boy", "girl", "child", "people"})
# What holds things that are no part of it, however small: the book on a bed, the spoon in a bowl; of vehicles whoever sits in them.
HOLDERS = frozenset({*GROUPS["furniture"], "bowl", "cup", "sink", "oven", "refrigerator", "microwave", "suitcase", "surfboard"})
_VEHICLES, _LIVING = frozenset(GROUPS["vehicle"]), frozenset({"person", *ANIMALS})
_SAME = 0.7  # boxes that agree so far are one thing, found twice
_NOTED = 0.02  # of a mask: less than that taken is an edge, and not told
_DOUBTED, _PATCH, _ENCLOSED = 0.5, 0.05, 0.95  # below which score a find of how much of a thing, so far surrounded by it, is a part of it
_NESTED = 0.6  # a mask that lies so far in the other's lies in front of it, or is a part of it


def take_off(regions: Regions, masks: Tensor, rough: Collection[int] = ()) -> list[set[int]]:
    """Give every pixel that masks (n, H, W) share to one of them, in place. Returns, for each, the numbers of those that took some of it.

    One thing that was found twice (boxes that agree by 70 %) and what a person wears or carries are left alone. A mask that lies mostly
    within another one keeps all it has: it is nearer. Of two that merely overlap, a pixel goes to the one in whose box it lies nearer to
    the middle (in units of the box), so that each keeps its own side; where that is alike to the smaller, then to the higher score.

    A small and doubtful find that a thing surrounds on all sides (the eye of a cat, taken for a phone; what a person holds) is a part of
    that thing and takes nothing from it, but for what lies on furniture, in a vessel, or sits in a vehicle. Masks whose numbers are in
    `rough` are no more than boxes: they yield to all that were cut out.
    """
    count = len(regions)
    taken: list[set[int]] = [set() for _ in range(count)]
    pixels = masks.numpy()  # shares its memory; small windows are quicker in numpy
    areas = [np.count_nonzero(mask > 0.5) for mask in pixels]
    for i in range(count):
        for j in range(i + 1, count):
            if not areas[i] or not areas[j] or _belong(regions, i, j):
                continue
            window = _shared(regions.boxes[i], regions.boxes[j], regions.image_size)
            if window is None:
                continue
            one, other = pixels[i][window], pixels[j][window]
            both = (one > 0.5) & (other > 0.5)
            shared = np.count_nonzero(both)
            if not shared:
                continue
            box_beside_mask = (i in rough) != (j in rough)
            if box_beside_mask:
                near, far = (j, i) if i in rough else (i, j)
            else:
                near, far = (i, j) if (areas[i], -float(regions.scores[i])) <= (areas[j], -float(regions.scores[j])) else (j, i)
            if box_beside_mask or shared >= _NESTED * areas[near]:
                held = _is_held(regions.labels[near], regions.labels[far])
                score = float(regions.scores[near])
                if not box_beside_mask and not held and _is_part(score, pixels[near] > 0.5, areas[near], pixels[far], areas[far]):
                    continue
                np.minimum(pixels[far][window], 1 - pixels[near][window], out=pixels[far][window])
                taken[far].add(near)
                continue
            mine = _distance(regions.boxes[near], window, regions.image_size) <= _distance(regions.boxes[far], window, regions.image_size)
            for who, loser, by in ((far, mine & both, near), (near, ~mine & both, far)):
                pixels[who][window][loser] = 1 - pixels[by][window][loser]
                if np.count_nonzero(loser) > _NOTED * areas[who]:
                    taken[who].add(by)
    return taken


def _is_held(small: str, large: str) -> bool:
    """Whether a thing of one label lies on or in things of another, and is none of their parts."""
    small, large = label_name(small), label_name(large)
    return large in HOLDERS or (large in _VEHICLES and small in _LIVING)


def _is_part(score: float, small: np.ndarray, area: int, large: np.ndarray, whole: int) -> bool:
    """Whether a find (H, W) of bool is doubtful, little, and surrounded by another mask (H, W)."""
    if score >= _DOUBTED or area > _PATCH * whole:
        return False
    rows, columns = small.any(1).nonzero()[0], small.any(0).nonzero()[0]
    reach = max(2, round(0.1 * area**0.5))
    window = np.s_[max(rows[0] - 2 * reach, 0) : rows[-1] + 2 * reach + 1, max(columns[0] - 2 * reach, 0) : columns[-1] + 2 * reach + 1]
    around = opencv().dilate(small[window].astype(np.uint8), np.ones((2 * reach + 1,) * 2, np.uint8)) > 0
    return bool((large[window][around] > 0.5).mean() >= _ENCLOSED)


def settle(regions: Regions, masks: Tensor, taken: list[set[int]]) -> None:
    """After edges were sharpened: where one mask gave way to another, both together are at most 1, in place."""
    for i, others in enumerate(taken):
        for j in others:
            window = _shared(regions.boxes[i], regions.boxes[j], regions.image_size)
            if window is not None:
                masks[i][window] = torch.minimum(masks[i][window], 1 - masks[j][window])


def _belong(regions: Regions, i: int, j: int) -> bool:
    """Whether two regions are one thing found twice, or a person and what is worn."""
    labels = regions.labels[i].lower(), regions.labels[j].lower()
    if any(a in WORN and b in WEARERS for a, b in (labels, labels[::-1])):
        return True
    return float(box_iou(regions.boxes[i : i + 1], regions.boxes[j : j + 1])) > _SAME


def _shared(a: Tensor, b: Tensor, size: tuple[int, int], room: int = 8) -> tuple[slice, slice] | None:
    """Rows and columns where two masks may meet: what their boxes share, with room for edges."""
    low, high = torch.maximum(a[:2], b[:2]) - room, torch.minimum(a[2:], b[2:]) + room
    left, top = (max(int(v), 0) for v in low)
    right, bottom = min(int(high[0]) + 1, size[1]), min(int(high[1]) + 1, size[0])
    return (slice(top, bottom), slice(left, right)) if right > left and bottom > top else None


def _distance(box: Tensor, window: tuple[slice, slice], size: tuple[int, int]) -> np.ndarray:
    """Squared distance from the middle of a thing, 1 at the middle of its box's sides, on the pixels of a window (h, w).

    A thing that the photo's frame cuts goes on beyond it: there the middle is nearer to the frame.
    """
    x1, y1, x2, y2 = box.tolist()
    wide, tall = (x2 - x1) / 2, (y2 - y1) / 2
    x1, y1 = x1 - wide * (x1 <= 1), y1 - tall * (y1 <= 1)
    x2, y2 = x2 + wide * (x2 >= size[1] - 1), y2 + tall * (y2 >= size[0] - 1)
    rows = np.arange(window[0].start, window[0].stop) + 0.5
    columns = np.arange(window[1].start, window[1].stop) + 0.5
    u = (columns - (x1 + x2) / 2) / max((x2 - x1) / 2, 1)
    v = (rows - (y1 + y2) / 2) / max((y2 - y1) / 2, 1)
    return v[:, None] ** 2 + u[None] ** 2
