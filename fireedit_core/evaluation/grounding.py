# SPDX-License-Identifier: GPL-3.0-or-later
"""How often grounding by words means what a person means: a table of instruction-picture pairs on photographs.

The photographs are read from the packages that carry them. Regions are those written beside the table, or a detector's own.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..grounding import CHOSEN, ground
from ..regions.loading import load_detector
from ..regions.record import Regions
from ..regions.suppression import box_iou

PAIRS, PHOTOGRAPHS = "pairs.json", "photographs.json"
DEFAULT_FOLDER = Path("tests/core/grounding")
_SAME = 0.5  # IoU from which a detected box is the one that was written down
_ONE_THING = 0.75  # IoU from which two written boxes are two names of one thing
_SURE = 0.75  # a guess may not be surer than this


@dataclass(frozen=True)
class Verdict:
    """What came of one row.

    Attributes:
        right: None where it could not be judged: the photograph is not there. got: what came, in words. refused: whether it was refused.
        undetected: the row speaks of a thing that is not among the regions, so that a refusal is all that words can do.
    """

    row: dict[str, Any]
    right: bool | None
    got: str
    refused: bool = False
    undetected: bool = False


def photograph(entry: dict[str, Any]) -> Tensor | None:
    """The picture (3, H, W) RGB 0..1 of an entry of `PHOTOGRAPHS`, from the installed package; None where that is missing.

    `file` lies in a package of Python's, `path` is where a package of Debian's puts it.
    """
    if "path" in entry:
        path = Path(entry["path"])
    else:
        spec = importlib.util.find_spec(entry["package"])
        if spec is None or spec.origin is None:
            return None
        path = Path(spec.origin).parent / entry["file"]
    if not path.is_file():
        return None
    with Image.open(path) as opened:
        pixels = np.array(opened.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def detector_of(folder: str | Path, threshold: float = 0.4) -> Callable[[Tensor], Regions]:
    """A detector's folder as what gives regions of a picture (3, H, W).

    Raises:
        ValueError: for a folder that holds no detector.
    """
    detector = load_detector(folder)
    if isinstance(detector, torch.nn.Module):
        detector.eval()
    return lambda image: detector.detect(image[None], threshold, 0.6, 100)[0]


def judge_table(
    folder: str | Path = DEFAULT_FOLDER, detect: Callable[[Tensor], Regions] | None = None, aside: bool | None = None
) -> list[Verdict]:
    """Ground every row of a table.

    Args:
        folder: with `PAIRS` and `PHOTOGRAPHS`. detect: gives regions of a picture (3, H, W); None takes those written down. aside: only the
            half that was left aside, or only the other; None for both.

    Raises:
        ValueError: for a folder without the table.
    """
    folder = Path(folder)
    try:
        rows = json.loads((folder / PAIRS).read_text())
        entries = json.loads((folder / PHOTOGRAPHS).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder} holds no table of pairs ({PAIRS}, {PHOTOGRAPHS}): {error}") from error
    seen: dict[str, tuple[Tensor | None, Regions, Regions]] = {}
    verdicts = []
    for row in rows:
        if aside is not None and row["aside"] != aside:
            continue
        name = row["picture"]
        if name not in seen:
            image, written = photograph(entries[name]), Regions.from_dict(entries[name])
            seen[name] = (image, written, detect(image) if detect and image is not None else written)
        image, written, regions = seen[name]
        verdicts.append(Verdict(row, None, "no photograph") if image is None else _judged(row, image, written, regions))
    return verdicts


def _judged(row: dict[str, Any], image: Tensor, written: Regions, regions: Regions) -> Verdict:
    named = [row["expect"]] if isinstance(row.get("expect"), str) else row.get("expect", row.get("guess", []))
    overlap = box_iou(written.boxes, regions.boxes) if len(written) and len(regions) else torch.zeros(len(written), 1)
    undetected = any(isinstance(i, int) and float(overlap[i].max()) < _SAME for i in named)
    try:
        found = ground(image, row["instruction"], regions)
    except ValueError as error:
        return Verdict(row, row.get("expect") == "refuse", f"refused: {str(error)[:160]}", True, undetected)
    answer = found.answer
    chosen = _written_numbers(answer, written)
    got = f"{answer.kind} {chosen} {[round(target.score, 2) for target in answer.targets[:4]]} after {answer.after!r}"
    if "guess" in row:
        right = len(chosen) == 1 and chosen[0] in row["guess"] and answer.targets[0].score <= _SURE and "guess" in answer.note
    elif row["expect"] == "whole":
        right = not answer.targets
    elif row["expect"] == "refuse":
        right = False
    else:
        sure = all(target.score >= CHOSEN for target in answer.targets[: len(chosen)])
        right = sure and _one_of_each(chosen, written) == _one_of_each(row["expect"], written)
    right = right and answer.kind == row.get("kind", answer.kind) and answer.after == row.get("after", answer.after)
    return Verdict(row, right, got, False, undetected)


def _written_numbers(answer, written: Regions) -> list[int]:  # noqa: ANN001
    """The chosen targets as numbers of the regions written down; -1 for one that is none of them."""
    numbers = []
    for target in answer.chosen:
        overlap = box_iou(torch.tensor([target.box]), written.boxes)[0] if len(written) else torch.zeros(0)
        best = int(overlap.argmax()) if len(overlap) else -1
        same = len(overlap) > 0 and float(overlap[best]) >= _SAME
        labelled = [i for i in range(len(written)) if same and written.labels[i] == target.label and float(overlap[i]) >= _SAME]
        numbers.append(max(labelled, key=lambda i: float(overlap[i])) if labelled else best if same else -1)
    return numbers


def _one_of_each(numbers: Sequence[int], written: Regions) -> set[int]:
    """Numbers with one for all names of a thing."""
    overlap = box_iou(written.boxes, written.boxes)
    return {min((j for j in range(len(written)) if float(overlap[i, j]) >= _ONE_THING), default=i) if i >= 0 else i for i in numbers}


def report(verdicts: Sequence[Verdict]) -> str:
    """Shares right of both halves, and every miss."""
    lines = []
    for aside, name in ((False, "tuned on"), (True, "left aside")):
        half = [verdict for verdict in verdicts if verdict.row["aside"] == aside and verdict.right is not None]
        if half:
            right = sum(bool(verdict.right) for verdict in half)
            absent = sum(verdict.undetected and verdict.refused and not verdict.right for verdict in half)
            more = f"; {absent} more name what the detector did not find, and were refused" if absent else ""
            lines.append(f"{name}: {right} of {len(half)} right ({100 * right / len(half):.1f} %){more}")
    skipped = sum(verdict.right is None for verdict in verdicts)
    if skipped:
        lines.append(f"{skipped} rows without their photograph")
    misses = [verdict for verdict in verdicts if verdict.right is False]
    if misses:
        lines.append("\nmisses")
    for verdict in misses:
        row = verdict.row
        wanted = f"guess among {row['guess']}" if "guess" in row else row["expect"]
        told = " ".join(str(row[key]) for key in ("kind", "after") if key in row)
        where = f"{row['picture']}{' (aside)' if row['aside'] else ''}"
        lines.append(f"- {where}: {row['instruction']!r}: wanted {told} {wanted}; got {verdict.got}")
    return "\n".join(lines)
