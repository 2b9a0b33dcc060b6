# SPDX-License-Identifier: GPL-3.0-or-later
"""An InstructPix2Pix of the true classes, small and random, as diffusers and as the single files that people have."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, EulerAncestralDiscreteScheduler, StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from fireedit_core.checkpoints.sd15 import SCHEDULER
from tests.core.checkpoints import public_layouts as layouts
from tests.core.checkpoints.public_layouts import random_state, save, shapes_of

MERGES = ["r e", "b l", "bl u", "blu e</w>", "m a", "k e</w>", "ma ke</w>"]
ALPHABET = sorted(ByteLevel.alphabet())
VOCABULARY = [*ALPHABET, *(c + "</w>" for c in ALPHABET), *(m.replace(" ", "") for m in MERGES), "<|startoftext|>", "<|endoftext|>"]
CONFIG = replace(layouts.SMALL, text_vocabulary=len(VOCABULARY))


def write_tokenizer(folder: Path) -> Path:
    """vocab.json and merges.txt of CLIP's kind."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(VOCABULARY)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES]) + "\n")
    return folder


def pipeline(folder: Path) -> StableDiffusionInstructPix2PixPipeline:
    """diffusers' own pipeline; its tokenizer's files are written to `folder`."""
    parts = {
        "unet": UNet2DConditionModel(**CONFIG.settings("unet")), "vae": AutoencoderKL(**CONFIG.settings("vae")),
        "text_encoder": CONFIG.text_tower(),
    }  # fmt: skip
    for seed, part in enumerate(parts.values()):
        state = random_state(shapes_of({k: x for k, x in part.state_dict().items() if x.is_floating_point()}), seed)
        part.load_state_dict(state, strict=False)
        part.eval().requires_grad_(False)
    tokenizer = CLIPTokenizer.from_pretrained(str(write_tokenizer(folder)), model_max_length=CONFIG.queries, pad_token="<|endoftext|>")
    made = StableDiffusionInstructPix2PixPipeline(
        **parts, tokenizer=tokenizer, scheduler=EulerAncestralDiscreteScheduler(**SCHEDULER), safety_checker=None, feature_extractor=None,
        image_encoder=None, requires_safety_checker=False,
    )  # fmt: skip
    made.set_progress_bar_config(disable=True)
    return made


def single_file(pipe: StableDiffusionInstructPix2PixPipeline, path: Path) -> Path:
    """The same weights in the layout of timbrooks' and MagicBrush's files."""
    text = {k.removeprefix("text_model."): x for k, x in pipe.text_encoder.state_dict().items() if x.is_floating_point()}
    return save(path, layouts.single_file(pipe.unet.state_dict(), pipe.vae.state_dict(), text))


def picture(height: int = 64, width: int = 64) -> torch.Tensor:
    """(1, 3, H, W) in 0..1, smooth, so that latents are not noise."""
    small = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(4))
    return torch.nn.functional.interpolate(small, (height, width), mode="bicubic").clamp(0, 1)
