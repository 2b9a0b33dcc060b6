# SPDX-License-Identifier: GPL-3.0-or-later
"""The `Answer` record: what an instruction means on one picture, whoever found it out (design D13).

    {"kind": "recolour", "thing": "motorcycle", "targets": [{"box": [30, 80, 700, 470], "score": 0.95, "label": "motorcycle"}],
     "after": "blue", "keep": ["the wall"], "image_size": [480, 741], "note": "", "picture": "741x480:..."}

Words, a language model and a person with the mouse all give this record. It is JSON in a STRING, so that it can be read, saved,
corrected by hand and given back: a filled answer runs nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import strict_json
from ..regions.dialects import to_mask
from ..regions.record import OBJECT_LABEL, Regions
from ..thumbnail import fingerprint, resembles, same_fingerprint

KINDS = ("remove", "recolour", "background", "adjust", "cutout", "replace", "add", "restyle", "other")
ADJUSTMENTS = ("brighter", "darker", "blurred", "grey")  # what `after` may say where the kind is "adjust"
CHOSEN = 0.5  # a target of at least this score is meant; those below are the alternatives that were not chosen

# A record is short. What is longer was not meant as one, and would only cost time and space further on.
_MAX_WORDS = 2_000  # characters of any one text inside
_MAX_TARGETS = 1_000
_MAX_KEPT = 100
_MAX_SIDE = 100_000  # pixels
_ROUNDING = 1.0  # pixels that a box may stick out by: others round to whole pixels, or count from 0 to the last one

_KEYS = ("kind", "thing", "targets", "after", "keep", "image_size", "note", "picture")
_NEEDED = ("kind", "targets")  # without "targets" a slip would mean the whole picture
_TARGET_KEYS = ("box", "score", "label")


@dataclass(frozen=True)
class Target:
    """One region that may be meant.

    Attributes:
        box: corners x1, y1, x2, y2 in pixels of the answer's `image_size`; x2 > x1, y2 > y1.
        score: how sure it is that this region is meant, 0..1; at least `CHOSEN` for those that are.
        label: name of the region.

    Raises:
        ValueError: for coordinates or a score that are no finite numbers, an inverted or empty box, a score outside 0..1.
    """

    box: tuple[float, float, float, float]
    score: float
    label: str = OBJECT_LABEL

    def __post_init__(self) -> None:
        if not isinstance(self.box, (list, tuple)) or len(self.box) != 4:
            raise ValueError(f'A target\'s "box" must be four numbers [x1, y1, x2, y2], got {_short(self.box)}.')
        box = tuple(_number(value, 'in a target\'s "box"') for value in self.box)
        if box[2] <= box[0] or box[3] <= box[1]:
            raise ValueError(f'A target\'s "box" must be [x1, y1, x2, y2] with x2 > x1 and y2 > y1, got {_short(list(box))}.')
        score = _number(self.score, 'as a target\'s "score"')
        if not 0 <= score <= 1:
            raise ValueError(f'A target\'s "score" must lie between 0 and 1, got {score:g}.')
        object.__setattr__(self, "box", box)
        object.__setattr__(self, "score", score)
        object.__setattr__(self, "label", _words(self.label, 'a target\'s "label"') or OBJECT_LABEL)


@dataclass(frozen=True)
class Answer:
    """What an instruction means on one picture.

    Attributes:
        kind: one of `KINDS`.
        thing: words for what is meant ("motorcycle"); "" for the whole picture.
        targets: the regions, best first; those of a score below `CHOSEN` are alternatives that were not chosen. Empty means the whole
            picture, or that nothing was found (then `note` says so).
        after: what should appear: a colour ("blue", "dark red"), "a beach", "blur", "transparent"; one of `ADJUSTMENTS` where the kind
            is "adjust"; "" where nothing is named.
        keep: what must stay, in words.
        image_size: (height, width) of the picture that the boxes belong to.
        note: what the grounder wants to say to a person.
        picture: `thumbnail.fingerprint` of the picture that it was found on; "" where nobody wrote it down: it stands for any.

    Raises:
        ValueError: in words, for anything that is not as described, and for a box outside of the picture.
    """

    kind: str
    thing: str
    targets: tuple[Target, ...]
    after: str
    keep: tuple[str, ...]
    image_size: tuple[int, int]
    note: str = ""
    picture: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in KINDS:
            raise ValueError(f'"kind" must be one of {", ".join(KINDS)}, got {_short(self.kind)}.')
        size = _image_size(self.image_size)
        if not isinstance(self.targets, (list, tuple)) or not all(isinstance(target, Target) for target in self.targets):
            raise ValueError(f'"targets" must be a list of targets, got {_short(self.targets)}.')
        if len(self.targets) > _MAX_TARGETS:
            raise ValueError(f'"targets" may name up to {_MAX_TARGETS} regions, got {len(self.targets)}.')
        if not isinstance(self.keep, (list, tuple)):
            raise ValueError(f'"keep" must be a list of texts, got {_short(self.keep)}.')
        if len(self.keep) > _MAX_KEPT:
            raise ValueError(f'"keep" may hold up to {_MAX_KEPT} texts, got {len(self.keep)}.')
        after = _words(self.after, '"after"')
        if self.kind == "adjust" and after not in ADJUSTMENTS:
            raise ValueError(f'"after" must be one of {", ".join(ADJUSTMENTS)} where "kind" is "adjust", got {_short(after)}.')
        object.__setattr__(self, "thing", _words(self.thing, '"thing"'))
        object.__setattr__(self, "targets", tuple(_inside(target, size) for target in self.targets))
        object.__setattr__(self, "after", after)
        object.__setattr__(self, "keep", tuple(_words(text, 'a text in "keep"') for text in self.keep))
        object.__setattr__(self, "image_size", size)
        object.__setattr__(self, "note", _words(self.note, '"note"'))
        object.__setattr__(self, "picture", _words(self.picture, '"picture"'))
        if self.picture:
            try:
                same_fingerprint(self.picture, self.picture)
            except ValueError as error:
                raise ValueError(f'"picture": {error}; leave it out, and the answer stands for any picture.') from None

    @property
    def chosen(self) -> tuple[Target, ...]:
        """The targets that are meant, best first; the best alone where none is sure, which is a guess and `note` says so."""
        ranked = sorted(self.targets, key=lambda target: -target.score)
        return tuple(target for target in ranked if target.score >= CHOSEN) or tuple(ranked[:1])

    def doubt(self, picture: Tensor) -> str:
        """That the record speaks of another picture than this one (3, H, W) in 0..1, in words; "" where it does not, or does not know.

        As with regions, a picture that was edited since is the same one.
        """
        if not self.picture or resembles(self.picture, fingerprint(picture)):
            return ""
        return "This answer was made on another picture than this one, so its boxes may lie on other things: ground this picture anew."

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON-able values; boxes to a tenth of a pixel, scores to three decimals."""
        known = {"picture": self.picture} if self.picture else {}
        return {
            "kind": self.kind,
            "thing": self.thing,
            "targets": [
                {"box": [round(value, 1) for value in target.box], "score": round(target.score, 3), "label": target.label}
                for target in self.targets
            ],
            "after": self.after,
            "keep": list(self.keep),
            "image_size": list(self.image_size),
            "note": self.note,
            **known,
        }

    def to_json(self) -> str:
        """The record as JSON text of one line."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @classmethod
    def from_dict(cls, value: Any, image_size: tuple[int, int] | None = None) -> Answer:
        """Inverse of `to_dict`; `thing`, `after`, `keep`, `note` and `picture` may be left out, and `image_size` where it is given here.

        Raises:
            ValueError: in words, for anything malformed, and where the record belongs to a picture of another size than `image_size`.
        """
        if not isinstance(value, dict):
            raise ValueError(f"An answer must be a JSON object in {{...}}, got {_short(value)}.")
        _check_keys(value, _KEYS, _NEEDED, "An answer")
        own = value.get("image_size", image_size)
        if own is None:
            raise ValueError('An answer needs "image_size": [height, width] of the picture that its boxes belong to.')
        own = _image_size(own)
        if image_size is not None and own != _image_size(image_size):
            raise ValueError(
                f"This answer belongs to a picture of height {own[0]} and width {own[1]}, but the picture here has height "
                f"{image_size[0]} and width {image_size[1]}. Ground this picture, or give the answer its own picture."
            )
        targets = value["targets"]
        if not isinstance(targets, list):
            raise ValueError(f'"targets" must be a list [{{"box": [x1, y1, x2, y2], "score": 0.9}}, ...], got {_short(targets)}.')
        if len(targets) > _MAX_TARGETS:
            raise ValueError(f'"targets" may name up to {_MAX_TARGETS} regions, got {len(targets)}.')
        return cls(
            value["kind"], value.get("thing", ""), tuple(_target(target) for target in targets), value.get("after", ""),
            value.get("keep", []), own, value.get("note", ""), value.get("picture", ""),
        )  # fmt: skip

    @classmethod
    def from_json(cls, text: str, image_size: tuple[int, int] | None = None) -> Answer:
        """Read a record from JSON text; see `from_dict`.

        Raises:
            ValueError: in words, for anything malformed.
        """
        return cls.from_dict(strict_json.parsed(text, "answer"), image_size)


def regions_meant(regions: Regions) -> list[int]:
    """Numbers of those regions that are meant: of a score of at least `CHOSEN`, else the best alone.

    None where all have a score of 0: so `ground` gives them where the whole picture is meant.
    """
    if not bool(regions.scores.any()):
        return []
    return (regions.scores >= CHOSEN).nonzero().flatten().tolist() or [int(regions.scores.argmax())]


def mask_meant(regions: Regions) -> Tensor:
    """(H, W) in 0..1: the masks, or boxes, of those regions that are meant; 1 everywhere where none is."""
    meant = regions_meant(regions)
    return to_mask(regions.select(meant)) if meant else torch.ones(regions.image_size)


def answers_to_json(answers: Sequence[Answer]) -> str:
    """One answer as its record, those of a batch as a JSON list with a record in each line."""
    if len(answers) == 1:
        return answers[0].to_json()
    return "[" + ",\n ".join(answer.to_json() for answer in answers) + "]"


def answers_from_json(text: str, image_sizes: Sequence[tuple[int, int]]) -> list[Answer]:
    """The answers for pictures of `image_sizes` = (height, width) each; one record serves every picture of its size.

    Raises:
        ValueError: in words, for anything malformed, another number of records than of pictures, and another size of a picture.
    """
    value = strict_json.parsed(text, "answer")
    records = value if isinstance(value, list) else [value] * len(image_sizes)
    if len(records) == 1:
        records = records * len(image_sizes)
    if len(records) != len(image_sizes):
        raise ValueError(
            f"The answer holds {len(records)} records, but there are {len(image_sizes)} pictures: give one for each, or one for all."
        )
    found = []
    for index, (record, size) in enumerate(zip(records, image_sizes, strict=True), start=1):
        try:
            found.append(Answer.from_dict(record, size))
        except ValueError as error:
            raise ValueError(f"Record {index} of {len(records)}: {error}" if len(records) > 1 else str(error)) from None
    return found


def _check_keys(value: dict[str, Any], known: Sequence[str], needed: Sequence[str], what: str) -> None:
    missing = [key for key in needed if key not in value]
    if missing:
        raise ValueError(f"{what} needs {_quoted(missing)}; it has {_quoted(value) or 'nothing'}.")
    unknown = [key for key in value if key not in known]
    if unknown:
        raise ValueError(f"{what} has a key that is not known: {_quoted(unknown)}. Known are {_quoted(known)}.")


def _target(value: Any) -> Target:
    if not isinstance(value, dict):
        raise ValueError(f'A target must be a JSON object {{"box": [x1, y1, x2, y2], "score": 0.9}}, got {_short(value)}.')
    _check_keys(value, _TARGET_KEYS, ("box",), "A target")
    return Target(value["box"], value.get("score", 1.0), value.get("label", OBJECT_LABEL))


def _inside(target: Target, size: tuple[int, int]) -> Target:
    """The target with its box inside of the picture; what sticks out by a rounding is cut, more is refused."""
    height, width = size
    x1, y1, x2, y2 = target.box
    cut = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if any(abs(before - after) > _ROUNDING for before, after in zip(target.box, cut, strict=True)) or cut[2] <= cut[0] or cut[3] <= cut[1]:
        raise ValueError(
            f"The box {_short(list(target.box))} does not lie in the picture, which is {width} wide and {height} high; boxes are "
            "[x1, y1, x2, y2] in pixels of the picture."
        )
    return target if cut == target.box else Target(cut, target.score, target.label)


def _image_size(value: Any) -> tuple[int, int]:
    good = isinstance(value, (list, tuple)) and len(value) == 2
    good = good and all(isinstance(side, int) and not isinstance(side, bool) and 1 <= side <= _MAX_SIDE for side in value)
    if not good:
        raise ValueError(f'"image_size" must be [height, width] in whole pixels, 1 to {_MAX_SIDE}, got {_short(value)}.')
    return value[0], value[1]


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"A number is needed {where}, got {_short(value)}.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"A finite number is needed {where}, got {_short(number)}.")
    return number


def _words(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what[0].upper()}{what[1:]} must be text, got {_short(value)}.")
    if len(value) > _MAX_WORDS:
        raise ValueError(f"{what[0].upper()}{what[1:]} may have up to {_MAX_WORDS} characters, got {len(value)}.")
    # Half of a surrogate pair is legal in JSON, and breaks whoever writes it to a file; control characters break terminals.
    if any("\ud800" <= character <= "\udfff" or (character < " " and character not in "\n\t") for character in value):
        raise ValueError(f"{what[0].upper()}{what[1:]} holds characters that are no text: {_short(value)}.")
    return value.strip()


def _quoted(keys: Any) -> str:
    return ", ".join(_short(key) for key in list(keys)[:12])


def _short(value: Any) -> str:
    """How a value that came is shown in a message: short, printable, whatever it is."""
    try:
        text = ascii(value) if not isinstance(value, str) or not value.isprintable() else repr(value)
    except (ValueError, RecursionError):  # an int of more digits than Python writes
        text = type(value).__name__
    return text if len(text) <= 80 else f"{text[:77]}..."
