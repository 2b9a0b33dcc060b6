# SPDX-License-Identifier: GPL-3.0-or-later
"""What a step remembers a picture by, so that a later step sees when it is given another one."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

SIDE = 16
# Mean difference of two thumbnails on 0..1 from which on they show other pictures. What a file's compression or a slight colour
# correction does stays below it.
OTHER_PICTURE = 0.04


def thumbnail(pictures: Tensor) -> Tensor:
    """(B, 3, 16, 16) on the CPU, of pictures (B, 3, H, W) in 0..1."""
    return F.adaptive_avg_pool2d(pictures.detach().float(), SIDE).cpu()


def same_picture(one: Tensor | None, two: Tensor | None) -> bool:
    """Whether two thumbnails are of the same pictures; what has none is taken to be."""
    if one is None or two is None or one.shape != two.shape:
        return True
    return bool(((one - two).abs().mean(dim=(1, 2, 3)) < OTHER_PICTURE).all())
