# SPDX-License-Identifier: GPL-3.0-or-later
"""Referring expressions as painting (see painting.py): RefCOCO, RefCOCO+ and RefCOCOg in the layout of REFER, and gRefCOCO."""

from __future__ import annotations

import io
import json
import math
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ..sample import EditSample
from .painting import draws, paint, request
from .reader import BrokenRow, DatasetError, Reader, inside, picture, picture_size, sentence

AUTHORS = {"refcoco": "unc", "refcoco+": "unc", "refcocog": "umd"}  # whose split is taken if none is named
SPLITTERS = ("unc", "umd", "google")
FINE = 4  # a polygon is drawn this many times larger, as PIL knows whole coordinates only


class _Refer(Reader):
    """Refs of one split with their sentences, and the annotations of `instances.json` that they point to.

    One row per ref. Its sentence, template and colour are drawn from (seed, epoch, row); `choose` moves to another epoch. Pictures come
    whole: a crop could cut off what "left" refers to. `mask` holds the objects' pixels, `boxes` their boxes, `labels` the sentence for
    each; `meta` has "sentence" and "colour".
    """

    def __init__(self, file: Path, images: Path | str, split: str, seed: int):
        super().__init__()
        self.pictures, self.seed, self.epoch = Path(images), seed, 0
        refs = load_refs(file)
        self.refs = [ref for ref in refs if ref.get("split") == split]
        if not self.refs:
            found = sorted({str(ref.get("split")) for ref in refs})
            raise DatasetError(f"{self.name}: {file} has the splits {', '.join(found)}, not {split!r}")
        instances = file.parent / "instances.json"
        try:
            tables = json.loads(instances.read_text(encoding="utf-8"))
            self.images, self.annotations = ({row["id"]: row for row in tables[key]} for key in ("images", "annotations"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{self.name}: {instances} cannot be read ({type(error).__name__}: {error})") from error

    def __len__(self) -> int:
        return len(self.refs)

    def choose(self, epoch: int) -> None:
        """Draw anew for each row."""
        self.epoch = epoch

    def read(self, index: int) -> EditSample:
        """Row `index`."""
        ref, rng = self.refs[index], draws(self.seed, self.epoch, index)
        number, text = _sentence(ref, rng)
        image, file = self._picture(ref)
        source = picture(file)
        if source.shape[:2] != (image.get("height"), image.get("width")):
            raise BrokenRow(f"another size: {image['file_name']} has {source.shape[:2]}, not {image.get('height'), image.get('width')}")
        objects = self._objects(ref)
        if any(each.get("image_id") != ref["image_id"] for each in objects):
            raise BrokenRow(f"another picture: an annotation of ref {ref.get('ref_id')} is not of image {ref['image_id']}")
        mask = np.zeros(source.shape[:2], bool)
        for each in objects:
            mask |= segmentation_mask(each.get("segmentation"), *mask.shape)
        if objects and not mask.any():
            raise BrokenRow(f"no pixels: the objects of ref {ref.get('ref_id')} cover none")
        instruction, colour = request(text, rng)
        return EditSample(
            id=f"{ref.get('ref_id')}/{number}", dataset=self.name, source=source, target=paint(source, mask, colour),
            instruction=instruction, mask=mask, edit_type="segmentation",
            boxes=np.asarray([_box(each) for each in objects], np.float32).reshape(-1, 4),
            labels=(text,) * len(objects), meta={"sentence": text, "colour": colour},
        )  # fmt: skip

    def size(self, index: int) -> tuple[int, int]:
        """See `Reader`."""
        return picture_size(self._picture(self.refs[index])[1])

    def _picture(self, ref: dict[str, Any]) -> tuple[dict[str, Any], Path]:
        """The entry of a ref's picture and its file; the ref's own file_name carries the annotation's number and names none."""
        image = _entry(self.images, ref.get("image_id"), "image")
        return image, inside(self.pictures, image.get("file_name"))

    def _objects(self, ref: dict[str, Any]) -> list[dict[str, Any]]:
        """The annotations that a ref means."""
        return [_entry(self.annotations, ref.get("ann_id"), "annotation")]


class RefCoco(_Refer):
    """`<root>/<name>/refs(<by>).p` and `instances.json`; see `_Refer` for the rows.

    Args:
        root: folder of the three sets. images: folder of COCO's train2014 pictures. name: "refcoco", "refcoco+" or "refcocog".
        by: whose split: "unc", "umd" or "google"; None: "umd" for RefCOCOg, else "unc". split: "train", "val", "test", "testA" or "testB",
        as the file has them. seed: of the draws.

    Raises:
        DatasetError: for an unknown name or split, a missing file, or refs that are more than plain data.
    """

    def __init__(
        self, root: Path | str, images: Path | str, name: str = "refcoco", by: str | None = None, split: str = "train", seed: int = 0
    ):
        if name not in AUTHORS:
            raise DatasetError(f"REFER has {', '.join(AUTHORS)}, not {name!r}")
        by = by or AUTHORS[name]
        if by not in SPLITTERS:
            raise DatasetError(f"{name} is split by {', '.join(SPLITTERS)}, not {by!r}")
        self.name = name
        super().__init__(Path(root) / name / f"refs({by}).p", images, split, seed)


class GRefCoco(_Refer):
    """gRefCOCO (arXiv 2306.00968): `<root>/grefcoco/grefs(unc).json` (or `.p`) and its own `instances.json`; see `_Refer` for the rows.

    A ref means no object (unchanged target, empty mask, no boxes), one, or several (the union of their masks); crowds are skipped.

    Args:
        root: folder that holds grefcoco. images: folder of COCO's train2014 pictures. split: "train", "val", "testA" or "testB".
        seed: of the draws.

    Raises:
        DatasetError: for an unknown split, a missing file, or refs that are more than plain data.
    """

    name = "grefcoco"

    def __init__(self, root: Path | str, images: Path | str, split: str = "train", seed: int = 0):
        file = Path(root) / self.name / "grefs(unc).json"
        super().__init__(file if file.is_file() or not file.with_suffix(".p").is_file() else file.with_suffix(".p"), images, split, seed)

    def _objects(self, ref: dict[str, Any]) -> list[dict[str, Any]]:
        numbers = ref.get("ann_id")
        if not isinstance(numbers, list) or not numbers:
            raise BrokenRow(f"no ann_id: ref {ref.get('ref_id')} has {numbers!r}")
        if numbers == [-1] and ref.get("category_id") in ([-1], -1):
            return []
        found = [_entry(self.annotations, number, "annotation") for number in numbers]
        kept = [each for each in found if not each.get("iscrowd")]
        if not kept:
            # taking it for a row without target would teach that what is there is not
            raise BrokenRow(f"only crowds: ref {ref.get('ref_id')} names nothing else")
        return kept


class _PlainUnpickler(pickle.Unpickler):
    """Containers, numbers and strings need no class; whatever asks for one could run a stranger's code."""

    def find_class(self, module: str, name: str) -> Any:
        raise DatasetError(f"asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise DatasetError(f"asks for the object {pid!r} from outside")


def load_refs(file: Path) -> list[dict[str, Any]]:
    """The refs of a JSON file, or of a pickle of Python 2 or 3 that holds plain data alone.

    Raises:
        DatasetError: if the file is missing, broken, no list of objects, or a pickle that asks for anything else (the message names it).
    """
    if not file.is_file():
        raise DatasetError(f"there is no {file}")
    data = file.read_bytes()
    try:
        # strings of Python 2 are bytes of an unknown encoding; latin1 reads them all
        refs = json.loads(data) if file.suffix == ".json" else _PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
    except DatasetError as error:
        raise DatasetError(f"{file} is not opened, as it {error}: only plain containers, numbers and strings are") from error
    except Exception as error:  # a broken pickle raises whatever its last instruction ran into
        raise DatasetError(f"{file} cannot be read ({type(error).__name__}: {error})") from error
    if not isinstance(refs, list) or not all(isinstance(ref, dict) for ref in refs):
        raise DatasetError(f"{file} is no list of refs")
    return refs


def segmentation_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """(height, width) bool of a segmentation in COCO's JSON.

    Args:
        segmentation: polygons [[x, y, x, y, ...], ...], which unite, or {"size": [height, width], "counts"} with run lengths down the
            columns that start with the background: a list, or COCO's packed string of it.

    Raises:
        BrokenRow: if it is none of these, or of another size.
    """
    if isinstance(segmentation, list) and segmentation:
        return _polygons(segmentation, height, width)
    if not isinstance(segmentation, dict):
        raise BrokenRow(f"no segmentation: the annotation has {segmentation!r}")
    counts = segmentation.get("counts")
    counts = unpacked(counts) if isinstance(counts, str) else counts
    if segmentation.get("size") != [height, width]:
        raise BrokenRow(f"another size: the segmentation has {segmentation.get('size')}, the picture {[height, width]}")
    if not isinstance(counts, list) or not all(isinstance(n, int) and n >= 0 for n in counts) or sum(counts) != height * width:
        raise BrokenRow(f"broken segmentation: its runs do not fill {height} x {width} pixels")
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T


def unpacked(text: str) -> list[int]:
    """Run lengths of COCO's packed string. Raises BrokenRow for a string that is none.

    A character is 48 + six bits: five of the number, lowest first, and one that says whether more follow. The highest bit of a number is
    its sign. From the fourth on, numbers are differences to the run two before.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise BrokenRow(f"broken segmentation: {character!r} in its runs")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise BrokenRow("broken segmentation: its runs end within a number")
    return counts


def _polygons(polygons: Sequence[Any], height: int, width: int) -> np.ndarray:
    canvas = Image.new("L", (width * FINE, height * FINE))
    draw = ImageDraw.Draw(canvas)
    for points in polygons:
        if not isinstance(points, list) or len(points) < 6 or len(points) % 2 or not all(_finite(n) for n in points):
            raise BrokenRow(f"broken segmentation: a polygon is {str(points)[:80]}")
        draw.polygon([round(n * FINE) for n in points], fill=1)
    # a pixel counts by its centre, so that the line that PIL draws around adds an eighth of a pixel at most
    return np.asarray(canvas)[FINE // 2 :: FINE, FINE // 2 :: FINE] > 0


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and abs(value) < 1e6


def _entry(table: dict[int, dict[str, Any]], number: Any, what: str) -> dict[str, Any]:
    if not isinstance(number, int) or number not in table:
        raise BrokenRow(f"no {what}: instances.json has none with the id {number!r}")
    return table[number]


def _box(annotation: dict[str, Any]) -> tuple[float, float, float, float]:
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_finite(n) for n in box):
        raise BrokenRow(f"no box: annotation {annotation['id']} has {box!r}")
    x, y, width, height = box
    return x, y, x + width, y + height


def _sentence(ref: dict[str, Any], rng: np.random.Generator) -> tuple[int, str]:
    """Number and text of one of the ref's sentences, in lower case."""
    given = ref.get("sentences")
    listed = given if isinstance(given, list) else []
    texts = [each.get("sent") or each.get("raw") if isinstance(each, dict) else None for each in listed]
    usable = [(number, text.lower()) for number, text in enumerate(texts) if isinstance(text, str) and text.strip()]
    if not usable:
        raise BrokenRow(f"no sentence: ref {ref.get('ref_id')} has {given!r}")
    number, text = usable[rng.integers(len(usable))]
    return number, sentence(text, "sentence")
