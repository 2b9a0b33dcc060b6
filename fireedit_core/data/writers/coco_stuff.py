# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes in the layout of COCO-Stuff; see formats/coco_stuff.py."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from ..formats.coco_stuff import UNLABELLED
from ..sample import SceneSample
from .files import object_masks, save_picture


def write(folder: Path, samples: Iterable[SceneSample], split: str = "train2017", backgrounds: bool = True) -> None:
    """Pictures before the edit, their label maps and labels.txt: the nouns are things, the backgrounds stuff.

    Args:
        backgrounds: False leaves unlabelled what no object covers.

    Raises:
        ValueError: for samples without object masks.
    """
    samples = list(samples)
    stuff = {s.meta["background"] for s in samples} if backgrounds else set()
    names = sorted({label for s in samples for label in s.labels}) + sorted(stuff)
    for number, sample in enumerate(samples, start=1):
        values = np.full(sample.source.shape[:2], names.index(sample.meta["background"]) if backgrounds else UNLABELLED, np.uint8)
        for label, mask in zip(sample.labels, object_masks(sample), strict=True):
            values[mask] = names.index(label)
        save_picture(sample.source, folder / "images" / split / f"{number:012d}.jpg")
        annotation = folder / "annotations" / split / f"{number:012d}.png"
        annotation.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(annotation)
    lines = [f"{number}: {name}" for number, name in enumerate(["unlabeled", *names])]
    (folder / "labels.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
