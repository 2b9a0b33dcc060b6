# SPDX-License-Identifier: GPL-3.0-or-later
"""The model that is trained, as one module whose `forward` is the loss, so that DDP and FSDP see every use of a weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...diffusion.compositing import mask_on_latents
from ...diffusion.rows import given_by_tati, power_between_rows
from ...diffusion.visual_attention import attach_visual_attention
from ...vlm import RegionAwareVLM
from .config import PaperConfig
from .features import PictureFeatures
from .losses import grounding_loss, meant_regions, min_snr_weight, row_noise, wanted_prediction

PARTS = (
    "language_model", "region_encoder", "adapter", "img_tokens", "grounding", "qformer", "tati", "hvca", "visual_attention", "unet",
)  # fmt: skip
TEXT_PARTS = ("language_model", "img_tokens", "qformer")


@dataclass
class EditInputs:
    """What `EditModel` reads: rows with their features, on the model's device.

    Attributes:
        features: of the sources. target: (B, C, h, w) latents of the targets. ids, text_mask: (B, T) of the instructions.
        mask: (B, H, W) bool. has_mask, unchanged: (B,) bool. seeds: (B,) int64 on the CPU.
    """

    features: PictureFeatures
    target: Tensor
    ids: Tensor
    text_mask: Tensor
    mask: Tensor
    has_mask: Tensor
    unchanged: Tensor
    seeds: Tensor


@dataclass
class TalkInputs:
    """Conversations with features of their pictures; ids, mask and labels (B, T) as `conversation_ids` makes them."""

    features: PictureFeatures
    ids: Tensor
    text_mask: Tensor
    labels: Tensor


class EditModel(nn.Module):
    """Stages 2 and 3: L = w_VLM L_VLM + w_diff L_diff (paper, eq. 4 and 8), and our grounding loss.

    Args:
        components: of the bundle, the language model with its adapters. They are used, not copied.
        source_factor: what source latents are multiplied with before the UNet sees them: 1 where they are scaled as targets are,
            1 / scale for models of InstructPix2Pix's kind.
    """

    def __init__(self, components: dict[str, Any], config: PaperConfig, source_factor: float = 1.0):
        super().__init__()
        self.config, self.source_factor = config, source_factor
        self.parts = nn.ModuleDict({name: components[name] for name in PARTS})
        c = components
        # not registered a second time: its modules are those of `parts`
        self._vlm = [RegionAwareVLM(c["language_model"], c["tokenizer"], c["adapter"], c["region_encoder"], c["img_tokens"])]
        self.scheduler = c["scheduler"]
        self.register_buffer("alphas", c["scheduler"].alphas_cumprod.float(), persistent=False)
        attach_visual_attention(c["unet"], c["visual_attention"])

    @property
    def vlm(self) -> RegionAwareVLM:
        """The language model with everything that stands in its sequence."""
        return self._vlm[0]

    def forward(self, edit: EditInputs, talk: TalkInputs | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch and its parts."""
        config, parts = self.config, self.parts
        tokens, region_mask, image_tokens = self._see(edit.features)
        states = self.vlm(edit.ids, edit.text_mask, image_tokens, tokens, region_mask)
        loss, metrics, read, where = 0.0, {}, states.img, None
        if config.grounds:
            grid = tuple(side // 2 for side in edit.features.vision.dino_grid)
            boxes = edit.features.boxes[:, : tokens.shape[1]]
            grounding = parts["grounding"](states.img, states.regions, region_mask, boxes, states.image, grid)
            meant = meant_regions(boxes, region_mask, edit.mask, edit.has_mask, edit.unchanged)
            ground, metrics = grounding_loss(grounding, meant, edit.mask, edit.has_mask)
            metrics["grounding"], loss = ground, config.grounding_weight * ground
            if config.meant_region:
                read = grounding.with_meant_region(states.img, tokens)
            if config.mark:
                where = mask_on_latents(grounding.mask(edit.mask.shape[-2:]))
        embedding = parts["qformer"](read)

        language = self.vlm.language_loss(states)
        diffusion, power = self._diffusion(edit, embedding, where)
        metrics |= {"language": language, "diffusion": diffusion, **power}
        if talk is not None:
            tokens, region_mask, image_tokens = self._see(talk.features)
            answers = self.vlm.conversation_loss(talk.ids, talk.text_mask, talk.labels, image_tokens, tokens, region_mask)
            metrics["conversation"] = answers
            language = language + answers
        loss = config.language_weight * language + config.diffusion_weight * diffusion + loss
        return loss, {k: v.detach() for k, v in metrics.items()}

    def _see(self, features: PictureFeatures) -> tuple[Tensor, Tensor, Tensor]:
        """Region tokens (B, n, D) and which of them are there (B, n), without region tokens n = 0; image tokens (B, m, D)."""
        vision, mask = features.vision, features.region_mask
        image_tokens = self.parts["adapter"](vision.dino[-1], vision.dino_grid)
        if not self.config.regions:
            return image_tokens.new_zeros(len(mask), 0, image_tokens.shape[-1]), mask[:, :0], image_tokens
        return self.parts["region_encoder"](vision.dino, vision.dino_grid, features.boxes, mask), mask, image_tokens

    def _diffusion(self, edit: EditInputs, embedding: Tensor, where: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """L_diff, and the share of power between the rows of e and of what TATI and HVCA give (`power_between_rows`)."""
        parts, clean = self.parts, edit.target
        noise, times, text_dropped, picture_dropped = (
            x.to(clean.device) for x in row_noise(edit.seeds, clean.shape[1:], len(self.alphas), self.config.dropout)
        )
        rows = lambda keep: keep.view(-1, 1, 1)  # noqa: E731
        null = parts["tati"].null_embedding.to(embedding).expand_as(embedding)
        # all rows through TATI and HVCA, those that are dropped too: every process must use every weight in every pass
        given, beside, injected = {"e": embedding}, None, embedding
        if self.config.tati:
            injected = parts["tati"](embedding, times).to(embedding)
            given["tati"] = given_by_tati(parts["tati"], embedding, injected)
        context = torch.where(rows(text_dropped), null, injected)
        if self.config.hvca:
            given["hvca"] = visual = parts["hvca"](torch.where(rows(text_dropped), null, embedding), edit.features.vision)
            visual = torch.where(rows(picture_dropped), torch.zeros_like(visual), visual)
            where = None if where is None else where * (~text_dropped).view(-1, 1, 1, 1)
            beside = {"visual": parts["visual_attention"].project(visual), "where": where}
        power = {f"power {name}": clean.new_tensor(power_between_rows(x)) for name, x in given.items()}
        source = edit.features.latents * (self.source_factor * (~picture_dropped).view(-1, 1, 1, 1))
        return self.denoising_loss(clean, source, noise, times, context, beside), power

    def denoising_loss(
        self, clean: Tensor, source: Tensor, noise: Tensor, times: Tensor, context: Tensor, beside: dict[str, Any] | None
    ) -> Tensor:
        """The UNet's weighted squared error: latents (B, C, h, w), times (B,), context (B, 77, D), `beside` for its visual attention."""
        alpha = self.alphas[times].view(-1, 1, 1, 1)
        signal, sigma = alpha.sqrt(), (1 - alpha).sqrt()
        model_input = torch.cat([signal * clean + sigma * noise, source], dim=1)
        out = self.parts["unet"](model_input, times, context, cross_attention_kwargs=beside).sample.float()
        wanted = wanted_prediction(self.scheduler.config.prediction_type, clean, noise, signal, sigma)
        each = (out - wanted).square().flatten(1).mean(1)
        return (min_snr_weight(self.scheduler, times, self.config.snr_gamma) * each).mean()


class TextModel(nn.Module):
    """Stage 1, SmartEdit's text alignment: from captions the [IMG] tokens learn to carry text and the Q-Former to speak like CLIP."""

    def __init__(self, components: dict[str, Any], config: PaperConfig):
        super().__init__()
        self.config = config
        c = components
        self.parts = nn.ModuleDict({name: c[name] for name in TEXT_PARTS})
        self._vlm = [RegionAwareVLM(c["language_model"], c["tokenizer"], c["adapter"], c["region_encoder"], c["img_tokens"])]

    @property
    def vlm(self) -> RegionAwareVLM:
        """The language model; no picture takes part."""
        return self._vlm[0]

    def forward(self, ids: Tensor, text_mask: Tensor, wanted: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Negative log-likelihood of the [IMG] tokens plus the squared distance of e to `wanted` (B, 77, D), CLIP's last hidden states."""
        width = self.parts["img_tokens"].config.hidden_size
        none = wanted.new_zeros(len(ids), 0, width)
        states = self.vlm(ids, text_mask, none, none, text_mask.new_zeros(len(ids), 0))
        # the row of the meant region, which nothing points at here
        nobody = states.img.new_zeros(len(ids), int(self.config.meant_region), width)
        embedding = self.parts["qformer"](torch.cat([states.img, nobody], dim=1))
        language = self.vlm.language_loss(states)
        distance = F.mse_loss(embedding.float(), wanted.float())
        loss = self.config.language_weight * language + distance
        return loss, {"language": language.detach(), "distance": distance.detach()}
