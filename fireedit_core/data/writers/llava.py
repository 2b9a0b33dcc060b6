# SPDX-License-Identifier: GPL-3.0-or-later
"""Conversations about scenes in the layout of LLaVA-Instruct; see formats/llava.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..sample import SceneSample
from .files import save_picture


def write(folder: Path, samples: Sequence[SceneSample]) -> tuple[Path, Path]:
    """The json and the folder of its pictures; what is asked for and answered is what the scene is known to show."""
    rows = []
    for i, sample in enumerate(samples):
        save_picture(sample.source, folder / "train2017" / f"{i:012d}.jpg")
        question = "What is in the picture?"
        value = f"<image>\n{question}" if i % 2 else f"{question}\n<image>"  # both are met
        rows.append({
            "id": f"{i:012d}", "image": f"{i:012d}.jpg",
            "conversations": [
                {"from": "human", "value": value}, {"from": "gpt", "value": sample.source_caption},
                {"from": "human", "value": "How many things are there?"}, {"from": "gpt", "value": str(len(sample.labels))},
            ],
        })  # fmt: skip
    file = folder / "llava_instruct_150k.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    return file, folder / "train2017"
