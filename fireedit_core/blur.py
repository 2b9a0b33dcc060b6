# SPDX-License-Identifier: GPL-3.0-or-later
"""Gaussian blur with a choice of what lies beyond the edge; torchvision's always mirrors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian_blur(x: Tensor, sigma: float, beyond: str = "replicate") -> Tensor:
    """Blur pictures (B, C, H, W); the kernel reaches three standard deviations.

    Args:
        sigma: standard deviation in pixels. beyond: "constant" (zeros), "replicate" or "reflect".
    """
    radius = max(1, round(3 * sigma))
    kernel = torch.exp(-torch.arange(-radius, radius + 1, device=x.device).float().square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).to(x).expand(x.shape[1], 1, 1, -1)
    x = F.pad(x, (radius,) * 4, mode=beyond)
    x = F.conv2d(x, kernel, groups=x.shape[1])
    return F.conv2d(x, kernel.transpose(-1, -2), groups=x.shape[1])
