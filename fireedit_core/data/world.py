# SPDX-License-Identifier: GPL-3.0-or-later
"""What the synthetic world contains: all of it is configuration, so the world can grow without new code."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from .backgrounds import PAINTERS
from .referring import rich_words
from .sample import EDIT_TYPES

_NARROW = {
    "apple": "red apple",
    "backpack": "backpack",
    "ball": "soccer ball",
    "banana": "banana",
    "book": "closed book",
    "burger": "hamburger",
    "bus": "bus",
    "butterfly": "butterfly",
    "cactus": "cactus",
    "car": "automobile",
    "carrot": "carrot",
    "cat": "cat face",
    "chick": "baby chick",
    "clock": "alarm clock",
    "crab": "crab",
    "crown": "crown",
    "cupcake": "cupcake",
    "dog": "dog face",
    "donut": "doughnut",
    "duck": "duck",
    "fish": "tropical fish",
    "frog": "frog",
    "gift": "wrapped gift",
    "heart": "red heart",
    "house": "house",
    "lemon": "lemon",
    "mushroom": "mushroom",
    "panda": "panda",
    "penguin": "penguin",
    "pig": "pig face",
    "robot": "robot",
    "rocket": "rocket",
    "strawberry": "strawberry",
    "tree": "deciduous tree",
    "turtle": "turtle",
    "umbrella": "umbrella",
}
_HELDOUT = {
    "bell": "bell",
    "camera": "camera",
    "ghost": "ghost",
    "guitar": "guitar",
    "owl": "owl",
    "pineapple": "pineapple",
    "snail": "snail",
    "teapot": "teapot",
}
_PALETTE = {
    "red": (224, 36, 44),
    "orange": (250, 136, 20),
    "yellow": (246, 214, 32),
    "green": (44, 170, 62),
    "blue": (36, 98, 232),
    "purple": (134, 52, 200),
    "pink": (252, 126, 192),
}
# {x}: referring phrase with "the"; {y}: noun with its article; {c}: colour; {w}: direction words; {b}: background
_TEMPLATES = {
    "remove": ("remove {x}", "delete {x}", "erase {x}", "take away {x}", "get rid of {x}"),
    "replace": ("replace {x} with {y}", "turn {x} into {y}", "swap {x} for {y}", "change {x} into {y}"),
    "recolour": (
        "make {x} {c}",
        "paint {x} {c}",
        "change the colour of {x} to {c}",
        "change the color of {x} to {c}",
        "turn {x} {c}",
    ),
    "add": ("add {y} {w} {x}", "put {y} {w} {x}", "place {y} {w} {x}"),
    "bigger": ("make {x} bigger", "enlarge {x}", "make {x} larger"),
    "smaller": ("make {x} smaller", "shrink {x}"),
    "background": (
        "change the background to {b}",
        "replace the background with {b}",
        "set the background to {b}",
        "make the background {b}",
    ),
}
_MORE_TEMPLATES = {
    "remove": ("make {x} disappear", "clear away {x}", "take {x} out of the picture", "i do not want {x}"),
    "replace": ("put {y} in place of {x}", "exchange {x} for {y}", "{y} instead of {x}"),
    "recolour": ("colour {x} {c}", "dye {x} {c}", "give {x} a {c} colour", "{x} should be {c}"),
    "add": ("draw {y} {w} {x}", "insert {y} {w} {x}", "there should be {y} {w} {x}"),
    "bigger": ("scale {x} up", "increase the size of {x}", "grow {x}"),
    "smaller": ("scale {x} down", "reduce the size of {x}", "make {x} a bit smaller"),
    "background": ("swap the background for {b}", "let the background be {b}", "put everything on {b}"),
}
_WHERE = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
_REFER = {
    "left": ("the left {n}", "the {n} on the left"),
    "right": ("the right {n}", "the {n} on the right"),
    "top": ("the top {n}", "the upper {n}", "the {n} at the top"),
    "bottom": ("the bottom {n}", "the lower {n}", "the {n} at the bottom"),
    "big": ("the big {n}", "the large {n}"),
    "small": ("the small {n}", "the little {n}"),
}


@dataclass(frozen=True)
class World:
    """The world's numbers. Lengths are pixels of a picture ``image_size`` wide and high; shares are 0..1.

    Raises ValueError where the values do not fit together.
    """

    name: str = "narrow-v0"
    image_size: int = 128
    classes: dict[str, str] = field(default_factory=lambda: dict(_NARROW))  # noun -> emoji name
    heldout: dict[str, str] = field(default_factory=lambda: dict(_HELDOUT))  # never in a training or validation scene
    palette: dict[str, tuple[int, int, int]] = field(default_factory=lambda: dict(_PALETTE))
    backgrounds: tuple[str, ...] = tuple(PAINTERS)
    background_variants: int = 24  # jittered looks of a source background; a background edit always gives variant 0
    count_weights: dict[int, float] = field(default_factory=lambda: {2: 0.35, 3: 0.35, 4: 0.2, 5: 0.1})
    size_range: tuple[int, int] = (26, 52)  # longer side of an object
    size_step: int = 2  # all sizes are multiples of it, which bounds the sprite cache
    border: int = 2  # least distance of an object to the edge of the picture
    separation: int = 2  # least distance between two boxes
    tinted_share: float = 0.4
    twin_share: float = 0.35
    twin_target_share: float = 0.85  # in a scene with twins: how often the instruction is about one of them
    twin_modes: dict[str, float] = field(
        default_factory=lambda: {"side": 0.35, "level": 0.2, "colour": 0.25, "size": 0.2}
    )
    side_distance: int = 20  # least distance of the centres for left/right and top/bottom wording
    size_ratio: float = 1.3  # least ratio of the longer sides for big/small wording
    spare_colour_share: float = 0.15  # how often the colour of a tinted object is said although the noun is enough
    edit_weights: dict[str, float] = field(
        default_factory=lambda: {
            "remove": 0.18, "replace": 0.2, "recolour": 0.2, "add": 0.17, "resize": 0.12, "background": 0.13
        }
    )  # fmt: skip
    add_gap: int = 4
    bigger: float = 1.4
    smaller: float = 0.7
    recolour_least: float = 30.0  # mean change (0..255) under which a colour is too near the native one to ask for
    templates: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(_TEMPLATES))
    generic_noun: str = "object"
    generic_share: float = 0.0  # how often the target is called by the generic noun and its side or size
    unseen_targets: bool = False  # held-out split: remove edits are about the unseen object, by the generic noun
    # newer than narrow-v0; at these values they change nothing, and the fingerprint leaves them out
    rich_share: float = 0.0  # how often the target is called by one of the phrases of referring.py that fit it
    triplet_share: float = 0.0  # how often a scene of twins has three of them

    def __post_init__(self) -> None:
        words = [*self.classes, *self.heldout, *self.palette, *self.backgrounds]
        for word in words:
            if not re.fullmatch(r"[a-z]+", word):
                raise ValueError(f"World: {word!r} must be one lower-case word of the letters a to z.")
        twice = sorted({w for w in words if words.count(w) > 1})
        if twice:
            raise ValueError(f"World: {twice} name two things (class, held-out, colour or background); rename one.")
        if len(self.classes) < 8:
            raise ValueError(f"World: at least 8 classes are needed, got {len(self.classes)}.")
        unknown = sorted(set(self.backgrounds) - set(PAINTERS))
        if unknown or len(self.backgrounds) < 2:
            raise ValueError(f"World: expected two or more backgrounds of {sorted(PAINTERS)}, unknown: {unknown}.")
        wrong = sorted(set(self.edit_weights) - set(EDIT_TYPES))
        if wrong or sum(self.edit_weights.values()) <= 0 or min(self.edit_weights.values()) < 0:
            raise ValueError(f"World: edit_weights needs weights >= 0 for some of {EDIT_TYPES}, unknown: {wrong}.")
        if not 8 <= self.size_range[0] <= self.size_range[1] <= self.image_size // 2:
            raise ValueError(
                f"World: size_range {self.size_range} must lie in 8..{self.image_size // 2} (half the picture)."
            )
        if min(self.count_weights) < 2:
            raise ValueError(f"World: a scene needs two or more objects, got count_weights {self.count_weights}.")

    def sizes(self) -> list[int]:
        """The sizes at which a source object can appear."""
        low, high, step = *self.size_range, self.size_step
        return list(range(-(-low // step) * step, high + 1, step))

    def scaled(self, size: int, factor: float) -> int:
        """``size`` times ``factor`` on the grid of sizes."""
        return max(self.size_step, round(size * factor / self.size_step) * self.size_step)

    def all_sizes(self) -> list[int]:
        """Every size that can be rendered, resize edits included."""
        plain = self.sizes()
        return sorted({*plain, *(self.scaled(s, f) for s in plain for f in (self.bigger, self.smaller))})

    def only(self, **edit_weights: float) -> World:
        """The same world with other edit weights, e.g. ``world.only(remove=1, recolour=1)`` for a curriculum."""
        return replace(self, edit_weights=dict(edit_weights))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values for a model card."""
        values = json.loads(json.dumps(asdict(self)))
        return {k: v for k, v in values.items() if k not in _NEWER or v != _NEWER[k]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> World:
        """Inverse of ``to_dict``."""
        values = dict(values)
        values["count_weights"] = {int(k): v for k, v in values["count_weights"].items()}
        values["palette"] = {k: tuple(v) for k, v in values["palette"].items()}
        values["templates"] = {k: tuple(v) for k, v in values["templates"].items()}
        for key in ("backgrounds", "size_range"):
            values[key] = tuple(values[key])
        return cls(**values)

    def fingerprint(self) -> str:
        """Twelve hex digits that change with any value."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:12]


# Fields that came after narrow-v0, with the values at which they do nothing: a world that does not use them keeps the
# fingerprint that it had, and the weights and figures that name it stay valid.
_NEWER = {f.name: f.default for f in fields(World) if f.name in ("rich_share", "triplet_share")}

WORLD = World()


def merged(*tables: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Templates of several tables, joined by key."""
    return {key: tuple(text for table in tables for text in table.get(key, ())) for key in tables[0]}


# The world of v1: the same objects, spoken of in more ways.
RICH_WORLD = World(
    name="narrow-v1", templates=merged(_TEMPLATES, _MORE_TEMPLATES), rich_share=0.4, triplet_share=0.35, generic_share=0.08
)
WORLDS = {world.name: world for world in (WORLD, RICH_WORLD)}


def article(noun: str) -> str:
    """``noun`` with "a" or "an"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def where_words(direction: str) -> str:
    """The words of an add direction: left, right, above, below."""
    return _WHERE[direction]


def referring_phrases(noun: str, how: str, colour: str = "") -> tuple[str, ...]:
    """Ways to name one object: ``how`` is "noun", "colour", or one of left, right, top, bottom, big, small."""
    if how == "noun":
        return (f"the {noun}",)
    if how == "colour":
        return (f"the {colour} {noun}",)
    return tuple(text.format(n=noun) for text in _REFER[how])


def caption(objects: list[tuple[str, str]], background: str) -> str:
    """``[(noun, colour), ...]`` -> "an apple and a blue dog on grass"; no punctuation."""
    parts = [article(f"{colour} {noun}" if colour else noun) for noun, colour in objects]
    return f"{' and '.join(parts)} on {background}" if parts else f"nothing on {background}"


def vocabulary(world: World, captions: bool = True, heldout: bool = False) -> list[str]:
    """Every word that an instruction (and a caption) can contain, sorted, for a word-level tokenizer.

    Held-out nouns are never in an instruction; ``heldout`` adds them for the captions of held-out scenes.
    """
    texts = [re.sub(r"\{\w\}", " ", text) for options in world.templates.values() for text in options]
    texts += [text.replace("{n}", " ") for options in _REFER.values() for text in options]
    texts += [*_WHERE.values(), *world.classes, *world.palette, *world.backgrounds, "a an the"]
    if world.rich_share > 0:
        texts += rich_words([*world.classes])
    if world.generic_share > 0 or world.unseen_targets:
        texts.append(world.generic_noun)
    if captions:
        texts.append("and on nothing")
    if heldout:
        texts += [*world.heldout]
    return sorted({word for text in texts for word in text.split()})
