# SPDX-License-Identifier: GPL-3.0-or-later
"""Colours as people name them: how they are written in a sentence, and how much of a region has one.

A pixel gets one name by hue, saturation and brightness: eleven basic names, and beige and turquoise, which people keep apart from them.
Shading moves brightness most and hue least, so hue decides as soon as there is some saturation. Names that are neighbours count in part
(a "white" coat may be beige), modifiers ("dark") by brightness.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from ..colour_names import BASIC, ISH, MODIFIERS, NAMES

_NAME = "|".join(sorted((re.escape(name).replace(r"\ ", r"\s+") for name in NAMES), key=len, reverse=True))
_MODIFIER = "|".join(sorted(MODIFIERS, key=len, reverse=True))
_ISH = "|".join(ISH)
_BASE = rf"(?:(?:{_MODIFIER})[\s-]+)*(?:(?:{_ISH})[\s-]+)?(?:{_NAME})"
COLOUR = rf"(?:{_BASE}(?:[\s-]+(?:{_NAME}))?|\#(?:[0-9a-f]{{6}}|[0-9a-f]{{3}})\b)(?:[\s-](?:colou?red|tone))?"
_WHOLE = re.compile(rf"(?:an?\s+|the\s+colou?r\s+)?({COLOUR})(?:\s+colou?r)?", re.IGNORECASE)
_ONE = re.compile(rf"(?<![\w-])(?:((?:{_MODIFIER})(?:[\s-]+(?:{_MODIFIER}))*)[\s-]+)?({_NAME})(?:ish)?(?![\w])", re.IGNORECASE)

# How much a pixel of the second name counts for the first: where people disagree about the border between the two.
_NEAR: dict[str, dict[str, float]] = {
    "black": {"grey": 0.15},
    "white": {"beige": 0.5, "grey": 0.25},
    "grey": {"black": 0.2, "white": 0.2},
    "red": {"orange": 0.25, "pink": 0.3, "brown": 0.2},
    "orange": {"red": 0.25, "yellow": 0.3, "brown": 0.4, "beige": 0.2},
    "yellow": {"orange": 0.3, "beige": 0.25, "green": 0.15},
    "green": {"turquoise": 0.4, "yellow": 0.15},
    "blue": {"turquoise": 0.5, "purple": 0.25},
    "purple": {"pink": 0.4, "blue": 0.2},
    "pink": {"purple": 0.4, "red": 0.3},
    "brown": {"orange": 0.4, "beige": 0.4, "red": 0.15},
    "beige": {"brown": 0.4, "white": 0.3, "yellow": 0.25, "orange": 0.25},
    "turquoise": {"blue": 0.4, "green": 0.4},
}
_MOST_PIXELS = 20_000
_INNER = 0.6  # of a box's width and height: its rim shows what is behind the thing
_SAFE_MASK = 0.5


def is_colour(text: str) -> bool:
    """Whether a text is a colour and nothing else: "dark red", "a light blue", "#ff8800"."""
    return bool(_WHOLE.fullmatch(text.strip()))


def colour_text(text: str) -> str:
    """A colour without article and the word colour, lower case: "a Dark  Red colour" -> "dark red".

    Raises:
        ValueError: for a text that is no colour.
    """
    match = _WHOLE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is no colour that is known.")
    return re.sub(r"[\s-]colou?red$", "", re.sub(r"\s+", " ", match[1].lower())).replace("gray", "grey")


def colours_in(text: str) -> tuple[str, ...]:
    """The colours that a text names, as written, in their order: "the man in the dark blue coat" -> ("dark blue",)."""
    return tuple(re.sub(r"\s+", " ", match[0].lower()) for match in _ONE.finditer(text))


def without_colours(text: str) -> str:
    """A text without the colours that it names."""
    return re.sub(r"\s+", " ", _ONE.sub(" ", text)).strip()


def _parts(colour: str) -> tuple[str, str]:
    """A colour as (basic name, "" | "dark" | "light")."""
    match = _ONE.search(colour)
    if not match:
        raise ValueError(f"{colour!r} is no colour that is known.")
    name = NAMES[re.sub(r"\s+", " ", match[2].lower())]
    shades = {MODIFIERS[word].shade for word in (match[1] or "").lower().replace("-", " ").split()}
    return name.basic, "dark" if "dark" in shades else "light" if "light" in shades else name.shade


def _pixels(image: Tensor, box: Tensor, mask: Tensor | None) -> Tensor:
    """(n, 3) pixels of a thing: those of its mask, or of the inner part of its box; at most `_MOST_PIXELS`, evenly taken."""
    height, width = image.shape[-2:]
    if mask is not None:
        inside = mask > _SAFE_MASK
        if bool(inside.any()):
            index = inside.flatten().nonzero().flatten()
            index = index[:: max(1, len(index) // _MOST_PIXELS)]
            return image.flatten(1)[:, index].T.float()
    x1, y1, x2, y2 = (float(value) for value in box)
    rim_x, rim_y = (1 - _INNER) / 2 * (x2 - x1), (1 - _INNER) / 2 * (y2 - y1)
    left, top = (min(max(int(a), 0), size - 1) for a, size in ((x1 + rim_x, width), (y1 + rim_y, height)))
    right, bottom = (min(max(round(b), a + 1), size) for b, a, size in ((x2 - rim_x, left, width), (y2 - rim_y, top, height)))
    step = max(1, round(((right - left) * (bottom - top) / _MOST_PIXELS) ** 0.5))
    return image[:, top:bottom:step, left:right:step].flatten(1).T.float()


def _names_of(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) index into `BASIC` and (n,) brightness 0..1 of pixels (n, 3) RGB 0..1."""
    pixels = pixels.clamp(0, 1)
    high, which = pixels.max(1)
    chroma = high - pixels.min(1).values
    r, g, b = pixels.unbind(1)
    safe = chroma.clamp(min=1e-6)
    hue = torch.where(which == 0, ((g - b) / safe) % 6, torch.where(which == 1, (b - r) / safe + 2, (r - g) / safe + 4)) * 60
    saturation = chroma / high.clamp(min=1e-6)
    name = torch.full_like(which, BASIC.index("red"))

    def give(where: Tensor, colour: str) -> None:
        name[where] = BASIC.index(colour)

    give((hue >= 15) & (hue < 42), "orange")
    give((hue >= 42) & (hue < 68), "yellow")
    give((hue >= 68) & (hue < 160), "green")
    give((hue >= 160) & (hue < 195), "turquoise")
    give((hue >= 195) & (hue < 258), "blue")
    give((hue >= 258) & (hue < 295), "purple")
    give((hue >= 295) & (hue < 345), "pink")
    give(((hue >= 345) | (hue < 15)) & (saturation < 0.5) & (high > 0.7), "pink")
    # brown is dark orange, beige a pale one: the same hue under other light
    give((hue >= 10) & (hue < 42) & (high < 0.62), "brown")
    give((hue >= 42) & (hue < 60) & (high < 0.5), "brown")
    give((hue >= 15) & (hue < 65) & (saturation < 0.45) & (high >= 0.55), "beige")
    # without saturation there is no hue; the darker the pixel, the more noise counts as saturation
    pale = (saturation < 0.13) | (chroma < 0.06)
    give(pale, "grey")
    give(pale & (high > 0.8), "white")
    give((high < 0.16) | (pale & (high < 0.24)) | ((chroma < 0.09) & (high < 0.24)), "black")
    return name, high


def region_colours(image: Tensor, box: Tensor, mask: Tensor | None = None) -> dict[str, float]:
    """Share of a region's pixels by basic colour name, largest first.

    Args:
        image: (3, H, W) RGB 0..1. box: (4,) corners x1, y1, x2, y2 in pixels; only its inner part is measured. mask: (H, W) 0..1 of
            the thing, measured instead of the box where it has any pixel.
    """
    name, _ = _names_of(_pixels(image, box, mask))
    shares = torch.bincount(name, minlength=len(BASIC)).float() / max(len(name), 1)
    order = torch.argsort(shares, descending=True, stable=True)
    return {BASIC[i]: float(shares[i]) for i in order.tolist() if shares[i] > 0}


def colour_share(image: Tensor, box: Tensor, colour: str, mask: Tensor | None = None) -> float:
    """How much of a region has a colour as people name it, 0..1; neighbouring colours count in part. Arguments as `region_colours`.

    Raises:
        ValueError: for a colour that is not known.
    """
    basic, shade = _parts(colour)
    name, brightness = _names_of(_pixels(image, box, mask))
    counts = torch.zeros(len(BASIC))
    for near, weight in {basic: 1.0, **_NEAR[basic]}.items():
        counts[BASIC.index(near)] = weight
    share = counts[name]
    if shade == "dark":
        dark_twin = (name == BASIC.index("black")) & (basic == "blue")  # navy in the shade is black in the picture
        share = torch.where(brightness < 0.55, share, 0.3 * share) + 0.4 * dark_twin
    elif shade == "light":
        share = torch.where(brightness > 0.55, share, 0.3 * share)
    return float(share.mean()) if len(share) else 0.0
