# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEdit Quick Edit by hand: batches, alpha, regions, answers, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch

from tests.host.inside.pack import nodes  # first: it makes the pack importable

from fireedit_core.grounding.answer import Answer, Target, answers_to_json  # isort: skip
from fireedit_core.regions.record import Regions  # isort: skip
from fireedit_pack.nodes.errors import FireEditNodeError  # isort: skip

SIZE = (72, 96)


def pictures(count=1, channels=3):
    return torch.rand(count, *SIZE, channels, generator=torch.Generator().manual_seed(count)).mul(255).round() / 255


def masks(count=1):
    made = torch.zeros(count, *SIZE)
    for i in range(count):
        made[i, 20 + 5 * i : 40 + 5 * i, 30:60] = 1
    return made


def edit(image, answer, mask=None, regions=None, backdrop=None):
    return nodes.FireEditQuickEdit.execute(image, answer, mask, regions, backdrop).args


def record(kind, after="", targets=(), thing="", note=""):
    return Answer(kind, thing, targets, after, (), SIZE, note)


@pytest.mark.parametrize("answer", ("remove", "recolour: blue", "background: blur", "brighter", "blurred", "grey"))
@pytest.mark.parametrize("channels", (3, 4))
def test_batch_of_three_with_masks_each(answer, channels):
    image, mask = pictures(3, channels), masks(3)
    edited, touched, text = edit(image, answer, mask)
    assert edited.shape == image.shape and touched.shape == mask.shape and len(text.splitlines()) == 3
    assert torch.equal(edited[touched == 0], image[touched == 0]) and not torch.equal(edited, image)
    assert torch.equal(edited[..., 3:], image[..., 3:])
    for i in range(3):  # each as it would be alone
        assert torch.equal(edit(image[i : i + 1], answer, mask[i : i + 1])[0][0], edited[i])


@pytest.mark.parametrize("answer", ("remove", "recolour: blue", "background: blur", "background: transparent", "cutout", "darker", "grey"))
@pytest.mark.parametrize(("size", "channels"), (((256, 384), 3), ((832, 1248), 4)))
def test_outside_of_the_masks_of_a_batch_at_a_tenth_of_a_megapixel_and_at_one(answer, size, channels):
    """The maximum difference is 0, whatever the mask of each picture; what is transparent is so only where it was touched."""
    image = torch.rand(3, *size, channels, generator=torch.Generator().manual_seed(1)).mul(255).round() / 255
    mask = torch.zeros(3, *size)
    for i in range(3):
        mask[i, 60 + 20 * i : 100 + 20 * i, 80 : 140 + 10 * i] = 1
    mask[1, 80:84] *= 0.5  # an edge that is soft
    edited, touched, _ = edit(image, answer, mask)
    outside = touched == 0
    assert outside.any() and float((edited[..., :channels] - image)[outside].abs().max()) == 0.0
    assert edited.shape[-1] == (4 if answer in ("cutout", "background: transparent") else channels)
    assert channels == 4 or edited.shape[-1] == 3 or (edited[..., 3][outside] == 1).all()
    for i in range(3):
        assert not torch.equal(edited[i, ..., :channels], image[i]) or channels == 3 and edited.shape[-1] == 4


@pytest.mark.slow
def test_outside_of_the_masks_of_a_batch_of_three_at_24_megapixels():
    image = torch.rand(1, 40, 60, 4, generator=torch.Generator().manual_seed(1)).tile(1, 100, 100, 1).expand(3, -1, -1, -1)
    mask = torch.zeros(3, 4000, 6000)
    for i in range(3):
        mask[i, 1000 + 300 * i : 1100 + 300 * i, 2000:2100] = 1
    edited, touched, _ = edit(image, "recolour: blue", mask)
    for before, after, where in zip(image, edited, touched, strict=True):
        changed = (before != after).any(-1)
        assert changed.any() and not (changed & (where == 0)).any()


def test_a_cut_out_has_alpha_and_joins_a_batch_with_others():
    answers = answers_to_json([record("cutout"), record("recolour", "red")])
    edited, _, text = edit(pictures(2), answers, masks(2))
    assert edited.shape == (2, *SIZE, 4) and (edited[1, ..., 3] == 1).all() and float(edited[0, 0, 0, 3]) == 0
    assert "picture 1: cut out" in text and "picture 2: recoloured" in text


def test_one_mask_and_one_backdrop_serve_all():
    edited, _, _ = edit(pictures(3), "background: picture", masks(1), backdrop=pictures(1, 4)[:, :40])
    assert torch.equal(edited[0, 0, 0], edited[2, 0, 0])


def test_each_picture_has_its_own_backdrop():
    plain = torch.tensor([[0.1, 0.2, 0.3], [0.7, 0.6, 0.5]])[:, None, None].expand(2, 30, 40, 3)
    edited, _, _ = edit(pictures(2), "background: picture", masks(2), backdrop=plain)
    assert torch.allclose(edited[:, 0, 0], plain[:, 0, 0], atol=1e-4)


@pytest.mark.parametrize("connected", (True, False))
def test_a_whole_picture_in_a_batch_with_others_is_meant_as_a_whole(connected):
    """ "make it brighter" beside "make the cup blue": it used to be one region that became brighter, or nothing at all."""
    answers = answers_to_json([record("adjust", "brighter"), record("recolour", "blue", (Target((5, 5, 25, 25), 0.9),), "cup")])
    one = Regions(torch.tensor([[5.0, 5, 25, 25]]), torch.tensor([0.9]), ("cup",), SIZE)
    edited, touched, text = edit(pictures(2), answers, regions=[one, one] if connected else None)
    assert touched[0].eq(1).all() and touched[1].sum() == 20 * 20
    assert torch.equal(edited[0], edit(pictures(2)[:1], "brighter")[0][0]) and "picture 1: made the thing (100.0%" in text


def test_an_empty_mask_in_a_batch_leaves_its_picture():
    image, mask = pictures(2), masks(2)
    mask[1] = 0
    edited, touched, text = edit(image, "remove", mask)
    assert torch.equal(edited[1], image[1]) and not touched[1].any() and "picture 2: nothing of it is marked" in text


def test_regions_by_the_answers_targets_by_score_or_the_best():
    boxes = torch.tensor([[5.0, 5, 25, 25], [40, 30, 70, 60]])
    regions = [Regions(boxes, torch.tensor([0.4, 0.3]), ("cup", "dog"), SIZE)]
    where = lambda text, chosen=regions: (edit(pictures(), text, regions=chosen)[1][0] > 0).nonzero().amin(0).tolist()  # noqa: E731
    assert where("recolour: blue") == [5, 5]  # the best
    assert where("recolour: blue", [regions[0].with_scores([0.4, 0.9])]) == [30, 40]
    target = record("recolour", "blue", (Target((40, 30, 70, 60), 0.9), Target((5, 5, 25, 25), 0.2)))
    assert where(target.to_json()) == [30, 40]
    # a region's mask counts in place of its box, and without regions the answer's own boxes do
    mask = torch.zeros(2, *SIZE)
    mask[1, 35:50, 45:60] = 1
    assert where(target.to_json(), [Regions(boxes, regions[0].scores, ("cup", "dog"), SIZE, mask)]) == [35, 45]
    edited = edit(pictures(), target.to_json())
    assert (edited[1][0] > 0).nonzero().amin(0).tolist() == [30, 40] and "Only its box is known" in edited[2]


def test_regions_of_a_score_of_0_are_not_meant():
    """FireEdit Ground gives them where the whole picture is meant; the first of them used to be edited."""
    none = [Regions(torch.tensor([[5.0, 5, 25, 25]]), torch.zeros(1), ("cup",), SIZE)]
    assert edit(pictures(), "brighter", regions=none)[1].all()
    for answer in ("remove", "cutout", record("adjust", "brighter", thing="cat").to_json()):
        with pytest.raises(FireEditNodeError, match="none of the regions is meant: all have a score of 0"):
            edit(pictures(), answer, regions=none)


@pytest.mark.parametrize("masked", (True, False))
def test_a_target_that_no_region_stands_for_is_edited_with_those_that_have_one(masked):
    """It was left out without a word, as soon as another target had a region: one that max_regions had cut, or added by hand."""
    mask = torch.zeros(1, *SIZE)
    mask[0, 8:20, 8:20] = 1
    known = [Regions(torch.tensor([[5.0, 5, 25, 25]]), torch.tensor([0.9]), ("cup",), SIZE, mask if masked else None)]
    both = record("recolour", "blue", (Target((5, 5, 25, 25), 0.9), Target((40, 30, 70, 60), 0.9)))
    _, touched, report = edit(pictures(), both.to_json(), regions=known)
    assert touched.sum() == (12 * 12 if masked else 20 * 20) + 30 * 30 and touched[0, 30:60, 40:70].all()
    assert "Only its box is known" in report


def test_what_is_connected_or_written_and_has_no_effect_is_said():
    for answer in ("remove", "cutout", "background: blur", "background: transparent", "brighter"):
        assert "the picture at backdrop did not count" in edit(pictures(), answer, masks(), backdrop=pictures())[2], answer
        assert "backdrop" not in edit(pictures(), answer, masks())[2], answer
    assert "did not count" not in edit(pictures(), "background: picture", masks(), backdrop=pictures())[2]
    assert "'white' did not count" in edit(pictures(), "background: white", masks(), backdrop=pictures())[2]
    for answer in ("remove: the cup", "cutout: white"):
        with pytest.raises(FireEditNodeError, match="takes no more words"):
            edit(pictures(), answer, masks())


def test_a_box_among_masks_is_called_one_and_keeps_nothing_of_the_picture_back():
    """Drawn, or of a language model, where other regions have masks: its rectangle was removed without a word."""
    image = pictures()
    painted = torch.zeros(1, *SIZE)
    painted[0, 30:50, 60:80] = 1
    known = nodes.FireEditRegionsFromMask.execute(painted, 0.5, 16, "cup", image).args[0]
    drawn = json.dumps({"boxes": [{"box": [55, 25, 70, 60], "name": "dog"}]})
    both = nodes.FireEditRegionSelect.execute(image, drawn, known).args[0]
    target = lambda box: record("remove", targets=(Target(box, 0.9),)).to_json()  # noqa: E731
    dog, cup = edit(image, target((55, 25, 70, 60)), regions=both), edit(image, target((60, 30, 80, 50)), regions=both)
    assert "Only its box is known" in dog[2] and "Only its box is known" not in cup[2]
    assert torch.equal(cup[0], edit(image, target((60, 30, 80, 50)), regions=known)[0])
    reports = nodes.FireEditRegionMasks.execute(image, both, 32).args[2]
    assert "cup: given" in reports and "dog: given" not in reports
    edited = edit(image, json.dumps({"kind": "remove", "targets": [{"box": [5, 5, 25, 25]}]}), regions=known)
    assert "Only its box is known" in edited[2]


def test_grey_and_one_pixel():
    grey = pictures(1, 1)
    assert edit(grey, "remove", masks())[0].shape == grey.shape
    assert edit(torch.rand(1, 1, 1, 3), "recolour: red", torch.ones(1, 1, 1))[0].shape == (1, 1, 1, 3)
    with pytest.raises(FireEditNodeError, match="Quick Edit: expected an IMAGE"):
        edit(pictures(1, 2), "remove", masks())


def test_the_whole_picture():
    edited, touched, _ = edit(pictures(), "grey")
    assert (touched == 1).all() and torch.allclose(edited[..., 0], edited[..., 2])


@pytest.mark.parametrize(
    ("answer", "mask", "words"),
    (
        ("", masks(), "the answer is empty"), ("make it blue", masks(), "is no answer. Connect that of FireEdit Ground"),
        ("remove", None, "nothing says where. Paint a mask"), ("remove", masks() * 0, "the mask is empty"),
        ("remove", masks() * 0 + 1, "leaves nothing of the picture"), ("cutout", masks() * 0 + 1, "covers the whole picture"),
        ("remove", torch.ones(1, 5, 5), "the mask has shape"), ("remove", masks() / 0, "not numbers"),
        ("remove", masks() * 255, "0..255"), ("remove", masks(2), "the mask has shape"),
        ("recolour: furry", masks(), "is no colour that is known"), ("background: a beach", masks(), "connect a picture of it"),
        ('{"kind": "remove"', masks(), "no valid JSON"), ("[]", masks(), "0 records"),
        (record("replace", "a dog").to_json(), masks(), "needs an edit model.*Regions to Mask"),
        (record("remove", note="No cat was found.", thing="cat").to_json(), None, "No cat was found"),
        (json.dumps(record("remove").to_dict() | {"image_size": [9, 9]}), masks(), "another|height 9"),
    ),
)  # fmt: skip
def test_refusals_name_the_node(answer, mask, words):
    with pytest.raises(FireEditNodeError, match=f"(?s)FireEdit Quick Edit: .*({words})"):
        edit(pictures(), answer, mask)


def test_more_refusals():
    with pytest.raises(FireEditNodeError, match="3 pictures came, but 2 backdrops"):
        edit(pictures(3), "background: picture", masks(3), backdrop=pictures(2))
    with pytest.raises(FireEditNodeError, match="but regions of 2 pictures"):
        edit(pictures(1), "remove", regions=[Regions.empty(SIZE)] * 2)
    with pytest.raises(FireEditNodeError, match="not numbers"):
        edit(torch.cat([pictures(), pictures()[..., :1] / 0], -1), "remove", masks())
    with pytest.raises(FireEditNodeError, match="no region came, so nothing is there to remove"):
        edit(pictures(1), "remove", regions=[Regions.empty(SIZE)])


def test_a_cancel_stops_it():
    import comfy.model_management as management

    management.interrupt_current_processing(True)
    try:
        with pytest.raises(management.InterruptProcessingException):
            edit(pictures(), "remove", masks())
    finally:
        management.interrupt_current_processing(False)
