# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes of a FireEdit that trains a step in well under a second."""

from __future__ import annotations

import json
from pathlib import Path

from fireedit_core.checkpoints.bundle import load_components, save_bundle
from fireedit_core.data import WORLD, vocabulary
from fireedit_core.training.build import OPTIONS
from fireedit_core.training.tiny import TinyConfig, tiny_components

SIZES = TinyConfig(
    unet_widths=(96, 96), attention_levels=(False, True), unet_heads=2, context_size=32, hidden_size=64, language_layers=1,
    img_tokens=4, dino_size=32, dino_layers=3, dino_patch=16, clip_size=32, clip_layers=2, clip_patch=32, qformer_layers=1, heads=2,
)  # fmt: skip


def write_small_bundle(repo: Path, folder: Path, looks: int) -> Path:
    """A bundle of SIZES with the real autoencoder and detector, whose weights have had so many looks."""
    made = tiny_components(vocabulary(WORLD), SIZES)
    save_bundle(folder, made | load_components(repo / "models" / "fireedit-tiny", names=("vae", "detector")), OPTIONS)
    (folder / "training.json").write_text(json.dumps({"looks": looks}))
    return folder
