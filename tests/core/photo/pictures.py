# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures to edit: made here, and photographs of an installed package."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fireedit_core.blur import gaussian_blur
from fireedit_core.grounding.answer import Answer


def textured(height: int, width: int, seed: int = 0, bits: int = 8) -> Tensor:
    """(3, H, W): soft colours and grain, on the grid of so many bits."""
    noise = torch.Generator().manual_seed(seed)
    soft = torch.rand(1, 3, max(2, height // 40), max(2, width // 40), generator=noise)
    soft = torch.nn.functional.interpolate(soft, (height, width), mode="bilinear")[0]
    levels = 2**bits - 1
    return ((0.2 + 0.5 * soft + 0.15 * torch.rand(3, height, width, generator=noise)) * levels).round() / levels


def disc(height: int, width: int, radius: float = 0.2, soft: float = 2.0) -> Tensor:
    """(H, W): a round mask in the middle, its radius as a share of the shorter side, with an edge of a few pixels."""
    y, x = torch.arange(height)[:, None] - height / 2, torch.arange(width)[None] - width / 2
    return ((radius * min(height, width) - (y**2 + x**2).sqrt()) / soft + 0.5).clamp(0, 1)


def ball(size: int, light: tuple[float, float, float], noise: float = 0.0015) -> tuple[Tensor, Tensor]:
    """A shaded, glossy ball (3, size, size) of a paint in linear light, before grey, and its mask."""
    from fireedit_core.photo.light import to_srgb

    y, x = torch.meshgrid(*[(torch.arange(size) - size / 2) / (0.35 * size)] * 2, indexing="ij")
    z = (1 - x**2 - y**2).clamp(min=0).sqrt()
    facing = (-0.4 * x - 0.5 * y + 0.77 * z).clamp(min=0)
    made = torch.tensor(light)[:, None, None] * (0.08 + 0.8 * facing) + 0.5 * facing**40
    made = made + noise * torch.randn(3, size, size, generator=torch.Generator().manual_seed(1))
    mask = disc(size, size, 0.35)
    return torch.where(mask > 0, to_srgb(made), torch.tensor(0.5)), mask


def answer(kind: str, picture: Tensor, after: str = "", thing: str = "") -> Answer:
    return Answer(kind, thing, (), after, (), tuple(picture.shape[-2:]))


def photograph(name: str) -> Tensor:
    """(3, H, W) of a photograph that lies in scikit-image's package; skips where that is not installed."""
    data = pytest.importorskip("skimage.data", reason="scikit-image, which brings the photograph, is not installed")
    picture = torch.from_numpy(getattr(data, name)().copy()).float() / 255
    return picture.expand(3, -1, -1).clone() if picture.ndim == 2 else picture.movedim(-1, 0)


def smooth(picture: Tensor, sigma: float) -> Tensor:
    return gaussian_blur(picture[None], sigma)[0]
