# SPDX-License-Identifier: GPL-3.0-or-later
"""What is behind a thing: another picture, a colour, a blur, nothing. The thing itself stays bit for bit where its alpha is 1."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..opencv import opencv
from .light import to_linear, to_srgb
from .paste import STRIP, blended, box_of, cut

BLUR = 0.018  # of the picture's longer side: radius of the circle that a point of the background becomes
_BLUR_PIXELS = 1_000_000  # a blurred picture holds no more than this can show
_WIDTHS = (91, 31, 11, 5, 3)  # px over which colours at a thing's edge are sought
_EDGE_PIXELS = 3_000_000  # the thing's colours at its edge are estimated on at most so many


def over(image: Tensor, alpha: Tensor, behind: Tensor, check: Callable[[], None] = lambda: None) -> Tensor:
    """The thing of a picture before something else, (3, H, W).

    Args:
        image, behind: (3, H, W) in 0..1. alpha: (H, W) in 0..1, the thing. check: called now and then; may raise to stop.
    """
    check()
    result = thing_colours(image, alpha)
    if result is image:
        result = image.clone()
    behind = behind.to(image)
    for top in range(0, alpha.shape[0], STRIP):
        rows = slice(top, top + STRIP)
        result[:, rows] = blended(behind[:, rows], result[:, rows], alpha[rows])
    return result


def cut_out(image: Tensor, alpha: Tensor) -> Tensor:
    """(4, H, W): the thing with alpha. Beyond the thing the picture's own values stay under an alpha of 0."""
    colours = torch.where(alpha <= 0, image, thing_colours(image, alpha))
    return torch.cat([colours, alpha[None].to(image)])


def cover(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """A picture (3, h, w) that covers `size` = (height, width), cut at two of its sides: never stretched."""
    height, width = size
    scale = max(height / picture.shape[1], width / picture.shape[2])
    inner = (max(height, round(picture.shape[1] * scale)), max(width, round(picture.shape[2] * scale)))
    if inner != tuple(picture.shape[1:]):
        picture = F.interpolate(picture[None].float(), inner, mode="bicubic", antialias=True, align_corners=False)[0].clamp(0, 1)
    top, left = (inner[0] - height) // 2, (inner[1] - width) // 2
    return picture[:, top : top + height, left : left + width]


def blurred(image: Tensor, alpha: Tensor, radius: float, check: Callable[[], None] = lambda: None) -> Tensor:
    """The background (3, H, W) out of focus, without the thing's colours.

    In linear light, where bright points become discs as in a lens. Behind the thing the blur takes what lies around it, further and
    further out, so that nothing of the thing shines into its surroundings.

    Args:
        alpha: (H, W) in 0..1, the thing. radius: px.
    """
    cv2 = opencv()
    height, width = image.shape[-2:]
    scale = min(1.0, math.sqrt(_BLUR_PIXELS / (height * width)), 12 / max(radius, 1e-6))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    shrink = lambda x: F.interpolate(x[None].float(), size, mode="area")[0] if scale < 1 else x.float()  # noqa: E731
    small, thing = to_linear(shrink(image)), shrink(alpha[None])
    # the thing's edge is mixed with it for some pixels more than alpha says
    reach = max(1, round(0.003 * max(size)))
    thing = F.max_pool2d(thing[None], 2 * reach + 1, 1, reach)[0]
    seen = (1 - thing).clamp(0, 1) ** 2
    check()
    light, weight = _to_numpy(small * seen), seen[0].cpu().numpy()
    disc = _disc(radius * scale)
    spread = lambda x: cv2.filter2D(x, -1, disc, borderType=cv2.BORDER_REFLECT_101)  # noqa: E731
    made, total = spread(light), spread(weight)
    # where the disc meets little of the background, what lies further out: wider and wider
    wide, sigma = None, 2.0 * radius * scale
    levels = []
    while sigma < 2 * max(size):
        levels.append(sigma)
        sigma *= 2.5
    for sigma in reversed(levels):
        check()
        around, count = _far(light, weight, sigma)
        trust = np.clip(count / 0.15, 0, 1)[..., None]
        value = around / np.maximum(count, 1e-4)[..., None]
        wide = value if wide is None else trust * value + (1 - trust) * wide
    if wide is not None:
        trust = np.clip(total / 0.25, 0, 1)[..., None]
        made = trust * made / np.maximum(total, 1e-4)[..., None] + (1 - trust) * wide
    result = to_srgb(torch.from_numpy(np.ascontiguousarray(made)).permute(2, 0, 1))
    if scale < 1:
        result = F.interpolate(result[None], (height, width), mode="bicubic", align_corners=False)[0].clamp_(0, 1)
    return result.to(image)


def thing_colours(image: Tensor, alpha: Tensor) -> Tensor:
    """The picture (3, H, W) with the thing's own colours, free of what was behind, where alpha (H, W) is between 0 and 1."""
    between = (alpha > 0) & (alpha < 1)
    if not bool(between.any()) or not bool((alpha >= 0.95).any()):
        return image
    box = box_of(between, 16)
    part, matte = cut(image, box).float().clamp(0, 1), cut(alpha, box).float()
    scale = min(1.0, math.sqrt(_EDGE_PIXELS / matte.numel()))
    size = (max(1, round(matte.shape[0] * scale)), max(1, round(matte.shape[1] * scale)))
    shrink = lambda x: F.interpolate(x[None], size, mode="area")[0] if scale < 1 else x  # noqa: E731
    colours = torch.from_numpy(_estimated(_to_numpy(shrink(part)), shrink(matte[None])[0].cpu().numpy())).permute(2, 0, 1)
    if scale < 1:
        colours = F.interpolate(colours[None], matte.shape, mode="bilinear", align_corners=False)[0]
    result = image.clone()
    into, between = cut(result, box), cut(between, box)
    for top in range(0, matte.shape[0], STRIP):
        rows = slice(top, top + STRIP)
        seen, rest, share = part[:, rows], 1 - matte[rows], matte[rows].clamp(min=1e-3)
        # what is behind has colours of 0..1 too, so at an alpha of .9 the thing's cannot be far from those that are seen
        own = torch.minimum(torch.maximum(colours[:, rows], (seen - rest) / share), seen / share).clamp(0, 1)
        into[:, rows] = torch.where(between[rows], own.to(image), into[:, rows])
    return result


def _estimated(picture: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours of the thing (h, w, 3) float32: blur fusion (Forte, Approximate Fast Foreground Colour Estimation, 2021), wide to narrow.

    What is seen is alpha of the thing's colour and the rest of that behind it. At each width both are weighted means around a pixel, then
    moved the shortest way at which their mixture is what is seen. On composites of photographs with edges of 2 px the error is .009, that
    of pymatting's multi-level estimate .011; two widths, and only the thing moved, as published: .017.
    """
    cv2 = opencv()
    share = alpha[..., None]
    power = share**2 + (1 - share) ** 2
    thing, behind = picture, picture
    for side in _WIDTHS:
        mean = lambda x: cv2.blur(x, (side, side), borderType=cv2.BORDER_REPLICATE)  # noqa: B023, E731
        thing = mean(thing * share) / (mean(alpha)[..., None] + 1e-5)
        behind = mean(behind * (1 - share)) / (mean(1 - alpha)[..., None] + 1e-5)
        missing = (picture - share * thing - (1 - share) * behind) / power
        thing, behind = (thing + share * missing).clip(0, 1), (behind + (1 - share) * missing).clip(0, 1)
    return thing


def _far(light: np.ndarray, weight: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """A wide blur, made small: light (h, w, 3) and weight (h, w)."""
    cv2 = opencv()
    factor = max(1.0, sigma / 4)
    size = (max(1, round(weight.shape[1] / factor)), max(1, round(weight.shape[0] / factor)))
    spread = lambda x: cv2.resize(  # noqa: E731
        cv2.GaussianBlur(cv2.resize(x, size, interpolation=cv2.INTER_AREA), (0, 0), sigma / factor, borderType=cv2.BORDER_REPLICATE),
        weight.shape[::-1], interpolation=cv2.INTER_LINEAR,
    )  # fmt: skip
    return spread(light), spread(weight)


def _disc(radius: float) -> np.ndarray:
    """A round kernel with a soft edge, of sum 1."""
    half = max(1, math.ceil(radius))
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    return kernel / max(float(kernel.sum()), 1e-6)


def _to_numpy(x: Tensor) -> np.ndarray:
    return np.ascontiguousarray(x.permute(1, 2, 0).cpu().numpy().astype(np.float32))
