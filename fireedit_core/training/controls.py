# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-ins for a module that have its size and its place but not what it is for. What a module gains over its control is its own;
what both gain is that of more weights. And `RowsApart`, which was tried and not kept."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..diffusion.hvca import HVCA
from ..diffusion.tati import TATI
from ..vlm import EditQFormer, VisionFeatures


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


class RowsApart(EditQFormer):
    """A Q-Former whose rows cannot become one: a fixed share of the power of e lies between them."""

    SHARE = 0.3

    def forward(self, states: Tensor) -> Tensor:
        return with_power_between(super().forward(states), self.SHARE)


def with_power_between(rows: Tensor, share: float) -> Tensor:
    """`rows` (B, N, D) with `share` (0..1, 1 excluded) of each picture's power between them; their mean row stays what it is.

    A cross attention whose softmax is flat makes the same of it as before, so that it can be switched on in a trained model. Rows that
    are one exactly stay one.
    """
    exact = rows.float()  # half precision would make noise of rows that are nearly one
    mean = exact.mean(dim=1, keepdim=True)
    own = exact - mean
    # of one row each: the mean's power, and what the rows have beside it
    shared, beside = mean.square().mean(dim=(1, 2), keepdim=True), own.square().mean(dim=(1, 2), keepdim=True)
    return (mean + own * (shared * share / (1 - share) / beside.clamp(min=1e-12)).sqrt()).to(rows.dtype)
