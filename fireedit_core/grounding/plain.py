# SPDX-License-Identifier: GPL-3.0-or-later
"""What people write as `clauses` reads it: complaints, questions and comparisons as requests, what is left out written out.

    plain("the dogs are too dark, lighten them") -> "lighten the dogs"
"""

from __future__ import annotations

import difflib
import re

from ..instructions import VERBS
from . import names
from .colours import COLOUR

_DET = r"(?:the|this|that|these|those|my|our|his|her|their|its|your)"
_WANT = r"(?:i\s+(?:want|need|would\s+like)|i'd\s+like)"
_TOO = r"^(?P<thing>.+?)\s+(?:is|are|looks?|seems?)\s+(?:(?:way|far|much|a\s+(?:bit|little|tad))\s+)?too\s+"
_PLAIN = tuple(
    (re.compile(pattern, re.IGNORECASE), said)
    for pattern, said in (
        (r"^i(?:'d|\s+would)\s+(?:love|prefer)\s+", "i would like "),
        # "the bird in the sky: remove it", "see the red cup? make it black"
        (rf"^(?:(?:(?:do|can)\s+you\s+)?see\s+|look\s+at\s+|there(?:'s|\s+is|\s+are)\s+)?(?P<thing>(?:{_DET}|an?|both|all)\s+[^,.;:?!]+?)"
         r"(?:\s+(?:is|are|looks?|seems?)\s+[^,.;:?!]+?)?(?:\s*[,.;:?!]+|\s+[-\u2013\u2014]+)\s+(?P<do>[a-z]+(?:\s+[a-z]+)*?\s+)"
         r"(?:it|them|him)\b(?P<rest>[^,.;:?!]*)$", r"\g<do>\g<thing>\g<rest>"),
        (rf"{_TOO}(?:dark|dim|underexposed)$", r"make \g<thing> brighter"),
        (rf"{_TOO}(?:bright|light|overexposed)$", r"make \g<thing> darker"),
        (r"\b(?:less|not\s+(?:so|as|that|quite\s+so))\s+(?:dark|dim)$", "brighter"),
        (r"\b(?:less|not\s+(?:so|as|that|quite\s+so))\s+(?:bright|light)$", "darker"),
        (r"^(?:can|could|may|might|would)\s+(?!(?:you|we|i)\b)(?P<thing>.+?)\s+(?=(?:be(?:come)?|go|disappear|vanish|look)\b)",
         r"\g<thing> should "),
        (rf"(?P<new>{COLOUR})\s*,?\s+(?:instead\s+of|rather\s+than|(?:and\s+)?not)\s+(?:an?\s+)?{COLOUR}$", r"\g<new>"),
        (rf"^instead\s+of\s+(?P<old>.+?)\s*,?\s+(?:{_WANT}|put|use|have|show|there\s+should\s+be)\s+(?P<new>(?:{_DET}|an?|some)\s+.+)$",
         r"replace \g<old> with \g<new>"),
        (rf"^(?:{_WANT}|use|have|show)\s+(?P<new>an?\s+.+?)\s+instead\s+of\s+(?P<old>.+)$", r"replace \g<old> with \g<new>"),
        (r"^(?=as\s+an?\s|in\s+the\s+style\s+of\s)", "make it look "),
    )
)  # fmt: skip
# "by 30 %": how much, which no edit here is told
_AMOUNT = re.compile(r"\s+(?P<how>(?:by\s+)?(?:(?:about|around)\s+)?\d+(?:[.,]\d+)?\s*(?:%|percent\b|per\s+cent\b|px\b|pixels?\b|"
                     r"times\b|x\b))(?=\s|$)", re.IGNORECASE)  # fmt: skip
_DEGREE = re.compile(r"\s+(?:quite\s+|just\s+|only\s+)?(?:a\s+(?:lot|bit|little|tad|touch)|slightly|heavily|strongly|very\s+much|much|more|"
                     r"somewhat|gently|softly)$", re.IGNORECASE)  # fmt: skip
_PLACED = r"first|second|third|fourth|fifth|last|left|right|top|bottom|upper|lower|middle|leftmost|rightmost|\w+est|big|small"
# "the first and last cup", "the red and the blue car"; "the blue and white boat" is one thing
_NOUN_ONCE = re.compile(rf"\b(?P<det>{_DET})\s+(?P<one>(?:{_PLACED}|(?P<colour>{COLOUR})))\s+(?:and|&)\s+(?P<again>{_DET}\s+)?"
                        rf"(?P<two>{_PLACED}|{COLOUR})\s+(?P<noun>[a-z-]+(?:\s+[a-z-]+){{0,2}})", re.IGNORECASE)  # fmt: skip
# "the cup, the blue one", "the dog, the one on the left", where no list goes on behind it
_APPOSITION = re.compile(rf"\b(?P<det>{_DET})\s+(?P<noun>[a-z-]+),\s+(?:i\s+mean\s+)?{_DET}\s+(?P<which>{_PLACED}|{COLOUR})\s+one(?=\s*$)",
                         re.IGNORECASE)  # fmt: skip
_THE_ONE = re.compile(r",\s+(?:i\s+mean\s+)?the\s+ones?\s+(?=(?:on|in|at|near|next|beside|behind|above|below|under|between|with|wearing|"
                      r"holding|closest|nearest|farthest|furthest|that|which|who)\b[^,]*$)", re.IGNORECASE)  # fmt: skip
_TYPED = (*VERBS, "defocus", "repaint")
_LIKENESS = 0.84  # of words from which one is taken for a slip of the other


_DOING = {f"{stem}ing": verb for verb in _TYPED for stem in (verb, verb.removesuffix("e"), verb + verb[-1])}


def plain(clause: str) -> str:
    """A clause as a request, where it is put as a complaint, a question or a comparison; others as they are."""
    doing, space, rest = clause.partition(" ")
    clause = f"{_DOING.get(doing.lower(), doing)}{space}{rest}"  # "would you mind removing"
    for pattern, said in _PLAIN:
        clause = pattern.sub(said, clause)
    return clause


def written_out(text: str) -> str:
    """A text with the nouns that it says once for two: "the first and the last cup" -> "the first cup and the last cup"."""
    text = _THE_ONE.sub(" ", _APPOSITION.sub(r"\g<det> \g<which> \g<noun>", text))
    return _NOUN_ONCE.sub(_noun_twice, text)


def _noun_twice(match: re.Match) -> str:
    words = match["noun"].split()
    count = next((count for count in range(len(words), 0, -1) if names.lookup(" ".join(words[:count]))), 0)
    if not count or match["colour"] and not match["again"]:
        return match[0]
    noun, rest = names.singular(" ".join(words[:count])), " ".join(["", *words[count:]])
    if match["again"]:
        noun = " ".join(words[:count])
    return f"{match['det']} {match['one']} {noun} and {match['again'] or match['det'] + ' '}{match['two']} {noun}{rest}"


def without_amount(clause: str) -> tuple[str, str]:
    """(a clause without how much, the number that was said): "brighten the car by 30%" -> ("brighten the car", "by 30%")."""
    said = _AMOUNT.search(clause)
    clause = clause[: said.start()] + clause[said.end() :] if said else clause
    return _DEGREE.sub("", clause), said["how"] if said else ""


def verb_meant(clause: str) -> tuple[str, str]:
    """(the verb that the first word of a clause is a slip of, that word); ("", "") where it is none."""
    word = clause.split(" ", 1)[0].lower()
    if len(word) < 5 or not word.isalpha() or word in _TYPED or names.lookup(word):
        return "", ""
    swapped = [verb for verb in _TYPED if sorted(verb) == sorted(word)]
    close = swapped or difflib.get_close_matches(word, [verb for verb in _TYPED if len(verb) >= 4], 1, _LIKENESS)
    return (close[0], word) if close else ("", "")
