# SPDX-License-Identifier: GPL-3.0-or-later
"""Grounding: which region the instruction means and where the edit will land, read off the VLM's own states.

The paper shows grounding only through its results. This small head makes it a value that a user can look at, its losses
teach the language model to point, and the region that it points at is handed to the Q-Former beside the [IMG] states.
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

    def with_meant_region(self, img_states: Tensor, region_tokens: Tensor) -> Tensor:
        """What the Q-Former reads: the [IMG] states and, as a last row, the region that is meant, (B, r+1, D).

        The last row is the mean of the region tokens (B, n, D), weighted by `region_scores`; it fades to zero where no
        single region is meant. The [IMG] states alone know *what* is asked for; *where* it is lies in the region tokens,
        and a small language model has no layers to spare for carrying it over.
        """
        meant = torch.einsum("bn,bnd->bd", self.region_scores().to(region_tokens), region_tokens)
        return torch.cat([img_states, meant[:, None].to(img_states)], dim=1)


class GroundingHead(ModelMixin, ConfigMixin):
    """Points from the mean [IMG] state to region states, and paints an edit mask over the image states.

    The painter sees each image token's state, the query, and where the meant regions lie around it, so that it can follow
    their outlines and also paint beside them.

    Args:
        hidden_size: width of the language model. inner_size: width of the pointing space.
        cells_per_token: each image token paints this many mask cells along each axis.
        reach: how many tokens around itself a token sees of the meant regions.
    """

    @register_to_config
    def __init__(self, hidden_size: int = 4096, inner_size: int = 256, cells_per_token: int = 2, reach: int = 3):
        super().__init__()
        self.query = nn.Sequential(nn.LayerNorm(hidden_size), nn.Linear(hidden_size, inner_size))
        self.region = nn.Sequential(nn.LayerNorm(hidden_size), nn.Linear(hidden_size, inner_size))
        self.no_region = nn.Parameter(torch.zeros(inner_size))
        self.pixel = nn.Sequential(nn.LayerNorm(hidden_size), nn.Linear(hidden_size, inner_size))
        window = cells_per_token * (2 * reach + 1)
        self.around = nn.Linear(window**2, inner_size)
        self.paint = nn.Sequential(
            nn.GELU(), nn.Linear(inner_size, inner_size), nn.GELU(), nn.Linear(inner_size, cells_per_token**2)
        )

    def forward(
        self,
        img_states: Tensor,
        region_states: Tensor,
        region_mask: Tensor,
        boxes: Tensor,
        image_states: Tensor,
        grid: tuple[int, int],
    ) -> Grounding:
        """Ground a batch.

        Args:
            img_states: (B, r, D). region_states: (B, n, D). region_mask: (B, n) bool. boxes: (B, n, 4) cxcywh in 0..1.
            image_states: (B, h*w, D). grid: (h, w) of the image tokens.
        """
        query = self.query(img_states.mean(1))
        keys = self.region(region_states)
        keys = torch.cat([keys, self.no_region.to(keys).expand(keys.shape[0], 1, -1)], dim=1)
        logits = (keys * query[:, None]).sum(-1) * self.config.inner_size**-0.5
        absent = F.pad(~region_mask, (0, 1), value=False)
        logits = logits.float().masked_fill(absent, float("-inf"))

        cells = self.config.cells_per_token
        meant = occupancy(boxes, logits.softmax(-1)[:, :-1], (grid[0] * cells, grid[1] * cells))
        window = cells * (2 * self.config.reach + 1)
        around = F.unfold(meant[:, None], window, padding=cells * self.config.reach, stride=cells).transpose(1, 2)
        painted = self.paint(self.pixel(image_states) + query[:, None] + self.around(around.to(query)))
        painted = F.pixel_shuffle(painted.transpose(1, 2).unflatten(2, grid), cells)
        return Grounding(logits, painted[:, 0])


def occupancy(boxes: Tensor, weights: Tensor, size: tuple[int, int]) -> Tensor:
    """Weighted sum (B, h, w) of the share of each cell that each box covers.

    Args:
        boxes: (B, n, 4) cxcywh in 0..1. weights: (B, n). size: (h, w).
    """
    height, width = size

    def covered(centre: Tensor, extent: Tensor, count: int) -> Tensor:
        edges = torch.arange(count, device=boxes.device, dtype=torch.float32) / count
        low, high = (centre - extent / 2)[..., None], (centre + extent / 2)[..., None]
        return ((torch.minimum(high, edges + 1 / count) - torch.maximum(low, edges)) * count).clamp(0, 1)

    boxes = boxes.float()
    columns = covered(boxes[..., 0], boxes[..., 2], width)
    rows = covered(boxes[..., 1], boxes[..., 3], height)
    return torch.einsum("bn,bnh,bnw->bhw", weights.float(), rows, columns)
