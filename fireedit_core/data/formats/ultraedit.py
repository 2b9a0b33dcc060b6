# SPDX-License-Identifier: GPL-3.0-or-later
"""UltraEdit (arXiv 2407.05282) as the hub has it: UltraEdit, UltraEdit_500k and UltraEdit_Region_Based_100k."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..sample import EditSample
from .reader import DatasetError, ParquetReader, fitted, mask, picture, sentence

SCORES = ("clip_sim_source", "clip_sim_target", "clip_sim_dir", "clip_sim_image", "dinov2_sim", "ssim")


class UltraEdit(ParquetReader):
    """Free-form rows have no mask, region-based ones do; shards of one reader are of one kind.

    The scores, `idx` and `edit_object` are in `meta`, as far as the row has them. Ids are numbers in the files, whatever `minimum` leaves.

    Args:
        files, cache: see `ParquetReader`.
        minimum: the least score by column, e.g. {"clip_sim_dir": 0.2}; rows below, or without that score, are no rows of this reader.

    Attributes:
        dropped: how many rows `minimum` left out.

    Raises:
        DatasetError: also if `minimum` names no score, or one that the files do not have.
    """

    name = "ultraedit"
    source_column = "source_image"
    columns = ("source_image", "edited_image", "edit_prompt")
    optional = ("source_caption", "target_caption", "idx", "edit_object", "mask_image", *SCORES)

    def __init__(
        self, files: Path | str | Iterable[Path | str] | None, cache: Path | str | None = None, minimum: Mapping[str, float] | None = None
    ):
        self.minimum = dict(minimum or {})
        for column in self.minimum:
            if column not in SCORES:
                raise DatasetError(f"{self.name} has the scores {', '.join(SCORES)}, not {column!r}")
        super().__init__(files, cache)
        self.rows = np.arange(len(self))
        self.dropped = 0
        if self.table is None:
            return
        for column, least in self.minimum.items():
            if column not in self.table.column_names:
                raise DatasetError(f"{self.name}: the files have no column {column}")
            # the column as Arrow keeps it: no picture is touched; a missing score becomes NaN, which is not >= anything
            scores = self.table.data.column(column).cast("float64").to_numpy()
            self.rows = self.rows[scores[self.rows] >= least]
        self.dropped = len(self.table) - len(self.rows)
        if self.dropped:
            self.table = self.table.select(self.rows)

    def keeps(self, row: Mapping[str, Any]) -> bool:
        """See `ParquetReader`."""
        scores = {column: row.get(column) for column in self.minimum}
        return all(score is not None and score >= self.minimum[column] for column, score in scores.items())

    def sample(self, index: int, row: Mapping[str, Any]) -> EditSample:
        """See `ParquetReader`."""
        source = picture(row["source_image"], "source_image")
        meta = {key: row[key] for key in (*SCORES, "idx", "edit_object") if row.get(key) is not None}
        return EditSample(
            id=f"{index if self.table is None else self.rows[index]:08d}", dataset=self.name, source=source,
            target=fitted(picture(row["edited_image"], "edited_image"), source), instruction=sentence(row["edit_prompt"]),
            mask=_edited(row.get("mask_image"), source), source_caption=row.get("source_caption") or "",
            target_caption=row.get("target_caption") or "", meta=meta,
        )  # fmt: skip


def _edited(value: Any, source: np.ndarray) -> np.ndarray | None:
    """(H, W) bool, True where the mask is white; None for no mask, of which the set has three kinds besides the missing column."""
    if value is None or value == "NONE" or (isinstance(value, Mapping) and not value.get("bytes") and not value.get("path")):
        return None
    white = mask(value, "mask_image", transparent=False)
    return None if white.all() else fitted(white, source)
