# SPDX-License-Identifier: GPL-3.0-or-later
"""A picture of what each of HVCA's tokens looks at: tokens that all look at the same are one token."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from ..data import WORLD, World
from ..diffusion.pipeline import FireEditPipeline
from .scenes import Scenes, to_tensor

CELL, GAP, LINE = 96, 4, 16


@torch.no_grad()
def token_maps(pipe: FireEditPipeline, images: Tensor, instructions: list[str]) -> Tensor:
    """How much each token looks at each place, (B, num_queries, h, w) on DINOv2's grid, summed over all levels of both towers;
    each token's map sums to 1."""
    editor, hvca = pipe.editor, pipe.hvca
    tokens = editor.tokenize(images, editor.detect(images))
    conditions = editor.condition(tokens, instructions)
    weights = hvca.attention(conditions.edit_embedding, tokens.features)
    grid = tokens.features.dino_grid
    maps, start = 0, 0
    cells = tokens.features.clip[-1].shape[1]
    towers = ((grid, hvca.config.dino_levels), ((round(cells**0.5),) * 2, hvca.config.clip_levels))
    for side, levels in towers:
        count = side[0] * side[1]
        for _ in levels:
            part = weights[..., start : start + count].unflatten(-1, side)
            start += count
            if side != grid:  # spread each cell's share over the finer cells that it covers
                part = F.interpolate(part, grid, mode="nearest") * (count / (grid[0] * grid[1]))
            maps = maps + part
    return maps


def picture(pipe: FireEditPipeline, scenes: Scenes, world: World = WORLD, columns: int = 8) -> Image.Image:
    """For each scene a row of its source and then the tokens' maps over it, brightest where a token looks most."""
    samples = [sample for _, sample in scenes.draw(world)]
    source = to_tensor([s.source for s in samples])
    maps = token_maps(pipe, source.to(pipe.device), [s.instruction for s in samples]).float().cpu()
    count = maps.shape[1]
    rows = -(-count // columns)
    height = LINE + rows * (CELL + GAP)
    canvas = Image.new("RGB", ((columns + 1) * (CELL + GAP), height * len(samples)), "white")
    pen = ImageDraw.Draw(canvas)
    for n, sample in enumerate(samples):
        top = n * height
        pen.text((2, top + 2), sample.instruction, fill="black")
        small = Image.fromarray(sample.source).resize((CELL, CELL), Image.Resampling.BICUBIC)
        canvas.paste(small, (0, top + LINE))
        grey = np.asarray(small.convert("L"), np.float32)[..., None] / 255
        for i in range(count):
            share = F.interpolate(maps[n, i][None, None], (CELL, CELL), mode="bilinear")[0, 0].numpy()
            share = (share / max(share.max(), 1e-9))[..., None]
            shown = (0.35 + 0.3 * grey) * (1 - share) + share * np.array([1.0, 0.55, 0.05], np.float32)
            tile = Image.fromarray((shown.clip(0, 1) * 255).astype(np.uint8))
            canvas.paste(tile, ((1 + i % columns) * (CELL + GAP), top + LINE + i // columns * (CELL + GAP)))
    return canvas
