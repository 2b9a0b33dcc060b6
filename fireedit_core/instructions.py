# SPDX-License-Identifier: GPL-3.0-or-later
"""Several edits in one sentence, taken apart by words: "remove the cat and make the apple red" is two turns."""

from __future__ import annotations

import re

_VERBS = (
    "add", "change", "clear", "color", "colour", "convert", "crop", "cut", "delete", "draw", "drop", "dye", "enlarge", "erase",
    "exchange", "fill", "get", "give", "grow", "increase", "insert", "let", "make", "move", "paint", "place", "put", "recolor",
    "recolour", "reduce", "remove", "replace", "scale", "set", "shrink", "swap", "take", "tint", "transform", "turn", "write",
)  # fmt: skip
# how a clause begins that asks for an edit, and what says so where it begins otherwise
_ASKS = re.compile(rf"(?:(?:please|also|now|finally)\s+)*(?:{'|'.join(_VERBS)})\b", re.IGNORECASE)
_WISHES = re.compile(r"\b(?:should|instead of|(?:do not|don't|would like|want))\b", re.IGNORECASE)
_DETERMINER = re.compile(
    r"\b(?:the|a|an|it|its|them|this|that|these|those|all|every(?:thing|one)?|each|some|my|his|her|their)\b", re.IGNORECASE
)
_JOINT = re.compile(r"(\s*(?:[,;.]\s*)?\b(?:and\s+)?then\b,?\s*|\s*;\s*|[,.]\s+(?:and\s+)?|\s+and\s+)", re.IGNORECASE)


def split_edits(text: str) -> list[str]:
    """The edits that a text asks for, in their order; most often one.

    It is taken apart at "then", ";", ",", "." and "and", where what stands on both sides asks for an edit of its own: "remove the
    cat and the dog" and "add a tree between the car and the house" stay whole. English only; "it" is not looked up in the edit
    before.

    Returns:
        At least one entry, white space made single; [""] for an empty text.
    """
    parts = _JOINT.split(" ".join(text.split()).rstrip(" .;,"))
    found = [parts[0]]
    for joint, clause in zip(parts[1::2], parts[2::2], strict=True):
        if _asks(found[-1]) and _asks(clause, bare=joint.strip().lower() == "and"):
            found.append(clause)
        else:
            found[-1] += joint + clause
    return found


def _asks(clause: str, bare: bool = False) -> bool:
    """Whether a clause asks for an edit; after a bare "and" it must name a thing too ("a black and color photo")."""
    return bool((_ASKS.match(clause) or _WISHES.search(clause)) and (not bare or _DETERMINER.search(clause)))
