# SPDX-License-Identifier: GPL-3.0-or-later
"""The colours that an edit model has shifted by accident, found where it was to change nothing and taken back everywhere.

The drift is a colour matrix, an offset and a plane over the picture, for each channel, by least squares with weights that ignore what
really changed (iteratively reweighted, Tukey's biweight). Directions of colour that the surroundings do not show are left as they are.
Where light has drifted from place to place, a smooth field of brightness is taken back too; it changes no hue, and under the edit it is
what its surroundings say.

Pictures are numpy arrays (H, W, 3) float32 in 0..1.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

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
_REACHES = (0.4, 0.2, 0.1, 0.06)  # of the longer side: standard deviations, from coarse to fine, over which light is averaged
_CALM = 0.02  # of the longer side: what is left is looked at without grain
_MOST = 1.25  # light is not changed by a larger factor
_DARK = 0.003  # squared: where all is black, light is what is seen further off
_ALONE = 0.5  # light alone must leave less than this share, or the colours are another picture's
_UNEVEN = 0.75  # light goes first where that leaves less than this share of what the colours alone leave


@dataclass(frozen=True, eq=False)
class Drift:
    """What takes a drift back.

    Attributes:
        matrix: (3, 6): for each channel the weights of r, g, b, of 1, of x and of y; x and y run from -1 to 1 over the picture.
        before, after: median difference to the original where it was fitted, 0..1.
        off: why nothing is to be corrected; "" where it is.
        first, last: (h, w) factors of brightness before and after the matrix, of a picture made small; None for none.
    """

    matrix: np.ndarray
    before: float = 0.0
    after: float = 0.0
    off: str = ""
    first: np.ndarray | None = None
    last: np.ndarray | None = None

    def undo(self, edited: np.ndarray) -> np.ndarray:
        """The picture without the drift, cut to 0..1; the very array where there is none."""
        if self.off:
            return edited
        height, width = edited.shape[:2]
        edited = _lit(edited, self.first)
        made = edited @ self.matrix[:, :3].T.astype(np.float32)
        x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
        one, across, down = self.matrix[:, 3:].T.astype(np.float32)
        made += one + x[None, :, None] * across
        made += y[:, None, None] * down
        return _lit(made, self.last).clip(0, 1)

    @property
    def words(self) -> str:
        """What was found, for a report."""
        if self.off:
            return f"colours left as they came: {self.off}"
        light = ""
        if fields := [field for field in (self.first, self.last) if field is not None]:
            most = max(float(np.maximum(field, 1 / field).max()) for field in fields)
            light = f", light by up to {100 * (most - 1):.0f} % from place to place"
        return f"colours corrected{light}: they were off by {255 * self.before:.1f} of 255 outside of the edit, now {255 * self.after:.1f}"


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
    scale = min(1.0, _SIDE / max(outside.shape))
    size = (max(1, round(outside.shape[1] * scale)), max(1, round(outside.shape[0] * scale)))
    shrink = lambda x: cv2.resize(x, size, interpolation=cv2.INTER_AREA)  # noqa: E731
    new, old = shrink(edited), shrink(original)
    open_ = ((new > _CLIPPED) & (new < 1 - _CLIPPED) & (old > _CLIPPED) & (old < 1 - _CLIPPED)).all(-1)
    use = (shrink(outside.astype(np.float32)) > 0.999) & open_
    if use.sum() < _LEAST:
        return Drift(np.eye(3, 6), off="too little of the picture lies outside of the edit, or all of it is black or white")
    plain = found = _colours(new, old, use)
    made = found.undo(new)
    left = _left(made, old, use)
    if left <= _UNSEEN:
        return found
    # a matrix that is fitted across uneven light takes it for colours
    light = _light(new, old, use)
    other = _colours(_lit(new, light), old, use)
    lit = replace(other, matrix=np.eye(3, 6) if other.off else other.matrix, off="", first=light)
    if (even := _left(lit.undo(new), old, use)) < _UNEVEN * left:
        found, made, left = lit, lit.undo(new), even
    light = _light(made, old, use)
    if (even := _left(_lit(made, light), old, use)) < _GAIN * left:
        colours = np.eye(3, 6) if found.off else found.matrix
        found, left = replace(found, matrix=colours, off="", last=light), even
    if found.first is None and found.last is None:
        return found
    if np.array_equal(found.matrix, np.eye(3, 6)) and left > _ALONE * _left(new, old, use):
        return plain
    off = lambda x: float(np.median(np.abs(x - old)[use].max(-1)))  # noqa: E731
    return replace(found, before=off(new), after=off(found.undo(new)))


def _lit(picture: np.ndarray, light: np.ndarray | None) -> np.ndarray:
    """A picture with its brightness multiplied by a field of any size."""
    if light is None:
        return picture
    return picture * opencv().resize(light, picture.shape[1::-1], interpolation=opencv().INTER_LINEAR)[..., None]


def _light(new: np.ndarray, old: np.ndarray, use: np.ndarray) -> np.ndarray:
    """(h, w): by what the brightness of `new` is to be multiplied; where nothing is seen, what is seen further off."""
    off = np.linalg.norm(old - new, axis=-1)
    weight = np.where(use, _trust(off, off[use]), 0).astype(np.float32)
    both, own = weight * (old * new).sum(-1), weight * (new * new).sum(-1)
    field = np.ones(use.shape, np.float32)
    for reach in _REACHES:
        blur = functools.partial(opencv().GaussianBlur, ksize=(0, 0), sigmaX=reach * max(use.shape), borderType=opencv().BORDER_REFLECT)
        field = (blur(both) + _DARK * field) / (blur(own) + _DARK)
    return field.clip(1 / _MOST, _MOST).astype(np.float32)


def _left(new: np.ndarray, old: np.ndarray, use: np.ndarray) -> float:
    """Median difference 0..1 where both should show the same, of its grain freed."""
    blur = functools.partial(opencv().GaussianBlur, ksize=(0, 0), sigmaX=_CALM * max(use.shape))
    calm = blur((old - new) * use[..., None].astype(np.float32)) / np.maximum(blur(use.astype(np.float32)), 1e-3)[..., None]
    return float(np.median(np.abs(calm[use]).max(-1)))


def _colours(new: np.ndarray, old: np.ndarray, use: np.ndarray) -> Drift:
    """The drift (h, w, 3) as a matrix and a plane, where `use` (h, w) is true."""
    none = np.eye(3, 6)
    x, y = np.meshgrid(np.linspace(-1, 1, use.shape[1]), np.linspace(-1, 1, use.shape[0]))
    places = np.stack([np.ones(x.size), x.ravel(), y.ravel()], 1)[use.ravel()]
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


def _trust(off: np.ndarray, of: np.ndarray | None = None) -> np.ndarray:
    """Tukey's weight 0..1 of each difference, by their own spread or that `of` others."""
    spread = max(1.4826 * float(np.median(off if of is None else of)), _FLOOR)
    return np.clip(1 - (off / (_TUKEY * spread)) ** 2, 0, None) ** 2
