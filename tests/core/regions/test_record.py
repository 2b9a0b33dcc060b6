# SPDX-License-Identifier: GPL-3.0-or-later
import json
from dataclasses import replace

import pytest
import torch

from fireedit_core.regions.record import Regions


def make(masks: bool = False) -> Regions:
    boxes = torch.tensor([[2.0, 4.0, 12.0, 24.0], [10.0, 10.0, 40.0, 20.0], [0.0, 0.0, 5.0, 5.0]])
    area = None
    if masks:
        area = torch.zeros(3, 30, 50)
        area[0, 4:24, 2:12] = area[1, 10:20, 10:40] = area[2, :5, :5] = 1
    return Regions(boxes, torch.tensor([0.5, 0.9, 0.5]), ("cat", "dog", "bird"), (30, 50), area)


def test_order_is_by_score_and_stable():
    assert make().sorted_by_score().labels == ("dog", "cat", "bird")
    assert make().top(2).labels == ("dog", "cat")
    assert make().select([2, 0]).labels == ("bird", "cat")
    assert make().select(torch.tensor([False, True, False])).labels == ("dog",)


def test_empty_and_whole_image():
    empty = Regions.empty((7, 9))
    assert len(empty) == 0 and empty.normalised().shape == (0, 4) and len(empty.sorted_by_score()) == 0
    whole = Regions.whole_image((7, 9))
    assert whole.boxes.tolist() == [[0, 0, 9, 7]] and whole.labels == ("image",) and whole.scores.tolist() == [1.0]
    assert torch.allclose(whole.normalised(), torch.tensor([[0.5, 0.5, 1.0, 1.0]]))


def test_scaling_uses_each_axis_own_ratio():
    scaled = make(masks=True).scaled_to((60, 25))
    assert scaled.boxes[0].tolist() == [1, 8, 6, 48]
    assert scaled.masks.shape == (3, 60, 25)
    back = scaled.scaled_to((30, 50))
    assert torch.allclose(back.boxes, make().boxes) and torch.allclose(back.normalised(), make().normalised())


def test_clipped_drops_what_lies_outside():
    boxes = torch.tensor([[-5.0, -5.0, 5.0, 5.0], [60.0, 0.0, 70.0, 5.0]])
    regions = Regions(boxes, torch.ones(2), ("a", "b"), (30, 50))
    assert regions.clipped().boxes.tolist() == [[0, 0, 5, 5]]


def test_dict_round_trip_through_json():
    first = make(masks=True)
    second = Regions.from_dict(json.loads(json.dumps(first.to_dict())))
    assert torch.equal(first.boxes, second.boxes) and torch.equal(first.scores, second.scores)
    assert first.labels == second.labels and first.image_size == second.image_size
    assert torch.equal(first.masks, second.masks)
    assert len(Regions.from_dict(Regions.empty((4, 4)).to_dict())) == 0
    assert Regions.from_dict({"image_size": [9, 9], "boxes": [[0, 0, 3, 3]]}).labels == ("object",)


def test_masks_that_are_no_more_than_boxes_stay_with_their_regions():
    plain, marked = make(masks=True), replace(make(masks=True), boxed=(True, False, False))
    assert make().boxed == () and plain.boxed == (False,) * 3 and marked.boxed == (True, False, False)
    assert marked.sorted_by_score().boxed == (False, True, False) and marked.scaled_to((60, 25)).boxed == marked.boxed
    assert marked.select([0]).clipped().boxed == (True,) and replace(marked, masks=None).boxed == ()
    text = json.dumps(marked.to_dict())
    assert Regions.from_dict(json.loads(text)).boxed == marked.boxed and "boxed" not in plain.to_dict()  # as before there were any
    assert Regions.from_dict(plain.to_dict()).boxed == plain.boxed
    for bad in ([1, 0, 0], "yes"):
        with pytest.raises(ValueError, match="list of true and false"):
            Regions.from_dict(marked.to_dict() | {"boxed": bad})


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"boxes": torch.zeros(2, 5)}, r"\(n, 4\)"),
        ({"scores": torch.zeros(2)}, "scores of shape"),
        ({"labels": ("a",)}, "3 labels"),
        ({"masks": torch.zeros(3, 4, 4)}, "masks must have shape"),
        ({"masks": torch.zeros(3, 30, 50), "boxed": [True]}, "3 masks need 3 values of boxed, got 1"),
        ({"image_size": (0, 4)}, "positive"),
        ({"boxes": torch.tensor([[5.0, 5.0, 1.0, 1.0]] * 3)}, "xywh"),
        ({"boxes": torch.full((3, 4), float("nan"))}, "finite"),
    ],
)
def test_wrong_input_is_explained(changes, message):
    good = {"boxes": torch.zeros(3, 4), "scores": torch.zeros(3), "labels": ("a", "b", "c"), "image_size": (30, 50)}
    with pytest.raises(ValueError, match=message):
        Regions(**{**good, **changes})


def test_check_image_names_both_sizes():
    make().check_image((30, 50))
    with pytest.raises(ValueError, match="height 30 and width 50.*height 50 and width 30"):
        make().check_image((50, 30))
    with pytest.raises(ValueError, match="out of range"):
        make().select([3])
    with pytest.raises(ValueError, match="image_size"):
        Regions.from_dict({"boxes": []})


def test_boxes_are_cut_along_each_axis_by_its_own_side():
    """A picture much wider than high: what lies right of its height stays."""
    one = Regions(torch.tensor([[60.0, 5, 120, 40], [10, 25, 20, 28]]), torch.ones(2), ("a", "b"), (20, 100)).clipped()
    assert one.boxes.tolist() == [[60, 5, 100, 20]] and one.labels == ("a",)


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": 5}, {"image_size": None}, {"image_size": [None, 8]}, {"image_size": ["a", 8]}, {"boxes": [[0, 0, 10**400, 1]]},
        {"scores": [10**400]}, {"labels": None}, {"labels": 3}, {"masks": 7}, {"masks": [7]}, {"masks": [None]}, {"masks": [["a"]]},
    ],
)  # fmt: skip
def test_a_record_by_hand_with_wrong_types_is_refused_in_words(change):
    good = {"image_size": [6, 8], "boxes": [[1, 1, 3, 3]], "scores": [0.5], "labels": ["a"], "masks": [[48]]}
    assert len(Regions.from_dict(good)) == 1
    with pytest.raises(ValueError, match="^Regions"):
        Regions.from_dict(good | change)
