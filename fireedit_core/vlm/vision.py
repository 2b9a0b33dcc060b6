# SPDX-License-Identifier: GPL-3.0-or-later
"""The two frozen vision towers of FireEdit: DINOv2 for regions and image tokens, CLIP for HVCA (paper section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass
class VisionFeatures:
    """Hidden states of both towers for a batch of B pictures, patch tokens only (no class token).

    Attributes:
        dino: hidden states after the embedding and after each DINOv2 block, pre-norm, each (B, h*w, C_dino).
        clip: the same of the CLIP tower, each (B, h'*w', C_clip).
        dino_grid: (h, w) of the DINOv2 patch grid.
    """

    dino: tuple[Tensor, ...]
    clip: tuple[Tensor, ...]
    dino_grid: tuple[int, int]

    def to(self, device=None, dtype=None) -> VisionFeatures:
        """Copy on another device or in another floating point type."""
        move = lambda levels: tuple(x.to(device=device, dtype=dtype) for x in levels)  # noqa: E731
        return VisionFeatures(move(self.dino), move(self.clip), self.dino_grid)


def squash(images: Tensor, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Resize (B, 3, H, W) in 0..1 to (B, 3, size, size) ignoring the aspect ratio, then normalise per channel.

    Edits need the full frame, so nothing is cropped (Groma squashes in the same way).
    """
    if images.shape[-2:] != (size, size):
        images = F.interpolate(images.float(), (size, size), mode="bicubic", antialias=True).clamp(0, 1)
    shape = (1, 3, 1, 1)
    return (images - images.new_tensor(mean).view(shape)) / images.new_tensor(std).view(shape)


def encode_dino(dinov2: torch.nn.Module, images: Tensor) -> tuple[tuple[Tensor, ...], tuple[int, int]]:
    """Patch tokens of every level of a transformers `Dinov2Model` for pictures (B, 3, H, W) in 0..1, and their grid."""
    size, patch = dinov2.config.image_size, dinov2.config.patch_size
    grid = (size // patch, size // patch)
    weight = dinov2.embeddings.patch_embeddings.projection.weight
    pixels = squash(images, size, IMAGENET_MEAN, IMAGENET_STD).to(weight)
    states = dinov2(pixel_values=pixels, output_hidden_states=True).hidden_states
    return tuple(x[:, -grid[0] * grid[1] :] for x in states), grid


def encode_clip(clip_vision: torch.nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """Patch tokens of every level of a transformers `CLIPVisionModel` for pictures (B, 3, H, W) in 0..1."""
    config = clip_vision.config
    weight = next(p for n, p in clip_vision.named_parameters() if n.endswith("patch_embedding.weight"))
    pixels = squash(images, config.image_size, CLIP_MEAN, CLIP_STD).to(weight)
    states = clip_vision(pixel_values=pixels, output_hidden_states=True).hidden_states
    return tuple(x[:, 1:] for x in states)


def encode_vision(dinov2: torch.nn.Module, clip_vision: torch.nn.Module, images: Tensor) -> VisionFeatures:
    """Run both towers once; every later consumer (image tokens, region encoder, HVCA) shares the result.

    Args:
        dinov2: transformers `Dinov2Model`. clip_vision: transformers `CLIPVisionModel`.
        images: (B, 3, H, W) RGB in 0..1, any size.
    """
    dino, grid = encode_dino(dinov2, images)
    return VisionFeatures(dino, encode_clip(clip_vision, images), grid)
