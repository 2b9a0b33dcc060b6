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
from .clauses import AS_IT_IS, BACKGROUND, DET, LOOKS, PAINT, TONES, Clause, behind, read_clause
from .colours import COLOUR, is_colour
from .language import check_readable, check_words
from .phrases import ALL, Phrase, is_one, parse
from .plain import written_out

_HELD = re.compile(
    rf"(?:(?:keep|leave|not)\s+|(?:do\s+not|don't|dont|never)\s+(?:touch|alter|edit|modify|change|blur|darken|recolou?r)\s+)?(?P<thing>.+?)"
    rf"(?:\s+(?:{AS_IT_IS}|alone|unchanged|untouched|in\s+place|{COLOUR}))?", re.IGNORECASE
)  # fmt: skip
_IT = re.compile(r"(?:it|them)", re.IGNORECASE)


@dataclass(frozen=True)
class Words:
    """What an instruction says.

    Attributes:
        kind: of `answer.KINDS`. phrases: what is meant; several where one edit is about several things; none for the whole picture.
        after: what should appear, as in `Answer`. keep: what must stay, as written. more: further edits, which were not read.
        subject: the edit is about what stands before the background, and no thing is named. anchor: a thing is only where something new
            goes, so the edit can do without it. notes: what was read otherwise than it was written, as sentences.
    """

    kind: str
    phrases: tuple[Phrase, ...]
    after: str = ""
    keep: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    subject: bool = False
    anchor: bool = False
    notes: tuple[str, ...] = ()

    @property
    def thing(self) -> str:
        """The words for what is meant; "" for the whole picture."""
        return " and ".join(re.sub(r"^(?:the|an?)\s+", "", phrase.text) for phrase in self.phrases)


def read_words(instruction: str) -> Words:
    """Read an instruction.

    Raises:
        ValueError: in words, for no words, too many, a language that is not English, and an instruction that only forbids something.
    """
    text = written_out(check_readable(instruction))
    request = instructions.read(text)
    if not request.edits:
        raise ValueError(f"the instruction only says what must stay ({'; '.join(request.kept)[:200]}), and asks for no edit.")
    clauses, keep = [], list(request.kept)
    edits = [edit for clause in request.edits for edit in _two_edits(clause)]
    for edit in edits:
        clause, kept = read_clause(edit)
        clauses.append(_before_what_stays(clause, [*request.kept, *kept]))
        keep += kept
    first = clauses[0]
    # one edit of several things is one edit: "remove the cat and the dog"
    alike = 1
    while alike < len(clauses) and first.thing and clauses[alike].thing and _asked(clauses[alike]) == _asked(first):
        alike += 1
    # "I don't like the cat, remove it" speaks of one thing
    things = [clause.thing for at, clause in enumerate(clauses[:alike]) if clause.thing and not (at and _IT.fullmatch(clause.thing))]
    phrases = _named_before([phrase for thing in things for phrase in _phrases(thing)])
    if first.kind != "background":  # there what stays is meant as well
        phrases = _leaving_out(phrases, keep)
    if first.kind == "other":
        check_words(first.after, "what shall become of it,")
    subject = first.subject and not phrases
    if first.kind == "other" and not phrases and not first.after and first.thing:
        phrases = (parse(first.thing),)
    kept = tuple(dict.fromkeys(_kept(phrases, keep)))
    return Words(first.kind, phrases, first.after, kept, tuple(edits[alike:]), subject, first.anchor, first.notes)


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


def _two_edits(edit: str) -> list[str]:
    """ "make the apple green and the banana red", "make the apple green and darker", "darken and blur it", and "blur the background
    and the cup", of which one is what the other leaves, as two; others as they are."""
    match = re.fullmatch(
        rf"(?P<verb>[a-z]+(?:\s+(?:out|up|away))?)\s+(?P<one>{BACKGROUND})\s+and\s+(?P<two>{DET}\s+.+?)(?P<look>\s+{LOOKS})?",
        edit, re.IGNORECASE,
    )  # fmt: skip
    if match and not re.match(r"keep|leave", edit, re.IGNORECASE) and not re.search(r"\b(?:with|by|to|into)\b", match["two"]):
        return [f"{match['verb']} {match[thing]}{match['look'] or ''}" for thing in ("one", "two")]
    match = re.fullmatch(rf"(?P<verb>{PAINT})\s+(?P<one>.+?\s+{LOOKS})(?:\s+and|,)\s+(?P<two>{DET}\s+.+?\s+{LOOKS})",
                         edit, re.IGNORECASE)
    if match:
        return [f"{match['verb']} {match['one']}", f"{match['verb']} {match['two']}"]
    match = re.fullmatch(rf"(?P<verb>{PAINT})\s+(?P<thing>.+?)\s+(?P<one>{LOOKS})\s+and\s+(?P<two>{LOOKS})", edit, re.IGNORECASE)
    if match and not (is_colour(match["one"]) and is_colour(match["two"])):  # "black and white" is one look
        return [f"{match['verb']} {match['thing']} {match[way]}" for way in ("one", "two")]
    match = re.fullmatch(rf"(?P<one>{TONES})\s+and\s+(?P<two>{TONES})\s+(?P<thing>.+)", edit, re.IGNORECASE)
    return [f"{match[way]} {match['thing']}" for way in ("one", "two")] if match else [edit]


def _before_what_stays(clause: Clause, kept: list[str]) -> Clause:
    """An edit of the background, or of the whole picture's tone, as one of what is behind the things that are to stay as they are."""
    whole = clause.kind == "adjust" and not clause.thing
    if clause.kind != "background" and not whole:
        return clause
    held = [match["thing"] for match in map(_HELD.fullmatch, kept) if match and _named(match["thing"])]
    if not held:
        return clause
    note = f"What must stay stands before the background: {' and '.join(held)}."
    made = behind("", clause.after) if whole else clause
    thing = " and ".join([clause.thing, *held] if clause.thing else held)
    return replace(made, thing=thing, subject=False, notes=(*clause.notes, note))


def _named(thing: str) -> bool:
    """Whether a text names something to stay: not "everything else", and not the "it" of "keep it simple"."""
    phrase = parse(thing)
    return phrase.name is not None or phrase.main and not _IT.fullmatch(thing)


def _named_before(phrases: list[Phrase]) -> tuple[Phrase, ...]:
    """Phrases of which "one" and "it" speak of the one before: "the red cup and the blue one", "the car and the man next to it"."""
    made: list[Phrase] = []
    for phrase in phrases:
        last = made[-1] if made else None
        if last is not None and (last.name or last.noun) and is_one(phrase):
            phrase = replace(phrase, name=last.name, noun=last.noun, anything=False)
        if last is not None:
            links = tuple((how, tuple(last if _IT.fullmatch(it.text) else it for it in others)) for how, others in phrase.relations)
            phrase = replace(phrase, relations=links)
        made.append(phrase)
    return tuple(made)


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
