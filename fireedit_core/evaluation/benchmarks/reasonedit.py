# SPDX-License-Identifier: GPL-3.0-or-later
"""Reason-Edit by SmartEdit's test/metrics_evaluation.py: five categories of understanding together, reasoning apart.

The authors pair results, pictures, masks and lines by the order of their file names; here a result is
`<category>/<name of the picture>.png`, and a mask belongs to the picture of its name, which is the same where numbers have leading zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ...data.formats import BrokenRow
from ...data.formats.reader import sentence
from ...data.formats.reasonedit import CATEGORIES, ReasonEditBench
from .benchmark import Benchmark, Case, Edit, Trial, checked_key, opened
from .profiles import Profile

SIDE = 256
VIEWS = {"understanding": CATEGORIES[:5], "reasoning": CATEGORIES[5:]}


class ReasonEditTest(Benchmark):
    """The benchmark's folders, see `ReasonEditBench`; a table for each of VIEWS that is there, an edit counts in its category."""

    name = "reasonedit-bench"
    titles = {"understanding": "Reason-Edit, understanding", "reasoning": "Reason-Edit, reasoning"}

    def __init__(self, data: Path | str):
        self.reader = ReasonEditBench(data)
        there = {category for category, *_ in self.reader.rows}
        self.views = tuple(view for view, categories in VIEWS.items() if there & set(categories))

    def edits(self, views: Sequence[str]) -> list[Edit]:
        """See `Benchmark`."""
        lines = {row: self.reader.rows[row][3].partition("CLIP:")[0] for view in views for row in self._rows(view)}
        return [Edit(key=self._key(row), instruction=line, row=row) for row, line in lines.items()]

    def trials(self, view: str) -> list[Trial]:
        """See `Benchmark`."""
        return [Trial(key=self._key(row), row=row, task=self.reader.rows[row][0]) for row in self._rows(view)]

    def source_file(self, row: int) -> Path:
        """See `Benchmark`."""
        return self.reader.rows[row][1]

    def case(self, trial: Trial, profile: Profile) -> Case:
        """See `Benchmark`. The mask keeps the grey values of its JPEG file, with which the authors multiply."""
        _, shown, painted, line = self.reader.rows[trial.row]
        instruction, found, caption = line.partition("CLIP:")
        if not found:
            raise BrokenRow(f"no CLIP text: the line for {shown} is {line!r}")
        source = self.seen(opened(shown, "source"))
        mask = np.asarray(opened(painted, "mask").convert("L").resize((SIDE, SIDE), Image.Resampling.NEAREST), np.float32) / 255
        return Case(
            instruction=sentence(instruction), source=source, reference=source, mask=mask, caption=sentence(caption, "CLIP text")
        )

    def seen(self, edit: Image.Image) -> Image.Image:
        """256 x 256."""
        return edit.resize((SIDE, SIDE), Image.Resampling.BICUBIC)

    def _rows(self, view: str) -> list[int]:
        return [row for row, (category, *_) in enumerate(self.reader.rows) if category in VIEWS[view]]

    def _key(self, row: int) -> str:
        category, shown, *_ = self.reader.rows[row]
        return checked_key(f"{category}/{shown.stem}")
