# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of colours that the pack knows, once for all: grounding reads and measures them, quick edits paint with them."""

from __future__ import annotations

from dataclasses import dataclass

BASIC = ("black", "white", "grey", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "beige", "turquoise")


@dataclass(frozen=True)
class Name:
    """What a name of a colour says.

    Attributes:
        basic: the one of `BASIC` that people also call it. shade: "", "dark" or "light" of that. rgb: to paint with, 8-bit sRGB as paint
        and cloth have it: the pure colours of a screen look false on things. wide: it says little of how light the thing is.
    """

    basic: str
    shade: str
    rgb: tuple[int, int, int]
    wide: bool = False


@dataclass(frozen=True)
class Modifier:
    """What a word before a name says.

    Attributes:
        shade: "", "dark" or "light". lightness, saturation: factors. to_white: share of the way from there to white.
    """

    shade: str = ""
    lightness: float = 1.0
    to_white: float = 0.0
    saturation: float = 1.0


NAMES = {
    "black": Name("black", "", (26, 26, 28)), "jet black": Name("black", "", (18, 18, 20)),
    "pitch black": Name("black", "", (14, 14, 16)),
    "white": Name("white", "", (236, 236, 234)), "off-white": Name("white", "", (238, 234, 222)),
    "off white": Name("white", "", (238, 234, 222)), "snow white": Name("white", "", (242, 243, 244)),
    "grey": Name("grey", "", (132, 132, 134), True), "gray": Name("grey", "", (132, 132, 134), True),
    "silver": Name("grey", "light", (192, 195, 200)), "silvery": Name("grey", "light", (192, 195, 200)),
    "charcoal": Name("grey", "dark", (52, 54, 58)), "ash": Name("grey", "", (150, 150, 146)),
    "red": Name("red", "", (196, 30, 36), True), "maroon": Name("red", "dark", (108, 22, 34)),
    "burgundy": Name("red", "dark", (104, 20, 44)), "crimson": Name("red", "", (176, 20, 48)), "scarlet": Name("red", "", (214, 40, 28)),
    "ruby": Name("red", "", (168, 16, 60)), "vermilion": Name("red", "", (216, 62, 36)), "wine red": Name("red", "dark", (104, 20, 44)),
    "cherry red": Name("red", "", (178, 18, 40)), "brick red": Name("red", "", (156, 64, 48)),
    "blood red": Name("red", "dark", (122, 12, 20)),
    "orange": Name("orange", "", (236, 118, 28), True), "amber": Name("orange", "", (230, 150, 30)),
    "ginger": Name("orange", "", (190, 100, 44)), "coral": Name("orange", "", (240, 116, 92)),
    "peach": Name("orange", "light", (248, 196, 160)), "apricot": Name("orange", "light", (246, 184, 134)),
    "copper": Name("orange", "dark", (184, 110, 68)), "rust": Name("orange", "dark", (168, 78, 36)),
    "rusty": Name("orange", "dark", (168, 78, 36)), "tangerine": Name("orange", "", (238, 126, 36)),
    "yellow": Name("yellow", "", (242, 200, 36), True), "golden": Name("yellow", "", (206, 160, 58)),
    "gold": Name("yellow", "", (206, 160, 58)), "mustard": Name("yellow", "", (208, 166, 42)),
    "lemon": Name("yellow", "", (244, 226, 72)),
    "green": Name("green", "", (44, 130, 62), True), "lime": Name("green", "light", (150, 205, 48)),
    "lime green": Name("green", "light", (140, 200, 44)), "mint": Name("green", "light", (158, 220, 186)),
    "mint green": Name("green", "light", (158, 220, 186)), "olive": Name("green", "dark", (112, 112, 44)),
    "olive green": Name("green", "dark", (104, 112, 44)), "emerald": Name("green", "", (20, 140, 90)),
    "forest green": Name("green", "dark", (28, 84, 44)), "jade": Name("green", "", (40, 142, 100)),
    "blue": Name("blue", "", (34, 84, 190), True), "navy": Name("blue", "dark", (22, 36, 88)),
    "navy blue": Name("blue", "dark", (22, 36, 88)), "royal blue": Name("blue", "", (40, 72, 176)),
    "sky blue": Name("blue", "light", (112, 178, 232)), "azure": Name("blue", "light", (84, 160, 224)),
    "baby blue": Name("blue", "light", (160, 200, 236)), "indigo": Name("blue", "dark", (62, 50, 140)),
    "cobalt": Name("blue", "", (28, 72, 160)), "ultramarine": Name("blue", "", (32, 44, 148)),
    "light blue": Name("blue", "light", (152, 200, 238)), "pale blue": Name("blue", "light", (186, 216, 240)),
    "midnight blue": Name("blue", "dark", (20, 26, 68)),
    "purple": Name("purple", "", (110, 54, 158), True), "violet": Name("purple", "", (124, 70, 188), True),
    "lilac": Name("purple", "light", (194, 164, 214)), "lavender": Name("purple", "light", (182, 168, 224)),
    "mauve": Name("purple", "light", (176, 136, 180)), "plum": Name("purple", "dark", (112, 48, 104)),
    "pink": Name("pink", "", (238, 128, 168), True), "magenta": Name("pink", "", (200, 36, 140)),
    "fuchsia": Name("pink", "", (210, 40, 150)), "rose": Name("pink", "", (224, 100, 130)), "salmon": Name("pink", "", (240, 140, 116)),
    "hot pink": Name("pink", "", (236, 64, 148)), "rose gold": Name("beige", "", (202, 142, 122)),
    "brown": Name("brown", "", (112, 68, 38), True), "bronze": Name("brown", "", (148, 106, 56)),
    "chocolate": Name("brown", "dark", (84, 50, 30)), "chestnut": Name("brown", "", (118, 62, 40)),
    "beige": Name("beige", "", (220, 203, 170)), "blond": Name("beige", "", (220, 190, 130)),
    "blonde": Name("beige", "", (220, 190, 130)), "khaki": Name("beige", "", (174, 160, 110)),
    "cream": Name("beige", "light", (244, 235, 208)), "ivory": Name("beige", "light", (246, 242, 224)),
    "tan": Name("beige", "", (200, 164, 120)), "sand": Name("beige", "", (206, 184, 142)), "camel": Name("beige", "", (190, 150, 100)),
    "cream-coloured": Name("beige", "light", (244, 235, 208)),
    "turquoise": Name("turquoise", "", (52, 192, 188)), "cyan": Name("turquoise", "", (28, 178, 208)),
    "teal": Name("turquoise", "dark", (20, 124, 126)), "aqua": Name("turquoise", "", (60, 200, 210)),
    "aquamarine": Name("turquoise", "", (116, 208, 184)), "petrol": Name("turquoise", "dark", (14, 86, 98)),
}  # fmt: skip
MODIFIERS = {
    "dark": Modifier("dark", 0.68), "darker": Modifier("dark", 0.68), "deep": Modifier("dark", 0.78, saturation=1.15),
    "light": Modifier("light", to_white=0.5, saturation=0.8), "lighter": Modifier("light", to_white=0.5, saturation=0.8),
    "pale": Modifier("light", to_white=0.62, saturation=0.6), "pastel": Modifier("light", to_white=0.58, saturation=0.65),
    "baby": Modifier("light", to_white=0.55, saturation=0.7), "soft": Modifier("light", to_white=0.2, saturation=0.7),
    "bright": Modifier("", to_white=0.15, saturation=1.3), "vivid": Modifier("", to_white=0.06, saturation=1.4),
    "hot": Modifier("", to_white=0.06, saturation=1.3), "neon": Modifier("", to_white=0.25, saturation=1.6),
    "intense": Modifier("", saturation=1.3), "rich": Modifier("", 0.92, saturation=1.2), "muted": Modifier("", saturation=0.6),
    "dull": Modifier("", 0.95, saturation=0.55),
    # say how a thing shines or feels, and little of its colour
    "shiny": Modifier(), "matte": Modifier(), "glossy": Modifier(), "metallic": Modifier(), "pure": Modifier(), "plain": Modifier(),
    "solid": Modifier(), "warm": Modifier(), "cool": Modifier(),
}  # fmt: skip
# before a name: "reddish brown" is a brown
ISH = (
    "bluish", "reddish", "greenish", "yellowish", "brownish", "purplish", "greyish", "grayish", "pinkish", "orangish", "whitish",
    "blackish",
)  # fmt: skip
