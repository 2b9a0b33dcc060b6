# SPDX-License-Identifier: GPL-3.0-or-later
"""What a text asks for, read by words: several edits in one sentence, what must not be done, lists, politeness. English only.

    read("1. please remove the cat & the dog 2. don't touch the car")
    -> edits ["remove the cat", "remove the dog"], kept ["don't touch the car"]

A model reads one edit at a time, and reads "don't remove the orange cat" as one that names the orange cat. So what is asked is
taken apart before any model sees it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

VERBS = (
    "add", "blur", "brighten", "change", "clear", "color", "colour", "convert", "crop", "cut", "darken", "delete", "desaturate", "draw",
    "drop", "dye", "enlarge", "erase", "exchange", "extract", "fill", "get", "give", "grow", "increase", "insert", "isolate", "let",
    "lighten", "make", "move", "paint", "place", "put", "recolor", "recolour", "reduce", "remove", "replace", "scale", "set", "sharpen",
    "shrink", "swap", "take", "tint", "transform", "turn", "write",
)  # fmt: skip
# Words of order and of courtesy in front of a clause: they say nothing of the edit, and a small model does not know them.
_ORDER = r"(?:first(?:ly| of all)?|second(?:ly)?|third(?:ly)?|next|then|lastly|last|finally|after (?:that|this)|afterwards|also|now)"
_COURTESY = r"(?:please|pls|plz|kindly|(?:could|can|would|will) you(?: please)?|i(?: would|'d) like you to|i want you to|just)"
_FRONT = re.compile(rf"^(?:(?:{_ORDER}|{_COURTESY})\b[\s,:]*)+", re.IGNORECASE)
_ORDER_COMMA = re.compile(rf"\b({_ORDER}|please),\s+", re.IGNORECASE)
_BACK = re.compile(r"[\s,]*\b(?:please|pls|plz|thanks|thank you|thx|ty|cheers)[.!]*$", re.IGNORECASE)
# how a clause begins that asks for an edit, and what says so where it begins otherwise
_ASKS = re.compile(rf"(?:(?:{_ORDER}|{_COURTESY})\b[\s,:]*)*(?:{'|'.join(VERBS)})\b", re.IGNORECASE)
_WISHES = re.compile(r"\b(?:should|instead of|(?:do not|don't|would like|want))\b", re.IGNORECASE)
# "do not remove the cat" forbids an edit; "i do not want the cat" asks for one
_FORBIDS = re.compile(
    rf"^(?:but\s+|and\s+)?(?:(?:do not|don't|dont|never)\s+(?:{'|'.join((*VERBS, 'touch', 'alter', 'edit', 'modify'))})\b"
    r"|(?:leave|keep)\b.*\b(?:as (?:it|they) (?:is|are)|alone|unchanged|untouched|there|in place)\b)",
    re.IGNORECASE,
)
_BUT_NOT = re.compile(r"[\s,]+(?:but|and)\s+not\s+(?P<kept>(?:the|a|an|this|that|these|those|my|his|her|their)\s[^,;.]+)$", re.IGNORECASE)
_DETERMINER = re.compile(
    r"\b(?:the|a|an|it|its|them|this|that|these|those|all|every(?:thing|one)?|each|some|my|his|her|their)\b", re.IGNORECASE
)
_JOINT = re.compile(
    r"(\s*(?:[,;.]\s*)?\b(?:and\s+)?then\b,?\s*|\s*;\s*|\s*[,.]\s+(?:and\s+|but\s+)?|\s+and\s+|\s+but\s+|\s*[&+]\s*|\s+plus\s+"
    r"|\s+as well as\s+)",
    re.IGNORECASE,
)
_ITEM = re.compile(r"(?:^|(?<=[\s,;.]))(?:\(?\d{1,2}[.)]|[-*\u2022])\s+")
# Verbs whose object may be a list: "remove the cat and the dog" is two edits, and so is "make the cat and the dog red".
_TAKES_A_LIST = re.compile(
    r"^(?P<verb>remove|delete|erase|get rid of|take away|clear away|enlarge|shrink|make|paint|colou?r|dye|turn)\s+(?P<rest>.+)$",
    re.IGNORECASE,
)
_ENDS = re.compile(
    r"\s+(?P<end>(?:red|orange|yellow|green|blue|purple|pink|black|white|gr[ae]y|brown|golden?|silver|bigger|smaller|larger|disappear|darker|"
    r"brighter|lighter)|away|out of the (?:picture|image|photo)|from the (?:picture|image|photo))$",
    re.IGNORECASE,
)
_LOOKS = re.compile(r"\b(?:red|orange|yellow|green|blue|purple|pink|black|white|gr[ae]y|brown|gold|silver|bigger|smaller|larger|darker|"
                    r"brighter|lighter)$", re.IGNORECASE)
# what follows these are not further objects of the verb: "everything except the cat and the dog"
_NO_LIST = re.compile(r"\b(?:between|except(?:ing)?|excluding|besides|(?:other|rather) than|(?:apart|aside) from|(?:all|every\w*|"
                      r"any\w*|people|nothing) but)\b", re.IGNORECASE)
_BARE_NOUN = re.compile(r"^[a-z]+$", re.IGNORECASE)
_NEEDS_A_THING = re.compile(rf"^(?:{'|'.join(VERBS)})(?:\s+(?:it|this|that|away|out|rid of))?$", re.IGNORECASE)


@dataclass(frozen=True)
class Request:
    """What a text asks for.

    Attributes:
        edits: in their order, each a clause of its own without words of order and courtesy. kept: clauses that say what must not be
            done or changed.
    """

    edits: tuple[str, ...]
    kept: tuple[str, ...] = ()

    @property
    def vague(self) -> tuple[str, ...]:
        """Edits that say what to do, but not with what: "remove"."""
        return tuple(edit for edit in self.edits if _NEEDS_A_THING.match(edit))


def has_words(text: str) -> bool:
    """Whether a text has any letters at all, of whatever script."""
    return any(character.isalpha() for character in text)


def read(text: str) -> Request:
    """Take a text apart: enumerated items, clauses, objects of one verb, and what is forbidden."""
    edits: list[str] = []
    kept: list[str] = []
    for item in _items(text):
        for clause in _clauses(item):
            if _FORBIDS.match(_trimmed(clause)):
                kept.append(_trimmed(clause))
                continue
            but = _BUT_NOT.search(clause)
            if but:
                kept.append(f"not {but['kept']}")
                clause = clause[: but.start()]
            edits += _objects(_trimmed(clause))
    return Request(tuple(edit for edit in edits if edit), tuple(kept))


def split_edits(text: str) -> list[str]:
    """The edits that a text asks for, in their order; most often one. [""] where it asks for none."""
    return list(read(text).edits) or [""]


def _items(text: str) -> list[str]:
    """The items of "1. ... 2. ..." and of bulleted lines; a text without them is one item."""
    parts = [line for line in text.splitlines() if line.strip()] or [""]
    found: list[str] = []
    for part in parts:
        part = " ".join(part.split())
        marks = list(_ITEM.finditer(part))
        if not marks or marks[0].start() > 0:
            found.append(part)
            continue
        ends = [mark.start() for mark in marks[1:]] + [len(part)]
        found += [part[mark.end() : end].strip(" ,;.") for mark, end in zip(marks, ends, strict=True)]
    return found if len(found) > 1 and len(parts) == 1 or any(_ITEM.match(p.strip()) for p in parts) else [" ".join(found)]


def _clauses(text: str) -> list[str]:
    """Cut where what stands on both sides asks for an edit of its own, or forbids one."""
    text = _ORDER_COMMA.sub(r"\1 ", text)  # "after that, remove it" is one clause
    parts = _JOINT.split(text.strip().rstrip(" .;,"))
    found = [parts[0]]
    for joint, clause in zip(parts[1::2], parts[2::2], strict=True):
        bare = joint.strip().lower() in ("and", "&", "+")
        if _speaks(found[-1]) and _speaks(clause, bare=bare) and " " in _trimmed(found[-1]):  # not "darken" of "darken and blur it"
            found.append(clause)
        else:
            found[-1] += joint + clause
    return found


def _speaks(clause: str, bare: bool = False) -> bool:
    """Whether a clause asks for an edit or forbids one; after a bare "and" it must name a thing too ("a black and color photo")."""
    if _FORBIDS.match(_trimmed(clause)):
        return True
    return bool((_ASKS.match(clause) or _WISHES.search(clause)) and (not bare or _DETERMINER.search(clause)))


def _trimmed(clause: str) -> str:
    """A clause without words of order and courtesy."""
    clause = _BACK.sub("", clause.strip(" .;,!"))
    short = _FRONT.sub("", clause).strip()
    return short or clause


def _objects(clause: str) -> list[str]:
    """One clause for each object that its verb is about, where it takes a list of them."""
    match = _TAKES_A_LIST.match(clause)
    if not match:
        return [clause]
    verb, rest = match["verb"], match["rest"]
    end = _ENDS.search(rest)
    if end:
        rest = rest[: end.start()]
    elif verb.lower() in ("make", "paint", "color", "colour", "dye", "turn"):
        return [clause]  # what they are to become is not known, so neither where the list ends
    things = re.split(r"\s*,\s*(?:and\s+|&\s*)?|\s+and\s+|\s*[&+]\s*|\s+as well as\s+|\s+plus\s+", rest)
    if len(things) < 2 or _NO_LIST.search(rest):
        return [clause]
    if not _DETERMINER.match(things[0]) or any(not _is_thing(thing) for thing in things[1:]) or _LOOKS.search(things[0]):
        return [clause]
    named = [things[0], *(thing if _DETERMINER.match(thing) else f"the {thing}" for thing in things[1:])]
    return [" ".join(part for part in (verb, thing, end["end"] if end else "") if part) for thing in named]


def _is_thing(text: str) -> bool:
    return bool(_DETERMINER.match(text) or _BARE_NOUN.match(text))
