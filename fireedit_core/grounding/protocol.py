# SPDX-License-Identifier: GPL-3.0-or-later
"""What a chat model is asked, and how its reply is read.

The picture that it sees carries the proposals as boxes with numbers (set-of-marks), the text lists them again in its own dialect, and
the reply is one JSON object:

    {"kind": "recolour", "before": "motorcycle", "targets": [2], "boxes": [], "after": "blue", "keep": ["the wall"]}

`targets` are numbers of marks, `boxes` are for what is meant and has no mark. The instruction may be in any language; the reply is in
English, because what comes after reads that. Parsing never fails with anything but ValueError, whatever text came.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..regions.record import OBJECT_LABEL, Regions
from .answer import ADJUSTMENTS, KINDS
from .dialects import Dialect, Size

NEED_TARGETS = ("remove", "recolour", "replace", "cutout", "background")  # kinds that mean something in the picture
MOST_MARKS = 40  # proposals that are drawn and listed: more cannot be told apart
MOST_BOXES = 10
_MOST_REPLY = 20_000  # characters of a reply that are looked at
_MOST_OBJECTS = 20  # places where an object may begin that are tried
_WORDS = {"before": 200, "after": 300}  # characters that are kept
_KEPT, _KEPT_WORDS = 10, 120
_KEYS = ("kind", "before", "targets", "boxes", "after", "keep")

_KINDS_TEXT = (
    "remove (take it away), recolour (another colour), replace (another thing in its place), add (something new; targets: where it "
    "goes), background (change what is behind; targets: what stays in front), cutout (keep only the targets), adjust (brighter, darker, "
    "blurred or grey), restyle (another style or weather), other"
)


@dataclass(frozen=True)
class Reply:
    """What a chat model said, checked.

    Attributes:
        kind, before, after, keep: as `kind`, `thing`, `after`, `keep` of `Answer`. targets: numbers of marks, each once. boxes: x1, y1, x2,
            y2 in pixels of the picture.
    """

    kind: str
    before: str
    after: str
    keep: tuple[str, ...]
    targets: tuple[int, ...]
    boxes: tuple[tuple[float, float, float, float], ...]


def question(instruction: str, marks: Regions, dialect: Dialect, seen: Size) -> str:
    """The text beside the picture. marks: the proposals that are drawn on it, numbered from 0."""
    listed = [
        f"{i}: {marks.labels[i]}" + (f" {dialect.write(box, marks.image_size, seen)}" if dialect.boxes else "")
        for i, box in enumerate(marks.boxes.tolist())
    ]
    lines = ["An editor wants to change this picture by an instruction. Say what the instruction means; do not carry it out."]
    if listed:
        lines += ["The things in the picture are framed and numbered:", *listed]
        if any(label != OBJECT_LABEL for label in marks.labels):
            lines.append("Their names come from a detector and may be wrong: believe the picture.")
    else:
        lines.append("No thing in the picture is numbered.")
    keys = [
        f'"kind": one of {_KINDS_TEXT}',
        '"before": what is meant as it is now, in a few English words; empty for the whole picture',
        '"targets": list of the numbers of what is meant; empty for the whole picture'
        + (" or where it has no number" if dialect.boxes else ""),
    ]
    if dialect.boxes:
        keys.append(f'"boxes": list of a box for everything that is meant but has no number, each {dialect.says(seen)}')
    keys += [
        f'"after": what should appear, in English: a colour or a few words; with adjust one of {", ".join(ADJUSTMENTS)}; with background '
        "blur, transparent, brighter, darker, black and white, a colour or what is to be seen; empty where nothing is named",
        '"keep": list of what must not change, in English',
    ]
    lines += [
        "Instruction (it may be in any language): " + json.dumps(instruction, ensure_ascii=False),
        "Answer with one JSON object and nothing else. Its keys:", *keys,
    ]  # fmt: skip
    return "\n".join(lines)


def complaint(problem: str) -> str:
    """What is said after a reply that cannot be used."""
    return f"This answer cannot be used: {problem}. Answer again with one JSON object as described and nothing else."


def reply_schema(count: int, dialect: Dialect, seen: Size) -> dict[str, Any]:
    """The JSON schema of a reply about `count` marks, for a library that holds a model to it."""
    marks = {"type": "integer", "enum": list(range(count))} if count else {"type": "integer"}
    across, down = dialect.limits(seen)
    ends = [{"type": "integer", "minimum": 0, "maximum": end} for end in (across, down, across, down)]
    box = {"type": "array", "prefixItems": ends, "items": False, "minItems": 4, "maxItems": 4}
    text = lambda most: {"type": "string", "maxLength": most}  # noqa: E731
    properties = {
        "kind": {"enum": list(KINDS)},
        "before": text(_WORDS["before"]),
        "targets": {"type": "array", "items": marks, "maxItems": count},
        "boxes": {"type": "array", "items": box, "maxItems": MOST_BOXES if dialect.boxes else 0},
        "after": text(_WORDS["after"]),
        "keep": {"type": "array", "items": text(_KEPT_WORDS), "maxItems": _KEPT},
    }
    if not dialect.boxes:
        del properties["boxes"]
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def read_reply(text: Any, count: int, dialect: Dialect, size: Size, seen: Size) -> Reply:
    """Read a reply about `count` marks on a picture of `size` = (height, width), which the model saw in the size `seen`.

    Fences, thoughts and prose around the object are passed over; the object itself must be right.

    Raises:
        ValueError: in words that the model can be told, without the full stop at the end.
    """
    value = _object_in(text)
    unknown = sorted(set(value) - set(_KEYS))
    if unknown:
        raise ValueError(f"the key {_shown(unknown[0])} is not known; the keys are {', '.join(_KEYS)}")
    kind = value.get("kind")
    kind = kind.strip().lower() if isinstance(kind, str) else kind
    if kind not in KINDS:
        raise ValueError(f'"kind" must be one of {", ".join(KINDS)}, not {_shown(kind)}')
    before, after = (_text(value.get(key), key)[:most].strip() for key, most in _WORDS.items())
    if kind == "adjust":
        after = after.lower()
        if after not in ADJUSTMENTS:
            raise ValueError(f'with adjust "after" must be one of {", ".join(ADJUSTMENTS)}, not {_shown(after)}')
    if kind == "cutout":
        after = after or "transparent"
    keep = value.get("keep") or []
    keep = [keep] if isinstance(keep, str) else keep
    if not isinstance(keep, list):
        raise ValueError(f'"keep" must be a list of texts, not {_shown(keep)}')
    kept = tuple(filter(None, (_text(one, "keep")[:_KEPT_WORDS].strip() for one in keep[:_KEPT])))
    targets = _targets(value.get("targets"), count)
    boxes = _boxes(value.get("boxes"), dialect, size, seen)
    if kind in NEED_TARGETS and not targets and not boxes:
        where = "a number or a box" if dialect.boxes else "a number"
        raise ValueError(f"{kind} needs {where} of what is meant, and none is given")
    return Reply(kind, before, after, kept, targets, boxes)


def _targets(value: Any, count: int) -> tuple[int, ...]:
    value = [] if value is None else value if isinstance(value, list) else [value]
    found = []
    for one in value:
        number = int(one) if isinstance(one, str) and re.fullmatch(r"\s*[0-9]{1,6}\s*", one, re.ASCII) else one
        number = int(number) if isinstance(number, float) and number.is_integer() else number
        if isinstance(number, bool) or not isinstance(number, int):
            raise ValueError(f'"targets" must be a list of numbers, not {_shown(one)}')
        if not 0 <= number < count:
            there = f"the numbers go from 0 to {count - 1}" if count else "nothing is numbered"
            raise ValueError(f"there is no number {_shown(number)}: {there}")
        found.append(number)
    return tuple(dict.fromkeys(found))


def _boxes(value: Any, dialect: Dialect, size: Size, seen: Size) -> tuple[tuple[float, float, float, float], ...]:
    value = [] if value is None else value
    if not isinstance(value, list):
        raise ValueError(f'"boxes" must be a list of boxes, not {_shown(value)}')
    if not value:
        return ()
    if not dialect.boxes:
        raise ValueError('boxes are not asked for: name numbers in "targets"')
    if len(value) == 4 and not any(isinstance(one, list) for one in value):
        value = [value]  # one box, not in a list
    if len(value) > MOST_BOXES:
        raise ValueError(f'"boxes" may hold {MOST_BOXES} boxes, not {len(value)}')
    found = []
    for box in value:
        good = isinstance(box, list) and len(box) == 4
        good = good and all(isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < 1e9 for v in box)
        if not good or not all(math.isfinite(v) for v in box):
            raise ValueError(f"a box must be four numbers [left, top, right, bottom], not {_shown(box)}")
        found.append(dialect.read(box, size, seen))
    return tuple(dict.fromkeys(found))


def _text(value: Any, key: str) -> str:
    """A text without what no text has: halves of characters, control characters."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f'"{key}" must be text, not {_shown(value)}')
    return "".join(" " if c in "\n\t\r" else c for c in value if not ("\ud800" <= c <= "\udfff" or (c < " " and c not in "\n\t\r")))


def _object_in(text: Any) -> dict[str, Any]:
    """The first JSON object in a text that has a key of ours."""
    if not isinstance(text, str) or not text.strip():
        raise ValueError("the answer is empty")
    text = text[:_MOST_REPLY]
    text = text.rsplit("</think>", 1)[-1]
    problem = "it holds no JSON object in {...}"
    for start in _starts(text):
        try:
            value, _ = _DECODER.raw_decode(text, start)
        except json.JSONDecodeError as error:
            problem = f"its JSON is not valid: {error.msg} at character {error.pos - start}"
            continue
        except (ValueError, RecursionError) as error:
            problem = "its JSON is not valid: " + (str(error) if isinstance(error, _Refused) else "it is too large or too deep")
            continue
        if isinstance(value, dict) and set(value) & set(_KEYS):
            return value
        problem = 'its JSON object has none of the keys "kind" and "targets"'
    raise ValueError(problem)


def _starts(text: str) -> Iterator[int]:
    """Where an object may begin, the outermost first."""
    found = (match.start() for match in re.finditer(r"\{", text))
    for _, start in zip(range(_MOST_OBJECTS), found, strict=False):
        yield start


class _Refused(ValueError):
    """What JSON readers let through and we do not."""


def _no_constant(name: str) -> float:
    raise _Refused(f"{name} is no number")


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Refused("a key stands in it twice")
    return found


_DECODER = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_once)


def _shown(value: Any) -> str:
    """A value that came, short and printable."""
    try:
        shown = json.dumps(value)
    except (TypeError, ValueError, RecursionError):  # also an integer of more digits than Python writes
        shown = type(value).__name__
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
