# SPDX-License-Identifier: GPL-3.0-or-later
"""How the authors of a benchmark make its edits, by name: size of the picture, scheduler, steps and guidance.

`magicbrush` is MagicBrush's edit_cli_single_multi_turn.py, which is InstructPix2Pix' edit_cli.py: the long side about 512, both sides
multiples of 64 (PIL's Lanczos, the overhang cut off), 100 steps of ancestral Euler, guidance 7.5 and 1.5; the edit is saved at that size
and a next turn starts there. Two things differ: the noise of an edit is a function of seed and name, where theirs is the same for all; and
sigmas between two timesteps are interpolated by diffusers, not by k-diffusion.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from diffusers import EulerAncestralDiscreteScheduler
from PIL import Image, ImageOps

from ...diffusion.pipeline import FireEditPipeline

OWN = "bundle"


@dataclass(frozen=True)
class Sampling:
    """Numbers of a way to sample.

    Attributes:
        fitted: the picture that the model gets, which is edited at its own size. schedule: gives the pipeline its scheduler.
    """

    steps: int
    text_guidance: float
    image_guidance: float
    fitted: Callable[[Image.Image], Image.Image]
    schedule: Callable[[FireEditPipeline], None]


def fitted_size(width: int, height: int, side: int = 512) -> tuple[int, int]:
    """(width, height) in multiples of 64: the short side rounded up from where the long side would be `side`, the long one rounded down."""
    short = min(width, height)
    # in this order, and with these roundings, as the script has it
    factor = math.ceil(short * (side / max(width, height)) / 64) * 64 / short
    return int((width * factor) // 64) * 64, int((height * factor) // 64) * 64


def fitted(picture: Image.Image) -> Image.Image:
    """An RGB picture at `fitted_size`, the middle of it where its shape differs."""
    return ImageOps.fit(picture, fitted_size(*picture.size), method=Image.Resampling.LANCZOS)


def ancestral_euler(pipe: FireEditPipeline) -> None:
    """Raises ValueError for a UNet that the scheduler cannot sample with."""
    kind = pipe.scheduler.config.prediction_type
    if kind not in ("epsilon", "v_prediction"):
        raise ValueError(f"--sampling magicbrush is ancestral Euler, and this bundle's UNet predicts {kind!r}: leave --sampling out")
    pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing="linspace")


SAMPLINGS: Mapping[str, Sampling | None] = {OWN: None, "magicbrush": Sampling(100, 7.5, 1.5, fitted, ancestral_euler)}
