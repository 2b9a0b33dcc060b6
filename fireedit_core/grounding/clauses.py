# SPDX-License-Identifier: GPL-3.0-or-later
"""One clause of an instruction: what kind of edit, of which thing, what shall appear, what must stay.

It is matched against the ways to ask for each kind of edit (`_FORMS`), the most special first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from .colours import COLOUR, colour_text, colours_in, is_colour
from .phrases import PARTS, parse
from .plain import plain, verb_meant, without_amount


@dataclass(frozen=True)
class Clause:
    """What one clause asks for, its thing still in words; the fields are those of `words.Words`."""

    kind: str
    thing: str = ""
    after: str = ""
    subject: bool = False
    anchor: bool = False
    notes: tuple[str, ...] = ()


DET = r"(?:the|this|that|these|those|my|our|his|her|their|its|your)"
_PICTURE_NOUN = r"(?:picture|image|photo(?:graph)?|pic|scene|shot)"
_PICTURE = rf"(?:(?:{DET}|a)?\s*(?:whole|entire|complete|full|overall)?\s*{_PICTURE_NOUN}|(?:the\s+)?whole\s+thing)"
_WHOLE = re.compile(rf"^(?:{_PICTURE}|everything|all(?:\s+of)?(?:\s+it)?|(?:it|this|that|them)\s+all)$", re.IGNORECASE)
_IT = re.compile(r"^(?:it|this|that)$", re.IGNORECASE)
_OUT_OF_PICTURE = re.compile(
    rf"^(?:get|take|throw|kick|move|bring|put|push)\s+(?P<thing>.+?)\s+out\s+of\s+{DET}\s+(?:whole\s+|entire\s+)?"
    rf"(?:{_PICTURE_NOUN}|frame|view|composition)$",
    re.IGNORECASE,
)
# "blur what is behind the car" is "blur the background behind the car"
_ALL_BEHIND = re.compile(
    r"^(?P<how>blur|defocus|soften|darken|dim|brighten|lighten|desaturate)(?:\s+out)?\s+(?:what\s+is\s+|what's\s+|all\s+that\s+is\s+)?"
    r"(?=(?:behind|around)\s)",
    re.IGNORECASE,
)
# With an article these are things, where nothing says that a colour is meant: "swap the apple for an orange".
_COLOUR_THING = re.compile(
    r"\b(?P<after>an?\s+(?:orange|rose|lemon|lime|peach|plum|apricot|olive|chestnut|violet|salmon|camel|tangerine|ruby|emerald|chocolate))$",
    re.IGNORECASE,
)
_OF_PICTURE = re.compile(rf"\s+(?:in|of|from|out\s+of|on|within|throughout)\s+{DET}\s+(?:whole\s+|entire\s+)?{_PICTURE_NOUN}$",
                         re.IGNORECASE)
_IN_PICTURE = re.compile(rf"^(?:in|from|on)\s+{DET}\s+{_PICTURE_NOUN}\s*,?\s+", re.IGNORECASE)
_WISH = re.compile(
    r"^(?:(?:i\s+(?:want|need|wish|would\s+like|'d\s+like)\s+(?:you\s+)?to|i'd\s+like\s+(?:you\s+)?to|let's|let\s+us|help\s+me(?:\s+to)?|try\s+to|"
    r"(?:can|could|would|will)\s+(?:you|we)(?:\s+please)?(?:\s+mind)?|(?:is|would)\s+it\s+(?:be\s+)?possible\s+to|mind(?=\s+\w+ing\b)|please|go\s+ahead\s+and|make\s+sure\s+to|how\s+about|simply|completely|totally|quickly|hey|hi|"
    r"hello|ok|okay|so|well|to|just|maybe|entirely|fully|only(?=\s+(?!keep)))\s*[,!.:]*\s+)+",
    re.IGNORECASE,
)
_KEEP = re.compile(
    r"(?:\s*[,;.:]|\s+(?:but|and|while|whilst))+\s*(?:also\s+)?(?:keep(?:ing)?|leave|leaving|preserve|preserving|retain(?:ing)?)\s+(?P<keep>.+?)"
    r"(?:\s+(?:as\s+(?:it|they)\s+(?:is|are)|unchanged|untouched|intact|alone|in\s+place|the\s+same))?$"
    r"|(?:\s*,)?\s+without\s+(?:changing|touching|altering|affecting|moving)\s+(?P<keep2>.+)$",
    re.IGNORECASE,
)
_PURPOSE = re.compile(r"\s*,?\s+(?P<purpose>(?:so\s+that|so\s+as\s+to|in\s+order\s+(?:to|that))\s+.+)$", re.IGNORECASE)
_QUESTION = re.compile(r"(?:what|who|whose|whom|where|when|why|which|how)(?:'s|\b)", re.IGNORECASE)
BACKGROUND = (
    r"(?:(?:the|this|its|his|her|their|my)\s+)?(?:(?:whole|entire|current|old|image|photo|picture)\s+)?(?:(?:picture|image|"
    r"photo)'s\s+)?(?:background|back-?drop|back\s+ground)"
)
_BEHIND = rf"{BACKGROUND}(?:\s+(?:behind|around|of|from)\s+(?P<thing>.+?))?"
_BUT = (
    r"(?:but(?:\s+not)?|except(?:\s+for)?|around|behind|besides|other\s+than|apart\s+from|outside(?:\s+of)?|surrounding|"
    r"(?:that|which)(?:\s+is\s+not|\s+isn't|'s\s+not))"
)
_AROUND = (
    rf"(?:everything|all|anything|the\s+(?:rest|surroundings?))"
    rf"(?:\s+(?:of\s+(?:the\s+)?{_PICTURE_NOUN}\s+)?(?:else\s+)?{_BUT}\s+(?P<thing>.+?))?"
)
ELSE = rf"(?:(?:everything|all|anything)\s+else|the\s+rest(?:\s+of\s+(?:it|the\s+{_PICTURE_NOUN}))?)"
AS_IT_IS = r"(?:(?:in|with)\s+(?:its\s+|their\s+)?colou?rs?|coloured|sharp|in\s+focus|bright|as\s+(?:it|they)\s+(?:is|are))"
_REMOVE = (
    r"(?:remove|delete|erase|eliminate|get\s+rid\s+of|take\s+(?:away|out|off)|clear(?:\s+(?:away|out|off))?|drop|wipe(?:\s+(?:out|away|off))?|edit\s+out|"
    r"photoshop\s+out|crop\s+out|lose|dispose\s+of|strip(?:\s+out)?|rub\s+out|paint\s+out|clean\s+(?:away|out)|hide|discard|banish|omit|exclude|cut(?!\s+out)|"
    r"do\s+away\s+with|subtract|scrub(?:\s+out)?|vanish|inpaint|take)"
)
_TO_BLUR = r"(?:blur(?:red|ry|rier)?|out\s+of\s+focus|unsharp|fuzzy|defocus(?:s?ed)?|soft(?:er)?|bokeh)"
_GREY = (
    r"(?:black[\s-]*(?:and|&|n|'n')[\s-]*white|b\s*&\s*w|b/w|bw|monochrom(?:e|atic)|gr[ae]y[\s-]?scale|colou?rless|desaturated|"
    r"without\s+colou?r)"
)
_BRIGHT = r"(?:(?:much|a\s+bit|a\s+little|a\s+lot|far|slightly|way|even|more|very)\s+)?(?:brighter|bright|lighter|light)"
_DARK = r"(?:(?:much|a\s+bit|a\s+little|a\s+lot|far|slightly|way|even|more|very)\s+)?(?:darker|dark|dimmer|dim)"
LOOKS = rf"(?:{COLOUR}|{_GREY}|{_BRIGHT}|{_DARK}|{_TO_BLUR}|bigger|smaller|larger)"
TONES = r"(?:blur|defocus|soften|darken|dim|brighten|lighten|desaturate|sharpen)"
_PROPERTY = (
    r"(?:contrast|saturation|sharpness|vibrance|clarity|gamma|(?:white|colou?r)\s+balance|colou?rs|lighting|(?:colou?r\s+)?temperature|"
    r"tones?|noise|grain|shadows|highlights)"
)
_TO = r"(?:to\s+be(?:come)?|to|into|in|as|with|for|by|become)"
_MAKE = r"(?:make|turn|convert|transform|change|render|paint|set|get|put|let|switch|edit|have|give|modify)"
PAINT = (
    r"(?:make|paint|colou?r(?:\s+in)?|recolou?r|re-colou?r|dye|tint|turn|change|spray(?:[\s-]+paint)?|convert|render|set|tone|"
    r"colou?ri[sz]e|repaint|switch|have|get|let)"
)
_CHANGE = r"(?:change|set|switch|alter|turn|make|modify|adjust|swap|edit|shift|convert|recolou?r|replace)"
_WEAR = r"(?:wear(?:ing)?|hold(?:ing)?|have|carry(?:ing)?|put\s+on|with)"
_ON = (
    r"(?:on\s+top\s+of|on(?:to)?|in(?:to)?|to|next\s+to|beside|behind|above|below|under(?:neath)?|in\s+front\s+of|over|near|between|"
    r"around|at|inside|by|for)"
)


# "make the cups blue, except the one on the left"
_EXCEPTED = re.compile(rf"^(?P<do>{PAINT}\s+.+?)\s+(?P<look>{LOOKS})\s*,?\s+(?P<but>(?:except|apart\s+from|other\s+than|but)\b.+)$",
                       re.IGNORECASE)  # fmt: skip


def _blurry(after: str) -> str:
    return "blur" if re.fullmatch(rf"(?:a\s+|more\s+|very\s+|slightly\s+)?{_TO_BLUR}(?:\s+background)?", after, re.IGNORECASE) else after


def _scenery(text: str) -> str:
    """What is to be behind a thing: "blur", "transparent", a colour, or the words for a picture."""
    text = re.sub(r"\s+(?:background|back-?drop|scenery|instead)$", "", text.strip(), flags=re.IGNORECASE)
    text = re.sub(r"^(?:that\s+of|a\s+(?:picture|photo|photograph|image|view)\s+of)\s+", "", text, flags=re.IGNORECASE)
    if re.fullmatch(r"(?:an?\s+)?(?:transparent|see-?through|invisible|nothing|none|alpha|empty)(?:\s+one)?", text, re.IGNORECASE):
        return "transparent"
    if _blurry(text) == "blur":
        return "blur"
    bare = re.sub(r"^(?:an?|the)\s+", "", text, flags=re.IGNORECASE)
    for pattern, after in ((_GREY, "black and white"), (_BRIGHT, "brighter"), (_DARK, "darker")):
        if re.fullmatch(pattern, bare, re.IGNORECASE):
            return after
    colour = re.sub(r"^(?:an?|the|plain|solid|pure|simple|clean)\s+|\s+one$", "", bare, flags=re.IGNORECASE)
    return colour_text(colour) if is_colour(colour) else text


def _adjusted(word: str) -> str:
    """One of `ADJUSTMENTS` for words that ask for it; "" for others."""
    for pattern, after in ((_BRIGHT, "brighter"), (_DARK, "darker"), (rf"(?:more\s+)?{_TO_BLUR}", "blurred"), (_GREY, "grey")):
        if re.fullmatch(pattern, word.strip(), re.IGNORECASE):
            return after
    return ""


def _background(match: re.Match, after: str) -> Clause:
    thing = (match.groupdict().get("thing") or "").strip()
    return Clause("background", "" if _IT.match(thing) else thing, after, subject=not thing or bool(_IT.match(thing)))


def behind(thing: str, after: str) -> Clause:
    """The background behind a thing in one of `ADJUSTMENTS`."""
    return Clause("background", thing, {"blurred": "blur", "grey": "black and white"}.get(after, after))


def _adjust(thing: str, after: str) -> Clause | None:
    around = re.fullmatch(_AROUND, thing, re.IGNORECASE)
    if around and (around["thing"] or "rest" in thing.lower() or "surround" in thing.lower()):
        return _background(around, behind("", after).after)
    if re.fullmatch(ELSE, thing, re.IGNORECASE):
        return replace(behind("", after), subject=True)
    background = re.fullmatch(_BEHIND, thing, re.IGNORECASE)
    if background:
        return _background(background, behind("", after).after)
    return Clause("adjust", "" if _WHOLE.match(thing) or _IT.match(thing) else thing, after)


def _remove(match: re.Match) -> Clause | None:
    thing = match["thing"]
    background = re.fullmatch(_BEHIND, thing, re.IGNORECASE)
    if background:
        return _background(background, "transparent")
    around = re.fullmatch(r"(?:everything|all|anything)\s+(?:around|behind|surrounding|outside(?:\s+of)?)\s+(?P<thing>.+)",
                          thing, re.IGNORECASE)
    if around:
        return Clause("cutout", around["thing"], "transparent")
    owner = re.fullmatch(r"(?P<rest>the\s+colou?rs?)(?:\s+(?:of|from|in)\s+(?P<thing>.+))?", thing, re.IGNORECASE)
    if owner:
        return _adjust(owner["thing"] or "it", "grey")
    return Clause("remove", thing)


def _recolour(match: re.Match) -> Clause | None:
    thing, colour = match["thing"].strip(), match["colour"]
    other = _COLOUR_THING.search(match[0])
    if other:
        return Clause("replace", thing, other["after"])
    names = colours_in(colour)
    if len(names) == 2 and re.search(rf"\sin\s+{re.escape(colour)}", match[0], re.IGNORECASE):  # "make the man in red blue"
        thing, colour = f"{thing} in {names[0]}", names[1]
    thing = re.sub(rf"\s+from\s+(?:an?\s+)?{COLOUR}$", "", thing, flags=re.IGNORECASE)
    background = re.fullmatch(_BEHIND, thing, re.IGNORECASE)
    if background:
        return _background(background, colour_text(colour))
    return Clause("recolour", thing, colour_text(colour))


def _turned(match: re.Match) -> Clause | None:
    """ "turn X into Y": another colour, another look of the whole picture, or another thing."""
    thing, after = match["thing"].strip(), match["after"].strip()
    if _adjusted(after):
        return _adjust(thing, _adjusted(after))
    if _WHOLE.match(thing) or _IT.match(thing):
        return Clause("restyle", "", after)
    if is_colour(after) and not _COLOUR_THING.fullmatch(after):
        return Clause("recolour", thing, colour_text(after))
    if re.fullmatch(_BEHIND, thing, re.IGNORECASE):
        return _background(re.fullmatch(_BEHIND, thing, re.IGNORECASE), _scenery(after))
    if _same_but_colour(thing, after):
        return Clause("recolour", thing, _same_but_colour(thing, after))
    if re.search(r"\b(?:painting|drawing|sketch|cartoon|comic|anime|watercolou?r|mosaic|pixel\s+art|engraving|line\s+art|origami|"
                 r"statue\s+style|style)\b", after, re.IGNORECASE):
        return Clause("restyle", thing, after)
    return Clause("replace", thing, after)


def _same_but_colour(thing: str, after: str) -> str:
    """The colour of "a blue one", and of "a blue car" where a car is spoken of; "" for another thing."""
    match = re.fullmatch(rf"(?:an?|the)\s+(?P<colour>{COLOUR})\s+(?P<noun>[\w-]+)", after, re.IGNORECASE)
    if match and match["noun"].lower() in ("one", parse(thing).noun.split(" ")[-1]):
        return colour_text(match["colour"])
    return ""


def _replaced(match: re.Match) -> Clause | None:
    thing, after = match["thing"].strip(), match["after"].strip()
    if re.fullmatch(_BEHIND, thing, re.IGNORECASE):
        return _background(re.fullmatch(_BEHIND, thing, re.IGNORECASE), _scenery(after))
    if re.fullmatch(r"nothing|empty\s+space|(?:the\s+)?background|what\s+is\s+behind(?:\s+it)?", after, re.IGNORECASE):
        return Clause("remove", thing)
    if is_colour(after) and not _COLOUR_THING.fullmatch(after):
        return Clause("recolour", thing, colour_text(after))
    if _same_but_colour(thing, after):
        return Clause("recolour", thing, _same_but_colour(thing, after))
    return Clause("replace", thing, after)


def _only_background(match: re.Match) -> Clause | None:
    """ "white background", "a blurred background": what it shall be, without a verb."""
    after = _scenery(match["after"])
    known = after in ("blur", "transparent", "black and white", "brighter", "darker") or is_colour(after)
    return Clause("background", "", after, subject=True) if known else None


def _placed(match: re.Match) -> Clause | None:
    """ "put the cat on a beach" changes what is behind the cat; "put a hat on the cat" adds a hat."""
    thing, after = match["thing"].strip(), match["after"].strip()
    definite = re.match(rf"(?:{DET}\s+|it$|him$|her$|them$|us$|me$|everyone$)", thing, re.IGNORECASE)
    place = parse(after)
    # "the hat on the head" moves something; "the dog on the moon" changes what is around it
    scenery = place.name is None and not place.known and place.noun.split()[-1:] != [] and place.noun.split()[-1] not in PARTS
    if definite and scenery and not re.fullmatch(r"(?:the\s+)?(?:very\s+)?(?:front|back|side|edge|corner|end)", after, re.IGNORECASE):
        return Clause("background", "" if _IT.match(thing) else thing, _scenery(after), subject=bool(_IT.match(thing)))
    return None


def _added(match: re.Match) -> Clause | None:
    after, thing = match["after"].strip(), (match.groupdict().get("thing") or "").strip()
    back = re.fullmatch(rf"(?P<new>.+?)\s+(?:in|as|for|to|into|on)\s+{BACKGROUND}|(?P<new2>an?\s+.+?\s+background)|"
                        rf"(?P<new3>.+)\s+behind\s+(?P<thing>.+)",
                        match[0].split(None, 1)[-1], re.IGNORECASE)  # fmt: skip
    if back and back["new2"] and not thing:
        return Clause("background", "", _scenery(back["new2"]), subject=True)
    if re.fullmatch(BACKGROUND, thing, re.IGNORECASE):
        return Clause("add", "", after)
    whole = not thing or _WHOLE.match(thing) or _IT.match(thing)
    return Clause("add", "" if whole else thing, after, anchor=True)


_FORMS: tuple[tuple[re.Pattern[str], Callable[[re.Match], Clause | None]], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), build)
    for pattern, build in (
        # background
        (rf"(?:blur|defocus|soften)(?:\s+out)?\s+{_BEHIND}", lambda m: _background(m, "blur")),
        (rf"(?:blur|defocus|soften)(?:\s+out)?\s+{_AROUND}",
         lambda m: _background(m, "blur") if m["thing"] or "rest" in m[0].lower() else None),
        (rf"(?:{_REMOVE}|cut\s+out)\s+{_BEHIND}", lambda m: _background(m, "transparent")),
        (rf"(?:replace|swap(?:\s+out)?|exchange|substitute)\s+{_BEHIND}\s+(?:with|by|for|to|against)\s+(?P<after>.+)",
         lambda m: _background(m, _scenery(m["after"]))),
        (rf"{_CHANGE}\s+(?:the\s+)?colou?r\s+of\s+{_BEHIND}\s+{_TO}\s+(?P<after>.+)", lambda m: _background(m, _scenery(m["after"]))),
        (rf"{_CHANGE}\s+{BACKGROUND}\s+colou?r\s+{_TO}\s+(?P<after>.+)", lambda m: _background(m, _scenery(m["after"]))),
        (rf"(?:brighten|lighten)\s+(?:up\s+)?{_BEHIND}", lambda m: _background(m, "brighter")),
        (rf"(?:darken|dim)\s+{_BEHIND}", lambda m: _background(m, "darker")),
        (rf"(?:desaturate|gr[ae]y\s+out)\s+{_BEHIND}", lambda m: _background(m, "black and white")),
        # one thing in colour, or sharp, or bright, and the rest not
        (rf"(?:{_MAKE}\s+)?(?:everything|all|the\s+rest|the\s+(?:whole\s+)?{_PICTURE_NOUN})(?:\s+else)?\s+"
         rf"(?P<after>{_GREY}|{_BRIGHT}|{_DARK}|{_TO_BLUR})\s*,?\s+{_BUT}\s+(?P<thing>.+)", lambda m: _background(m, _scenery(m["after"]))),
        (rf"(?:keep|leave)\s+(?:only\s+|just\s+)?(?P<thing>.+?)(?:\s+{AS_IT_IS})?(?:\s*,?\s+(?:and|but)|\s*,)\s+"
         rf"(?P<rest>(?:\w+\s+)?(?:{ELSE}|{BACKGROUND})\b.*)", lambda m: _kept_before(m)),
        (rf"(?:(?:keep|leave|only|just)\s+)*(?!{_MAKE}\b)(?P<thing>.+?)\s+in\s+colou?r", lambda m: _background(m, "black and white")),
        (rf"{_MAKE}\s+{BACKGROUND}\s+(?P<after>{_GREY}|{_BRIGHT}|{_DARK}|{_TO_BLUR}|{COLOUR})\s+(?:behind|around)\s+(?P<thing>.+)",
         lambda m: _background(m, _scenery(m["after"]))),
        # where nothing stands between the thing and what it shall become: else "the" would be the thing
        (rf"(?:{_MAKE}|{PAINT})\s+{_BEHIND}\s+(?P<after>{_BRIGHT}|{_DARK}|{_TO_BLUR}|{_GREY}|{COLOUR})",
         lambda m: _background(m, _scenery(m["after"]))),
        (rf"(?:{_MAKE}|{PAINT}|exchange)\s+{_BEHIND}(?:\s+{_TO}|\s+look(?:\s+like)?)?\s+(?P<after>.+)",
         lambda m: _background(m, _scenery(m["after"]))),
        (rf"{_BEHIND}\s+(?:should|must|has\s+to|needs\s+to|shall)\s+(?:be(?:come)?|look|show)\s+(?P<after>.+)",
         lambda m: _background(m, _scenery(m["after"]))),
        (rf"(?:change|replace|edit|swap)\s+{_BEHIND}", lambda m: _background(m, "")),
        (rf"(?:use|add|put|set|place|insert|have|show)\s+(?P<after>.+?)\s+(?:as|in|for|into)\s+{BACKGROUND}",
         lambda m: Clause("background", "", _scenery(m["after"]), subject=True)),
        (r"(?:use|add|insert|put|apply|with|on)\s+(?P<after>an?\s+.+?)\s+background(?:\s+(?:to|behind|for|on|"
         r"around)\s+(?P<thing>.+))?", lambda m: _background(m, _scenery(m["after"]))),
        (r"give\s+(?P<thing>.+?)\s+(?P<after>an?\s+.+?)\s+(?:background|back-?drop)", lambda m: _background(m, _scenery(m["after"]))),
        (r"(?:put|place|set|show)\s+(?P<thing>.+?)\s+(?:on|before|against|in\s+front\s+of|onto)\s+(?P<after>an?\s+.+?\s+(?:background|"
         r"back-?drop))", lambda m: _background(m, _scenery(m["after"]))),
        (r"(?:put|place|set|move|transport|teleport|bring|take|send)\s+(?P<thing>.+?)\s+(?:in\s+front\s+of|on(?:to)?|in(?:to)?|at|to|"
         r"against|before|under|inside)\s+(?P<after>.+)", _placed),
        (r"(?P<after>.+?)\s+(?:background|back-?drop)", _only_background),
        # cut out
        (r"(?:cut\s*-?out|extract|isolate|crop\s+out|separate|clip\s+out|single\s+out|make\s+a\s+cut-?out\s+of|"
         r"lift\s+out)\s+(?P<thing>.+?)(?:\s+from\s+(?:its|the)\s+(?:background|rest|surroundings))?",
         lambda m: Clause("cutout", m["thing"], "transparent")),
        (r"(?:make|create|i\s+want)\s+(?:me\s+)?an?\s+(?:transparent\s+)?(?:png|sticker)\s+(?:of|from)\s+(?P<thing>.+)",
         lambda m: Clause("cutout", m["thing"], "transparent")),
        (r"(?:cut|crop|clip)\s+(?P<thing>.+?)\s+out(?:\s+of\s+.+)?", lambda m: Clause("cutout", m["thing"], "transparent")),
        (r"(?:(?:keep|leave|show)\s+(?:only|just|nothing\s+but|solely)|(?:only|just)\s+(?:keep|leave|show))\s+(?P<thing>.+)",
         lambda m: Clause("cutout", m["thing"], "transparent")),
        # adjust
        (r"(?:brighten|lighten|illuminate|light)(?:\s+up)?\s+(?P<thing>.+?)(?:\s+up)?(?:\s+(?:a\s+(?:bit|little)|slightly|more))?",
         lambda m: _adjust(m["thing"], "brighter")),
        (r"(?:darken|dim)(?:\s+down)?\s+(?P<thing>.+?)(?:\s+down)?(?:\s+(?:a\s+(?:bit|little)|slightly|more))?",
         lambda m: _adjust(m["thing"], "darker")),
        (r"(?:blur|defocus|pixelate|pixelise|pixelize|censor|anonymi[sz]e)(?:\s+out)?\s+(?P<thing>.+?)(?:\s+out)?(?:\s+(?:a\s+(?:bit|"
         r"little)|slightly|more))?", lambda m: _adjust(m["thing"], "blurred")),
        (r"(?:desaturate|gr[ae]y(?:\s+out)?|decolou?ri[sz]e|decolou?r)\s+(?P<thing>.+?)(?:\s+out)?", lambda m: _adjust(m["thing"], "grey")),
        (r"(?:increase|raise|boost|turn\s+up)\s+(?:the\s+)?(?:brightness|exposure|light)(?:\s+(?:of|on|in)\s+(?P<thing>.+))?",
         lambda m: _adjust(m["thing"] or "it", "brighter")),
        (r"(?:decrease|reduce|lower|turn\s+down)\s+(?:the\s+)?(?:brightness|exposure|light)(?:\s+(?:of|on|in)\s+(?P<thing>.+))?",
         lambda m: _adjust(m["thing"] or "it", "darker")),
        (rf"{_MAKE}\s+(?:in)?to\s+(?:an?\s+)?(?P<after>{_GREY})", lambda m: Clause("adjust", "", "grey")),
        (rf"{_MAKE}\s+(?P<thing>.+?)\s+(?:{_TO}\s+|look\s+|appear\s+)?(?:an?\s+)?(?P<after>{_GREY}|{_BRIGHT}|{_DARK}|"
         rf"(?:more\s+)?{_TO_BLUR})(?:\s+(?:{_PICTURE_NOUN}|version))?",
         lambda m: _adjust(m["thing"], _adjusted(m["after"]))),
        (rf"(?P<thing>.+?)\s+(?:should|must|shall|has\s+to|needs\s+to)\s+(?:be(?:come)?|look)\s+(?P<after>{_GREY}|{_BRIGHT}|{_DARK}|"
         rf"{_TO_BLUR})", lambda m: _adjust(m["thing"], _adjusted(m["after"]))),
        # recolour
        (rf"{_CHANGE}\s+(?:the\s+)?colou?r\s+of\s+(?P<thing>.+?)\s+(?:from\s+.+?\s+)?(?:{_TO}\s+)?(?:an?\s+)?(?P<colour>{COLOUR})"
         rf"(?:\s+colou?r)?", _recolour),
        (rf"{_CHANGE}\s+(?P<thing>.+?)(?:'s?)?\s+colou?r\s+(?:from\s+.+?\s+)?(?:{_TO}\s+)?(?:an?\s+)?"
         rf"(?P<colour>{COLOUR})(?:\s+colou?r)?", _recolour),
        (rf"give\s+(?P<thing>.+?)\s+an?\s+(?P<colour>{COLOUR})\s+(?:colou?r|tint|paint(?:\s+job)?|coat\s+of\s+paint|tone|look|hue|"
         rf"finish|shade)", _recolour),
        (rf"give\s+(?P<thing>.+?)\s+an?\s+(?:coat|layer|touch|splash)\s+of\s+(?P<colour>{COLOUR})(?:\s+(?:paint|colou?r))?", _recolour),
        (rf"{PAINT}\s+(?P<thing>.+?)\s+(?P<after>(?:(?:a\s+(?:bit|little)|much)\s+)?less\s+{COLOUR})",
         lambda m: Clause("other", m["thing"], m["after"])),
        (rf"{PAINT}\s+(?P<thing>.+?)\s+(?:(?:a\s+(?:bit|little)|much)\s+)?more\s+(?P<colour>{COLOUR})", _recolour),
        (rf"{PAINT}\s+(?P<thing>.+?)\s+(?:look\s+|appear\s+)?(?:(?:from\s+.+?\s+)?{_TO}\s+)?(?:an?\s+)?(?P<colour>{COLOUR})(?:\s+(?:colou?r|instead|one))?",
         _recolour),
        (rf"(?:i\s+(?:want|would\s+like|need|wish)|i'd\s+like)\s+(?P<thing>.+?)\s+(?:to\s+be(?:come)?\s+|in\s+)?(?P<colour>{COLOUR})",
         _recolour),
        (rf"(?P<thing>.+?)\s+(?:should|must|shall|has\s+to|have\s+to|needs?\s+to|ought\s+to)\s+(?:be(?:come)?|turn|look)\s+(?:an?\s+|"
         rf"in\s+)?(?P<colour>{COLOUR})(?:\s+colou?r)?", _recolour),
        (rf"(?P<thing>.+?)(?<!next)\s+to\s+(?P<colour>{COLOUR})", _recolour),
        (rf"{PAINT}\s+(?P<thing>.+?)\s+(?P<after>to\s+match\s+.+)", lambda m: Clause("other", m["thing"], m["after"])),
        (r"(?:recolou?r|re-colou?r|repaint|dye)\s+(?P<thing>.+)", lambda m: Clause("recolour", m["thing"])),
        (rf"{_CHANGE}\s+(?:the\s+)?colou?r\s+of\s+(?P<thing>.+)", lambda m: Clause("recolour", m["thing"])),
        # remove
        (r"(?:make|let|have)\s+(?P<thing>.+?)\s+(?:to\s+)?(?:disappear|vanish|go(?:\s+away)?|gone|invisible|removed)",
         lambda m: _remove(m)),
        (r"(?:i\s+(?:want|would\s+like|need)|i'd\s+like)\s+(?P<thing>.+?)\s+(?:to\s+be\s+|to\s+)?(?:gone|removed|deleted|erased|out|"
         r"away|go|disappear|vanish)", lambda m: _remove(m)),
        (r"(?:i\s+(?:do\s+not|don't|dont)\s+(?:want|need|like)(?:\s+to\s+(?:see|have))?)\s+(?P<thing>.+?)(?:\s+(?:there|here|anymore|"
         r"any\s+more|to\s+be\s+(?:there|here|visible|seen)|visible))*", lambda m: _remove(m)),
        (r"(?P<thing>.+?)\s+(?:should|must|shall|has\s+to|have\s+to|needs?\s+to|ought\s+to)\s+(?:go(?:\s+away)?|disappear|vanish|"
         r"leave|be\s+(?:gone|removed|deleted|erased|taken\s+out))", lambda m: _remove(m)),
        (r"(?P<thing>.+?)\s+(?:should\s+not|shouldn't|must\s+not|mustn't)\s+be\s+(?:there|here|visible|seen)", lambda m: _remove(m)),
        (rf"(?:take|clear|get|wipe|remove)\s+(?P<what>.+?)\s+(?:off(?:\s+of)?|out\s+of)\s+(?P<where>{DET}\s+.+)",
         lambda m: Clause("remove", f"{m['what']} from {m['where']}")),
        (r"(?:take|cut|edit|photoshop|crop|wipe|get|throw|clear|clean|brush)\s+(?P<thing>.+?)\s+(?:away|out|off)(?:\s+of\s+.+)?",
         lambda m: _remove(m)),
        (rf"{_REMOVE}\s+(?P<thing>.+?)(?:\s+(?:completely|entirely|cleanly|altogether))?", lambda m: _remove(m)),
        (r"(?:no|without|no\s+more)\s+(?P<thing>.+)", lambda m: _remove(m)),
        (rf"(?:i\s+(?:want|need|would\s+like)|i'd\s+like)\s+(?P<thing>{DET}\s+.+?)\s+(?:to\s+(?:be|stand|sit)\s+)?(?:in\s+front\s+of|on|"
         r"in|at|against|before)\s+(?P<after>.+)", _placed),
        # style, another thing, something new
        (r"(?:restyle|styli[sz]e|redraw|repaint|re-?imagine|show|render)\s+(?P<thing>.+?)\s+(?:as|like|in|into)\s+(?P<after>.+)", _turned),
        (r"(?:make|let|have|turn|get)\s+(?P<thing>.+?)\s+(?:to\s+)?(?:look|appear|seem|be)\s+(?P<after>(?:like|as\s+if|as|in|more|"
         r"less|older|younger|happ|sad)\b.*)",
         lambda m: Clause("restyle", "" if _WHOLE.match(m["thing"]) or _IT.match(m["thing"]) else m["thing"], m["after"])),
        (r"(?:turn|change|convert|transform|make)\s+(?:the\s+)?(?:day(?:time|light)?|night(?:time)?|summer|winter|spring|autumn|"
         r"season|weather|time\s+of\s+day|lighting)\s+(?:in)?to\s+(?P<after>.+)", lambda m: Clause("restyle", "", m["after"])),
        (r"(?:make|let)\s+(?:it|there\s+be)\s+(?P<after>(?:a\s+)?(?:snow|rain|night|day|winter|summer|spring|autumn|fall|sunset|"
         r"sunrise|fog|storm|sunny|cloudy|rainy|snowy|foggy|vintage|evening|morning|christmas|halloween)\w*.*)",
         lambda m: Clause("restyle", "", m["after"])),
        (rf"(?:apply|add|give)\s+(?:(?:it|{_PICTURE})\s+)?(?P<after>an?\s+.+?\s+(?:style|filter|effect|look|vibe|mood))(?:\s+(?:to|on|"
         rf"for)\s+(?P<thing>.+))?",
         lambda m: Clause("restyle", "" if not m["thing"] or _WHOLE.match(m["thing"]) else m["thing"], m["after"])),
        (r"(?:replace|substitute|swap(?:\s+out)?|exchange|switch)\s+(?P<thing>.+?)\s+(?:with|by|for|to|against)\s+(?P<after>.+)",
         _replaced),
        (r"(?:turn|transform|convert|change|morph|make|switch)\s+(?P<thing>.+?)\s+(?:in)?to\s+(?:be\s+)?(?P<after>.+)", _turned),
        (r"put\s+(?P<after>an?\s+.+?)\s+(?:instead\s+of|in\s+(?:the\s+)?place\s+of|where)\s+(?P<thing>.+?)(?:\s+(?:is|are))?", _replaced),
        (r"make\s+(?P<thing>.+?)\s+(?P<after>an?\s+(?!(?:bit|little|lot)\b).+)", _turned),
        (rf"(?:make|let|have)\s+(?P<thing>.+?)\s+{_WEAR}\s+(?P<after>.+)", _added),
        (rf"(?P<thing>.+?)\s+(?:should|must)\s+{_WEAR}\s+(?P<after>.+)", _added),
        (r"(?:give|hand|dress|equip)\s+(?P<thing>.+?)\s+(?:(?:in|with)\s+)?(?P<after>(?:an?|some|the|two|three|more)\s+.+)", _added),
        (r"(?:give|hand|dress|equip)\s+(?P<rest>.+)", lambda m: _given(m["rest"])),
        (rf"(?:paint|draw)\s+(?P<rest>{DET}\s+.+)", lambda m: _made(m["rest"])),
        (rf"(?:add|insert|draw|place|put|paint|include|attach|stick|render|hang|write|create|generate|"
         rf"let\s+there\s+be)\s+(?P<after>.+?)\s+{_ON}\s+(?P<thing>(?:{DET}|a|an|it|him|her|them|me|us|everyone|every|each|all|both)\b.*)",
         _added),
        (r"(?:add|insert|draw|place|put|paint|include|create|generate|let\s+there\s+be)\s+(?P<after>.+)", _added),
        (r"(?P<thing>.+?)\s*(?:->|=>|\u2192)\s*(?P<after>.+)", _turned),
        # all else
        (rf"(?:increase|decrease|raise|lower|reduce|boost|adjust|improve|fix|correct|change|enhance|more|less)\s+(?:the\s+)?{_PROPERTY}"
         r"(?:\s+(?:of|in|on)\s+(?P<thing>.+))?", lambda m: Clause("other", m["thing"] or "", m[0])),
        (r"(?:enlarge|shrink|scale(?:\s+(?:up|down))?|grow|reduce|increase|magnify|move|shift|rotate|flip|mirror|turn|crop|sharpen|"
         r"straighten|resize|stretch|tilt|lift|raise|lower|duplicate|copy|clone|open|close|zoom\s+in\s+on|"
         r"focus\s+on|select|mask|segment|find|pick|choose|highlight|mark|outline|edit|change|modify|improve|fix|enhance)\s+(?P<thing>.+?)(?P<after>\s+(?:to\s+the\s+(?:left|right|top|bottom|back|front)|up(?:wards?)?|down(?:wards?)?|by\s+.+|a\s+bit|a\s+little|upside\s+down))?",
         lambda m: Clause("other", "" if _WHOLE.match(m["thing"]) else m["thing"], (m["after"] or "").strip())),
        (r"(?:make|let|have|get)\s+(?P<rest>.+)", lambda m: _made(m["rest"])),
    )
)  # fmt: skip


def _kept_before(match: re.Match) -> Clause | None:
    """ "keep the car in colour and make everything else grey": what the second half does, behind the thing of the first."""
    rest = re.sub(ELSE, "the background", match["rest"], flags=re.IGNORECASE)
    made, _ = read_clause(f"make {rest}" if re.match(BACKGROUND, rest, re.IGNORECASE) else rest)
    return replace(made, thing=match["thing"], subject=False) if made.kind == "background" and not made.thing else None


def _made(rest: str) -> Clause:
    """ "make him smile", "make the cat bigger": the longest start of it that names something, and what it shall be."""
    words = rest.split()
    for count in range(len(words) - 1, 0, -1):
        phrase = parse(" ".join(words[:count]))
        if phrase.known and not phrase.unread and (not phrase.colours or phrase.name):  # "a purple" of "a purple car" names nothing
            thing = " ".join(words[:count])
            return Clause("other", "" if _WHOLE.match(thing) or _IT.match(thing) else thing, " ".join(words[count:]))
    return Clause("other", rest)


def _given(rest: str) -> Clause | None:
    """ "give the lady red hair": something new for the longest start of it that names something."""
    made = _made(rest)
    return replace(made, kind="add", anchor=True) if made.after else None


def read_clause(text: str) -> tuple[Clause, list[str]]:
    """(the clause, what it says must stay).

    Raises:
        ValueError: in words, for a question.
    """
    clause = " ".join(text.strip(" .,;:!?\"").split())
    keep: list[str] = []
    found = _KEEP.search(clause)
    if found and found.start() > 0:
        keep.append((found["keep"] or found["keep2"]).strip())
        clause = clause[: found.start()].strip(" ,")
    clause = _EXCEPTED.sub(r"\g<do> \g<but> \g<look>", _WISH.sub("", clause))
    clause = _WISH.sub("", plain(_IN_PICTURE.sub("", clause)))
    clause = _ALL_BEHIND.sub(r"\g<how> the background ", _OUT_OF_PICTURE.sub(r"remove \g<thing>", clause))
    if not re.fullmatch(rf".*\b(?:of|the|this|my|whole)\s+{_PICTURE_NOUN}", clause, re.IGNORECASE) or _OF_PICTURE.search(clause):
        clause = _OF_PICTURE.sub("", clause) or clause
    clause = re.sub(r"\s+(?:please|thanks|thank\s+you|now|for\s+me|ok|right\s+now|immediately|asap)$", "", clause, flags=re.IGNORECASE)
    said = _PURPOSE.search(clause)
    purpose = said["purpose"] if said else ""
    clause = clause[: said.start()] if said else clause
    made = _strength_apart(clause) or _matched(clause) or _mistyped(clause)
    if made:
        free = made.kind in ("replace", "add", "restyle", "other")  # what shall appear is told in words there
        return replace(made, after=f"{made.after} {purpose}".strip()) if free else made, keep
    if _QUESTION.match(clause):
        raise ValueError(f'{clause[:200]!r} is a question, and no edit. Say what is to be done: "remove the clock", "make the clock blue".')
    return Clause("other", "" if _WHOLE.match(clause) else clause, purpose), keep


def _matched(clause: str) -> Clause | None:
    """A clause as the first of `_FORMS` reads it."""
    for pattern, build in _FORMS:
        match = pattern.fullmatch(clause)
        made = build(match) if match else None
        if made:
            return made
    return None


def _strength_apart(clause: str) -> Clause | None:
    """A clause without "by 30 %" and "a lot", where its edit knows no more and less."""
    bare, amount = without_amount(clause)
    made = _matched(bare) if bare != clause else None
    if made is None or made.kind not in ("background", "adjust", "recolour"):
        return None
    return replace(made, notes=(f"How much ({amount}) was not read: this edit has one strength.",)) if amount else made


def _mistyped(clause: str) -> Clause | None:
    """A clause whose verb is a slip of the keyboard: "blurr the background"."""
    verb, word = verb_meant(clause)
    made = _matched(verb + clause[len(word) :]) if verb else None
    return replace(made, notes=(f"{word!r} was read as {verb!r}.",)) if made else None
