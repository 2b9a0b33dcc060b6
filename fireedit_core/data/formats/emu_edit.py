# SPDX-License-Identifier: GPL-3.0-or-later
"""The test set of Emu Edit (arXiv 2311.10089), CC-BY-NC-4.0, and its twin with the pictures that Emu Edit made of it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..sample import EditSample
from .reader import DatasetError, ParquetReader, picture, sentence

logger = logging.getLogger("fireedit")

COUNTS = {"validation": 2022, "test": 3589}  # rows of the set
GENERATIONS_COUNTS = {"validation": 3589, "test": 2022}  # the twin was published with the two names exchanged
PLACEHOLDER_CAPTIONS = ("a train station in city",)  # describe no picture of the set


class EmuEdit(ParquetReader):
    """`facebook/emu_edit_test_set` and `facebook/emu_edit_test_set_generations`: instructions and captions, no target and no mask.

    `edit_type` is the task, one of seven words. `meta` has `task`, `split`, `idx`, `hash`, and of the generations `model` and
    `edited_image`, (h, w, 3) uint8 at its own size. The id is split, task and idx, as idx alone comes several times.

    Args:
        files: see `ParquetReader`.
        split: "validation" or "test" by the name of the published file. If given, the number of rows is held against it. Sort results of
            the two sets together by the id, never by this name: it stands for the other rows in the twin.
        drop_identical_captions: leave out rows whose two captions say the same; their CLIP direction is 0 / 0. Compared as CLIP reads
            them, without upper case and doubled spaces; two missing captions are the same.
        drop_placeholder_captions: leave out rows one of whose captions is, letter for letter, one of PLACEHOLDER_CAPTIONS.

    Attributes:
        total: rows in the files. kept: rows that are left, also `len`. dropped: how many each option left out; a row counts once.
        generations: whether the files hold the pictures of a model.

    Raises:
        DatasetError: for an unknown split, a table that by its number of rows is the other split, and as `ParquetReader`.
    """

    name = "emu_edit"
    source_column = "image"
    columns = ("instruction", "image", "task", "split", "idx", "input_caption", "output_caption")
    optional = ("hash", "edited_image", "model")

    def __init__(
        self, files: Path | str | Iterable[Path | str], split: str | None = None, *, drop_identical_captions: bool = False,
        drop_placeholder_captions: bool = False, cache: Path | str | None = None,
    ):  # fmt: skip
        if split is not None and split not in COUNTS:
            raise DatasetError(f"{self.name} has the splits {', '.join(COUNTS)}, not {split!r}")
        super().__init__(files, cache)
        self.generations = "edited_image" in self.table.column_names
        self.total = len(self.table)
        if split is not None:
            self._hold_against(split)
        self.dropped: Counter[str] = Counter()
        if drop_identical_captions or drop_placeholder_captions:
            kept = []
            captions = zip(self.table["input_caption"], self.table["output_caption"])  # of these columns only, no picture is touched
            for number, (before, after) in enumerate(captions):
                if drop_placeholder_captions and (before in PLACEHOLDER_CAPTIONS or after in PLACEHOLDER_CAPTIONS):
                    self.dropped["placeholder captions"] += 1
                elif drop_identical_captions and _as_clip_reads(before) == _as_clip_reads(after):
                    self.dropped["identical captions"] += 1
                else:
                    kept.append(number)
            self.table = self.table.select(kept)
            logger.info("%s: %d of %d rows are kept, left out: %s", self.name, len(kept), self.total, dict(self.dropped))
        self.kept = len(self.table)

    def _hold_against(self, split: str) -> None:
        counts = GENERATIONS_COUNTS if self.generations else COUNTS
        (other,) = set(counts) - {split}
        which = "the generations" if self.generations else "the set"
        if self.total == counts[other]:
            raise DatasetError(
                f"{self.name}: {split} of {which} has {counts[split]} rows; these are {self.total}, so it is {other}. The names of the "
                "splits are exchanged between the set and its generations."
            )
        if self.total != counts[split]:  # a subset of one's own is fine, but its numbers are no one else's
            logger.warning("%s: %d rows, but %s of %s has %d", self.name, self.total, split, which, counts[split])

    def sample(self, index: int, row: Mapping[str, Any]) -> EditSample:
        """See `ParquetReader`. Raises BrokenRow also where a picture of the generations cannot be decoded."""
        meta = {key: row[key] for key in ("task", "split", "idx", "hash", "model") if key in row}
        if self.generations:
            meta["edited_image"] = picture(row["edited_image"], "edited_image")
        return EditSample(
            id=f"{row['split']}-{row['task']}-{row['idx']}", dataset=self.name, source=picture(row["image"], "image"),
            instruction=sentence(row["instruction"]), edit_type=row["task"] or "", source_caption=row["input_caption"] or "",
            target_caption=row["output_caption"] or "", meta=meta,
        )  # fmt: skip


def _as_clip_reads(caption: str | None) -> str:
    return " ".join((caption or "").lower().split())
