# SPDX-License-Identifier: GPL-3.0-or-later
"""How families of chat models write boxes. A box of ours is x1, y1, x2, y2 in pixels of the picture; theirs is something else.

    family        model_type                           a box is
    Qwen2-VL      qwen2_vl                             0..1000 of the picture's width and height
    Qwen2.5-VL    qwen2_5_vl                           pixels of the picture as the model sees it: resized to whole patches
    Qwen3-VL      qwen3_vl, qwen3_vl_moe               0..1000
    all others    SmolVLM2, LLaVA ...                  nothing that can be relied on: numbered marks only

Sources: the model cards and QwenLM/Qwen3-VL issues 676, 866, 1486. Florence-2 has words for places (`<loc_0>`..`<loc_999>`), which its own
processor reads, see `florence.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Size = tuple[int, int]  # (height, width)

_SLACK = 0.02  # of a side by which a model's box may stick out before it is held for another dialect


@dataclass(frozen=True)
class Dialect:
    """How one family writes boxes.

    Attributes:
        name: for reports. grid: a box counts from 0 to this, whatever the picture's size; 0: it counts pixels of the picture as the model
            sees it. boxes: whether the family writes boxes at all.
    """

    name: str
    grid: int = 0
    boxes: bool = True

    def limits(self, seen: Size) -> tuple[int, int]:
        """The largest x and y of a box. seen: (height, width) of the picture as the model sees it."""
        return (self.grid, self.grid) if self.grid else (seen[1], seen[0])

    def write(self, box: Sequence[float], size: Size, seen: Size) -> list[int]:
        """A box x1, y1, x2, y2 in pixels of a picture of `size` = (height, width) as the model writes it, in whole numbers."""
        across, down = self.limits(seen)
        ratios = (across / size[1], down / size[0]) * 2
        return [min(max(round(value * ratio), 0), end) for value, ratio, end in zip(box, ratios, (across, down) * 2, strict=True)]

    def read(self, box: Sequence[float], size: Size, seen: Size) -> tuple[float, float, float, float]:
        """Four finite numbers of a model as x1, y1, x2, y2 in pixels of the picture, cut to it.

        Raises:
            ValueError: for an inverted or empty box, and one that lies outside and so is of another dialect.
        """
        across, down = self.limits(seen)
        x1, y1, x2, y2 = box
        if x2 <= x1 or y2 <= y1:
            raise ValueError(f"the box {_short(box)} is not [left, top, right, bottom] with right > left and bottom > top")
        slack_x, slack_y = _SLACK * across, _SLACK * down
        if x1 < -slack_x or y1 < -slack_y or x2 > across + slack_x or y2 > down + slack_y:
            raise ValueError(f"the box {_short(box)} lies outside: x goes from 0 to {across}, y from 0 to {down}")
        made = tuple(
            min(max(value * ratio, 0.0), float(side))
            for value, ratio, side in zip(box, (size[1] / across, size[0] / down) * 2, (size[1], size[0]) * 2, strict=True)
        )
        if made[2] <= made[0] or made[3] <= made[1]:
            raise ValueError(f"the box {_short(box)} is empty in the picture")
        return made

    def says(self, seen: Size) -> str:
        """What a prompt says about boxes."""
        across, down = self.limits(seen)
        if self.grid:
            return f"[left, top, right, bottom] in whole numbers from 0 to {self.grid}, relative to the picture's width and height"
        return f"[left, top, right, bottom] in pixels of the picture, which is {across} wide and {down} high"


PER_MILLE = Dialect("0..1000", grid=1000)
PIXELS = Dialect("pixels of the picture as seen")
MARKS = Dialect("marks", boxes=False)

_FAMILIES = {"qwen2_vl": PER_MILLE, "qwen2_5_vl": PIXELS, "qwen3_vl": PER_MILLE, "qwen3_vl_moe": PER_MILLE}


def dialect_of(model_type: str) -> Dialect:
    """The dialect of a `model_type` of transformers' config.json; `MARKS` for families that are not known to write boxes."""
    return _FAMILIES.get(model_type, MARKS)


def _short(box: Sequence[float]) -> str:
    return f"[{', '.join(f'{float(value):g}' for value in box)}]"
