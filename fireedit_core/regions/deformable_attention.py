# SPDX-License-Identifier: GPL-3.0-or-later
"""Multi-scale deformable attention (arXiv 2010.04159) in plain PyTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DeformableAttention(nn.Module):
    """Multi-scale deformable attention (Deformable DETR, eq. 3), sampling with grid_sample: no compiled extension."""

    def __init__(self, d_model: int, heads: int, points: int, levels: int = 1) -> None:
        super().__init__()
        self.heads, self.points, self.levels = heads, points, levels
        self.sampling_offsets = nn.Linear(d_model, heads * levels * points * 2)
        self.attention_weights = nn.Linear(d_model, heads * levels * points)
        self.value_proj = nn.Linear(d_model, d_model)
        self.output_proj = nn.Linear(d_model, d_model)
        # Every head starts by looking in its own direction, each point one step further out.
        angle = torch.arange(heads) * (2 * math.pi / heads)
        direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
        direction = direction / direction.abs().amax(dim=-1, keepdim=True)
        steps = direction[:, None, None] * torch.arange(1, points + 1)[None, None, :, None]
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(steps.expand(heads, levels, points, 2).flatten())

    def forward(self, query: Tensor, references: Tensor, memory: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
        """query (B, Q, D), references (B, Q, levels, 2 or 4) 0..1, memory (B, sum of H*W, D) -> (B, Q, D)."""
        batch, count = query.shape[:2]
        shape = (batch, count, self.heads, self.levels, self.points)
        offsets = self.sampling_offsets(query).float().view(*shape, 2)
        weights = self.attention_weights(query).float().view(*shape[:3], -1).softmax(dim=-1).view(shape)
        anchor = references.float()[:, :, None, :, None]
        if references.shape[-1] == 2:
            extent = offsets.new_tensor([(width, height) for height, width in shapes])
            locations = anchor + offsets / extent[None, None, None, :, None]
        else:
            locations = anchor[..., :2] + offsets / self.points * anchor[..., 2:] * 0.5
        value = self.value_proj(memory).unflatten(2, (self.heads, -1))
        return self.output_proj(sample_and_sum(value, shapes, locations, weights).to(query.dtype))


def sample_and_sum(value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of bilinear samples, zero outside the map, in float32.

    value (B, S, heads, c) with the levels one after another, locations (B, Q, heads, levels, points, 2) as x, y 0..1,
    weights (B, Q, heads, levels, points) -> (B, Q, heads * c).
    """
    batch, count, heads = locations.shape[:3]
    total = 0
    parts = value.float().split([height * width for height, width in shapes], dim=1)
    for level, ((height, width), part) in enumerate(zip(shapes, parts, strict=True)):
        plane = part.permute(0, 2, 3, 1).reshape(batch * heads, -1, height, width)
        grid = (2 * locations[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)  # (B * heads, Q, points, 2)
        sampled = F.grid_sample(plane, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        total = total + (sampled * weights[:, :, :, level].transpose(1, 2).flatten(0, 1)[:, None]).sum(dim=-1)
    return total.view(batch, -1, count).transpose(1, 2)
