# SPDX-License-Identifier: GPL-3.0-or-later
"""RefEdit-Bench by the masked metrics of its authors; results are `<row>.png`, in a folder `refedit_bench` or not. Easy and hard apart.

The authors' script crops a result that is not square as PIE-Bench's does, for its own sheets. Here a result is scaled to 512 x 512, as
the sources are not square and a crop would compare other parts of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ...data.formats.refedit_bench import EASY, RefEditBench
from .benchmark import Benchmark, Case, Edit, Trial
from .profiles import Profile

SIDE = 512


class RefEditBenchTest(Benchmark):
    """The hub's parquet file."""

    name = "refedit-bench"
    titles = {"all": "RefEdit-Bench"}
    counts = {"all": 200}
    folder = "refedit_bench"

    def __init__(self, data: Path | str, cache: Path | str | None = None):
        self.reader = RefEditBench(data, cache)

    def edits(self, views: Sequence[str]) -> list[Edit]:
        """See `Benchmark`."""
        said = self.reader.table.select_columns(["editing_instruction"]).to_dict()["editing_instruction"]
        return [Edit(key=str(row), instruction=text, row=row) for row, text in enumerate(said)]

    def trials(self, view: str) -> list[Trial]:
        """See `Benchmark`."""
        return [Trial(key=str(row), row=row, task="easy" if row < EASY else "hard") for row in range(len(self.reader))]

    def case(self, trial: Trial, profile: Profile) -> Case:
        """See `Benchmark`."""
        sample = self.reader.read(trial.row)
        source = self.seen(Image.fromarray(sample.source))
        return Case(
            instruction=sample.instruction, source=source, reference=source, mask=scorer_mask(sample.mask), caption=sample.target_caption,
            source_caption=sample.source_caption, target_caption=sample.target_caption,
        )  # fmt: skip

    def seen(self, edit: Image.Image) -> Image.Image:
        """512 x 512."""
        return edit if edit.size == (SIDE, SIDE) else edit.resize((SIDE, SIDE), Image.Resampling.BILINEAR)


def scorer_mask(mask: np.ndarray) -> np.ndarray:
    """(512, 512) bool of the polygon (H, W) bool as the scorer uses it: scaled, dilated by 15 x 15, the border set."""
    try:
        import cv2  # comes with ultralytics; its rounding of masks is its own, so nothing else gives the authors' mask
    except ImportError as error:
        raise ValueError("the masks of RefEdit-Bench need OpenCV: pip install opencv-python-headless") from error

    kernel = np.ones((15, 15), np.uint8)
    found = cv2.dilate(cv2.resize(mask.astype(np.uint8), (SIDE, SIDE)), kernel, iterations=1) > 0
    found[[0, -1], :] = found[:, [0, -1]] = True
    return found
