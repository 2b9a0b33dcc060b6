# SPDX-License-Identifier: GPL-3.0-or-later
"""PIE-Bench by its authors' evaluation/evaluate.py: results lie as `annotation_images/<image_path>`, like the sources."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from PIL import Image

from ...data.formats import BrokenRow, DatasetError
from ...data.formats.pie_bench import PICTURES, SIDE, TYPES, PieBench
from .benchmark import Benchmark, Case, Edit, Trial, checked_key
from .profiles import Profile


class PieBenchTest(Benchmark):
    """`mapping_file.json` and `annotation_images/`; an edit counts in the group of its type."""

    name = "pie-bench"
    titles = {"all": "PIE-Bench"}
    counts = {"all": 700}
    folder = PICTURES

    def __init__(self, data: Path | str):
        self.reader = PieBench(data)
        self.keys = [self._key(row) for row in range(len(self.reader))]

    def edits(self, views: Sequence[str]) -> list[Edit]:
        """See `Benchmark`."""
        rows = self.reader.rows
        return [Edit(key=key, instruction=rows[row][1].get("editing_instruction"), row=row) for row, key in enumerate(self.keys)]

    def trials(self, view: str) -> list[Trial]:
        """See `Benchmark`."""
        kinds = [str(row.get("editing_type_id")) for _, row in self.reader.rows]
        return [Trial(key=key, row=row, task=TYPES.get(kinds[row], kinds[row])) for row, key in enumerate(self.keys)]

    def source_file(self, row: int) -> Path:
        """See `Benchmark`."""
        return self.reader.file(row)

    def case(self, trial: Trial, profile: Profile) -> Case:
        """See `Benchmark`. The mask goes to the metrics of the background, the prompt to the CLIP scores."""
        sample = self.reader.read(trial.row)
        source = Image.fromarray(sample.source)
        return Case(
            instruction=sample.instruction, source=source, reference=source, mask=sample.mask, caption=sample.target_caption,
            source_caption=sample.source_caption, target_caption=sample.target_caption,
        )  # fmt: skip

    def seen(self, edit: Image.Image) -> Image.Image:
        """512 x 512: of a picture that is not square the lower right end, as the authors' sheets hold the result there."""
        width, height = edit.size
        if width != height and min(width, height) >= SIDE:
            return edit.crop((width - SIDE, height - SIDE, width, height))
        return edit if edit.size == (SIDE, SIDE) else edit.resize((SIDE, SIDE), Image.Resampling.BICUBIC)

    def _key(self, row: int) -> str:
        path = self.reader.rows[row][1].get("image_path")
        try:
            return checked_key(f"{PICTURES}/{PurePosixPath(path).with_suffix('')}")
        except (BrokenRow, TypeError, ValueError) as error:
            raise DatasetError(f"pie-bench: row {self.reader.rows[row][0]} has no usable image_path: {path!r}") from error
