# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes in the two layouts of InstructPix2Pix; see formats/instructpix2pix.py."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from ..sample import SceneSample
from .files import encoded, save_picture, write_parquet


def write_hub(folder: Path, samples: Iterable[SceneSample]) -> None:
    """One parquet shard."""
    rows = [
        {
            "original_prompt": s.source_caption, "original_image": encoded(s.source), "edit_prompt": s.instruction,
            "edited_prompt": s.target_caption, "edited_image": encoded(s.target),
        }
        for s in samples
    ]  # fmt: skip
    write_parquet(folder / "data" / "train-00000-of-00001.parquet", rows, ("original_image", "edited_image"))


def write_folder(folder: Path, samples: Iterable[SceneSample], seeds: int = 2) -> None:
    """seeds.json and a folder per sample; every seed of a sample shows the same pair."""
    listed = []
    for number, sample in enumerate(samples):
        place = folder / f"{number:07d}"
        names = [f"{1_000_000 + 7 * number + k:010d}" for k in range(seeds)]
        for name in names:
            save_picture(sample.source, place / f"{name}_0.jpg")
            save_picture(sample.target, place / f"{name}_1.jpg")
        prompt = {"edit": sample.instruction, "input": sample.source_caption, "output": sample.target_caption}
        (place / "prompt.json").write_text(json.dumps(prompt), encoding="utf-8")
        lines = (json.dumps({"seed": int(name), "clip_sim_0": 0.3, "clip_sim_1": 0.3, "clip_sim_dir": 0.3}) for name in names)
        (place / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        listed.append([place.name, names])
    (folder / "seeds.json").write_text(json.dumps(listed), encoding="utf-8")
