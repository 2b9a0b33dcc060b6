# SPDX-License-Identifier: GPL-3.0-or-later
"""Which mask a sampled latent was confined to, for the node that gives it out after sampling.

Samplers hand on a LATENT and nothing else of a run, and the host keeps and reuses it as it likes. So a mask is found again by the latent
itself: by a digest of each of its rows. That is right for two samplers on one MODEL, for rows taken out of a batch or put into another
one, and for results that the host took from its cache; a latent that was changed afterwards has none, which the node says.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

import torch
from torch import Tensor

MOST = 512  # masks that are kept, of a byte per latent cell: some 8 MB for pictures of a megapixel

_kept: OrderedDict[str, tuple[Tensor, int]] = OrderedDict()
_lock = threading.Lock()


def remember(latents: Tensor, masks: Tensor, cell: int) -> None:
    """Keep the masks (B or 1, h, w) in 0..1 that latents (B, C, ..., h, w) were confined to. cell: pixels per latent cell."""
    small = (masks.detach().float().clamp(0, 1) * 255).round().to("cpu", torch.uint8)
    with _lock:
        for row, name in enumerate(_digests(latents)):
            _kept[name] = (small[row % len(small)].clone(), cell)
            _kept.move_to_end(name)
        while len(_kept) > MOST:
            _kept.popitem(last=False)


def recall(latents: Tensor) -> tuple[Tensor, int] | list[int]:
    """Masks (B, h, w) in 0..1 of latents and the pixels per cell; or the numbers of the rows, from 0, of which nothing is known."""
    with _lock:
        found = [_kept.get(name) for name in _digests(latents)]
    missing = [row for row, one in enumerate(found) if one is None]
    if missing:
        return missing
    return torch.stack([mask for mask, _ in found]).float() / 255, found[0][1]


def _digests(latents: Tensor) -> list[str]:
    # half precision: hosts may keep values between nodes in it (--fp16-intermediates)
    rows = latents.detach().to("cpu", torch.float16).contiguous()
    return [hashlib.sha256(str(tuple(row.shape)).encode() + row.numpy().tobytes()).hexdigest() for row in rows]
