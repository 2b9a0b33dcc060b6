# SPDX-License-Identifier: GPL-3.0-or-later
"""Components made ready for a stage, and what was trained written back as a bundle."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ...checkpoints.bundle import LORA, blank_component, load_component, load_components, save_adapters, save_component
from ...checkpoints.index import CONVERTED, EXTRAS, INDEX, UNTRAINED, WITHOUT, bundle_options, parts_of, read_index
from ...checkpoints.weights import stored_dtype
from .config import UNET_LORA_LAYERS, PaperConfig
from .features import share_tower

logger = logging.getLogger("fireedit")

ADAPTED = {"language_model": "lora", "unet": "unet_lora"}  # component -> what its adapters are called in `PaperConfig.trained`


def trainable_components(config: PaperConfig) -> dict[str, Any]:
    """The bundle's components on the CPU, with adapters where they are wanted. What is trained is float32 and wants gradients.

    Raises:
        BundleError: for a bundle that cannot be read. ValueError: for adapters that fit nothing.
    """
    components = load_components(config.bundle)
    torch.manual_seed(config.seed)  # new adapters are random, and must be the same in all processes
    trained, frozen = set(config.trained), getattr(torch, config.frozen_dtype)
    for name in ADAPTED:
        components[name] = _adapted(name, components[name], config)
    for name, part in components.items():
        if not isinstance(part, nn.Module):
            continue
        part.requires_grad_(name in trained)
        for key, weight in part.named_parameters():
            if "lora_" in key and ADAPTED.get(name) in trained:
                weight.requires_grad_(True)
            if config.stays(name, key):
                weight.requires_grad_(False)
            # the detector's coordinates need more digits than half precision has
            whole = weight.requires_grad or name == "detector"
            weight.data = weight.data.to(torch.float32 if whole else frozen)
        part.eval()
    if config.stage != "text":
        if share_tower(components):
            logger.info("the detector stands on the bundle's DINOv2: it runs once per picture")
        attention = components["visual_attention"]
        attention.shared = config.shared_output
        if not config.mark:
            without_mark(attention)
    if config.checkpointing:
        components["unet"].enable_gradient_checkpointing()
        components["language_model"].gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return components


def export(weights: dict[str, Tensor], config: PaperConfig, folder: Path) -> None:
    """Write a bundle: the one that the run started from, with `weights` (names as in the trained module: parts.<component>.<name>).

    A part that was trained is read from the start once more, as it lies there and not as it ran, and written in the type of that file;
    the adapters of a UNet are merged into it, those of the language model stay adapters. All other parts are the start's files, byte for
    byte. A bundle that is there already stays whole until the new one is there.

    Raises:
        ValueError: for weights of another bundle.
    """
    start, temporary, old = Path(config.bundle), folder.with_name(f"{folder.name}.new"), folder.with_name(f"{folder.name}.old")
    if temporary.exists():
        shutil.rmtree(temporary)
    temporary.mkdir(parents=True)
    own: dict[str, dict[str, Tensor]] = {}
    for key, value in weights.items():
        name, _, rest = key.removeprefix("parts.").partition(".")
        own.setdefault(name, {})[rest] = value
    adapters = own.pop("language_model", {}) if "lora" in config.trained else {}
    index = read_index(start)
    options = trained_options(config)
    # once the Q-Former reads the instruction, CLIP does so no longer
    dropped = () if "qformer" in options["untrained"] else EXTRAS
    for name in (*parts_of(index), LORA):
        if name in dropped:
            continue
        if name in own:
            _save_trained(start, name, own[name], config, temporary)
        elif name == LORA and adapters:
            _save_adapters(start, adapters, config, temporary)
        elif (start / name).is_dir() and not (name == LORA and "language_model" in own):
            for file in sorted(f for f in (start / name).rglob("*") if f.is_file()):
                place = file.relative_to(start)
                keep_file(file, temporary / place, folder / place)
    if (start / CONVERTED).is_file():  # where its parts came from stays true
        shutil.copy2(start / CONVERTED, temporary / CONVERTED)
    index = {key: value for key, value in index.items() if key not in dropped} | options
    (temporary / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    if config.stage != "text" and config.hvca and (config.shared_output or not config.mark):
        _settle_visual_attention(temporary, config)
    if folder.exists():
        if old.exists():  # of a run that was killed before it took it away
            shutil.rmtree(old)
        folder.rename(old)
    temporary.rename(folder)
    if old.exists():
        shutil.rmtree(old)
    logger.info("wrote %s", folder)


def trained_options(config: PaperConfig) -> dict[str, Any]:
    """The options of the bundle that a stage makes, from its first step on.

    What a stage runs through is no longer left out: the Q-Former in the stage of text, where it learns to speak like the CLIP that has
    read in its place; grounding, Q-Former, TATI and HVCA in all others, whichever of them are trained. No stage trains a detector. What the
    settings leave out stays left out, also of a bundle that had it.
    """
    options = bundle_options(read_index(config.bundle))
    text = config.stage == "text"
    through = {"qformer"} if text else {"grounding", "qformer", "tati", "hvca"} - config.left_out
    off = set() if text else {"tati", "hvca"} & config.left_out
    untrained = tuple(name for name in UNTRAINED if (name in options["untrained"] and name not in through) or name in off)
    has = {"meant_region": config.meant_region} | ({} if text else {"regions": config.regions, "grounding": config.grounds})
    without = tuple(name for name in WITHOUT if not has.get(name, name not in options["without"]))
    return options | {"untrained": untrained, "without": without}


@torch.no_grad()
def without_mark(attention: nn.Module) -> None:
    """Let every layer of a `VisualCrossAttention` say nothing to the cells of the grounding mask."""
    for layer in attention.attentions:
        layer.to_mark.weight.zero_()


def keep_file(file: Path, to: Path, before: Path) -> None:
    """Make `to` what `file` is. Where the bundle of the last save has its copy, that one is taken over: the disk is written once per run.

    The start's own file is never linked: who writes into a file in place would change both.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    now = file.stat()
    if before.is_file() and (before.stat().st_size, before.stat().st_mtime_ns) == (now.st_size, now.st_mtime_ns):
        try:
            os.link(before, to)
            return
        except OSError:  # a disk without links
            pass
    shutil.copy2(file, to)


def _save_trained(start: Path, name: str, own: dict[str, Tensor], config: PaperConfig, to: Path) -> None:
    part = _adapted(name, load_component(start, name), config)
    _load(name, part, own)
    if name == "unet" and "unet_lora" in config.trained:
        part.fuse_lora()
        part.unload_lora()
    if hasattr(part, "peft_config") and name == "language_model":  # trained as a whole, beside adapters that it brought along
        save_adapters(to / LORA, part)
        part = part.unload()
    save_component(to / name, part, stored_dtype(start / name))


def _settle_visual_attention(folder: Path, config: PaperConfig) -> None:
    """What the run has taken for the visual attention's weights, written as its own, so that a bundle needs no switch: no mark; copies of
    the UNet's W_q and W_o, which are its adapters' too once they are merged."""
    attention, name = load_component(folder, "visual_attention"), "visual_attention"
    if not config.mark:
        without_mark(attention)
    if config.shared_output:
        wanted = {f"{place}.{key}.weight": (i, own) for i, place in enumerate(attention.names)
                  for key, own in (("to_q", "to_q"), ("to_out.0", "to_out"))}  # fmt: skip
        with torch.no_grad():
            for file in sorted((folder / "unet").glob("*.safetensors")):
                with safe_open(file, "pt") as opened:
                    for key in wanted.keys() & opened.keys():
                        i, own = wanted.pop(key)
                        getattr(attention.attentions[i], own).weight.copy_(opened.get_tensor(key))
        if wanted:
            raise ValueError(f"the UNet in {folder} has no {sorted(wanted)[0]}")
    dtype = stored_dtype(folder / name)
    shutil.rmtree(folder / name)  # and not over it: its files may be linked into the bundle of the last save
    save_component(folder / name, attention, dtype)


def _save_adapters(start: Path, own: dict[str, Tensor], config: PaperConfig, to: Path) -> None:
    """The language model's adapters, without reading the weights that they stand beside."""
    model = blank_component(start, "language_model")
    with torch.device("meta"):
        if (start / LORA).is_dir():
            from peft import LoraConfig, get_peft_model

            model = get_peft_model(model, LoraConfig.from_pretrained(str(start / LORA)))
        else:
            model = _adapted("language_model", model, config)
    kept = stored_dtype(start / LORA if (start / LORA).is_dir() else start / "language_model")
    _load("language_model", model, {key: value.to(kept) for key, value in own.items()}, assign=True)
    save_adapters(to / LORA, model)


def _load(name: str, part: nn.Module, own: dict[str, Tensor], **how: Any) -> None:
    unknown = part.load_state_dict(own, strict=False, **how).unexpected_keys
    if unknown:
        raise ValueError(f"{name} has no {unknown[0]}: the weights are of another bundle")


def _adapted(name: str, model: nn.Module, config: PaperConfig) -> nn.Module:
    """A part with the adapters that the run trains in it; as it is where it trains none there, or has its own already."""
    if ADAPTED.get(name) not in config.trained or hasattr(model, "peft_config"):
        return model
    from peft import LoraConfig, get_peft_model

    if name == "unet":
        rank = config.unet_lora_rank
        model.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(UNET_LORA_LAYERS)))
        return model
    lora = LoraConfig(
        r=config.lora_rank, lora_alpha=config.lora_alpha, lora_dropout=config.lora_dropout, target_modules=list(config.lora_targets)
    )
    return get_peft_model(model, lora)
