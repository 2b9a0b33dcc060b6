# SPDX-License-Identifier: GPL-3.0-or-later
"""An instruction read by words: what kind of edit, of which thing, what shall appear, what must stay. English only.

    read_words("Please change the cup's colour to dark blue, but keep the spoon")
    -> Words(kind="recolour", phrases=(cup,), after="dark blue", keep=("the spoon",))

Clauses are taken apart by `fireedit_core.instructions`, the one reader of them; each is read by `clauses`, and the things that they name by
`phrases`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from .. import instructions
from .clauses import DET, ELSE, PAINT, Clause, read_clause
from .colours import COLOUR
from .language import check_readable, check_words
from .phrases import ALL, Phrase, is_one, parse

_HELD = re.compile(
    r"(?:keep|leave)\s+(?P<thing>.+?)\s+(?:as\s+(?:it|they)\s+(?:is|are)|alone|unchanged|untouched|in\s+place)", re.IGNORECASE
)


@dataclass(frozen=True)
class Words:
    """What an instruction says.

    Attributes:
        kind: of `answer.KINDS`. phrases: what is meant; several where one edit is about several things; none for the whole picture.
        after: what should appear, as in `Answer`. keep: what must stay, as written. more: further edits, which were not read.
        subject: the edit is about what stands before the background, and no thing is named. anchor: a thing is only where something new
            goes, so the edit can do without it.
    """

    kind: str
    phrases: tuple[Phrase, ...]
    after: str = ""
    keep: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    subject: bool = False
    anchor: bool = False

    @property
    def thing(self) -> str:
        """The words for what is meant; "" for the whole picture."""
        return " and ".join(re.sub(r"^(?:the|an?)\s+", "", phrase.text) for phrase in self.phrases)


def read_words(instruction: str) -> Words:
    """Read an instruction.

    Raises:
        ValueError: in words, for no words, too many, a language that is not English, and an instruction that only forbids something.
    """
    text = check_readable(instruction)
    request = instructions.read(text)
    if not request.edits:
        raise ValueError(f"the instruction only says what must stay ({'; '.join(request.kept)[:200]}), and asks for no edit.")
    clauses, keep = [], list(request.kept)
    edits = [edit for clause in request.edits for edit in _two_colours(clause)]
    for edit in edits:
        clause, kept = read_clause(edit)
        if clause.subject and re.search(ELSE, edit, re.IGNORECASE):  # of what stays as it is, where that was said before
            held = [match["thing"] for match in map(_HELD.match, request.kept) if match and parse(match["thing"]).known]
            clause = replace(clause, thing=" and ".join(held), subject=not held)
        clauses.append(clause)
        keep += kept
    first = clauses[0]
    # one edit of several things is one edit: "remove the cat and the dog"
    alike = 1
    while alike < len(clauses) and first.thing and clauses[alike].thing and _asked(clauses[alike]) == _asked(first):
        alike += 1
    phrases = tuple(phrase for clause in clauses[:alike] if clause.thing for phrase in _phrases(clause.thing))
    phrases = _leaving_out(phrases, keep)
    if first.kind == "other":
        check_words(first.after, "what shall become of it,")
    subject = first.subject and not phrases
    if first.kind == "other" and not phrases and not first.after and first.thing:
        phrases = (parse(first.thing),)
    return Words(first.kind, phrases, first.after, tuple(dict.fromkeys(_kept(phrases, keep))), tuple(edits[alike:]), subject, first.anchor)


def noun_phrase(instruction: str) -> str:
    """What a detector that reads a prompt (Grounding DINO, OWLv2) has to look for, as FireEdit Region Detect's prompt takes it.

    "remove the red helmet next to the bus" -> "helmet, bus". "" where any thing is meant.

    Raises:
        ValueError: as `read_words`.
    """
    words = read_words(instruction)
    return ", ".join(dict.fromkeys(noun for phrase in words.phrases for noun in phrase.nouns))


def _asked(clause: Clause) -> tuple[str, str]:
    return clause.kind, clause.after


def _two_colours(edit: str) -> list[str]:
    """ "make the apple green and the banana red" as two edits; others as they are."""
    match = re.fullmatch(rf"(?P<verb>{PAINT})\s+(?P<one>.+?\s+{COLOUR})(?:\s+and|,)\s+(?P<two>{DET}\s+.+?\s+{COLOUR})",
                         edit, re.IGNORECASE)
    return [f"{match['verb']} {match['one']}", f"{match['verb']} {match['two']}"] if match else [edit]


def _leaving_out(phrases: tuple[Phrase, ...], keep: list[str]) -> tuple[Phrase, ...]:
    """The phrases without what shall stay: "the people, but not the one on the left", "everything, but keep the cup"."""
    if not phrases:
        return phrases
    last = phrases[-1]
    for text in keep:
        match = re.fullmatch(r"not\s+(?P<thing>.+)", text, re.IGNORECASE)
        other = parse(match["thing"] if match else text)
        if is_one(other):
            other = replace(other, name=last.name, noun=last.noun, anything=last.anything)
        if other.known and (match or last.number == ALL):
            last = replace(last, excluded=(*last.excluded, other))
    return (*phrases[:-1], last)


def _kept(phrases: tuple[Phrase, ...], keep: list[str]) -> list[str]:
    return keep + [other.text for phrase in phrases for other in phrase.excluded if not any(other.text in text.lower() for text in keep)]


def _phrases(text: str) -> list[Phrase]:
    """The phrases of "the cat, the dog and both birds"; one where it is no list."""
    parts = [part for part in re.split(r"\s*,\s*(?:and\s+)?|\s+and\s+|\s*&\s*|\s+as\s+well\s+as\s+", text) if part]
    if len(parts) > 1 and not re.search(r"\b(?:between|but|except|not|other than|apart from)\b", text, re.IGNORECASE):
        found = [parse(part) for part in parts]
        # "the blue and white boat" is one thing
        if all(phrase.known and not (phrase.anything and phrase.colours and not is_one(phrase)) for phrase in found):
            return found
    return [parse(text)]
