# SPDX-License-Identifier: GPL-3.0-or-later
"""Another colour for a thing, in its own light: shading, highlights and what is not painted stay.

A pixel of a painted thing is seen as a mixture, in linear light, of the paint's colour and of light thrown back without it (the
dichromatic model, Shafer 1985). So the share of paint in each pixel is kept, and the paint exchanged; lightness follows one rising curve.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .colours import Colour
from .light import lightness, luminance, oklab, to_linear, to_srgb, within_gamut
from .paste import STRIP, Box, blended, box_of, cut

_SAMPLE = 150_000  # pixels of the thing that are looked at before painting
_CHROMA = 0.04  # of OKLab: below, people call a thing white, grey or black
_SHARE = 0.08  # of a thing's pixels that must have its colour; a black car is black in spite of its tail lights
_HUE_NEAR, _HUE_FAR = math.radians(40), math.radians(75)  # still the same paint; surely not
_ORDER = 0.97  # least rank correlation between the lightness before and after


@dataclass(frozen=True)
class Curve:
    """A rising curve of lightness 0..1 through (0, 0), (`before`, `after`) and (1, 1).

    Lightening bends like a shoulder of film, so that shades stay apart and nothing is cut off. Darkening multiplies, as darker paint
    does, and from `gloss` on bends up to white again, since light thrown back by a glossy surface is the lamp's and not the paint's.
    """

    before: float
    after: float
    gloss: float = 0.95

    def __call__(self, x: Tensor) -> Tensor:
        """Lightness (...) after, of lightness before."""
        if self.after >= self.before:
            bend = (self.after**2 - self.before**2) / (self.before**2 * (1 - self.after**2))
            lifted = x * ((1 + bend) / (1 + bend * x**2)) ** 0.5
            return x + smooth(x, 0.0, 0.3 * self.before) * (lifted - x)
        factor = self.after / self.before
        shine = ((x - self.gloss) / max(1 - self.gloss, 1e-6)).clamp(0, 1) ** 2 if self.gloss < 1 else 0
        return factor * x + (1 - factor) * shine


@dataclass(frozen=True)
class Paint:
    """What a thing's own colour was found to be.

    Attributes:
        coloured: whether it has a hue. hue: radians, OKLab. saturation: chroma over lightness of its paint.
        body: lightness of its paint, 0..1. gloss: lightness from which a pixel counts as a highlight; 1 where there is none.
    """

    coloured: bool
    hue: float
    saturation: float
    body: float
    gloss: float


def smooth(x: Tensor, low: float, high: float) -> Tensor:
    """0 below `low`, 1 above `high`, a smooth step between."""
    t = ((x - low) / max(high - low, 1e-6)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def recolour(image: Tensor, alpha: Tensor, colour: Colour, check: Callable[[], None] = lambda: None) -> Tensor:
    """The picture (3, H, W) in 0..1 with the thing under alpha (H, W) in another colour; where alpha is 0 every value is its own.

    Args:
        check: called now and then; may raise to stop.

    Raises:
        ValueError: for an alpha that is 0 everywhere.
    """
    box = box_of(alpha)
    sample = _sample(cut(image, box), cut(alpha, box))
    paint = look_at(sample)
    reached = min(max(paint.body, colour.lightness - colour.room), colour.lightness + colour.room)
    # a curve through a corner would be none
    curve = Curve(min(max(paint.body, 0.04), 0.96), min(max(reached, 0.04), 0.96), paint.gloss)
    everywhere = _least_everywhere(sample, paint, curve)
    return in_light(image, alpha, box, lambda light: repaint(light, paint, colour, curve, everywhere), check)


def in_light(
    image: Tensor, alpha: Tensor, box: Box, change: Callable[[Tensor], Tensor], check: Callable[[], None] = lambda: None
) -> Tensor:
    """A copy of the picture (3, H, W) in which `change`, from linear light (3, h, w) to linear light, is seen through alpha (H, W)."""
    result = image.clone()
    into, alpha = cut(result, box), cut(alpha, box)
    for top in range(0, alpha.shape[0], STRIP):
        check()
        rows = slice(top, top + STRIP)
        into[:, rows] = blended(into[:, rows], to_srgb(change(to_linear(into[:, rows].float()))), alpha[rows])
    return result


def repaint(light: Tensor, paint: Paint, colour: Colour, curve: Curve, everywhere: float) -> Tensor:
    """Linear light (3, ...) in the new colour. everywhere: 0..1, how far lightness changes on what is not painted, too."""
    y = luminance(light)
    share, same = _paint_share(light, paint)
    before = lightness(y)
    reach = everywhere + (1 - everywhere) * smooth(share * same, 0.2, 0.55)
    after = (before + reach * (curve(before) - before)).clamp(0, 1)
    target = torch.tensor(colour.light, dtype=light.dtype, device=light.device)
    target = (target / luminance(target).clamp(min=1e-6)).reshape(3, *[1] * y.ndim)
    own = light / y.clamp(min=1e-5)
    chromaticity = same * (1 + share * (target - 1)) + (1 - same) * own
    # more paint than the pattern had cannot push a channel below nothing
    chromaticity = chromaticity.clamp(min=0)
    made = chromaticity * (after**3 / luminance(chromaticity).clamp(min=1e-5))
    return within_gamut(made)


def look_at(light: Tensor) -> Paint:
    """The paint of a thing, from linear light (3, n) of its pixels."""
    lab = oklab(light)
    before = lightness(luminance(light))
    chroma, hue = lab[1:].norm(dim=0), torch.atan2(lab[2], lab[1])
    bins, count = 72, 0.0
    weight = chroma * (chroma > _CHROMA)
    histogram = torch.zeros(bins, dtype=light.dtype).index_add(0, ((hue + math.pi) / (2 * math.pi) * bins).long().clamp(0, bins - 1), weight)
    wide = sum(histogram.roll(shift) for shift in range(-4, 5))
    main = (float(wide.argmax()) + 0.5) / bins * 2 * math.pi - math.pi
    painted = (_turn(hue, main).abs() < _HUE_NEAR) & (chroma > _CHROMA)
    count = float(painted.float().mean())
    coloured = count >= _SHARE and float(chroma[painted].quantile(0.75)) > 1.4 * _CHROMA
    if coloured:
        saturation = float((chroma[painted] / lab[0][painted].clamp(min=0.1)).quantile(0.6))
        body = _typical(before[painted], chroma[painted])
    else:
        saturation, body = 0.0, _typical(before, torch.ones_like(before))
    top = float(before.quantile(0.985))
    gloss = max(body + 0.35 * (1 - body), top)
    return Paint(coloured, main, saturation, body, gloss if gloss < 0.97 else 1.0)


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation of two (n,); 1 where either has only one value."""
    ranks = [x.argsort(stable=True).argsort(stable=True).double() for x in (a, b)]
    ranks = [x - x.mean() for x in ranks]
    norm = float(ranks[0].norm() * ranks[1].norm())
    return float((ranks[0] * ranks[1]).sum()) / norm if norm else 1.0


def _paint_share(light: Tensor, paint: Paint) -> tuple[Tensor, Tensor]:
    """How much of the paint is in each pixel, 0..1.2, and whether the pixel belongs to the painted thing by its hue, 0..1."""
    lab = oklab(light)
    chroma, before = lab[1:].norm(dim=0), lightness(luminance(light))
    if paint.coloured:
        off = _turn(torch.atan2(lab[2], lab[1]), paint.hue).abs()
        # the hue of what has hardly any colour is noise
        faint = 1 - smooth(chroma, 0.3 * _CHROMA, _CHROMA)
        same = torch.maximum(1 - smooth(off, _HUE_NEAR, _HUE_FAR), faint)
        share = (chroma / lab[0].clamp(min=0.1) / max(paint.saturation, 1e-3)).clamp(0, 1.2)
        return share * (1 - faint * smooth(off, _HUE_NEAR, _HUE_FAR)), same
    same = 1 - smooth(chroma, 1.5 * _CHROMA, 3 * _CHROMA)
    # tyres and panes of something light, and the black of anything, take no paint
    dark = smooth(before, 0.2 * paint.body, 0.42 * paint.body) if paint.body > 0.45 else smooth(before, 0.0, 0.3 * paint.body)
    shine = smooth(before, paint.gloss, min(paint.gloss + 0.12, 1.0)) if paint.gloss < 1 else torch.zeros_like(before)
    return dark * (1 - shine), same


def _least_everywhere(light: Tensor, paint: Paint, curve: Curve) -> float:
    """The least change of lightness on what is not painted with which the order of light and dark is kept."""
    before = lightness(luminance(light))
    white = Colour("white", (1.0, 1.0, 1.0))
    for everywhere in (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9):
        after = luminance(repaint(light, paint, white, curve, everywhere))
        if rank_correlation(before, after) >= _ORDER:
            return everywhere
    return 1.0


def _typical(values: Tensor, weights: Tensor) -> float:
    """The value around which most of the weight lies: the mode of values 0..1, seen with a blur of .06."""
    bins = 64
    histogram = torch.zeros(bins, dtype=values.dtype).index_add(0, (values * bins).long().clamp(0, bins - 1), weights.to(values))
    at = (torch.arange(bins, dtype=values.dtype) + 0.5) / bins
    kernel = torch.exp(-((at[:, None] - at[None]) ** 2) / (2 * 0.06**2))
    return float(at[(kernel @ histogram).argmax()])


def _turn(hue: Tensor, main: float) -> Tensor:
    """Angle from `main`, -pi..pi."""
    return torch.remainder(hue - main + math.pi, 2 * math.pi) - math.pi


def _sample(image: Tensor, alpha: Tensor) -> Tensor:
    """Linear light (3, n) of the thing's pixels, the same ones in every run."""
    step = max(1, math.isqrt(alpha.numel() // (4 * _SAMPLE)))
    image, alpha = image[:, ::step, ::step], alpha[::step, ::step]
    inside = alpha > min(0.5, float(alpha.max()) * 0.9)
    pixels = image[:, inside] if bool(inside.any()) else image.flatten(1)
    return to_linear(pixels[:, :: max(1, pixels.shape[1] // _SAMPLE)].float().cpu())
