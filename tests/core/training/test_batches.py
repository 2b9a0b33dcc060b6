# SPDX-License-Identifier: GPL-3.0-or-later
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fireedit_core.data import EDIT_TYPES, SceneSample
from fireedit_core.training.batches import DETAILS, collate, without_regions

WORLD = SimpleNamespace(
    classes={"apple": "a", "ball": "b", "cat": "c", "dog": "d"}, palette={"red": (255, 0, 0), "blue": (0, 0, 255)},
    backgrounds=("sky", "grass"),
)  # fmt: skip
SIDE = 40


def sample(**changes) -> SceneSample:
    """Four objects of distinct place, noun and colour; the third is meant."""
    rng = np.random.default_rng(0)
    mask = np.zeros((SIDE, SIDE), bool)
    mask[10:20, 4:14] = True
    values = {
        "id": "x", "source": rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8), "mask": mask,
        "target": rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8), "instruction": "make the cat blue", "edit_type": "recolour",
        "boxes": np.array([[0, 0, 10, 10], [20, 0, 30, 10], [4, 10, 14, 20], [20, 20, 40, 30]], np.float32),
        "labels": ("apple", "ball", "cat", "teapot"), "colours": ("", "red", "blue", ""), "target_index": 2,
        "edit_box": np.array([4, 10, 14, 20], np.float32), "referring": "the cat", "twins": False, "source_caption": "",
        "target_caption": "", "edit_colour": "blue",
    }  # fmt: skip
    return SceneSample(**(values | changes))


def few(**changes) -> SceneSample:
    return sample(boxes=sample().boxes[:2], labels=("apple", "ball"), colours=("", "red"), **({"target_index": 1} | changes))


def test_shapes_padding_and_pictures():
    one, two = sample(), few()
    batch = collate([one, two], WORLD, jitter=0, shuffle=False)
    assert batch.source.shape == batch.target.shape == (2, 3, SIDE, SIDE) and batch.edit_mask.shape == (2, SIDE, SIDE)
    assert torch.equal((batch.source[0] * 255).round().byte().permute(1, 2, 0), torch.from_numpy(one.source))
    assert torch.equal((batch.target[1] * 255).round().byte().permute(1, 2, 0), torch.from_numpy(two.target))
    assert torch.equal(batch.edit_mask[0].bool(), torch.from_numpy(one.mask))
    assert batch.region_mask.tolist() == [[True] * 4, [True, True, False, False]]
    assert batch.instructions == ["make the cat blue"] * 2
    centre = torch.tensor([[5, 5, 10, 10], [25, 5, 10, 10], [9, 15, 10, 10], [30, 25, 20, 10]]) / SIDE
    assert torch.allclose(batch.boxes[0], centre) and torch.allclose(batch.boxes[1, :2], centre[:2])
    assert not batch.boxes[1, 2:].any()
    labels = batch.labels
    assert labels.nouns.tolist() == [[0, 1, 2, -1], [0, 1, -1, -1]]  # a noun outside the vocabulary says nothing
    assert labels.colours.tolist() == [[0, 1, 2, 0], [0, 1, -1, -1]]
    assert labels.target.tolist() == [2, 1] and labels.noun.tolist() == [2, 1]
    assert torch.allclose(labels.edit_box[0], torch.tensor([4, 10, 14, 20]) / SIDE)


def test_boxes_labels_and_target_follow_the_shuffle():
    orders = set()
    for seed in range(12):
        torch.manual_seed(seed)
        batch = collate([sample(), few()], WORLD, jitter=0)
        plain = collate([sample(), few()], WORLD, jitter=0, shuffle=False)
        for row, count in ((0, 4), (1, 2)):
            # which plain region stands at each place, told by the boxes, which are all distinct
            order = [(plain.boxes[row, :count] - box).abs().sum(1).argmin().item() for box in batch.boxes[row, :count]]
            assert sorted(order) == list(range(count))
            orders.add(tuple(order))
            for field in ("nouns", "colours"):
                shuffled, straight = getattr(batch.labels, field)[row], getattr(plain.labels, field)[row]
                assert shuffled[:count].tolist() == straight[order].tolist() and (shuffled[count:] == -1).all()
            assert order[batch.labels.target[row]] == plain.labels.target[row]
        assert torch.equal(batch.labels.noun, plain.labels.noun)
    assert len(orders) > 6


def test_shuffle_and_jitter_come_from_torchs_generator():
    torch.manual_seed(1)
    first = collate([sample()] * 3, WORLD)
    torch.manual_seed(1)
    again = collate([sample()] * 3, WORLD)
    assert torch.equal(first.boxes, again.boxes) and torch.equal(first.labels.target, again.labels.target)
    assert not torch.equal(first.boxes, collate([sample()] * 3, WORLD).boxes)


def test_jitter_is_relative_and_boxes_stay_boxes():
    torch.manual_seed(0)
    batch = collate([sample()] * 200, WORLD, jitter=0.05, shuffle=False)
    plain = collate([sample()], WORLD, jitter=0, shuffle=False)
    inner = batch.boxes[:, 2] - plain.boxes[0, 2]  # its edges are nowhere clamped
    # each edge moves by 0.05 of the side (here 0.25): width by sqrt(2) of that, the centre by 1 / sqrt(2)
    assert inner[:, 2].std().item() == pytest.approx(0.05 * 0.25 * 2**0.5, rel=0.2)
    assert inner[:, 0].std().item() == pytest.approx(0.05 * 0.25 / 2**0.5, rel=0.2)
    wild = collate([sample()] * 50, WORLD, jitter=2.0)
    assert (wild.boxes[..., 2:] >= 0.02 - 1e-6).all() and torch.isfinite(wild.boxes).all()


def test_an_edit_of_the_background_means_no_region():
    background = few(target_index=-1, edit_type="background", edit_colour="", edit_background="grass")
    labels = collate([background, sample()], WORLD, shuffle=False).labels
    assert labels.target.tolist() == [4, 2]  # the column after the padded regions: GroundingHead's "no single region"
    assert labels.noun.tolist() == [-1, 2] and labels.background.tolist() == [1, -1] and labels.colour.tolist() == [-1, 2]
    assert labels.edit.tolist() == [EDIT_TYPES.index("background"), EDIT_TYPES.index("recolour")]


def test_what_the_instruction_adds_is_labelled():
    added = few(edit_type="add", edit_noun="dog", edit_colour="", meta={"detail": "left"})
    unknown = few(edit_type="add", edit_noun="teapot", edit_colour="", meta={"detail": "sideways"})
    labels = collate([added, unknown], WORLD).labels
    assert labels.new_noun.tolist() == [3, -1] and labels.detail.tolist() == [DETAILS.index("left"), -1]


def test_real_scenes_fit_the_grounding_head():
    """Scenes of the generator, where the sprites are in the cache: the target's box is the box of the object meant."""
    from fireedit_core.data import WORLD as world
    from fireedit_core.data import SceneGenerator

    try:
        generator = SceneGenerator(world, split="train", seed=3, masks=False)
        samples = [generator.sample(i) for i in range(24)]
    except (OSError, RuntimeError) as error:
        pytest.skip(f"no sprites: {error}")
    torch.manual_seed(0)
    batch = collate(samples, world, jitter=0)
    width = batch.boxes.shape[1]
    for row, one in enumerate(samples):
        target = batch.labels.target[row].item()
        if one.target_index < 0:
            assert target == width and one.edit_type == "background"
            continue
        assert batch.region_mask[row, target]
        cx, cy, w, h = (batch.boxes[row, target] * one.source.shape[0]).tolist()
        assert [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2] == pytest.approx(one.boxes[one.target_index].tolist(), abs=1e-3)
        noun = list(world.classes).index(one.labels[one.target_index])
        assert batch.labels.nouns[row, target] == noun == batch.labels.noun[row]


def test_a_model_without_regions_sees_the_whole_picture_as_one():
    batch = collate([sample(), sample()], WORLD)
    plain = without_regions(batch)
    assert plain.boxes.tolist() == [[[0.5, 0.5, 1, 1]]] * 2 and plain.region_mask.all() and plain.region_mask.shape == (2, 1)
    assert (plain.labels.nouns == -1).all() and plain.labels.target.tolist() == [1, 1]  # column 1: no region is meant
    assert torch.equal(plain.source, batch.source) and plain.labels.edit is batch.labels.edit
    assert batch.boxes.shape[1] == 4  # the batch itself is as it was
