# SPDX-License-Identifier: GPL-3.0-or-later
"""Dual classifier-free guidance of InstructPix2Pix (arXiv 2211.09800, eq. 3), which FireEdit samples with."""

from __future__ import annotations

from torch import Tensor


def dual_guidance(
    positive: Tensor, image_only: Tensor, negative: Tensor, text_scale: float, image_scale: float
) -> Tensor:
    """negative + s_I (image_only - negative) + s_T (positive - image_only), for predictions of equal shape."""
    return negative + image_scale * (image_only - negative) + text_scale * (positive - image_only)


def needed_branches(text_scale: float, image_scale: float) -> tuple[str, ...]:
    """Which of the three predictions the formula really reads; a branch whose factor is 0 need not be computed."""
    factors = {"positive": text_scale, "image_only": image_scale - text_scale, "negative": 1 - image_scale}
    return tuple(name for name, factor in factors.items() if factor != 0) or ("positive",)


def combine(predictions: dict[str, Tensor], text_scale: float, image_scale: float) -> Tensor:
    """`dual_guidance` over the branches that `needed_branches` named; the absent ones have factor 0."""
    factors = {"positive": text_scale, "image_only": image_scale - text_scale, "negative": 1 - image_scale}
    return sum(factors[name] * value for name, value in predictions.items())
