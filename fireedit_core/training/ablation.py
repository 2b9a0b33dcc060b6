# SPDX-License-Identifier: GPL-3.0-or-later
"""Four models that differ in one module each, trained alike: base, +region tokens, +TATI, +HVCA (the paper's table 3)."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..checkpoints.bundle import load_components
from ..data import WORLD, World, vocabulary
from ..diffusion.pipeline import FireEditPipeline
from .alignment import ALIGNED, train_alignment
from .build import OPTIONS, load_parts, plain_attention, save_parts
from .diffusion import TRAINED, train_diffusion
from .edit_cache import EditCache
from .loop import StageConfig
from .tiny import TinyConfig, tiny_components

logger = logging.getLogger("fireedit")


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
    """Equal for all variants: steps of the two stages, pairs in the cache of the second."""

    align_steps: int = 500
    edit_steps: int = 600
    pairs: int = 8_000


def train_variant(
    variant: Variant, seed: int, folder: Path | str, shared: Path | str, budget: Budget | None = None, world: World = WORLD,
    sizes: TinyConfig | None = None,
) -> FireEditPipeline:  # fmt: skip
    """Train one model, or go on, or read it where it is finished; returns it ready to edit.

    Args:
        folder: of the whole ablation; models that read the same features share them.
        shared: bundle whose autoencoder and detector all variants use.
    """
    budget, room = budget or Budget(), Path(folder) / f"seed{seed}" / ("regions" if variant.regions else "plain")
    components = tiny_components(vocabulary(world), sizes, seed)
    components |= load_components(shared, names=("vae", "detector"))
    for part in components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    _stage(
        components, ALIGNED, room,
        lambda: _align(components, world, room, StageConfig(
            math.inf, 48, 1e-3, warmup=50, cooldown=0.3, ema_decay=0.99, seed=seed, max_steps=budget.align_steps
        ), variant.regions),
    )  # fmt: skip
    own = room / variant.name.removeprefix("+ ").replace(" ", "-")
    config = StageConfig(
        math.inf, 24, 5e-4, warmup=50, cooldown=0.3, ema_decay=0.995, save_minutes=10, seed=seed, max_steps=budget.edit_steps
    )
    _stage(
        components, TRAINED, own,
        lambda: train_diffusion(
            components, EditCache(components, world, room / "cache", budget.pairs, seed=seed + 2, regions=variant.regions), own,
            config, tati=variant.tati, hvca=variant.hvca,
        ),
    )  # fmt: skip
    pipe = FireEditPipeline(**components, **OPTIONS)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _align(components: dict[str, Any], world: World, room: Path, config: StageConfig, regions: bool) -> None:
    plain_attention(components)
    train_alignment(components, world, room, config, regions)


def _stage(components: dict[str, Any], names: tuple[str, ...], room: Path, train) -> None:  # noqa: ANN001
    """Run a stage once; later calls read what it made."""
    finished = room / "parts" / "finished"
    if not finished.is_file():
        train()
        save_parts(components, room, names)
        finished.touch()
    load_parts(components, names, room, room)
