# SPDX-License-Identifier: GPL-3.0-or-later
"""Which regions a phrase means, on pictures made for it: name, colour, place, neighbours, number, and honest scores."""

from __future__ import annotations

import json

import pytest
import torch

from fireedit_core.grounding import CHOSEN, Answer, NotFound, ground
from fireedit_core.grounding.answer import mask_meant, regions_meant
from fireedit_core.grounding.colours import colour_share, is_colour, region_colours
from fireedit_core.grounding.ground import from_answer, scored
from fireedit_core.grounding.names import THINGS, lookup
from fireedit_core.regions import Regions
from fireedit_core.regions.dialects import to_mask

HEIGHT, WIDTH = 100, 300
# four cars in a row, red, blue, red, white; a dog in front of the second, a cat far right
BOXES = [[10, 20, 60, 60], [80, 20, 130, 60], [150, 20, 200, 60], [215, 20, 265, 60], [95, 50, 115, 80], [275, 70, 295, 95]]
LABELS = ("car", "car", "car", "car", "dog", "cat")
COLOURS = [(0.8, 0.1, 0.1), (0.1, 0.2, 0.8), (0.7, 0.05, 0.1), (0.95, 0.95, 0.95), (0.45, 0.28, 0.12), (0.1, 0.1, 0.1)]


@pytest.fixture
def image():
    made = torch.full((3, HEIGHT, WIDTH), 0.5)
    for (x1, y1, x2, y2), colour in zip(BOXES, COLOURS, strict=True):
        made[:, y1:y2, x1:x2] = torch.tensor(colour)[:, None, None]
    return made


def regions(scores=(0.8,) * 6, masks=None) -> Regions:
    return Regions(torch.tensor(BOXES, dtype=torch.float32), torch.tensor(scores), LABELS, (HEIGHT, WIDTH), masks)


def chosen(image, instruction, made=None) -> set[int]:
    answer = ground(image, instruction, made or regions()).answer
    return {BOXES.index([round(value) for value in target.box]) for target in answer.chosen}


@pytest.mark.parametrize(
    "words, expected",
    [
        ("the dog", {4}),
        ("the puppy", {4}),
        ("all cars", {0, 1, 2, 3}),
        ("the vehicles", {0, 1, 2, 3}),
        ("the animals", {4, 5}),
        ("the blue car", {1}),
        ("the white automobile", {3}),
        ("the red cars", {0, 2}),
        ("the car which is blue", {1}),
        ("the car that's white", {3}),
        ("the cars that are not red", {1, 3}),
        ("every car that isn't white", {0, 1, 2}),
        ("the non-red cars", {1, 3}),
        ("all of them", {0, 1, 2, 3, 4, 5}),
        ("all but the dog", {0, 1, 2, 3, 5}),
        ("both red cars", {0, 2}),
        ("the red car on the left", {0}),
        ("the red car on the right", {2}),
        ("the leftmost car", {0}),
        ("the second car from the left", {1}),
        ("the second car from the right", {2}),
        ("the 3rd car", {2}),
        ("the last car", {3}),
        ("the second to last car", {2}),
        ("the last car on the right", {3}),
        ("the last car on the left", {0}),
        ("the last car from the right", {0}),
        ("the two cars on the right", {2, 3}),
        ("all cars but the blue one", {0, 2, 3}),
        ("all cars except the one on the far left", {1, 2, 3}),
        ("every car except the red ones", {1, 3}),
        ("everything but the cars", {4, 5}),
        ("the car behind the dog", {1}),
        ("the animal in front of the blue car", {4}),
        ("the car next to the white car", {2}),
        ("the car to the left of the blue car", {0}),
        ("the car between the blue car and the white car", {2}),
        ("the smallest thing", {5}),
        ("the brown dog", {4}),
        ("the thing on the far right", {5}),
        ("the cat and the dog", {4, 5}),
        ("everything that isn't a car", {4, 5}),
        ("anything that is neither a car nor a dog", {5}),
        ("the cars that aren't on the left", {2, 3}),
        ("the cars that aren't red or blue", {3}),
        ("everything red", {0, 2}),
        ("the blue car and the white one", {1, 3}),
        ("the blue car and the one on the far right", {1, 3}),
        ("the blue car and the animal in front of it", {1, 4}),
        ("the first and the last car", {0, 3}),
        ("the left and right cars", {0, 3}),
        ("the blue and the white car", {1, 3}),
        ("the blue and white car", {3}),
        ("the car, the blue one", {1}),
        ("the car, the one on the far right", {3}),
        ("all cars except the two on the left", {2, 3}),
        ("the car nearest to the cat", {3}),
        ("the car farthest from the cat", {0}),
        ("the dog; keep the cars", {4}),
    ],
)
def test_what_is_meant(image, words, expected):
    assert chosen(image, f"remove {words}") == expected


def test_what_nothing_tells_apart_shares_the_probability(image):
    found = ground(image, "remove the car", regions())
    scores = found.regions.scores
    assert scores[:4].max() < 0.35 and scores[:4].sum() < 1 and "guess among 4" in found.message and "guess" in found.answer.note
    assert len(found.answer.chosen) == 1  # one is taken all the same


def test_some_of_them_are_not_all(image):
    for words in ("some of the cars", "most cars", "a few cars"):
        found = ground(image, f"remove {words}", regions())
        assert ": a guess, " in found.message and "is not said: all 4 were taken" in found.answer.note, words
        assert max(target.score for target in found.answer.targets) == CHOSEN
    assert "guess" not in ground(image, "remove all of the cars", regions()).message


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("the middle cup", 1), ("the cup in the middle", 1), ("the middle one of the three cups", 1), ("the tallest cup", 0),
        ("the shortest cup", 1), ("the widest cup", 1), ("the biggest cup", 1), ("the tall cup", 0),
    ],
)  # fmt: skip
def test_a_row_has_a_middle_and_things_have_a_height(image, words, expected):
    """The third stands nearest to the middle of the picture, the second is the largest and not the tallest."""
    boxes = [[10, 20, 30, 90], [50, 30, 110, 80], [125, 25, 150, 85]]
    cups = Regions(torch.tensor(boxes).float(), torch.full((3,), 0.8), ("cup",) * 3, (HEIGHT, WIDTH))
    (target,) = ground(image, f"remove {words}", cups).answer.chosen
    assert boxes.index([round(value) for value in target.box]) == expected and target.score > CHOSEN


def test_who_speaks_is_a_person(image):
    two = Regions(torch.tensor([[5.0, 5, 50, 95], [100, 5, 150, 95]]), torch.tensor([0.8, 0.8]), ("person", "dog"), (HEIGHT, WIDTH))
    assert ground(image, "blur everything except me", two).answer.targets[0].label == "person"


def test_a_guess_stays_one_whatever_is_named_with_it(image):
    for words in ("the dog and the car", "the car and the dog"):
        assert ": a guess, " in ground(image, f"remove {words}", regions()).message
    assert "guess" not in ground(image, "remove the dog and the cat", regions()).message


@pytest.mark.parametrize("words", ["the dog and the car", "the cat, the purple car and the car", "the car", "both purple cars"])
def test_mask_regions_and_answer_mean_the_same(image, words):
    """Nodes go by the mask, by the scores of the regions, or by the record; a guess beside something sure was in the mask alone."""
    found = ground(image, f"remove {words}", regions())
    meant = found.regions.select(regions_meant(found.regions))
    assert torch.equal(to_mask(meant), found.mask)
    assert torch.equal(from_answer(Answer.from_json(found.answer.to_json()), regions()).mask, found.mask)
    scores = [target.score for target in found.answer.targets]
    assert scores == sorted(scores, reverse=True) and scores == pytest.approx(found.regions.scores[: len(scores)].tolist())


def test_where_the_whole_picture_is_meant_no_region_is(image):
    """All regions have a score of 0 then, and the best of those was the first one."""
    found = ground(image, "make it look like winter", regions())
    assert found.mask.all() and not found.regions.scores.any()
    assert regions_meant(found.regions) == [] and mask_meant(found.regions).all() and mask_meant(Regions.empty((HEIGHT, WIDTH))).all()
    kept = from_answer(found.answer, regions())  # and where the record comes back, with what the detector found
    assert kept.mask.all() and regions_meant(kept.regions) == [] and len(kept.regions) == 6
    doubted = regions((0.0, 0.0, 0.01, 0.0, 0.0, 0.0))
    assert regions_meant(doubted) == [2] and mask_meant(doubted).sum() == 50 * 40


def test_what_was_not_chosen_stays_below_what_is(image):
    """However sure somebody is of it: `Answer.chosen` goes by the scores."""
    scores = torch.tensor([0.9, 0.8, 0.3, 0.01, 0.5, 0.0])
    answer = scored(regions(), scores, (4,), "remove", "dog", "", (), ()).answer
    assert [(target.label, round(target.score, 2)) for target in answer.targets] == [
        ("dog", 0.5), ("car", CHOSEN - 0.01), ("car", CHOSEN - 0.01), ("car", 0.3),
    ]  # fmt: skip
    assert [target.box[0] for target in answer.chosen] == [95]
    made = scored(regions(), scores, (4,), "remove", "dog", "", (), ()).regions
    assert regions_meant(made) == [0] and made.labels[0] == "dog"  # nodes that go by the regions see the same


def test_scores_are_best_first_and_follow_the_detector(image):
    found = ground(image, "remove the dog", regions())
    assert found.regions.labels[0] == "dog" and 0.8 < found.regions.scores[0] < 0.98
    doubtful = ground(image, "remove the dog", regions((0.8, 0.8, 0.8, 0.8, 0.3, 0.8)))
    assert doubtful.regions.scores[0] < found.regions.scores[0]


def test_what_is_said_and_not_seen_lowers_the_score(image):
    plain = ground(image, "remove the dog", regions()).regions.scores[0]
    for words in ("the green dog", "the dog on the right", "the dog behind the cat"):
        found = ground(image, f"remove {words}", regions())
        assert found.regions.labels[0] == "dog" and found.regions.scores[0] < 0.8 * plain and found.answer.note, words
    twice = ground(image, "remove the green dog behind the cat", regions()).regions.scores[0]
    assert float(twice) == pytest.approx(0.75**2 * float(plain), rel=0.01)  # each counts


@pytest.mark.parametrize("words", ["the smallest dog", "the leftmost dog", "the biggest animal"])
def test_what_is_compared_with_nothing_is_said_and_lowers_the_score(image, words):
    alone = regions().select([0, 4])  # a detector that missed the cat
    plain = ground(image, "remove the dog", alone).answer.chosen[0]
    answer = ground(image, f"remove {words}", alone).answer
    assert "compared with none" in answer.note
    assert answer.chosen[0].box == plain.box and answer.chosen[0].score == pytest.approx(0.75 * plain.score, abs=0.01)
    assert "compared" not in ground(image, "remove the smallest car", regions()).answer.note


@pytest.mark.parametrize(("left", "elsewhere"), [(10, False), (110, False), (120, True), (130, True), (140, True), (150, True)])
def test_one_thing_in_the_middle_is_on_neither_side(image, left, elsewhere):
    """A box 40 px wide of 300: on the left it has to lie clearly, for the one that is meant may not have been found."""
    one = Regions(torch.tensor([[left, 20.0, left + 40, 60]]), torch.tensor([0.8]), ("bicycle",), (HEIGHT, WIDTH))
    plain, found = (ground(image, f"remove the bike{where}", one).answer for where in ("", " on the left"))
    assert ("lies elsewhere (left was said)" in found.note) is elsewhere
    assert found.chosen[0].score == pytest.approx(plain.chosen[0].score * (0.75 if elsewhere else 1), abs=0.01)


def test_a_second_opinion_counts_for_less(image):
    boxes = torch.tensor([[5.0, 5, 200, 95], [8, 6, 198, 95]])
    two = Regions(boxes, torch.tensor([0.59, 0.40]), ("person", "cat"), (HEIGHT, WIDTH))
    alone = Regions(boxes[1:], torch.tensor([0.40]), ("cat",), (HEIGHT, WIDTH))
    both, one = ground(image, "remove the cat", two), ground(image, "remove the cat", alone)
    assert both.regions.labels[0] == "cat" and 0.5 < both.regions.scores[0] < one.regions.scores[0]
    with pytest.raises(NotFound, match="no dog was found"):
        ground(image, "remove the dog", two)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("the bear cub", {1}), ("the cub", {0}), ("the bear cubs", {1}), ("the baby bear", {1}), ("the young bear", {1}),
        ("the adult bear", {0}), ("the mother bear", {0}), ("the baby brown bear on the right", {1}), ("the fox cub", {2}),
        ("the lion cub", "refuse"), ("the young man", {4}), ("the baby", {4}), ("the mother", {4}),
    ],
)  # fmt: skip
def test_the_age_of_an_animal_shows_as_its_size(image, words, expected):
    boxes = [[5, 20, 60, 95], [70, 60, 95, 95], [100, 60, 125, 90], [130, 60, 160, 95], [165, 5, 195, 95]]
    found = Regions(torch.tensor(boxes).float(), torch.full((5,), 0.8), ("bear", "bear", "fox", "fox", "person"), (HEIGHT, WIDTH))
    if expected == "refuse":
        with pytest.raises(NotFound, match="no lion was found"):
            ground(image, f"remove {words}", found)
        return
    answer = ground(image, f"remove {words}", found).answer
    first = answer.targets[: len(expected)]
    assert {boxes.index([round(value) for value in target.box]) for target in first} == expected
    assert words == "the cub" or all(target.score > 0.5 for target in first)  # "the cub" of two bears is a guess


def test_the_mask_is_the_regions_own_or_their_boxes(image):
    assert ground(image, "remove the dog", regions()).mask.sum() == 20 * 30
    masks = torch.zeros(6, HEIGHT, WIDTH)
    masks[4, 60:70, 100:110] = 1
    assert ground(image, "remove the dog", regions(masks=masks)).mask.sum() == 100
    assert ground(image, "make the picture brighter", regions()).mask.sum() == HEIGHT * WIDTH


def test_an_unknown_thing_lists_what_was_found_and_what_can_be_named(image):
    with pytest.raises(NotFound, match=r"no horse was found.*4 x car \(best 0.80\), dog \(0.80\), cat \(0.80\)"):
        ground(image, "remove the horse", regions())
    with pytest.raises(NotFound) as caught:
        ground(image, "remove the gizmo", regions())
    assert all(name in str(caught.value) for name in THINGS)
    one = Regions(torch.tensor([[50.0, 10, 250, 95]]), torch.tensor([0.6]), ("person",), (HEIGHT, WIDTH))
    with pytest.raises(NotFound, match="one main object, taken for a person"):
        ground(image, "remove the cat", one)
    assert ground(image, "remove the main object", one).answer.targets[0].label == "person"
    with pytest.raises(NotFound, match="asks for number 7, but 4 regions fit"):
        ground(image, "remove the 7th car from the left", regions())
    with pytest.raises(NotFound, match="No region was found"):
        ground(image, "remove the cat", Regions.empty((HEIGHT, WIDTH)))


@pytest.mark.parametrize("words", ["darken the left half", "remove the right side of the picture", "make the left-hand third brighter"])
def test_a_part_of_the_picture_is_no_thing_in_it(image, words):
    """The first car was darkened, and its score was .8."""
    with pytest.raises(NotFound, match="'(half|side|third)' is no name that is known.*Region Select"):
        ground(image, words, regions())
    assert chosen(image, "darken the car on the left side of the picture") == {0}
    assert chosen(image, "remove the left one") == {0}


def test_labels_of_a_detector_that_reads_a_prompt_are_matched_as_they_are(image):
    boxes = torch.tensor([[5.0, 5, 50, 95], [100, 5, 150, 95]])
    lamps = Regions(boxes, torch.tensor([0.5, 0.5]), ("street lamp", "bin"), (HEIGHT, WIDTH))
    assert ground(image, "remove the lamp", lamps).regions.labels[0] == "street lamp"
    assert ground(image, "remove the bins", lamps).regions.labels[0] == "bin"
    nameless = Regions(lamps.boxes, lamps.scores, ("object", "object"), (HEIGHT, WIDTH))
    with pytest.raises(NotFound, match="have no names"):
        ground(image, "remove the gizmo", nameless)
    assert ground(image, "remove the thing on the right", nameless).answer.targets[0].box[0] == 100


def test_a_slip_of_the_keyboard_is_read_and_said(image):
    bikes = Regions(torch.tensor([[5.0, 5, 50, 95]]), torch.tensor([0.7]), ("motorcycle",), (HEIGHT, WIDTH))
    found = ground(image, "remove the motorcyle", bikes)
    assert found.answer.targets and "'motorcycle'" in found.answer.note


def test_a_filled_answer_is_used_as_it_is(image):
    written = json.dumps({"kind": "remove", "thing": "x", "targets": [{"box": [95, 50, 115, 80], "score": 0.7}]})
    masks = torch.zeros(6, HEIGHT, WIDTH)
    masks[4, 60:70, 100:110] = 1
    found = ground(None, "mach die Katze weg", regions(masks=masks), written)
    assert found.answer == Answer.from_json(written, (HEIGHT, WIDTH)) and found.mask.sum() == 100
    assert found.regions.boxed == (False,)
    elsewhere = json.dumps({"kind": "remove", "thing": "x", "targets": [{"box": [10, 10, 30, 30]}]})
    assert ground(None, "", regions(masks=masks), elsewhere).regions.boxed == (True,)  # nobody knows its outline
    again = ground(image, "remove the dog", regions())
    assert torch.equal(ground(None, "", regions(), again.answer.to_json()).mask, again.mask)
    with pytest.raises(ValueError, match="height 5 and width 5"):
        ground(None, "", regions(), '{"kind": "remove", "targets": [], "image_size": [5, 5]}')


def test_without_a_picture_colours_are_left_out_and_that_is_said():
    found = ground(None, "remove the blue car", regions())
    assert "guess" in found.answer.note and "blue" in found.answer.note


def test_thirty_of_one_kind():
    boxes = torch.tensor([[10.0 * i, 10, 10 * i + 9, 30] for i in range(30)])
    many = Regions(boxes, torch.full((30,), 0.5), ("coin",) * 30, (HEIGHT, WIDTH))
    assert len(ground(None, "remove all coins", many).answer.chosen) == 30
    guess = ground(None, "remove the coin", many).answer
    assert guess.targets[0].score < 0.05 and "guess among 30" in guess.note and Answer.from_json(guess.to_json()) is not None
    assert ground(None, "remove the 12th coin from the left", many).answer.targets[0].box[0] == 110


def test_a_picture_of_another_size_is_refused(image):
    with pytest.raises(ValueError, match="belong to a picture of height"):
        ground(image[:, :50], "remove the dog", regions())
    with pytest.raises(ValueError, match="one picture"):
        ground(image[None], "remove the dog", regions())


def test_colours_as_people_name_them():
    for colour, rgb in {
        "red": (0.8, 0.1, 0.1), "orange": (0.95, 0.5, 0.1), "yellow": (0.95, 0.85, 0.1), "green": (0.1, 0.5, 0.15), "blue": (0.1, 0.2, 0.8),
        "purple": (0.5, 0.15, 0.7), "pink": (0.95, 0.5, 0.75), "brown": (0.4, 0.25, 0.12), "black": (0.05, 0.05, 0.06),
        "white": (0.96, 0.96, 0.94), "grey": (0.5, 0.5, 0.51), "beige": (0.88, 0.78, 0.62), "turquoise": (0.1, 0.7, 0.7),
    }.items():  # fmt: skip
        flat = torch.tensor(rgb)[:, None, None].expand(3, 10, 10)
        assert list(region_colours(flat, torch.tensor([0.0, 0, 10, 10]))) == [colour]
        shaded = flat * torch.linspace(0.75, 1.0, 10)
        assert colour_share(shaded, torch.tensor([0.0, 0, 10, 10]), colour) > 0.6, colour
    navy = torch.tensor((0.05, 0.08, 0.35))[:, None, None].expand(3, 10, 10)
    box = torch.tensor([0.0, 0, 10, 10])
    assert colour_share(navy, box, "navy") > 0.9 and colour_share(navy, box, "light blue") < 0.4
    assert is_colour("a dark red") and is_colour("#f80") and not is_colour("a tram") and not is_colour("")


def test_the_mask_is_measured_not_what_is_around_it():
    picture = torch.zeros(3, 20, 20)
    picture[0] = 1
    picture[:, 8:12, 8:12] = torch.tensor((0.0, 0.0, 1.0))[:, None, None]
    mask = torch.zeros(20, 20)
    mask[8:12, 8:12] = 1
    box = torch.tensor([0.0, 0, 20, 20])
    assert colour_share(picture, box, "blue", mask) == 1 and colour_share(picture, box, "blue") < 0.2


def test_names():
    assert len(THINGS) == 80
    for text, thing, many in [
        ("men", "person", True), ("kitty", "cat", False), ("buses", "bus", True), ("bus", "bus", False), ("TV", "tv", False),
        ("wine glasses", "wine glass", True), ("sofas", "couch", True), ("cellphone", "cell phone", False), ("puppies", "dog", True),
        ("knives", "knife", True),
        ("sheep", "sheep", False), ("people", "person", True), ("benches", "bench", True), ("scissors", "scissors", False),
    ]:  # fmt: skip
        name = lookup(text)
        assert name is not None and name.things[0] == thing and name.many == many, text
    assert set(lookup("bike").things) == {"bicycle", "motorcycle"} and lookup("gizmo") is None
