# SPDX-License-Identifier: GPL-3.0-or-later
"""COCO-Stuff (arXiv 1612.03716) as edits: one class of a picture is painted, or one that is not there, and then nothing changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..sample import EditSample
from . import painting
from .reader import BrokenRow, DatasetError, Reader, picture

UNLABELLED = 255
ABSENT = 0.2  # how often a class is asked for that is not in the picture


class CocoStuff(Reader):
    """images/<split>/<id>.jpg, annotations/<split>/<id>.png with the class of every pixel, labels.txt with their names.

    A pixel value v is line v + 1 of labels.txt, counted from 0 (its line 0 is "unlabeled"). Each row is a picture; which class is asked
    for, and the crop, are the draw of (seed, epoch, row).

    Args:
        split: "train2017" or "val2017". size: side of the square that samples have, in pixels.

    Raises:
        DatasetError: without labels.txt or annotations.
    """

    name = "coco-stuff"

    def __init__(self, root: Path | str, split: str = "train2017", size: int = 256, seed: int = 0):
        super().__init__()
        self.root, self.split, self.size, self.seed, self.epoch = Path(root), split, size, seed, 0
        file = self.root / "labels.txt"
        if not file.is_file():
            raise DatasetError(f"{self.name}: there is no {file}")
        lines = (line.split(":", 1) for line in file.read_text(encoding="utf-8").splitlines() if ":" in line)
        self.labels = {int(number) - 1: label.strip() for number, label in lines if int(number) > 0}
        self.ids = sorted(path.stem for path in (self.root / "annotations" / split).glob("*.png"))
        if not self.ids:
            raise DatasetError(f"{self.name}: there are no annotations in {self.root / 'annotations' / split}")

    def __len__(self) -> int:
        return len(self.ids)

    def choose(self, epoch: int) -> None:
        """Draw other classes and crops."""
        self.epoch = epoch

    def read(self, index: int) -> EditSample:
        """Row `index`. `mask` is what was painted; it is empty where the class is absent."""
        rng, key = painting.draws(self.seed, self.epoch, index), self.ids[index]
        whole = picture(self.root / "images" / self.split / f"{key}.jpg")
        try:
            with Image.open(self.root / "annotations" / self.split / f"{key}.png") as opened:
                classes = np.asarray(opened)
        except (OSError, UnidentifiedImageError) as error:
            raise BrokenRow(f"broken annotation: {error}") from error
        if classes.shape != whole.shape[:2]:
            raise BrokenRow(f"annotation of another size: {classes.shape} for {whole.shape[:2]}")
        source, classes = self._square(whole, classes, rng)
        present = sorted(set(np.unique(classes).tolist()) & set(self.labels))
        text, target, mask = painting.NOTHING, source, np.zeros(classes.shape, bool)
        if present:
            absent = sorted(set(self.labels) - set(present))
            asked = absent if absent and rng.random() < ABSENT else present
            chosen = asked[int(rng.integers(len(asked)))]
            text, colour = painting.instruction(self.labels[chosen], rng)
            mask = classes == chosen
            target = painting.paint(source, mask, colour)
        return EditSample(
            id=key, dataset=self.name, source=source, target=target, mask=mask, instruction=text, edit_type="segmentation",
        )  # fmt: skip

    def _square(self, whole: np.ndarray, classes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A random square along the long side, at `size`; classes are never mixed."""
        height, width = classes.shape
        side = min(height, width)
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        cut = np.s_[top : top + side, left : left + side]
        size = (self.size, self.size)
        return (
            np.asarray(Image.fromarray(whole[cut]).resize(size, Image.Resampling.LANCZOS)),
            np.asarray(Image.fromarray(classes[cut]).resize(size, Image.Resampling.NEAREST)),
        )
