# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user picked, drew, moved and named among regions: one JSON text that a mouse and a keyboard write alike.

    {"mode": "restrict", "picked": [0, 2], "boxes": [{"box": [10, 20, 60, 80], "name": "cat"}], "moved": {"2": [5, 5, 40, 40]},
     "names": {"0": "left cat"}, "found": {"0": [12, 8, 50, 44], "2": [4, 4, 38, 40]}, "picture": "128x128:..."}

Numbers are those of the regions that come in, boxes are x1, y1, x2, y2 in pixels of the picture. Everything may be left out. "found" has
the boxes that the numbers stood for, because another threshold or detector numbers the same things anew: a number with such a box means
the region in that place, a number alone the region that has it. "picture" is the fingerprint of the picture that all this was picked on;
without it the choice stands for any picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .. import strict_json
from ..thumbnail import same_fingerprint
from .record import OBJECT_LABEL, Regions
from .suppression import SAME_THING, box_iou

MODES = ("auto", "restrict", "force")
OWN_SCORE = 1.0  # of a box that the user drew
_KEYS = ("mode", "picked", "boxes", "moved", "names", "found", "picture")


@dataclass(frozen=True)
class RegionChoice:
    """A choice among the regions of one picture.

    Attributes:
        mode: "auto": all regions and drawn boxes stand for choice. "restrict": only those that were picked or drawn. "force":
            the same, and the edit happens exactly there.
        picked: numbers of incoming regions. boxes: drawn ones with their names. moved: number -> new box. names: number -> name.
        picture: `thumbnail.fingerprint` of the picture that it was picked on; "" for any.
        found: number -> the box that the region of this number came with when it was picked, moved or named.
    """

    mode: str = "auto"
    picked: tuple[int, ...] = ()
    boxes: tuple[tuple[tuple[float, float, float, float], str], ...] = ()
    moved: Mapping[int, tuple[float, float, float, float]] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    picture: str = ""
    found: Mapping[int, tuple[float, float, float, float]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str) -> RegionChoice:
        """Read the JSON of the widget; an empty text is the default.

        Raises:
            ValueError: saying which key is wrong and how it ought to look.
        """
        if not text.strip():
            return cls()
        try:
            value = strict_json.parsed(text, "selection")
        except ValueError as error:
            raise ValueError(f"{str(error).rstrip('.')}; an empty text picks nothing") from None
        if not isinstance(value, dict) or set(value) - set(_KEYS):
            raise ValueError(f"the selection must be an object with some of the keys {', '.join(_KEYS)}, got {text[:80]!r}")
        mode = value.get("mode", "auto")
        if not isinstance(mode, str) or mode not in MODES:
            raise ValueError(f"the selection's mode must be one of {', '.join(MODES)}, got {_short(mode)}")
        picked = value.get("picked", [])
        if not isinstance(picked, list) or not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in picked):
            raise ValueError(f"the selection's picked must be a list of region numbers such as [0, 2], got {_short(picked)}")
        boxes = []
        for entry in _of_type(value.get("boxes", []), list, "boxes"):
            entry = {"box": entry} if isinstance(entry, list) else entry
            if not isinstance(entry, dict) or "box" not in entry:
                raise ValueError(f'the selection\'s boxes must look like {{"box": [x1, y1, x2, y2], "name": "cat"}}, got {_short(entry)}')
            boxes.append((_box(entry["box"]), _of_type(entry.get("name") or OBJECT_LABEL, str, "names")))
        moved, found = ({_number(k): _box(v) for k, v in _of_type(value.get(key, {}), dict, key).items()} for key in ("moved", "found"))
        names = {_number(k): _of_type(v, str, "names") for k, v in _of_type(value.get("names", {}), dict, "names").items()}
        picture = _of_type(value.get("picture", ""), str, "picture")
        if picture:
            try:
                same_fingerprint(picture, picture)
            except ValueError as error:
                raise ValueError(f"the selection's picture: {error}; leave it out, and the selection stands for any picture") from error
        return cls(mode, tuple(dict.fromkeys(picked)), tuple(boxes), moved, names, picture, found)

    def on(self, picture: str) -> RegionChoice:
        """What of the choice holds on a picture with this fingerprint: all of it on the one that it was made on, else no number and no box.

        Raises:
            ValueError: on another picture, if only what was picked is to count.
        """
        if not self.picture or same_fingerprint(self.picture, picture):
            return self
        if self.mode != "auto":
            raise ValueError(
                f"the selection was made on another picture (of size {self.picture.partition(':')[0]}; this one is "
                f"{picture.partition(':')[0]}), so {self.mode} would edit another thing. Choose the mode auto and queue once to see what "
                'is on this picture, then pick again. For a selection that stands for any picture take "picture" out of its text'
            )
        return replace(self, picked=(), boxes=(), moved={}, names={}, picture="", found={})

    def missing(self, regions: Regions) -> list[int]:
        """Numbers of those that the choice speaks of and whose place is none of these regions'."""
        return [number for number, now in self._numbers(regions).items() if now is None]

    def among(self, regions: Regions) -> RegionChoice:
        """The choice by the numbers that its regions have among these; what is said of a missing one is left out.

        Raises:
            ValueError: for a picked one that is missing, if only what was picked is to count.
        """
        numbers = self._numbers(regions)
        gone = [number for number in self.picked if numbers[number] is None]
        if gone and self.mode != "auto":
            box = ", ".join(f"{side:.0f}" for side in self.found[gone[0]])
            raise ValueError(
                f"region {gone[0]} of the selection, picked at {box}, is not among the regions of this picture, so {self.mode} would edit "
                "another thing. Choose the mode auto and queue once to see the regions that come now, then pick again"
            )
        moved, names = ({numbers[k]: v for k, v in said.items() if numbers[k] is not None} for said in (self.moved, self.names))
        picked = dict.fromkeys(numbers[number] for number in self.picked if numbers[number] is not None)
        return replace(self, picked=tuple(picked), moved=moved, names=names, found={})

    def _numbers(self, regions: Regions) -> dict[int, int | None]:
        """The number among these regions of each number that the choice speaks of; None for one that is missing."""
        found: dict[int, int | None] = {}
        for number in dict.fromkeys([*self.picked, *self.moved, *self.names]):
            if number not in self.found:
                found[number] = number
                continue
            overlap = box_iou(torch.tensor([self.found[number]]), regions.boxes.cpu())[0].tolist()
            best = max(overlap, default=0.0)
            same = [i for i, one in enumerate(overlap) if one == best >= SAME_THING]
            # of two that lie alike the one that still has the number
            found[number] = number if number in same else next(iter(same), None)
        return found

    def apply(self, regions: Regions) -> tuple[Regions, Tensor | None]:
        """The regions that the language model is to see, and, for "force", the mask (H, W) of where the edit happens.

        Boxes are cut to the picture; a moved region loses its mask, which was of its old place.

        Raises:
            ValueError: for a number that the record does not have, a box outside the picture, nothing picked, or see `among`.
        """
        return self.among(regions)._made(regions)

    def _made(self, regions: Regions) -> tuple[Regions, Tensor | None]:
        for number in (*self.picked, *self.moved, *self.names):
            if number >= len(regions):
                raise ValueError(
                    f"the selection speaks of region {number}, but this picture has {len(regions)}, numbered from 0. Queue once with the "
                    "mode auto to see them and pick anew, or empty the selection"
                )
        height, width = regions.image_size
        boxes, labels = regions.boxes.clone(), list(regions.labels)
        for number, box in self.moved.items():
            boxes[number] = torch.tensor(box)
        for number, name in self.names.items():
            labels[number] = name or OBJECT_LABEL
        kept = list(range(len(regions))) if self.mode == "auto" else list(self.picked)
        own = torch.tensor([box for box, _ in self.boxes]).reshape(-1, 4)
        if self.mode != "auto" and not kept and not len(own):
            raise ValueError(f"nothing is picked: click a region, draw a box, or choose the mode auto instead of {self.mode}")
        limit = boxes.new_tensor([width, height, width, height])
        chosen = torch.minimum(torch.cat([boxes[kept], own.to(boxes)]).clamp(min=0), limit)
        if bool(((chosen[:, 2:] - chosen[:, :2]) < 1).any()):
            raise ValueError(f"a box of the selection lies outside the picture of width {width} and height {height}")
        scores = torch.cat([regions.scores[kept].cpu(), torch.full((len(own),), OWN_SCORE)])
        names = tuple(labels[i] for i in kept) + tuple(name for _, name in self.boxes)
        masks, boxed = self._masks(regions, kept, chosen)
        made = Regions(chosen, scores, names, regions.image_size, masks, regions.picture, boxed)
        if self.mode != "force":
            return made, None
        from .dialects import to_mask  # the other way round it would be a circle

        return made, to_mask(made)

    def _masks(self, regions: Regions, kept: list[int], boxes: Tensor) -> tuple[Tensor | None, list[bool]]:
        """Masks, and which are no more than a box."""
        if regions.masks is None:
            return None, []
        masks, boxed = torch.zeros(len(boxes), *regions.image_size), [True] * len(boxes)
        for row, (x1, y1, x2, y2) in enumerate(boxes.round().int().tolist()):
            if row < len(kept) and kept[row] not in self.moved:
                masks[row], boxed[row] = regions.masks[kept[row]].float().cpu(), regions.boxed[kept[row]]
            else:
                masks[row, y1:y2, x1:x2] = 1
        return masks, boxed


_KINDS = {list: "list", dict: "JSON object", str: "text"}


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _of_type(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"the selection's {name} must be a {_KINDS[kind]}, got {_short(value)}")
    return value


def _number(key: Any) -> int:
    if not (str(key).isascii() and str(key).isdigit() and len(str(key)) < 10):
        raise ValueError(f"the selection names a region {_short(key)}; regions have numbers from 0 on")
    return int(key)


def _box(value: Any) -> tuple[float, float, float, float]:
    numbers = isinstance(value, list) and len(value) == 4 and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
    if not numbers or not all(map(math.isfinite, value)) or value[2] <= value[0] or value[3] <= value[1]:
        raise ValueError(f"a box of the selection must be [x1, y1, x2, y2] with x2 > x1 and y2 > y1, got {_short(value)}")
    return tuple(float(v) for v in value)
