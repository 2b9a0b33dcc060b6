# SPDX-License-Identifier: GPL-3.0-or-later
"""Emu Edit's test set (7 tasks, no targets): edits are compared with the source, or with what Emu Edit itself made.

The set has no naming of its own for results; here it is `<split>-<task>-<idx>.png`, the three columns that name a row together. The
generations were published with the names of the splits exchanged, so files are taken by their number of rows, not by their names.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ...data.formats import DatasetError
from ...data.formats.emu_edit import COUNTS, GENERATIONS_COUNTS, EmuEdit
from ...data.sample import EditSample
from .benchmark import Benchmark, Case, Edit, Trial, checked_key
from .profiles import Profile

logger = logging.getLogger("fireedit")


class EmuEditTest(Benchmark):
    """Parquet files of the set or of its generations.

    Args:
        data: the folder (or one file). split: "test" (3589 rows) or "validation" (2022) of the set, whatever the generations call it.
        profile: its reader options leave rows out. cache: see `ParquetReader`.
    """

    name = "emu"
    titles = {"all": "Emu Edit test"}

    def __init__(self, data: Path | str, split: str = "test", profile: Profile | None = None, cache: Path | str | None = None):
        if split not in COUNTS:
            raise DatasetError(f"emu has the splits {', '.join(COUNTS)}, not {split!r}")
        files, published = _files(Path(data), split)
        options = {option: True for option in (profile.reader if profile else ())}
        self.reader = EmuEdit(files, published, cache=cache, **options)
        self.counts = {"all": COUNTS[split]} if not options else {}
        columns = self.reader.table.select_columns(["split", "task", "idx", "instruction"]).to_dict()
        self.keys, self.tasks, self.instructions = [], columns["task"], columns["instruction"]
        for parts in zip(columns["split"], columns["task"], columns["idx"]):
            self.keys.append(checked_key("{}-{}-{}".format(*parts)))
        twice = len(self.keys) - len(set(self.keys))
        if twice:
            logger.warning("emu: %d rows share split, task and idx with another one; their results share a file", twice)

    def edits(self, views: Sequence[str]) -> list[Edit]:
        """See `Benchmark`; a key that comes again is asked for once."""
        first = {key: row for row, key in reversed(list(enumerate(self.keys)))}
        return [Edit(key=key, instruction=self.instructions[row], row=row) for key, row in sorted(first.items(), key=lambda x: x[1])]

    def trials(self, view: str) -> list[Trial]:
        """See `Benchmark`."""
        return [Trial(key=key, row=row, task=self.tasks[row] or "") for row, key in enumerate(self.keys)]

    def case(self, trial: Trial, profile: Profile) -> Case:
        """See `Benchmark`."""
        sample: EditSample = self.reader.read(trial.row)
        source = Image.fromarray(sample.source)
        reference = source
        if profile.reference == "edited_image":
            if not self.reader.generations:
                raise DatasetError(f"{profile.name} compares with Emu Edit's own pictures: give --data the set of generations")
            reference = Image.fromarray(sample.meta["edited_image"])
        return Case(
            instruction=sample.instruction, source=source, reference=reference, caption=sample.target_caption,
            source_caption=sample.source_caption, target_caption=sample.target_caption,
        )  # fmt: skip

    def refused(self, edit: Image.Image, profile: Profile) -> str | None:
        """AnyEdit's script leaves out what a model's safety filter has blacked out."""
        return "all-black edit" if profile.reference == "edited_image" and not np.asarray(edit).any() else None


def _files(data: Path, split: str) -> tuple[list[Path], str]:
    """The parquet files of a split of the set, and the name under which they were published."""
    import pyarrow.parquet

    files = sorted(data.rglob("*.parquet")) if data.is_dir() else [data]
    if not files or not files[0].is_file():
        raise DatasetError(f"emu: no parquet files at {data}; --data is the folder of facebook/emu_edit_test_set (or ..._generations)")
    try:
        generations = "edited_image" in pyarrow.parquet.read_schema(files[0]).names
    except (OSError, pyarrow.ArrowException) as error:
        raise DatasetError(f"emu: {files[0]} cannot be read ({error})") from error
    counts = GENERATIONS_COUNTS if generations else COUNTS
    published = next(name for name, rows in counts.items() if rows == COUNTS[split])
    groups: dict[str, list[Path]] = {}
    for file in files:
        name = file.name.split("-", 1)[0]
        groups.setdefault(name if name in COUNTS else "", []).append(file)
    rows = {name: sum(pyarrow.parquet.read_metadata(file).num_rows for file in own) for name, own in groups.items()}
    whole = [name for name, number in rows.items() if number == COUNTS[split]]
    if len(whole) == 1:
        return groups[whole[0]], published
    if len(groups) == 1:  # one's own subset, or the other split under this name: the reader says which
        return files, published
    if published in groups:
        return groups[published], published
    found = ", ".join(f"{name or 'other files'} ({number} rows)" for name, number in rows.items())
    raise DatasetError(
        f"emu: {data} has {found}; which of them is {split} of "
        f"the set ({COUNTS[split]} rows)? Give one folder or file"
    )
