# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes in the layout of COCO-Stuff; see formats/coco_stuff.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..sample import SceneSample
from .files import save_picture


def write(folder: Path, samples: Sequence[SceneSample], split: str = "train2017") -> dict[str, int]:
    """Pictures, label maps and labels.txt; backgrounds are unlabelled. Scenes need their object masks. Returns noun -> pixel value."""
    nouns = sorted({noun for sample in samples for noun in sample.labels})
    values = {noun: value for value, noun in enumerate(nouns)}
    for i, sample in enumerate(samples):
        classes = np.full(sample.source.shape[:2], 255, np.uint8)
        for noun, mask in zip(sample.labels, sample.object_masks, strict=True):
            classes[mask] = values[noun]
        save_picture(sample.source, folder / "images" / split / f"{i:012d}.jpg")
        place = folder / "annotations" / split / f"{i:012d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(classes).save(place)
    lines = ["0: unlabeled", *(f"{value + 1}: {noun}" for noun, value in values.items())]
    (folder / "labels.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return values
