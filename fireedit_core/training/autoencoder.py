# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage 0: the autoencoder of a model that is trained from scratch (a full-scale bundle brings Stable Diffusion's)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderDC
from torch import Tensor

from ..data import SceneGenerator
from .loop import StageConfig, TrainingStage, to_tensor

logger = logging.getLogger("fireedit")


def make_autoencoder(
    latent_channels: int = 16, widths: tuple[int, ...] = (32, 32, 128, 128), layers: tuple[int, ...] = (0, 1, 2, 1)
) -> AutoencoderDC:
    """A small deep-compression autoencoder with factor 8.

    Its first layer folds 2x2 pixels into channels, so nothing runs at full resolution: on two CPU cores it encodes five
    times as many pictures per second as AutoencoderTiny with the same number of weights.
    """
    return AutoencoderDC(
        in_channels=3,
        latent_channels=latent_channels,
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        encoder_block_types="ResBlock",
        decoder_block_types="ResBlock",
        encoder_layers_per_block=layers,
        decoder_layers_per_block=layers,
        downsample_block_type="pixel_unshuffle",
        upsample_block_type="pixel_shuffle",
        encoder_qkv_multiscales=((),) * len(widths),
        decoder_qkv_multiscales=((),) * len(widths),
        scaling_factor=1.0,
    )


def reconstruction_loss(pictures: Tensor, out: Tensor, latent: Tensor) -> tuple[Tensor, dict]:
    """Pixel and gradient error of reconstructions (B, 3, H, W) in -1..1, plus a pull of each latent channel to N(0, 1).

    The pull makes the scaling factor 1 and keeps channels equally loud, which the diffusion stage needs.
    """
    out, pictures, latent = out.float(), pictures.float(), latent.float()
    error = out - pictures
    pixel = F.mse_loss(out, pictures) + 0.1 * error.abs().mean()
    edges = (error[..., 1:] - error[..., :-1]).abs().mean() + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    mean, std = latent.mean((0, 2, 3)), latent.std((0, 2, 3))
    unit = mean.square().mean() + (std - 1).square().mean() + 0.1 * F.relu(latent.abs() - 3).square().mean()
    mse = F.mse_loss(out.clamp(-1, 1), pictures) / 4
    return pixel + 0.1 * edges + 0.05 * unit, {"psnr": -10 * mse.log10(), "std": std.mean()}


def train_autoencoder(
    folder: Path | str, config: StageConfig, crop: int = 64, start: AutoencoderDC | None = None, frozen: Sequence[str] = ()
) -> AutoencoderDC:  # fmt: skip
    """Train on crops of scenes; returns the averaged weights. Resumes from `folder` if a state is there.

    Args:
        start: weights to go on from. frozen: "encoder" trains the decoder alone: latents stay what they are, and with them
            everything that was trained on them.
    """
    generator = SceneGenerator(split="train", seed=7, masks=False)
    model = (start or make_autoencoder()).to(memory_format=torch.channels_last).requires_grad_(True)
    if "encoder" in frozen:
        model.encoder.requires_grad_(False)

    def loss_fn(step: int, device: torch.device) -> tuple[Tensor, dict]:
        samples = [generator.sample(i) for i in stage.indices(step)]
        pictures = to_tensor(s.target if i % 2 else s.source for i, s in enumerate(samples))
        top, left = (int(v) for v in torch.randint(0, pictures.shape[-1] - crop + 1, (2,)))
        pictures = pictures[..., top : top + crop, left : left + crop].to(device) * 2 - 1
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        latent = stage.raw.encode(pictures).latent
        # the decoder meets sampled latents, which are never exact
        noisy = latent + 0.05 * torch.randn_like(latent)
        return reconstruction_loss(pictures, stage.raw.decode(noisy).sample, latent)

    def export(stage: TrainingStage) -> None:
        stage.raw.save_pretrained(stage.folder / "ema")
        held = SceneGenerator(split="validation", seed=0, masks=False)
        pictures = to_tensor(held.sample(i).source for i in range(64)) * 2 - 1
        out = stage.raw(pictures).sample.clamp(-1, 1)
        psnr = -10 * ((out - pictures).square().mean((1, 2, 3)) / 4).log10()
        latent = stage.raw.encode(pictures).latent
        change = (out - pictures).abs().mean() / 2
        logger.info(
            "autoencoder: %.2f dB on 64 validation scenes, mean absolute error %.4f, latent std %.3f",
            psnr.mean(),
            change,
            latent.std(),
        )
        save_pairs(stage.folder / "sheet.png", pictures[:8], out[:8])

    stage = TrainingStage("autoencoder", folder, model, config, loss_fn, export)
    stage.run()
    with stage.ema_weights():
        return AutoencoderDC.from_pretrained(stage.folder / "ema")


def save_pairs(path: Path, first: Tensor, second: Tensor) -> None:
    """Write two rows of pictures (B, 3, H, W) in -1..1 as one PNG."""
    from PIL import Image

    rows = torch.cat([torch.cat(list(x.float()), dim=-1) for x in (first, second)], dim=-2)
    array = ((rows.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(array).resize((array.shape[1] * 2, array.shape[0] * 2), Image.Resampling.NEAREST).save(path)
