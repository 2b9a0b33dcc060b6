# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage 2: UNet, Q-Former, TATI, HVCA and visual attention learn to edit (L_diff, paper eq. 8) on cached features."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
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


def first_timesteps(count: int, steps: int) -> Tensor:
    """Timesteps (count,) from the tenth nearest to pure noise, where a sampler's first step decides what an edit becomes."""
    return ((1 - torch.rand(count) / 10) * steps).long().clamp(max=steps - 1)


def later_timesteps(count: int, steps: int) -> Tensor:
    """Timesteps (count,) of all the schedule in rising density: at little noise the answer can be read off the noisy latent."""
    return (torch.rand(count).sqrt() * steps).long().clamp(max=steps - 1)


def conditioning_dropout(count: int, p: float = 0.05) -> tuple[Tensor, Tensor]:
    """(text dropped, image dropped), each (count,) bool: text alone, both and image alone with probability p each.

    InstructPix2Pix's rule with one uniform draw; see arXiv 2211.09800, section 3.2.1.
    """
    u = torch.rand(count)
    return u < 2 * p, (u >= p) & (u < 3 * p)


class DiffusionModel(nn.Module):
    """Loss of one batch of cached pairs, each seen twice: from pure noise, and from less noise further down the schedule.

    The second time, the noise often lies on the model's own first answer instead of on the target. That is what a sampler
    shows the model, and a model that never saw it trusts its own mistakes: 20 steps then do worse than one (exposure bias;
    the idea of DREAM, arXiv 2312.00210, without its adaptive weight).

    Args:
        components: of the bundle in training; `TRAINED` are trained.
        edit_weight: extra weight of the cells that the edit changes.
        own_answer: how often (0..1) the second noisy latent is made of the model's own first answer.
        tati, hvca: switch a module off for the ablation.
        compiled: run the UNet through torch.compile: two minutes at the start, a sixth less per step on the CPU.
    """

    def __init__(
        self, components: dict[str, Any], edit_weight: float = 3.0, own_answer: float = 0.75, tati: bool = True, hvca: bool = True,
        compiled: bool = False,
    ):  # fmt: skip
        super().__init__()
        # beside the module and not in its place, so that sampling between the steps uses it as it is; in a list, so that its
        # weights are not registered twice
        self._unet = [torch.compile(components["unet"], dynamic=False) if compiled else components["unet"]]
        self.parts = nn.ModuleDict({name: components[name] for name in TRAINED})
        self.edit_weight, self.own_answer, self.use_tati, self.use_hvca = edit_weight, own_answer, tati, hvca
        scheduler = components["scheduler"]
        if scheduler.config.prediction_type not in ("sample", "epsilon", "v_prediction"):
            raise ValueError(f"unknown prediction type {scheduler.config.prediction_type!r}")
        self.prediction = scheduler.config.prediction_type
        self.register_buffer("alphas", scheduler.alphas_cumprod.float(), persistent=False)

    def forward(self, batch: CachedBatch) -> tuple[Tensor, dict]:
        parts, steps = self.parts, len(self.alphas)
        count, device = len(batch.source), batch.source.device
        text_dropped, image_dropped = (x.to(device) for x in conditioning_dropout(count))

        e = parts["qformer"](batch.states)
        null = parts["tati"].null_embedding.to(e).expand_as(e)
        e = torch.where(text_dropped[:, None, None], null, e)
        visual = None
        if self.use_hvca:
            visual = parts["hvca"](e, batch.features) * (~image_dropped)[:, None, None]
            visual = parts["visual_attention"].project(visual)
        where = batch.where * (~text_dropped)[:, None, None, None]
        source = batch.source * (~image_dropped)[:, None, None, None]
        weight = 1 + self.edit_weight * (batch.mask > 0.05).float()
        noise = torch.randn_like(batch.target)

        def denoise(clean: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            """The loss and the clean latent that the model sees in `clean` under `noise` at the timesteps t (B,)."""
            alpha = self.alphas[t].view(-1, 1, 1, 1)
            signal, sigma = alpha.sqrt(), (1 - alpha).sqrt()
            noisy = signal * clean + sigma * noise
            context = parts["tati"].inject(e, t, (~text_dropped).float()) if self.use_tati else e
            model_input = torch.cat([noisy, source], dim=1).contiguous(memory_format=torch.channels_last)
            out = self._unet[0](model_input, t, context, cross_attention_kwargs={"visual": visual, "where": where}).sample.float()
            # the answer that leads from this noisy latent to the target, whatever the latent was made of
            wanted, answer = {
                "sample": (batch.target, out),
                "epsilon": ((noisy - signal * batch.target) / sigma, (noisy - sigma * out) / signal),
                "v_prediction": (
                    (signal * noisy - batch.target) / sigma, signal * noisy - sigma * out
                ),
            }[self.prediction]  # fmt: skip
            return (weight * (out - wanted).square()).mean(), answer

        first, answer = denoise(batch.target, first_timesteps(count, steps).to(device))
        own = (torch.rand(count) < self.own_answer).to(device)
        clean = torch.where(own[:, None, None, None], answer.detach(), batch.target)
        second, refined = denoise(clean, later_timesteps(count, steps).to(device))

        metrics = {}
        with torch.no_grad():
            rows = ~(text_dropped | image_dropped)
            inside, target = batch.mask, batch.target
            change = inside * (target - batch.source).square()
            for name, found, of in (("fvu", answer, rows), ("fvu own", refined, rows & own)):
                if bool(of.any()):
                    error = (found - target).square()
                    metrics[name] = (inside * error)[of].sum() / change[of].sum()
                    metrics[name.replace("fvu", "outside")] = ((1 - inside) * error)[of].mean()
        return (first + second) / 2, metrics


def attach_for_training(components: dict[str, Any]) -> None:
    """Give the UNet the visual attention in the form that trains fastest here."""
    components["unet"].to(memory_format=torch.channels_last)
    # on the CPU the fused attention's backward pass takes twice as long as plain matrix products in bfloat16
    base = None if torch.cuda.is_available() else AttnProcessor()
    attach_visual_attention(components["unet"], components["visual_attention"], base)


def train_diffusion(
    components: dict[str, Any], cache: EditCache, folder: Path | str, config: StageConfig,
    on_save: Callable[[], None] | None = None, name: str = "diffusion", frozen: Sequence[str] = (), **options: Any,
) -> TrainingStage:  # fmt: skip
    """Train the modules of `TRAINED` in place; leaves them at their averaged weights and returns the finished stage.

    Args:
        on_save: called after each save with the averaged weights in place, to draw a sheet or export.
        frozen: modules of `TRAINED` that stay as they are; what is left learns faster.
        options: passed on to `DiffusionModel`.
    """
    attach_for_training(components)
    model = DiffusionModel(components, **options).requires_grad_(True)
    for part in frozen:
        model.parts[part].requires_grad_(False)

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
