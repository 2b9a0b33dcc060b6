# SPDX-License-Identifier: GPL-3.0-or-later
"""LLaVA-Instruct-150k (arXiv 2304.08485): conversations about COCO pictures. They keep the language model able to talk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..sample import EditSample
from .reader import BrokenRow, DatasetError, Reader, inside, picture, picture_size

PLACEHOLDER = "<image>"
SPEAKERS = ("human", "gpt")


class LlavaInstruct(Reader):
    """`llava_instruct_150k.json`: a list of {id, image, conversations: [{from, value}]}. There is no edit: `target` is None.

    The id is that of the file and the number of the row, as the published file has up to three rows of one picture under one id.

    Args:
        file: the json. pictures: folder of the COCO pictures that it names.

    Raises:
        DatasetError: if the file cannot be read.
    """

    name = "llava"

    def __init__(self, file: Path | str, pictures: Path | str):
        super().__init__()
        self.pictures = Path(pictures)
        try:
            self.rows = json.loads(Path(file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:  # no JSON, or no UTF-8
            raise DatasetError(f"{self.name}: {file} cannot be read ({error})") from error
        if not isinstance(self.rows, list):
            raise DatasetError(f"{self.name}: {file} is no list of conversations")

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> EditSample:
        """Row `index`. The placeholder of the picture stands once, at the front of the first turn, wherever it was."""
        row = self.rows[index]
        if not isinstance(row, dict):
            raise BrokenRow(f"no conversation: row {index} is {type(row).__name__}")
        listed = row.get("conversations")
        if not isinstance(listed, list) or not listed or not all(isinstance(turn, dict) for turn in listed):
            raise BrokenRow(f"no conversation: {row.get('id')}")
        turns = [(turn.get("from"), turn.get("value")) for turn in listed]
        if any(speaker not in SPEAKERS for speaker, _ in turns) or turns[0][0] != "human":
            raise BrokenRow(f"unknown speakers: {row.get('id')} has {[speaker for speaker, _ in turns]}")
        said = [(speaker, text.replace(PLACEHOLDER, "").strip() if isinstance(text, str) else "") for speaker, text in turns]
        if not all(text for _, text in said):
            raise BrokenRow(f"empty turn: {row.get('id')}")
        said[0] = ("human", f"{PLACEHOLDER}\n{said[0][1]}")
        source = picture(self._picture(row))
        name = f"{row.get('id', '')}-{index:06d}"
        return EditSample(id=name, dataset=self.name, source=source, instruction="", conversation=tuple(said))

    def size(self, index: int) -> tuple[int, int]:
        """See `Reader`."""
        row = self.rows[index]
        return picture_size(self._picture(row if isinstance(row, dict) else {}))

    def _picture(self, row: dict[str, Any]) -> Path:
        return inside(self.pictures, row.get("image"))
