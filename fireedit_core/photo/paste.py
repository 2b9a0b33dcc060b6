# SPDX-License-Identifier: GPL-3.0-or-later
"""New pixels into a photograph within a mask: what the mask does not touch stays the photo's own, bit for bit."""

from __future__ import annotations

import torch
from torch import Tensor

Box = tuple[int, int, int, int]  # top, bottom, left, right, in whole pixels; bottom and right are the first beyond

STRIP = 256  # rows at a time: what a large photograph needs is then bounded by its width


def box_of(mask: Tensor, margin: int = 0) -> Box:
    """The smallest box around all of a mask (H, W) that is above 0, wider by `margin` pixels, inside the picture.

    Raises:
        ValueError: for a mask that is 0 everywhere.
    """
    marked = mask > 0
    rows, columns = marked.any(1).nonzero().flatten(), marked.any(0).nonzero().flatten()
    if not len(rows):
        raise ValueError("the mask is empty: it marks nothing of the picture.")
    height, width = mask.shape
    return (
        max(int(rows[0]) - margin, 0), min(int(rows[-1]) + 1 + margin, height),
        max(int(columns[0]) - margin, 0), min(int(columns[-1]) + 1 + margin, width),
    )  # fmt: skip


def cut(x: Tensor, box: Box) -> Tensor:
    """That part of (..., H, W); a view."""
    top, bottom, left, right = box
    return x[..., top:bottom, left:right]


def paste(image: Tensor, new: Tensor, alpha: Tensor, box: Box) -> Tensor:
    """A copy of a picture (C, H, W) with `new` blended in.

    Args:
        new: (C, h, w) for the box. alpha: (h, w) in 0..1 for the box; at 0 the picture's own values stay, at 1 they are those of `new`.
    """
    result = image.clone()
    into = cut(result, box)
    for top in range(0, alpha.shape[0], STRIP):
        rows = slice(top, top + STRIP)
        into[:, rows] = blended(into[:, rows], new[:, rows], alpha[rows])
    return result


def blended(under: Tensor, over: Tensor, alpha: Tensor) -> Tensor:
    """(C, h, w): `under` where alpha (h, w) is 0 and `over` where it is 1, both bit for bit, and a mixture between."""
    over, weight = over.to(under), alpha.to(under)
    mixed = under + weight * (over - under)
    return torch.where(alpha <= 0, under, torch.where(alpha >= 1, over, mixed))
