# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's VAE around a bundle's diffusers autoencoder of any kind."""

from __future__ import annotations

import logging

import comfy.latent_formats
import comfy.model_management as management
import comfy.sd
import torch
import torch.nn.functional as F
from comfy.taesd.taesd import TAESD
from torch import Tensor, nn

from fireedit_core.checkpoints.index import BundleError
from fireedit_core.diffusion.latents import latent_mode, latent_scale

from .whole_patcher import WholePatcher

logger = logging.getLogger("fireedit")

CELL = 8  # pixels per latent cell, which the working size and the compositing count on


class AutoencoderAdapter(nn.Module):
    """What the host expects of a `first_stage_model`: pictures (B, 3, H, W) in -1..1 <-> unscaled latents."""

    def __init__(self, autoencoder: nn.Module):
        super().__init__()
        self.autoencoder = autoencoder

    def encode(self, pictures: Tensor) -> Tensor:
        """Latents (B, C, H/8, W/8): the posterior mode, or the code of a deterministic autoencoder."""
        return latent_mode(self.autoencoder.encode(pictures))

    def decode(self, latents: Tensor, **_) -> Tensor:
        """Pictures (B, 3, H, W) in -1..1."""
        return self.autoencoder.decode(latents).sample


def to_unit_range(pictures: Tensor) -> Tensor:
    """Pictures in -1..1 brought to 0..1, in place *and* as the result.

    Hosts until 2026-02 take what comes back; newer ones (ComfyUI PR 13028) call it for what it does to its argument and drop what
    comes back. A hook that does only one of the two makes every picture wrong on the other kind, without a message.
    """
    return pictures.add_(1.0).div_(2.0).clamp_(0.0, 1.0)


class BundleVAE(comfy.sd.VAE):
    """VAE of a bundle for Load/Encode/Decode and tiled nodes of the host.

    The host builds VAEs from state dicts that it recognises. Here it first builds the smallest one that it knows (TAESD,
    with as many latent channels), so that every attribute a host version may want is there; then ours takes its place.
    """

    def __init__(self, autoencoder: nn.Module):
        channels = int(autoencoder.config.latent_channels)
        super().__init__(sd=TAESD(latent_channels=channels).state_dict())
        self.first_stage_model = AutoencoderAdapter(autoencoder).eval()
        self.latent_channels = channels
        self.downscale_ratio = self.upscale_ratio = CELL
        width = _first_width(autoencoder) / 128  # of Stable Diffusion's, for which the host's estimates were measured
        size = management.dtype_size
        self.memory_used_encode = lambda shape, dtype: 1767 * width * shape[2] * shape[3] * size(dtype)
        self.memory_used_decode = lambda shape, dtype: 2178 * width * shape[2] * shape[3] * CELL**2 * size(dtype)
        self.process_input = lambda image: image * 2.0 - 1.0
        self.process_output = to_unit_range
        self.working_dtypes = [torch.bfloat16, torch.float32]
        self.vae_dtype = management.vae_dtype(self.device, self.working_dtypes)
        offload = management.vae_offload_device()
        self.first_stage_model.to(device=offload, dtype=self.vae_dtype)
        self.patcher = WholePatcher(self.first_stage_model, load_device=self.device, offload_device=offload)
        self.size = None
        self.model_size()
        self.latent_format = latent_format(self, latent_scale(autoencoder))


class BundleLatents(comfy.latent_formats.LatentFormat):
    """Latents of a bundle's autoencoder: their scale, and how to preview them without decoding."""

    def __init__(self, channels: int, scale: float, factors: list | None, bias: list | None):
        self.latent_channels = channels
        self.scale_factor = scale
        self.latent_rgb_factors = factors
        self.latent_rgb_factors_bias = bias


@torch.no_grad()
def latent_format(vae: BundleVAE, scale: float) -> comfy.latent_formats.LatentFormat:
    """The latent format of a bundle; Stable Diffusion's own where it is that.

    For any other the preview's map from latent to colour is fitted here, on a picture of soft random colours.
    """
    if vae.latent_channels == 4 and abs(scale - 0.18215) < 1e-6:
        return comfy.latent_formats.SD15(scale)
    noise = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    picture = F.interpolate(noise, (192, 192), mode="bicubic", antialias=True).clamp(0, 1)
    module = vae.first_stage_model
    device = next(module.parameters()).device
    latent = module.encode((picture * 2 - 1).to(device, vae.vae_dtype)).float().cpu() * scale
    if latent.shape[-2:] != (192 // CELL, 192 // CELL):
        raise BundleError(
            f"its autoencoder makes {192 / latent.shape[-1]:g} pixels per latent cell; FireEdit works with {CELL}. Use a bundle "
            f"with an f{CELL} autoencoder."
        )
    rows = latent[0].flatten(1).T
    wanted = F.adaptive_avg_pool2d(picture * 2 - 1, latent.shape[-2:])[0].flatten(1).T
    # a little ridge, so that an untrained autoencoder gives dull previews and no error
    design = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
    gram = design.T @ design + 1e-3 * len(rows) * torch.eye(design.shape[1])
    solution = torch.linalg.solve(gram, design.T @ wanted).nan_to_num()
    return BundleLatents(vae.latent_channels, scale, solution[:-1].tolist(), solution[-1].tolist())


def _first_width(autoencoder: nn.Module) -> int:
    config = autoencoder.config
    for name in ("block_out_channels", "decoder_block_out_channels"):
        if config.get(name):
            return int(config[name][0])
    return 128
