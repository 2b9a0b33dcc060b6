# SPDX-License-Identifier: GPL-3.0-or-later
"""fireedit-tiny from scratch: every stage in order, each resumable, then the bundle with its training record."""

from __future__ import annotations

import json
import logging
import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderDC
from transformers import AutoTokenizer

from ..checkpoints.bundle import save_bundle
from ..data import WORLD, World, vocabulary
from ..diffusion.pipeline import FireEditPipeline
from ..evaluation.pictures import sheet
from ..evaluation.scenes import Scenes
from ..regions.loading import load_region_detector
from ..whole_files import write_json
from .alignment import ALIGNED, train_alignment
from .autoencoder import train_autoencoder
from .diffusion import TRAINED, train_diffusion
from .edit_cache import EditCache
from .loop import StageConfig
from .tiny import tiny_components

logger = logging.getLogger("fireedit")

# Shares of the budget. Appearance is what costs samples (the last stage), the rest is learnt in minutes.
SHARES = {"detector": 0.03, "autoencoder": 0.2, "alignment": 0.3, "diffusion": 0.47}
STAGES = tuple(SHARES)
# A bundle that is gone on from knows most of it already: large steps would only forget.
WARM_ALIGNMENT_RATE = 3e-4
OPTIONS = {"native_size": 128, "source_latent_scaled": True, "text_guidance": 1.0, "image_guidance": 1.0, "steps": 20}


def stage_configs(minutes: float) -> dict[str, StageConfig]:
    """Numbers of every stage for a wall-clock budget of all of them together."""
    share = {name: part * minutes for name, part in SHARES.items()}
    return {
        "autoencoder": StageConfig(share["autoencoder"], 64, 2e-3, warmup=50, cooldown=0.4, weight_decay=0.0, ema_decay=0.99),
        "alignment": StageConfig(share["alignment"], 48, 1e-3, warmup=100, cooldown=0.25, ema_decay=0.995),
        "diffusion": StageConfig(share["diffusion"], 24, 4e-4, warmup=200, cooldown=0.3, ema_decay=0.9995, save_minutes=10),
    }


def build_tiny(
    out: Path | str, bundle: Path | str, minutes: float, stages: Sequence[str] = STAGES, pairs: int = 24_000, freeze: Sequence[str] = (),
    compiled: bool = False, world: World = WORLD, start: Path | str | None = None,
) -> None:  # fmt: skip
    """Train the chosen stages and write the bundle; what is not trained is read from `out`, else from `start` or `bundle`.

    Args:
        out: folder of states, caches, logs and sheets. bundle: folder that receives the weights.
        minutes: wall-clock budget of all stages together. pairs: cached training pairs of the last stage.
        freeze: modules that stay as they are, and "encoder", the autoencoder's. compiled: see `DiffusionModel`.
        world: what the scenes show and how they are spoken of.
        start: a bundle whose weights the stages go on from instead of random ones. Words of `world` that are new to it
            are added to its vocabulary.
    """
    out, bundle = Path(out), Path(bundle)
    source = Path(start or bundle)
    configs = stage_configs(minutes)
    if "detector" in stages:
        from .detector import DetectorTraining, save_detector, scene_source, train_detector

        settings = DetectorTraining(minutes=SHARES["detector"] * minutes)
        save_detector(train_detector(scene_source("train", 0), out / "detector", settings), out / "parts" / "detector")
    if "autoencoder" in stages:
        first = AutoencoderDC.from_pretrained(source / "vae", torch_dtype=torch.float32) if start else None
        train_autoencoder(out, configs["autoencoder"], start=first, frozen=freeze).save_pretrained(out / "parts" / "vae")
    fresh = "alignment" in stages and not start
    components = tiny_components(vocabulary(world), **({} if fresh else {"known": words_of(_part(out, source, "tokenizer"))}))
    components["vae"] = AutoencoderDC.from_pretrained(_part(out, source, "vae"), torch_dtype=torch.float32)
    components["detector"] = load_region_detector(_part(out, source, "detector"))
    if start:
        load_parts(components, sorted({*ALIGNED, *TRAINED}), out, source)
        configs["alignment"] = replace(configs["alignment"], lr=WARM_ALIGNMENT_RATE)
    for part in components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    if "alignment" in stages:
        plain_attention(components)
        train_alignment(components, world, out, configs["alignment"], frozen=freeze)
        save_parts(components, out, ("tokenizer", *ALIGNED))
    else:
        load_parts(components, ALIGNED, out, source)
    if "diffusion" in stages:
        load_parts(components, [name for name in TRAINED if (out / "parts" / name).is_dir()], out, source)
        cache = EditCache(components, world, out / "cache", pairs)

        def show() -> None:
            processors = components["unet"].attn_processors  # these very objects: others would compile the UNet anew
            try:
                picture = sheet(FireEditPipeline(**components, **OPTIONS), Scenes(count=24, split="validation"), columns=3, world=world)
            finally:
                components["unet"].set_attn_processor(processors)
            picture.save(out / "diffusion" / "sheet.png")
            save_parts(components, out, TRAINED)

        frozen = [name for name in freeze if name in TRAINED]
        train_diffusion(components, cache, out, configs["diffusion"], show, frozen=frozen, compiled=compiled)
        save_parts(components, out, TRAINED)
    else:
        load_parts(components, TRAINED, out, source)
    write_bundle(components, out, bundle, world)


def write_bundle(
    components: dict[str, Any], out: Path, bundle: Path, world: World, more: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Save the bundle in half precision with `training.json`, the record that the model card quotes.

    Args:
        more: entries of the record beside the usual ones.
        options: of the bundle that the components come from, where they still hold; None: those of a new one.
    """
    save_bundle(bundle, components, options or OPTIONS)
    stages = {}
    for name in STAGES:
        record = out / name / "state" / "progress.json"
        if record.is_file():
            progress = json.loads(record.read_text())
            stages[name] = {"steps": progress["step"], "minutes": round(progress["seconds"] / 60, 1), **progress["metrics"]}
    training = {
        "data": f"synthetic scenes, world {world.name} ({world.fingerprint()})", "seed": 0, "stages": stages,
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}, {'GPU' if torch.cuda.is_available() else 'no GPU'}",
        **(more or {}),
    }  # fmt: skip
    write_json(bundle / "training.json", training)


def plain_attention(components: dict[str, Any]) -> None:
    """On the CPU the fused attention's backward pass is slower than plain matrix products."""
    if not torch.cuda.is_available():
        for name in ("dinov2", "clip_vision", "language_model"):
            components[name].set_attn_implementation("eager")


def save_parts(components: dict[str, Any], out: Path, names: Sequence[str]) -> None:
    """Save components in full precision below `out/parts`."""
    for name in names:
        components[name].save_pretrained(out / "parts" / name)


def load_parts(components: dict[str, Any], names: Sequence[str], out: Path, bundle: Path) -> None:
    """Replace the weights of components by those of an earlier stage.

    Raises:
        FileNotFoundError: for a part that neither `out` nor `bundle` has; going on with random weights helps nobody.
    """
    for name in names:
        loaded = type(components[name]).from_pretrained(_part(out, bundle, name))
        if name == "language_model":
            loaded.resize_token_embeddings(components[name].config.vocab_size, mean_resizing=False)
        components[name].load_state_dict(loaded.state_dict())


def words_of(tokenizer: Path) -> list[str]:
    """The vocabulary of a saved tokenizer in the order of its ids."""
    ids = AutoTokenizer.from_pretrained(tokenizer).get_vocab()
    return sorted(ids, key=ids.__getitem__)


def _part(out: Path, bundle: Path, name: str) -> Path:
    for folder in (out / "parts" / name, bundle / name):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"no trained {name} in {out / 'parts'} or {bundle}: train the stage that makes it first (--stages)")
