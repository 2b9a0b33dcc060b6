# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes in the layout of RefEdit-Bench; see formats/refedit_bench.py."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..formats.refedit_bench import PROMPTS
from ..sample import SceneSample
from .files import encoded, write_parquet


def write(folder: Path, samples: Iterable[SceneSample]) -> None:
    """One parquet shard, and the file of prompts beside it. The polygon is the box around the scene's mask."""
    rows, prompts = [], {}
    for number, sample in enumerate(samples):
        ys, xs = np.nonzero(sample.mask)
        x0, y0, x1, y1 = (int(v) for v in (xs.min(), ys.min(), xs.max(), ys.max()))
        single = sample.instruction.replace(sample.referring, "the object") if sample.referring else sample.instruction
        rows.append({
            "input_image": encoded(sample.source), "editing_instruction": sample.instruction, "edit_instruction_single": single,
            "mask": json.dumps([[x0, y0, x1, y0, x1, y1, x0, y1]]),
        })  # fmt: skip
        prompts[str(number)] = {"original_prompt": sample.source_caption, "editing_prompt": sample.target_caption}
    write_parquet(folder / "test-00000-of-00001.parquet", rows, ("input_image",))
    (folder / PROMPTS).write_text(json.dumps(prompts), encoding="utf-8")
