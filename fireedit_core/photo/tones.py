# SPDX-License-Identifier: GPL-3.0-or-later
"""A thing brighter, darker, blurred or grey, in its own light."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from .backdrop import blurred
from .light import lightness, luminance, within_gamut
from .paste import box_of, cut, paste
from .recolour import Curve, in_light

_CURVES = {"brighter": Curve(0.5, 0.63), "darker": Curve(0.6, 0.44)}
_BLUR = 0.035  # of the thing's size (root of its area): radius of the circle that a point becomes


def adjust(image: Tensor, alpha: Tensor, how: str, check: Callable[[], None] = lambda: None) -> Tensor:
    """The picture (3, H, W) in 0..1 with the thing under alpha (H, W) changed.

    Args:
        how: brighter, darker, blurred or grey. check: called now and then; may raise to stop.

    Raises:
        ValueError: for another word, or an alpha that is 0 everywhere.
    """
    box = box_of(alpha)
    if how in _CURVES:
        return in_light(image, alpha, box, lambda light, *_: _toned(light, _CURVES[how]), check)
    if how == "grey":
        return in_light(image, alpha, box, lambda light, *_: luminance(light).expand(3, *light.shape[1:]), check)
    if how != "blurred":
        raise ValueError(f"a thing can be made brighter, darker, blurred or grey, not {how!r}.")
    radius = max(2.0, _BLUR * math.sqrt(float((alpha > 0.5).sum())))
    wide = box_of(alpha, math.ceil(3 * radius))
    # the colours of the thing alone: those beside it would shine into it
    new = blurred(cut(image, wide), 1 - cut(alpha, wide), radius, check)
    return paste(image, new, cut(alpha, wide), wide)


def _toned(light: Tensor, curve: Curve) -> Tensor:
    y = luminance(light)
    return within_gamut(light * (curve(lightness(y)) ** 3 / y.clamp(min=1e-6)))
