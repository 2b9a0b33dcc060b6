# SPDX-License-Identifier: GPL-3.0-or-later
"""The region-aware vision language model: text, image tokens, region tokens and [IMG] tokens through one LLM pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .adapter import VisionAdapter
from .img_tokens import ImgTokens
from .region_encoder import RegionEncoder


@dataclass
class VLMStates:
    """Last hidden states (after the final norm) of one teacher-forced pass.

    Attributes:
        img: (B, r, D), the states at the positions where the [IMG] tokens are inputs.
        image: (B, m, D) at the image tokens. regions: (B, n, D) at the region tokens.
        text: (B, T, D). before_img: (B, r, D), the states that predict the [IMG] tokens.
    """

    img: Tensor
    image: Tensor
    regions: Tensor
    text: Tensor
    before_img: Tensor


class RegionAwareVLM(nn.Module):
    """H = [text c, image tokens mu(x), region tokens P, [IMG] tokens Q] through any causal LM of transformers (eq. 3).

    The [IMG] ids are a fixed sequence after a fixed prefix, so one pass with all r of them appended gives the same
    states as generating them one by one, without sampling and without its failures.

    Args:
        language_model: a transformers causal LM (its LoRA, if any, already attached through peft).
        tokenizer: the tokenizer that belongs to it.
    """

    def __init__(
        self,
        language_model: nn.Module,
        tokenizer,
        adapter: VisionAdapter,
        region_encoder: RegionEncoder,
        img_tokens: ImgTokens,
    ):
        super().__init__()
        self.language_model = language_model
        if tokenizer.pad_token is None:  # Llama's own; padding is masked, so any token will do
            tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
        self.tokenizer = tokenizer
        self.adapter = adapter
        self.region_encoder = region_encoder
        self.img_tokens = img_tokens

    def encode_text(self, instructions: list[str], device=None) -> tuple[Tensor, Tensor]:
        """Token ids and mask, both (B, T), of the instructions inside the prompt template."""
        config = self.img_tokens.config
        prompts = [config.prompt_template.format(instruction=text.strip()) for text in instructions]
        batch = self.tokenizer(
            prompts, padding=True, truncation=True, max_length=config.max_text_tokens, return_tensors="pt"
        )
        return batch["input_ids"].to(device), batch["attention_mask"].to(device).bool()

    def forward(
        self, input_ids: Tensor, text_mask: Tensor, image_tokens: Tensor, region_tokens: Tensor, region_mask: Tensor
    ) -> VLMStates:
        """One pass over the joined sequence.

        Args:
            input_ids, text_mask: (B, T) ids and bool mask. image_tokens: (B, m, D).
            region_tokens: (B, n, D). region_mask: (B, n) bool; n may be 0.
        """
        batch = input_ids.shape[0]
        text = self.language_model.get_input_embeddings()(input_ids)
        parts = [text, image_tokens.to(text), region_tokens.to(text), self.img_tokens(batch).to(text)]
        sizes = [x.shape[1] for x in parts]
        ones = lambda n: text_mask.new_ones(batch, n)  # noqa: E731
        mask = torch.cat([text_mask, ones(sizes[1]), region_mask, ones(sizes[3])], dim=1).long()
        states = self._states(parts, mask)
        text_states, image, regions, img = states.split(sizes, dim=1)
        # the state before the first [IMG] token is the last one that is not padding
        last = (mask[:, : -sizes[3]] * torch.arange(1, mask.shape[1] - sizes[3] + 1, device=mask.device)).argmax(1)
        first = states[torch.arange(batch, device=mask.device), last][:, None]
        return VLMStates(img, image, regions, text_states, torch.cat([first, img[:, :-1]], dim=1))

    def conversation_loss(
        self, input_ids: Tensor, text_mask: Tensor, labels: Tensor, image_tokens: Tensor, region_tokens: Tensor, region_mask: Tensor
    ) -> Tensor:
        """Negative log-likelihood of answers about a picture that stands before the text: of each row the mean, then of all rows.

        Args:
            input_ids, text_mask: (B, T) ids and bool mask, padded at the end. labels: (B, T), -100 where nothing is learnt.
            image_tokens: (B, m, D). region_tokens: (B, n, D). region_mask: (B, n) bool.
        """
        text = self.language_model.get_input_embeddings()(input_ids)
        parts = [image_tokens.to(text), region_tokens.to(text), text]
        mask = torch.cat([text_mask.new_ones(parts[0].shape[:2]), region_mask, text_mask], dim=1).long()
        # the state at a token predicts the next one; the first of the text is a human's and is never learnt
        states = self._states(parts, mask)[:, -input_ids.shape[1] :][:, :-1]
        logits = self.language_model.get_output_embeddings()(states).float()
        wanted = labels[:, 1:]
        each = F.cross_entropy(logits.transpose(1, 2), wanted, ignore_index=-100, reduction="none")
        return (each.sum(1) / (wanted != -100).sum(1).clamp(min=1)).mean()

    def _states(self, parts: list[Tensor], mask: Tensor) -> Tensor:
        """Last hidden states (B, L, D) of the joined parts under a mask (B, L) of ones and zeros."""
        # padding sits in the middle of the sequence, so positions are counted over what is really there
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        out = self._backbone()(inputs_embeds=torch.cat(parts, dim=1), attention_mask=mask, position_ids=positions, use_cache=False)
        return out.last_hidden_state

    def _backbone(self) -> nn.Module:
        """The decoder stack without its vocabulary head, which conditioning does not need."""
        model = self.language_model
        if hasattr(model, "get_base_model"):  # peft injects LoRA in place, so its base model carries it
            model = model.get_base_model()
        return model.model if hasattr(model, "model") else model.base_model

    def language_loss(self, states: VLMStates) -> Tensor:
        """L_VLM: negative log-likelihood of the r [IMG] tokens given everything before them, mean over r (eq. 4).

        The softmax runs over the base vocabulary and the r new rows together.
        """
        base = self.language_model.get_output_embeddings()(states.before_img)
        new = self.img_tokens.head(states.before_img.to(self.img_tokens.head.weight.dtype))
        logits = torch.cat([base.to(new.dtype), new], dim=-1).float()
        r = states.img.shape[1]
        target = torch.arange(r, device=logits.device) + base.shape[-1]
        return F.cross_entropy(logits.flatten(0, 1), target.repeat(logits.shape[0]))
