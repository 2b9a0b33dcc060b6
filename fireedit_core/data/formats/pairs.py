# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder of your own pairs, in one of two layouts.

With a list, `pairs.jsonl` or `pairs.csv`, whose rows have `source`, `target` and `instruction` and, if wanted, `mask`, `edit_type`,
`source_caption` and `target_caption`; paths are below the folder. In a csv the columns are parted by commas, and text with a comma in it
stands in double quotes. Without a list, by the names of the files, those of one pair in one folder, this one or any below it:

    kitchen_before.png  kitchen_after.png  kitchen.txt (the instruction)  kitchen_mask.png (if wanted)

Pictures are png, jpg or webp. A mask is white or transparent where the edit is. Files are UTF-8.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...lists import unique
from ..sample import EditSample
from .reader import BrokenRow, DatasetError, Reader, fitted, inside, mask, picture, picture_size, sentence

logger = logging.getLogger("fireedit")

KNOWN = ("source", "target", "instruction", "mask", "edit_type", "source_caption", "target_caption")
REQUIRED = KNOWN[:3]
SURPLUS = None  # the key under which the csv module puts what a row has beyond its columns
PICTURE = re.compile(r"(?P<name>[^.].*)_(?P<role>before|after|mask)\.(png|jpe?g|webp)", re.IGNORECASE)
ROLES = {"before": "source", "after": "target", "mask": "mask"}


class PairsFolder(Reader):
    """See the module.

    Args:
        rows: only these, by their number in the list, or in the sorted names; None: all.

    Raises:
        DatasetError: if the folder holds neither layout or two lists, the list cannot be read or has not the columns, or has no such rows.
    """

    name = "pairs"

    def __init__(self, root: Path | str, name: str = "pairs", rows: Sequence[int] | None = None):
        super().__init__()
        self.root, self.name = Path(root), name
        lists = [file for file in (self.root / "pairs.jsonl", self.root / "pairs.csv") if file.is_file()]
        if len(lists) > 1:
            raise DatasetError(f"{name}: {self.root} has both pairs.jsonl and pairs.csv; keep the one that counts")
        self.rows: list[dict[str, Any]] = _listed(lists[0]) if lists else _by_name(self.root)
        if not self.rows:
            raise DatasetError(f"{name}: {self.root} has no pairs.jsonl, pairs.csv or *_before pictures")
        ignored = sorted({key for row in self.rows for key in row} - {*KNOWN, SURPLUS}) if lists else []
        if ignored:
            logger.info("%s: columns that are not read: %s", name, ", ".join(ignored))
        if rows is not None:
            wrong = [i for i in rows if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < len(self.rows)]
            if wrong or not rows:
                raise DatasetError(f"{name}: rows are numbers from 0 to {len(self.rows) - 1} of {self.root}, got {wrong or 'none'}")
            self.rows = [self.rows[i] for i in rows]

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> EditSample:
        """Row `index`."""
        row = self.rows[index]
        if any(row.get(SURPLUS) or ()):  # else an instruction would end at its first comma, and no one would see it
            raise BrokenRow(f"more fields than columns: {row[SURPLUS]}; text with a comma needs double quotes")
        _refuse_several(row)
        source = picture(inside(self.root, row.get("source")), "source")
        hole = row.get("mask")
        return EditSample(
            id=f"{index:06d}", dataset=self.name, source=source, instruction=sentence(self._instruction(row)),
            target=fitted(picture(inside(self.root, row.get("target")), "target"), source),
            mask=fitted(mask(inside(self.root, hole)), source) if hole else None, edit_type=_text(row, "edit_type"),
            source_caption=_text(row, "source_caption"), target_caption=_text(row, "target_caption"),
        )  # fmt: skip

    def size(self, index: int) -> tuple[int, int]:
        """See `Reader`."""
        row = self.rows[index]
        _refuse_several(row)
        return picture_size(inside(self.root, row.get("source")), "source")

    def _instruction(self, row: dict[str, Any]) -> Any:
        text = row.get("instruction")
        if not isinstance(text, Path):
            return text
        file = inside(self.root, text.as_posix())
        try:
            return file.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise BrokenRow(f"broken instruction: {file} ({error})") from error


def _refuse_several(row: dict[str, Any]) -> None:
    several = [names for names in row.values() if isinstance(names, tuple)]  # no list gives a tuple
    if several:
        raise BrokenRow(f"several files for one picture: {', '.join(several[0])}")


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        raise BrokenRow(f"{key} is no text: {value!r}")
    return value or ""


def _listed(file: Path) -> list[dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
        if file.suffix == ".csv":
            table = csv.DictReader(io.StringIO(text, newline=""), strict=True)  # else a quote that is left open takes all rows behind it
            missing = [column for column in REQUIRED if column not in (table.fieldnames or ())]
            if missing:
                raise DatasetError(f"pairs: {file} has no column {', '.join(missing)}, only {', '.join(table.fieldnames or ())}")
            twice = [column for column in table.fieldnames or () if (table.fieldnames or ()).count(column) > 1]
            if twice:
                raise DatasetError(f"pairs: {file} has the column {twice[0]} more than once")
            return list(table)
        # not splitlines: it also ends a line at characters that may stand in a JSON text
        rows = [json.loads(line, object_pairs_hook=unique) for line in text.split("\n") if line.strip()]
    except DatasetError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise DatasetError(f"pairs: {file} cannot be read ({error})") from error
    wrong = next((row for row in rows if not isinstance(row, dict)), None)
    if wrong is not None:
        raise DatasetError(f"pairs: {file} cannot be read (a line is {wrong!r}, no object)")
    return rows


def _by_name(root: Path) -> list[dict[str, Any]]:
    """An incomplete pair is a row too, so that it is counted as broken and not lost in silence."""
    found: defaultdict[Path, dict[str, Any]] = defaultdict(dict)
    for file in sorted(path.relative_to(root) for path in root.rglob("*")) if root.is_dir() else ():
        match = PICTURE.fullmatch(file.name)
        if match and not any(part.startswith(".") for part in file.parts):
            row, key = found[file.parent / match["name"]], ROLES[match["role"].lower()]
            row[key] = (*row[key], file.as_posix()) if key in row else (file.as_posix(),)
    if not any({"source", "target"} & set(row) for row in found.values()):
        return []
    return [
        {key: files[0] if len(files) == 1 else files for key, files in row.items()} | {"instruction": name.with_name(f"{name.name}.txt")}
        for name, row in sorted(found.items())
    ]
