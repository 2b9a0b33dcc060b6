# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder of your own pairs, in one of two layouts.

With a list, `pairs.jsonl` or `pairs.csv`, whose rows have `source`, `target` and `instruction` and, if wanted, `mask`, `edit_type`,
`source_caption` and `target_caption`; paths are below the folder. Without one, by the names of the files:

    kitchen_before.png  kitchen_after.png  kitchen.txt (the instruction)  kitchen_mask.png (if wanted; white or transparent is edited)
"""

from __future__ import annotations

import csv
import io
import json
import logging
from pathlib import Path
from typing import Any

from ..sample import EditSample
from .reader import DatasetError, Reader, fitted, inside, mask, picture, sentence

logger = logging.getLogger("fireedit")

KNOWN = ("source", "target", "instruction", "mask", "edit_type", "source_caption", "target_caption")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


class PairsFolder(Reader):
    """See the module.

    Raises:
        DatasetError: if the folder holds neither layout, or the list cannot be read.
    """

    name = "pairs"

    def __init__(self, root: Path | str, name: str = "pairs"):
        super().__init__()
        self.root, self.name = Path(root), name
        lists = [file for file in (self.root / "pairs.jsonl", self.root / "pairs.csv") if file.is_file()]
        self.rows: list[dict[str, Any]] = _listed(lists[0]) if lists else _by_name(self.root)
        if not self.rows:
            raise DatasetError(f"{name}: {self.root} has no pairs.jsonl, pairs.csv or *_before pictures")
        ignored = sorted({key for row in self.rows for key in row} - set(KNOWN))
        if ignored:
            logger.info("%s: columns that are not read: %s", name, ", ".join(ignored))

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> EditSample:
        """Row `index`."""
        row = self.rows[index]
        source = picture(inside(self.root, row.get("source")), "source")
        text = row.get("instruction")
        hole = row.get("mask")
        return EditSample(
            id=f"{index:06d}", dataset=self.name, source=source, instruction=sentence(text),
            target=fitted(picture(inside(self.root, row.get("target")), "target"), source),
            mask=fitted(mask(inside(self.root, hole)), source) if hole else None, edit_type=row.get("edit_type") or "",
            source_caption=row.get("source_caption") or "", target_caption=row.get("target_caption") or "",
        )  # fmt: skip


def _listed(file: Path) -> list[dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
        if file.suffix == ".csv":
            return list(csv.DictReader(io.StringIO(text, newline="")))
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise DatasetError(f"pairs: {file} cannot be read ({error})") from error


def _by_name(root: Path) -> list[dict[str, Any]]:
    """An incomplete pair is a row too, so that it is counted as broken and not lost in silence."""
    files = {path.name for path in root.iterdir()} if root.is_dir() else set()
    pick = lambda stem: next((stem + suffix for suffix in SUFFIXES if stem + suffix in files), None)  # noqa: E731
    names = sorted({Path(n).stem.removesuffix("_before") for n in files if Path(n).suffix in SUFFIXES and Path(n).stem.endswith("_before")})
    rows = []
    for name in names:
        text = root / f"{name}.txt"
        rows.append({
            "source": pick(f"{name}_before"), "target": pick(f"{name}_after"), "mask": pick(f"{name}_mask"),
            "instruction": text.read_text(encoding="utf-8") if text.is_file() else None,
        })  # fmt: skip
    return rows
