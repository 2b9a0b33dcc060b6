# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove a thing: the hole is filled with what lies around it. PatchMatch (Barnes et al. 2009) where it is installed, else OpenCV.

No model guesses what was behind the thing: where something of its own kind would have to be there, the report says that it is a guess.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..opencv import opencv
from .detail import with_detail
from .hole import find_hole
from .paste import box_of, cut, paste

logger = logging.getLogger("fireedit")

LARGE = 0.25  # of the picture: a hole of more than this is filled by guessing
# Of a hole's border: more than this crossed by edges of other things. On nine holes .32 to .44 where people stood before a bus or
# another person, .01 to .12 before wood, sky, wall and blur.
_CROSSED = 0.2
_EDGE = 10  # of Lab (8 bits): a change along the border of that much, over 3 % of the hole's size, is an edge
_CONTEXT = 0.7  # of the hole's longer side: how much of the picture around it is looked at
_CROP_PIXELS, _HOLE_PIXELS = 600_000, 110_000  # work at most on so many; what is larger is made smaller, and its texture borrowed
_PATCH = 3  # px, radius


@dataclass(frozen=True)
class Filled:
    """A picture without the thing.

    Attributes:
        image: (3, H, W). alpha: (H, W) in 0..1, what of it is new. way: what filled it. guesses: why the fill is a guess, in words; may be
        empty. grown: px by which the mask was grown. rim: area of shadows and leftovers taken with it, over the thing's area.
    """

    image: Tensor
    alpha: Tensor
    way: str
    guesses: tuple[str, ...]
    grown: int
    rim: float


def fill(image: Tensor, mask: Tensor, avoid: Tensor | None = None, check: Callable[[], None] = lambda: None) -> Filled:
    """Remove what lies under a mask.

    Args:
        image: (3, H, W) in 0..1. mask: (H, W) in 0..1, the thing. avoid: (H, W) in 0..1, other things: they stay, and nothing is copied
        from them. check: called now and then; may raise to stop.

    Raises:
        ValueError: for a mask that is 0 everywhere, or that leaves nothing of the picture to fill from.
    """
    cv2 = opencv()
    thing = box_of(mask > 0.06)
    longer = max(thing[1] - thing[0], thing[3] - thing[2])
    box = box_of(mask > 0.06, max(48, round(_CONTEXT * longer)))
    full = cv2.merge([channel.numpy() for channel in cut(image, box).float().clamp(0, 1).cpu()])
    others = None if avoid is None else cut(avoid, box).cpu().numpy() > 0.5
    small = _bytes(full)
    hole = find_hole(small, cut(mask, box).float().cpu().numpy(), others)
    known = ~hole.mask if others is None else ~(hole.mask | others)
    if known.sum() < 64:
        raise ValueError(
            f"the mask leaves nothing of the picture to fill from: it covers {float((mask > 0.5).float().mean()):.0%}, its rim and other "
            "things the rest. Mark only the thing that is to go; where it fills the picture, an edit model must make up what is behind it."
        )
    check()
    scale = min(1.0, math.sqrt(_CROP_PIXELS / hole.mask.size), math.sqrt(_HOLE_PIXELS / max(int(hole.mask.sum()), 1)))
    small_hole, small_others = hole.mask, others
    if scale < 1:
        size = (max(1, round(full.shape[1] * scale)), max(1, round(full.shape[0] * scale)))
        small = cv2.resize(small, size, interpolation=cv2.INTER_AREA)
        small_hole = _shrunk(hole.mask, size)
        small_others = None if others is None else _shrunk(others, size) & ~small_hole
    way, made = _filled(small, small_hole, small_others)
    check()
    new = made.astype(np.float32) / 255
    if scale < 1:
        new = cv2.resize(new, full.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        unfit = small_hole if small_others is None else small_hole | small_others
        new = with_detail(new, made, unfit, full)
    del full
    check()
    inner = cv2.distanceTransform(np.pad(hole.mask, 1, mode="edge").astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    part = torch.from_numpy(np.clip(inner / (hole.feather + 1), 0, 1).astype(np.float32)).to(image.device)
    alpha = torch.zeros(image.shape[-2:], dtype=torch.float32, device=image.device)
    cut(alpha, box).copy_(part)
    pixels = torch.from_numpy(np.clip(new, 0, 1, out=new)).permute(2, 0, 1).to(image)
    guesses = _guesses(float(hole.mask.sum()) / mask.numel(), made, small_hole)
    return Filled(paste(image, pixels, part, box), alpha, way, guesses, hole.grown, hole.rim)


@functools.cache
def _patchmatch():
    """The library, or None with one line in the log."""
    try:
        import patchmatch
    except ImportError:
        patchmatch = None
    if patchmatch is None or not patchmatch.patchmatch_available:
        logger.info("pypatchmatch is not installed: OpenCV fills instead, which smears texture. Better: pip install pypatchmatch")
        return None
    return patchmatch


def _filled(picture: np.ndarray, hole: np.ndarray, avoid: np.ndarray | None) -> tuple[str, np.ndarray]:
    """Name of the way, and the picture (h, w, 3) uint8 without the hole."""
    cv2 = opencv()
    library = _patchmatch()
    if library is None or min(hole.shape) < 2 * (2 * _PATCH + 1):
        return "OpenCV (Telea)", cv2.inpaint(picture, hole.astype(np.uint8), 5, cv2.INPAINT_TELEA)
    library.set_random_seed(0)
    more = {} if avoid is None or not (avoid & ~hole).any() else {"global_mask": avoid & ~hole}
    return "PatchMatch", library.inpaint(picture, hole, patch_size=_PATCH, **more)


def _guesses(share: float, picture: np.ndarray, hole: np.ndarray) -> tuple[str, ...]:
    """Why a fill would be a guess, in words."""
    said = []
    if share > LARGE:
        said.append(f"the hole is {share:.0%} of the picture")
    if _edges_into(picture, hole) > _CROSSED:
        said.append("edges of other things run into it, and how they go on behind it is not known")
    return tuple(said)


def _edges_into(picture: np.ndarray, hole: np.ndarray) -> float:
    """The share of the hole's border, 0..1, across which edges of other things run into it; fine texture does not count."""
    cv2 = opencv()
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(np.float32)
    known = (~hole).astype(np.float32)
    width = max(1.5, 0.03 * math.sqrt(float(hole.sum())))
    blur = lambda x: cv2.GaussianBlur(x, (0, 0), width)  # noqa: E731
    lab = blur(lab * known[..., None]) / np.maximum(blur(known), 1e-3)[..., None]
    away = cv2.distanceTransform((~hole).astype(np.uint8), cv2.DIST_L2, 5)
    beside = (away > width) & (away <= width + 2)
    if beside.sum() < 20:
        return 0.0
    slope = lambda x: np.stack([cv2.Sobel(x, cv2.CV_32F, 1, 0, ksize=3), cv2.Sobel(x, cv2.CV_32F, 0, 1, ksize=3)]) / 8  # noqa: E731
    (across_x, across_y), (x, y) = slope(away), slope(lab)
    length = np.hypot(across_x, across_y) + 1e-6
    along = (y * (across_x / length)[..., None] - x * (across_y / length)[..., None])[beside]
    return float((np.linalg.norm(along, axis=-1) * width > _EDGE).mean())


def _shrunk(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """All that a mask touches, at (width, height)."""
    cv2 = opencv()
    return cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.01


def _bytes(picture: np.ndarray) -> np.ndarray:
    cv2 = opencv()
    return cv2.convertScaleAbs(picture, alpha=255)


