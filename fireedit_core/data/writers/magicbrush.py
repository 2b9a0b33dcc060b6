# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes in the two layouts of MagicBrush; see formats/magicbrush.py."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..sample import SceneSample
from .files import encoded, save_picture, write_parquet


def write_hub(folder: Path, samples: Iterable[SceneSample]) -> None:
    """One parquet shard, every scene a session of one turn; masks are white where the edit is."""
    rows = [
        {
            "img_id": str(100 + i), "turn_index": 1, "source_img": encoded(s.source), "mask_img": encoded(s.mask),
            "instruction": s.instruction, "target_img": encoded(s.target),
        }
        for i, s in enumerate(samples)
    ]  # fmt: skip
    write_parquet(folder / "data" / "train-00000-of-00001.parquet", rows, ("source_img", "mask_img", "target_img"))


def write_folder(folder: Path, sessions: Sequence[Sequence[SceneSample]]) -> None:
    """The unzipped layout; a session is the samples of its turns. Masks are cut-outs: transparent where the edit is."""
    listed, described, local = {}, {}, {}
    for number, samples in enumerate(sessions):
        owner = str(200 + number)
        place, before = folder / "images" / owner, f"{owner}-input.png"
        save_picture(samples[0].source, place / before)
        listed[owner], described[owner], local[owner] = [], {before: samples[0].source_caption}, {}
        for k, sample in enumerate(samples, 1):
            hole, after = f"{owner}-mask{k}.png", f"{owner}-output{k}.png"
            alpha = np.where(sample.mask, 0, 255).astype(np.uint8)
            Image.fromarray(np.dstack([sample.source, alpha])).save(place / hole)
            save_picture(sample.target, place / after)
            listed[owner].append({"input": before, "mask": hole, "output": after, "instruction": sample.instruction})
            described[owner][after], local[owner][after] = sample.target_caption, sample.edit_noun or sample.edit_type
            before = after
    turns = [turn for each in listed.values() for turn in each]
    lists = {"edit_sessions": listed, "edit_turns": turns, "global_descriptions": described, "local_descriptions": local}
    for name, value in lists.items():
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
