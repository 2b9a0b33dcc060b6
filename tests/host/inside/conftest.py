# SPDX-License-Identifier: GPL-3.0-or-later
"""One small bundle, loaded once, with the conditionings of two pictures."""

from __future__ import annotations

import pytest
import torch

from tests.host.inside.pack import nodes  # first: it makes the pack importable
from tests.host.small import INSTRUCTION, picture, shared_bundle


@pytest.fixture(scope="session", autouse=True)
def inference():
    with torch.inference_mode():  # as the host runs nodes
        yield


@pytest.fixture(scope="session")
def loaded():
    from fireedit_pack.nodes.host import models

    return models.load(shared_bundle(), "small")


@pytest.fixture(scope="session")
def tokens(loaded):
    """Two pictures and their region tokens."""
    handle = loaded[0]
    images = torch.stack([torch.from_numpy(picture(seed=i)).float() / 255 for i in range(2)])
    regions = nodes.FireEditRegionDetect.execute(handle, images, 0.15, 0.6, 100)[0]
    return images, nodes.FireEditRegionTokenize.execute(handle, images, regions)[0]


@pytest.fixture(scope="session")
def conds(loaded, tokens):
    """positive, image_only, negative, latent for two pictures."""
    handle, _, vae = loaded
    images, region_tokens = tokens
    return nodes.FireEditVLMConditioning.execute(handle, region_tokens, images, vae, INSTRUCTION, 0)
