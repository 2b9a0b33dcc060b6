# SPDX-License-Identifier: GPL-3.0-or-later
"""The cases through the nodes, in the host's process."""

from __future__ import annotations

import functools

import numpy as np
import torch

from host_setup.inside_host import nodes  # first: it makes the host and the pack importable

from .cases import BUNDLE, Case, scene  # isort: skip
from fireedit_pack.nodes.host import models  # isort: skip


@functools.cache
def loaded() -> tuple:
    """FIREEDIT, MODEL, VAE of the embedded bundle."""
    return models.load(BUNDLE, BUNDLE.name)


def as_image(name: str) -> torch.Tensor:
    """A scene as an IMAGE (1, H, W, 3)."""
    return torch.from_numpy(np.array(scene(name))).float()[None] / 255


@torch.inference_mode()
def by_nodes(case: Case) -> tuple[np.ndarray, np.ndarray, list]:
    """Picture (H, W, 3), mask (H, W) and regions of an edit."""
    handle, model, vae = loaded()
    image = as_image(case.scene)
    regions = nodes.FireEditRegionDetect.execute(handle, image, 0.15, 0.6, 100)[0]
    tokens = nodes.FireEditRegionTokenize.execute(handle, image, regions)[0]
    positive, image_only, negative, _, mask, found = nodes.FireEditVLMConditioning.execute(
        handle, tokens, image, vae, case.instruction, case.working_size or 0, case.mask
    ).args
    patched = nodes.FireEditApply.execute(model, handle, *case.strengths, *case.window)[0]
    picture = nodes.FireEditSample.execute(
        patched, positive, image_only, negative, vae, image, case.seed, case.steps, "euler", "simple", case.text_guidance,
        case.image_guidance, case.nodes.get("denoise", 1.0), case.keep_outside, mask,
    )[1]  # fmt: skip
    return picture[0].cpu().numpy(), mask[0].cpu().numpy(), found[0]
