# SPDX-License-Identifier: GPL-3.0-or-later
"""Between the host's IMAGE (B, H, W, C) and MASK (B, H, W) and the core's pictures (B, 3, H, W), all in 0..1.

Values between nodes lie on the host's intermediate device; those of a pack that leaves its own on the card are brought there first.
"""

from __future__ import annotations

import logging

import comfy.model_management as management
import torch
from torch import Tensor

from .errors import FireEditNodeError

logger = logging.getLogger("fireedit")


def to_core(image: Tensor, node: str) -> Tensor:
    """Pictures (B, 3, H, W) of an IMAGE; a grey channel is spread, an alpha channel is dropped with a log line.

    Raises:
        FireEditNodeError: for another shape, values that are not finite, or a range that is not 0..1.
    """
    image = image[None] if image.ndim == 3 else image
    if image.ndim != 4 or 0 in image.shape or image.shape[-1] not in (1, 3, 4):
        raise FireEditNodeError(
            node, f"expected an IMAGE (B, H, W, 3), got {tuple(image.shape)}. Connect a picture, for example of Load Image."
        )
    if image.shape[-1] == 4:
        logger.info("%s: the picture has 4 channels; its alpha is dropped", node)
    _check_values(image[..., :3], "picture", node)
    pixels = image[..., :3].movedim(-1, 1).to(management.intermediate_device(), torch.float32)
    return pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels


def without_alpha(image: Tensor) -> Tensor:
    """The colours of an IMAGE, for `to_core` where the alpha is kept apart and nothing is to be said about it."""
    return image[..., :3] if image.shape[-1] == 4 else image


def with_alpha(image: Tensor, node: str) -> Tensor:
    """An IMAGE whose colours `to_core` has checked, as (B, H, W, C) floats with its alpha.

    Raises:
        FireEditNodeError: for an alpha with values that are not finite, or in a range that is not 0..1.
    """
    image = image[None] if image.ndim == 3 else image
    if image.shape[-1] == 4:
        _check_values(image[..., 3:], "picture", node)
    image = image.to(management.intermediate_device())
    return image if image.is_floating_point() else image.float()


def to_host(pictures: Tensor) -> Tensor:
    """IMAGE (B, H, W, 3) of pictures (B, 3, H, W)."""
    return pictures.movedim(1, -1).contiguous()


def size_of(pictures: Tensor) -> tuple[int, int]:
    """(height, width) of pictures (B, C, H, W)."""
    return int(pictures.shape[-2]), int(pictures.shape[-1])


def check_mask(mask: Tensor, pictures: Tensor, node: str) -> Tensor:
    """A MASK as (B, H, W) that fits the pictures; a single one serves all.

    Raises:
        FireEditNodeError: for another size or number, values that are not finite, or a range that is not 0..1.
    """
    mask = mask[None] if mask.ndim == 2 else mask
    count, size = pictures.shape[0], size_of(pictures)
    if mask.ndim != 3 or tuple(mask.shape[-2:]) != size or mask.shape[0] not in (1, count):
        raise FireEditNodeError(
            node,
            f"the mask has shape {tuple(mask.shape)}, but {count} picture(s) of height {size[0]} and width {size[1]} came. "
            "Connect a mask of this very picture (of FireEdit Ground, or grounding of FireEdit VLM Conditioning): one for all pictures, or "
            "one each.",
        )
    _check_values(mask, "mask", node)
    return mask.expand(count, -1, -1).to(management.intermediate_device(), torch.float32)


def is_blank(mask: Tensor | None, node: str) -> bool:
    """Whether there is no mask, or a black one, which is what Load Image gives for a picture without transparency.

    Raises:
        FireEditNodeError: for values that are not finite, or a range that is not 0..1.
    """
    if mask is None:
        return True
    _check_values(mask, "mask", node)
    return not bool((mask > 0).any())


# How far beyond 0..1 a value may lie: upscalers and colour nodes overshoot a little, and what they do is the artist's business.
_OVERSHOOT = 0.5


def _check_values(values: Tensor, what: str, node: str) -> None:
    """Refuse what is no picture or mask in 0..1, in words that say what it looks like; else it would be edited into nothing."""
    real = values if values.is_floating_point() else values.float()
    bad = ~torch.isfinite(real)
    if bool(bad.any()):
        count = int(bad.sum())
        raise FireEditNodeError(
            node,
            f"the {what} has {count} value(s) of {values.numel()} that are not numbers (NaN or infinite). The node in front of this one "
            f"gives a broken {what}: look at it with Preview Image, and mend it there.",
        )
    if real.numel() == 0:
        return
    low, high = float(real.min()), float(real.max())
    if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
        looks = "0..255; divide it by 255" if low >= 0 else "-1..1; add 1 and halve it" if low >= -1 and high <= 1 else "another range"
        raise FireEditNodeError(node, f"the {what} has values from {low:.4g} to {high:.4g} instead of 0..1. It looks like {looks}.")


def counted(count: int, noun: str) -> str:
    """'1 region', '3 regions'."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def batch_text(count: int) -> str:
    """'1 picture', '3 pictures'."""
    return counted(count, "picture")

