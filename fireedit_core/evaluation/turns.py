# SPDX-License-Identifier: GPL-3.0-or-later
"""Several edits one after the other: does each succeed, and how far does the rest of the picture drift?

Two ways are measured on the same scenes and noise: each turn starts from the plain output of the one before ("chained"), or
from that output with everything untouched so far taken from the original again ("kept", `compositing.next_source`). What is
scored is always the model's own output of a turn, before any compositing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..data import WORLD, SceneGenerator, SceneSample, Sprites, World
from ..diffusion.compositing import edit_mask, next_source
from ..diffusion.pipeline import FireEditPipeline
from . import summary
from .judge import SceneJudge
from .metrics import OUTSIDE_MARGIN, dilate, score_edit
from .scenes import Scenes, Settings, batches, scene_noise, to_arrays, to_tensor

WAYS = ("kept", "chained")


def draw_turns(scenes: Scenes, count: int, world: World = WORLD) -> Iterator[tuple[int, list[SceneSample]]]:
    """(index, `count` samples that follow each other) of scenes 0..N-1 of the mixture."""
    weights = {k: v for k, v in world.edit_weights.items() if not scenes.kinds or k in scenes.kinds}
    generator = SceneGenerator(world.only(**weights), Sprites.for_world(world), scenes.split, scenes.seed, masks=False)
    yield from ((i, generator.turns(i, count)) for i in range(scenes.count))


def evaluate_turns(
    pipe: FireEditPipeline, scenes: Scenes, count: int = 4, settings: Settings | None = None, batch: int = 16,
    world: World = WORLD, judge: SceneJudge | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Edit every scene `count` times in each of `WAYS`.

    Returns:
        {"settings", "scenes", "turns", "ways": {way: [one dict per turn: field -> list of one value per scene]}}, with the
        fields success (judged, this turn's edit), strict (not judged), outside (mean |output - original| on the pixels that
        no turn of the scene edits; scenes without such pixels are left out).
    """
    settings = (settings or Settings()).resolved(pipe)
    ways: dict[str, list[dict[str, list]]] = {way: [{"success": [], "strict": [], "outside": []} for _ in range(count)] for way in WAYS}
    bar = tqdm(batches(draw_turns(scenes, count, world), batch), total=-(-scenes.count // batch), unit="batch", desc="turns")
    for rows in bar:
        indices, series = [i for i, _ in rows], [s for _, s in rows]
        original = to_tensor([s[0].source for s in series]).to(pipe.device)
        outside = [~dilate(np.any([turn.mask for turn in s], axis=0), OUTSIDE_MARGIN) for s in series]
        for way in WAYS:
            current, touched = original, torch.zeros_like(original[:, 0])
            for k in range(count):
                # another noise for every turn, as another seed in the graph
                noise = scene_noise(pipe, tuple(original.shape[-2:]), scenes.seed + k, indices)
                out = pipe(
                    current, [s[k].instruction for s in series], num_inference_steps=settings.steps,
                    text_guidance=settings.text_guidance, image_guidance=settings.image_guidance,
                    tati_strength=settings.tati_strength, hvca_strength=settings.hvca_strength, latents=noise,
                    keep_outside="off", output_type="pt",
                )  # fmt: skip
                _score(ways[way][k], [s[k] for s in series], [s[0] for s in series], to_arrays(out.images), outside, judge)
                if way == "kept":
                    current, touched = next_source(original, out.images, edit_mask(out.mask), touched)
                else:
                    current = out.images
    return {
        "settings": f"{settings.steps} steps, text guidance {settings.text_guidance:g}, image guidance {settings.image_guidance:g}",
        "scenes": scenes.count, "turns": count, "ways": ways,
    }  # fmt: skip


def _score(
    into: dict[str, list], samples: Sequence[SceneSample], first: Sequence[SceneSample], edits: np.ndarray,
    outside: Sequence[np.ndarray], judge: SceneJudge | None,
) -> None:  # fmt: skip
    for sample, start, edit, free in zip(samples, first, edits, outside, strict=True):
        score = score_edit(sample, edit, judge=judge)
        into["strict"].append(score.success)
        if score.judged is not None:
            into["success"].append(score.judged["success"])
        if free.any():
            into["outside"].append(float(np.abs(edit - start.source / 255.0)[free].mean()))


def report(result: dict[str, Any]) -> str:
    """A table per way, Markdown: means with bootstrap intervals, and the drift against the first turn."""
    parts = [
        f"{result['scenes']} scenes of {result['turns']} turns each, {result['settings']}. Success is of the turn's own edit; outside "
        "change is against the first picture, on pixels that no turn edits, before any compositing."
    ]
    said = {
        "kept": "Untouched areas come from the original before each turn:",
        "chained": "Each turn starts from the plain output of the one before:",
    }
    head = ("turn", "success by the judge", "strict success", "outside change", "against turn 1")
    for way, turns in result["ways"].items():
        first = np.mean(turns[0]["outside"]) if turns[0]["outside"] else float("nan")
        rows = [
            [
                str(k + 1), summary.share(summary.estimate(turn["success"])), summary.share(summary.estimate(turn["strict"])),
                summary.number(summary.estimate(turn["outside"]), 4),
                f"x {np.mean(turn['outside']) / first:.2f}" if turn["outside"] else "-",
            ]
            for k, turn in enumerate(turns)
        ]  # fmt: skip
        parts += [said[way], summary.markdown_table(head, rows)]
    return "\n\n".join(parts)
