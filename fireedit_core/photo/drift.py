# SPDX-License-Identifier: GPL-3.0-or-later
"""The colours that an edit model has shifted by accident, found where it was to change nothing and taken back everywhere.

The drift is a colour matrix, an offset and a plane over the picture, for each channel, by least squares with weights that ignore what
really changed (iteratively reweighted, Tukey's biweight). Directions of colour that the surroundings do not show are left as they are.

Pictures are numpy arrays (H, W, 3) float32 in 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..opencv import opencv

_SIDE = 192  # px of the longer side of what is looked at: grain and a misfit of a pixel average out
_LEAST = 150  # px of that
_CLIPPED = 0.008  # from black or white, where a channel is cut off and says nothing
_ROUNDS = 12
_TUKEY = 4.685  # of the spread: what lies further off has no weight
_HOLD = 0.02  # the weight of "nothing has drifted", of that of all pixels; so large that three colours do not make a matrix
_FLOOR = 1.5 / 255  # spread below which differences are rounding
_UNSEEN = 1.0 / 255  # a drift below this is left as it is
_GAIN = 0.9  # a correction must leave less than this share of the difference
_STRONG = 0.6  # no accident changes a colour's coefficient by more


@dataclass(frozen=True, eq=False)
class Drift:
    """What takes a drift back.

    Attributes:
        matrix: (3, 6): for each channel the weights of r, g, b, of 1, of x and of y; x and y run from -1 to 1 over the picture.
        before, after: median difference to the original where it was fitted, 0..1.
        off: why nothing is to be corrected; "" where it is.
    """

    matrix: np.ndarray
    before: float = 0.0
    after: float = 0.0
    off: str = ""

    def undo(self, edited: np.ndarray) -> np.ndarray:
        """The picture without the drift, cut to 0..1; the very array where there is none."""
        if self.off:
            return edited
        height, width = edited.shape[:2]
        made = edited @ self.matrix[:, :3].T.astype(np.float32)
        x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
        one, across, down = self.matrix[:, 3:].T.astype(np.float32)
        made += one + x[None, :, None] * across
        made += y[:, None, None] * down
        return made.clip(0, 1)

    @property
    def words(self) -> str:
        """What was found, for a report."""
        if self.off:
            return f"colours left as they came: {self.off}"
        return f"colours corrected: they were off by {255 * self.before:.1f} of 255 outside of the edit, now {255 * self.after:.1f}"


def colour_drift(edited: np.ndarray, original: np.ndarray, outside: np.ndarray) -> Drift:
    """Find the drift of an aligned edited picture.

    Args:
        edited, original: (H, W, 3) of one size. outside: (H, W) bool, where both should show the same.

    Raises:
        ValueError: for sizes that differ. ImportError: without OpenCV.
    """
    if edited.shape != original.shape or outside.shape != original.shape[:2]:
        raise ValueError(f"the edited picture {edited.shape[:2]}, the original {original.shape[:2]} and the mask must have one size.")
    cv2 = opencv()
    none = np.eye(3, 6)
    scale = min(1.0, _SIDE / max(outside.shape))
    size = (max(1, round(outside.shape[1] * scale)), max(1, round(outside.shape[0] * scale)))
    shrink = lambda x: cv2.resize(x, size, interpolation=cv2.INTER_AREA)  # noqa: E731
    whole = shrink(outside.astype(np.float32)) > 0.999
    new, old = shrink(edited).reshape(-1, 3), shrink(original).reshape(-1, 3)
    open_ = ((new > _CLIPPED) & (new < 1 - _CLIPPED) & (old > _CLIPPED) & (old < 1 - _CLIPPED)).all(1)
    use = whole.ravel() & open_
    if use.sum() < _LEAST:
        return Drift(none, off="too little of the picture lies outside of the edit, or all of it is black or white")
    x, y = np.meshgrid(np.linspace(-1, 1, size[0]), np.linspace(-1, 1, size[1]))
    places = np.stack([np.ones(x.size), x.ravel(), y.ravel()], 1)[use]
    new, old = new[use].astype(np.float64), old[use].astype(np.float64)
    # around the mean colour, so that what holds the matrix does not hold the brightness
    middle = new.mean(0)
    basis = np.concatenate([new - middle, places], 1)
    miss = old - new
    hold = np.diag([_HOLD * len(new) * 0.05] * 3 + [0.0] + [_HOLD * len(new) * 0.02] * 2)
    # an edit that no mask tells of must not lead at the start: what most places agree on does
    weight, found = _trust(np.linalg.norm(miss - np.median(miss, 0), axis=1)), np.zeros((6, 3))
    for _ in range(_ROUNDS):
        heavy = basis * weight[:, None]
        found = np.linalg.solve(heavy.T @ basis + hold * weight.mean() + 1e-9 * np.eye(6), heavy.T @ miss)
        weight = _trust(np.linalg.norm(miss - basis @ found, axis=1))
    sure = weight > 0.1
    if sure.mean() < 0.25:
        return Drift(none, off="the surroundings do not agree on what has drifted")
    before = float(np.median(np.abs(miss[sure]).max(1)))
    after = float(np.median(np.abs(miss[sure] - basis[sure] @ found).max(1)))
    if before < _UNSEEN or after > _GAIN * before:
        return Drift(none, before, before, off=f"nothing has drifted (a difference of {255 * before:.1f} of 255)")
    matrix = none + found.T
    matrix[:, 3] -= found[:3].T @ middle
    if np.abs(found[:3]).max() > _STRONG:
        return Drift(none, before, before, off="the colours are so different that a correction would be a guess")
    return Drift(matrix, before, after)


def _trust(off: np.ndarray) -> np.ndarray:
    """Tukey's weight 0..1 of each difference."""
    spread = max(1.4826 * float(np.median(off)), _FLOOR)
    return np.clip(1 - (off / (_TUKEY * spread)) ** 2, 0, None) ** 2
