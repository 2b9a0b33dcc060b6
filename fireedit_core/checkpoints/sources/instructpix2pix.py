# SPDX-License-Identifier: GPL-3.0-or-later
"""InstructPix2Pix and MagicBrush single files (LDM layout): UNet, autoencoder and CLIP(""); Stable Diffusion 1.5 widened.

Sources: timothybrooks/instruct-pix2pix (EMA, conv_in), OSU-NLP-Group/MagicBrush (same layout). The key map is diffusers' own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch.nn.functional as F
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint

from .fit import Found, Part, SourceError, fit, under
from .null_text import null_embedding
from .weight_files import open_weights

if TYPE_CHECKING:
    from ..sd15 import Sd15Config

UNET, EMA, VAE, TEXT = "model.diffusion_model.", "model_ema.", "first_stage_model.", "cond_stage_model.transformer.text_model."
ENOUGH_EMA = 100  # diffusers' own rule for a file that carries both
GET = (
    "Get instruct-pix2pix-00-22000.safetensors (timbrooks/instruct-pix2pix) or MagicBrush-epoch-52-step-4999.ckpt "
    "(OSU-NLP-Group/MagicBrush)."
)


def read(path: Path, config: Sd15Config) -> Found:
    """A single file -> `unet` (EMA weights where there are any), `vae`, and CLIP("") as `tati.null_embedding`.

    Raises:
        SourceError: for a UNet of another family, or with other input channels than 8 or 4.
    """
    tensors = open_weights(path)
    found = Found(path, tuple(tensors))
    found.parts["unet"] = _unet(tensors, path, config, found.notes.setdefault("unet", []))
    ldm = {k: x for k, x in tensors.items() if k.startswith(VAE) and ".loss." not in k}
    if ldm:
        converted = convert_ldm_vae_checkpoint(ldm, config.blank("vae").config)
        advice = f"Expected: Stable Diffusion 1's autoencoder (widths {config.vae_widths}, 4 latent channels). {GET}"
        found.parts["vae"] = fit(converted, config.shapes("vae"), path, "vae", advice)
    else:
        found.warnings.append(f"{path.name} has no autoencoder ({VAE}*); take the whole file, not a UNet alone.")
    if (null := null_embedding(under(tensors, TEXT), config)) is not None:
        found.parts["tati"] = {"null_embedding": null}
    return found


def _unet(tensors: Part, path: Path, config: Sd15Config, notes: list[str]) -> Part:
    ldm = {k: x for k, x in tensors.items() if k.startswith(UNET)}
    if not ldm:
        some = ", ".join(sorted(tensors)[:3])
        raise SourceError(f"{path} does not fit as unet: expected a single file with {UNET}* keys, came {some} ... {GET}")
    if sum(k.startswith(EMA) for k in tensors) > ENOUGH_EMA:
        # the average of training, which the reference samples with; its names are those of the UNet with the dots taken out
        ldm = {k: tensors.get(EMA + k.removeprefix("model.").replace(".", "")) for k in ldm}
        notes.append("EMA weights")
    inputs = lambda key: x.shape[1] if (x := ldm.get(UNET + key)) is not None else "unknown"  # noqa: E731
    channels, context = inputs("input_blocks.0.0.weight"), inputs("input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight")
    part = convert_ldm_unet_checkpoint(ldm, config.blank("unet").config)
    latent = config.latent_channels
    if channels == latent and context == config.context_size:
        part["conv_in.weight"] = part["conv_in.weight"].then(lambda x: F.pad(x, (0, 0, 0, 0, 0, latent)))
        notes.append(f"text-to-image UNet widened: input channels {latent}..{2 * latent - 1} are zero, editing must be trained")
    advice = (
        f"Came: a UNet with {channels} input channels and context width {context}; expected: {2 * latent} channels (source latent "
        f"beside the noisy one; {latent} are widened) and context {config.context_size}. {GET}"
    )
    return fit(part, config.shapes("unet"), path, "unet", advice)
