# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a mask may be trusted, 0..1, from the picture and the mask alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..opencv import bytes_of, opencv
from ..regions.suppression import box_iou
from .segmenter import bounds

_SIDE = 320  # the figure is read off a small picture
_REACH = 3  # small pixels on each side of the edge whose colours are compared
_CONTRAST = 12.0  # difference in Lab from which an edge of the mask lies on an edge of the picture


def quality_of(image: Tensor, mask: Tensor, box: Tensor, within: tuple[int, int, int, int] | None = None) -> float:
    """The product of two shares, 0..1: `edge` and `fit`.

    edge: the share of the mask's edge (without the photo's frame) on whose two sides the picture has different colours. fit: how well the
    box of the mask agrees with the box that was asked for (intersection over union). A box as a mask gets an `edge` that is low, a mask
    of half the thing a `fit` that is low. It is no probability.

    Args:
        image: (3, H, W) in 0..1. mask: (H, W) in 0..1. box: (4,) xyxy in pixels. within: see `bounds`.
    """
    corners = bounds(mask, within)
    if corners is None:
        return 0.0
    found = torch.tensor(corners, dtype=torch.float32)
    return edge_share(image, mask, found) * float(box_iou(found[None], box[None].float()))


def edge_share(image: Tensor, mask: Tensor, found: Tensor) -> float:
    """The share of the edge of a mask with the box `found` (4,) on whose two sides the picture has different colours."""
    cv2 = opencv()
    height, width = mask.shape
    room = max(float((found[2:] - found[:2]).max()) / 20, 8)
    left, top = max(int(found[0] - room), 0), max(int(found[1] - room), 0)
    right, bottom = min(int(found[2] + room), width), min(int(found[3] + room), height)
    ratio = min(_SIDE / max(right - left, bottom - top), 1.0)
    size = (max(round((bottom - top) * ratio), 1), max(round((right - left) * ratio), 1))
    lab = cv2.cvtColor(bytes_of(image, (left, top, right, bottom), size).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    part = mask[top:bottom, left:right].float().cpu().numpy()
    inside = cv2.resize(part, size[::-1], interpolation=cv2.INTER_AREA) > 0.5
    weight = inside.astype(np.float32)
    window = (2 * _REACH + 1, 2 * _REACH + 1)
    mean = lambda x: cv2.boxFilter(x, -1, window, normalize=False, borderType=cv2.BORDER_ISOLATED | cv2.BORDER_CONSTANT)  # noqa: E731
    counts = mean(weight), mean(1 - weight)
    edge = inside & (cv2.erode(weight, np.ones((3, 3)), borderType=cv2.BORDER_REPLICATE) < 0.5) & (counts[1] > 0)
    if not edge.any():
        return 0.0
    here = mean(lab * weight[..., None])[edge] / counts[0][edge][:, None]
    there = mean(lab * (1 - weight)[..., None])[edge] / counts[1][edge][:, None]
    return float((np.linalg.norm(here - there, axis=1) > _CONTRAST).mean())
