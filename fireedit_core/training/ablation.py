# SPDX-License-Identifier: GPL-3.0-or-later
"""Four models that differ in one module each, trained alike: base, +region tokens, +TATI, +HVCA (the paper's table 3)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.bundle import load_components
from ..data import WORLD, World
from ..diffusion.hvca import HVCA
from ..diffusion.pipeline import FireEditPipeline
from ..diffusion.visual_attention import VisualCrossAttention
from ..vlm import VisionFeatures
from .alignment import ALIGNED, train_alignment
from .build import OPTIONS, load_parts, plain_attention, save_parts
from .diffusion import TRAINED, train_diffusion
from .edit_cache import EditCache
from .loop import StageConfig
from .tiny import TinyConfig, tiny_components


class NoTokens(HVCA):
    """Stands for HVCA in models with region tokens and without HVCA: one visual token that is zero and adds nothing.

    The layers of the visual attention carry the mark of the grounding mask too, and the mask is the work of the region tokens.
    """

    def forward(self, edit_embedding: Tensor, features: VisionFeatures | Tensor) -> Tensor:
        return torch.zeros_like(edit_embedding[:, :1])


@dataclass(frozen=True)
class Variant:
    """Which modules a model has."""

    name: str
    regions: bool
    tati: bool
    hvca: bool


VARIANTS = (
    Variant("base", False, False, False),
    Variant("+ region tokens", True, False, False),
    Variant("+ TATI", True, True, False),
    Variant("+ HVCA", True, True, True),
)


@dataclass(frozen=True)
class Budget:
    """Equal for all variants.

    Attributes:
        align_steps: text alignment, with region tokens or without. edit_steps: the variant's own training.
        first_steps: in which the UNet that can paint unlearns all modules and becomes the plain editor that every variant
            goes on from, as the paper's go on from InstructPix2Pix. pairs: cached training pairs of the diffusion stage.
    """

    align_steps: int = 200
    first_steps: int = 500
    edit_steps: int = 350
    pairs: int = 8_000


def train_variant(
    variant: Variant, seed: int, folder: Path | str, start: Path | str, budget: Budget | None = None, world: World = WORLD,
    sizes: TinyConfig | None = None,
) -> FireEditPipeline:  # fmt: skip
    """Train one model, or go on, or read it where it is finished; returns it ready to edit.

    Args:
        folder: of the whole ablation. Alignment, cached features and the first editor are made once and shared by all seeds.
        start: bundle whose aligned language model, towers, UNet, autoencoder and detector all variants start from.
        sizes: of TATI, HVCA and visual attention, which start from random weights; None is those of fireedit-tiny.
    """
    budget, folder = budget or Budget(), Path(folder)
    editor = folder / "editor"
    if not _finished(editor):
        components, cache = _aligned(False, 0, folder, start, budget, world, sizes)
        _once(components, ("unet",), editor, lambda: _train(components, cache, editor, 0, budget.first_steps, tati=False, hvca=False))
    components, cache = _aligned(variant.regions, seed, folder, start, budget, world, sizes)
    load_parts(components, ("unet",), editor, editor)
    if variant.regions and not variant.hvca:
        components["hvca"] = NoTokens(**components["hvca"].config)
    own = folder / f"seed{seed}" / variant.name.removeprefix("+ ").replace(" ", "-")
    _once(
        components, TRAINED, own,
        lambda: _train(components, cache, own, seed, budget.edit_steps, tati=variant.tati, hvca=variant.regions),
    )  # fmt: skip
    pipe = FireEditPipeline(**components, **OPTIONS)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _aligned(
    regions: bool, seed: int, folder: Path, start: Path | str, budget: Budget, world: World, sizes: TinyConfig | None
) -> tuple[dict[str, Any], EditCache]:
    """Components with an aligned language model and fresh diffusion modules of `seed`, and the features that they see."""
    room = folder / ("regions" if regions else "plain")
    components = load_components(start)
    fresh = tiny_components((), sizes, seed)
    components |= {name: fresh[name] for name in ("tati", "hvca")}
    components["visual_attention"] = VisualCrossAttention.for_unet(components["unet"], fresh["hvca"].config.hidden_size)
    for part in components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    config = StageConfig(math.inf, 48, 3e-4, warmup=50, cooldown=0.3, ema_decay=0.99, max_steps=budget.align_steps)

    def align() -> None:
        plain_attention(components)
        train_alignment(components, world, room, config, regions)

    _once(components, ALIGNED, room, align)
    return components, EditCache(components, world, room / "cache", budget.pairs, regions=regions)


def _train(components: dict[str, Any], cache: EditCache, room: Path, seed: int, steps: int, **modules: bool) -> None:
    config = StageConfig(
        math.inf, 24, 4e-4, warmup=50, cooldown=0.3, ema_decay=0.99, save_minutes=10, seed=seed, max_steps=steps
    )
    train_diffusion(components, cache, room, config, frozen=("qformer",), **modules)


def _once(components: dict[str, Any], names: tuple[str, ...], room: Path, train: Callable[[], None]) -> None:
    """Run a stage once; later calls read what it made."""
    if not _finished(room):
        train()
        save_parts(components, room, names)
        _mark(room).touch()
    load_parts(components, names, room, room)


def _finished(room: Path) -> bool:
    return _mark(room).is_file()


def _mark(room: Path) -> Path:
    return room / "parts" / "finished"
