# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes over the embedded bundle give what is written down."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.host.inside.pack import nodes  # first: it makes the pack importable

from tests.golden.by_nodes import as_image, by_nodes, loaded  # isort: skip
from tests.golden.cases import CASES, NODES_ONLY, TURNS, check  # isort: skip


@pytest.mark.parametrize("name", [*CASES, *NODES_ONLY])
def test_an_edit(name):
    check(name, *by_nodes((CASES | NODES_ONLY)[name]))


def test_multi_turn():
    handle, model, vae = loaded()
    patched = nodes.FireEditApply.execute(model, handle, 1.0, 1.0, 0.0, 1.0)[0]
    first, second = TURNS.values()
    every = nodes.FireEditMultiTurn.execute(
        handle, patched, vae, as_image(first.scene), f"{first.instruction}\n{second.instruction}", first.seed, first.steps, "euler",
        "simple", first.text_guidance, first.image_guidance, first.keep_outside, 0.15,
    )[1]  # fmt: skip
    for name, picture in zip(TURNS, every, strict=True):
        check(name, picture.numpy())


def test_a_batch_has_its_own_instructions_and_pictures():
    """The first row of a batch has the noise of a single run; the second is seen by its mask and scores."""
    handle, model, vae = loaded()
    cats, other = as_image("cats"), as_image("cats").flip(2)
    images = torch.cat([cats, other])
    regions = nodes.FireEditRegionDetect.execute(handle, images, 0.15, 0.6, 100)[0]
    tokens = nodes.FireEditRegionTokenize.execute(handle, images, regions)[0]
    first, second = CASES["row 0"], CASES["row 2"]
    made = nodes.FireEditVLMConditioning.execute(handle, tokens, images, vae, f"{first.instruction}\n{second.instruction}", 0)
    patched = nodes.FireEditApply.execute(model, handle, 1.0, 1.0, 0.0, 1.0)[0]
    edited = nodes.FireEditSample.execute(
        patched, *made.args[:3], vae, images, first.seed, first.steps, "euler", "simple", first.text_guidance, first.image_guidance, 1.0,
        first.keep_outside, made.args[4],
    )[1]  # fmt: skip
    check("row 0", edited[0].numpy(), made.args[4][0].numpy(), made.args[5][0])
    alone = nodes.FireEditVLMConditioning.execute(
        handle, nodes.FireEditRegionTokenize.execute(handle, other, [regions[1]])[0], other, vae, second.instruction, 0
    )
    assert torch.allclose(made.args[4][1], alone.args[4][0], atol=1e-4)
    assert np.allclose(made.args[5][1].scores, alone.args[5][0].scores, atol=1e-4)
