# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches of one shape each from pictures of all shapes, without leaving any out."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from PIL import Image

WINDOW = 16  # batches that are sorted by shape together
WIDEST = 2.0  # longer pictures lose their ends
# Words of sides, of turning and of writing. No list is complete, which is why sets about places are not mirrored at all (`mixture.marks`).
SIDES = re.compile(
    r"\b((?:left|right)(?:s|y|ie|ward|wards|most|hand|handed|side)?|[lr]|[lr]h[s]?|(?:anti|counter)?-?clock-?wise|o'?\s?clock|"
    r"(?:north|south)?-?(?:east|west)(?:ern|ward|wards)?|port|starboard|text|words?|letters?|writing|written|writes?|says?|saying|"
    r"reads?|reading|spell\w*|signs?|labels?|captions?|titles?|logos?|numbers?|digits?|names?|mirror\w*|flip\w*)\b",
    re.I,
)


def bucket_sizes(size: int, multiple: int = 64) -> list[tuple[int, int]]:
    """(height, width) of all shapes of at most size x size pixels between 1:2 and 2:1 in whole multiples; square first.

    Raises:
        ValueError: for a size that is no multiple.
    """
    if size % multiple:
        raise ValueError(f"size must be a multiple of {multiple}, got {size}")
    found = {(size, size)}
    for height in range(multiple, int(size * WIDEST) + 1, multiple):
        width = size * size // height // multiple * multiple
        if width and max(height / width, width / height) <= WIDEST:
            found |= {(height, width), (width, height)}
    return sorted(found, key=lambda hw: (hw != (size, size), hw))


def nearest(aspect: float, buckets: list[tuple[int, int]]) -> tuple[int, int]:
    """The bucket whose height / width is nearest to `aspect` as a ratio; of two that are equally near the larger."""
    return min(buckets, key=lambda hw: (round(abs(np.log(hw[0] / hw[1] / aspect)), 6), -hw[0] * hw[1]))


class Windows:
    """Which draws make up which batch.

    A window of `WINDOW` batches is sorted by shape and cut into batches; each takes the bucket nearest to its middle picture, and the
    batches of a window come in random order. So every draw is used exactly once, batch `number` is a function of the number alone, and
    the rows of all processes together are the same however many processes share them.

    Args:
        size_of: draw number -> (height, width). batch: rows of all processes together.
        buckets: None gives every batch the one square shape and leaves the draws in order.
    """

    def __init__(
        self, size_of: Callable[[int], tuple[int, int]], batch: int, buckets: list[tuple[int, int]] | None, square: int, seed: int
    ):
        self.size_of, self.batch, self.buckets, self.square, self.seed = size_of, batch, buckets, square, seed
        self._plans: dict[int, list[tuple[list[int], tuple[int, int]]]] = {}  # of the last two windows

    def __getitem__(self, number: int) -> tuple[list[int], tuple[int, int]]:
        """(draw numbers, (height, width)) of batch `number`."""
        if self.buckets is None:
            return list(range(number * self.batch, (number + 1) * self.batch)), (self.square, self.square)
        window, place = divmod(number, WINDOW)
        if window not in self._plans:
            self._plans = {k: v for k, v in self._plans.items() if k == window - 1} | {window: self._plan(window)}
        return self._plans[window][place]

    def _plan(self, window: int) -> list[tuple[list[int], tuple[int, int]]]:
        count = WINDOW * self.batch
        draws = range(window * count, (window + 1) * count)
        aspect = {}
        for draw in draws:
            height, width = self.size_of(draw)
            aspect[draw] = height / width
        ordered = sorted(draws, key=lambda draw: (aspect[draw], draw))
        parts = [ordered[i : i + self.batch] for i in range(0, count, self.batch)]
        batches = [(part, nearest(aspect[part[len(part) // 2]], self.buckets)) for part in parts]
        order = np.random.default_rng((self.seed, window)).permutation(WINDOW)
        return [batches[i] for i in order]


def may_flip(instruction: str) -> bool:
    """Whether a mirrored picture still fits the instruction: it names no side and no writing."""
    return SIDES.search(instruction) is None


def fit(
    picture: np.ndarray, size: tuple[int, int], corner: tuple[float, float] = (0.5, 0.5), flip: bool = False
) -> np.ndarray:
    """A picture (H, W, 3) uint8 or mask (H, W) bool that fills `size` = (height, width): resized to cover it, then cut, then mirrored.

    Args:
        corner: where it is cut, (from the top, from the left) as shares 0..1 of what is left over.
    """
    height, width = picture.shape[:2]
    scale = max(size[0] / height, size[1] / width)
    large = (max(size[0], round(height * scale)), max(size[1], round(width * scale)))
    mask = picture.dtype == bool
    image = Image.fromarray(picture.astype(np.uint8) * 255 if mask else picture)
    if large != (height, width):
        image = image.resize((large[1], large[0]), Image.Resampling.NEAREST if mask else Image.Resampling.LANCZOS)
    top, left = (round(c * (whole - part)) for c, whole, part in zip(corner, large, size, strict=True))
    out = np.asarray(image)[top : top + size[0], left : left + size[1]]
    out = out[:, ::-1] if flip else out
    return np.ascontiguousarray(out > 127 if mask else out)
