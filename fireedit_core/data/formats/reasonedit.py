# SPDX-License-Identifier: GPL-3.0-or-later
"""SmartEdit (arXiv 2312.06739): its synthetic training pairs, and the Reason-Edit benchmark."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ..sample import EditSample
from .reader import BrokenRow, DatasetError, Reader, fitted, json_table, mask, picture, picture_size, sentence

INFO = "SyntheticData_info_new.json"
CATEGORIES = ("Left-Right", "Relative-Size", "Mirror", "Color", "Multiple-Objects", "Reasoning")
# "1-Left-Right", "6-Reasoning" and "Reasoning-231115" are all in use
FOLDER = re.compile(rf"(?:\d+-)?({'|'.join(CATEGORIES)})(?:-\d+)?")


class ReasonEditTrain(Reader):
    """A JSON file of pairs: "0000" -> `origin_img_path`, `target_img_path` and a list of instructions that say the same.

    Rows are in the order of the keys. Which instruction is taken is the epoch's choice: `choose` moves to the next one.

    Args:
        file: the JSON file, or the folder with SyntheticData_info_new.json. Paths in it are relative to its folder and do not leave it.

    Raises:
        DatasetError: if the file is missing or holds no such object.
    """

    name = "reasonedit"

    def __init__(self, file: Path | str):
        super().__init__()
        file = Path(file) / INFO if Path(file).is_dir() else Path(file)
        self.root, self.epoch = file.parent, 0
        self.pairs: list[tuple[str, dict[str, Any]]] = sorted(json_table(self.name, file).items())

    def __len__(self) -> int:
        return len(self.pairs)

    def choose(self, epoch: int) -> None:
        """Take the instruction number `epoch` of each pair, counted around."""
        self.epoch = epoch

    def read(self, index: int) -> EditSample:
        """Row `index`."""
        key, pair = self.pairs[index]
        instructions = pair.get("instruction")
        if not isinstance(instructions, list) or not instructions:
            raise BrokenRow(f"no instruction: {key} has {instructions!r}")
        taken = self.epoch % len(instructions)
        source = picture(self._file(pair, "origin_img_path"), "origin picture")
        return EditSample(
            id=f"{key}/{taken}", dataset=self.name, source=source, instruction=sentence(instructions[taken]),
            target=fitted(picture(self._file(pair, "target_img_path"), "target picture"), source),
        )  # fmt: skip

    def size(self, index: int) -> tuple[int, int]:
        """See `Reader`."""
        return picture_size(self._file(self.pairs[index][1], "origin_img_path"), "origin picture")

    def _file(self, pair: dict[str, Any], key: str) -> Path:
        given = pair.get(key)
        if not isinstance(given, str) or not given:
            raise BrokenRow(f"no {key}: the row has {given!r}")
        # by the path's words: a link that the user has set inside the folder is followed
        file, root = os.path.abspath(self.root / given), os.path.abspath(self.root)
        if not Path(file).is_relative_to(root):
            raise BrokenRow(f"path outside the dataset: {key} is {given!r}")
        return Path(file)


class ReasonEditBench(Reader):
    """Folders by category, each with pictures, masks and a text file of lines `<instruction> CLIP: <target text>`. There are no targets.

    `edit_type` is the category, `target_caption` the text behind `CLIP:`, with which the crop at the mask is compared.

    Args:
        root: the folder of the categories. Those that are not there are left out.

    Raises:
        DatasetError: if there is no category, one has two folders, or pictures, masks and lines of a folder are not equally many.
    """

    name = "reasonedit_bench"

    def __init__(self, root: Path | str):
        super().__init__()
        self.root = Path(root)
        folders: dict[str, Path] = {}
        for folder in sorted(self.root.iterdir()) if self.root.is_dir() else ():
            found = FOLDER.fullmatch(folder.name) if folder.is_dir() else None
            if found and found[1] in folders:
                raise DatasetError(f"{self.name}: {folders[found[1]]} and {folder} are both {found[1]}; remove one")
            if found:
                folders[found[1]] = folder
        if not folders:
            raise DatasetError(f"{self.name}: {self.root} has no folder like 1-Left-Right, for any of {', '.join(CATEGORIES)}")
        self.rows: list[tuple[str, Path, Path, str]] = [  # category, picture, mask, line
            (category, *row) for category in CATEGORIES if category in folders for row in _rows(folders[category])
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> EditSample:
        """Row `index`."""
        category, shown, edited, line = self.rows[index]
        instruction, found, caption = line.partition("CLIP:")
        if not found:
            raise BrokenRow(f"no CLIP text: the line for {shown} is {line!r}")
        source = picture(shown)
        return EditSample(
            id=f"{category}/{shown.stem}", dataset=self.name, source=source, instruction=sentence(instruction), edit_type=category,
            mask=fitted(mask(edited, "mask", transparent=False), source), target_caption=sentence(caption, "CLIP text"),
        )  # fmt: skip

    def size(self, index: int) -> tuple[int, int]:
        """See `Reader`."""
        return picture_size(self.rows[index][1])


def _rows(folder: Path) -> list[tuple[Path, Path, str]]:
    """Picture, mask and line of each row of a category."""
    # names with a dot in front are leftovers of a Mac's archive, not pictures
    pictures = [file for file in sorted(folder.glob("*.png")) if not file.name.startswith(".")]
    masks = [file for file in sorted(folder.glob("*_mask.jpg")) if not file.name.startswith(".")]
    texts = [file for file in sorted(folder.glob("*.txt")) if not file.name.startswith(".")]
    if len(texts) != 1:
        raise DatasetError(f"reasonedit_bench: {folder} should have one text file, not {len(texts)}")
    try:
        lines = [line for line in texts[0].read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    except UnicodeDecodeError as error:
        raise DatasetError(f"reasonedit_bench: {texts[0]} is no UTF-8 text ({error})") from error
    if not len(pictures) == len(masks) == len(lines):
        raise DatasetError(f"reasonedit_bench: {folder} has {len(pictures)} pictures, {len(masks)} masks and {len(lines)} lines")
    # sorted, "10_mask.jpg" comes before "1_mask.jpg", but "1.png" before "10.png": the name decides where it can
    named = [file.with_name(f"{file.stem}_mask.jpg") for file in pictures]
    return list(zip(pictures, named if set(named) == set(masks) else masks, lines))
