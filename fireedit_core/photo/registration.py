# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an edited picture has moved against its original, to a fraction of a pixel, though colours, sharpness and a region differ.

Edit models give back a picture that is shifted and zoomed by some pixels. What they keep is structure, so this looks at local contrast
(each place's grey against its surroundings, in units of their spread) and finds the affine motion of the best correlation (G. Evangelidis
and E. Psarakis, "Parametric Image Alignment Using Enhanced Correlation Coefficient Maximization", PAMI 2008, in OpenCV), from coarse to
fine. What the affine motion leaves over is searched on a coarse grid of cubic B-splines (D. Rueckert et al., "Nonrigid registration using
free-form deformations", TMI 1999), and taken only where places that the search never saw agree better with it.

Pictures are numpy arrays (H, W, 3) float32 in 0..1; places are pixels (x, y), the centre of the first one at (0, 0).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..opencv import opencv

STILL = 0.15  # px: motion that is not worth a resampling
SURE = 0.15  # least correlation of local contrast; pictures of other things stay below .04
_PLAIN = 0.5  # where the correlation is lower than this, two halves of the picture must find the same motion
_HALVES = 1.0  # px by which these may differ
FAR = 0.15  # of the diagonal: edit models move no further than that by accident
_SIDES = (256, 512, 1152)  # px of the longer side: the search goes from coarse to fine
_ZOOM = 0.05  # starts of the search: smaller and larger by this
_SPREAD = 5.0  # px: standard deviation of the surroundings that contrast is measured against
_REACH = 2.0  # standard deviations: how far contrast has seen
_NOISE = 10 / 255  # spread of surroundings that counts as flat
_SOFT = 5  # px: OpenCV's own blur before it takes gradients
_ROUNDS, _STEADY = 60, 1e-5
_FIELDS = 20  # of a chessboard along the longer side
_CELLS = 5  # of the bend's grid along the longer side
_GAIN = 0.9  # a bend must leave less than this of what the affine motion leaves unexplained
_BENDS = 12  # steps at most
_STIFF, _HOLD = 0.003, 0.0005  # of what the picture says: against bending, and against any motion
_LEAST = 0.04  # share of the picture that must be left to look at
_SMALLEST = 48  # px
_GREY = np.float32([0.299, 0.587, 0.114])


@dataclass(frozen=True, eq=False)
class _Level:
    """Local contrast (h, w) of both pictures at `step` of their size, and where the original is looked at, uint8."""

    step: float
    edited: np.ndarray
    original: np.ndarray
    free: np.ndarray


@dataclass(frozen=True, eq=False)
class Alignment:
    """A motion of an edited picture against its original.

    Attributes:
        matrix: (2, 3) float64, from a place of the original to that place in the edited picture.
        size: (height, width) of both pictures. correlation: of local contrast when aligned, 0..1.
        grid: (rows, columns, 2) px that are added to it, control points of a cubic B-spline over the frame; None where it is affine.
        refused: why the motion must not be applied, in words; "" where it may be.
        compared: False where there was nothing that had to stay the same.
    """

    matrix: np.ndarray
    size: tuple[int, int]
    correlation: float
    grid: np.ndarray | None = None
    refused: str = ""
    compared: bool = True

    def places(self, step: int = 1) -> np.ndarray:
        """(h, w, 2) float32: where every `step`-th pixel of the original, and its far edges, lie in the edited picture, (x, y) px."""
        x, y = (_ticks(side, step) for side in self.size[::-1])
        linear = self.matrix[:, :2]
        made = (x[None, :, None] * linear[:, 0] + y[:, None, None] * linear[:, 1] + self.matrix[:, 2]).astype(np.float32)
        if self.grid is not None:
            down, across = (_splines(at, side, n) for at, side, n in zip((y, x), self.size, self.grid.shape, strict=False))
            for i in (0, 1):
                made[..., i] += down @ self.grid[..., i] @ across.T
        return made

    def displacement(self, step: int = 1) -> np.ndarray:
        """(h, w, 2) float32 px: how far these have moved."""
        x, y = (_ticks(side, step) for side in self.size[::-1])
        return self.places(step) - np.stack(np.meshgrid(x, y), -1).astype(np.float32)

    @property
    def largest(self) -> float:
        """The largest displacement over the frame, px."""
        return float(np.linalg.norm(self.displacement(max(1, max(self.size) // 64)), axis=-1).max())

    @property
    def shift(self) -> tuple[float, float]:
        """(x, y) px by which the frame's middle has moved."""
        middle = np.array([(self.size[1] - 1) / 2, (self.size[0] - 1) / 2])
        x, y = self.matrix[:, :2] @ middle + self.matrix[:, 2] - middle
        return float(x), float(y)

    @property
    def zoom(self) -> float:
        """How much larger the edited picture shows things, as a factor; the mean over directions."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))

    @property
    def still(self) -> bool:
        """Whether there is nothing to undo."""
        return self.largest < STILL

    @property
    def words(self) -> str:
        """What was found, for a report."""
        if self.refused:
            return f"not aligned: {self.refused}"
        if self.still:
            return f"nothing has moved (at most {self.largest:.2f} px, correlation {self.correlation:.2f})"
        x, y = self.shift
        bent = ""
        if self.grid is not None:
            bent = f", bent by up to {replace(self, matrix=np.eye(2, 3)).largest:.1f} px beyond that"
        return (
            f"aligned: shifted by {x:+.1f}, {y:+.1f} px, zoom {100 * (self.zoom - 1):+.2f} %{bent}, at most {self.largest:.1f} px; "
            f"correlation {self.correlation:.2f}"
        )


def unmoved(size: tuple[int, int], refused: str, compared: bool = False) -> Alignment:
    """The alignment that changes nothing, and why."""
    return Alignment(np.eye(2, 3), size, 0.0, None, refused, compared)


def align(edited: np.ndarray, original: np.ndarray, mask: np.ndarray | None = None, check: Callable[[], None] = lambda: None) -> Alignment:
    """Find how an edited picture has moved against its original.

    Args:
        edited, original: (H, W, 3) float32 in 0..1, of one size. mask: (H, W), above 0 where the original was meant to change; None where
        that is not known. What disagrees is found and left out in both cases. check: called now and then; may raise to stop.

    Returns:
        The motion; with `refused` where it is not sure, never a guess.

    Raises:
        ValueError: for sizes that differ. ImportError: without OpenCV.
    """
    if edited.shape != original.shape or (mask is not None and mask.shape != original.shape[:2]):
        raise ValueError(f"the edited picture {edited.shape[:2]} and the original {original.shape[:2]} must have one size (height, width).")
    size = original.shape[:2]
    if min(size) < _SMALLEST:
        return unmoved(size, f"a picture of {size[1]} x {size[0]} px is too small to be compared")
    free = np.ones(size, np.float32) if mask is None else (mask <= 0).astype(np.float32)
    told = bool(free.mean() >= _LEAST)  # a mask of all tells nothing; then what has stayed must be found, and may be nothing
    free = free if told else np.ones(size, np.float32)
    grey = [picture @ _GREY for picture in (edited, original)]
    levels = [_level(*grey, free, step) for step in dict.fromkeys(min(1.0, side / max(size)) for side in _SIDES)]
    matrix, step = _start(levels[0]), levels[0].step
    for level in levels[1:]:
        if matrix is None:
            return unmoved(size, "the two pictures do not come together. Is it the same photograph?", told)
        check()
        matrix = _rescaled(matrix, step, level.step)
        matrix, _ = _ecc(_agreeing(level, matrix), matrix)
        step = level.step
    if matrix is None:
        return unmoved(size, "the search for the motion found no end. Is it the same photograph?", told)
    matrix = _rescaled(matrix, step, 1.0)
    found = Alignment(matrix, size, _correlation(levels[-1], _rescaled(matrix, 1.0, step)))
    reason = _doubt(found)
    if not reason and found.correlation < _PLAIN:
        check()
        reason = _halves(_agreeing(levels[-1], _rescaled(matrix, 1.0, step)), _rescaled(matrix, 1.0, step))
    if not reason and (grid := _bent(levels, matrix, check)) is not None:
        found = replace(found, grid=grid, correlation=_correlation(levels[-1], _rescaled(matrix, 1.0, step), grid * step))
        reason = _doubt(found)
    return replace(found, refused=reason, compared=told)


def apply(edited: np.ndarray, alignment: Alignment) -> np.ndarray:
    """The edited picture (H, W, C) back in the original's place; the very array where nothing has moved or the motion was refused.

    What lies beyond the edited picture's edge is its edge repeated; see `covered`.
    """
    if alignment.refused or alignment.still:
        return edited
    cv2 = opencv()
    x, y = np.moveaxis(alignment.places(), -1, 0)
    made = cv2.remap(edited, np.ascontiguousarray(x), np.ascontiguousarray(y), cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
    return made.clip(edited.min(), edited.max()).reshape(edited.shape)


def _level(edited: np.ndarray, original: np.ndarray, free: np.ndarray, step: float) -> _Level:
    """Both grey pictures at `step` of their size, as local contrast."""
    cv2 = opencv()
    shrink = lambda x: x if step == 1 else cv2.resize(x, _size_at(x.shape, step)[::-1], interpolation=cv2.INTER_AREA)  # noqa: E731
    # contrast next to the edit has seen the edit
    reach = 2 * round(_REACH * _SPREAD) + 1
    near = cv2.erode(shrink(free), np.ones((reach, reach), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1.0)
    return _Level(step, _contrast(shrink(edited)), _contrast(shrink(original)), (near > 0.99).astype(np.uint8))


def _contrast(grey: np.ndarray) -> np.ndarray:
    """Each place's grey against its surroundings, in units of their spread; what is flat gives next to nothing."""
    cv2 = opencv()
    blur = functools.partial(cv2.GaussianBlur, ksize=(0, 0), sigmaX=_SPREAD)
    rest = grey - blur(grey)
    return (rest / np.sqrt(blur(rest * rest) + _NOISE**2)).astype(np.float32)


def _start(level: _Level) -> np.ndarray | None:
    """The motion of the best correlation over several starts: still, and for three zooms shifted as the phases say."""
    cv2 = opencv()
    size = level.original.shape
    window = cv2.createHanningWindow(size[::-1], cv2.CV_32F)
    starts = [np.eye(2, 3)]
    for zoom in (1.0, 1 - _ZOOM, 1 + _ZOOM):
        matrix = _about_middle(size, zoom)
        back, _ = _moved(level, matrix)
        shift, _ = cv2.phaseCorrelate(level.original * level.free, np.ascontiguousarray(back * level.free), window)
        starts.append(np.column_stack([matrix[:, :2], matrix[:, 2] + zoom * np.array(shift)]))
    return max((_ecc(level, start) for start in starts), key=lambda one: one[1])[0]


def _ecc(level: _Level, matrix: np.ndarray) -> tuple[np.ndarray | None, float]:
    """The motion refined, and its correlation; (None, -1) where the search does not converge."""
    cv2 = opencv()
    # OpenCV's mask belongs to the picture that is moved, and ours to the original: so it is the original that is moved
    start = _inverse(matrix).astype(np.float32)
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, _ROUNDS, _STEADY)
    try:
        score, found = cv2.findTransformECC(level.edited, level.original, start, cv2.MOTION_AFFINE, stop, level.free, _SOFT)
        found = _inverse(found.astype(np.float64))
    except (cv2.error, np.linalg.LinAlgError):
        return None, -1.0
    return (found, float(score)) if np.isfinite(found).all() and np.isfinite(score) else (None, -1.0)


def _board(size: tuple[int, ...]) -> np.ndarray:
    """A chessboard of 0 and 1, uint8."""
    rows, columns = (np.arange(side) * _FIELDS // max(size) for side in size)
    return (np.add.outer(rows, columns) % 2).astype(np.uint8)


def _halves(level: _Level, matrix: np.ndarray) -> str:
    """Why the motion that two halves of the picture find is not to be trusted; "" where it is the same."""
    board = _board(level.original.shape)
    found = [_ecc(replace(level, free=level.free * half), matrix)[0] for half in (board, 1 - board)]
    if any(one is None for one in found):
        return "too little structure lies outside of the edit to be sure."
    places = [Alignment(one, level.original.shape, 0.0).places(16) for one in found]
    apart = float(np.linalg.norm(places[0] - places[1], axis=-1).max()) / level.step
    return "" if apart <= _HALVES else f"two halves of the picture find motions that differ by {apart:.1f} px."


def _bent(levels: list[_Level], matrix: np.ndarray, check: Callable[[], None]) -> np.ndarray | None:
    """Control points (rows, columns, 2) in px of what the affine motion leaves over; None where nothing is gained.

    The gain is measured on fields of a chessboard that the search did not see, so that it does not bend after noise.
    """
    few = levels[:-1] or levels
    boards = [_board(level.original.shape) for level in few]
    half = _fitted([replace(level, free=level.free * board) for level, board in zip(few, boards, strict=True)], matrix, check)
    level = few[-1]
    unseen = replace(level, free=level.free * (1 - boards[-1]))
    straight, bent = (1 - _correlation(unseen, _rescaled(matrix, 1.0, level.step), grid) for grid in (None, half * level.step))
    return None if bent >= _GAIN * straight else _fitted(levels, matrix, check)


def _fitted(levels: list[_Level], matrix: np.ndarray, check: Callable[[], None]) -> np.ndarray:
    """The control points, from coarse to fine."""
    grid = np.zeros((*_control(*levels[-1].original.shape), 2))
    for level in levels:
        here = _rescaled(matrix, 1.0, level.step)
        grid = _stepped(_agreeing(level, here, grid * level.step), here, grid * level.step, check) / level.step
    return grid


def _stepped(level: _Level, matrix: np.ndarray, grid: np.ndarray, check: Callable[[], None]) -> np.ndarray:
    """The control points of least squared difference, by Gauss-Newton steps; smooth, and 0 where there is nothing to see."""
    cv2 = opencv()
    height, width = level.original.shape
    rows, columns = grid.shape[:2]
    down, across = _splines(np.arange(height), height, rows), _splines(np.arange(width), width, columns)
    pairs = [np.einsum("pa,pb->pab", x, x).reshape(len(x), -1) for x in (down, across)]
    count = rows * columns

    def product(weight: np.ndarray) -> np.ndarray:
        """(count, count): sums over all pixels of a weight and two splines."""
        made = (pairs[0].T @ weight @ pairs[1]).reshape(rows, rows, columns, columns)
        return made.transpose(0, 2, 1, 3).reshape(count, count)

    stiff = _stiffness(rows, columns)
    calm = functools.partial(cv2.GaussianBlur, ksize=(_SOFT, _SOFT), sigmaX=0)
    level = replace(level, edited=calm(level.edited), original=calm(level.original))
    for _ in range(_BENDS):
        check()
        moved, seen = _moved(level, matrix, grid)
        use = (level.free * seen).astype(np.float32)
        # the edited picture may be softer: its contrast is a share of the original's
        share = float((moved * level.original * use).sum() / max(float((moved * moved * use).sum()), 1e-9))
        miss = use * (level.original - share * moved)
        slope = [share * cv2.Scharr(moved, cv2.CV_32F, *way) / 32 for way in ((1, 0), (0, 1))]
        xx, xy, yy = (product(use * slope[i] * slope[j]) for i, j in ((0, 0), (0, 1), (1, 1)))
        hessian = np.block([[xx, xy], [xy, yy]])
        right = np.concatenate([(down.T @ (miss * s) @ across).ravel() for s in slope])
        scale = np.trace(hessian) / (2 * count)
        hold = np.kron(np.eye(2), _STIFF * scale * stiff + _HOLD * scale * np.eye(count))
        now = np.concatenate([grid[..., 0].ravel(), grid[..., 1].ravel()])
        change = np.linalg.solve(hessian + hold, right - hold @ now)
        grid = grid + np.stack([part.reshape(rows, columns) for part in np.split(change, 2)], -1)
        if np.abs(change).max() < 0.01:
            break
    return grid


def _control(height: int, width: int) -> tuple[int, int]:
    """(rows, columns) of control points: cells are about squares, and a cubic spline needs three points more than cells."""
    cell = max(height, width) / _CELLS
    return max(2, round(height / cell)) + 3, max(2, round(width / cell)) + 3


def _splines(places: np.ndarray, length: int, count: int) -> np.ndarray:
    """(n, count): weights of uniform cubic B-splines over 0..length - 1 at places (n,)."""
    cells = count - 3
    at = np.asarray(places, np.float64)[:, None] / max(length - 1, 1) * cells - (np.arange(count) - 1)
    x = np.abs(at)
    return np.where(x < 1, 2 / 3 - x**2 + x**3 / 2, np.where(x < 2, (2 - x).clip(0) ** 3 / 6, 0.0))


def _stiffness(rows: int, columns: int) -> np.ndarray:
    """Squared second differences of control points, (count, count)."""
    second = lambda n: np.diff(np.eye(n), 2, axis=0)  # noqa: E731
    first = lambda n: np.diff(np.eye(n), 1, axis=0)  # noqa: E731
    down, across = np.kron(second(rows), np.eye(columns)), np.kron(np.eye(rows), second(columns))
    both = np.kron(first(rows), first(columns))
    return down.T @ down + across.T @ across + 2 * both.T @ both


def _agreeing(level: _Level, matrix: np.ndarray, grid: np.ndarray | None = None) -> _Level:
    """The level that looks only where the pictures show the same: without edits that no mask tells of, and the edited picture's edge."""
    agreement, seen = _agreement(level, matrix, grid)
    judged = (level.free > 0) & seen
    if not judged.any():
        return level
    same = judged & (agreement > 0.5 * np.median(agreement[judged]))
    return replace(level, free=same.astype(np.uint8)) if same.mean() > _LEAST else level


def _agreement(level: _Level, matrix: np.ndarray, grid: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Correlation (h, w) of each place's surroundings in both pictures, and where the edited one has something to show."""
    moved, seen = _moved(level, matrix, grid)
    blur = functools.partial(opencv().GaussianBlur, ksize=(0, 0), sigmaX=1.5 * _SPREAD)
    energy = np.sqrt(blur(moved * moved) * blur(level.original * level.original))
    return blur(moved * level.original) / (energy + 0.05), seen


def _correlation(level: _Level, matrix: np.ndarray, grid: np.ndarray | None = None) -> float:
    """Correlation of the contrast where the level looks, 0..1."""
    moved, seen = _moved(level, matrix, grid)
    use = seen & (level.free > 0)
    if not use.any():
        return 0.0
    a, b = (x[use] - x[use].mean() for x in (moved, level.original))
    return max(0.0, float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-9)))


def _moved(level: _Level, matrix: np.ndarray, grid: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The edited contrast in the original's place, and where its surroundings lay inside the edited picture."""
    cv2 = opencv()
    size = level.original.shape
    where = Alignment(matrix, size, 0.0, grid).places()
    edge = _REACH * _SPREAD
    x, y = where[..., 0], where[..., 1]
    seen = (x >= edge) & (x <= size[1] - 1 - edge) & (y >= edge) & (y <= size[0] - 1 - edge)
    return cv2.remap(level.edited, np.ascontiguousarray(x), np.ascontiguousarray(y), cv2.INTER_LINEAR), seen


def _doubt(found: Alignment) -> str:
    """Why a motion is not to be trusted; "" where it is."""
    if found.correlation < SURE:
        return (
            f"what lies outside of the edit does not look like the photo (correlation {found.correlation:.2f}, at least {SURE} is needed). "
            "Is it the same photograph, and most of it unchanged?"
        )
    far = FAR * float(np.hypot(*found.size))
    if found.largest > far:
        return f"it would have moved by {found.largest:.0f} px, and more than {far:.0f} px is not believed."
    return ""


def _about_middle(size: tuple[int, ...], zoom: float) -> np.ndarray:
    middle = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    return np.column_stack([np.eye(2) * zoom, middle * (1 - zoom)])


def _inverse(matrix: np.ndarray) -> np.ndarray:
    back = np.linalg.inv(matrix[:, :2])
    return np.column_stack([back, -back @ matrix[:, 2]])


def _rescaled(matrix: np.ndarray, before: float, after: float) -> np.ndarray:
    """The same motion on pictures of another size; pixels are areas, so places are counted from the first one's corner."""
    half = np.array([0.5, 0.5])
    linear = matrix[:, :2]
    return np.column_stack([linear, (after / before) * (matrix[:, 2] - linear @ half + half) + linear @ half - half])


def _size_at(size: tuple[int, ...], step: float) -> tuple[int, int]:
    return max(1, round(size[0] * step)), max(1, round(size[1] * step))


def _ticks(length: int, step: int) -> np.ndarray:
    """0, step, 2 step ... and the last place."""
    ticks = np.arange(0, length, step, dtype=np.float64)
    return ticks if ticks[-1] == length - 1 else np.append(ticks, length - 1)
