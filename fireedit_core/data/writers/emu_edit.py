# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes in the layout of Emu Edit's test set and of its generations; see formats/emu_edit.py."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..sample import SceneSample
from .files import encoded, write_parquet

# The nearest of Emu Edit's seven tasks for each edit of a scene; global and style have no counterpart.
TASKS = {
    "remove": "remove", "replace": "local", "recolour": "texture", "add": "add", "resize": "local", "background": "background",
}  # fmt: skip


def write_set(folder: Path, samples: Iterable[SceneSample], split: str = "validation") -> None:
    """One parquet shard. There is no target in this set."""
    write_parquet(_shard(folder, split), [_row(i, s, split) for i, s in enumerate(samples)], ("image",))


def write_generations(folder: Path, samples: Iterable[SceneSample], split: str = "validation", model: str = "oracle") -> None:
    """One parquet shard; the picture that the model is said to have made is the scene's target."""
    rows = [_row(i, s, split) | {"edited_image": encoded(s.target), "model": model} for i, s in enumerate(samples)]
    write_parquet(_shard(folder, split), rows, ("image", "edited_image"))


def _shard(folder: Path, split: str) -> Path:
    return folder / "data" / f"{split}-00000-of-00001.parquet"


def _row(number: int, sample: SceneSample, split: str) -> dict[str, Any]:
    return {
        "instruction": sample.instruction, "image": encoded(sample.source), "task": TASKS[sample.edit_type], "split": split,
        "idx": number, "hash": hashlib.sha256(f"{split} {sample.id}".encode()).hexdigest()[:16],
        "input_caption": sample.source_caption, "output_caption": sample.target_caption,
    }  # fmt: skip
