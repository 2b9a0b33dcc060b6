# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a picture is of the world that a bundle was trained on, by how well its autoencoder gives the picture back (design D16).

A small bundle is confidently wrong about pictures of another kind, and its scores do not show it. Its autoencoder does: it has learnt
the colours and shadings of its own world, and misses others even in the coarse. Fine detail tells less, since clean photographs of
smooth things have little of it.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

COARSE = 4  # pixels at working size over which both pictures are averaged before they are compared


def coarse_error(given_back: Tensor, pictures: Tensor) -> Tensor:
    """(B,) mean absolute difference on 0..1 of what the autoencoder made of pictures (B, 3, H, W) in 0..1, both averaged over 4 x 4."""
    coarse = lambda x: F.avg_pool2d(x.float().clamp(0, 1), COARSE, ceil_mode=True)  # noqa: E731
    return (coarse(given_back) - coarse(pictures)).abs().mean(dim=(1, 2, 3))


def foreign(errors: Tensor, limit: float) -> list[int]:
    """Which pictures of a batch are not of the bundle's world; none where the bundle states no limit (0)."""
    return [index for index, error in enumerate(errors.tolist()) if limit and not error <= limit]


def about_foreign(bundle: str, error: float, limit: float) -> str:
    """What a person is told of one such picture."""
    return (
        f"this picture is not of the kind that the bundle {bundle} was trained on (its autoencoder misses it by {error:.4f}, its own "
        f"pictures by less than {limit:.4f}): region, probability and edit are not to be trusted. For photographs take FireEdit Ground "
        "and FireEdit Quick Edit"
    )
