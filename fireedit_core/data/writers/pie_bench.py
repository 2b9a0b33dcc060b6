# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes in the layout of PIE-Bench; see formats/pie_bench.py."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from ..formats.pie_bench import MAPPING, PICTURES, SIDE
from ..sample import SceneSample
from .files import save_picture

# The folder and the number of the nearest type for each edit of a scene.
TYPES = {
    "remove": ("3_delete_object_80", "3"), "replace": ("1_change_object_80", "1"), "recolour": ("6_change_attribute_color_40", "6"),
    "add": ("2_add_object_80", "2"), "resize": ("0_random_140", "0"), "background": ("8_change_background_80", "8"),
}  # fmt: skip


def write(folder: Path, samples: Iterable[SceneSample]) -> None:
    """mapping_file.json and annotation_images/, pictures and masks scaled to 512 x 512."""
    rows = {}
    for number, sample in enumerate(samples):
        place, type_id = TYPES[sample.edit_type]
        key = f"{int(type_id)}{number:011d}"
        path = f"{place}/{key}.jpg"
        save_picture(scaled(sample.source), folder / PICTURES / path)
        rows[key] = {
            "image_path": path, "original_prompt": sample.source_caption, "editing_prompt": sample.target_caption,
            "editing_instruction": sample.instruction, "editing_type_id": type_id, "blended_word": "",
            "mask": runs(scaled(sample.mask)),
        }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MAPPING).write_text(json.dumps(rows), encoding="utf-8")


def runs(mask: np.ndarray) -> list[int]:
    """[start, length, ...] of a mask (H, W) bool over its rows."""
    steps = np.diff(np.concatenate([[0], mask.ravel().astype(np.int8), [0]]))
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    return [int(x) for pair in zip(starts, ends - starts) for x in pair]


def scaled(picture: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) uint8 or mask (H, W) bool at 512 x 512."""
    size = (SIDE, SIDE)
    if picture.dtype == bool:
        return np.asarray(Image.fromarray(picture.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)) > 127
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
