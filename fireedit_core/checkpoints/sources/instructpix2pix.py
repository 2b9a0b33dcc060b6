# SPDX-License-Identifier: GPL-3.0-or-later
"""InstructPix2Pix and MagicBrush: UNet, autoencoder and CLIP's text tower; Stable Diffusion 1.5 widened.

Single files (LDM layout) as their authors published them, and folders in diffusers' layout.

Sources: timothybrooks/instruct-pix2pix (EMA, conv_in), OSU-NLP-Group/MagicBrush (same layout). The key map is diffusers' own.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch.nn.functional as F
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint

from .fit import Found, Part, SourceError, fit, under
from .null_text import text_parts
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
    """A single file or diffusers folder -> `unet` (EMA weights where there are any), `vae`, `text_encoder`, and CLIP("") as
    `tati.null_embedding`.

    Raises:
        SourceError: for a UNet of another family, or with other input channels than 8 or 4.
    """
    if (path / "unet").is_dir():
        return _read_folder(path, config)
    tensors = open_weights(path)
    found = Found(path, tuple(tensors))
    found.parts["unet"] = _unet(tensors, path, config, found.notes.setdefault("unet", []))
    ldm = {k: x for k, x in tensors.items() if k.startswith(VAE) and ".loss." not in k}
    if ldm:
        converted = convert_ldm_vae_checkpoint(ldm, config.blank("vae").config)
        found.parts["vae"] = fit(converted, config.shapes("vae"), path, "vae", _vae_advice(config))
    else:
        found.warnings.append(f"{path.name} has no autoencoder ({VAE}*); take the whole file, not a UNet alone.")
    found.parts |= text_parts(under(tensors, TEXT), config)
    return found


def _read_folder(path: Path, config: Sd15Config) -> Found:
    """The same of a folder with unet/, vae/ and text_encoder/, as diffusers writes it."""
    tensors = {name: open_weights(path / name) if (path / name).is_dir() else {} for name in ("unet", "vae", "text_encoder")}
    found = Found(path, tuple(f"{name}.{key}" for name, part in tensors.items() for key in part))
    # the origin of a tensor is the folder that was named, as for a single file
    own = {
        name: {k: replace(x, origins=frozenset({(path, f"{name}.{k}")})) for k, x in part.items()} for name, part in tensors.items()
    }
    found.parts["unet"] = _fitted_unet(own["unet"], path, config, found.notes.setdefault("unet", []))
    if own["vae"]:
        vae = {_vae_name(k): x for k, x in own["vae"].items()}
        found.parts["vae"] = fit(vae, config.shapes("vae"), path, "vae", _vae_advice(config))
    else:
        found.warnings.append(f"{path.name} has no autoencoder (vae/); copy the folder whole.")
    # transformers 5 leaves the prefix out
    text = {k.removeprefix("text_model."): x for k, x in own["text_encoder"].items()}
    found.parts |= text_parts(text, config)
    return found


def _vae_name(key: str) -> str:
    """The name of an autoencoder's tensor today; folders of 2022 name its attention otherwise."""
    for old, new in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")):
        key = key.replace(f".attentions.0.{old}.", f".attentions.0.{new}.")
    return key


def _vae_advice(config: Sd15Config) -> str:
    return f"Expected: Stable Diffusion 1's autoencoder (widths {config.vae_widths}, 4 latent channels). {GET}"


def _unet(tensors: Part, path: Path, config: Sd15Config, notes: list[str]) -> Part:
    ldm = {k: x for k, x in tensors.items() if k.startswith(UNET)}
    if not ldm:
        some = ", ".join(sorted(tensors)[:3])
        raise SourceError(f"{path} does not fit as unet: expected a single file with {UNET}* keys, came {some} ... {GET}")
    if sum(k.startswith(EMA) for k in tensors) > ENOUGH_EMA:
        # the average of training, which the reference samples with; its names are those of the UNet with the dots taken out
        ldm = {k: tensors.get(EMA + k.removeprefix("model.").replace(".", "")) for k in ldm}
        notes.append("EMA weights")
    return _fitted_unet(convert_ldm_unet_checkpoint(ldm, config.blank("unet").config), path, config, notes)


def _fitted_unet(part: Part, path: Path, config: Sd15Config, notes: list[str]) -> Part:
    """A UNet under diffusers' names, checked, and widened where it is a text-to-image one."""
    inputs = lambda key: x.shape[1] if (x := part.get(key)) is not None else "unknown"  # noqa: E731
    channels = inputs("conv_in.weight")
    context = inputs("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight")
    latent = config.latent_channels
    if channels == latent and context == config.context_size:
        part["conv_in.weight"] = part["conv_in.weight"].then(lambda x: F.pad(x, (0, 0, 0, 0, 0, latent)))
        notes.append(f"text-to-image UNet widened: input channels {latent}..{2 * latent - 1} are zero, editing must be trained")
    advice = (
        f"Came: a UNet with {channels} input channels and context width {context}; expected: {2 * latent} channels (source latent "
        f"beside the noisy one; {latent} are widened) and context {config.context_size}. {GET}"
    )
    return fit(part, config.shapes("unet"), path, "unet", advice)
