# SPDX-License-Identifier: GPL-3.0-or-later
"""Between the host's IMAGE (B, H, W, C) and MASK (B, H, W) and the core's pictures (B, 3, H, W), all in 0..1."""

from __future__ import annotations

import logging

from torch import Tensor

from .errors import FireEditNodeError

logger = logging.getLogger("fireedit")


def to_core(image: Tensor, node: str) -> Tensor:
    """Pictures (B, 3, H, W) of an IMAGE; a grey channel is spread, an alpha channel is dropped with a log line."""
    image = image[None] if image.ndim == 3 else image
    if image.ndim != 4 or image.shape[0] == 0 or image.shape[-1] not in (1, 3, 4):
        raise FireEditNodeError(
            node, f"expected an IMAGE (B, H, W, 3), got {tuple(image.shape)}. Connect a picture, for example of Load Image."
        )
    if image.shape[-1] == 4:
        logger.info("%s: the picture has 4 channels; its alpha is dropped", node)
    pixels = image[..., :3].movedim(-1, 1).float()
    return pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels


def to_host(pictures: Tensor) -> Tensor:
    """IMAGE (B, H, W, 3) of pictures (B, 3, H, W)."""
    return pictures.movedim(1, -1).contiguous()


def size_of(pictures: Tensor) -> tuple[int, int]:
    """(height, width) of pictures (B, C, H, W)."""
    return int(pictures.shape[-2]), int(pictures.shape[-1])


def check_mask(mask: Tensor, pictures: Tensor, node: str) -> Tensor:
    """A MASK as (B, H, W) that fits the pictures; a single one serves all.

    Raises:
        FireEditNodeError: for another size or number.
    """
    mask = mask[None] if mask.ndim == 2 else mask
    count, size = pictures.shape[0], size_of(pictures)
    if mask.ndim != 3 or tuple(mask.shape[-2:]) != size or mask.shape[0] not in (1, count):
        raise FireEditNodeError(
            node,
            f"the mask has shape {tuple(mask.shape)}, but {count} picture(s) of height {size[0]} and width {size[1]} came. "
            "Connect grounding of FireEdit VLM Conditioning for this very picture, or a mask of the same size.",
        )
    return mask.expand(count, -1, -1).float()


def counted(count: int, noun: str) -> str:
    """'1 region', '3 regions'."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def batch_text(count: int) -> str:
    """'1 picture', '3 pictures'."""
    return counted(count, "picture")

