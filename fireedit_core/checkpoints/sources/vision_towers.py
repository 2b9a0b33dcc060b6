# SPDX-License-Identifier: GPL-3.0-or-later
"""facebook/dinov2-large and openai/clip-vit-large-patch14: the folders as published, in either release's names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..public_names import public_clip_name, public_dino_name
from .fit import Found, Part, SourceError, fit, layer_count, under
from .lazy_tensor import LazyTensor
from .null_text import text_parts
from .weight_files import open_weights

if TYPE_CHECKING:
    from ..sd15 import Sd15Config

POSITIONS = "embeddings.position_embeddings"


def read_dinov2(path: Path, config: Sd15Config) -> Found:
    """A DINOv2 folder or file -> the component `dinov2`, its position embedding brought to the bundle's picture size."""
    tensors = open_weights(path)
    part = {public_dino_name(k.removeprefix("dinov2.")): x for k, x in tensors.items() if not k.startswith("classifier.")}
    return Found(path, tuple(tensors), {"dinov2": fit_dinov2(part, path, config)})


def fit_dinov2(part: Part, path: Path, config: Sd15Config) -> Part:
    """The tensors of a DINOv2 backbone under published names, checked, with positions for `config.image_size`.

    Raises:
        SourceError: for another size, or one with register tokens.
    """
    positions = part.get(POSITIONS)
    side = config.image_size // config.dino_patch
    if positions is not None and positions.ndim == 3 and positions.shape[1] != side**2 + 1:
        part = part | {POSITIONS: positions.then(lambda x: resize_positions(x, side))}
    width = positions.shape[-1] if positions is not None else "unknown"
    registers = " with register tokens" if "embeddings.register_tokens" in part else ""
    advice = (
        f"Came: a DINOv2 of width {width} and {layer_count(part, 'encoder.layer.')} layers{registers}; expected: width "
        f"{config.dino_size}, {config.dino_layers} layers, no registers. Get facebook/dinov2-large."
    )
    return fit(part, config.shapes("dinov2"), path, "dinov2", advice)


def resize_positions(positions: Tensor, side: int) -> Tensor:
    """A position embedding (1, 1 + n*n, D) for a grid of side x side patches, (1, 1 + side*side, D), float32.

    As DINOv2 itself does it and the transformers release that Groma was trained with: bicubic by the scale factor
    (side + 0.1) / n, not by the size. Doing it once here keeps every later release from doing it in another way.
    """
    stored = math.isqrt(positions.shape[1] - 1)
    if stored**2 != positions.shape[1] - 1:
        raise SourceError(f"a position embedding of {positions.shape[1]} rows is no class token and a square grid.")
    grid = positions[:, 1:].float().reshape(1, stored, stored, -1).permute(0, 3, 1, 2)
    scale = (side + 0.1) / stored
    grid = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1].float(), grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def read_clip(path: Path, config: Sd15Config) -> Found:
    """A CLIP folder or file -> the component `clip_vision`, and `text_encoder` and CLIP("") if it has a text tower."""
    tensors = open_weights(path)
    part = fit(_vision(tensors), config.shapes("clip_vision"), path, "clip_vision", _advice(tensors, config))
    found = Found(path, tuple(tensors), {"clip_vision": part})
    found.parts |= text_parts(under(tensors, "text_model."), config)
    return found


def _vision(tensors: Mapping[str, LazyTensor]) -> Part:
    if "embeddings.class_embedding" in tensors:  # a CLIPVisionModel as transformers 5 saves it
        part = {public_clip_name(k): x for k, x in tensors.items()}
    else:
        part = {k: x for k, x in tensors.items() if k.startswith("vision_model.")}
    return {k: x for k, x in part.items() if not k.endswith(".position_ids")}


def _advice(tensors: Mapping[str, LazyTensor], config: Sd15Config) -> str:
    part = _vision(tensors)
    positions = part.get("vision_model.embeddings.position_embedding.weight")
    rows, width = positions.shape if positions is not None else ("no", "unknown")
    layers = layer_count(part, "vision_model.encoder.layers.")
    wanted = (config.clip_image_size // config.clip_patch) ** 2 + 1
    return (
        f"Came: a CLIP vision tower of width {width}, {layers} layers and {rows} positions; expected: width {config.clip_size}, "
        f"{config.clip_layers} layers, {wanted} positions. Get openai/clip-vit-large-patch14 (not -336)."
    )
