# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of what was seen: the regions of the detector, and where the edit will land."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .record import Regions

# From low to high score (cividis-like: told apart with colour-blind eyes too).
_LOW, _MIDDLE, _HIGH = (58, 96, 170), (214, 98, 58), (255, 222, 70)
_TINT = (255, 60, 160)


def draw_regions(
    image: Tensor,
    regions: Regions,
    grounding: Tensor | None = None,
    labels: bool = True,
    scores: bool = True,
    min_side: int = 512,
    tint_strength: float = 0.55,
) -> np.ndarray:
    """Boxes with number, label and score over a picture. The same input always gives the same pixels.

    Args:
        image: (H, W, 3) or (1, H, W, 3) float 0..1, the host's IMAGE, or (3, H, W) as in the core.
        regions: regions of this picture; box number i is index i of the record.
        grounding: optional mask (H, W) or (1, H, W) 0..1, tinted over the picture.
        labels, scores: what to write besides the number.
        min_side: a picture whose longer side is below this is enlarged by a whole factor until it is not, so that the
            writing can be read. 0 keeps the size.
        tint_strength: opacity of the tint where the mask is 1.

    Returns:
        (h, w, 3) uint8.

    Raises:
        ValueError: if the shapes do not fit, or the regions belong to a picture of another size.
    """
    pixels = _picture(image)
    height, width = pixels.shape[:2]
    regions.check_image((height, width))
    if grounding is not None:
        pixels = _tinted(pixels, grounding, tint_strength)
    factor = max(math.ceil(min_side / max(height, width)), 1)
    canvas = Image.fromarray((pixels * 255).round().astype(np.uint8))
    if factor > 1:
        canvas = canvas.resize((width * factor, height * factor), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(canvas)
    side = max(canvas.size)
    line = max(round(side / 256), 1)
    font = ImageFont.load_default(size=max(round(side / 36), 10))
    # Low scores first, so that the important boxes lie on top; numbers stay those of the record.
    order = torch.argsort(regions.scores, stable=True).tolist()
    corners = (regions.boxes * factor).round().int().tolist()
    for i in order:
        x1, y1, x2, y2 = corners[i]
        box = (x1, y1, max(x2 - 1, x1), max(y2 - 1, y1))
        colour = _colour(float(regions.scores[i]))
        pen.rectangle([box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1], outline=(0, 0, 0), width=line + 2)
        pen.rectangle(box, outline=colour, width=line)
    for i in order:
        words = [str(i)]
        if labels and regions.labels[i]:
            words.append(regions.labels[i])
        if scores:
            words.append(f"{float(regions.scores[i]):.2f}")
        _tag(pen, canvas.size, corners[i], " ".join(words), _colour(float(regions.scores[i])), font, line)
    return np.asarray(canvas)


def draw_heat_map(image: Tensor, heat: Tensor, opacity: float = 0.7, min_side: int = 512) -> np.ndarray:
    """A mask as colours over a picture, blue (0) over orange (one half) to yellow (1), with the scale at the right.

    The picture is grey underneath, so that no colour of its own is mistaken for one of the map.

    Args:
        image: one picture, as in `draw_regions`.
        heat: (H, W) or (1, H, W) in 0..1; another size is scaled.
        opacity: of the colours, 0..1.
        min_side: as in `draw_regions`.

    Returns:
        (h, w + w // 16 or so, 3) uint8.

    Raises:
        ValueError: if the shapes do not fit.
    """
    pixels = _picture(image)
    height, width = pixels.shape[:2]
    values = _mask_of(heat, (height, width), "draw_heat_map").clamp(0, 1).numpy()
    grey = (pixels @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    mixed = grey * (1 - opacity) + _COLOURS[(values * 255).round().astype(int)] / 255 * opacity
    factor = max(math.ceil(min_side / max(height, width)), 1)
    canvas = Image.fromarray((mixed * 255).round().astype(np.uint8))
    if factor > 1:
        canvas = canvas.resize((width * factor, height * factor), Image.Resampling.BICUBIC)
    return np.concatenate([np.asarray(canvas), _scale(canvas.height, max(canvas.width // 12, 4))], axis=1)


def _scale(height: int, width: int) -> np.ndarray:
    """The bar that says which colour is which value, 1 at the top."""
    steps = _COLOURS[np.linspace(255, 0, height).round().astype(int)].astype(np.uint8)
    bar = Image.fromarray(np.repeat(steps[:, None], width, axis=1))
    pen, size = ImageDraw.Draw(bar), max(width // 3, 8)
    font = ImageFont.load_default(size=size)
    for value in (1.0, 0.5, 0.0):
        text, y = f"{value:g}", (1 - value) * (height - 1)
        anchor = {1.0: "ma", 0.5: "mm", 0.0: "md"}[value]
        pen.text((width / 2, y), text, font=font, anchor=anchor, fill=(255, 255, 255) if value < 0.75 else (0, 0, 0))
    return np.asarray(bar)


def _tag(pen, size, box, text, colour, font, pad) -> None:  # noqa: ANN001 (Pillow's objects)
    """A label above the box, or inside it where the picture ends, always wholly visible if it fits at all."""
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    wide, high = right - left + 2 * pad + 2, bottom - top + 2 * pad + 2
    x = min(max(box[0] - 1, 0), max(size[0] - wide, 0))
    y = box[1] - high if box[1] >= high else min(max(box[1], 0), max(size[1] - high, 0))
    pen.rectangle([x, y, x + wide - 1, y + high - 1], fill=colour)
    bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
    pen.text((x + pad + 1 - left, y + pad + 1 - top), text, fill=(0, 0, 0) if bright else (255, 255, 255), font=font)


def _colour(score: float) -> tuple[int, int, int]:
    score = min(max(score, 0.0), 1.0)
    low, high, share = (_LOW, _MIDDLE, score * 2) if score < 0.5 else (_MIDDLE, _HIGH, score * 2 - 1)
    return tuple(round(a + (b - a) * share) for a, b in zip(low, high, strict=True))


def _picture(image: Tensor) -> np.ndarray:
    picture = image[0] if image.ndim == 4 and image.shape[0] == 1 else image
    if picture.ndim == 3 and picture.shape[-1] != 3 and picture.shape[0] == 3:
        picture = picture.permute(1, 2, 0)
    if picture.ndim != 3 or picture.shape[-1] != 3:
        raise ValueError(f"draw_regions: expected one picture (H, W, 3) float 0..1, got {tuple(image.shape)}.")
    return picture.detach().float().clamp(0, 1).cpu().numpy()


def _tinted(pixels: np.ndarray, grounding: Tensor, strength: float) -> np.ndarray:
    share = (_mask_of(grounding, pixels.shape[:2], "draw_regions").clamp(0, 1) * strength).numpy()[..., None]
    # The tint keeps the picture's light and dark, so that the object under it stays recognisable.
    shade = pixels.mean(axis=-1, keepdims=True) * 0.6 + 0.4
    return pixels * (1 - share) + shade * (np.array(_TINT, np.float32) / 255) * share


def _mask_of(value: Tensor, size: tuple[int, int], caller: str) -> Tensor:
    """One mask (H, W) of that size, on the CPU."""
    mask = value.detach().float().cpu()
    if mask.ndim not in (2, 3) or (mask.ndim == 3 and mask.shape[0] != 1):
        raise ValueError(f"{caller}: expected one mask (H, W) 0..1, got {tuple(value.shape)}.")
    mask = mask.reshape(1, 1, *mask.shape[-2:])
    if tuple(mask.shape[-2:]) != tuple(size):
        mask = F.interpolate(mask, size=size, mode="bilinear", align_corners=False)
    return mask[0, 0]


_COLOURS = np.array([_colour(i / 255) for i in range(256)], np.float32)
