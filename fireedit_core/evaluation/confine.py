# SPDX-License-Identifier: GPL-3.0-or-later
"""What confining an edit while it is sampled changes: off the mask, and of its success. Without any paste afterwards.

The same scenes, noise and conditions are sampled with every mask of `MASKS`. Change is counted against the *autoencoder's own
reconstruction* of the source: against the source itself, most of the change is the autoencoder's, and no confinement can take it away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..data import EDIT_TYPES, WORLD, SceneSample, World
from ..diffusion.compositing import WorkingSize, edit_mask
from ..diffusion.confinement import Confinement
from ..diffusion.latents import latent_scale
from ..diffusion.pipeline import FireEditPipeline, decode_latents, encode_latents
from . import summary
from .judge import SceneJudge
from .metrics import dilate, score_edit
from .scenes import Scenes, Settings, autoencoder_floor, batches, scene_noise, to_arrays, to_tensor

KINDS = tuple(kind for kind in EDIT_TYPES if kind != "background")  # a background edit has no outside to speak of
MASKS = ("none", "true", "grounded", "automatic", "random")
OFF = 12  # px off the mask, from where on a change counts
ABOUT = {
    "none": "the plain model",
    "true": "confined to the mask of the scene",
    "grounded": "confined to where the instruction was grounded",
    "automatic": "confined to what was about to change after a fifth of the steps",
    "random": "control: the scene's mask, at another place",
}


@dataclass
class Row:
    """What one mask gave, a value per scene. overlap: IoU of the cells that were free with those of the scene's mask."""

    success: list[bool] = field(default_factory=list)
    strict: list[bool] = field(default_factory=list)
    off: list[float] = field(default_factory=list)
    against_source: list[float] = field(default_factory=list)
    overlap: list[float] = field(default_factory=list)
    found: list[bool] = field(default_factory=list)


@torch.no_grad()
def evaluate(
    pipe: FireEditPipeline, scenes: Scenes, judge: SceneJudge, settings: Settings | None = None, late_edges: float = 0.5, batch: int = 16,
    world: World = WORLD, look: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Sample every scene with every mask.

    Args:
        look: gets the result so far after every batch, so that a long run that is stopped leaves what it has measured.

    Returns:
        {"settings", "scenes", "late_edges", "rows": {mask: Row}}.
    """
    settings = (settings or Settings()).resolved(pipe)
    rows = {name: Row() for name in MASKS}
    said = f"{settings.steps} steps, text guidance {settings.text_guidance:g}, image guidance {settings.image_guidance:g}"
    result = {"settings": said, "scenes": scenes, "late_edges": late_edges, "rows": rows}
    for items in tqdm(batches(scenes.draw(world), batch), total=-(-len(scenes) // batch), unit="batch", desc="confine"):
        indices, samples = [i for i, _ in items], [s for _, s in items]
        source = to_tensor([s.source for s in samples]).to(pipe.device)
        size = (int(source.shape[-2]), int(source.shape[-1]))
        conditions = pipe.editor.condition(pipe.editor.tokenize(source, pipe.editor.detect(source)), [s.instruction for s in samples])
        plan = WorkingSize.plan(size, pipe.config.native_size)
        code = encode_latents(pipe.vae, plan.shrink(source))
        scale = latent_scale(pipe.vae)
        given = code * scale if pipe.config.source_latent_scaled else code
        floor = to_arrays(autoencoder_floor(pipe, source))
        true = torch.from_numpy(np.stack([s.mask for s in samples])).float().to(source)
        masks = {"true": true, "grounded": conditions.mask, "random": moved(true, [scenes.seed * 1_000_003 + i for i in indices])}
        cells = {name: plan.hold_mask(edit_mask(mask))[:, 0] for name, mask in masks.items()}
        noise = scene_noise(pipe, size, scenes.seed, indices)
        for name, row in rows.items():
            held = None if name == "none" else Confinement(code * scale, cells.get(name), settings.steps, late_edges=late_edges)
            latents = pipe.denoise(
                conditions, plan.mask_on_latents(conditions.mask), given, settings.steps, settings.text_guidance, settings.image_guidance,
                settings.tati_strength, settings.hvca_strength, latents=noise, confinement=held,
            )  # fmt: skip
            if held is not None:  # as FireEdit Confine leaves it
                latents = torch.where(held.outside(latents), code, latents)
            edits = to_arrays(plan.restore(decode_latents(pipe.vae, latents), source, torch.ones_like(source[:, 0])))
            free = torch.ones_like(cells["true"]) if held is None else held.mask
            _score(row, samples, edits, floor, judge)
            row.overlap += overlap(free > 0, cells["true"] > 0)
            row.found += held.found if held is not None and held.found is not None else [True] * len(samples)
        if look is not None:
            look(result)
    return result


def moved(masks: Tensor, seeds: list[int]) -> Tensor:
    """Masks (B, H, W) at another place, round the edges; none overlaps its old place by more than half where that can be had."""
    made = []
    for mask, seed in zip(masks, seeds, strict=True):
        draw = np.random.default_rng(seed)
        tries = [mask.roll((int(draw.integers(mask.shape[0])), int(draw.integers(mask.shape[1]))), (0, 1)) for _ in range(20)]
        made.append(min(tries[:1] + tries, key=lambda m: float((m * mask).sum()) > 0.5 * float(mask.sum())))
    return torch.stack(made)


def overlap(a: Tensor, b: Tensor) -> list[float]:
    """IoU of masks (B, h, w) bool, one each."""
    both, either = (a & b).flatten(1).sum(1), (a | b).flatten(1).sum(1)
    return (both / either.clamp(min=1)).tolist()


def _score(row: Row, samples: list[SceneSample], edits: np.ndarray, floor: np.ndarray, judge: SceneJudge) -> None:
    for sample, edit, plain in zip(samples, edits, floor, strict=True):
        score = score_edit(sample, edit, unedited=plain, judge=judge)
        row.success.append(score.judged["success"])
        row.strict.append(score.success)
        outside = ~dilate(sample.mask, OFF)
        if outside.any():
            row.off.append(float(np.abs(edit - plain)[outside].mean()))
            row.against_source.append(float(np.abs(edit - sample.source / 255.0)[outside].mean()))


def report(result: dict[str, Any], command: str) -> str:
    """docs/confine.md."""
    scenes, rows = result["scenes"], result["rows"]
    plain = rows["none"]
    table = []
    for name, row in rows.items():
        off = summary.estimate(row.off)
        less = "" if name == "none" else f"{100 * (off['mean'] / np.mean(plain.off) - 1):+.1f} %"
        gained = summary.estimate(np.asarray(row.success, float) - np.asarray(plain.success, float))
        low, high = gained["interval"]
        table.append([
            name, ABOUT[name], summary.number(off, 5), less, summary.share(summary.estimate(row.success)),
            "" if name == "none" else f"{100 * gained['mean']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]",
            summary.share(summary.estimate(row.strict), False), f"{np.mean(row.overlap):.2f}",
        ])  # fmt: skip
    head = (
        "mask", "what", "change off the mask", "against none", "success by the judge", "difference, points", "strict success", "cells' IoU",
    )  # fmt: skip
    unseen = len(rows["automatic"].found) - sum(rows["automatic"].found)
    return "\n\n".join([
        "# Confining an edit while it is sampled",
        f"Written by `{command}`. fireedit-tiny on {len(plain.success)} scenes of {scenes.split} (seed {scenes.seed}; "
        f"{', '.join(scenes.kinds or KINDS)}), {result['settings']}, late_edges {result['late_edges']:g}. Nothing is pasted afterwards. "
        "The maths is that of the node FireEdit Confine (`fireedit_core/diffusion/confinement.py`); noise and conditions are the same in "
        "every row.",
        f"Change is the mean |edit - autoencoder's own reconstruction of the source| of pixels on 0..1, {OFF} px and more off the scene's "
        "true mask, whatever mask the edit was confined to. Means with 95 % bootstrap intervals over scenes; the difference of success is "
        "paired.",
        summary.markdown_table(head, table),
        f"Against the *source* the same change is {np.mean(plain.against_source):.5f} without and "
        f"{np.mean(rows['grounded'].against_source):.5f} with the grounded mask: most of it is the autoencoder's, and a paste "
        "(`keep_outside: exact`, FireEdit Photo Finish) is what takes that away. The automatic mask saw no region in "
        f"{unseen} of {len(plain.success)} scenes and left those free.",
        "What this does not show: fireedit-tiny is told where the edit is expected, so its plain edits stray little, and its automatic "
        "mask is found in edits that know their place. For the models that FireEdit Confine is made for (Kontext, Qwen-Image-Edit ...) "
        "there are tests of the mechanism, on small random models of their classes, and no measured table.",
    ]) + "\n"  # fmt: skip
