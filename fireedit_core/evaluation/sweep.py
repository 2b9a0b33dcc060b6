# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose steps and guidance on validation scenes, before anything is measured on held-out ones."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import torch
from tqdm import tqdm

from ..data import WORLD, World
from ..diffusion.pipeline import FireEditPipeline
from . import summary
from .metrics import score_edit
from .scenes import Scenes, Settings, autoencoder_floor, batches, edit_scenes, to_arrays, to_tensor

HEAD = ("steps", "text", "image", "strict success", "relative error", "median", "outside change", "intact", "s/edit")


def sweep(
    pipe: FireEditPipeline, scenes: Scenes, steps: Sequence[int], text: Sequence[float], image: Sequence[float],
    batch: int = 16, world: World = WORLD,
) -> list[dict[str, Any]]:  # fmt: skip
    """Score every combination on the same scenes with the same noise.

    Returns:
        One row per combination: {"settings", "seconds_per_edit", "tables": {"edit": rows by type}}, as in `evaluate`.
    """
    grid = [Settings(*point).resolved(pipe) for point in itertools.product(steps, text, image)]
    scores: list[list] = [[] for _ in grid]
    seconds = [0.0] * len(grid)
    with tqdm(total=len(grid) * -(-len(scenes) // batch), unit="batch", desc="sweep") as bar:
        for rows in batches(scenes.draw(world), batch):
            indices, samples = [i for i, _ in rows], [s for _, s in rows]
            with torch.no_grad():  # the regions of a picture do not depend on the grid
                source = to_tensor([s.source for s in samples])
                regions = pipe.editor.detect(source)
                unedited = to_arrays(autoencoder_floor(pipe, source))
            for k, settings in enumerate(grid):
                begin = time.perf_counter()
                edits, found = edit_scenes(pipe, samples, indices, scenes.seed, settings, regions)
                seconds[k] += time.perf_counter() - begin
                for i, sample, edit, meant, plain in zip(indices, samples, to_arrays(edits), found, unedited, strict=True):
                    scores[k].append(score_edit(sample, edit, meant, i, plain))
                bar.update()
    return [
        {
            "settings": {"steps": s.steps, "text_guidance": s.text_guidance, "image_guidance": s.image_guidance},
            "seconds_per_edit": spent / len(own),
            "tables": {"edit": summary.by_type(own)},
        }
        for s, own, spent in zip(grid, scores, seconds, strict=True)
    ]


def sweep_report(rows: Sequence[dict[str, Any]], markdown: bool = False) -> str:
    """Overall numbers per combination, then relative error (strict success) by edit type."""
    table = summary.markdown_table if markdown else summary.text_table
    whole, kinds = [], list(rows[0]["tables"]["edit"])
    by_kind = []
    for row in rows:
        s, r = row["settings"], row["tables"]["edit"][summary.OVERALL]
        point = [str(s["steps"]), f"{s['text_guidance']:g}", f"{s['image_guidance']:g}"]
        whole.append([
            *point, summary.share(r["success"]), summary.number(r["relative_error"]), f"{r['relative_error']['median']:.3f}",
            summary.number(r["outside_change"], 4, False), summary.share(r["bystanders_intact"], False),
            f"{row['seconds_per_edit']:.3f}",
        ])  # fmt: skip
        tables = row["tables"]["edit"]
        cell = lambda t: f"{t['relative_error']['mean']:.3f} ({100 * t['success']['mean']:.0f} %)"  # noqa: E731
        by_kind.append([*point, *(cell(tables[k]) for k in kinds)])
    return f"{table(HEAD, whole)}\n\nrelative error (strict success):\n\n{table((*HEAD[:3], *kinds), by_kind)}"
