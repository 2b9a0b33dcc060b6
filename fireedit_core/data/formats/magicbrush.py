# SPDX-License-Identifier: GPL-3.0-or-later
"""MagicBrush (arXiv 2306.10012): the hub's train and dev sets, and the unzipped test and val folders of its authors.

Sizes differ inside a pair (500 px and 1024 px, say), so target and mask are brought to the size of the source.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..sample import EditSample
from .reader import BrokenRow, DatasetError, ParquetReader, Reader, fitted, mask, picture, sentence


class MagicBrushHub(ParquetReader):
    """`osunlp/MagicBrush`: train 8807 rows, dev 528. For a second turn the source is the target of the first.

    Args:
        transparent: see `reader.mask`: the masks are met with white and with transparent edit regions.
    """

    name = "magicbrush"
    columns = ("img_id", "turn_index", "source_img", "mask_img", "instruction", "target_img")

    def __init__(self, files: Any, cache: Path | str | None = None, transparent: bool | None = None):
        super().__init__(files, cache)
        self.transparent = transparent

    def sample(self, index: int, row: Mapping[str, Any]) -> EditSample:
        """See `ParquetReader`."""
        source = picture(row["source_img"], "source_img")
        return EditSample(
            id=f"{row['img_id']}-{row['turn_index']}", dataset=self.name, source=source,
            target=fitted(picture(row["target_img"], "target_img"), source),
            mask=fitted(mask(row["mask_img"], "mask_img", self.transparent), source),
            instruction=sentence(row["instruction"]), turn=int(row["turn_index"]),
        )  # fmt: skip


class MagicBrushFolder(Reader):
    """The unzipped folder: edit_sessions.json, edit_turns.json, captions, and images/<id>/<id>-input.png, -mask1.png, -output1.png ...

    One row per turn, in the order of edit_turns.json.

    Attributes:
        sessions: for every picture, the numbers of its rows in the order of the turns.

    Args:
        root: the folder (`test` or `val`). transparent: see `reader.mask`.

    Raises:
        DatasetError: without the two lists, or where they do not say the same.
    """

    name = "magicbrush"

    def __init__(self, root: Path | str, transparent: bool | None = None):
        super().__init__()
        self.root, self.transparent = Path(root), transparent
        sessions = _json(self.root / "edit_sessions.json")
        self.turns: list[dict[str, str]] = _json(self.root / "edit_turns.json")
        if [turn for turns in sessions.values() for turn in turns] != self.turns:
            raise DatasetError(f"{self.name}: the turns of edit_sessions.json and edit_turns.json in {self.root} are not the same")
        self.sessions: list[list[int]] = []
        self._turn: list[int] = []  # of each row, from 1
        for turns in sessions.values():
            self.sessions.append([len(self._turn) + k for k in range(len(turns))])
            self._turn += range(1, len(turns) + 1)
        self._global = _captions(self.root / "global_descriptions.json")
        self._local = _captions(self.root / "local_descriptions.json")

    def __len__(self) -> int:
        return len(self.turns)

    def read(self, index: int) -> EditSample:
        """Row `index`. `meta` has the file names, and `local_description` where there is one: the text of CLIP-T."""
        turn = self.turns[index]
        files = {key: sentence(turn.get(key), f"name of {key}") for key in ("input", "mask", "output")}
        if any(Path(file).name != file for file in files.values()):
            raise BrokenRow(f"a name with a folder: {files}")
        owner = files["input"].split("-")[0]
        place = self.root / "images" / owner
        source = picture(place / files["input"], "input picture")
        described, local = self._global.get(owner, {}), self._local.get(owner, {})
        return EditSample(
            id=f"{owner}-{self._turn[index]}", dataset=self.name, source=source,
            target=fitted(picture(place / files["output"], "output picture"), source),
            mask=fitted(mask(place / files["mask"], "mask picture", self.transparent), source),
            instruction=sentence(turn.get("instruction")), turn=self._turn[index],
            source_caption=described.get(files["input"], ""), target_caption=described.get(files["output"], ""),
            meta={**files, "local_description": local.get(files["output"], "")},
        )  # fmt: skip


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise DatasetError(f"magicbrush: {path} cannot be read ({error})") from error


def _captions(path: Path) -> dict[str, dict[str, str]]:
    return _json(path) if path.is_file() else {}  # the train set has none
