# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage 2: UNet, Q-Former, TATI, HVCA and visual attention learn to edit (L_diff, paper eq. 8) on cached features."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor, nn

from ..data import World
from ..diffusion.compositing import mask_on_latents
from ..diffusion.rows import given_by_tati, power_between_pictures, power_between_rows
from ..diffusion.visual_attention import Projected, attach_visual_attention
from ..precision import autocast
from ..vlm import Grounding, RegionAwareVLM
from .alignment import AuxiliaryHeads, grounding_loss
from .edit_cache import CachedBatch, EditCache
from .loop import StageConfig, TrainingStage

logger = logging.getLogger("fireedit")

TRAINED = ("unet", "qformer", "tati", "hvca", "visual_attention")
LANGUAGE = ("language_model", "img_tokens", "grounding")  # trained as well where the world is known, for its auxiliary losses
SLOW = 0.7  # learning rate of the language side over that of the rest: it is aligned already


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
        components: of the bundle in training; `TRAINED` are trained, and `LANGUAGE` where `world` is given.
        world: of the pairs; then the losses of the alignment stage (pointing, the mask, what e says) keep the language side
            aligned while the diffusion loss reaches it through e. None leaves the language side as it is.
        says_weight, ground_weight: of those losses beside the diffusion loss.
        language_every: the language side learns in one of so many steps; the Q-Former and what e says learn in all of them.
        edit_weight: extra weight of the cells that the edit changes.
        own_answer: how often (0..1) the second noisy latent is made of the model's own first answer.
        low_pass: how often (0..1) the UNet sees the source latent coarsely only (`low_passed`), so that the detail of what
            stays has to come through HVCA.
        tati, hvca: switch a module off for the ablation.
        compiled: run the UNet through torch.compile: three minutes at the start, a fifth less per step on the CPU.
    """

    def __init__(
        self, components: dict[str, Any], world: World | None = None, says_weight: float = 0.02, ground_weight: float = 0.2,
        edit_weight: float = 3.0, own_answer: float = 0.75, low_pass: float = 0.0, tati: bool = True, hvca: bool = True,
        compiled: bool = False, language_every: int = 1,
    ):  # fmt: skip
        super().__init__()
        c = components
        # beside the module and not in its place, so that sampling between the steps uses it as it is; in a list, so that its
        # weights are not registered twice
        self._unet = [torch.compile(c["unet"], dynamic=False) if compiled else c["unet"]]
        self._vlm = [RegionAwareVLM(c["language_model"], c["tokenizer"], c["adapter"], c["region_encoder"], c["img_tokens"])]
        self.parts = nn.ModuleDict({name: c[name] for name in (TRAINED if world is None else (*TRAINED, *LANGUAGE))})
        self._grounding = [c["grounding"]]
        self.heads = world and AuxiliaryHeads(
            world, c["img_tokens"].config.hidden_size, c["qformer"].config.hidden_size, c["clip_vision"].config.hidden_size
        )
        if self.heads is not None:
            # what these ask of the frozen towers is not asked here
            del self.heads.region_noun, self.heads.region_colour, self.heads.region_box, self.heads.clip_presence
        self.says_weight, self.ground_weight = says_weight, ground_weight
        self.edit_weight, self.own_answer, self.low_pass = edit_weight, own_answer, low_pass
        self.use_tati, self.use_hvca, self.language_every = tati, hvca, language_every
        scheduler = c["scheduler"]
        if scheduler.config.prediction_type not in ("sample", "epsilon", "v_prediction"):
            raise ValueError(f"unknown prediction type {scheduler.config.prediction_type!r}")
        self.prediction = scheduler.config.prediction_type
        self.register_buffer("alphas", scheduler.alphas_cumprod.float(), persistent=False)

    def read(self, batch: CachedBatch, language: bool = True) -> tuple[Tensor, Tensor, Grounding]:
        """(e (B, 77, D), grounding mask (B, 1, h, w) on the latent's grid, grounding) of a batch.

        Args:
            language: whether the gradient goes on into the language side.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.heads is not None and language):
            states = self._vlm[0](batch.ids, batch.text_mask, batch.image_tokens, batch.region_tokens, batch.region_mask)
            half = tuple(side // 2 for side in batch.features.dino_grid)
            grounding = self._grounding[0](states.img, states.regions, batch.region_mask, batch.boxes, states.image, half)
            meant = grounding.with_meant_region(states.img, batch.region_tokens)
        size = tuple(8 * side for side in batch.source.shape[-2:])
        return self.parts["qformer"](meant), mask_on_latents(grounding.mask(size).detach()), grounding

    def fit_heads(self, rows: Callable[[int], CachedBatch], steps: int, lr: float = 3e-3) -> float:
        """Teach the fresh read-outs what e says already, with e as it is; else their first gradients would only disturb it.

        Args:
            rows: batch by number. Returns the last loss.
        """
        optimizer = torch.optim.AdamW(self.heads.parameters(), lr=lr)
        loss = torch.zeros(())
        for number in range(steps):
            batch = rows(number)
            with torch.no_grad(), autocast(batch.source.device):
                said = self.read(batch)[0]
            loss = self.heads.embedding_loss(said.float(), batch.labels, batch.look)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = lr * (1 - (number + 1) / steps)
        return float(loss.detach())

    def conditions(self, batch: CachedBatch, e: Tensor, where: Tensor, drop: Dropped | None = None) -> Conditions:
        """What the UNet is told beside the noisy latent.

        Args:
            e, where: of `read`. drop: which rows go without text, picture or the picture's detail; None drops nothing.
        """
        everything = torch.ones(len(e), dtype=torch.bool, device=e.device)
        text, image, low = (everything, everything, ~everything) if drop is None else (~drop.text, ~drop.image, drop.detail)
        tokens = visual = None
        e = torch.where(text[:, None, None], e, self.parts["tati"].null_embedding.to(e).expand_as(e))
        if self.use_hvca:
            tokens = self.parts["hvca"](e, batch.features)
            visual = self.parts["visual_attention"].project(tokens * image[:, None, None])
        source = torch.where(low[:, None, None, None], low_passed(batch.source), batch.source) * image[:, None, None, None]
        return Conditions(e, text, tokens, visual, where * text[:, None, None, None], source)

    def condition_at(self, given: Conditions, t: Tensor) -> Tensor:
        """e_t (B, 77, D) at the timesteps t (B,)."""
        e = given.edit_embedding
        return self.parts["tati"].inject(e, t, given.spoken.float()) if self.use_tati else e

    def denoise(self, given: Conditions, clean: Tensor, noise: Tensor, t: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(the UNet's output, the clean latent that it means, the noisy latent that it saw) of `clean` under `noise` at t (B,)."""
        signal, sigma = self.levels_of(t)
        noisy = signal * clean + sigma * noise
        model_input = torch.cat([noisy, given.source], dim=1).contiguous(memory_format=torch.channels_last)
        kwargs = {"visual": given.visual, "where": given.where}
        out = self._unet[0](model_input, t, context, cross_attention_kwargs=kwargs).sample.float()
        answer = {
            "sample": lambda: out, "epsilon": lambda: (noisy - sigma * out) / signal, "v_prediction": lambda: signal * noisy - sigma * out,
        }[self.prediction]()  # fmt: skip
        return out, answer, noisy

    def levels_of(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(signal, sigma), each (B, 1, 1, 1), of the timesteps t (B,)."""
        alpha = self.alphas[t].view(-1, 1, 1, 1)
        return alpha.sqrt(), (1 - alpha).sqrt()

    def forward(self, batch: CachedBatch, number: int = 0) -> tuple[Tensor, dict]:
        """(loss, figures to log) of batch `number`, which decides whether the language side learns from it."""
        steps, count, device = len(self.alphas), len(batch.source), batch.source.device
        text, image = (x.to(device) for x in conditioning_dropout(count))
        drop = Dropped(text, image, (torch.rand(count) < self.low_pass).to(device) & ~image)
        said, where, grounding = self.read(batch, number % self.language_every == 0)
        given = self.conditions(batch, said, where, drop)
        weight = 1 + self.edit_weight * (batch.mask > 0.05).float()
        noise, target = torch.randn_like(batch.target), batch.target

        def look(clean: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            """The loss, the clean latent that the model sees in `clean` under `noise` at the timesteps t (B,), and e_t."""
            context = self.condition_at(given, t)
            out, answer, noisy = self.denoise(given, clean, noise, t, context)
            signal, sigma = self.levels_of(t)
            # the answer that leads from this noisy latent to the target, whatever the latent was made of
            wanted = {
                "sample": lambda: target, "epsilon": lambda: (noisy - signal * target) / sigma,
                "v_prediction": lambda: (signal * noisy - target) / sigma,
            }[self.prediction]()  # fmt: skip
            return (weight * (out - wanted).square()).mean(), answer, context

        first, answer, context = look(target, first_timesteps(count, steps).to(device))
        own = (torch.rand(count) < self.own_answer).to(device)
        clean = torch.where(own[:, None, None, None], answer.detach(), target)
        second, refined, _ = look(clean, later_timesteps(count, steps).to(device))
        loss = (first + second) / 2

        metrics = {"diffusion": loss.detach()}
        if self.heads is not None:
            says = self.heads.embedding_loss(said, batch.labels, batch.look)
            ground, pointed = grounding_loss(grounding, batch.labels, batch.fine_mask)
            loss = loss + self.says_weight * says + self.ground_weight * ground
            metrics |= {"says": says.detach(), **pointed}
        with torch.no_grad():
            rows = ~(drop.text | drop.image | drop.detail)
            for name, found, of in (("fvu", answer, rows), ("fvu own", refined, rows & own)):
                if bool(of.any()):
                    inside, outside = errors(found[of], batch.source[of], target[of], batch.mask[of])
                    metrics[name], metrics[name.replace("fvu", "outside")] = inside.sum(0)[0] / inside.sum(0)[1], outside.mean()
            metrics |= self.power(given, context)
        return loss, metrics

    def power(self, given: Conditions, context: Tensor) -> dict[str, float]:
        """Share of power between the rows of e, of what TATI made of it (`context`) and of v, and of v between pictures; see
        `diffusion.rows`."""
        power = {"power e": power_between_rows(given.edit_embedding[given.spoken])}
        if self.use_tati:
            own = given_by_tati(self.parts["tati"], given.edit_embedding, context)
            power["power tati"] = power_between_rows(own[given.spoken])
        if given.tokens is not None:
            power["power hvca"] = power_between_rows(given.tokens)
            power["power hvca pictures"] = power_between_pictures(given.tokens)
        return power


@dataclass
class Dropped:
    """Rows (B,) bool that go without text, without the source picture, and with a source latent that lacks detail."""

    text: Tensor
    image: Tensor
    detail: Tensor


@dataclass
class Conditions:
    """What the UNet is told beside the noisy latent, for B pairs.

    Attributes:
        edit_embedding: e or the null embedding, (B, 77, D). spoken: (B,) bool, False where the text is dropped.
        tokens: v, (B, 16, D), and visual, what each layer makes of it; None without HVCA.
        where: (B, 1, h, w) grounding mask. source: (B, C, h, w) source latent as the UNet gets it.
    """

    edit_embedding: Tensor
    spoken: Tensor
    tokens: Tensor | None
    visual: list[Projected] | None
    where: Tensor
    source: Tensor


def errors(found: Tensor, source: Tensor, target: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """How far answers (B, C, h, w) are from their targets.

    Returns:
        (inside (B, 2): squared error inside the edit, and the squared change that was wanted there; outside (B,): mean squared
        error of all cells, with those inside counted as right).
    """
    error = (found - target).square()
    change = (mask * (target - source).square()).flatten(1).sum(1)
    inside = torch.stack([(mask * error).flatten(1).sum(1), change], dim=1)
    return inside, ((1 - mask) * error).flatten(1).mean(1)


def low_passed(latent: Tensor, factor: int = 4) -> Tensor:
    """A latent (B, C, h, w) without detail finer than `factor` cells."""
    coarse = F.avg_pool2d(latent, factor, ceil_mode=True)
    return F.interpolate(coarse, latent.shape[-2:], mode="bilinear", align_corners=False)


def attach_for_training(components: dict[str, Any]) -> None:
    """Give the UNet the visual attention in the form that trains fastest here."""
    components["unet"].to(memory_format=torch.channels_last)
    # on the CPU the fused attention's backward pass takes twice as long as plain matrix products in bfloat16
    base = None if torch.cuda.is_available() else AttnProcessor()
    if base is not None:
        for module in components["hvca"].modules():
            if isinstance(module, Attention):
                module.set_processor(base)
    attach_visual_attention(components["unet"], components["visual_attention"], base)


def train_diffusion(
    components: dict[str, Any], cache: EditCache, folder: Path | str, config: StageConfig,
    on_save: Callable[[], None] | None = None, name: str = "diffusion", frozen: Sequence[str] = (), **options: Any,
) -> TrainingStage:  # fmt: skip
    """Train the modules of `TRAINED` in place; leaves them at their averaged weights and returns the finished stage.

    Args:
        on_save: called after each save with the averaged weights in place, to draw a sheet or export.
        frozen: modules that stay as they are; what is left learns faster.
        options: passed on to `DiffusionModel`; with a `world`, `LANGUAGE` is trained too.
    """

    @lru_cache(maxsize=2)
    def order(epoch: int) -> Tensor:
        return torch.randperm(cache.count, generator=torch.Generator().manual_seed(epoch))

    def rows(numbers: Sequence[int], device: torch.device) -> CachedBatch:
        return cache.get(torch.stack([order(i // cache.count)[i % cache.count] for i in numbers]), device)

    stage = diffusion_stage(components, rows, folder, config, on_save and (lambda _: on_save()), name, frozen, **options)
    stage.run()
    if stage.ema is not None:
        stage.ema.copy_to(stage.trainable)
    return stage


def diffusion_stage(
    components: dict[str, Any], rows: Callable[[Sequence[int], torch.device], CachedBatch], folder: Path | str, config: StageConfig,
    on_save: Callable[[TrainingStage], None] | None = None, name: str = "diffusion", frozen: Sequence[str] = (),
    scales: Mapping[str, float] | None = None, **options: Any,
) -> TrainingStage:  # fmt: skip
    """The stage of `train_diffusion`, not yet run, on pairs by number.

    Args:
        scales: part -> its learning rate over that of the rest; the language side has `SLOW` unless it is named.
    """
    attach_for_training(components)
    model = DiffusionModel(components, **options).requires_grad_(True)
    for part in frozen:
        if part in model.parts:
            model.parts[part].requires_grad_(False)

    def loss_fn(step: int, device: torch.device) -> tuple[Tensor, dict]:
        return stage.model(rows(stage.indices(step), device), step)

    rates = {f"parts.{part}.": rate for part, rate in {**dict.fromkeys(LANGUAGE, SLOW), **(scales or {})}.items()}
    stage = TrainingStage(name, folder, model, config, loss_fn, on_save, scales=rates)
    return stage
