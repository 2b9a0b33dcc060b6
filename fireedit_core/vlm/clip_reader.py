# SPDX-License-Identifier: GPL-3.0-or-later
"""CLIP reads the instruction where the Q-Former is untrained: the condition that an InstructPix2Pix UNet was trained with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ClipReader(nn.Module):
    """Instructions -> e (B, 77, D), the last hidden states of CLIP's text tower, as diffusers' own pipeline gives them to the UNet.

    Args:
        text_encoder: a `CLIPTextModel`. tokenizer: CLIP's, padding with its end token.
    """

    def __init__(self, text_encoder: nn.Module, tokenizer: Any):
        super().__init__()
        self.text_encoder = text_encoder
        self.tokenizer = tokenizer

    @property
    def rows(self) -> int:
        """Tokens that are read, and rows of e; start and end are two of them."""
        return int(self.text_encoder.config.max_position_embeddings)

    @torch.no_grad()
    def forward(self, instructions: list[str]) -> Tensor:
        """e (B, 77, D) on the tower's device; what is beyond 77 tokens is cut off, see `unread`."""
        given = self.tokenizer(instructions, padding="max_length", truncation=True, max_length=self.rows, return_tensors="pt")
        # no attention mask: InstructPix2Pix learned with one that sees the padding
        return self.text_encoder(input_ids=given["input_ids"].to(self.text_encoder.device)).last_hidden_state

    def unread(self, instruction: str) -> str:
        """What of an instruction stands beyond the tokens that are read; "" where all of it is."""
        places = self.tokenizer(instruction, return_offsets_mapping=True, verbose=False)["offset_mapping"]
        if len(places) <= self.rows:
            return ""
        return next((instruction[first:].strip() for first, last in places[self.rows - 1 :] if last > first), "")
