# SPDX-License-Identifier: GPL-3.0-or-later
"""COCO-Stuff (arXiv 1612.03716) as painting: a class of the label map is to be painted; see painting.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..sample import EditSample
from .painting import LEAVE, draws, paint, request
from .reader import BrokenRow, DatasetError, Reader, picture

UNLABELLED = 255
ABSENT = 0.2  # share of the draws that name a class which is not in the crop


class CocoStuff(Reader):
    """`images/<split>/<id>.jpg`, `annotations/<split>/<id>.png` (8-bit label map) and `labels.txt` (`<number>: <name>`).

    One row per picture. Its square crop along the long side, class, template and colour are drawn from (seed, epoch, row); `choose` moves
    to another epoch. The mask holds the class's pixels, none for a negative, whose target equals the source. `meta` has "class" and
    "colour" ("" where nothing is asked for) and "crop" (x, y, side) in pixels of the file.

    Args:
        root: folder with labels.txt. split: "train2017" or "val2017". size: side of the samples in pixels. seed: of the draws.

    Raises:
        DatasetError: without labels.txt, with one of another form, or without pictures.
    """

    name = "coco-stuff"

    def __init__(self, root: Path | str, split: str = "train2017", size: int = 256, seed: int = 0):
        super().__init__()
        self.root, self.split, self.side, self.seed, self.epoch = Path(root), split, size, seed, 0
        self.labels = _labels(self.root / "labels.txt")
        self.files = sorted((self.root / "images" / split).glob("*.jpg"))
        if not self.files:
            raise DatasetError(f"{self.name}: there are no pictures at {self.root / 'images' / split}")

    def __len__(self) -> int:
        return len(self.files)

    def choose(self, epoch: int) -> None:
        """Draw anew for each row."""
        self.epoch = epoch

    def read(self, index: int) -> EditSample:
        """Row `index`."""
        file, rng = self.files[index], draws(self.seed, self.epoch, index)
        whole, values = picture(file), _label_map(self.root / "annotations" / self.split / f"{file.stem}.png")
        if whole.shape[:2] != values.shape:
            raise BrokenRow(f"two sizes: the picture of {file.stem} has {whole.shape[:2]}, its labels {values.shape}")
        unknown = set(np.unique(values).tolist()) - {UNLABELLED} - set(self.labels)
        if unknown:
            raise BrokenRow(f"unknown label: {file.stem} has {sorted(unknown)}")
        side = min(values.shape)
        y, x = (int(rng.integers(length - side + 1)) for length in values.shape)
        cut, size = (slice(y, y + side), slice(x, x + side)), (self.side, self.side)
        source = np.asarray(Image.fromarray(whole[cut]).resize(size, Image.Resampling.LANCZOS))
        shown = np.asarray(Image.fromarray(values[cut]).resize(size, Image.Resampling.NEAREST))
        value = self._drawn(shown, values[cut], rng)
        mask = np.zeros(shown.shape, bool) if value is None else shown == value
        # the colour of a request is drawn for an absent class as well: the words alone must not give the negative away
        instruction, colour = (LEAVE, "") if value is None else request(self.labels[value], rng)
        return EditSample(
            id=file.stem, dataset=self.name, source=source, target=paint(source, mask, colour) if mask.any() else source.copy(),
            instruction=instruction, mask=mask, edit_type="segmentation",
            meta={"class": "" if value is None else self.labels[value], "colour": colour, "crop": (x, y, side)},
        )  # fmt: skip

    def size(self, index: int) -> tuple[int, int]:
        """See `Reader`; all are squares of one size."""
        return self.side, self.side

    def _drawn(self, shown: np.ndarray, crop: np.ndarray, rng: np.random.Generator) -> int | None:
        """The pixel value of the class to name; None where nothing in the crop has a label."""
        present = np.setdiff1d(shown, [UNLABELLED])
        if not len(present):
            return None
        # by the crop in full: what NEAREST has dropped can still be seen in the picture
        absent = np.setdiff1d(list(self.labels), crop)
        return int(rng.choice(absent if rng.random() < ABSENT and len(absent) else present))


def _labels(file: Path) -> dict[int, str]:
    """Pixel value -> class name. Value v is the entry numbered v + 1, as entry 0 is "unlabeled"."""
    if not file.is_file():
        raise DatasetError(f"coco-stuff: there is no {file}")
    labels = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        number, _, label = (part.strip() for part in line.partition(":"))
        if not line.strip():
            continue
        if not number.isdecimal() or not label:
            raise DatasetError(f"coco-stuff: {file} has the line {line!r}, not `<number>: <name>`")
        if 0 < int(number) <= UNLABELLED:
            labels[int(number) - 1] = label
    if not labels:
        raise DatasetError(f"coco-stuff: {file} names no class")
    return labels


def _label_map(file: Path) -> np.ndarray:
    """(H, W) uint8. A palette is not applied: its indices are the labels."""
    if not file.is_file():
        raise BrokenRow(f"no annotation: {file}")
    try:
        with Image.open(file) as opened:
            mode, values = opened.mode, np.asarray(opened)
    except Exception as error:  # whatever Pillow raises
        raise BrokenRow(f"broken annotation: {error}") from error
    if mode not in ("L", "P"):
        raise BrokenRow(f"no label map: {file} is {mode}, not 8-bit")
    return values
