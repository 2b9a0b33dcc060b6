# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in for a CLIP and a VAE around the small edit models: they give and keep what their nodes need, and no more."""

from __future__ import annotations

import torch
from torch.nn import functional as F


class Encoder:
    """A CLIP: what it was told, and conditioning of the model's width."""

    def __init__(self, cond: list):
        self.cond, self.told = cond, []

    def tokenize(self, text, images=(), **_):
        self.told.append((text, [tuple(one.shape) for one in images]))
        return text

    def encode_from_tokens_scheduled(self, tokens):
        kept = {k: v for k, v in self.cond[0][1].items() if k in ("pooled_output", "attention_mask")}
        shift = float(sum(map(ord, tokens)) % 97) / 97
        return [[self.cond[0][0] + shift, kept]]


class CellVAE:
    """Means over cells as latents, one more axis for models of films.

    The detail of what was encoded comes back at decoding: to each latent that of the picture which most of its cells are like.
    """

    def __init__(self, channels: int, cell: int, film: bool):
        self.channels, self.cell, self.film, self.known, self.encoded = channels, cell, film, {}, []

    def spacial_compression_encode(self):
        return self.cell

    def encode(self, pixels):
        self.encoded.append(tuple(pixels.shape))
        rgb = pixels[..., :3].movedim(-1, 1)
        means = F.avg_pool2d(rgb, self.cell)
        self.known.setdefault(tuple(means.shape[-2:]), []).extend(zip(means, rgb - self._up(means), strict=True))
        latent = 2 * means.repeat(1, -(-self.channels // 3), 1, 1)[:, : self.channels] - 1
        return latent[:, :, None] if self.film else latent

    def decode(self, latent):
        means = ((latent[:, :3, 0] if latent.ndim == 5 else latent[:, :3]) + 1) / 2
        known = self.known[tuple(means.shape[-2:])]
        details = [min(known, key=lambda one: float((one[0] - row).abs().median()))[1] for row in means]  # noqa: B023
        return (self._up(means) + torch.stack(details)).clamp(0, 1).movedim(1, -1)

    def _up(self, means):
        return means.repeat_interleave(self.cell, -2).repeat_interleave(self.cell, -1)
