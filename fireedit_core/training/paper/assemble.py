# SPDX-License-Identifier: GPL-3.0-or-later
"""Components made ready for a stage, and what was trained written back as a bundle."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...checkpoints.bundle import EXTRAS, bundle_options, load_components, read_index, save_bundle
from .config import PaperConfig

logger = logging.getLogger("fireedit")


def trainable_components(config: PaperConfig) -> dict[str, Any]:
    """The bundle's components on the CPU, with adapters where they are wanted. What is trained is float32 and wants gradients.

    Raises:
        BundleError: for a bundle that cannot be read. ValueError: for adapters that fit nothing.
    """
    components = load_components(config.bundle)
    torch.manual_seed(config.seed)  # new adapters are random, and must be the same in all processes
    trained, frozen = set(config.trained), getattr(torch, config.frozen_dtype)
    if "lora" in trained:
        components["language_model"] = _with_lora(components["language_model"], config)
    if "unet_lora" in trained:
        from peft import LoraConfig

        lora = LoraConfig(
            r=config.unet_lora_rank, lora_alpha=config.unet_lora_rank, init_lora_weights="gaussian",
            target_modules=["to_q", "to_k", "to_v", "to_out.0"],
        )  # fmt: skip
        components["unet"].add_adapter(lora)
    for name, part in components.items():
        if not isinstance(part, nn.Module):
            continue
        part.requires_grad_(name in trained)
        for key, weight in part.named_parameters():
            if "lora_" in key and {"language_model": "lora", "unet": "unet_lora"}.get(name) in trained:
                weight.requires_grad_(True)
            weight.data = weight.data.to(torch.float32 if weight.requires_grad else frozen)
        part.eval()
    if config.checkpointing:
        components["unet"].enable_gradient_checkpointing()
        components["language_model"].gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return components


def export(weights: dict[str, Tensor], config: PaperConfig, folder: Path) -> None:
    """Write a bundle: the one that the run started from, with `weights` (names as in the trained module: parts.<component>.<name>).

    The adapters of a UNet are merged into it, those of the language model stay adapters. A bundle that is there already stays whole until
    the new one is.
    """
    components = trainable_components(config)
    for name, part in components.items():
        start = f"parts.{name}."
        own = {key.removeprefix(start): value for key, value in weights.items() if key.startswith(start)}
        if own:
            unknown = part.load_state_dict(own, strict=False).unexpected_keys
            if unknown:
                raise ValueError(f"{name} has no {unknown[0]}: the weights are of another bundle")
    if "unet_lora" in config.trained:
        components["unet"].fuse_lora()
        components["unet"].unload_lora()
    temporary = folder.with_name(f"{folder.name}.new")
    if temporary.exists():
        shutil.rmtree(temporary)
    options = trained_options(config)
    if "qformer" not in options["untrained"]:  # which reads the instruction from now on
        components = {name: part for name, part in components.items() if name not in EXTRAS}
    save_bundle(temporary, components, options)
    if folder.exists():
        shutil.rmtree(folder)
    temporary.rename(folder)
    logger.info("wrote %s", folder)


def trained_options(config: PaperConfig) -> dict[str, Any]:
    """The options of the bundle that a stage makes, from its first step on.

    What a stage runs through is no longer left out: the Q-Former in the stage of text, where it learns to speak like the CLIP that has
    read in its place; grounding, Q-Former, TATI and HVCA in all others, whichever of them are trained. No stage trains a detector.
    """
    options = bundle_options(read_index(config.bundle))
    through = {"qformer"} if config.stage == "text" else {"grounding", "qformer", "tati", "hvca"}
    return options | {"untrained": tuple(name for name in options["untrained"] if name not in through)}


def _with_lora(model: nn.Module, config: PaperConfig) -> nn.Module:
    if hasattr(model, "peft_config"):  # the bundle brings its adapters: they are trained on
        return model
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=config.lora_rank, lora_alpha=config.lora_alpha, lora_dropout=config.lora_dropout, target_modules=list(config.lora_targets)
    )
    return get_peft_model(model, lora)
