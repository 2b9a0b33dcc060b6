# SPDX-License-Identifier: GPL-3.0-or-later
"""GrabCut from a box (Rother, Kolmogorov, Blake 2004) with OpenCV: no weights, always there, visibly rougher than a network.

A small picture of the box with its surroundings is cut. The inner ellipse of the box is surely the thing, what is outside the box surely
is not, except where the photo ends: a side of the box on the photo's frame counts as open, because the thing goes on behind it.

Ground between legs and what stands beside the thing reach into the ellipse. So what is coloured as the surroundings are, and joins them by
such colours, is only probably the thing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ..opencv import bytes_of, opencv
from .segmenter import check_boxes, crop_around

_TOLD = 0.9  # of the core: what looks like the surroundings must be less
_FILLS = 0.98  # of the small picture: a box of more than this is a close-up
_CLOSE_UP, _CORNER = 0.7, 1.25  # radii, 1 on the ellipse in the picture: what a close-up surely shows, and beyond what it surely does not


class GrabCut:
    """See the module. The defaults were chosen on the hand-drawn masks, with their boxes and with boxes that are 5 % off.

    There, this start did as well as an ellipse for a start, Lab, colours joined by the distance from the middle, and votes among these:
    medians of .80 to .82 (.79 to .80 with boxes that are off), for up to three times the work.

    Args:
        side: longest side of the small picture. margin: context around the box. rounds: of learning colours and cutting.
        core: radius of the inner ellipse, as a share of that of the ellipse in the box.
    """

    family, soft, blind = "grabcut", False, False

    def __init__(self, side: int = 224, margin: float = 0.25, rounds: int = 3, core: float = 0.5):
        self.side, self.margin, self.rounds, self.core = side, margin, rounds, core

    def pixel(self, box: Tensor, size: tuple[int, int]) -> float:
        """See `Segmenter.pixel`."""
        left, top, right, bottom = crop_around(box, size, self.margin)
        return max((right - left) / self.side, (bottom - top) / self.side, 1.0)

    def segment(self, image: Tensor, boxes: Tensor, progress: Callable[[int], None] | None = None) -> Tensor:
        """See `Segmenter.segment`."""
        boxes = check_boxes(image, boxes, self.family)
        cv2 = opencv()
        size = (int(image.shape[-2]), int(image.shape[-1]))
        masks = torch.zeros(len(boxes), *size)
        for i, box in enumerate(boxes):
            left, top, right, bottom = crop = crop_around(box, size, self.margin)
            cut = self._cut(image, box, crop)
            if cut is not None:
                # the enlarged edge is a ramp over one small pixel: its middle is the edge
                masks[i, top:bottom, left:right] = torch.from_numpy(cv2.resize(cut, (right - left, bottom - top)))
            if progress is not None:
                progress(i + 1)
        return masks

    def _cut(self, image: Tensor, box: Tensor, crop: tuple[int, int, int, int]) -> np.ndarray | None:
        """The mask of the crop as float32 (h, w) at the working size; None where there is too little to tell apart."""
        height, width = int(image.shape[-2]), int(image.shape[-1])
        left, top, right, bottom = crop
        ratio = min(self.side / max(right - left, bottom - top), 1.0)
        size = (max(round((bottom - top) * ratio), 1), max(round((right - left) * ratio), 1))
        if min(size) < 4:
            return None
        cv2, small = opencv(), bytes_of(image, crop, size)
        x1, y1, x2, y2 = box.tolist()
        place = [(x1 - left) * ratio, (y1 - top) * ratio, (x2 - left) * ratio, (y2 - top) * ratio]
        open_sides = [x1 <= 1, y1 <= 1, x2 >= width - 1, y2 >= height - 1]
        marks, core = _start(size, place, open_sides, self.core)
        outside = (marks == cv2.GC_BGD) | (marks == cv2.GC_PR_BGD)
        if min(outside.sum(), (~outside).sum()) < 10:  # OpenCV needs five clusters of each
            return None
        marks[core & like_surroundings(small, outside, core)] = cv2.GC_PR_FGD
        cv2.setRNGSeed(0)  # the clusters start at random; the same photo must give the same mask
        cv2.grabCut(small, marks, None, np.zeros((1, 65)), np.zeros((1, 65)), self.rounds, cv2.GC_INIT_WITH_MASK)
        cut = (marks == cv2.GC_FGD) | (marks == cv2.GC_PR_FGD)
        return without_specks(cut).astype(np.float32)


def _start(size: tuple[int, int], box: list[float], open_sides: list[bool], core: float) -> tuple[np.ndarray, np.ndarray]:
    """OpenCV's marks of what is the thing, surely or probably, and the part of it that surely is; (h, w) each."""
    cv2 = opencv()
    inside, radius = _inside_and_radius(size, box, open_sides)
    if inside.mean() > _FILLS:  # nothing is outside of the box: what is behind a close-up shows in the corners
        _, radius = _inside_and_radius(size, [0, 0, size[1], size[0]], [False] * 4)
        sure = radius <= _CLOSE_UP
        marks = np.select([sure, radius <= 1, radius <= _CORNER], [cv2.GC_FGD, cv2.GC_PR_FGD, cv2.GC_PR_BGD], cv2.GC_BGD)
        return marks.astype(np.uint8), sure
    sure = inside & (radius <= core)
    return np.select([sure, inside], [cv2.GC_FGD, cv2.GC_PR_FGD], cv2.GC_BGD).astype(np.uint8), sure


def like_surroundings(small: np.ndarray, outside: np.ndarray, core: np.ndarray) -> np.ndarray:
    """Pixels (h, w) of bool whose colours are commoner outside than in the core, and that join the outside by such pixels.

    Args:
        small: (h, w, 3) bytes. outside, core: (h, w) of bool; neither is empty.
    """
    cv2 = opencv()
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB)
    bins = tuple(np.moveaxis(lab // np.array([16, 8, 8], np.uint8), -1, 0))  # brightness is shading too

    def share(where: np.ndarray) -> np.ndarray:
        counts = gaussian_filter(cv2.calcHist([lab], [0, 1, 2], where.astype(np.uint8), [16, 32, 32], [0, 256] * 3), 1)
        return (counts / counts.sum())[bins]

    found = _joined(outside | (share(outside) > share(core)), outside)
    # a thing that is all of the colours around it is not told by colours
    return found if (found & core).sum() < _TOLD * core.sum() else np.zeros_like(found)


def _joined(where: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The parts of `where` (h, w) of bool that hold one of the seeds."""
    _, labels = opencv().connectedComponents(where.astype(np.uint8), connectivity=4)
    return where & np.isin(labels, np.unique(labels[seeds & where]))


def without_specks(mask: np.ndarray, keep: float = 0.1, hole: float = 0.02) -> np.ndarray:
    """A mask (h, w) of bool without parts smaller than `keep` of the largest, and without holes smaller than `hole` of the mask."""
    cv2 = opencv()
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count > 2:
        areas = stats[1:, cv2.CC_STAT_AREA]
        mask = np.concatenate([[False], areas >= keep * areas.max()])[labels]
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    fill = stats[:, cv2.CC_STAT_AREA] < hole * mask.sum()
    fill[border] = False
    fill[0] = False  # the mask itself
    return mask | fill[labels]


def _inside_and_radius(size: tuple[int, int], box: list[float], open_sides: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Whether a pixel lies in the box, and its distance from the middle, 1 on the ellipse in the box; (h, w) each."""
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]] + 0.5
    x1, y1, x2, y2 = box
    inside = (columns >= x1) & (columns <= x2) & (rows >= y1) & (rows <= y2)
    wide, tall = x2 - x1, y2 - y1
    x1, y1 = x1 - wide / 2 * open_sides[0], y1 - tall / 2 * open_sides[1]
    x2, y2 = x2 + wide / 2 * open_sides[2], y2 + tall / 2 * open_sides[3]
    u, v = (columns - (x1 + x2) / 2) / max((x2 - x1) / 2, 1), (rows - (y1 + y2) / 2) / max((y2 - y1) / 2, 1)
    return inside, np.sqrt(u**2 + v**2)
