# SPDX-License-Identifier: GPL-3.0-or-later
"""PIE-Bench (PnP Inversion, arXiv 2310.01506): 700 pictures of 512 x 512 with masks by hand, ten types of edit; behind a form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..sample import EditSample
from .reader import BrokenRow, Reader, inside, json_table, picture, picture_size, sentence, unbracketed

MAPPING, PICTURES = "mapping_file.json", "annotation_images"
SIDE = 512
TYPES = {
    "0": "random", "1": "change object", "2": "add object", "3": "delete object", "4": "change content", "5": "change pose",
    "6": "change colour", "7": "change material", "8": "change background", "9": "change style",
}  # fmt: skip


class PieBench(Reader):
    """`mapping_file.json` (12 digits -> a row) and `annotation_images/`. There are no targets.

    `edit_type` is one of the words in TYPES. The prompts come without the brackets around the words that change. `mask` is as the
    benchmark's own scorer reads it, the outermost pixels always in it. `meta` has `image_path` (below annotation_images), `type_id` and
    `blended_word`.

    Args:
        root: the folder with both.

    Raises:
        DatasetError: if the mapping file is missing or is no object of objects.
    """

    name = "pie_bench"

    def __init__(self, root: Path | str):
        super().__init__()
        self.root = Path(root)
        self.rows: list[tuple[str, dict[str, Any]]] = list(json_table(self.name, self.root / MAPPING).items())

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> EditSample:
        """Row `index`."""
        key, row = self.rows[index]
        source = picture(self.file(index))
        if source.shape[:2] != (SIDE, SIDE):
            raise BrokenRow(f"unexpected size: {key} is {source.shape[1]} x {source.shape[0]}, and its mask {SIDE} x {SIDE}")
        type_id = str(row.get("editing_type_id"))
        return EditSample(
            id=key, dataset=self.name, source=source, instruction=sentence(row.get("editing_instruction")),
            mask=run_lengths(row.get("mask")), edit_type=TYPES.get(type_id, type_id),
            source_caption=unbracketed(row.get("original_prompt")), target_caption=unbracketed(row.get("editing_prompt")),
            meta={"image_path": row["image_path"], "type_id": type_id, "blended_word": row.get("blended_word") or ""},
        )  # fmt: skip

    def file(self, index: int) -> Path:
        """The picture of row `index`. Raises BrokenRow for a name that leaves the folder."""
        return inside(self.root / PICTURES, self.rows[index][1].get("image_path"))

    def size(self, index: int) -> tuple[int, int]:
        """See `Reader`."""
        return picture_size(self.file(index))


def run_lengths(runs: Any) -> np.ndarray:
    """(512, 512) bool of [start, length, start, length, ...] over the rows of the picture; the outermost pixels are set.

    A run that leaves the picture is cut off, as the benchmark's scorer does it. Raises BrokenRow for anything that is no such list.
    """
    numbers = isinstance(runs, list) and all(isinstance(x, int) and not isinstance(x, bool) and x >= 0 for x in runs)
    if not numbers or len(runs) % 2 or any(start >= SIDE * SIDE for start in runs[::2]):
        raise BrokenRow(f"no mask: the row has {str(runs)[:60]}, not [start, length, ...] within {SIDE} x {SIDE} pixels")
    flat = np.zeros(SIDE * SIDE, bool)
    for start, length in zip(runs[::2], runs[1::2]):
        flat[start : start + length] = True
    found = flat.reshape(SIDE, SIDE)
    found[[0, -1], :] = found[:, [0, -1]] = True  # the annotators' tool left the border out
    return found

