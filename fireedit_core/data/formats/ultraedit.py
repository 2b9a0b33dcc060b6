# SPDX-License-Identifier: GPL-3.0-or-later
"""UltraEdit (arXiv 2407.05282): the three sets of the hub, free-form and region-based, with their quality scores."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..sample import EditSample
from .reader import DatasetError, ParquetReader, fitted, mask, picture, sentence

logger = logging.getLogger("fireedit")

SCORES = ("clip_sim_source", "clip_sim_target", "clip_sim_dir", "clip_sim_image", "dinov2_sim", "ssim")


class UltraEdit(ParquetReader):
    """`BleachNick/UltraEdit`, `UltraEdit_500k` and `UltraEdit_Region_Based_100k`. Only the last has masks (white is edited).

    Args:
        minimum: score -> least value; rows below are dropped before a picture is opened. See SCORES.

    Attributes:
        dropped: how many rows the scores left out.

    Raises:
        DatasetError: for a score that there is not.
    """

    name = "ultraedit"
    columns = ("source_image", "edited_image", "edit_prompt")
    optional = ("source_caption", "target_caption", "idx", "edit_object", "mask_image", *SCORES)

    def __init__(self, files: Any, cache: Path | str | None = None, minimum: Mapping[str, float] | None = None):
        super().__init__(files, cache)
        minimum = dict(minimum or {})
        unknown = [score for score in minimum if score not in SCORES or score not in self.table.column_names]
        if unknown:
            raise DatasetError(f"{self.name}: there is no score {', '.join(unknown)}; choose from {', '.join(SCORES)}")
        whole = len(self.table)
        if minimum:
            good = np.ones(whole, bool)
            for score, least in minimum.items():
                # an empty score is no promise of quality
                good &= np.array([value is not None and value >= least for value in self.table[score]], bool)
            self.table = self.table.select(np.flatnonzero(good))
        self.dropped = whole - len(self.table)
        if self.dropped:
            logger.info("%s: %d of %d rows are below the scores asked for", self.name, self.dropped, whole)

    def sample(self, index: int, row: Mapping[str, Any]) -> EditSample:
        """See `ParquetReader`. `meta` has the scores and the name of the edited object."""
        source = picture(row["source_image"], "source_image")
        return EditSample(
            id=f"{row.get('idx') or 'row'}-{index}", dataset=self.name, source=source,
            target=fitted(picture(row["edited_image"], "edited_image"), source), mask=_region(row.get("mask_image"), source),
            instruction=sentence(row["edit_prompt"]), source_caption=row.get("source_caption") or "",
            target_caption=row.get("target_caption") or "",
            meta={score: row[score] for score in SCORES if row.get(score) is not None} | {"edit_object": row.get("edit_object") or ""},
        )  # fmt: skip


def _region(value: Any, source: np.ndarray) -> np.ndarray | None:
    """The mask, or None: absent, the word "NONE" of older files, and all white all mean free-form."""
    if value is None or value == "NONE" or (isinstance(value, Mapping) and not (value.get("bytes") or value.get("path"))):
        return None
    found = fitted(mask(value, "mask_image", transparent=False), source)
    return None if bool(found.all()) else found
