# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between diffusers' autoencoders: their scale, and what their `encode` returns. Loads no model library."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def latent_scale(vae: nn.Module) -> float:
    """Factor between the autoencoder's latents and those that the UNet denoises."""
    return float(vae.config.scaling_factor)


def latent_spread(out: Any) -> Tensor | None:
    """Standard deviation of the posterior in what a diffusers autoencoder's `encode` returns; None where it has none."""
    return out.latent_dist.std if hasattr(out, "latent_dist") else None


def latent_mode(out: Any) -> Tensor:
    """The latents in what a diffusers autoencoder's `encode` returns, without drawing from a posterior."""
    if hasattr(out, "latent_dist"):
        return out.latent_dist.mode()
    return out.latent if hasattr(out, "latent") else out.latents
