# SPDX-License-Identifier: GPL-3.0-or-later
"""Fine texture for a fill that was made at a smaller size: borrowed from where the picture looks the same at that size."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from ..opencv import opencv

TILE, STEP = 8, 4  # px of the small picture
_SOURCES = 40_000  # places at most that are looked through
_NUMBERS = 16  # that describe a tile


def look_alikes(small: np.ndarray, hole: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """For tiles of a picture, the corners (n, 2) of the most similar ones that lie wholly outside of the hole; (0, 2) where none does.

    Args:
        small: (h, w, 3) uint8. hole: (h, w) bool. wanted: (n, 2) top left corners y, x of tiles.
    """
    cv2 = opencv()
    height, width = hole.shape
    taken = cv2.boxFilter(hole.astype(np.float32), -1, (TILE, TILE), anchor=(0, 0), normalize=False, borderType=cv2.BORDER_CONSTANT)
    free = np.argwhere(taken[: height - TILE + 1, : width - TILE + 1] < 0.5)
    if not len(free) or not len(wanted):
        return np.zeros((0, 2), np.int64)
    free = free[np.random.default_rng(0).permutation(len(free))[:_SOURCES]]
    described = lambda corners: _tiles(small, corners).reshape(len(corners), -1)  # noqa: E731
    known = described(free)
    mean = known.mean(0)
    # the main directions in which tiles differ; the rest is noise and slows the search
    _, _, axes = np.linalg.svd(known[:4000] - mean, full_matrices=False)
    axes = axes[:_NUMBERS].T
    _, nearest = cKDTree((known - mean) @ axes).query((described(wanted) - mean) @ axes, eps=0.5)
    return free[nearest]


def with_detail(enlarged: np.ndarray, small: np.ndarray, hole: np.ndarray, full: np.ndarray) -> np.ndarray:
    """`enlarged` with fine texture inside the hole.

    Args:
        enlarged: (H, W, 3) float32, the fill made at the small size and enlarged. small: (h, w, 3) uint8, the same at its own size.
        hole: (h, w) bool. full: (H, W, 3) float32, the picture, on the scale of `enlarged`. The memory of both is used: neither is kept.
    """
    cv2 = opencv()
    (height, width), (rows, columns) = hole.shape, full.shape[:2]
    if min(height, width) < TILE or not hole.any():
        return enlarged
    reach = cv2.dilate(hole.astype(np.uint8), np.ones((2 * TILE - 1,) * 2, np.uint8), anchor=(TILE - 1, TILE - 1))
    corners = np.stack(np.meshgrid(_corners(height), _corners(width), indexing="ij"), -1).reshape(-1, 2)
    corners = corners[reach[corners[:, 0] + TILE // 2, corners[:, 1] + TILE // 2] > 0]
    sources = look_alikes(small, hole, corners)
    if not len(sources):
        return enlarged
    back = cv2.resize(cv2.resize(full, (width, height), interpolation=cv2.INTER_AREA), (columns, rows), interpolation=cv2.INTER_CUBIC)
    detail = np.subtract(full, back, out=full)
    del back
    scale = np.array([rows / height, columns / width])
    side = np.ceil(TILE * scale).astype(int)
    window = np.outer(*[np.hanning(n + 2)[1:-1] for n in side]).astype(np.float32)[..., None]
    places, sources = (np.minimum(np.floor(x * scale).astype(int), [rows, columns] - side) for x in (corners, sources))
    (top, left), (bottom, right) = places.min(0), places.max(0) + side
    made, power = np.zeros((bottom - top, right - left, 3), np.float32), np.zeros((bottom - top, right - left, 1), np.float32)
    for to, source in zip(places - [top, left], sources, strict=True):
        place = np.s_[to[0] : to[0] + side[0], to[1] : to[1] + side[1]]
        made[place] += window * detail[source[0] : source[0] + side[0], source[1] : source[1] + side[1]]
        power[place] += window**2
    # unrelated textures add up by their squares: divided by the root, the sum is as rough as each of them
    made /= np.sqrt(np.maximum(power, 0.05, out=power), out=power)
    enlarged[top:bottom, left:right] += made
    return enlarged


def _corners(length: int) -> np.ndarray:
    return np.unique(np.append(np.arange(0, length - TILE + 1, STEP), length - TILE))


def _tiles(picture: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """(n, TILE/2, TILE/2, 3) float32: the tiles at half their size, which says enough of them."""
    cv2 = opencv()
    halved = cv2.blur(picture, (2, 2), anchor=(0, 0)).astype(np.float32)
    offset = np.arange(0, TILE, 2)
    return halved[corners[:, 0, None, None] + offset[:, None], corners[:, 1, None, None] + offset]
