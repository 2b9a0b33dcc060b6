# SPDX-License-Identifier: GPL-3.0-or-later
"""The vision adapter mu: DINOv2 patches to image tokens of the language model (paper section 3.1, Groma's bridge)."""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn


class VisionAdapter(ModelMixin, ConfigMixin):
    """Merges 2x2 neighbouring patches on the channel axis and maps them with two linear layers.

    Shapes: (B, h*w, vision_size) -> (B, h*w/4, hidden_size). The four neighbours are concatenated as
    (row parity, column parity) = (0,0), (1,0), (0,1), (1,1): Groma's order, needed for its public weights.
    Keys `bridge.0`, `bridge.2` are Groma's `img_txt_bridge.0`, `img_txt_bridge.2`.
    """

    @register_to_config
    def __init__(self, vision_size: int = 1024, hidden_size: int = 4096):
        super().__init__()
        self.bridge = nn.Sequential(
            nn.Linear(4 * vision_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, hidden_size)
        )

    def forward(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """Image tokens (B, h*w/4, hidden_size) in row-major order of the half-size grid.

        Args:
            patches: (B, h*w, vision_size), the last pre-norm hidden state of DINOv2. grid: (h, w), both even.
        """
        height, width = grid
        if height % 2 or width % 2 or patches.shape[1] != height * width:
            raise ValueError(
                f"VisionAdapter needs an even patch grid that matches its tokens, got {grid} and {tuple(patches.shape)}"
            )
        cells = patches.view(patches.shape[0], height, width, -1)
        merged = torch.cat([cells[:, r::2, c::2] for r, c in ((0, 0), (1, 0), (0, 1), (1, 1))], dim=-1)
        return self.bridge(merged.flatten(1, 2))
