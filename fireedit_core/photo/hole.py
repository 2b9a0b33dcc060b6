# SPDX-License-Identifier: GPL-3.0-or-later
"""The hole that a removed thing leaves: its mask, grown over the rim, the shadow beside it and what of it the mask has missed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..opencv import opencv

_TOUCHED = 0.06  # of the mask: a pixel that holds more of the thing than this goes
_LOOK = 360  # px, long side at which shadows and leftovers are looked for
_REACH = 0.3  # of the thing's size (root of its area): how far from it they are looked for
_SHADE = (0.12, 0.85)  # a shadow keeps between these shares of the light around it
_MOST = 0.6  # of the thing's area: more than this is no rim


@dataclass(frozen=True)
class Hole:
    """Where the picture is to be filled.

    Attributes:
        mask: (H, W) bool. feather: px inside of its edge over which the fill fades in. grown: px by which the mask was grown.
        rim: area of shadow and leftovers over the thing's area.
    """

    mask: np.ndarray
    feather: int
    grown: int
    rim: float


def find_hole(picture: np.ndarray, mask: np.ndarray, avoid: np.ndarray | None = None) -> Hole:
    """The hole for a thing.

    Args:
        picture: (H, W, 3) uint8, around the thing. mask: (H, W) float 0..1, the thing. avoid: (H, W) bool, other things, which stay.
    """
    thing = mask > _TOUCHED
    size = float(np.sqrt(thing.sum()))
    feather = int(np.clip(round(0.012 * size), 1, 12))
    grown = int(np.clip(round(0.03 * size), 2, 40)) + feather
    hole = _dilated(thing, grown)
    rim = _rim(picture, thing, grown, size)
    if rim is not None:
        hole |= _dilated(rim, feather + max(1, grown // 3))
    if avoid is not None:
        hole &= ~(avoid & ~thing)
    return Hole(hole, feather, grown, 0.0 if rim is None else float(rim.sum()) / max(float(thing.sum()), 1.0))


def _rim(picture: np.ndarray, thing: np.ndarray, grown: int, size: float) -> np.ndarray | None:
    """Shadow and leftovers that touch the thing, (H, W) bool; None where there are none, or so many that they cannot be told.

    Each pixel near the thing is held against the surroundings further out: it goes where it is plainly darker than they are in the same
    hue, or has colours that the thing has and they have not.
    """
    cv2 = opencv()
    height, width = thing.shape
    scale = min(1.0, _LOOK / max(height, width))
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    lab = cv2.cvtColor(cv2.resize(picture, small, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB)
    inside = cv2.resize(thing.astype(np.float32), small, interpolation=cv2.INTER_AREA) > 0.3
    if inside.all() or not inside.any():
        return None
    away = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, 5)
    reach = max(3.0, _REACH * size * scale)
    near, around = (away > 0) & (away <= reach), (away > 0.6 * reach) & (away <= 2.2 * reach)
    if not near.any() or around.sum() < 50:
        return None
    found = _shadow(lab, near, around, reach) | _leftover(lab, inside, near, around)
    found = cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    found = cv2.morphologyEx(found, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    start = _dilated(inside, max(1, round(grown * scale)))
    count, parts, stats, _ = cv2.connectedComponentsWithStats(((found > 0) | start).astype(np.uint8))
    touching = np.unique(parts[start])
    found = (found > 0) & np.isin(parts, touching[touching > 0]) & near
    if not found.any() or found.sum() > _MOST * inside.sum():
        return None
    return cv2.resize(found.astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR) > 0


def _shadow(lab: np.ndarray, near: np.ndarray, around: np.ndarray, reach: float) -> np.ndarray:
    """Where light is plainly missing against what lies around further out, at the same hue."""
    cv2 = opencv()
    values = lab.astype(np.float32)
    weight = around.astype(np.float32)
    blur = lambda x: cv2.GaussianBlur(x, (0, 0), max(2.0, 0.8 * reach))  # noqa: E731
    total = blur(weight)
    known = total > 0.02
    total = np.maximum(total, 1e-6)
    mean = blur(values * weight[..., None]) / total[..., None]
    spread = np.sqrt(np.maximum(blur(((values[..., 0] - mean[..., 0]) ** 2) * weight) / total, 0))
    # rough to a shadow: the cube of L* is close to luminance
    share = (cv2.GaussianBlur(values[..., 0], (0, 0), 1.0) / np.maximum(mean[..., 0], 1)) ** 3
    tint = np.hypot(values[..., 1] - mean[..., 1], values[..., 2] - mean[..., 2])
    darker = mean[..., 0] - values[..., 0] > 1.3 * spread + 6
    return near & known & darker & (share > _SHADE[0]) & (share < _SHADE[1]) & (tint < 14)


def _leftover(lab: np.ndarray, inside: np.ndarray, near: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Where colours are the thing's and not the surroundings', by two histograms of Lab."""
    bins = 16
    index = (lab // (256 // bins)).astype(np.int32)
    flat = (index[..., 0] * bins + index[..., 1]) * bins + index[..., 2]
    ratio = []
    for where in (inside, around):
        counts = np.bincount(flat[where], minlength=bins**3).astype(np.float32).reshape(bins, bins, bins)
        for axis in range(3):  # neighbouring bins count half
            counts = counts + 0.5 * (np.roll(counts, 1, axis) + np.roll(counts, -1, axis))
        ratio.append(counts / counts.sum())
    likely = ratio[0] / (ratio[1] + 2e-4)
    return near & (likely.reshape(-1)[flat] > 12)


def _dilated(mask: np.ndarray, radius: int) -> np.ndarray:
    """Grown by a disc. A distance transform, whose cost does not rise with the radius."""
    cv2 = opencv()
    if radius < 1 or not mask.any():
        return mask.copy()
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5) <= radius
