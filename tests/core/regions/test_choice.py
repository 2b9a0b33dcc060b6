# SPDX-License-Identifier: GPL-3.0-or-later
"""The JSON of the region picker: what it means, and what is said about wrong ones."""

from __future__ import annotations

import json

import pytest
import torch

from fireedit_core.regions import Regions
from fireedit_core.regions.choice import RegionChoice
from fireedit_core.regions.selection import box_masks
from fireedit_core.thumbnail import fingerprint


def three(masks: bool = False) -> Regions:
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 40], [5, 5, 39, 39]])
    made = Regions(boxes, torch.tensor([0.9, 0.8, 0.3]), ("cat", "dog", "object"), (40, 50))
    return Regions(boxes, made.scores, made.labels, made.image_size, box_masks(made)) if masks else made


def apply(value: dict | str, regions: Regions | None = None):
    return RegionChoice.from_json(value if isinstance(value, str) else json.dumps(value)).apply(three() if regions is None else regions)


def test_auto_takes_all_and_what_was_drawn():
    for empty in ("", " ", "{}"):
        made, mask = apply(empty)
        assert mask is None and torch.equal(made.boxes, three().boxes) and made.labels == three().labels
    made, _ = apply({"picked": [1], "boxes": [{"box": [1, 2, 9, 8], "name": "bird"}, [0, 0, 4, 4]], "names": {"0": "left cat"}})
    assert made.labels == ("left cat", "dog", "object", "bird", "object") and made.boxes[3].tolist() == [1, 2, 9, 8]
    assert made.scores.tolist() == pytest.approx([0.9, 0.8, 0.3, 1, 1])


def test_restrict_and_force_take_what_was_picked_in_its_order():
    made, mask = apply({"mode": "restrict", "picked": [2, 0, 2]})
    assert made.labels == ("object", "cat") and mask is None
    made, mask = apply({"mode": "force", "picked": [0], "boxes": [[20, 20, 25, 30]], "moved": {"0": [2, 2, 12, 12]}})
    assert made.boxes.tolist() == [[2, 2, 12, 12], [20, 20, 25, 30]]
    assert mask.shape == (40, 50) and mask.sum() == 100 + 50 and mask[2, 2] == 1 and mask[0, 0] == 0
    drawn, mask = apply({"mode": "force", "boxes": [[-5, 30, 20, 90]]}, Regions.empty((40, 50)))
    assert drawn.boxes.tolist() == [[0, 30, 20, 40]] and mask.sum() == 200


def test_masks_stay_with_their_regions():
    choice = {"mode": "force", "picked": [1, 0], "moved": {"0": [30, 0, 40, 5]}, "boxes": [[0, 30, 5, 40]]}
    made, mask = apply(choice, three(masks=True))
    assert [int(m.sum()) for m in made.masks] == [200, 50, 50] and mask.sum() == 300


@pytest.mark.parametrize("value, said", [
    ("{", "no valid JSON"), ("[1]", "must be an object"), ({"pick": [1]}, "must be an object"), ({"mode": "all"}, "mode must be one of"),
    ({"picked": [-1]}, "list of region numbers"), ({"picked": "0"}, "list of region numbers"),
    ({"picked": [True]}, "list of region numbers"),
    ({"boxes": [[1, 2, 3]]}, "x1, y1, x2, y2"), ({"boxes": [[5, 5, 4, 9]]}, "x2 > x1"), ({"boxes": {"a": 1}}, "must be a list"),
    ({"boxes": [{"name": "cat"}]}, "must look like"), ({"moved": {"a": [0, 0, 1, 1]}}, "regions have numbers"),
    ({"names": []}, "JSON object"), ({"found": {"0": [1, 2]}}, "x1, y1, x2, y2"), ({"found": [1]}, "found must be a JSON object"),
    ({"picture": 3}, "must be a text"), ({"picture": "40x50:abc"}, "no fingerprint"),
    ({"picked": [3]}, "region 3, but this picture has 3"), ({"moved": {"7": [0, 0, 1, 1]}}, "region 7"),
    ({"mode": "restrict"}, "nothing is picked"), ({"mode": "force", "boxes": [[60, 0, 70, 5]]}, "outside the picture"),
])  # fmt: skip
def test_what_is_wrong_is_said(value, said):
    with pytest.raises(ValueError, match=said):
        apply(value)


def test_masks_of_picked_moved_and_drawn_regions():
    """A picked one keeps its own; a moved and a drawn one have their box, columns across and rows down."""
    masks = torch.zeros(2, 20, 50)
    masks[0, 3:5, 6:9] = masks[1, 10:12, 40:44] = 1
    record = Regions(torch.tensor([[5.0, 2, 10, 6], [39, 9, 45, 13]]), torch.ones(2), ("a", "b"), (20, 50), masks)
    choice = RegionChoice("restrict", (0, 1), (((30.0, 1, 48, 6), "c"),), {1: (1.0, 12, 21, 15)})
    made, _ = choice.apply(record)
    wanted = torch.zeros(3, 20, 50)
    wanted[0] = masks[0]
    wanted[1, 12:15, 1:21] = wanted[2, 1:6, 30:48] = 1
    assert torch.equal(made.masks, wanted) and made.boxed == (False, True, True)
    assert RegionChoice().apply(made)[0].boxed == made.boxed


def test_a_choice_belongs_to_its_picture():
    """On another one it is refused where only it would count, and dropped where the model chooses; without a fingerprint it is for any."""
    torch.manual_seed(0)
    mine, other = fingerprint(torch.rand(3, 40, 50)), fingerprint(torch.rand(3, 40, 50))
    value = {"picked": [0], "boxes": [[0, 0, 9, 9]], "names": {"1": "left dog"}, "moved": {"2": [0, 0, 5, 5]}, "picture": mine}
    for mode in ("auto", "restrict", "force"):
        choice = RegionChoice.from_json(json.dumps(value | {"mode": mode}))
        assert choice.on(mine) == choice
        anywhere = RegionChoice.from_json(json.dumps({k: v for k, v in value.items() if k != "picture"} | {"mode": mode}))
        assert anywhere.on(other) == anywhere
    for mode in ("restrict", "force"):
        with pytest.raises(ValueError, match=rf"made on another picture \(of size 50x40.*{mode} would edit another thing"):
            RegionChoice.from_json(json.dumps(value | {"mode": mode})).on(other)
    made, mask = RegionChoice.from_json(json.dumps(value)).on(other).apply(three())
    assert mask is None and made.labels == three().labels and torch.equal(made.boxes, three().boxes)


CAT, DOG, BIRD = (0.0, 0, 10, 10), (20.0, 20, 30, 40), (12.0, 0, 22, 9)


def named(**places: tuple) -> Regions:
    return Regions(torch.tensor(list(places.values())).reshape(-1, 4), torch.ones(len(places)), tuple(places), (40, 50))


def test_a_pick_means_the_thing_in_its_place():
    """Whatever its number is by now: another threshold, a filter in front and another detector number the same things anew."""
    value = {
        "mode": "force", "picked": [1], "names": {"1": "my dog", "0": "my cat"}, "moved": {"0": [1, 1, 9, 9]},
        "found": {"0": CAT, "1": DOG},
    }  # fmt: skip
    for come in ({"cat": CAT, "dog": DOG}, {"bird": BIRD, "cat": CAT, "dog": DOG}, {"dog": DOG, "bird": BIRD}, {"dog": DOG}):
        made, mask = apply(value, named(**come))
        assert made.labels == ("my dog",) and made.boxes.tolist() == [list(DOG)] and mask[20:40, 20:30].all() and mask.sum() == 200
    # as another detector sees it
    made, _ = apply(value, named(bird=BIRD, dog=(19, 21, 30, 40), cat=(0, 0, 10, 11)))
    assert made.boxes.tolist() == [[19, 21, 30, 40]]
    made, _ = apply(value | {"mode": "auto"}, named(bird=BIRD, dog=DOG, cat=CAT))
    assert made.labels == ("bird", "my dog", "my cat") and made.boxes[2].tolist() == [1, 1, 9, 9]
    # of two in one place, the one that still has the number
    made, _ = apply({"mode": "restrict", "picked": [1, 2], "found": {"1": DOG, "2": DOG}}, named(cat=CAT, dog=DOG, wolf=DOG))
    assert made.labels == ("dog", "wolf")
    made, _ = apply({"mode": "restrict", "picked": [1, 2], "found": {"1": DOG, "2": DOG}}, named(wolf=DOG, cat=CAT))
    assert made.labels == ("wolf",)


def test_a_picked_thing_that_is_not_there_is_no_other():
    """Refused where only it would be edited, left out and told of where the model chooses."""
    value = {"picked": [1], "names": {"1": "my dog"}, "moved": {"0": [1, 1, 9, 9]}, "found": {"0": CAT, "1": DOG}}
    for come in (named(cat=CAT, bird=BIRD), named(cat=CAT, bird=(20, 20, 30, 34)), named()):
        for mode in ("restrict", "force"):
            with pytest.raises(ValueError, match=f"region 1 of the selection, picked at 20, 20, 30, 40, is not .*{mode} would edit an"):
                apply(value | {"mode": mode}, come)
        choice = RegionChoice.from_json(json.dumps(value))
        assert "my dog" not in choice.apply(come)[0].labels and 1 in choice.missing(come)
    made, _ = choice.apply(named(bird=BIRD, cat=CAT))
    assert made.labels == ("bird", "cat") and made.boxes[1].tolist() == [1, 1, 9, 9]
    assert choice.missing(named(bird=BIRD, cat=CAT)) == [1] and choice.missing(named(dog=DOG, cat=CAT)) == []


def test_a_number_alone_stays_a_number():
    """Of older workflows, or written by hand: the region that has it, whatever is there."""
    value = {"mode": "force", "picked": [1], "names": {"1": "mine"}}
    made, _ = apply(value, named(cat=CAT, bird=BIRD, dog=DOG))
    assert made.boxes.tolist() == [list(BIRD)] and made.labels == ("mine",)
    assert RegionChoice.from_json(json.dumps(value)).missing(named(cat=CAT, bird=BIRD)) == []
