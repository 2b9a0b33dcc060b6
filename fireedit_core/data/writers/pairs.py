# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes as a folder of one's own pairs; see formats/pairs.py."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from ..sample import SceneSample
from .files import save_picture


def write_listed(folder: Path, samples: Sequence[SceneSample], form: str = "jsonl") -> None:
    """With pairs.jsonl or pairs.csv."""
    rows = []
    for i, sample in enumerate(samples):
        names = {"source": f"a/{i}.png", "target": f"b/{i}.png", "mask": f"m/{i}.png"}
        for key, name in names.items():
            save_picture(getattr(sample, key), folder / name)
        texts = {key: getattr(sample, key) for key in ("instruction", "edit_type", "source_caption", "target_caption")}
        rows.append(names | texts)
    file = folder / f"pairs.{form}"
    if form == "csv":
        with file.open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_by_name(folder: Path, samples: Sequence[SceneSample]) -> None:
    """With names that say what belongs together."""
    for i, sample in enumerate(samples):
        for key, ending in (("source", "before"), ("target", "after"), ("mask", "mask")):
            save_picture(getattr(sample, key), folder / f"scene {i}_{ending}.png")
        (folder / f"scene {i}.txt").write_text(sample.instruction + "\n", encoding="utf-8")
