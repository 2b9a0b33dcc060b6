# SPDX-License-Identifier: GPL-3.0-or-later
"""RefEdit-Bench (arXiv 2506.03448): 200 pictures of RefCOCO, each with an edit of one thing among its like. Rows 0 to 99 are easy."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ..sample import EditSample
from .reader import BrokenRow, ParquetReader, json_table, picture, sentence, unbracketed

EASY = 100  # rows before the hard ones
PROMPTS = "combined_data_512.json"


class RefEditBench(ParquetReader):
    """`bpathir1/RefEdit-Bench` of the hub: there are no targets.

    The id is the row's number, by which the authors name results. `edit_type` is "easy" or "hard", `mask` the polygon of the thing that is
    meant, filled. `meta["single_instruction"]` says the edit for a picture with that thing only. The two prompts that CLIP's scores need
    are columns (`original_prompt`, `editing_prompt`), or come from the authors' `combined_data_512.json` (row number -> both), if it lies
    beside the parquet file; else the captions are "".

    Args:
        files, cache: see `ParquetReader`.

    Raises:
        DatasetError: as `ParquetReader`, and for a file of prompts that is none.
    """

    name = "refedit_bench"
    source_column = "input_image"
    columns = ("input_image", "editing_instruction", "mask")
    optional = ("edit_instruction_single", "original_prompt", "editing_prompt")

    def __init__(self, files: Path | str | Iterable[Path | str], cache: Path | str | None = None):
        super().__init__(files, cache)
        places = [Path(files)] if isinstance(files, (str, Path)) else [Path(file) for file in files]
        self.prompts = _prompts([place if place.is_dir() else place.parent for place in places])

    def sample(self, index: int, row: Mapping[str, Any]) -> EditSample:
        """See `ParquetReader`."""
        source = picture(row["input_image"], "input_image")
        prompts = {**self.prompts.get(str(index), {}), **{k: row[k] for k in ("original_prompt", "editing_prompt") if row.get(k)}}
        return EditSample(
            id=str(index), dataset=self.name, source=source, instruction=sentence(row["editing_instruction"], "editing_instruction"),
            mask=polygon(row["mask"], source.shape[:2]), edit_type="easy" if index < EASY else "hard",
            source_caption=unbracketed(prompts.get("original_prompt")), target_caption=unbracketed(prompts.get("editing_prompt")),
            meta={"single_instruction": unbracketed(row.get("edit_instruction_single"))},
        )  # fmt: skip


def polygon(value: Any, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool of a mask column: JSON of a list whose first element is [x, y, x, y, ...] in pixels; further ones are not looked at.

    Raises:
        BrokenRow: if it is no such thing.
    """
    try:
        points = json.loads(value)[0] if isinstance(value, str) else value[0]
        flat = [float(x) for x in points]
    except (ValueError, TypeError, LookupError) as error:
        raise BrokenRow(f"no mask: the row has {str(value)[:60]!r}, not a list of polygons") from error
    if len(flat) < 6 or len(flat) % 2 or not all(math.isfinite(x) and abs(x) < 1e6 for x in flat):
        raise BrokenRow(f"no mask: a polygon needs three points or more and has {len(flat)} numbers ({str(flat)[:60]})")
    canvas = Image.new("L", (size[1], size[0]), 0)
    ImageDraw.Draw(canvas).polygon(flat, outline=1, fill=1)
    return np.asarray(canvas) > 0


def _prompts(folders: list[Path]) -> dict[str, dict[str, Any]]:
    file = next((folder / PROMPTS for folder in folders if (folder / PROMPTS).is_file()), None)
    return {} if file is None else json_table(RefEditBench.name, file)
