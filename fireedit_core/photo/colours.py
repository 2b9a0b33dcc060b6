# SPDX-License-Identifier: GPL-3.0-or-later
"""Colours as people name them: "blue", "dark red", "sky blue", "#aabbcc"."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from ..colour_names import ISH, MODIFIERS, NAMES, Modifier
from .light import lightness, luminance, to_linear, to_srgb, within_gamut

_ROOM = 0.09  # a thing keeps its own lightness within that of a wide name's paint
_HEX = re.compile(r"#?([0-9a-f]{6}|[0-9a-f]{3})$")
_FILLERS = {"a", "an", "the", "very", "colour", "color", "coloured", "colored", "shade", "of", "in", "to", "tone"}


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
    name = next((" ".join(words[-count:]) for count in (2, 1) if " ".join(words[-count:]) in NAMES), None)
    front = words[: -len(name.split())] if name else []
    if name is None or not set(front) <= MODIFIERS.keys() | NAMES.keys() | set(ISH):
        raise ValueError(
            f"{str(text)[:60]!r} is no colour that is known. Write one such as red, dark blue, light grey, navy, gold, beige, or #aabbcc."
        )
    light, said = _linear(NAMES[name].rgb), [MODIFIERS[word] for word in front if word in MODIFIERS]
    for modifier in said:
        light = _shaded(light, modifier)
    return Colour(plain, light, _ROOM if NAMES[name].wide and all(one == Modifier() for one in said) else 0.0)


def is_colour(text: str) -> bool:
    """Whether `read_colour` knows the words."""
    try:
        read_colour(text)
    except ValueError:
        return False
    return True


def _linear(rgb: tuple[int, ...]) -> tuple[float, float, float]:
    return tuple(to_linear(torch.tensor(rgb, dtype=torch.float64) / 255).tolist())


def _shaded(light: tuple[float, float, float], modifier: Modifier) -> tuple[float, float, float]:
    if modifier == Modifier():
        return light
    x = torch.tensor(light, dtype=torch.float64)
    y = luminance(x)
    wanted = lightness(y) * modifier.lightness
    wanted = (wanted + modifier.to_white * (1 - wanted)) ** 3
    x = (y + modifier.saturation * (x - y)).clamp(min=0)
    return tuple(within_gamut((x * (wanted / luminance(x).clamp(min=1e-9)))[:, None])[:, 0].tolist())
