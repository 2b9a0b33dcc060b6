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
import torch.nn.functional as F
from torch import Tensor

from ..blur import gaussian_blur
from .colours import Colour
from .light import lightness, luminance, oklab, to_linear, to_srgb, within_gamut
from .paste import STRIP, Box, blended, box_of, cut

_SAMPLE = 40_000  # pixels of the thing that are looked at before painting
_CHROMA = 0.04  # of OKLab: below, people call a thing white, grey or black
# Of a thing's pixels that must have its colour: a black car is black in spite of its tail lights, a man in black in spite of his face,
# but a motorcycle is red if its tank is.
_SHARE, _SHARE_VIVID, _VIVID = 0.35, 0.08, 0.2
_ONE_HUE = 0.4  # of all that is coloured: the noise of a black thing has every hue, and .22 of it lies by chance near any of them
_HUE_NEAR, _HUE_FAR = math.radians(40), math.radians(75)  # still the same paint; surely not
_ORDER = 0.957  # least rank correlation between the lightness before and after
# What is tried to keep it: how far lightness changes on what is not painted, and how far the paint's own goes. Both 1 keep the order.
_GENTLER = ((0.0, 1.0), (0.15, 1.0), (0.25, 1.0), (0.3, 0.85), (0.4, 0.85), (0.5, 0.8), (0.6, 0.8), (0.8, 0.9), (1.0, 1.0))
_DENSE = 160_000  # px of the small picture in which it is seen where paint is


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
        tint: chroma up to which a pixel of something without a hue is painted. body: lightness of its paint, 0..1.
        gloss: lightness from which a pixel counts as a highlight; 1 where there is none.
    """

    coloured: bool
    hue: float
    saturation: float
    tint: float
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
    part, matte = cut(image, box), cut(alpha, box)
    sample, places = _sample(part, matte)
    paint = look_at(sample)
    near, width = _near_paint(part, matte, paint), matte.shape[1]
    reached = min(max(paint.body, colour.lightness - colour.room), colour.lightness + colour.room / 2)
    # a curve through a corner would be none
    curve = Curve(min(max(paint.body, 0.04), 0.96), min(max(reached, 0.04), 0.96), paint.gloss)
    around = _at(near, places // width, places % width, matte.shape).cpu()
    reach = _reach(sample, matte.flatten()[places.to(matte.device)].cpu(), around, paint, curve)

    def change(light: Tensor, y: Tensor, x: Tensor) -> Tensor:
        return repaint(light, paint, colour, curve, reach, _at(near, y, x, matte.shape))

    return in_light(image, alpha, box, change, check)


def in_light(
    image: Tensor, alpha: Tensor, box: Box, change: Callable[[Tensor, Tensor, Tensor], Tensor], check: Callable[[], None] = lambda: None
) -> Tensor:
    """A copy of the picture (3, H, W) in which `change` is seen through alpha (H, W), inside the box.

    Args:
        change: from linear light (3, n) of some pixels, and their rows and columns (n,) in the box, to linear light.
    """
    result = image.clone()
    into, alpha = cut(result, box), cut(alpha, box)
    for top in range(0, alpha.shape[0], STRIP):
        check()
        rows = into[:, top : top + STRIP]
        weight = alpha[top : top + STRIP]
        y, x = (weight > 0).nonzero(as_tuple=True)  # a thing fills half of its box
        old = rows[:, y, x]
        rows[:, y, x] = blended(old, to_srgb(change(to_linear(old.float()), y + top, x)), weight[y, x])
    return result


def repaint(light: Tensor, paint: Paint, colour: Colour, curve: Curve, reach: tuple[float, float], near: Tensor) -> Tensor:
    """Linear light (3, ...) in the new colour.

    Args:
        reach: how far lightness goes along the curve on what is not painted, and on what is, 0..1. near: (...), see `_near_paint`.
    """
    y = luminance(light)
    share, same = _paint_share(light, paint)
    sure = same
    if paint.coloured:  # a faint tint is thinned paint beside paint, and a colour of its own elsewhere
        sure = same * torch.maximum(near, smooth(share, 0.75, 1.0))
    before = lightness(y)
    painted = smooth(share * sure, 0.2, 0.55)
    after = (before + (reach[0] + (reach[1] - reach[0]) * painted) * (curve(before) - before)).clamp(0, 1)
    target = torch.tensor(colour.light, dtype=light.dtype, device=light.device)
    target = (target / luminance(target).clamp(min=1e-6)).reshape(3, *[1] * y.ndim)
    if float(target.max()) > 1.15:  # a colour; white, grey and black are no tint on what they are not meant for
        same = sure
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
    chroma, hue = torch.hypot(lab[1], lab[2]), torch.atan2(lab[2], lab[1])
    bins = 72
    weight = chroma * (chroma > _CHROMA)
    bin_of = ((hue + math.pi) / (2 * math.pi) * bins).long().clamp(0, bins - 1)
    histogram = torch.zeros(bins, dtype=light.dtype).index_add(0, bin_of, weight)
    wide = sum(histogram.roll(shift) for shift in range(-4, 5))
    main = (float(wide.argmax()) + 0.5) / bins * 2 * math.pi - math.pi
    painted = (_turn(hue, main).abs() < _HUE_NEAR) & (chroma > _CHROMA)
    count, saturation, tint = float(painted.float().mean()), 0.0, _CHROMA
    if count:
        saturation = float((chroma[painted] / lab[0][painted].clamp(min=0.1)).quantile(0.6))
    coloured = count >= (_SHARE_VIVID if saturation > _VIVID else _SHARE) and float(chroma[painted].quantile(0.75)) > 1.4 * _CHROMA
    coloured = coloured and count > _ONE_HUE * float((chroma > _CHROMA).float().mean())
    if coloured:
        body = _typical(before[painted], chroma[painted])
    else:
        body = _typical(before, torch.ones_like(before))
        near = chroma[(before - body).abs() < 0.08]
        # in the dark it is noise that has chroma, and little else
        tint = max(0.75 * _CHROMA, 1.3 * float(near.median()), float(near.quantile(0.95)) if body < 0.3 else 0.0)
    top = float(before.quantile(0.985))
    gloss = max(body + 0.35 * (1 - body), top)
    return Paint(coloured, main, saturation, tint, body, gloss if gloss < 0.97 else 1.0)


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation of two (n,); 1 where either has only one value."""
    ranks = [x.argsort(stable=True).argsort(stable=True).double() for x in (a, b)]
    ranks = [x - x.mean() for x in ranks]
    norm = float(ranks[0].norm() * ranks[1].norm())
    return float((ranks[0] * ranks[1]).sum()) / norm if norm else 1.0


def _paint_share(light: Tensor, paint: Paint) -> tuple[Tensor, Tensor]:
    """How much of the paint is in each pixel, 0..1.2, and whether the pixel belongs to the painted thing by its hue, 0..1."""
    lab = oklab(light)
    chroma, before = torch.hypot(lab[1], lab[2]), lightness(luminance(light))
    if paint.coloured:
        off = _turn(torch.atan2(lab[2], lab[1]), paint.hue).abs()
        # the hue of what has hardly any colour is noise
        faint = 1 - smooth(chroma, 0.3 * _CHROMA, _CHROMA)
        same = torch.maximum(1 - smooth(off, _HUE_NEAR, _HUE_FAR), faint)
        share = (chroma / lab[0].clamp(min=0.1) / max(paint.saturation, 1e-3)).clamp(0, 1.2)
        return share * (1 - faint * smooth(off, _HUE_NEAR, _HUE_FAR)), same
    same = 1 - smooth(chroma, paint.tint, paint.tint + _CHROMA)
    # tyres and panes of something light, and the black of anything, take no paint
    dark = smooth(before, 0.2 * paint.body, 0.42 * paint.body) if paint.body > 0.45 else smooth(before, 0.0, 0.3 * paint.body)
    # neither does what is far lighter: the shirt under a black suit, the lamp in a black bonnet
    shine = smooth(before, paint.body + 0.25, paint.body + 0.5)
    return 0.92 * dark * (1 - shine), same


def _reach(light: Tensor, alpha: Tensor, near: Tensor, paint: Paint, curve: Curve) -> tuple[float, float]:
    """How far lightness goes along the curve, so that the order of light and dark is kept where alpha (n,) shows it; see `repaint`."""
    before, own = luminance(light), to_srgb(light)
    white = Colour("white", (1.0, 1.0, 1.0))
    for reach in _GENTLER:
        after = own + alpha * (to_srgb(repaint(light, paint, white, curve, reach, near)) - own)
        if rank_correlation(before, luminance(to_linear(after))) >= _ORDER:
            return reach
    return _GENTLER[-1]


def _near_paint(image: Tensor, alpha: Tensor, paint: Paint) -> Tensor:
    """How surely each place lies among the thing's paint, (1, 1, h, w) in 0..1 at a smaller size."""
    scale = min(1.0, math.sqrt(_DENSE / alpha.numel()))
    size = tuple(max(1, round(side * scale)) for side in alpha.shape)
    shrink = lambda x: F.interpolate(x[None].float(), size, mode="area")  # noqa: E731
    share, same = _paint_share(to_linear(shrink(image)[0]), paint)
    painted = ((share > 0.62) & (same > 0.5)).float() * shrink(alpha[None])[0, 0]
    return smooth(gaussian_blur(painted[None, None], max(0.7, 0.012 * math.hypot(*size))), 0.12, 0.4)


def _at(near: Tensor, y: Tensor, x: Tensor, size: tuple[int, int]) -> Tensor:
    """Values (n,) of such a map at rows and columns of the picture of `size` = (height, width), between its own pixels in proportion."""
    place = [((at + 0.5) / side * 2 - 1).to(near) for at, side in ((x, size[1]), (y, size[0]))]
    return F.grid_sample(near, torch.stack(place, -1)[None, None], mode="bilinear", padding_mode="border", align_corners=False)[0, 0, 0]


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


def _sample(image: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Linear light (3, n) of the thing's pixels, and their flat places (n,); the same ones in every run."""
    inside = (alpha > min(0.5, float(alpha.max()) * 0.9)).flatten().nonzero().flatten()
    places = inside[:: max(1, len(inside) // _SAMPLE)]
    return to_linear(image.flatten(1)[:, places].float()).cpu(), places.cpu()
