# SPDX-License-Identifier: GPL-3.0-or-later
"""HVCA, hybrid visual cross attention: visual tokens v from CLIP and DINOv2 levels, asked for by the instruction (eq. 6)."""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from ..vlm.vision import VisionFeatures


class HVCAUnit(nn.Module):
    """16 queries read the edit embedding, then the visual features, then pass a feed-forward; pre-norm residuals.

    Args:
        centred: what the queries share does not ask the visual features; else they all look at the same place.
    """

    def __init__(self, dim: int, heads: int, centred: bool = False):
        super().__init__()
        self.centred = centred
        self.norm_text, self.norm_visual, self.norm_ff = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.text_attention = Attention(dim, dim, heads=heads, dim_head=dim // heads)
        self.visual_attention = Attention(dim, dim, heads=heads, dim_head=dim // heads)
        self.feed_forward = FeedForward(dim, mult=4, activation_fn="gelu")

    def forward(self, x: Tensor, text: Tensor, visual: Tensor) -> Tensor:
        x = x + self.text_attention(self.norm_text(x), encoder_hidden_states=text)
        asking = x - x.mean(dim=1, keepdim=True) if self.centred else x
        x = x + self.visual_attention(self.norm_visual(asking), encoder_hidden_states=visual)
        return x + self.feed_forward(self.norm_ff(x))


class HVCA(ModelMixin, ConfigMixin):
    """(e, multi-level CLIP and DINOv2 features) -> visual tokens v (B, num_queries, hidden_size), static over time.

    The grids of the two towers differ, so every level gets its own LayerNorm, Linear and level embedding, and all are
    joined on the token axis.

    Args:
        dino_levels, clip_levels: indices into the towers' hidden states (0 is the patch embedding).
        dino_size, clip_size: widths of the towers.
        query_std: standard deviation of the learned queries at the start; see `TATI`.
        centred: take off what all tokens share before they ask the visual features and before the last projection. What they
            share makes them look at one place; and a shared vector moves no softmax of the UNet's and only adds a constant, which
            is the easiest use of v: training with it makes the tokens one again. Not in the paper; its form is False.
    """

    @register_to_config
    def __init__(
        self,
        hidden_size: int = 768,
        num_queries: int = 16,
        num_units: int = 2,
        num_heads: int = 12,
        dino_size: int = 1024,
        clip_size: int = 1024,
        dino_levels: tuple[int, ...] = (6, 12, 18, 24),
        clip_levels: tuple[int, ...] = (6, 12, 18, 23),
        query_std: float = 1.0,
        centred: bool = False,
    ):
        super().__init__()
        widths = [dino_size] * len(dino_levels) + [clip_size] * len(clip_levels)
        self.level_projections = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden_size)) for width in widths
        )
        self.level_embedding = nn.Parameter(torch.randn(len(widths), hidden_size) * 0.02)
        self.queries = nn.Parameter(torch.randn(1, num_queries, hidden_size) * query_std)
        self.units = nn.ModuleList(HVCAUnit(hidden_size, num_heads, centred) for _ in range(num_units))
        self.project = nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.LayerNorm(hidden_size))

    def visual_memory(self, features: VisionFeatures) -> Tensor:
        """All chosen levels of both towers as one sequence (B, tokens, hidden_size)."""
        levels = [features.dino[i] for i in self.config.dino_levels] + [
            features.clip[i] for i in self.config.clip_levels
        ]
        dtype = self.queries.dtype
        parts = [
            projection(x.to(dtype)) + embedding
            for projection, embedding, x in zip(self.level_projections, self.level_embedding, levels, strict=True)
        ]
        return torch.cat(parts, dim=1)

    def attention(self, edit_embedding: Tensor, features: VisionFeatures) -> Tensor:
        """Where the queries of the last unit look, (B, num_queries, tokens of `visual_memory`); the mean of all heads, rows sum to 1."""
        visual, seen = self.visual_memory(features), []
        layer = self.units[-1].visual_attention

        def keep(module: nn.Module, given: tuple, kwargs: dict) -> None:
            split = lambda x: x.unflatten(-1, (layer.heads, -1)).transpose(1, 2)  # noqa: E731
            query, keys = split(layer.to_q(given[0])), split(layer.to_k(kwargs["encoder_hidden_states"]))
            seen.append((query * layer.scale @ keys.transpose(-1, -2)).softmax(-1).mean(1))

        hook = layer.register_forward_pre_hook(keep, with_kwargs=True)
        try:
            self(edit_embedding, visual)
        finally:
            hook.remove()
        return seen[0]

    def forward(self, edit_embedding: Tensor, features: VisionFeatures | Tensor) -> Tensor:
        """Visual tokens v (B, num_queries, hidden_size).

        Args:
            edit_embedding: e (B, 77, hidden_size). features: of the same pictures, or their `visual_memory`.
        """
        visual = features if isinstance(features, Tensor) else self.visual_memory(features)
        text = edit_embedding.to(visual.dtype)
        x = self.queries.expand(text.shape[0], -1, -1)
        for unit in self.units:
            x = unit(x, text, visual)
        return self.project(x - x.mean(dim=1, keepdim=True) if self.config.centred else x)
