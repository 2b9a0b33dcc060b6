# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage 2: UNet, Q-Former, TATI, HVCA and visual attention learn to edit (L_diff, paper eq. 8) on cached features."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from ..diffusion.visual_attention import attach_visual_attention
from .edit_cache import CachedBatch, EditCache
from .loop import StageConfig, TrainingStage

logger = logging.getLogger("fireedit")

TRAINED = ("unet", "qformer", "tati", "hvca", "visual_attention")


def draw_timesteps(count: int, steps: int, first_share: float) -> Tensor:
    """Timesteps (count,) of a training batch: a share from the tenth nearest to pure noise, the others rising in density.

    What an edit becomes is decided in a sampler's first step; at little noise the answer can be read off the noisy latent.
    """
    rising, first = torch.rand(count).sqrt(), 1 - torch.rand(count) / 10
    t = torch.where(torch.rand(count) < first_share, first, rising)
    return (t * steps).long().clamp(max=steps - 1)


def conditioning_dropout(count: int, p: float = 0.05) -> tuple[Tensor, Tensor]:
    """(text dropped, image dropped), each (count,) bool: text alone, both and image alone with probability p each.

    InstructPix2Pix's rule with one uniform draw; see arXiv 2211.09800, section 3.2.1.
    """
    u = torch.rand(count)
    return u < 2 * p, (u >= p) & (u < 3 * p)


class DiffusionModel(nn.Module):
    """Loss of one batch of cached pairs.

    Args:
        components: of the bundle in training; `TRAINED` are trained.
        edit_weight: extra weight of the cells that the edit changes. first_share: see `draw_timesteps`.
        tati, hvca: switch a module off for the ablation.
    """

    def __init__(
        self, components: dict[str, Any], edit_weight: float = 3.0, first_share: float = 0.5, tati: bool = True, hvca: bool = True
    ):  # fmt: skip
        super().__init__()
        self.first_share = first_share
        self.parts = nn.ModuleDict({name: components[name] for name in TRAINED})
        self.edit_weight, self.use_tati, self.use_hvca = edit_weight, tati, hvca
        scheduler = components["scheduler"]
        if scheduler.config.prediction_type not in ("sample", "epsilon", "v_prediction"):
            raise ValueError(f"unknown prediction type {scheduler.config.prediction_type!r}")
        self.prediction = scheduler.config.prediction_type
        self.register_buffer("alphas", scheduler.alphas_cumprod.float(), persistent=False)

    def forward(self, batch: CachedBatch) -> tuple[Tensor, dict]:
        parts = self.parts
        count, device = len(batch.source), batch.source.device
        text_dropped, image_dropped = (x.to(device) for x in conditioning_dropout(count))
        t = draw_timesteps(count, len(self.alphas), self.first_share).to(device)

        e = parts["qformer"](batch.states)
        null = parts["tati"].null_embedding.to(e).expand_as(e)
        e = torch.where(text_dropped[:, None, None], null, e)
        visual = None
        if self.use_hvca:
            visual = parts["hvca"](e, batch.features) * (~image_dropped)[:, None, None]
            visual = parts["visual_attention"].project(visual)
        where = batch.where * (~text_dropped)[:, None, None, None]
        context = parts["tati"].inject(e, t, (~text_dropped).float()) if self.use_tati else e
        source = batch.source * (~image_dropped)[:, None, None, None]

        alpha = self.alphas[t].view(-1, 1, 1, 1)
        noise = torch.randn_like(batch.target)
        noisy = alpha.sqrt() * batch.target + (1 - alpha).sqrt() * noise
        model_input = torch.cat([noisy, source], dim=1).contiguous(memory_format=torch.channels_last)
        out = parts["unet"](model_input, t, context, cross_attention_kwargs={"visual": visual, "where": where}).sample.float()
        wanted = {
            "sample": batch.target, "epsilon": noise,
            "v_prediction": alpha.sqrt() * noise - (1 - alpha).sqrt() * batch.target,
        }[self.prediction]  # fmt: skip
        weight = 1 + self.edit_weight * (batch.mask > 0.05).float()
        loss = (weight * (out - wanted).square()).mean()
        metrics = {}
        if self.prediction == "sample":
            with torch.no_grad():
                rows = ~(text_dropped | image_dropped) & (t > 700)
                if bool(rows.any()):
                    inside = batch.mask[rows]
                    change = (inside * (batch.target - batch.source)[rows].square()).sum()
                    metrics["fvu"] = (inside * (out - batch.target)[rows].square()).sum() / change
                    metrics["outside"] = ((1 - inside) * (out - batch.target)[rows].square()).mean()
        return loss, metrics


def attach_for_training(components: dict[str, Any]) -> None:
    """Give the UNet the visual attention in the form that trains fastest here."""
    components["unet"].to(memory_format=torch.channels_last)
    # on the CPU the fused attention's backward pass takes twice as long as plain matrix products in bfloat16
    base = None if torch.cuda.is_available() else AttnProcessor()
    attach_visual_attention(components["unet"], components["visual_attention"], base)


def train_diffusion(
    components: dict[str, Any], cache: EditCache, folder: Path | str, config: StageConfig,
    on_save: Callable[[], None] | None = None, name: str = "diffusion", **options: Any,
) -> TrainingStage:  # fmt: skip
    """Train the modules of `TRAINED` in place; leaves them at their averaged weights and returns the finished stage.

    Args:
        on_save: called after each save with the averaged weights in place, to draw a sheet or export.
        options: passed on to `DiffusionModel`.
    """
    attach_for_training(components)
    model = DiffusionModel(components, **options).requires_grad_(True)

    @lru_cache(maxsize=2)
    def order(epoch: int) -> Tensor:
        return torch.randperm(cache.count, generator=torch.Generator().manual_seed(epoch))

    def loss_fn(step: int, device: torch.device) -> tuple[Tensor, dict]:
        chosen = [order(i // cache.count)[i % cache.count] for i in stage.indices(step)]
        return stage.model(cache.get(torch.stack(chosen), device))

    stage = TrainingStage(name, folder, model, config, loss_fn, (lambda _: on_save()) if on_save else None)
    stage.run()
    if stage.ema is not None:
        stage.ema.copy_to(stage.trainable)
    return stage
