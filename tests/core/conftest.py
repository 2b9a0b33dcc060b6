# SPDX-License-Identifier: GPL-3.0-or-later
"""A tiny random bundle that every core test may use: the whole method with numbers so small that an edit takes 0.1 s."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

DETECTOR = Path(__file__).resolve().parents[2] / "models" / "fireedit-tiny" / "detector"
WORDS = "remove the apple left right make it red cat dog bigger replace with a".split()


@pytest.fixture(scope="session")
def tiny_parts() -> dict[str, Any]:
    """Fresh random components, in evaluation mode. Tests must not change them: copy first.

    Fresh weights hide much: zero-initialised layers switch TATI's time and the visual attention off, and the identity
    start makes every edit the source. So these are stirred until each module really works.
    """
    from fireedit_core.regions.loading import load_region_detector
    from fireedit_core.regions.ultralytics_version import ultralytics_available
    from fireedit_core.training.autoencoder import make_autoencoder
    from fireedit_core.training.tiny import TinyConfig, tiny_components

    if not ultralytics_available():
        pytest.skip("needs ultralytics")
    config = TinyConfig(
        image_size=64, latent_channels=4, unet_widths=(96, 96), attention_levels=(False, True), unet_heads=2, context_size=32,
        hidden_size=64, language_layers=2, img_tokens=4, dino_size=32, dino_layers=3, clip_size=32, clip_layers=2, qformer_layers=2,
    )  # fmt: skip
    parts = tiny_components(WORDS, config, seed=1)
    torch.manual_seed(2)
    parts["vae"] = make_autoencoder(4, (16, 16, 32, 32), (0, 1, 1, 1))
    for name, part in parts.items():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
            if name in ("tati", "visual_attention", "hvca"):
                for weight in part.parameters():
                    weight.add_(0.05 * torch.randn_like(weight))
    parts["detector"] = load_region_detector(DETECTOR).eval().requires_grad_(False)
    return parts


@pytest.fixture(scope="session")
def tiny_options() -> dict[str, Any]:
    """The options that `tiny_bundle` is written with; no value is a default, so that a lost one shows."""
    sampling = {"text_guidance": 3.0, "image_guidance": 1.25, "steps": 3}
    return sampling | {"native_size": 64, "source_latent_scaled": True, "reconstruction_limit": 0.5}


@pytest.fixture(scope="session")
def tiny_bundle(tiny_parts, tiny_options, tmp_path_factory) -> Path:
    """A complete bundle folder (float16). Tests must not change it: copy first."""
    from fireedit_core.checkpoints.bundle import save_bundle

    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    save_bundle(folder, tiny_parts, tiny_options)
    return folder


@pytest.fixture(scope="session")
def tiny_pipe(tiny_bundle):
    """The pipeline over `tiny_bundle`, in float32."""
    from fireedit_core.diffusion.pipeline import FireEditPipeline

    pipe = FireEditPipeline.from_pretrained(tiny_bundle)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def picture():
    """A seeded smooth random picture: `picture(height, width, seed=0)` -> PIL."""
    from PIL import Image

    def make(height: int, width: int, seed: int = 0) -> Image.Image:
        noise = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
        smooth = torch.nn.functional.interpolate(noise, (height, width), mode="bilinear")[0]
        return Image.fromarray((smooth * 255).byte().permute(1, 2, 0).contiguous().numpy())

    return make
