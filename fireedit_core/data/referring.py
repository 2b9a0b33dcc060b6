# SPDX-License-Identifier: GPL-3.0-or-later
"""Phrases that mean exactly one object of a scene: by order, by its neighbours, and by what it is not.

The plain ones (the noun alone, left, right, big, red ...) are in `world.py`; these are the rich ones of `World.rich_share`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import dist, hypot
from typing import Protocol

NEAR = 46.0  # px between two centres that are still "next to" each other
CLEARLY = 1.5  # a rival must be this many times farther away from the neighbour, or it might be meant too
APART = 14.0  # px between two centres that are clearly one before the other
BETWEEN = 14.0  # px that an object may stand off the line between two others

# Way -> weight where several fit: what seldom fits is taken when it does.
RICH_WAYS = {"ordinal": 2.0, "most": 2.0, "next": 2.0, "relation": 1.0, "between": 8.0, "not colour": 2.0, "not next": 8.0}
_ORDINALS = ("first", "second", "third", "fourth")
_IRREGULAR = {"fish": "fish"}


class Thing(Protocol):
    """What is asked of an object: its noun, its colour ("" for the native ones) and its centre and size in px."""

    noun: str
    colour: str
    size: int
    x: float
    y: float


def plural(noun: str) -> str:
    """The plural of a noun of the world."""
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def rich_phrases(things: Sequence[Thing], target: int) -> dict[str, tuple[str, ...]]:
    """Way -> phrases that mean `things[target]` and no other thing; ways that do not fit are left out."""
    own = things[target]
    rivals = [t for i, t in enumerate(things) if i != target and t.noun == own.noun]
    nouns = [t.noun for t in things]
    unique = [t for t in things if nouns.count(t.noun) == 1 and t is not own]  # each can be named by its noun alone
    found = {
        "ordinal": _ordinal(own, rivals), "most": _most(own, rivals), "next": _next(own, rivals, unique),
        "relation": _relation(own, rivals, unique), "between": _between(own, rivals, things, unique),
        "not colour": _not_colour(own, rivals), "not next": _not_next(own, rivals, unique),
    }  # fmt: skip
    return {way: phrases for way, phrases in found.items() if phrases}


def _ordinal(own: Thing, rivals: Sequence[Thing]) -> tuple[str, ...]:
    """E.g. "the second apple from the left", among three and more."""
    phrases: list[str] = []
    if len(rivals) < 2:
        return ()
    for axis, low, high in (("x", "left", "right"), ("y", "top", "bottom")):
        line = sorted([own, *rivals], key=lambda t: getattr(t, axis))
        places = [getattr(t, axis) for t in line]
        if min(b - a for a, b in zip(places, places[1:])) < APART:
            continue
        index = line.index(own)
        for place, side in ((index, low), (len(line) - 1 - index, high)):
            if place < len(_ORDINALS):
                phrases.append(f"the {_ORDINALS[place]} {own.noun} from the {side}")
        if len(line) == 3 and index == 1:
            phrases.append(f"the middle {own.noun}")
    return tuple(dict.fromkeys(phrases))


def _most(own: Thing, rivals: Sequence[Thing]) -> tuple[str, ...]:
    """E.g. "the leftmost apple", "the biggest apple", among three and more."""
    if len(rivals) < 2:
        return ()
    words = {
        "leftmost": all(r.x - own.x >= APART for r in rivals), "rightmost": all(own.x - r.x >= APART for r in rivals),
        "topmost": all(r.y - own.y >= APART for r in rivals), "lowest": all(own.y - r.y >= APART for r in rivals),
        "biggest": all(own.size >= 1.3 * r.size for r in rivals), "smallest": all(r.size >= 1.3 * own.size for r in rivals),
    }  # fmt: skip
    return tuple(f"the {word} {own.noun}" for word, holds in words.items() if holds)


def _is_next(own: Thing, neighbour: Thing, rivals: Sequence[Thing]) -> bool:
    far = dist((own.x, own.y), (neighbour.x, neighbour.y))
    return far <= NEAR and all(dist((r.x, r.y), (neighbour.x, neighbour.y)) >= CLEARLY * far for r in rivals)


def _next(own: Thing, rivals: Sequence[Thing], unique: Sequence[Thing]) -> tuple[str, ...]:
    """E.g. "the apple next to the car"."""
    return tuple(
        f"the {own.noun} {word} the {o.noun}" for o in unique if _is_next(own, o, rivals) for word in ("next to", "beside", "near")
    )


def _relation(own: Thing, rivals: Sequence[Thing], unique: Sequence[Thing]) -> tuple[str, ...]:
    """E.g. "the apple to the left of the car": rivals stand on the other side."""
    phrases = []
    for o in unique:
        sides = {
            "to the left of": lambda t, o=o: o.x - t.x, "to the right of": lambda t, o=o: t.x - o.x,
            "above": lambda t, o=o: o.y - t.y, "below": lambda t, o=o: t.y - o.y,
        }  # fmt: skip
        for words, ahead in sides.items():
            along = ahead(own)
            across = own.y - o.y if words.startswith("to") else own.x - o.x
            if along >= 20 and abs(across) <= along and all(ahead(r) <= -8 for r in rivals):
                phrases.append(f"the {own.noun} {words} the {o.noun}")
    return tuple(phrases)


def _between(own: Thing, rivals: Sequence[Thing], things: Sequence[Thing], unique: Sequence[Thing]) -> tuple[str, ...]:
    """E.g. "the apple between the car and the dog", "the apple between the two stars"."""
    phrases = []
    pairs = [(a, b, f"the {a.noun} and the {b.noun}") for i, a in enumerate(unique) for b in unique[i + 1 :]]
    for noun in {t.noun for t in things} - {own.noun}:
        both = [t for t in things if t.noun == noun]
        if len(both) == 2:
            pairs.append((*both, f"the two {plural(noun)}"))
    for a, b, words in sorted(pairs, key=lambda pair: pair[2]):
        if _stands_between(own, a, b) and not any(_stands_between(r, a, b, 2 * BETWEEN) for r in rivals):
            phrases.append(f"the {own.noun} between {words}")
    return tuple(phrases)


def _stands_between(thing: Thing, a: Thing, b: Thing, off: float = BETWEEN) -> bool:
    dx, dy = b.x - a.x, b.y - a.y
    length = hypot(dx, dy)
    along = ((thing.x - a.x) * dx + (thing.y - a.y) * dy) / length**2
    aside = abs((thing.x - a.x) * dy - (thing.y - a.y) * dx) / length
    return 0.25 <= along <= 0.75 and aside <= off


def _not_colour(own: Thing, rivals: Sequence[Thing]) -> tuple[str, ...]:
    """E.g. "the apple that is not red"; native colours may look like any, so both must be tinted."""
    if not rivals or not own.colour:
        return ()
    colours = {r.colour for r in rivals}
    if len(colours) != 1 or "" in colours or own.colour in colours:
        return ()
    (other,) = colours
    return (f"the {own.noun} that is not {other}", f"the {own.noun} which is not {other}")


def _not_next(own: Thing, rivals: Sequence[Thing], unique: Sequence[Thing]) -> tuple[str, ...]:
    """E.g. "the apple that is not next to the car", of two."""
    if len(rivals) != 1:
        return ()
    (rival,) = rivals
    return tuple(f"the {own.noun} that is not next to the {o.noun}" for o in unique if _is_next(rival, o, [own]))


def rich_words(nouns: Sequence[str]) -> list[str]:
    """Texts with every word that the rich phrases can contain."""
    words = "the from left right top bottom middle leftmost rightmost topmost lowest biggest smallest next to beside near of above "
    return [words + "below between and two that which is not", *_ORDINALS, *(plural(noun) for noun in nouns)]
