# SPDX-License-Identifier: GPL-3.0-or-later
"""The r learnable [IMG] tokens Q whose states carry the edit out of the language model (paper section 3.1)."""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn


class ImgTokens(ModelMixin, ConfigMixin):
    """Input rows and output rows of the [IMG] tokens, kept apart from the base embedding so that it stays untouched.

    Args:
        num_tokens: r, 32 in SmartEdit and here at full scale.
        hidden_size: width of the language model.
        prompt_template: text around the instruction, with the slot `{instruction}`.
        max_text_tokens: longer instructions are cut at this many tokens.
    """

    @register_to_config
    def __init__(
        self,
        num_tokens: int = 32,
        hidden_size: int = 4096,
        prompt_template: str = "{instruction}",
        max_text_tokens: int = 256,
    ):
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(num_tokens, hidden_size) * 0.02)
        self.head = nn.Linear(hidden_size, num_tokens, bias=False)

    @torch.no_grad()
    def init_from_mean(self, embedding: Tensor) -> None:
        """Start every row at the mean of a base embedding (V, hidden_size) plus a little noise, as SmartEdit does."""
        mean = embedding.float().mean(0)
        self.embedding.copy_(mean + 0.02 * torch.randn_like(self.embedding))
        self.head.weight.copy_(mean + 0.02 * torch.randn_like(self.head.weight))

    def forward(self, batch: int) -> Tensor:
        """The [IMG] input embeddings (batch, r, hidden_size)."""
        return self.embedding.expand(batch, -1, -1)
