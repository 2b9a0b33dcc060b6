# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of a latent batch keep to their pictures and instructions, whatever core node has repeated or joined them."""

from __future__ import annotations

import pytest
import torch

from tests.host.inside.pack import nodes, run  # first: it makes the pack importable
from tests.host.small import SIZE, picture

import comfy.samplers  # isort: skip
from fireedit_pack.nodes.host import guider, patching  # isort: skip


@pytest.fixture(scope="module")
def model(loaded):
    return patching.apply(loaded[1], loaded[0], 1, 1, 0, 1)


@pytest.fixture(scope="module")
def two(loaded, tokens):
    """Two pictures with an instruction each."""
    images, region_tokens = tokens
    text = "remove the red apple\nmake the background blue"
    return nodes.FireEditVLMConditioning.execute(loaded[0], region_tokens, images, loaded[2], text, 0).args


def edited(model, conds, noise):
    """As SamplerCustomAdvanced samples, from noise that is given."""
    made = guider.make_guider(model, *conds[:3], 2.0, 1.5)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 2)
    return made.sample(noise, torch.zeros_like(noise), comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True, seed=0)


def test_a_repeated_latent_batch_has_each_picture_with_its_own_instruction(model, two):
    """Repeat Latent Batch: rows A B A B. The host spreads source latents as A A B B."""
    empty = two[3]["samples"]
    noise = torch.randn(4, *empty.shape[1:], generator=torch.Generator().manual_seed(0))
    both = edited(model, two, noise)
    for rows in (slice(0, 2), slice(2, 4)):
        assert torch.allclose(both[rows], edited(model, two, noise[rows]), atol=2e-4)


@pytest.mark.parametrize("rows", [1, 3])
def test_rows_that_cannot_be_told_are_refused(model, two, rows):
    """Latent From Batch: nothing says which of the two pictures the row is."""
    noise = torch.zeros(rows, *two[3]["samples"].shape[1:])
    with pytest.raises(ValueError, match=rf"the latent has {rows} rows, but the conditioning belongs to 2 pictures.*Image From Batch"):
        edited(model, two, noise)


def test_a_single_picture_serves_all_rows(loaded, model, two):
    image = torch.from_numpy(picture(SIZE, SIZE)).float()[None] / 255
    regions = nodes.FireEditRegionDetect.execute(loaded[0], image, 0.15, 0.6, 100)[0]
    tokens = nodes.FireEditRegionTokenize.execute(loaded[0], image, regions)[0]
    one = nodes.FireEditVLMConditioning.execute(loaded[0], tokens, image, loaded[2], "remove the red apple", 0).args
    noise = torch.randn(3, *one[3]["samples"].shape[1:], generator=torch.Generator().manual_seed(0))
    three = edited(model, one, noise)
    for i in range(3):
        assert torch.allclose(three[i : i + 1], edited(model, one, noise[i : i + 1]), atol=2e-4)


def test_conditioning_concat(model, conds):
    """Core's node puts the rows of both one after the other. An instruction that stands there twice says what it says once, with the
    host repeating the other branches' rows to the same number; another one beside it changes the edit."""

    def concat(to, other):
        return [[torch.cat([to[0][0], other[0][0]], 1), to[0][1]]]

    def run_with(positive):
        return run(model, type("Conds", (), {"args": (positive, *conds.args[1:])})())

    positive, image_only = conds.args[:2]
    wanted = run(model, conds)
    assert torch.allclose(run_with(concat(positive, positive)), wanted, atol=2e-4)
    other = run_with(concat(positive, image_only))
    assert other.isfinite().all() and not torch.allclose(other, wanted, atol=1e-2)
    # rows of a foreign encoder that are no whole condition ride along
    foreign = [[torch.randn(2, 10, positive[0][0].shape[-1], generator=torch.Generator().manual_seed(0)), {}]]
    assert run_with(concat(positive, foreign)).isfinite().all()
