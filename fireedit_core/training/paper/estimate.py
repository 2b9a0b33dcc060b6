# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run would take, before anybody pays for it: memory and time per update on GPUs that people have.

Counted, not guessed: the passes run on the meta device (shapes without numbers), where every multiplication and every tensor that is
kept for the backward pass is counted. The only assumption is how much of a GPU's peak is reached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ...checkpoints.bundle import blank_component
from ...checkpoints.index import COMPONENTS, INDEX, read_index
from ...checkpoints.sd15 import SD15
from ...diffusion.latents import latent_mode
from ...diffusion.visual_attention import attach_visual_attention
from ...vlm import VisionFeatures
from .config import UNET_LORA_LAYERS, PaperConfig
from .features import FROZEN, tower_levels
from .model import PARTS, TEXT_PARTS
from .stage import units

TEXT_TOKENS = 48  # of an instruction in its prompt
REACHED = 0.35  # of the peak; diffusion training in half precision reaches 30 to 45 %
GIB = 1 << 30
# name: (GiB of memory, dense bf16 tensor peak in TFLOP/s), from the makers' data sheets
GPUS = {
    "RTX 3060": (12, 25), "RTX 4070": (12, 58),
    "RTX 3090": (24, 71), "RTX 4090": (24, 165), "L40S": (48, 362), "A100 40GB": (40, 312), "A100 80GB": (80, 312),
    "H100 SXM": (80, 989), "H200": (141, 989),
}  # fmt: skip


@dataclass
class Cost:
    """Of one pass over one process's batch.

    Attributes:
        flops: of the forward and the backward pass. kept: bytes that wait for the backward pass. features: bytes of what the frozen parts
            make of the pictures of the passes that are made ready together.
    """

    flops: float = 0.0
    kept: float = 0.0
    features: float = 0.0


def estimate(config: PaperConfig) -> str:
    """Tables as Markdown. A bundle that is not there yet is taken to be `fireedit-sd15`."""
    if (Path(config.bundle) / INDEX).is_file():
        parts, of = _of_bundle(Path(config.bundle)), f"the bundle {config.bundle}"
    else:
        parts = {name: SD15.blank(name) for name in COMPONENTS if name not in ("scheduler", "tokenizer")}
        of = f"fireedit-sd15, as there is no bundle at {config.bundle} yet"
    weights = _weights(parts, config)
    cost = _pass(parts, config)
    batch = f"batch {config.batch}, {config.accumulate} passes per update, {config.size} px"
    lines = [f"A run of the stage {config.stage} of {of}; {batch}.", ""]
    lines += ["| part | parameters | trained |", "| --- | --- | --- |"]
    lines += [f"| {name} | {total / 1e6:.1f} M | {trained / 1e6:.2f} M |" for name, (total, trained) in weights.items()]
    total, trained = (sum(pair[i] for pair in weights.values()) for i in range(2))
    lines += [f"| all | {total / 1e6:.1f} M | {trained / 1e6:.2f} M |", ""]

    split = held(weights, config)
    lines += ["| memory of a process | GiB |", "| --- | --- |"]
    lines += [f"| {name} | {value / GIB:.2f} |" for name, value in split.items()]
    lines += [f"| activations of a pass | {cost.kept / GIB:.2f} |", f"| features of the pictures | {cost.features / GIB:.2f} |"]
    waiting = cost.kept + cost.features
    whole = sum(split.values()) + waiting
    lines += [f"| together | {whole / GIB:.2f} |", ""]

    eight = whole
    if config.parallel == "fsdp":
        alone, gathered = unsplit(parts, weights, config)
        eight = (sum(split.values()) - alone) / 8 + alone + gathered + waiting
        lines += [
            f"Split over eight, each process has an eighth of it but for the frozen towers ({alone / GIB:.2f} GiB), and gathers at most "
            f"{gathered / GIB:.2f} GiB of it at a time.", "",
        ]  # fmt: skip
    work = cost.flops * config.accumulate
    assumed = f"At {REACHED:.0%} of the peak, and with a tenth of the memory kept free:"
    lines += [f"One update is {work / 1e12:.3g} TFLOP per process. {assumed}", ""]
    lines += ["| GPU | memory | one GPU | eight GPUs | per update | the whole run |", "| --- | --- | --- | --- | --- | --- |"]
    for name, (room, peak) in GPUS.items():
        fits = lambda need, room=room: "fits" if need < 0.9 * room * GIB else f"needs {need / GIB:.0f} GiB"  # noqa: E731
        seconds = work / (peak * 1e12 * REACHED)
        hours = seconds * config.steps / 3600
        span = f"{hours:.1f} h" if hours >= 0.1 else f"{seconds * config.steps:.1f} s"
        lines.append(f"| {name} | {room} GiB | {fits(whole)} | {fits(eight)} | {seconds:.3g} s | {span} |")
    lines += [
        "", "Not counted: the detector's own head, a block that is computed again, the optimizer's step, reading pictures, and what the "
        f"processes tell each other ({'weights and gradients' if config.parallel == 'fsdp' else 'gradients'} of every update).",
    ]  # fmt: skip
    return "\n".join(lines)


def held(weights: dict[str, tuple[int, int]], config: PaperConfig) -> dict[str, int]:
    """Bytes that one process holds between two passes where nothing is split, by what they are.

    Args:
        weights: name -> (parameters, trained ones), see `_weights`.
    """
    total, trained = (sum(pair[i] for pair in weights.values()) for i in range(2))
    size, exact = _bytes(config.frozen_dtype), weights.get("detector", (0, 0))[0]  # the detector stays in float32
    return {
        "weights that are not trained": (total - trained - exact) * size + exact * 4, "trained weights": trained * 4,
        "gradients": trained * 4, "optimizer": trained * (2 if config.optimizer == "adamw8bit" else 8),
        "averages": trained * 4 if config.ema_decay else 0,
    }  # fmt: skip


def unsplit(parts: dict[str, nn.Module], weights: dict[str, tuple[int, int]], config: PaperConfig) -> tuple[float, float]:
    """(bytes of what every process of a split run has in full, bytes that it gathers at a time at most).

    In full are the frozen towers, which stand beside the model. At a time there are the unit at work, the one that is fetched ahead, and
    the rest of the model, which stays together through a pass; each with its gradient where it is trained.
    """
    size = _bytes(config.frozen_dtype)
    alone = sum(weights[name][0] * (4 if name == "detector" else size) for name in FROZEN if name in weights)
    whole = {name: part for name, part in parts.items() if name in (TEXT_PARTS if config.stage == "text" else PARTS)}
    owner = {id(module): name for name, part in whole.items() for module in part.modules()}
    # of what is trained the weight and its gradient, in float32; of the rest the weight

    def needs(module: nn.Module, name: str) -> int:
        return sum(p.numel() for p in module.parameters()) * (8 if name in config.trained else size)

    blocks = [needs(module, owner[id(module)]) for module in units(whole)]
    adapters = sum(8 * weights[name][0] for name in ("lora", "unet_lora") if name in weights)
    rest = sum(needs(part, name) for name, part in whole.items()) - sum(blocks) + adapters
    return alone, sum(sorted(blocks)[-2:]) + rest


def _bytes(dtype: str) -> int:
    return getattr(torch, dtype).itemsize


def _of_bundle(folder: Path) -> dict[str, nn.Module]:
    """The components of a bundle on the meta device, from their configurations alone."""
    index = read_index(folder)
    # ultralytics computes with its fresh weights, which the meta device cannot
    return {
        name: blank_component(folder, name, index, "cpu" if name == "detector" else "meta")
        for name in COMPONENTS if name not in ("scheduler", "tokenizer")
    }  # fmt: skip


def _weights(parts: dict[str, nn.Module], config: PaperConfig) -> dict[str, tuple[int, int]]:
    """Name -> (parameters, trained ones), adapters as a line of their own."""
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    learns = lambda name, part: sum(p.numel() for key, p in part.named_parameters() if not config.stays(name, key))  # noqa: E731
    found = {name: (count(part), learns(name, part) if name in config.trained else 0) for name, part in parts.items()}
    for name, of, rank, targets in (
        ("lora", "language_model", config.lora_rank, config.lora_targets),
        ("unet_lora", "unet", config.unet_lora_rank, UNET_LORA_LAYERS),
    ):
        if name in config.trained:
            layers = [m for n, m in parts[of].named_modules() if isinstance(m, nn.Linear) and n.endswith(tuple(targets))]
            own = sum(rank * (m.in_features + m.out_features) for m in layers)
            found[name] = (own, own)
    return found


def _pass(parts: dict[str, nn.Module], config: PaperConfig) -> Cost:
    """One forward pass on the meta device in bfloat16."""
    # as a module moves: diffusers has a word of its own to say
    meta = {name: nn.Module.to(part, torch.bfloat16) for name, part in parts.items() if name != "detector"}
    zeros = lambda *shape: torch.zeros(*shape, device="meta", dtype=torch.bfloat16)  # noqa: E731
    weights = {p.untyped_storage()._cdata for part in meta.values() for p in (*part.parameters(), *part.buffers())}
    cost, rows = Cost(), config.batch

    def run(part: str, call: Callable[[], Any], backward: bool = True) -> Any:
        """Count a call. Backward, a part costs as much as forward for its inputs, once more if its weights are trained, and once more
        where its activations were not kept."""
        kept: dict[int, tuple[int, Any]] = {}

        def keep(x: Tensor) -> Tensor:
            # a weight waits anyway, as do its views; of other views the storage waits once. It is held, so that no other gets its number
            storage = x.untyped_storage()
            if storage._cdata not in weights:
                kept[storage._cdata] = (storage.nbytes(), storage)
            return x

        with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            with torch.set_grad_enabled(backward):
                out = call()
        times = 1
        if backward:
            times += 1 + (part in config.trained) + (config.checkpointing and part in ("language_model", "unet"))
            cost.kept += sum(size for size, _ in kept.values())
        cost.flops += times * counter.get_total_flops()
        return out

    width = meta["img_tokens"].config.hidden_size
    tokens = TEXT_TOKENS + meta["img_tokens"].config.num_tokens
    if config.stage != "text":
        dino, clip = meta["dinov2"].config, meta["clip_vision"].config
        side = dino.image_size // dino.patch_size
        talk = config.conversation_rows
        square = lambda size: zeros(rows + talk, 3, size, size)  # noqa: E731
        dino_states = run("dinov2", lambda: _states(meta["dinov2"], square(dino.image_size)), False)
        clip_states = run("clip_vision", lambda: _states(meta["clip_vision"], square(clip.image_size)), False)
        features = VisionFeatures(tuple(x[:rows, 1:] for x in dino_states), tuple(x[:rows, 1:] for x in clip_states), (side, side))
        # the class token is no feature
        numbers = sum(len(levels) * states[0][0, 1:].numel()
                      for levels, states in zip(tower_levels(meta), (dino_states, clip_states), strict=True))  # fmt: skip
        cost.features = 4.0 * numbers * (rows + talk) * config.passes_at_once  # they are kept in float32
        latents = run("vae", lambda: _encoded(meta["vae"], zeros(2 * rows, 3, config.size, config.size)), False)[:rows]
        regions, image_tokens = config.max_regions * config.regions, side * side // 4
        if config.regions:
            learns = "region_encoder" in config.trained
            run("region_encoder", lambda: _regions(meta["region_encoder"], features, rows, regions), learns)
        run("adapter", lambda: meta["adapter"](features.dino[-1], (side, side)), "adapter" in config.trained)
        tokens += image_tokens + regions
    language = meta["language_model"]
    if config.checkpointing:
        language.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        meta["unet"].enable_gradient_checkpointing()
        language.train(), meta["unet"].train()
    # a mask that is whole already: transformers would look into one of its own making
    sees = lambda rows, length: {"attention_mask": zeros(rows, 1, length, length), "use_cache": False}  # noqa: E731
    # gradients reach the [IMG] tokens through all layers
    read = lambda: language.model(inputs_embeds=zeros(rows, tokens, width).requires_grad_(), **sees(rows, tokens))  # noqa: E731
    run("language_model", read)
    if config.checkpointing:  # the inputs of its blocks wait where no hook sees them
        cost.kept += len(language.model.layers) * rows * tokens * width * zeros(1).element_size()
    if config.stage != "text" and config.conversation_rows:
        length = config.conversation_tokens + image_tokens + regions
        run("language_model", lambda: language(inputs_embeds=zeros(talk, length, width).requires_grad_(), **sees(talk, length)))
    states = zeros(rows, meta["img_tokens"].config.num_tokens + config.meant_region, width)
    embedding = run("qformer", lambda: meta["qformer"](states))
    if config.stage != "text":
        times = torch.zeros(rows, device="meta", dtype=torch.long)
        context, beside = embedding.detach(), None
        if config.tati:
            context = run("tati", lambda: meta["tati"](embedding.detach(), times))
        if config.hvca:
            visual = run("hvca", lambda: meta["visual_attention"].project(meta["hvca"](embedding.detach(), features)))
            beside = {"visual": visual, "where": zeros(rows, 1, *latents.shape[-2:]) if config.mark else None}
        meta["visual_attention"].shared = config.shared_output
        attach_visual_attention(meta["unet"], meta["visual_attention"])
        noisy = torch.cat([latents, latents], dim=1)
        call = lambda: meta["unet"](noisy, times, context, cross_attention_kwargs=beside).sample  # noqa: E731
        run("unet", call)
    return cost


def _states(tower: nn.Module, pixels: Tensor) -> tuple[Tensor, ...]:
    return tower(pixel_values=pixels, output_hidden_states=True).hidden_states


def _encoded(vae: nn.Module, pictures: Tensor) -> Tensor:
    return latent_mode(vae.encode(pictures))


def _regions(encoder: nn.Module, features: VisionFeatures, rows: int, regions: int) -> Tensor:
    """The encoder's work without asking which regions are there, which has no answer on the meta device."""
    maps = encoder.fused(features.dino, features.dino_grid)
    picture = torch.zeros(rows * regions, dtype=torch.long, device="meta")
    return encoder.encode(maps, features.dino_grid, picture, torch.zeros(rows * regions, 4, device="meta", dtype=torch.bfloat16))
