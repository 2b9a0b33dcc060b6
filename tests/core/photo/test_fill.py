# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove: texture goes on through the hole, shadows go with the thing, and guesses are named."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from fireedit_core.photo import fill as fill_module
from fireedit_core.photo.fill import fill
from fireedit_core.photo.hole import find_hole
from tests.core.photo.pictures import disc, photograph, smooth, textured

patchmatch = pytest.mark.skipif(fill_module._patchmatch() is None, reason="pypatchmatch is not installed")


def roughness(picture, where):
    """How much fine texture there is: standard deviation of what a small blur takes away."""
    return float((picture - smooth(picture, 2.0))[:, where].std())


def telea(picture, mask):
    """What OpenCV alone makes of the same hole."""
    pixels = (picture.movedim(0, -1).numpy() * 255).round().astype(np.uint8)
    made = cv2.inpaint(pixels, (mask > 0).to(torch.uint8).numpy(), 5, cv2.INPAINT_TELEA)
    return torch.from_numpy(made).movedim(-1, 0).float() / 255


@patchmatch
@pytest.mark.parametrize("name", ("grass", "gravel", "brick"))
def test_texture_goes_on(name):
    picture = photograph(name)
    mask = disc(*picture.shape[-2:], 0.12)
    made = fill(picture, mask)
    inside = mask == 1
    kept = roughness(made.image, inside) / roughness(picture, inside)
    smeared = roughness(telea(picture, made.alpha), inside) / roughness(picture, inside)
    assert kept > 0.7 and kept > 1.5 * smeared, (kept, smeared)


@pytest.mark.slow
@patchmatch
def test_texture_goes_on_where_the_fill_is_made_small():
    """At twice the size that PatchMatch works at, fine texture has to be borrowed."""
    picture = textured(1500, 1500)
    mask = disc(1500, 1500, 0.3)
    made = fill(picture, mask)
    inside = mask == 1
    assert 0.8 < roughness(made.image, inside) / roughness(picture, inside) < 1.2
    # and its colours are those around it
    assert torch.allclose(made.image[:, inside].mean(1), picture[:, ~inside].mean(1), atol=0.08)


def test_without_the_library_opencv_fills_and_says_so_once(monkeypatch, caplog):
    fill_module._patchmatch.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "patchmatch", None)
    picture, mask = textured(96, 96), disc(96, 96)
    with caplog.at_level("INFO", "fireedit"):
        first, second = fill(picture, mask), fill(picture, mask)
    fill_module._patchmatch.cache_clear()
    assert first.way == "OpenCV (Telea)" and torch.equal(first.image, second.image)
    assert sum("pip install pypatchmatch" in record.message for record in caplog.records) == 1
    assert torch.equal(first.image[:, first.alpha == 0], picture[:, first.alpha == 0])
    assert not torch.equal(first.image[:, mask == 1], picture[:, mask == 1])


@patchmatch
def test_the_same_twice():
    picture, mask = textured(128, 128), disc(128, 128)
    assert torch.equal(fill(picture, mask).image, fill(picture, mask).image)


def scene_with_shadow(strength=0.4):
    """Light ground, a red ball on it, its shadow to the right."""
    ground = 0.6 + 0.03 * torch.rand(3, 200, 200, generator=torch.Generator().manual_seed(0))
    mask = disc(200, 200, 0.18)
    shadow = smooth(disc(200, 200, 0.16)[None].roll(24, 2), 3.0)
    picture = ground * (1 - strength * shadow)
    return torch.where(mask > 0.5, torch.tensor([0.8, 0.1, 0.1])[:, None, None], picture), mask, (shadow[0] > 0.8) & (mask == 0)


@patchmatch
def test_a_shadow_goes_with_the_thing():
    picture, mask, shadow = scene_with_shadow()
    made = fill(picture, mask)
    assert made.rim > 0.05 and float((made.alpha[shadow] > 0.9).float().mean()) > 0.9
    assert abs(float(made.image[:, shadow].mean()) - 0.615) < 0.03


@patchmatch
def test_leftovers_that_a_mask_missed_go_too():
    """Light shoes that a mask has left out."""
    picture, mask, _ = scene_with_shadow(0.0)
    thing = mask.clone()
    thing[125:] = 0  # the mask ends too early
    left = (mask == 1) & (thing == 0)
    made = fill(picture, thing)
    assert float((made.alpha[left] > 0.5).float().mean()) > 0.9


def test_even_ground_and_other_things_are_left_alone():
    picture, mask, _ = scene_with_shadow(0.0)
    hole = find_hole((picture.movedim(0, -1).numpy() * 255).astype(np.uint8), mask.numpy())
    assert hole.rim == 0 and hole.mask.sum() < 1.7 * float((mask > 0.5).sum())
    other = torch.zeros(200, 200)
    other[:, 138:160] = 1
    made = fill(picture, mask, other)
    assert not made.alpha[(other == 1) & (mask == 0)].any()


@patchmatch
def test_nothing_is_copied_from_what_is_avoided():
    """Two red balls on grey: without a word the second is as good a source as the ground."""
    picture = 0.5 + 0.05 * torch.rand(3, 160, 320, generator=torch.Generator().manual_seed(0))
    one, two = disc(160, 160, 0.3), torch.zeros(160, 320)
    mask = torch.cat([one, torch.zeros(160, 160)], 1)
    two[:, 130:] = 1
    picture[0, :, 130:] = 1.0
    made = fill(picture, mask, two)
    assert float(made.image[0, mask == 1].max()) < 0.6


def test_guesses_are_named():
    picture = textured(200, 200)
    assert fill(picture, disc(200, 200, 0.1)).guesses == ()
    (large,) = fill(picture, disc(200, 200, 0.4)).guesses
    assert large.startswith("the hole is 5") or large.startswith("the hole is 6")
    # before a checked wall of four colours, whose edges all run into the hole
    wall = torch.zeros(3, 200, 200)
    wall[:, :100, :100], wall[0, :100, 100:], wall[2, 100:, :100] = 1, 1, 1
    wall[:, 90:110], wall[:, :, 90:110] = 0.5, 0.2
    assert any("edges of other things run into it" in said for said in fill(wall, disc(200, 200, 0.1)).guesses)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "box"), (("coffee", (75, 10, 482, 392)),))
def test_wood_is_no_guess_by_its_edges(name, box):
    picture = photograph(name)
    mask = torch.zeros(picture.shape[-2:])
    mask[box[1] : box[3], box[0] : box[2]] = disc(box[3] - box[1], box[2] - box[0], 0.5)
    assert not any("edges" in said for said in fill(picture, mask).guesses)
