# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-ins for a module that have its size and its place but not what it is for. What a module gains over its control is its own;
what both gain is that of more weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..diffusion.hvca import HVCA
from ..diffusion.tati import TATI
from ..vlm import VisionFeatures


class ConstantTime(TATI):
    """TATI that is told the timestep `TOLD` whatever it is: a second reader of e, without time."""

    TOLD = 500

    def forward(self, context: Tensor, timestep: Tensor) -> Tensor:
        return super().forward(context, torch.full_like(timestep, self.TOLD))


class ConstantTokens(HVCA):
    """Learned tokens in place of v, the same for all pictures and instructions: more weights for the UNet, and no picture."""

    def __init__(self, **config):
        super().__init__(**config)
        self.constant = nn.Parameter(torch.randn(1, self.config.num_queries, self.config.hidden_size))

    def forward(self, edit_embedding: Tensor, features: VisionFeatures | Tensor) -> Tensor:
        return self.constant.expand(len(edit_embedding), -1, -1).to(edit_embedding.dtype)
