# SPDX-License-Identifier: GPL-3.0-or-later
"""Which part of a photograph a model sees, and the exact way back (design D14).

    {"size": [4000, 6000], "box": [1200, 800, 3248, 2336], "grid": [768, 1024], "scale": 0.5, "padding": [0.0, 0.0, 0.0, 0.0],
     "fingerprint": "6000x4000:..."}

The photo is never stretched: both axes have one scale, and what is left of the grid is the part's edge repeated. Pixels are areas, not
points: column u of the grid has its centre over column `box[0] + (u + 0.5 - padding[0]) / scale - 0.5` of the photo, and `undo` goes the
same way back, so nothing moves by a fraction of a pixel.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from .. import strict_json
from ..thumbnail import fingerprint as fingerprint_of
from ..thumbnail import same_fingerprint

_KEYS = ("size", "box", "grid", "scale", "padding", "fingerprint")
_ROUNDING = 1e-3  # grid px by which scale and padding may miss the grid: JSON that a person has shortened
_MAX_SIDE = 100_000  # px
# Of the Lanczos kernel. There and back it loses a third less than cubic convolution (photos enlarged twice: 0.86 of 255 against 1.27).
_LOBES = 3


@dataclass(frozen=True)
class PhotoFrame:
    """A part of one photograph on the grid that a model sees. A batch of pictures carries one `PhotoFrame` per picture in a list.

    Args:
        size: (height, width) of the photo, px.
        box: (x0, y0, x1, y1), the part of it in whole px; x1 and y1 are the first beyond.
        grid: (height, width) of what the model sees, px.
        scale: grid px per photo px, the same for both axes.
        padding: (left, top, right, bottom) of repeated edges in grid px, fractions included: left + width of the box * scale + right is
            the grid's width.
        fingerprint: `thumbnail.fingerprint` of the whole photo; "" where it is not known.

    Raises:
        ValueError: in words, for a box outside of the photo and for values that do not fit together.
    """

    size: tuple[int, int]
    box: tuple[int, int, int, int]
    grid: tuple[int, int]
    scale: float
    padding: tuple[float, float, float, float]
    fingerprint: str = ""

    def __post_init__(self) -> None:
        size, box, grid = _whole("size", self.size, 2), _whole("box", self.box, 4), _whole("grid", self.grid, 2)
        scale, padding = _numbers("scale", [self.scale], 1)[0], _numbers("padding", self.padding, 4)
        if min(*size, *grid) < 1 or max(*size, *grid) > _MAX_SIDE:
            raise ValueError(f"A photo's frame needs sizes from 1 to {_MAX_SIDE} px, got size {list(size)} and grid {list(grid)}.")
        x0, y0, x1, y1 = box
        if not (0 <= x0 < x1 <= size[1] and 0 <= y0 < y1 <= size[0]):
            raise ValueError(f"The box {list(box)} = [x0, y0, x1, y1] does not lie inside a photo of height {size[0]} and width {size[1]}.")
        if scale <= 0 or min(padding) < 0:
            raise ValueError(f"A photo's frame needs a scale above 0 and padding of 0 or more, got {scale:g} and {list(padding)}.")
        miss = [padding[0] + (x1 - x0) * scale + padding[2] - grid[1], padding[1] + (y1 - y0) * scale + padding[3] - grid[0]]
        if max(map(abs, miss)) > _ROUNDING:
            raise ValueError(
                f"The box {list(box)} at scale {scale:g} with padding {list(padding)} does not fill a grid of height {grid[0]} and "
                f"width {grid[1]}: it misses by {miss[1]:+.3f} and {miss[0]:+.3f} px."
            )
        if not isinstance(self.fingerprint, str):
            raise ValueError(f"A photo's frame needs a text as fingerprint, got {type(self.fingerprint).__name__}.")
        if self.fingerprint:
            same_fingerprint(self.fingerprint, self.fingerprint)
        for name, value in (("size", size), ("box", box), ("grid", grid), ("scale", scale), ("padding", padding)):
            object.__setattr__(self, name, value)

    @classmethod
    def fit(cls, photo: Tensor, box: tuple[int, int, int, int], grid: tuple[int, int]) -> PhotoFrame:
        """The frame that shows a box of a photo (H, W, C) as large as the grid (height, width) allows, in its middle.

        At scale 1 the padding is of whole px, so that no value is resampled.
        """
        (x0, y0, x1, y1), (height, width) = box, grid
        scale = min(width / (x1 - x0), height / (y1 - y0))
        free = [max(width - (x1 - x0) * scale, 0.0), max(height - (y1 - y0) * scale, 0.0)]
        left, top = (float(math.floor(x / 2)) for x in free)
        size = (int(photo.shape[0]), int(photo.shape[1]))
        return cls(size, box, grid, scale, (left, top, free[0] - left, free[1] - top), fingerprint_of(_colours(photo)))

    @property
    def box_size(self) -> tuple[int, int]:
        """(height, width) of the box, px of the photo."""
        return self.box[3] - self.box[1], self.box[2] - self.box[0]

    @property
    def whole(self) -> bool:
        """Whether the box is the whole photo."""
        return self.box_size == self.size

    def check(self, photo: Tensor) -> None:
        """Raise ValueError unless a photo (H, W, C) in 0..1 is the one that the frame belongs to: of its size and with its content."""
        self._check_size(photo.shape, "picture")
        if self.fingerprint and not same_fingerprint(self.fingerprint, fingerprint_of(_colours(photo))):
            raise ValueError(
                "This is not the photo that the frame belongs to: it has the same size, but another content. Connect the very picture "
                "that was cropped, unchanged."
            )

    def crop(self, photo: Tensor) -> Tensor:
        """What the model sees, (h, w, C) float32 with (h, w) = `grid`, of a photo (H, W, C) with any number of channels.

        Raises:
            ValueError: for a photo of another size, with both sizes.
        """
        self._check_size(photo.shape, "picture")
        x0, y0, x1, y1 = self.box
        part = photo[y0:y1, x0:x1]
        across, down = self._to_grid()
        if across is None and down is None:
            return part.float().clone()
        # rows first: a large photo is read once, in the order in which it lies
        return _resampled(part, down, across, rows_first=True)

    def crop_mask(self, mask: Tensor) -> Tensor:
        """The mask (h, w) on the grid of a mask (H, W) of the photo: each px is the largest of all photo px that it touches.

        So a mark of one px is not lost on a smaller grid, and nothing that is marked is left out.

        Raises:
            ValueError: for a mask of another size, with both sizes.
        """
        self._check_size(mask.shape, "mask")
        x0, y0, x1, y1 = self.box
        part = mask[y0:y1, x0:x1].float()
        for axis in (0, 1):
            part = _largest(part, axis, self.grid[axis], self.padding[1 - axis], self.scale)
        return part

    def undo(self, edited: Tensor) -> Tensor:
        """The box (height, width, C) of the photo, float32, of what came back on the grid (h, w, C): padding off, scaled back.

        Raises:
            ValueError: for a picture of another size than the grid's, with both sizes; `on_grid` makes the frame for one of the same shape.
        """
        if tuple(edited.shape[:2]) != self.grid:
            raise ValueError(
                f"The edited picture has height {edited.shape[0]} and width {edited.shape[1]}, but the frame's grid has height "
                f"{self.grid[0]} and width {self.grid[1]}. Connect the edited crop at the size that Photo Crop gave it."
            )
        height, width = self.box_size
        across = _matrix(width, self.grid[1], 1 / self.scale, -self.padding[0] / self.scale)
        down = _matrix(height, self.grid[0], 1 / self.scale, -self.padding[1] / self.scale)
        return _resampled(edited, down, across, rows_first=False)

    def on_grid(self, grid: tuple[int, int]) -> PhotoFrame:
        """The same part on a larger or smaller grid of the same shape: for an edited picture that was enlarged before it goes back.

        Raises:
            ValueError: where the other grid (height, width) has another shape.
        """
        height, width = grid
        if height * self.grid[1] != width * self.grid[0]:
            raise ValueError(
                f"A picture of height {height} and width {width} has another shape than the frame's grid of height {self.grid[0]} and "
                f"width {self.grid[1]}: it was stretched or cut."
            )
        ratio = width / self.grid[1]
        return replace(self, grid=(height, width), scale=self.scale * ratio, padding=tuple(x * ratio for x in self.padding))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dict with the attributes' names."""
        return {
            "size": list(self.size), "box": list(self.box), "grid": list(self.grid), "scale": self.scale, "padding": list(self.padding),
            "fingerprint": self.fingerprint,
        }  # fmt: skip

    def to_json(self) -> str:
        """The record as JSON text of one line."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, value: Any) -> PhotoFrame:
        """Inverse of `to_dict`; `fingerprint` may be left out.

        Raises:
            ValueError: in words, for anything malformed.
        """
        if not isinstance(value, Mapping) or not set(_KEYS[:-1]) <= set(value) <= set(_KEYS):
            found = sorted(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
            raise ValueError(f"A photo's frame needs the keys {', '.join(_KEYS[:-1])} (and fingerprint), got {found}.")
        return cls(**value)

    @classmethod
    def from_json(cls, text: str) -> PhotoFrame:
        """Inverse of `to_json`.

        Raises:
            ValueError: in words, for anything malformed.
        """
        return cls.from_dict(strict_json.parsed(text, "photo's frame"))

    def _check_size(self, shape: torch.Size, what: str) -> None:
        if tuple(shape[:2]) != self.size:
            raise ValueError(
                f"The frame belongs to a photo of height {self.size[0]} and width {self.size[1]}, but the {what} here has height "
                f"{shape[0]} and width {shape[1]}. Connect the very picture that was cropped, or the frame of this one."
            )

    def _to_grid(self) -> tuple[csr_matrix | None, csr_matrix | None]:
        """Weights across and down from the box onto the grid; None where every value stays as it is."""
        height, width = self.box_size
        return (
            _matrix(self.grid[1], width, self.scale, self.padding[0]),
            _matrix(self.grid[0], height, self.scale, self.padding[1]),
        )


def _matrix(target: int, source: int, scale: float, offset: float) -> csr_matrix | None:
    """Lanczos weights (target, source) that scale a row of `source` px, its left edge at `offset`, onto `target` px; None for no change.

    Where the row is made smaller the kernel is widened, so that every px counts. Beyond its ends the row's last px are repeated.
    """
    if target == source and scale == 1 and offset == 0:
        return None
    widened = max(1.0, 1 / scale)
    centre = (np.arange(target) + 0.5 - offset) / scale - 0.5
    first = np.floor(centre - _LOBES * widened).astype(np.int64) + 1
    places = first[:, None] + np.arange(math.ceil(2 * _LOBES * widened) + 1)
    away = (places - centre[:, None]) / widened
    weights = np.where(np.abs(away) < _LOBES, np.sinc(away) * np.sinc(away / _LOBES), 0.0)
    weights[np.abs(weights) < 1e-9] = 0
    weights /= weights.sum(1, keepdims=True)
    rows = np.repeat(np.arange(target), places.shape[1])
    kept = weights.ravel() != 0
    where = np.clip(places, 0, source - 1).ravel()[kept]
    return csr_matrix((weights.ravel()[kept].astype(np.float32), (rows[kept], where)), shape=(target, source))


def _resampled(picture: Tensor, down: csr_matrix | None, across: csr_matrix | None, rows_first: bool) -> Tensor:
    """(h, w, C) float32 of a picture (H, W, C); no value leaves the range that the picture has."""
    values = np.ascontiguousarray(picture.detach().cpu().float().numpy())
    low, high = float(values.min()), float(values.max())
    channels = values.shape[2]
    for rows in (rows_first, not rows_first):
        if rows and down is not None:
            values = (down @ values.reshape(values.shape[0], -1)).reshape(down.shape[0], -1, channels)
        elif not rows and across is not None:
            turned = np.ascontiguousarray(values.transpose(1, 0, 2))
            made = (across @ turned.reshape(turned.shape[0], -1)).reshape(across.shape[0], -1, channels)
            values = np.ascontiguousarray(made.transpose(1, 0, 2))
    made = torch.from_numpy(values)
    return (made.clone() if down is None and across is None else made.clamp_(low, high)).to(picture.device)


def _largest(mask: Tensor, axis: int, target: int, offset: float, scale: float) -> Tensor:
    """The mask with `target` px along an axis, each the largest of those that it touches."""
    source = mask.shape[axis]
    edges = (np.arange(target + 1) - offset) / scale
    first = np.clip(np.floor(edges[:-1] + 1e-6), 0, source - 1).astype(np.int64)
    last = np.clip(np.ceil(edges[1:] - 1e-6) - 1, first, source - 1).astype(np.int64)
    at = lambda places: mask.index_select(axis, torch.from_numpy(places).to(mask.device))  # noqa: E731
    made = at(first)
    for step in range(1, int((last - first).max()) + 1):
        made = torch.maximum(made, at(np.minimum(first + step, last)))
    return made


def _colours(photo: Tensor) -> Tensor:
    """(3, H, W) of a photo (H, W, C): alpha left out, grey spread."""
    colours = photo[..., :3] if photo.shape[-1] >= 3 else photo[..., :1].expand(*photo.shape[:2], 3)
    return colours.movedim(-1, 0)


def _numbers(name: str, values: Any, count: int) -> tuple[float, ...]:
    good = isinstance(values, (list, tuple)) and len(values) == count
    # of a whole number of 400 digits even `isfinite` knows no answer
    if not good or not all(isinstance(x, (int, float)) and not isinstance(x, bool) and -1e9 < x < 1e9 for x in values):
        raise ValueError(f'A photo\'s frame needs {count} finite number(s) as "{name}", got {str(values)[:60]}.')
    return tuple(float(x) for x in values)


def _whole(name: str, values: Any, count: int) -> tuple[int, ...]:
    numbers = _numbers(name, values, count)
    if any(x != int(x) for x in numbers):
        raise ValueError(f'A photo\'s frame needs whole px as "{name}", got {str(values)[:60]}.')
    return tuple(int(x) for x in numbers)
