# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes of a FireEdit that trains a step in well under a second."""

from fireedit_core.training.tiny import TinyConfig

SIZES = TinyConfig(
    unet_widths=(96, 96), attention_levels=(False, True), unet_heads=2, context_size=32, hidden_size=64, language_layers=1,
    img_tokens=4, dino_size=32, dino_layers=3, dino_patch=16, clip_size=32, clip_layers=2, clip_patch=32, qformer_layers=1, heads=2,
)  # fmt: skip
