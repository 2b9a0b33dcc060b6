# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits made by hand get the score that a person would give them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fireedit_core.evaluation.metrics import (
    INTACT_CHANGE,
    SUCCESS_ERROR,
    bystanders,
    bystanders_intact,
    dilate,
    grounding_hit,
    outside_change,
    relative_error,
    score_edit,
    unit,
)
from fireedit_core.regions import Regions

from .conftest import LEFT, RIGHT, make_pair


def regions(*scored: tuple[tuple[int, int, int, int], float]) -> Regions:
    boxes = torch.tensor([box for box, _ in scored], dtype=torch.float32).reshape(-1, 4)
    return Regions(boxes, torch.tensor([s for _, s in scored]), ("object",) * len(scored), (32, 32))


def test_thresholds_are_the_ones_fixed_beforehand():
    assert (SUCCESS_ERROR, INTACT_CHANGE) == (0.10, 0.05)


def test_the_target_itself_succeeds(pair):
    score = score_edit(pair, pair.target)
    assert score.success and score.relative_error == 0 and score.outside_change == 0 and score.bystanders_intact


def test_the_untouched_source_has_error_one_and_fails(pair):
    score = score_edit(pair, pair.source)
    assert score.relative_error == pytest.approx(1) and not score.success
    assert score.bystanders_intact and score.outside_change == 0


def test_haze_left_where_the_object_was_fails(pair):
    haze = unit(pair.target) * 0.6 + unit(pair.source) * 0.4  # the object is hard to name, but the background is not back
    score = score_edit(pair, haze)
    assert score.relative_error == pytest.approx(0.16) and not score.success


def test_a_faint_trace_succeeds(pair):
    score = score_edit(pair, unit(pair.target) * 0.8 + unit(pair.source) * 0.2)
    assert score.relative_error == pytest.approx(0.04) and score.success


def test_a_smudge_in_the_mean_colour_fails():
    pair = make_pair("recolour")
    edit = unit(pair.target)
    edit[pair.mask] = 0.5
    assert not score_edit(pair, edit).success


def test_a_touched_bystander_fails_although_the_edit_is_right(pair):
    edit = pair.target.copy()
    x0, y0, x1, y1 = RIGHT
    edit[y0:y1, x0:x1] = (40, 220, 40)
    score = score_edit(pair, edit)
    assert score.relative_error == 0 and not score.bystanders_intact and not score.success
    assert score.outside_change > 0.05


def test_a_bystander_may_lose_a_little_to_the_autoencoder(pair):
    edit = unit(pair.target)
    x0, y0, x1, y1 = RIGHT
    edit[y0:y1, x0:x1] += 0.04
    assert score_edit(pair, edit).success
    edit[y0:y1, x0:x1] += 0.02
    assert not score_edit(pair, edit).success


def test_what_the_autoencoder_does_is_not_held_against_the_edit(pair):
    x0, y0, x1, y1 = RIGHT
    edit, unedited = unit(pair.target), unit(pair.source)
    for picture in (edit, unedited):
        picture[y0:y1, x0:x1] += 0.2
    assert not score_edit(pair, edit).bystanders_intact
    assert score_edit(pair, edit, unedited=unedited).success
    assert not score_edit(pair, unit(pair.target), unedited=unedited).bystanders_intact


def test_a_bystander_is_judged_by_what_the_mask_leaves_of_it(pair):
    """The edit's mask covers the left half of the other square: what happens there is the edit, and no share of a bystander's mean."""
    x0, y0, x1, y1 = RIGHT
    half = (x0 + x1) // 2
    pair.mask[y0:y1, x0:half] = True
    change = np.zeros(pair.mask.shape)
    change[y0:y1, x0:half] = 1
    assert bystanders_intact(pair, change)
    change[y0:y1, half:x1] = 0.049
    assert bystanders_intact(pair, change)
    change[y0:y1, x0:half], change[y0:y1, half:x1] = 0, 0.051  # 0.0255 over the whole square
    assert not bystanders_intact(pair, change)
    pair.mask[y0:y1, x0:x1] = True
    assert bystanders_intact(pair, np.ones(pair.mask.shape))  # nothing of it is left to judge


def test_every_object_is_a_bystander_of_background_and_add():
    assert bystanders(make_pair("background", -1)) == [0, 1]
    assert bystanders(make_pair("add")) == [0, 1]
    assert bystanders(make_pair("replace")) == [1]
    pair = make_pair("background", -1)
    edit = pair.target.copy()
    x0, y0, x1, y1 = LEFT
    edit[y0:y1, x0:x1] = 128
    assert score_edit(pair, pair.target).success
    assert not score_edit(pair, edit).bystanders_intact


def test_the_rim_of_the_mask_is_not_outside(pair):
    source = unit(pair.source)
    edit = source.copy()
    edit[dilate(pair.mask, 2) & ~pair.mask] = 1
    assert outside_change(source, edit, pair.mask) == 0
    edit[dilate(pair.mask, 3) & ~pair.mask] = 1
    assert outside_change(source, edit, pair.mask) > 0
    assert outside_change(source, edit, np.ones_like(pair.mask)) == 0


def test_dilate_grows_a_square_and_stops_at_the_border():
    mask = np.zeros((7, 9), bool)
    mask[3, 4] = mask[0, 0] = True
    grown = dilate(mask, 2)
    assert grown[1:6, 2:7].all() and grown[:3, :3].all() and grown.sum() == 25 + 9 - 2
    assert (dilate(mask, 0) == mask).all()


def test_grounding_of_an_object_is_its_best_scored_region(pair):
    assert grounding_hit(pair, regions((RIGHT, 0.2), ((5, 10, 15, 20), 0.7)))
    assert not grounding_hit(pair, regions((LEFT, 0.2), (RIGHT, 0.7)))
    assert not grounding_hit(pair, regions(((4, 10, 8, 20), 0.9)))  # too small a part of it
    assert not grounding_hit(pair, Regions.empty((32, 32)))
    assert score_edit(pair, pair.target, regions((LEFT, 1.0))).grounded is True
    assert score_edit(pair, pair.target).grounded is None


def test_grounding_of_a_background_prefers_no_region():
    pair = make_pair("background", -1)
    assert grounding_hit(pair, regions((LEFT, 0.2), (RIGHT, 0.2)))
    assert not grounding_hit(pair, regions((LEFT, 0.3), (RIGHT, 0.3)))
    assert grounding_hit(pair, Regions.empty((32, 32)))


def test_grounding_groups():
    groups = [score_edit(p, p.target).grounding for p in (make_pair(), make_pair(twins=True), make_pair("background", -1))]
    assert groups == ["single", "twins", "none"]


def test_an_edit_of_another_size_is_refused(pair):
    with pytest.raises(ValueError, match=r"must have shape \(32, 32, 3\)"):
        score_edit(pair, np.zeros((16, 16, 3), np.uint8))


def test_the_relative_error_by_hand():
    """Of the pixels inside the mask alone, whatever the target does outside."""
    random = np.random.default_rng(0)
    source, target, edit = (random.random((6, 8, 3)) for _ in range(3))
    mask = random.random((6, 8)) > 0.6
    wanted = sum(float(((target - source)[y, x] ** 2).sum()) for y, x in np.argwhere(mask))
    error = sum(float(((edit - target)[y, x] ** 2).sum()) for y, x in np.argwhere(mask))
    assert relative_error(source, target, edit, mask) == pytest.approx(error / wanted)


def test_distances_to_the_target_by_hand(pair):
    edit = np.clip(unit(pair.target) + 0.1 * np.random.default_rng(1).standard_normal(pair.target.shape), 0, 1)
    score, off = score_edit(pair, edit), edit - unit(pair.target)
    assert score.l1 == pytest.approx(np.abs(off).mean()) and score.l2 == pytest.approx((off**2).mean())
    outside = ~dilate(pair.mask, 2)
    for found, where in ((score.psnr, pair.mask), (score.psnr_outside, outside)):
        assert found == pytest.approx(-10 * np.log10((off[where] ** 2).mean()))
