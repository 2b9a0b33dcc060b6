# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's sheet: source | regions | edit, one row per picture, large enough to be looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PANEL, GAP, TITLE, HEAD = 352, 10, 40, 34
INK, PAPER, FAINT = (24, 24, 28), (255, 255, 255), (110, 110, 118)
COLUMNS = ("source", "where the edit will land", "edit")


def draw_sheet(rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, str]]) -> Image.Image:
    """Rows of (source, regions overlay, edit, instruction); pictures (H, W, 3) uint8 of any size.

    Small pictures are enlarged and large ones shrunk until the longer side fills its panel.
    """
    # the overlay may be enlarged already; all panels of a row get the source's shape
    heights = [_fitted(row[0])[1] for row in rows]
    width = 3 * PANEL + 4 * GAP
    canvas = Image.new("RGB", (width, HEAD + sum(h + TITLE + GAP for h in heights) + GAP), PAPER)
    pen = ImageDraw.Draw(canvas)
    small, large = ImageFont.load_default(size=16), ImageFont.load_default(size=22)
    for k, name in enumerate(COLUMNS):
        pen.text((GAP + k * (PANEL + GAP), 10), name, fill=FAINT, font=small)
    y = HEAD
    for (*pictures, instruction), height in zip(rows, heights, strict=True):
        pen.text((GAP, y + 6), _shortened(instruction, large, width - 2 * GAP), fill=INK, font=large)
        size = _fitted(pictures[0])
        for k, picture in enumerate(pictures):
            panel = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
            canvas.paste(panel, (GAP + k * (PANEL + GAP) + (PANEL - size[0]) // 2, y + TITLE))
        y += height + TITLE + GAP
    return canvas


def _fitted(picture: np.ndarray) -> tuple[int, int]:
    """(width, height) of a picture in its panel."""
    height, width = picture.shape[:2]
    scale = PANEL / max(height, width)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _shortened(text: str, font: ImageFont.FreeTypeFont, room: int) -> str:
    text = " ".join(text.split())
    while font.getlength(text) > room:
        text = text[:-2].rstrip() + "…"
    return text
