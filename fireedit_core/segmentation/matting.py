# SPDX-License-Identifier: GPL-3.0-or-later
"""A rough mask becomes a crisp alpha whose edge is a few pixels wide: closed-form matting (Levin, Lischinski, Weiss 2008) in a narrow band.

Only pixels beside the edge are solved for, in tiles, so that time and memory go with the length of the edge and not with the photo.
A mask that was made at a fraction of the photo's size is sharpened from coarse to fine. An edge that is too long for it gets a guided
filter (He, Sun, Tang 2013).

Written here in numpy, since pymatting compiles all it has when it is first imported: 80 seconds of CPU before the first edit of a new user.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags, identity
from scipy.sparse.linalg import cg
from torch import Tensor

from ..opencv import bytes_of, opencv
from .segmenter import bounds

BAND = 3  # pixels on each side of the edge that may become partly transparent
_STEP = 3.0  # how much finer each round is than the one before
_TILE = 256
_MOST_TILES = 80  # of closed-form matting in one mask, about 0.05 s each; an edge that is longer gets the filter


def refine(image: Tensor, mask: Tensor, ratio: float = 1.0, within: tuple[int, int, int, int] | None = None) -> None:
    """Sharpen a mask (H, W) in 0..1 of a picture (3, H, W) in place; outside of the band round its edge it becomes 0 or 1.

    Args:
        ratio: how many pixels of the photo one pixel of whoever made the mask covers; the edge may be off by about so many.
        within: left, top, right, bottom of a part outside of which the mask is known to be 0.
    """
    cv2 = opencv()
    found = bounds(mask, within)
    if found is None:
        mask.zero_()
        return
    room = 4 * BAND
    left, top, right, bottom = crop = (
        max(found[0] - room, 0), max(found[1] - room, 0), min(found[2] + room, mask.shape[1]), min(found[3] + room, mask.shape[0]),
    )  # fmt: skip
    edges = within or (0, 0, mask.shape[1], mask.shape[0])
    mask[edges[1] : top, edges[0] : edges[2]] = 0  # what is left of a soft edge beyond
    mask[bottom : edges[3], edges[0] : edges[2]] = 0
    mask[top:bottom, edges[0] : left] = 0
    mask[top:bottom, right : edges[2]] = 0
    full = (bottom - top, right - left)
    part = mask[top:bottom, left:right]
    rough = part.numpy()
    factor = max(ratio / _STEP, 1.0)
    while factor > 1.0:
        size = (max(round(full[0] / factor), 1), max(round(full[1] / factor), 1))
        small = cv2.resize(rough, size[::-1], interpolation=cv2.INTER_AREA if rough.shape[0] > size[0] else cv2.INTER_LINEAR)
        rough = _alpha(bytes_of(image, crop, size), small > 0.5)
        factor = factor / _STEP if factor > _STEP else 1.0
    if rough.shape != full:
        rough = cv2.resize(rough, full[::-1])
    part.copy_(torch.from_numpy(_alpha(None, rough > 0.5, image, crop)))


def _alpha(small: np.ndarray | None, hard: np.ndarray, image: Tensor | None = None, crop: tuple[int, ...] | None = None) -> np.ndarray:
    """Alpha (h, w) float32 of a hard mask; the picture comes as bytes, or tile by tile from the crop of `image`."""
    cv2 = opencv()
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * BAND + 1, 2 * BAND + 1))
    bits = hard.astype(np.uint8)
    # the photo's frame is no edge of the thing: what lies beyond counts as what lies before it
    padded = cv2.copyMakeBorder(bits, BAND, BAND, BAND, BAND, cv2.BORDER_REPLICATE)
    inner = cv2.erode(padded, kernel)[BAND:-BAND, BAND:-BAND]
    outer = cv2.dilate(padded, kernel)[BAND:-BAND, BAND:-BAND]
    unknown = (outer > 0) & (inner == 0)
    alpha = bits.astype(np.float32)
    room = 2 * BAND  # a tile sees so far beyond itself
    tiles = [
        (top, left)
        for top in range(0, hard.shape[0], _TILE)
        for left in range(0, hard.shape[1], _TILE)
        if unknown[top : top + _TILE, left : left + _TILE].any()
    ]
    solve = _closed_form if len(tiles) <= _MOST_TILES else _guided
    for top, left in tiles:
        found = bounds(torch.from_numpy(unknown[top : top + _TILE, left : left + _TILE]))
        top, left, bottom, right = top + found[1], left + found[0], top + found[3], left + found[2]
        a, b, c, d = max(top - room, 0), min(bottom + room, hard.shape[0]), max(left - room, 0), min(right + room, hard.shape[1])
        if small is not None:
            colours = small[a:b, c:d].astype(np.float64) / 255
        else:
            colours = image[:, crop[1] + a : crop[1] + b, crop[0] + c : crop[0] + d].permute(1, 2, 0).double().cpu().numpy().clip(0, 1)
        made = solve(colours, bits[a:b, c:d], unknown[a:b, c:d])
        inside = (slice(top - a, bottom - a), slice(left - c, right - c))
        here = unknown[top:bottom, left:right]
        alpha[top:bottom, left:right][here] = made[inside][here]
    return alpha


def _closed_form(colours: np.ndarray, bits: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Alpha (h, w) where `unknown`; the rest of the mask is given."""
    index = np.flatnonzero(unknown)
    if min(bits.shape) < 3:
        return bits.astype(np.float32)
    rows = matting_rows(colours, unknown)
    # a weak pull to the rough mask decides where colours do not; without it a tile without one of the sides would be singular
    pull = 1e-4
    system = rows[:, index] + pull * identity(len(index))
    start = bits.ravel()[index].astype(np.float64)
    known = np.where(unknown.ravel(), 0, bits.ravel()).astype(np.float64)
    found, _ = cg(system, pull * start - rows @ known, x0=start, rtol=1e-3, maxiter=100, M=diags(1 / system.diagonal()))
    made = known
    made[index] = found
    return made.reshape(bits.shape).clip(0, 1).astype(np.float32)


def matting_rows(colours: np.ndarray, unknown: np.ndarray, epsilon: float = 1e-5) -> csr_matrix:
    """The rows of the matting Laplacian (equation 12 of Levin, Lischinski, Weiss 2008; windows of 3 x 3) for pixels that are not known.

    Args:
        colours: (h, w, 3) float64 in 0..1, h and w at least 3. unknown: (h, w) bool. epsilon: how far colours may stray from a line.

    Returns:
        (number of unknown pixels, h * w), in the order of `np.flatnonzero(unknown)`.
    """
    height, width = unknown.shape
    count = int(unknown.sum())
    number = np.full(unknown.size, count)  # known pixels share one row more, which is dropped
    number[np.flatnonzero(unknown)] = np.arange(count)
    touched = opencv().dilate(unknown.astype(np.uint8), np.ones((3, 3), np.uint8))[1:-1, 1:-1]  # middles of windows with such a pixel
    y, x = touched.nonzero()
    steps = [(dy, dx) for dy in range(3) for dx in range(3)]
    places = np.stack([(y + dy) * width + x + dx for dy, dx in steps], 1)
    window = colours.reshape(-1, 3)[places]
    window -= window.mean(1, keepdims=True)
    spread = (window.transpose(0, 2, 1) @ window + epsilon * np.eye(3)) / 9
    alike = (1 + window @ np.linalg.inv(spread) @ window.transpose(0, 2, 1)) / 9
    values = np.zeros((count + 1, 25))  # for each pixel the 5 x 5 around it
    for i, (y_i, x_i) in enumerate(steps):
        row = number[places[:, i]]  # of windows at one step no two have the same pixel there, but for those that are dropped
        for j, (y_j, x_j) in enumerate(steps):
            values[row, (y_j - y_i + 2) * 5 + x_j - x_i + 2] += float(i == j) - alike[:, i, j]
    around = np.array([dy * width + dx for dy in range(-2, 3) for dx in range(-2, 3)])
    columns = (np.flatnonzero(unknown)[:, None] + around).clip(0, unknown.size - 1)  # what lies beyond the picture has a value of 0
    return csr_matrix((values[:count].ravel(), columns.ravel(), np.arange(0, 25 * count + 1, 25)), (count, unknown.size))


def _guided(colours: np.ndarray, bits: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """As `_closed_form`, by a guided filter over grey."""
    cv2 = opencv()
    grey = colours.mean(-1).astype(np.float32)
    target = bits.astype(np.float32)
    mean = lambda x: cv2.boxFilter(x, -1, (2 * BAND + 1, 2 * BAND + 1))  # noqa: E731
    grey_mean, target_mean = mean(grey), mean(target)
    slope = (mean(grey * target) - grey_mean * target_mean) / (mean(grey * grey) - grey_mean**2 + 1e-4)
    offset = target_mean - slope * grey_mean
    made = mean(slope) * grey + mean(offset)
    return ((made - 0.5) * 1.5 + 0.5).clip(0, 1)  # a filter of this width leaves a ramp of it; steeper is crisper
