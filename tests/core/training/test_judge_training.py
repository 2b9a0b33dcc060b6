# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pytest
import torch

pytest.importorskip("tensorboard")
from fireedit_core.data import WORLD, SceneGenerator
from fireedit_core.evaluation.judge import NOTHING, SMUDGE
from fireedit_core.training.judge import JudgeCrops, free_boxes, judge_world, new_judge, train_judge

pytestmark = pytest.mark.slow


def test_the_judge_knows_every_object_that_a_scene_can_show():
    world = judge_world()
    assert set(world.classes) == {*WORLD.classes, *WORLD.heldout} and not world.heldout
    assert new_judge().config.nouns[-2:] == [NOTHING, SMUDGE]


def test_free_boxes_touch_no_object():
    generator = SceneGenerator(WORLD, split="train", seed=5, masks=False)
    found = 0
    for index in range(20):
        sample = generator.sample(index)
        for x0, y0, x1, y1 in free_boxes(sample, np.random.default_rng(index)):
            found += 1
            for *_, (a0, b0, a1, b1) in sample.meta["target_objects"]:
                assert x1 <= a0 or a1 <= x0 or y1 <= b0 or b1 <= y0
    assert found > 20


def test_batches_repeat_and_hold_every_kind():
    data = JudgeCrops(new_judge(), WORLD)
    crops, nouns, colours = data.batch(range(6))
    again = data.batch(range(6))
    assert torch.equal(crops, again[0]) and torch.equal(nouns, again[1])
    assert len(crops) == len(nouns) == len(colours) and 0 <= crops.min() and crops.max() <= 1
    assert (nouns == data.nouns[NOTHING]).any() and (nouns == data.nouns[SMUDGE]).any()
    assert (colours[nouns >= data.nouns[NOTHING]] == -1).all() and (colours[nouns < data.nouns[NOTHING]] >= 0).all()


def test_training_lowers_the_loss(tmp_path):
    judge = train_judge(tmp_path, 5, scenes=4, max_steps=12)
    fresh = new_judge()
    crops, nouns, _ = JudgeCrops(judge, WORLD).batch(range(8))
    loss = lambda model: torch.nn.functional.cross_entropy(model.eval()(crops)[0], nouns).item()  # noqa: E731
    assert loss(judge) < loss(fresh) - 0.1
