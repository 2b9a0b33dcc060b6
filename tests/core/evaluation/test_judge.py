# SPDX-License-Identifier: GPL-3.0-or-later
"""The judge in the repository: what it passes, and what it must not let pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fireedit_core.data import EDIT_TYPES
from fireedit_core.evaluation import calibration
from fireedit_core.evaluation.judge import CROP, NOTHING, crops, judge_edit, load_judge, psnr_of, shading, wanted_thing
from fireedit_core.evaluation.metrics import score_edit
from fireedit_core.evaluation.scenes import Scenes
from fireedit_core.evaluation.summary import judge_rows, summarise


@pytest.fixture(scope="module")
def judge():
    return load_judge()


@pytest.fixture(scope="module")
def samples():
    return [sample for _, sample in Scenes(each=6, seed=41).draw()]


def shares(judge, samples, answer) -> dict[str, float]:
    make = calibration.ANSWERS[answer][1]
    said = {kind: [judge_edit(judge, s, make(s, s.target)).success for s in samples if s.edit_type == kind] for kind in EDIT_TYPES}
    return {kind: float(np.mean(values)) for kind, values in said.items()}


def test_the_target_passes(judge, samples):
    assert np.mean(list(shares(judge, samples, "the target").values())) >= 0.97


@pytest.mark.parametrize(
    ("answer", "most"),
    [("the untouched source", 0.0), ("half-way between source and target", 0.2), ("the edited area in its mean colour", 0.05)],
)
def test_wrong_answers_fail(judge, samples, answer, most):
    passed = shares(judge, samples, answer)
    # a mean colour is nearly right for a removal from a plain wall, and for the sky
    kinds = [k for k in EDIT_TYPES if answer != "the edited area in its mean colour" or k not in ("remove", "background")]
    assert np.mean([passed[k] for k in kinds]) <= most, passed


def test_a_changed_bystander_fails(judge, samples):
    sample = next(s for s in samples if s.edit_type == "remove" and len(s.boxes) > 2)
    other = next(i for i in range(len(sample.boxes)) if i != sample.target_index)
    x0, y0, x1, y1 = sample.boxes[other].astype(int)
    edit = sample.target.copy()
    edit[y0:y1, x0:x1] = edit[y0:y1, x0:x1].mean((0, 1)).astype(np.uint8)
    verdict = judge_edit(judge, sample, edit)
    assert not verdict.same and not verdict.success and verdict.right and verdict.close


def test_what_is_wanted(samples):
    for sample in samples:
        wanted = wanted_thing(sample)
        if sample.edit_type == "background":
            assert wanted is None
        elif sample.edit_type == "remove":
            assert wanted[0] == NOTHING and np.array_equal(wanted[2], sample.boxes[sample.target_index])
        else:
            assert wanted[0] == (sample.edit_noun or sample.labels[sample.target_index])
            assert wanted[1] == (sample.edit_colour if sample.edit_type == "recolour" else wanted[1])


def test_a_box_at_the_rim_and_one_of_a_pixel_can_be_seen():
    seen = crops(torch.rand(3, 40, 40), torch.tensor([[0.0, 0, 40, 40], [39, 39, 40, 40], [3.4, 5.2, 9.9, 30]]))
    assert seen.shape == (3, 3, CROP, CROP) and torch.isfinite(seen).all()


def test_psnr_and_shading_by_hand():
    mask = np.zeros((4, 4), bool)
    mask[:2] = True
    target = np.random.default_rng(0).random((4, 4, 3))
    assert psnr_of(target, target, mask) == 60
    assert psnr_of(target + 0.1, target, mask) == pytest.approx(20)
    worse = target.copy()
    worse[2:] = 0  # outside, so it does not count
    assert psnr_of(worse, target, mask) == 60
    assert shading(target * 0.5 + 0.2, target, mask) == pytest.approx(1)
    assert shading(1 - target, target, mask) == pytest.approx(-1) and shading(np.ones_like(target), target, mask) == 0


def test_the_verdict_reaches_the_table(judge, samples):
    scores = [score_edit(s, s.target, judge=judge) for s in samples[:6]]
    assert all(s.judged["success"] and s.psnr == 60 and s.l1 == 0 and s.lpips is None for s in scores)
    apart = [replace(s, target=np.where(s.mask[..., None], s.target, 255 - s.target)) for s in samples[:6]]
    wrong = [score_edit(s, t.target, judge=judge) for s, t in zip(samples[:6], apart, strict=True)]
    assert all(s.psnr == 60 and s.psnr_outside < 20 for s in wrong)  # inside right, everything else inverted
    rows = {"overall": summarise(scores)}
    assert rows["overall"]["judged"]["success"]["mean"] == 1
    assert judge_rows({"tables": {"edit": rows}})[0][:3] == ["overall", "100.0 % [100, 100]", "-"]
    unjudged = [replace(s, judged=None) for s in scores]
    assert judge_rows({"tables": {"edit": {"overall": summarise(unjudged)}}}) == []
