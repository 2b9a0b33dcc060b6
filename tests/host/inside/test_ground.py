# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEdit Ground in the host: what comes out for one picture and a batch, a filled answer, and refusals that name the node."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from tests.host.inside.pack import nodes  # first: it makes the pack importable

from fireedit_core.regions import Regions  # isort: skip
from fireedit_core.thumbnail import fingerprint  # isort: skip
from fireedit_pack.nodes.errors import FireEditNodeError  # isort: skip
from fireedit_pack.nodes.ground import FireEditGround  # isort: skip

HEIGHT, WIDTH = 40, 60


def two() -> Regions:
    return Regions(torch.tensor([[2.0, 5, 18, 35], [40, 5, 58, 30]]), torch.tensor([0.8, 0.7]), ("cat", "dog"), (HEIGHT, WIDTH))


@pytest.fixture
def image():
    return torch.rand(1, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(0))


def test_it_is_a_node_of_the_pack():
    assert any(node.__name__ == "FireEditGround" for node in nodes.NODES)


def test_one_picture(image):
    regions, mask, answer = FireEditGround.execute(image, "remove the dog", [two()]).args
    assert regions[0].labels == ("dog", "cat") and float(regions[0].scores[0]) > 0.8 and float(regions[0].scores[1]) == 0
    assert mask.shape == (1, HEIGHT, WIDTH) and mask.sum() == 18 * 25 and mask[0, 10, 50] == 1
    record = json.loads(answer)
    assert record["kind"] == "remove" and record["targets"][0]["box"] == [40, 5, 58, 30] and record["image_size"] == [HEIGHT, WIDTH]


def test_the_report_stands_on_the_node(image):
    output = FireEditGround.execute(image, "make the cat blue and remove the dog", [two()])
    assert "recolour cat -> blue" in output.ui["text"][0] and "Multi Turn" in output.ui["text"][0]


def test_a_batch_has_a_record_for_each(image):
    other = Regions(torch.tensor([[0.0, 0, 30, 30]]), torch.tensor([0.9]), ("dog",), (HEIGHT, WIDTH))
    regions, mask, answer = FireEditGround.execute(image.repeat(2, 1, 1, 1), "remove the dog", [two(), other]).args
    assert len(regions) == 2 and mask.shape == (2, HEIGHT, WIDTH) and mask[1].sum() == 900
    assert [record["targets"][0]["box"] for record in json.loads(answer)] == [[40, 5, 58, 30], [0, 0, 30, 30]]
    again = FireEditGround.execute(image.repeat(2, 1, 1, 1), "not read at all", [two(), other], answer)
    assert torch.equal(again.args[1], mask) and again.args[2] == answer


def test_each_picture_s_colours_are_its_own():
    cups = Regions(torch.tensor([[4.0, 5, 24, 35], [34, 5, 54, 35]]), torch.tensor([0.9, 0.9]), ("cup", "cup"), (HEIGHT, WIDTH))
    pictures = torch.full((2, HEIGHT, WIDTH, 3), 0.5)
    red, blue = torch.tensor([0.8, 0.05, 0.05]), torch.tensor([0.05, 0.05, 0.8])
    for picture, (left, right) in zip(pictures, ((red, blue), (blue, red)), strict=True):
        picture[5:35, 4:24], picture[5:35, 34:54] = left, right
    answer = json.loads(FireEditGround.execute(pictures, "remove the red cup", [cups, cups]).args[2])
    assert [record["targets"][0]["box"][0] for record in answer] == [4, 34]


def test_regions_of_an_answer_know_their_picture_still():
    """So that they are refused on another, as those that were read are."""
    ramp = torch.linspace(0, 0.3, WIDTH).expand(HEIGHT, WIDTH)[None, ..., None].expand(-1, -1, -1, 3)
    known = [replace(two(), picture=fingerprint(ramp[0].movedim(-1, 0)))]
    answer = '{"kind": "recolour", "after": "red", "targets": [{"box": [2, 5, 18, 35], "score": 0.9}]}'
    (found,), *_ = FireEditGround.execute(ramp, "", known, answer).args
    assert found.picture == known[0].picture and found.boxes.tolist() == [[2, 5, 18, 35]]
    with pytest.raises(FireEditNodeError, match="^FireEdit Ground: the regions were found on another picture"):
        FireEditGround.execute(1 - ramp, "remove the object", [found])


def report(output) -> str:
    return output.ui["text"][0]


def test_an_answer_that_is_kept_says_so_on_another_picture():
    """It stays in the widget when another picture is loaded, and its box lies on something else there."""
    ramp = torch.linspace(0, 0.3, WIDTH).expand(HEIGHT, WIDTH)[None, ..., None].expand(-1, -1, -1, 3)
    known, others = ([replace(two(), picture=fingerprint(one[0].movedim(-1, 0)))] for one in (ramp, 1 - ramp))
    kept = FireEditGround.execute(ramp, "make the dog red", known).args[2]
    edit = lambda picture: nodes.FireEditQuickEdit.execute(picture, kept, regions=None).args[2]  # noqa: E731
    assert "another picture" not in report(FireEditGround.execute(ramp, "", known, kept)) + edit(ramp)
    other = FireEditGround.execute(1 - ramp, "", others, kept)
    assert "made on another picture" in report(other) and "made on another picture" in edit(1 - ramp)
    assert other.args[2] == kept  # used as it is
    unknown = FireEditGround.execute(ramp, "make the dog red", [two()]).args[2]  # regions of a mask alone know no picture
    assert json.loads(unknown)["picture"] == fingerprint(ramp[0].movedim(-1, 0))


def test_before_a_background_the_mask_is_what_stays_and_that_is_said(image):
    """Photo Crop and Confine take a mask for what is to change: an edit model repainted the dog, and kept the background."""
    output = FireEditGround.execute(image, "change the background to a beach", [two()])
    assert output.args[1][0, 10, 50] == 1 and "what stays in front: for an edit model connect the answer" in report(output)
    assert "stays in front" not in report(FireEditGround.execute(image, "replace the dog with a cat", [two()]))


def test_a_target_without_its_region_is_a_box_and_that_is_said(image):
    masks = torch.zeros(2, HEIGHT, WIDTH)
    masks[:, 10:20, 5:10] = 1
    masked = [replace(two(), masks=masks)]
    elsewhere = '{"kind": "remove", "targets": [{"box": [2, 5, 18, 35]}, {"box": [30, 5, 36, 30]}]}'
    assert "where 1 of them lies, so the box is the mask there" in report(FireEditGround.execute(image, "", masked, elsewhere))
    assert "box is the mask" not in report(FireEditGround.execute(image, "remove the cat", masked))


def test_a_filled_answer_runs_nothing(image, monkeypatch):
    monkeypatch.setattr("fireedit_pack.nodes.ground.ground", None)  # calling it would fall
    answer = '{"kind": "cutout", "targets": [{"box": [1, 1, 11, 11]}]}'
    regions, mask, out = FireEditGround.execute(image, "", [two()], answer).args
    assert mask.sum() == 100 and regions[0].boxes.tolist() == [[1, 1, 11, 11]] and json.loads(out)["kind"] == "cutout"


@pytest.mark.parametrize(
    "instruction, answer, words",
    [
        ("remove the horse", "", r"FireEdit Ground: no horse was found.*cat \(0\.80\)"),
        ("remove the frobnicator", "", "no name that is known.*person, bicycle"),
        ("", "", "empty"),
        ("!!!", "", "no words"),
        ("x" * 10_000, "", "10000 characters"),
        ("entferne die Katze", "", "German"),
        ("הסר את החתול", "", "Hebrew"),
        ("remove the cat", "{", "no valid JSON"),
        ("remove the cat", '{"kind": "remove", "targets": [], "image_size": [9, 9]}', "height 9 and width 9"),
        ("remove the cat", '{"kind": "remove", "targets": [{"box": [0, 0, 900, 9]}]}', "does not lie in the picture"),
    ],
)
def test_what_cannot_be_read_or_found_is_said(image, instruction, answer, words):
    with pytest.raises(FireEditNodeError, match=f"(?s)^FireEdit Ground: .*{words.removeprefix('FireEdit Ground: ')}"):
        FireEditGround.execute(image, instruction, [two()], answer)


def test_which_picture_of_a_batch_lacks_it(image):
    none = Regions.empty((HEIGHT, WIDTH))
    with pytest.raises(FireEditNodeError, match="picture 2 of 2"):
        FireEditGround.execute(image.repeat(2, 1, 1, 1), "remove the dog", [two(), none])
    with pytest.raises(FireEditNodeError, match="Connect the same picture"):
        FireEditGround.execute(image.repeat(2, 1, 1, 1), "remove the dog", [two()])


def test_pictures_that_are_grey_tiny_or_broken(image):
    assert FireEditGround.execute(image[..., :1], "remove the red dog", [two()]).args[1].sum() == 450
    one = Regions(torch.tensor([[0.0, 0, 1, 1]]), torch.ones(1), ("dog",), (1, 1))
    assert FireEditGround.execute(torch.rand(1, 1, 1, 4), "make the red dog blue", [one]).args[1].sum() == 1
    with pytest.raises(FireEditNodeError, match="not numbers"):
        FireEditGround.execute(image * float("nan"), "remove the dog", [two()])
