# SPDX-License-Identifier: GPL-3.0-or-later
"""Q-Former (SmartEdit's shape): the [IMG] states and the meant region become the edit embedding, the UNet's text condition."""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel


class EditQFormer(ModelMixin, ConfigMixin):
    """77 learned queries read the [IMG] states and the region that is meant: (B, r+1, encoder_size) -> e (B, num_queries, hidden_size).

    The layers are BLIP-2's Q-Former from transformers: BERT widths, post-norm, cross attention in every second layer.
    The output goes to the UNet without a further projection. Defaults are SmartEdit's 65.0M parameters.
    """

    @register_to_config
    def __init__(
        self,
        num_queries: int = 77,
        hidden_size: int = 768,
        num_layers: int = 6,
        num_heads: int = 12,
        intermediate_size: int = 3072,
        cross_attention_frequency: int = 2,
        encoder_size: int = 4096,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.query_tokens = nn.Parameter(torch.randn(1, num_queries, hidden_size) * 0.02)
        self.qformer = Blip2QFormerModel(
            Blip2QFormerConfig(
                hidden_size=hidden_size,
                num_hidden_layers=num_layers,
                num_attention_heads=num_heads,
                intermediate_size=intermediate_size,
                cross_attention_frequency=cross_attention_frequency,
                encoder_hidden_size=encoder_size,
                hidden_dropout_prob=dropout,
                attention_probs_dropout_prob=dropout,
            )
        )

    def forward(self, states: Tensor) -> Tensor:
        """The edit embedding e (B, num_queries, hidden_size) of states (B, any number, encoder_size).

        FireEdit hands it `Grounding.with_meant_region`.
        """
        queries = self.query_tokens.expand(states.shape[0], -1, -1)
        return self.qformer(query_embeds=queries, encoder_hidden_states=states.to(queries)).last_hidden_state
