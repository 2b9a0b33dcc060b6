# SPDX-License-Identifier: GPL-3.0-or-later
"""MagicBrush (arXiv 2306.10012): train and dev as the hub has them, and the unzipped folder in which the authors hand out val and test.

The authors ask not to pass unzipped files on; nothing of the set is part of this repository.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..sample import EditSample
from .reader import BrokenRow, DatasetError, ParquetReader, Reader, fitted, json_table, mask, picture, picture_size, sentence


class MagicBrushHub(ParquetReader):
    """`osunlp/MagicBrush`: 8,807 rows in train, 528 in dev; from turn 2 on the source is the target of the turn before.

    Args:
        files, cache: see `ParquetReader`.
        transparent: where a mask says "edit here": True at transparent pixels, False at white ones, None: found out for each mask.
    """

    name = "magicbrush"
    source_column = "source_img"
    columns = ("img_id", "turn_index", "source_img", "mask_img", "instruction", "target_img")

    def __init__(
        self, files: Path | str | Iterable[Path | str] | None, cache: Path | str | None = None, transparent: bool | None = None
    ):
        super().__init__(files, cache)
        self.transparent = transparent

    def sample(self, index: int, row: Mapping[str, Any]) -> EditSample:
        """See `ParquetReader`."""
        image, turn = row["img_id"], row["turn_index"]
        if image is None or turn is None:
            raise BrokenRow(f"no img_id or turn_index: the row has {image!r} and {turn!r}")
        source = picture(row["source_img"], "source_img")
        return EditSample(
            id=f"{image}-{turn}", dataset=self.name, source=source, target=fitted(picture(row["target_img"], "target_img"), source),
            instruction=sentence(row["instruction"]), mask=fitted(_edited(row["mask_img"], self.transparent), source), turn=int(turn),
            meta={"session": str(image)},
        )  # fmt: skip


class MagicBrushFolder(Reader):
    """`edit_sessions.json`, `edit_turns.json`, two files of descriptions and `images/<id>/`; a row per turn, as edit_turns.json has them.

    `source_caption` and `target_caption` are the global descriptions; `meta["local_description"]` is that of what the edit brings in,
    which the authors' CLIP-T compares with. Each is "" where the files have none.

    Args:
        root: the folder with the four files ("test" or "val"). transparent: see `MagicBrushHub`.

    Raises:
        DatasetError: if a file is missing or is not what it should be, or the sessions are not the turns.
    """

    name = "magicbrush"

    def __init__(self, root: Path | str, transparent: bool | None = None):
        super().__init__()
        self.root, self.transparent = Path(root), transparent
        sessions = json_table(self.name, self.root / "edit_sessions.json", dict, list)
        self.turns: list[dict[str, Any]] = json_table(self.name, self.root / "edit_turns.json", list, dict)
        self.described = json_table(self.name, self.root / "global_descriptions.json", dict, dict)
        self.locally = json_table(self.name, self.root / "local_descriptions.json", dict, dict)
        if [turn for turns in sessions.values() for turn in turns] != self.turns:
            raise DatasetError(f"{self.name}: the turns of edit_sessions.json are not those of edit_turns.json in {self.root}")
        self.places = [(session, number) for session, turns in sessions.items() for number in range(1, len(turns) + 1)]

    def __len__(self) -> int:
        return len(self.turns)

    @property
    def sessions(self) -> list[list[int]]:
        """The rows of each session, turn by turn."""
        found: dict[str, list[int]] = {}
        for row, (session, _) in enumerate(self.places):
            found.setdefault(session, []).append(row)
        return list(found.values())

    def read(self, index: int) -> EditSample:
        """Row `index`."""
        turn, (session, number) = self.turns[index], self.places[index]
        before, after = turn.get("input"), turn.get("output")
        source = picture(self._file(before, "input"), "input")
        captions = self.described.get(session, {})
        return EditSample(
            id=f"{session}-{number}", dataset=self.name, source=source,
            target=fitted(picture(self._file(after, "output"), "output"), source), instruction=sentence(turn.get("instruction")),
            mask=fitted(_edited(self._file(turn.get("mask"), "mask"), self.transparent), source), turn=number,
            source_caption=captions.get(before) or "", target_caption=captions.get(after) or "",
            meta={"session": session, "local_description": self.locally.get(session, {}).get(after) or ""},
        )  # fmt: skip

    def size(self, index: int) -> tuple[int, int]:
        """See `Reader`."""
        return picture_size(self._file(self.turns[index].get("input"), "input"), "input")

    def _file(self, name: Any, what: str) -> Path:
        """The turns give file names only; the folder is the text before the first '-'."""
        folder = name.split("-", 1)[0] if isinstance(name, str) else ""
        if folder in ("", ".", "..") or Path(name).name != name:
            raise BrokenRow(f"no file name for {what}: {name!r}")
        return self.root / "images" / folder / name


def _edited(value: Any, transparent: bool | None) -> np.ndarray:
    """(H, W) bool of a mask. The card calls the region white; the files are cut-outs of the photo, transparent where the edit is."""
    if transparent is not None:
        return mask(value, "mask", transparent)
    try:
        found = mask(value, "mask", True)
        if found.any():
            return found
    except BrokenRow:  # no alpha channel, or no picture at all: the next line says so
        pass
    spread = np.ptp(picture(value, "mask"), axis=2)
    # white means "edit" in a grey picture only: of a photo without transparency it would be the bright parts
    if (spread > 48).mean() > 0.01:
        raise BrokenRow("no mask: the mask picture is in colour and nothing of it is transparent")
    return mask(value, "mask", False)
