# SPDX-License-Identifier: GPL-3.0-or-later
"""A noun phrase taken apart: "the second man from the left in the black coat, not the one next to the bus".

What is not understood is kept (`unread`), so that a guess can say what it rests on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from . import names
from .colours import COLOUR, colours_in, without_colours
from .names import Name

ALL = 0  # as a `number`: all that fit
_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "both": 2}
_ORDINALS = {
    "first": 0, "second": 1, "third": 2, "fourth": 3, "fifth": 4, "sixth": 5, "seventh": 6, "eighth": 7, "ninth": 8, "tenth": 9, "last": -1,
    "second-last": -2, "penultimate": -2, "third-last": -3, "outermost": 0,
}  # fmt: skip
_PICTURE = r"(?:picture|image|photo(?:graph)?|pic|frame|scene|shot|screen)"
_EXCEPT = re.compile(
    r"\s*,?\s*\b(?:but\s+not|except(?:ing)?(?:\s+for)?|other\s+than|apart\s+from|aside\s+from|besides|excluding|save\s+for|bar|but|not)\s+(?P<rest>.+)$"
)
_SIDES = (  # what says where something is, with the words around it; a side that another thing has ("left of the bus") is a relation
    (r"(?P<from>from\s+(?:the\s+)?(?P<end>left|right|top|bottom)(?:\s+to\s+(?:the\s+)?(?:left|right|top|bottom))?)"),
    (r"(?:(?P<far0>farthest|furthest|closest|nearest)\s+)?(?:(?:on|at|to|in|towards?|along)\s+)?(?:(?:the|its|my)\s+)?(?P<far>far|"
     r"very|extreme|furthest|outermost|most)?[\s-]*(?P<v>upper|lower|top|bottom)?"
     r"[\s-]*\b(?P<h>left|right)(?P<most>[\s-]?most)?(?:[\s-]?hand)?(?:[\s-]+(?:side|corner|half|part|edge|end))?"
     r"(?![\w-]|\s+of\s+(?!the\s+" + _PICTURE + r"))"),
    (r"(?:(?:on|at|in|near|along)\s+)?(?:the\s+)?(?P<v2>\btopmost|\bbottommost|\buppermost|\blowest|\bhighest)\b"),
    (r"(?:at|on|in|along|near)\s+(?:the\s+)?(?:very\s+)?(?P<v3>top|bottom)(?:\s+(?:half|edge|part|border|row))?(?!\w|"
     r"\s+of\s+(?!the\s+" + _PICTURE + r"))"),
    (r"(?:(?:in|at)\s+the\s+)?(?:very\s+)?\b(?P<mid>middle|cent(?:er|re)|central|centremost)\b(?!\w)"),
    (r"(?:in|at)\s+(?:the\s+)?(?P<depth>foreground|background|front|back|rear|distance)(?!\w|\s+of\s+(?!the\s+" + _PICTURE + r"))"),
)  # fmt: skip
_SIDE = tuple(re.compile(pattern) for pattern in _SIDES)
_RELATIONS = (  # longest first; all ways to say one relation have one name
    ("left of", r"(?:(?:on|to)\s+)?(?:the\s+)?left(?:\s+side)?\s+of"),
    ("right of", r"(?:(?:on|to)\s+)?(?:the\s+)?right(?:\s+side)?\s+of"),
    ("on", r"(?:sitting|standing|lying|laying|resting|riding|parked|perched|seated)\s+on(?:\s+top\s+of)?|"
           r"on\s+top\s+of|riding|on|upon|onto|aboard"),
    ("in front of", r"(?:(?:standing|walking|sitting|parked|passing)\s+)?(?:in\s+front\s+of|before|ahead\s+of)"),
    ("between", r"(?:in\s+)?between"),
    ("nearest", r"(?:closest\s+to|nearest(?:\s+to|(?=\s+(?:the|an?|my|his|her|this|that)\b)))"),
    ("farthest", r"(?:(?:farthest|furthest)(?:\s+away)?|most\s+distant)\s+from"),
    ("next to", r"(?:(?:standing|sitting|walking|parked|lying)\s+)?(?:right\s+|just\s+|directly\s+)?"
                r"(?:next\s+to|close\s+to|near(?!est)(?:\s+to)?|beside|alongside|adjacent\s+to|nearby|by|at)"),
    ("behind", r"(?:(?:standing|walking|sitting|parked)\s+)?(?:right\s+|just\s+)?(?:behind|at\s+the\s+back\s+of|in\s+back\s+of)"),
    ("above", r"above|over"),
    ("below", r"below|underneath|under|beneath"),
    ("in", r"inside(?:\s+of)?|within|in|dressed\s+in"),
    ("without", r"without|who\s+has\s+no|with\s+no"),
    ("with", r"with|holding|wearing|carrying|having|who\s+has|that\s+has|who\s+wears|that\s+wears|who\s+holds|eating|using|reading"),
    ("from", r"from"),
    ("of", r"of|belonging\s+to"),
)  # fmt: skip
_RELATION = re.compile("|".join(rf"\b(?P<r{i}>{pattern})\s+" for i, (_, pattern) in enumerate(_RELATIONS)))
_COLOURED = re.compile(rf"\s+(?:(?:that|which|who)\s+(?:is|are|was|were)|(?:that|which|who)'s)\s+(?P<colour>{COLOUR})(?=\s|$)")
_ALL_COLOURED = re.compile(rf"^(everything|anything|something)\s+({COLOUR})(?=$|\s)")
_IS_NOT = r"(?:that|which|who)\s*(?:\s(?:is|are|was|were)\s+(?:not|neither)|\s(?:is|are|was|were)n't|'s\s+not)"
_NOT_COLOURED = re.compile(
    rf"\s+(?:{_IS_NOT}|not)\s+(?P<colour>{COLOUR}(?:\s*(?:,|,?\s+n?or|,?\s+and)\s+{COLOUR})*)(?=\s|$)"
    rf"|\bnon-(?P<colour2>{COLOUR})(?=\s|$)"
)
# "anything that is not a person", "the cars that aren't on the left"
_NO_SUCH = re.compile(rf"\s+{_IS_NOT}\s+(?:(?P<where>(?=(?:on|in|at|near|next|beside|behind|above|below|under|between|to|with|\w+ing)\b))|"
                      r"(?P<one>an?\s+))?")  # fmt: skip
_TO_LAST = re.compile(r"\b(second|third|next)\s+(?:to|from)\s+(?:the\s+)?last\b")
_ALL_OF_THEM = re.compile(r"^(?:all(?:\s+of\s+(?:them|it|this|that|these|those))?|them\s+all|all\s+else)(?=$|\s+(?:but|except))")
_WHO = re.compile(r"\b(?:who|that|which)\s+(?:(?:is|are|was|were)\b\s*)?(?=\S)|\b(?:that|who|which)\s*'s\s+")
_PART_OF_PICTURE = re.compile(
    r"(?:the\s+)?(?:left|right|top|bottom|upper|lower|middle)(?:[\s-]?most)?(?:[\s-]?hand)?\s+(?P<part>half|side|part|edge|corner|end|third|quarter)"
)
_OF_PICTURE = re.compile(rf"\s+(?:in|of|from|on|within|at|inside)\s+(?:the|this|that|my|our)\s+(?:whole\s+)?{_PICTURE}\b")
_SOME_OF = re.compile(r"\b(all|both|each|every|one|two|three|four|five|any|some|most|either)(?:\s+one)?\s+of\s+(?:the|these|those|"
                      r"them|my|his|her)\b\s*")
_GROUP_OF = re.compile(r"\b(?:(?:a|the|this|that)\s+)?(?:whole\s+)?(group|crowd|bunch|row|set|lot|pair|couple)s?\s+of\s+")
_OF_TWO = re.compile(r"^(?:the\s+)?(?P<which>[a-z]+(?:er|est|most)|left|right|first|second|third|last|middle)(?:\s+one)?\s+of\s+"
                     r"(?:the|these|those)\s+(?:(?P<count>two|three|four|five|\d+)\s+)?(?P<of>[a-z][a-z ]*)$")  # fmt: skip
_POSSESSIVE = re.compile(r"^(?P<owner>.+?)(?:'s|s')\s+(?P<rest>.+)$")
# sizes as `Phrase` calls them; in -er and -est they compare
_SIZES = {word: size for size, words in {
    "big": "big large huge bigger larger biggest largest hugest", "small": "small little tiny smaller smallest tiniest",
    "tall": "tall taller tallest", "short": "short shorter shortest", "wide": "wide wider widest", "narrow": "narrower narrowest",
}.items() for word in words.split()}  # fmt: skip
# What animals are called by their age, which shows as their size: "the bear cub", "the baby elephant", "the mother bear".
_CUBS = frozenset(("cub", "calf", "foal", "chick", "pup", "puppy", "kit", "kitten", "fawn", "joey", "lamb", "baby"))
_AGES = {"baby": "little", "young": "little", "juvenile": "little", "newborn": "little", "adult": "big", "grown": "big", "mother": "big",
         "father": "big", "mama": "big", "papa": "big", "parent": "big"}  # fmt: skip
_NEAR_FAR = {"nearest": "front", "closest": "front", "front": "front", "foremost": "front", "farthest": "back", "furthest": "back",
             "rear": "back", "rearmost": "back", "back": "back"}  # fmt: skip
_UP_DOWN = {"upper": "top", "top": "top", "uppermost": "top", "lower": "bottom", "bottom": "bottom", "lowermost": "bottom"}
_VAGUE = frozenset(("some", "most", "several", "few", "half"))
_CERTAIN = frozenset(("the", "these", "those"))
_ENDS = ("left", "right", "top", "bottom")
_ANYTHING = frozenset(("thing", "object", "item", "one", "it", "this", "that", "stuff", "element", "region", "something", "anything"))
_MAIN = frozenset(("subject", "motif", "main object", "main thing", "main subject", "main motif", "main character"))
_PRONOUNS = {"him": False, "her": False, "he": False, "she": False, "them": True, "they": True, "everyone": True, "me": False,
             "myself": False, "us": True}
_DETERMINERS = frozenset((
    "the", "a", "an", "this", "that", "these", "those", "my", "our", "his", "her", "their", "its", "your", "some", "any", "another",
    "whole",
    "entire", "only", "same",
))  # fmt: skip
_TAIL = frozenset((
    "there", "here", "too", "away", "completely", "entirely", "instead", "now", "please", "again", "also", "fully", "totally",
    "together", "only",
    "alone", "out", "visible", "altogether", "standing", "sitting", "walking", "though", "properly", "cleanly", "well",
))  # fmt: skip
# Parts of things, which a detector of whole things does not find.
PARTS = frozenset((
    "hand", "head", "face", "hair", "eye", "nose", "mouth", "ear", "arm", "leg", "foot", "feet", "finger", "beard", "moustache",
    "mustache", "tail",
    "fur", "whiskers", "paw", "jacket", "coat", "shirt", "t-shirt", "tshirt", "trousers", "pants", "jeans", "dress", "skirt", "suit",
    "sweater", "pullover",
    "hat", "cap", "helmet", "shoe", "shoes", "boots", "sneakers", "glasses", "sunglasses", "glove", "gloves", "scarf", "socks", "belt",
    "clothes",
    "clothing", "outfit", "uniform", "wheel", "wheels", "tyre", "tire", "tyres", "tires", "window", "windows", "door", "doors", "roof",
    "handle",
    "saddle", "headlight", "headlights", "engine", "tank", "rim", "logo", "text", "body", "back", "skin", "teeth", "lips", "eyes",
    "ears", "hands", "legs",
    "spacesuit", "hoodie", "blouse", "collar", "sleeve", "pocket", "button", "patch", "badge", "lapel",
))  # fmt: skip


@dataclass(frozen=True)
class Phrase:
    """What a noun phrase says.

    Attributes:
        text: as it was written. name: the things that its noun may stand for; None where the noun is unknown or any thing will do.
        noun: its noun as written, singular. anything: any thing will do ("the thing on the left", "it"). main: the main object is meant.
        number: how many; `ALL` for all that fit. definite: whether it speaks of certain ones ("the two men", not "two men").
        colours: that it should have. size: "big", "small", "tall", "short", "wide" or "narrow".
        order: (along, place): the place-th (from 0; -1 the last) by "left", "right", "top", "bottom", "front", "back" or a size.
        sides: where it is: "left", "right", "top", "bottom", "middle", "front", "back".
        relations: (how it lies, to what). excluded: what is not meant. unread: words that say something that is not understood.
        others: all but the most prominent one ("the other people", "everybody else"). vague: not all, and how many is not said ("some
            people").
    """

    text: str
    name: Name | None = None
    noun: str = ""
    anything: bool = False
    main: bool = False
    number: int = 1
    definite: bool = True
    colours: tuple[str, ...] = ()
    size: str = ""
    order: tuple[str, int] | None = None
    sides: tuple[str, ...] = ()
    relations: tuple[tuple[str, tuple[Phrase, ...]], ...] = ()
    excluded: tuple[Phrase, ...] = ()
    unread: tuple[str, ...] = field(default=(), compare=False)
    others: bool = False
    vague: bool = False

    @property
    def known(self) -> bool:
        """Whether the noun says what is to be looked for."""
        return self.name is not None or self.anything or self.main

    @property
    def nouns(self) -> list[str]:
        """What a detector that reads words has to look for, this noun first, then those that it is placed by; without repetition."""
        found = [] if self.anything or self.main or not self.noun else [self.noun]
        for _, others in self.relations:
            for other in others:
                found += other.nouns
        for other in self.excluded:
            found += other.nouns
        return list(dict.fromkeys(found))


def parse(text: str) -> Phrase:
    """Take a noun phrase apart; never fails: what is not understood is `unread`, a noun that is no name stays `noun`."""
    return _parse(re.sub(r"\s+", " ", text.strip(" .,;:!?\"()").lower()), depth=0)


def _parse(text: str, depth: int) -> Phrase:
    whole = text
    if depth > 4 or not text:  # nobody means five things within each other; a text that goes on so is cut
        return Phrase(whole, noun="", unread=(text,) if text else ())
    text = _OF_PICTURE.sub("", f" {text}").strip() if not re.fullmatch(rf".*\b{_PICTURE}", text) or _OF_PICTURE.search(f" {text}") else text
    if depth == 0 and (part := _PART_OF_PICTURE.fullmatch(text)):  # no thing that lies there
        return Phrase(whole, noun=part["part"])
    text = _TO_LAST.sub(lambda m: f"{'second' if m[1] == 'next' else m[1]}-last", text)
    text = _ALL_OF_THEM.sub("everything", text)
    text = _SOME_OF.sub(r"\1 the ", _OF_TWO.sub(_one_of_them, text))
    text = re.sub(r"^(?:whatever|anything\s+that|everything\s+that)\s+(?:is|are)\s+(?!not\b|neither\b)", "everything ", text)
    text = _ALL_COLOURED.sub(r"\1 in \2", text)
    text = _GROUP_OF.sub(lambda m: "both " if m[1] in ("pair", "couple") else "all ", text)
    text = _COLOURED.sub(lambda m: f" in {m['colour']}", text)
    excluded: tuple[Phrase, ...] = ()
    found = _NOT_COLOURED.search(text)
    if found:
        excluded = tuple(_parse(f"the {colour} ones", depth + 1) for colour in colours_in(found["colour"] or found["colour2"]))
        text = f"{text[: found.start()]} {text[found.end() :]}".strip()
    text = _NO_SUCH.sub(lambda m: " except " + ("every " if m["one"] else "the ones " if m["where"] is not None else ""), text)
    found = _EXCEPT.search(text)
    if found and found.start() > 0:
        excluded += tuple(_parse(part, depth + 1) for part in _listed(found["rest"]))
        text = text[: found.start()].strip()
    text = _WHO.sub("", text)
    head, relation, rest = _at_relation(text)
    phrase = _head(head, depth)
    phrase = replace(phrase, text=whole)
    if relation:
        phrase = _related(phrase, relation, rest, depth)
    if excluded:
        # "the ones on the left" means what the phrase around it names
        heirs = [replace(e, name=phrase.name, noun=phrase.noun, anything=phrase.anything) if is_one(e) else e for e in excluded]
        phrase = replace(phrase, excluded=phrase.excluded + tuple(heirs))
        if phrase.anything and not phrase.main:
            phrase = replace(phrase, number=ALL)
    return phrase


def is_one(phrase: Phrase) -> bool:
    """Whether a phrase takes its noun from the one before it: "the red one", "the one on the left", "the leftmost"."""
    if not phrase.anything or phrase.main or re.search(r"\b(?:thing|object|item|everything|anything|something)s?\b", phrase.text):
        return False
    return bool(re.search(r"\b(?:ones?|two|three|four|five)\b", phrase.text) or phrase.sides or phrase.order)


def _one_of_them(match: re.Match) -> str:
    """ "the taller of the two men" as "the taller man"; "the driver of the car" speaks of a driver, and stays as it is."""
    word = match["which"]
    if word in ("either", "neither"):
        return match[0]
    ends_so = not word.endswith("most") and word.endswith(("er", "est"))
    place = word in _SIZES or word in _NEAR_FAR or word in _UP_DOWN
    if ends_so and not place and (not match["count"] or names.lookup(word) or word in PARTS):
        return match[0]
    return f"the {word} {names.singular(match['of'])}"


def _listed(text: str) -> list[str]:
    return [part for part in re.split(r"\s*,\s*(?:and\s+)?|\s+and\s+|\s+n?or\s+|\s*&\s*", text) if part]


def _at_relation(text: str) -> tuple[str, str, str]:
    """(what stands before the first relation, its name, what stands after); the text and "" where there is none."""
    taken = [match.span() for pattern in _SIDE for match in pattern.finditer(text)]
    for match in _RELATION.finditer(text):
        if match.start() == 0 or any(start < match.end() - 1 and match.start() < end for start, end in taken):
            continue
        number = next(i for i in range(len(_RELATIONS)) if match[f"r{i}"])
        return text[: match.start()].strip(), _RELATIONS[number][0], text[match.end() :].strip()
    return text, "", ""


def _related(phrase: Phrase, relation: str, rest: str, depth: int) -> Phrase:
    if relation == "between":
        others = tuple(_parse(part, depth + 1) for part in _listed(rest))
        if len(others) == 1 and others[0].known:
            others = (replace(others[0], number=2) if others[0].number == ALL else others[0],)
        return replace(phrase, relations=((relation, others),))
    other = _parse(rest, depth + 1)
    if other.name is None and (not other.anything or other.colours and not is_one(other)):
        if relation in ("in", "with") and (other.colours or colours_in(rest)):  # "in red", "in the black coat", "with the white hat"
            deeper = tuple(link for link in other.relations)
            return replace(
                phrase, colours=phrase.colours + (other.colours or colours_in(rest)), sides=phrase.sides + other.sides, relations=deeper,
                order=phrase.order or other.order,
            )  # fmt: skip
        if not other.noun and other.sides:
            return replace(phrase, sides=phrase.sides + other.sides)
    if relation in ("in", "with", "of", "from") and other.anything and not other.sides and not other.order:
        return phrase  # "of it"
    if relation == "nearest" and phrase.number == ALL:
        relation = "next to"  # of several none is the nearest
    return replace(phrase, relations=((relation, (other,)),))


def _head(text: str, depth: int) -> Phrase:
    """The part of a phrase before its relations: determiner, number, ordinal, size, colour, side, noun."""
    whole = text
    owner = _POSSESSIVE.match(text)
    if owner and owner["owner"].split()[-1] not in ("it", "that", "there", "what", "let"):
        phrase = _head(owner["rest"], depth)
        return replace(phrase, text=whole, relations=(("of", (_parse(owner["owner"], depth + 1),)),))
    text, order, sides, far = _read_sides(text)
    words = _sizes_of_ages(text.replace("-", "-").split())
    number, definite, size, unread = 0, True, "", []
    counted = others = False
    vague = bool(_VAGUE & set(words[:-1]))
    kept: list[str] = []
    for at, word in enumerate(words):
        bare = word.strip(",.;:")
        more = words[at + 1 :]
        ordinal = _ORDINALS.get(bare, None)
        figure = re.fullmatch(r"(\d{1,6})(?:st|nd|rd|th)", bare)
        if figure:
            ordinal = int(figure[1]) - 1
        if ordinal is not None and (more or sides or order):
            order = (order[0] if order else "", ordinal)
        elif bare in ("all", "every", "each", "everything") and not counted:
            number, counted = ALL, True
            if bare == "everything":
                kept.append("thing")
        elif bare in _NUMBERS and (more or bare not in ("one", "both") and not kept and _CERTAIN & set(words[:at])):
            number, counted = _NUMBERS[bare], True
            definite = bare == "both" or bool(_CERTAIN & set(words[:at]))
            kept += [] if more else ["ones"]  # "the two on the left"
        elif bare.isdigit() and more and 0 < int(bare) <= 100:
            number, counted = int(bare), True
            definite = bool(_CERTAIN & set(words[:at]))
        elif bare in ("a", "an", "any", "another", *_VAGUE) and (more or kept) and not counted:
            definite = False
        elif bare in _PRONOUNS and not more:
            kept.append(bare)
        elif bare in ("other", "else", "others") or (bare == "remaining" and more):
            others = True
            if bare == "others" or (bare == "other" and not more):
                kept.append("ones")
        elif bare in _DETERMINERS and (more or not kept and bare not in ("this", "that")):
            continue
        elif bare in _SIZES and more:
            size = _SIZES[bare]
            order = _superlative(order, size) if bare.endswith(("er", "est")) else order
        elif bare in _NEAR_FAR and more and not names.lookup(" ".join(words[at:])):  # a "back pack" is one word for a thing
            order = _superlative(order, _NEAR_FAR[bare])
        elif bare in _UP_DOWN and more:
            sides = (*sides, _UP_DOWN[bare])
        elif bare:
            kept.append(bare)
    name, noun, anything, main, many, left = _noun(kept, bool(order or sides))
    colours = colours_in(" ".join(left))
    unread += [word for word in without_colours(" ".join(left)).split() if word not in ("colored", "coloured", "and")]
    if not counted:
        number = ALL if many else 1
    if order and order[0] == "":
        end = next((side for side in sides[:1] if side in _ENDS), "")
        sides = tuple(side for side in sides if side != end)
        # "the last one on the right" is the first from there
        order = (end, -1 - order[1]) if end and order[1] < 0 else (end or "left", order[1])
    elif far and sides and not order and number == 1:
        order, sides = (sides[0], 0), sides[1:]
    if many and counted and number == 1 and not definite:
        definite = False
    if many and order and order[1] == 0 and number == ALL and not counted:
        number = 1 if order[0] not in sides else ALL
    return Phrase(
        whole, name, noun, anything, main, number, definite, colours, "" if order and order[0] == size else size, order, sides, (), (),
        tuple(unread), others, vague and number == ALL,
    )  # fmt: skip


def _sizes_of_ages(words: list[str]) -> list[str]:
    """Words for the age of an animal as its size: "two bear cubs" -> "two little bears", "baby elephant" -> "little elephant"."""
    words = list(words)
    if len(words) > 1 and names.singular(words[-1]) in _CUBS and _animal(words[-2]):
        many = names.singular(words[-1]) != words[-1]
        kind = words[-2] + ("es" if words[-2].endswith(("s", "x", "sh", "ch")) else "s") if many else words[-2]
        words[-2:] = ["little", kind]
    if words and _animal(words[-1]):
        words = [_AGES.get(word, word) for word in words[:-1]] + words[-1:]
    return words


def _animal(word: str) -> bool:
    name = names.lookup(word)
    return name is not None and set(name.things) <= set(names.ANIMALS)


def _superlative(order: tuple[str, int] | None, along: str) -> tuple[str, int]:
    """ "third largest" is the third by size; "largest" the first."""
    return (along, order[1]) if order and order[0] in ("", *_ENDS) else (along, 0)


def _read_sides(text: str) -> tuple[str, tuple[str, int] | None, tuple[str, ...], bool]:
    """(the text without them, order, sides, whether the outermost is meant)."""
    order, sides, far = None, [], False
    for pattern in _SIDE:
        match = pattern.search(text)
        while match:
            said = match.groupdict()
            if said.get("from"):
                order = (said["end"], 0)
            for key in ("h", "v", "v2", "v3"):
                if said.get(key):
                    side = {"upper": "top", "lower": "bottom", "topmost": "top", "uppermost": "top", "highest": "top", "lowest": "bottom"}
                    sides.append(side.get(said[key], said[key].replace("bottommost", "bottom")))
            far = far or bool(said.get("far") or said.get("far0") or said.get("most") or said.get("v2"))
            if said.get("mid"):
                sides.append("middle")
            if said.get("depth"):
                sides.append("front" if said["depth"] in ("foreground", "front") else "back")
            text = f"{text[: match.start()]} {text[match.end() :]}"
            match = pattern.search(text)
    if order is not None and not any(word.strip(",") in _ORDINALS or re.fullmatch(r"\d+(?:st|nd|rd|th)", word) for word in text.split()):
        order, sides = None, [order[0], *sides]
    return re.sub(r"\s+", " ", text).strip(), order, tuple(dict.fromkeys(sides)), far


def _noun(words: list[str], placed: bool) -> tuple[Name | None, str, bool, bool, bool, list[str]]:
    """(name, noun, anything, main, many, words before it) of what is left of a head."""
    words = [word for word in words if word]
    # words that go on after the noun: "standing there", "pointing at"
    for at in range(1, len(words)):
        if words[at].endswith("ing") and len(words[at]) > 5 and names.at_end(words[:at]):
            words = words[:at]
            break
    while len(words) > 1 and words[-1] in _TAIL:
        words = words[:-1]
    if not words:
        return None, "", placed, False, False, []
    if len(words) == 1 and words[0] in _PRONOUNS:
        return names.lookup("person"), "person", False, False, _PRONOUNS[words[0]], []
    last, pair = words[-1], " ".join(words[-2:])
    if pair in _MAIN or last in _MAIN:
        return None, "", True, True, False, []
    one = names.singular(last)
    if one in _ANYTHING:
        main = last in ("it", "this", "that") or "main" in words[:-1]
        return None, "", not main or True, main, one != last, [word for word in words[:-1] if word != "main"]
    found = names.at_end(words)
    if found:
        name, count = found
        before = words[:-count]
        return name, names.singular(name.text), False, "main" in before, name.many, [word for word in before if word != "main"]
    bare = without_colours(" ".join(words)).split()
    if not bare and placed | bool(words):  # "the red": the red one
        return None, "", True, False, False, words
    noun = names.singular(" ".join(bare[-3:]))
    return None, noun, False, False, names.singular(bare[-1]) != bare[-1], words[: len(words) - len(bare[-3:])]
