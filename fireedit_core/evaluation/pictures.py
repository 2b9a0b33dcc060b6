# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures to look at: a sheet of edits that nobody chose, and the bundled pictures of the demo."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from ..data import EDIT_TYPES, WORLD, SceneGenerator, Sprites, World
from ..diffusion.pipeline import FireEditPipeline
from .metrics import score_edit
from .scenes import Scenes, Settings, autoencoder_floor, batches, edit_scenes, to_arrays, to_tensor

EXAMPLES = "examples.json"
SEARCH_LIMIT = 10_000


def sheet(
    pipe: FireEditPipeline, scenes: Scenes, settings: Settings | None = None, batch: int = 16, columns: int = 4,
    zoom: int = 1, world: World = WORLD,
) -> Image.Image:  # fmt: skip
    """source | edit | target with the instruction under each, scene 0 onwards, none left out.

    A line ends with the relative error; "+" marks a strict success, "x" a changed bystander.
    """
    settings = (settings or Settings()).resolved(pipe)
    side, gap, text = world.image_size * zoom, 2, 18
    wide, high = 3 * side + 2 * gap + 10, side + text + 6
    rows = -(-len(scenes) // columns)
    canvas = Image.new("RGB", (columns * wide, rows * high), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=11)
    place = 0
    for chunk in tqdm(batches(scenes.draw(world), batch), total=-(-len(scenes) // batch), unit="batch", desc="sheet"):
        indices, samples = [i for i, _ in chunk], [s for _, s in chunk]
        edits, _ = edit_scenes(pipe, samples, indices, scenes.seed, settings)
        unedited = to_arrays(autoencoder_floor(pipe, to_tensor([s.source for s in samples])))
        for sample, edit, plain in zip(samples, to_arrays(edits), unedited, strict=True):
            x, y = (place % columns) * wide, (place // columns) * high
            score = score_edit(sample, edit, unedited=plain)
            for k, picture in enumerate((sample.source, (edit * 255).round().astype(np.uint8), sample.target)):
                large = Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC if zoom > 1 else 0)
                canvas.paste(large, (x + k * (side + gap), y))
            marks = ("+" if score.success else "") + ("" if score.bystanders_intact else "x")
            pen.text((x + 2, y + side + 2), f"{sample.instruction}  {score.relative_error:.2f} {marks}", fill="black", font=font)
            place += 1
    return canvas


def write_demo_pictures(
    folder: str | Path, kinds: Sequence[str], split: str = "heldout", seed: int = 0, world: World = WORLD
) -> list[dict]:
    """Write `fireedit_<type>.png` for each edit type and `examples.json`.

    The rule: the scene of lowest index of that type in the split's own mixture. What comes out of it is not looked at, so
    the demo shows what the model does, and not its luckiest scene.

    Returns:
        [{"image", "instruction", "edit_type", "seed_index"}], in the order of EDIT_TYPES.
    """
    unknown = sorted(set(kinds) - set(EDIT_TYPES))
    if unknown or not kinds:
        raise ValueError(f"give one or more edit types of {', '.join(EDIT_TYPES)}; unknown: {unknown}")
    generator = SceneGenerator(world, Sprites.for_world(world), split, seed, masks=False)
    missing, found = set(kinds), {}
    for index in range(SEARCH_LIMIT):
        if not missing:
            break
        sample = generator.sample(index)
        if sample.edit_type in missing:
            missing.discard(sample.edit_type)
            found[sample.edit_type] = (index, sample)
    if missing:
        raise ValueError(f"no scene of {sorted(missing)} among the first {SEARCH_LIMIT} of {split}, seed {seed}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for kind in EDIT_TYPES:
        if kind not in found:
            continue
        index, sample = found[kind]
        Image.fromarray(sample.source).save(folder / f"fireedit_{kind}.png", optimize=True)
        records.append(
            {"image": f"fireedit_{kind}.png", "instruction": sample.instruction, "edit_type": kind, "seed_index": index}
        )
    (folder / EXAMPLES).write_text(json.dumps(records, indent=2) + "\n")
    return records
