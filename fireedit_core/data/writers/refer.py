# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes in the layouts of REFER and gRefCOCO; see formats/refer.py."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..sample import SceneSample
from ..world import WORLD
from .files import object_masks, save_picture


def write_refcoco(
    folder: Path, samples: Iterable[SceneSample], name: str = "refcoco", by: str = "unc", splits: Sequence[str] = ("train",)
) -> None:
    """`<name>/refs(<by>).p`, `<name>/instances.json` and the pictures in `train2014`: a ref for each scene that refers to an object.

    Args:
        splits: given to the refs in turn.

    Raises:
        ValueError: for samples without object masks.
    """
    samples = list(samples)
    instances, numbers = _write_instances(folder, samples, name)
    refs: list[dict[str, Any]] = []
    for image, sample, anns in zip(instances["images"], samples, numbers, strict=True):
        if sample.target_index >= 0:
            _add_ref(refs, instances, image, anns[sample.target_index], _wordings(sample.referring), splits)
    _write_refs(folder / name / f"refs({by}).p", refs)


def write_grefcoco(folder: Path, samples: Iterable[SceneSample], form: str = "json", splits: Sequence[str] = ("train",)) -> None:
    """`grefcoco/grefs(unc).<form>`, its instances.json and `train2014`. Three refs a scene: the one object (if the scene refers to one),
    all objects, and one that is not there.

    Args:
        form: "json" or "p" (pickle). splits: given to the refs in turn.

    Raises:
        ValueError: for samples without object masks.
    """
    samples = list(samples)
    instances, numbers = _write_instances(folder, samples, "grefcoco")
    refs: list[dict[str, Any]] = []
    for image, sample, anns in zip(instances["images"], samples, numbers, strict=True):
        if sample.target_index >= 0:
            _add_ref(refs, instances, image, [anns[sample.target_index]], _wordings(sample.referring), splits)
        _add_ref(refs, instances, image, anns, ["everything here", "all things"], splits)
        missing = next(noun for noun in sorted(WORLD.classes) if noun not in sample.labels)
        _add_ref(refs, instances, image, [-1], _wordings(f"the {missing}"), splits)
    _write_refs(folder / "grefcoco" / f"grefs(unc).{form}", refs)


def polygon(mask: np.ndarray) -> list[list[float]]:
    """A rectangle for each run in a row of a mask (H, W) bool, along the edges of the pixels: together they are exact, holes included."""
    rects = []
    for y, row in enumerate(mask):
        edges = np.flatnonzero(np.diff(row, prepend=False, append=False)).tolist()
        for x0, x1 in zip(edges[::2], edges[1::2], strict=True):
            rects.append([float(n) for n in (x0, y, x1, y, x1, y + 1, x0, y + 1)])
    return rects


def runs(mask: np.ndarray) -> dict[str, Any]:
    """Uncompressed run lengths down the columns of a mask (H, W) bool; the first counts background."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=False))
    return {"size": list(mask.shape), "counts": np.diff([0, *edges, flat.size]).tolist()}


def packed(mask: np.ndarray) -> dict[str, Any]:
    """The same as COCO's string; see `formats.refer.unpacked`."""
    found, text = runs(mask), ""
    counts = found["counts"]
    for i, count in enumerate(counts):
        left, more = count - (counts[i - 2] if i > 2 else 0), True
        while more:
            bits, left = left & 31, left >> 5
            more = left != (-1 if bits & 16 else 0)  # until the sign bit alone says the rest
            text += chr(48 + bits + 32 * more)
    return {**found, "counts": text}


FORMS = (polygon, runs, packed)  # annotations take them in turn


def _write_instances(folder: Path, samples: Sequence[SceneSample], name: str) -> tuple[dict[str, Any], list[list[int]]]:
    """The pictures and instances.json with every object of every scene; also the annotations' ids by scene."""
    nouns = sorted({label for s in samples for label in s.labels})
    images, annotations, numbers = [], [], []
    for number, sample in enumerate(samples):
        masks = object_masks(sample)
        image = 1000 + 7 * number  # ids have gaps, as COCO's
        file, (height, width) = f"COCO_train2014_{image:012d}.jpg", sample.source.shape[:2]
        save_picture(sample.source, folder / "train2014" / file)
        images.append({"id": image, "file_name": file, "height": height, "width": width})
        numbers.append([])
        for label, (x0, y0, x1, y1), mask in zip(sample.labels, sample.boxes.tolist(), masks, strict=True):
            numbers[-1].append(5000 + 3 * len(annotations))
            annotations.append({
                "id": numbers[-1][-1], "image_id": image, "category_id": 1 + nouns.index(label), "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": int(mask.sum()), "iscrowd": 0, "segmentation": FORMS[len(annotations) % len(FORMS)](mask),
            })  # fmt: skip
    tables = {
        "images": images, "annotations": annotations,
        "categories": [{"id": k, "name": noun, "supercategory": "thing"} for k, noun in enumerate(nouns, start=1)],
    }  # fmt: skip
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "instances.json").write_text(json.dumps(tables), encoding="utf-8")
    return tables, numbers


def _wordings(phrase: str) -> list[str]:
    return [phrase, phrase.removeprefix("the ")]


def _add_ref(
    refs: list[dict[str, Any]], instances: dict[str, Any], image: dict[str, Any], anns: int | list[int], texts: list[str],
    splits: Sequence[str],
) -> None:  # fmt: skip
    category = {each["id"]: each["category_id"] for each in instances["annotations"]} | {-1: -1}
    first = anns[0] if isinstance(anns, list) else anns
    sents = range(2 * len(refs), 2 * len(refs) + len(texts))
    refs.append({
        "ref_id": len(refs), "image_id": image["id"], "split": splits[len(refs) % len(splits)], "ann_id": anns,
        "category_id": [category[n] for n in anns] if isinstance(anns, list) else category[anns],
        "file_name": f"{Path(image['file_name']).stem}_{first}.jpg",  # names no file, as in the published sets
        "sent_ids": list(sents),
        "sentences": [
            {"sent_id": n, "sent": text, "raw": f"{text.capitalize()}.", "tokens": text.split()}
            for n, text in zip(sents, texts, strict=True)
        ],
    })  # fmt: skip


def _write_refs(file: Path, refs: list[dict[str, Any]]) -> None:
    """JSON, or a pickle of the protocol that Python 2 has."""
    file.write_bytes(json.dumps(refs).encode() if file.suffix == ".json" else pickle.dumps(refs, protocol=2))
