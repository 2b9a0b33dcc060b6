# SPDX-License-Identifier: GPL-3.0-or-later
"""Grounding: which region the instruction means and where the edit will land, read off the VLM's own states.

The paper shows grounding only through its results. This small head makes it a value that a user can look at, and its
losses teach the language model to point. It reads states and changes nothing on the way to the edit embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn


@dataclass
class Grounding:
    """Raw grounding scores of a batch.

    Attributes:
        region_logits: (B, n+1); column n stands for "no single region", i.e. the background or the whole picture.
            Absent regions are -inf.
        mask_logits: (B, h, w), positive where the picture is going to change.
    """

    region_logits: Tensor
    mask_logits: Tensor

    def region_scores(self) -> Tensor:
        """Probabilities (B, n) of each region being the one that is meant; they sum to at most 1."""
        return self.region_logits.float().softmax(-1)[:, :-1]

    def mask(self, size: tuple[int, int]) -> Tensor:
        """Soft mask (B, H, W) in 0..1 of where the edit will land, enlarged to `size` = (H, W)."""
        logits = self.mask_logits[:, None].float()
        return F.interpolate(logits, size, mode="bilinear", align_corners=False)[:, 0].sigmoid()


class GroundingHead(ModelMixin, ConfigMixin):
    """Points from the mean [IMG] state to region states, and paints an edit mask over the image states.

    Args:
        hidden_size: width of the language model. inner_size: width of the pointing space.
        cells_per_token: each image token paints this many mask cells along each axis.
    """

    @register_to_config
    def __init__(self, hidden_size: int = 4096, inner_size: int = 256, cells_per_token: int = 2):
        super().__init__()
        self.query = nn.Sequential(nn.LayerNorm(hidden_size), nn.Linear(hidden_size, inner_size))
        self.region = nn.Sequential(nn.LayerNorm(hidden_size), nn.Linear(hidden_size, inner_size))
        self.no_region = nn.Parameter(torch.zeros(inner_size))
        self.pixel = nn.Sequential(nn.LayerNorm(hidden_size), nn.Linear(hidden_size, inner_size))
        self.paint = nn.Sequential(
            nn.GELU(), nn.Linear(inner_size, inner_size), nn.GELU(), nn.Linear(inner_size, cells_per_token**2)
        )

    def forward(
        self,
        img_states: Tensor,
        region_states: Tensor,
        region_mask: Tensor,
        image_states: Tensor,
        grid: tuple[int, int],
    ) -> Grounding:
        """Ground a batch.

        Args:
            img_states: (B, r, D). region_states: (B, n, D). region_mask: (B, n) bool.
            image_states: (B, h*w, D). grid: (h, w) of the image tokens.
        """
        query = self.query(img_states.mean(1))
        keys = self.region(region_states)
        keys = torch.cat([keys, self.no_region.to(keys).expand(keys.shape[0], 1, -1)], dim=1)
        logits = (keys * query[:, None]).sum(-1) * self.config.inner_size**-0.5
        absent = F.pad(~region_mask, (0, 1), value=False)
        logits = logits.float().masked_fill(absent, float("-inf"))
        cells = self.paint(self.pixel(image_states) + query[:, None])
        cells = F.pixel_shuffle(cells.transpose(1, 2).unflatten(2, grid), self.config.cells_per_token)
        return Grounding(logits, cells[:, 0])
