# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks against masks that were drawn by hand: intersection over union for each, and the median of a family."""

from __future__ import annotations

import importlib.util
import json
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..regions.record import Regions
from ..segmentation.region_masks import region_masks
from ..segmentation.segmenter import Segmenter

DRAWN = Path("tests/core/segmentation/hand_drawn.json")
_PLACES = (("skimage", "data"), ("ultralytics", "assets"))  # photographs lie in installed packages and are never copied
_FINE = 4  # polygons are drawn so much larger and averaged, so that half a pixel counts as half


@dataclass(frozen=True)
class Drawn:
    """A thing that a person drew round.

    Attributes:
        photo: file name in an installed package. box: xyxy. mask: (H, W) of bool. minus: names of things that lie in front of it.
    """

    name: str
    photo: str
    label: str
    box: tuple[float, float, float, float]
    mask: Tensor
    minus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measured:
    """`iou` and the figure that the mask's report gives itself, both 0..1; `family` who made it in the end."""

    name: str
    iou: float
    quality: float
    family: str


def find_photo(name: str) -> Path | None:
    """A photograph of scikit-image or ultralytics where that is installed."""
    for package, folder in _PLACES:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin and (path := Path(spec.origin).parent / folder / name).is_file():
            return path
    return None


def read_photo(path: Path) -> Tensor:
    """(3, H, W) in 0..1."""
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255


def load_drawn(path: Path | str = DRAWN) -> list[Drawn]:
    """All things of the file whose photograph is installed.

    Raises:
        ValueError: if the file is missing or malformed.
    """
    try:
        rows = json.loads(Path(path).read_text(encoding="utf-8"))["masks"]
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} holds no hand-drawn masks ({error!r}); run this in a clone of the repository.") from error
    made: dict[str, Tensor] = {}
    for row in rows:
        if (photo := find_photo(row["photo"])) is not None:
            with Image.open(photo) as picture:
                size = picture.size
            made[row["name"]] = _fill(row["polygons"], size) & ~_fill(row.get("holes", []), size)
    found = []
    for row in rows:
        if row["name"] in made:
            mask, front = made[row["name"]], tuple(row.get("minus", ()))
            for name in front:
                mask = mask & ~made[name]
            found.append(Drawn(row["name"], row["photo"], row["label"], tuple(row["box"]), mask, front))
    return found


def measure(drawn: list[Drawn], segmenter: Segmenter, fallbacks: tuple[Segmenter, ...] = ()) -> list[Measured]:
    """Every thing as `region_masks` cuts it out, given its box and those of what lies in front of it or behind it."""
    measured = []
    for one in drawn:
        group = [one, *(d for d in drawn if d.photo == one.photo and (d.name in one.minus or one.name in d.minus))]
        boxes = torch.tensor([d.box for d in group])
        size = (int(one.mask.shape[0]), int(one.mask.shape[1]))
        regions = Regions(boxes, torch.full((len(group),), 0.9), tuple(d.label for d in group), size)
        photo = find_photo(one.photo)
        if photo is None:
            continue
        out, reports = region_masks(read_photo(photo), regions, segmenter, fallbacks)
        measured.append(Measured(one.name, iou(out.masks[0], one.mask), reports[0].quality, reports[0].family))
    return measured


def iou(mask: Tensor, truth: Tensor) -> float:
    """Intersection over union of a mask (H, W) in 0..1, cut at .5, and a drawn one of bool."""
    found = mask > 0.5
    return float((found & truth).sum() / (found | truth).sum().clamp(min=1))


def report(family: str, measured: list[Measured], seconds: float) -> str:
    """A line per thing, worst first, and the median."""
    lines = [f"{one.iou:.2f}  quality {one.quality:.2f}  {one.name} ({one.family})" for one in sorted(measured, key=lambda m: m.iou)]
    middle = median([one.iou for one in measured]) if measured else 0.0
    sure = sum(one.iou >= 0.75 for one in measured)
    lines.append(f"{family}: median {middle:.3f} of {len(measured)} masks, {sure} at .75 or better, {seconds:.1f} s")
    return "\n".join(lines)


def run(drawn_path: Path | str, isnet: Path | None = None) -> str:
    """The text of the command `masks`: GrabCut, and ISNet where a file is given, alone and as the node uses it.

    Raises:
        ValueError: without hand-drawn masks or photographs. ImportError: without OpenCV or onnxruntime.
    """
    from ..segmentation.grabcut import GrabCut

    drawn = load_drawn(drawn_path)
    if not drawn:
        raise ValueError("none of the photographs is there: pip install scikit-image ultralytics")
    grabcut = GrabCut()
    runs: list[tuple[str, Segmenter, tuple[Segmenter, ...]]] = [("grabcut", grabcut, ())]
    if isnet is not None:
        from ..segmentation.isnet import load_isnet

        network = load_isnet(isnet)
        runs += [("isnet alone", network, ()), ("isnet, then grabcut", network, (grabcut,))]
    texts = []
    for name, segmenter, fallbacks in runs:
        begin = time.perf_counter()
        measured = measure(drawn, segmenter, fallbacks)
        texts.append(report(name, measured, time.perf_counter() - begin))
    return "\n\n".join(texts)


def _fill(polygons: list[list[float]], size: tuple[int, int]) -> Tensor:
    """Polygons x, y, x, y ... as (H, W) of bool, of a picture of `size` = (width, height)."""
    canvas = Image.new("L", (size[0] * _FINE, size[1] * _FINE))
    for points in polygons:
        ImageDraw.Draw(canvas).polygon([v * _FINE for v in points], fill=255)
    small = np.array(canvas.resize(size, Image.Resampling.BOX))
    return torch.from_numpy(small > 127)
