# SPDX-License-Identifier: GPL-3.0-or-later
"""Light and how it looks: sRGB, linear light, luminance, OKLab. Pictures are (3, ...) float tensors.

sRGB by IEC 61966-2-1; OKLab by B. Ottosson, "A perceptual color space for image processing", 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LUMINANCE = (0.2126, 0.7152, 0.0722)  # Rec. 709 primaries, which are sRGB's
_TO_CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929), (0.2119034982, 0.6806995451, 0.1073969566), (0.0883024619, 0.2817188376, 0.6299787005),
)  # fmt: skip
_TO_LAB = (
    (0.2104542553, 0.7936177850, -0.0040720468), (1.9779984951, -2.4285922050, 0.4505937099), (0.0259040371, 0.7827717662, -0.8086757660),
)  # fmt: skip


def to_linear(picture: Tensor) -> Tensor:
    """Linear light 0..1 of sRGB values; what lies beyond 0..1 is cut."""
    x = picture.clamp(0, 1)
    return torch.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def to_srgb(light: Tensor) -> Tensor:
    """sRGB values 0..1 of linear light; inverse of `to_linear`."""
    x = light.clamp(0, 1)
    return torch.where(x <= 0.0031308, x * 12.92, 1.055 * x.clamp(min=1e-8) ** (1 / 2.4) - 0.055)


def luminance(light: Tensor) -> Tensor:
    """Relative luminance (...) of linear light (3, ...)."""
    return light[0] * _LUMINANCE[0] + light[1] * _LUMINANCE[1] + light[2] * _LUMINANCE[2]


def lightness(y: Tensor) -> Tensor:
    """How light a luminance looks, 0..1: its cube root, as in CIE L* and OKLab."""
    return y.clamp(min=0) ** (1 / 3)


def oklab(light: Tensor) -> Tensor:
    """OKLab (L, a, b; ...) of linear light (3, ...)."""
    return _mixed(_mixed(light, _TO_CONES).clamp(min=0) ** (1 / 3), _TO_LAB)


def within_gamut(light: Tensor) -> Tensor:
    """Linear light (3, ...) that fits a screen: too strong a colour loses saturation, never hue or luminance."""
    y = luminance(light).clamp(0, 1)
    over = light.amax(0)
    strength = torch.where(over > 1, (1 - y) / (over - y).clamp(min=1e-6), torch.ones_like(y)).clamp(0, 1)
    return y + strength * (light - y)


def _mixed(x: Tensor, matrix: tuple[tuple[float, float, float], ...]) -> Tensor:
    return torch.stack([x[0] * a + x[1] * b + x[2] * c for a, b, c in matrix])
