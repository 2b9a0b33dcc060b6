# SPDX-License-Identifier: GPL-3.0-or-later
"""Colours as people name them: "blue", "dark red", "sky blue", "#aabbcc"."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from .light import lightness, luminance, to_linear, to_srgb, within_gamut

# 8-bit sRGB as paint and cloth have them: the pure colours of a screen look false on things. Names of several words first.
_PAINTS = {
    "light blue": (152, 200, 238), "pale blue": (186, 216, 240), "sky blue": (112, 178, 232),
    "royal blue": (40, 72, 176), "baby blue": (160, 200, 236), "navy blue": (22, 36, 88),
    "midnight blue": (20, 26, 68), "forest green": (28, 84, 44), "lime green": (140, 200, 44), "olive green": (104, 112, 44),
    "mint green": (158, 220, 186), "hot pink": (236, 64, 148), "off white": (238, 234, 222), "rose gold": (202, 142, 122),
    "navy": (22, 36, 88), "gold": (206, 160, 58), "golden": (206, 160, 58), "silver": (192, 195, 200), "beige": (220, 203, 170),
    "cream": (244, 235, 208), "ivory": (246, 242, 224), "tan": (200, 164, 120), "khaki": (174, 160, 110), "charcoal": (52, 54, 58),
    "maroon": (108, 22, 34), "burgundy": (104, 20, 44), "crimson": (176, 20, 48), "scarlet": (214, 40, 28), "ruby": (168, 16, 60),
    "rust": (168, 78, 36), "copper": (184, 110, 68), "bronze": (148, 106, 56), "mustard": (208, 166, 42), "chocolate": (84, 50, 30),
    "coral": (240, 116, 92), "salmon": (240, 140, 116), "peach": (248, 196, 160), "rose": (224, 100, 130), "fuchsia": (210, 40, 150),
    "magenta": (200, 36, 140), "plum": (112, 48, 104), "lavender": (182, 168, 224), "lilac": (194, 164, 214), "indigo": (62, 50, 140),
    "teal": (20, 124, 126), "turquoise": (52, 192, 188), "aqua": (60, 200, 210), "cyan": (28, 178, 208), "emerald": (20, 140, 90),
    "mint": (158, 220, 186), "lime": (150, 205, 48), "olive": (112, 112, 44), "white": (236, 236, 234), "black": (26, 26, 28),
}  # fmt: skip
# Names that say little of how light the thing is: a thing keeps its own lightness within _ROOM of the paint's.
_HUES = {
    "red": (196, 30, 36), "orange": (236, 118, 28), "yellow": (242, 200, 36), "green": (44, 130, 62), "blue": (34, 84, 190),
    "purple": (110, 54, 158), "violet": (124, 70, 188), "pink": (238, 128, 168), "brown": (112, 68, 38), "grey": (132, 132, 134),
    "gray": (132, 132, 134),
}  # fmt: skip
_ROOM = 0.09
_NAMES = _PAINTS | _HUES
# (factor of the lightness, share of the way from there to white, factor of the saturation)
_SHADES = {
    "dark": (0.68, 0.0, 1.0), "deep": (0.78, 0.0, 1.15), "light": (1.0, 0.5, 0.8), "pale": (1.0, 0.62, 0.6), "pastel": (1.0, 0.58, 0.65),
    "bright": (1.0, 0.15, 1.3), "vivid": (1.0, 0.06, 1.4), "neon": (1.0, 0.25, 1.6), "muted": (1.0, 0.0, 0.6), "dull": (0.95, 0.0, 0.55),
    "soft": (1.0, 0.2, 0.7),
}  # fmt: skip
_ISH = {f"{hue}ish" for hue in _HUES} | {"reddish"}  # "reddish brown" is a brown
_HEX = re.compile(r"#?([0-9a-f]{6}|[0-9a-f]{3})$")
_FILLERS = {"a", "an", "the", "very", "colour", "color", "coloured", "colored", "shade", "of", "in", "to", "tone", "metallic"}


@dataclass(frozen=True)
class Colour:
    """A colour to paint with.

    Attributes:
        name: as it was asked for. light: linear light (r, g, b), 0..1.
        room: how much darker (half as much lighter) than this colour, in the cube root of luminance, a thing may stay and have that name.
    """

    name: str
    light: tuple[float, float, float]
    room: float = 0.0

    @property
    def srgb(self) -> Tensor:
        """sRGB values (3,) in 0..1."""
        return to_srgb(torch.tensor(self.light))

    @property
    def lightness(self) -> float:
        """Cube root of its luminance, 0..1."""
        return float(lightness(luminance(torch.tensor(self.light))))


def read_colour(text: str) -> Colour:
    """The colour that words name: a name, with "dark", "light", "pale" and the like in front, or "#aabbcc".

    Raises:
        ValueError: for words that name no colour; lists some that do.
    """
    words = re.sub(r"[^a-z0-9# ]+", " ", str(text).lower()).split()
    plain = " ".join(words)
    if found := _HEX.fullmatch(plain):
        digits = found[1] if len(found[1]) == 6 else "".join(2 * digit for digit in found[1])
        return Colour(plain, _linear(tuple(int(digits[i : i + 2], 16) for i in (0, 2, 4))))
    words = [word for word in words if word not in _FILLERS]
    name = next((" ".join(words[-count:]) for count in (2, 1) if " ".join(words[-count:]) in _NAMES), None)
    front = words[: -len(name.split())] if name else []
    if name is None or not set(front) <= _SHADES.keys() | _NAMES.keys() | _ISH:
        raise ValueError(
            f"{str(text)[:60]!r} is no colour that is known. Write one such as red, dark blue, light grey, navy, gold, beige, or #aabbcc."
        )
    light, shades = _linear(_NAMES[name]), [word for word in front if word in _SHADES]
    for shade in shades:
        light = _shaded(light, *_SHADES[shade])
    return Colour(plain, light, _ROOM if name in _HUES and not shades else 0.0)


def is_colour(text: str) -> bool:
    """Whether `read_colour` knows the words."""
    try:
        read_colour(text)
    except ValueError:
        return False
    return True


def _linear(rgb: tuple[int, ...]) -> tuple[float, float, float]:
    return tuple(to_linear(torch.tensor(rgb, dtype=torch.float64) / 255).tolist())


def _shaded(light: tuple[float, float, float], factor: float, to_white: float, saturation: float) -> tuple[float, float, float]:
    x = torch.tensor(light, dtype=torch.float64)
    y = luminance(x)
    wanted = lightness(y) * factor
    wanted = (wanted + to_white * (1 - wanted)) ** 3
    x = (y + saturation * (x - y)).clamp(min=0)
    return tuple(within_gamut((x * (wanted / luminance(x).clamp(min=1e-9)))[:, None])[:, 0].tolist())
