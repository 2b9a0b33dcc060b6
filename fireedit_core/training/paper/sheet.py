# SPDX-License-Identifier: GPL-3.0-or-later
"""source | edit | target | mask of the validation rows, as one picture."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ...data.sample import EditSample

GAP, LINE, FONT = 4, 14, 11


def sheet(samples: Sequence[EditSample], edits: Sequence[np.ndarray], masks: Sequence[np.ndarray], columns: int = 2) -> Image.Image:
    """Rows of four pictures with the dataset and the instruction under them.

    Args:
        edits: (H, W, 3) uint8 each, of the samples' size. masks: (H, W) in 0..1 each, where the model meant to edit.
    """
    side = max(max(s.source.shape[:2]) for s in samples)
    wide, high = 4 * (side + GAP) + 2 * GAP, side + 2 * LINE + 2 * GAP
    canvas = Image.new("RGB", (columns * wide, -(-len(samples) // columns) * high), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=FONT)
    for place, (sample, edit, mask) in enumerate(zip(samples, edits, masks, strict=True)):
        x, y = place % columns * wide + GAP, place // columns * high + GAP
        grey = np.repeat((np.clip(mask, 0, 1) * 255).round().astype(np.uint8)[..., None], 3, axis=2)
        target = sample.target if sample.target is not None else np.full_like(sample.source, 255)
        for k, picture in enumerate((sample.source, edit, target, grey)):
            canvas.paste(Image.fromarray(picture), (x + k * (side + GAP), y))
        said = ": ".join(filter(None, (sample.meta.get("source", ""), sample.instruction)))
        lines = textwrap.wrap(said, max(20, 4 * side // 6))[:2]
        for k, line in enumerate(lines):
            pen.text((x, y + side + 1 + k * LINE), line, fill="black", font=font)
    return canvas
