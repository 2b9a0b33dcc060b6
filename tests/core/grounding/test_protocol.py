# SPDX-License-Identifier: GPL-3.0-or-later
"""What a chat model is asked and what is made of its reply, whatever it is."""

from __future__ import annotations

import json
import random

import pytest
import torch

from fireedit_core.grounding.answer import KINDS, Answer
from fireedit_core.grounding.by_model import ground_by_model
from fireedit_core.grounding.dialects import MARKS, PER_MILLE, PIXELS
from fireedit_core.grounding.protocol import question, read_reply, reply_schema
from fireedit_core.regions.record import Regions

SIZE, SEEN = (300, 400), (308, 392)
GOOD = {"kind": "recolour", "before": "dog", "targets": [1], "boxes": [], "after": "blue", "keep": ["the wall"]}


def two() -> Regions:
    return Regions(torch.tensor([[100.0, 60, 300, 240], [0, 0, 40, 30]]), torch.tensor([0.9, 0.8]), ("cat", "dog"), SIZE)


def read(text, dialect=PER_MILLE, count=2):
    return read_reply(text, count, dialect, SIZE, SEEN)


def test_the_question_lists_boxes_in_the_dialect_and_keeps_the_instruction():
    text = question('mach "den Hund" blau', two(), PER_MILLE, SEEN)
    assert "0: cat [250, 200, 750, 800]" in text and "1: dog [0, 0, 100, 100]" in text and '"mach \\"den Hund\\" blau"' in text
    pixels = question("x", two(), PIXELS, SEEN)
    assert "0: cat [98, 62, 294, 246]" in pixels and "392 wide and 308 high" in pixels
    marks = question("x", two(), MARKS, SEEN)
    assert "0: cat\n" in marks and '"boxes"' not in marks and "boxes" not in reply_schema(2, MARKS, SEEN)["properties"]
    assert "No thing in the picture is numbered" in question("x", Regions.empty(SIZE), PER_MILLE, SEEN)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(GOOD),
        f"```json\n{json.dumps(GOOD, indent=2)}\n```",
        f"Sure! Here it is:\n{json.dumps(GOOD)}\nAnything else?",
        f"<think>the {{dog}}, {{\"kind\": \"remove\"}}?</think>{json.dumps(GOOD)}",
        f"{{not json}} {json.dumps(GOOD)}",
        json.dumps(GOOD | {"targets": ["1", 1.0, 1], "kind": " Recolour "}),
        json.dumps(GOOD | {"targets": 1, "keep": "the wall", "boxes": None}),
    ],
)
def test_replies_that_are_read(text):
    reply = read(text)
    assert (reply.kind, reply.before, reply.after, reply.keep) == ("recolour", "dog", "blue", ("the wall",))
    assert reply.targets == (1,) and reply.boxes == ()


def test_boxes_come_in_our_pixels():
    assert read(json.dumps(GOOD | {"targets": [], "boxes": [[250, 200, 750, 800]]})).boxes == ((100, 60, 300, 240),)
    assert read(json.dumps(GOOD | {"boxes": [250, 200, 750, 800]})).boxes == ((100, 60, 300, 240),)  # one box, not in a list
    x1, y1, x2, y2 = read(json.dumps(GOOD | {"boxes": [[98, 62, 294, 246]]}), PIXELS).boxes[0]
    assert abs(x1 - 100) < 1 and abs(y1 - 60) < 1 and abs(x2 - 300) < 1 and abs(y2 - 240) < 1


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "empty"), (None, "empty"), ("I see a dog.", "no JSON object"), ('{"kind": "remove", ', "not valid"),
        ("[1, 2]", "no JSON object"), ('{"a": 1}', 'none of the keys "kind"'), ('{"kind": "paint"}', '"kind" must be one of'),
        ('{"kind": ["remove"]}', '"kind" must be'),
        (json.dumps(GOOD | {"targets": [2]}), "no number 2: the numbers go from 0 to 1"),
        (json.dumps(GOOD | {"targets": [-1]}), "no number -1"),
        (json.dumps(GOOD | {"targets": [True]}), "list of numbers"), (json.dumps(GOOD | {"targets": [0.5]}), "list of numbers"),
        (json.dumps(GOOD | {"targets": [], "boxes": []}), "recolour needs a number or a box"),
        (json.dumps(GOOD | {"boxes": [[1, 2, 3]]}), "four numbers"), (json.dumps(GOOD | {"boxes": [["1", 2, 3, 4]]}), "four numbers"),
        (json.dumps(GOOD | {"boxes": [[0, 0, 5000, 10]]}), "lies outside"), (json.dumps(GOOD | {"boxes": {"x": 1}}), "list of boxes"),
        ('{"kind": "remove", "targets": [NaN]}', "NaN is no number"), ('{"kind": "remove", "kind": "add"}', "twice"),
        ('{"kind": "remove", "boxes": [[0, 0, 1e999, 5]]}', "four numbers"),
        ('{"kind": "remove", "targets": [' + "9" * 5000 + "]}", "too large"),
        ('{"kind": ' + "[" * 100_000, "not valid"), ('{"kind":"adjust","after":"purple","targets":[0]}', "brighter, darker, blurred, grey"),
        (json.dumps(GOOD | {"extra": 1}), "'?.extra.* is not known"), (json.dumps(GOOD | {"keep": 3}), '"keep" must be'),
        (json.dumps(GOOD | {"before": ["dog"]}), '"before" must be text'),
    ],
)  # fmt: skip
def test_replies_that_are_not_read_say_why(text, words):
    with pytest.raises(ValueError, match=words):
        read(text)


def test_marks_only_takes_no_boxes_and_says_so():
    with pytest.raises(ValueError, match="boxes are not asked for"):
        read(json.dumps(GOOD | {"boxes": [[0, 0, 10, 10]]}), MARKS)
    with pytest.raises(ValueError, match="remove needs a number of what"):
        read('{"kind": "remove"}', MARKS)
    with pytest.raises(ValueError, match="nothing is numbered"):
        read('{"kind": "remove", "targets": [0]}', MARKS, 0)


def test_long_and_odd_texts_are_cut_and_cleaned():
    reply = read(json.dumps(GOOD | {"before": "d" * 999, "after": "a\ud800\x00b\nc", "keep": ["k" * 300] * 30}))
    assert len(reply.before) == 200 and reply.after == "ab c" and len(reply.keep) == 10 and len(reply.keep[0]) == 120


class Saying:
    """A chat model that says what it is given; the rest is as in `ChatModel`."""

    name, constrained = "saying", False

    def __init__(self, dialect, *texts):
        self.dialect, self.left, self.asked = dialect, list(texts), []

    def fitted(self, size):
        return size

    def seen(self, picture):
        return picture.height, picture.width

    def reply(self, picture, turns, schema, most_tokens, progress):
        self.asked.append(list(turns))
        return self.left.pop(0)


def small() -> Regions:
    return Regions(torch.tensor([[2.0, 3, 14, 20], [16, 2, 31, 12]]), torch.tensor([0.9, 0.8]), ("cat", "dog"), (24, 32))


def ask(model, instruction="remove the dog", regions=None):
    image = torch.rand(3, 24, 32, generator=torch.Generator().manual_seed(1))
    return ground_by_model(model, image, instruction, small() if regions is None else regions)


def test_the_way_it_went_is_said():
    first = ask(Saying(PIXELS, '{"kind": "remove", "targets": [1], "before": "dog"}'))
    assert first.answer.kind == "remove" and first.mask.sum() == 150 and "Read by saying (saw 32 x 24 pixels)" in first.answer.note
    model = Saying(PIXELS, "hm", '{"kind": "remove", "targets": [0], "before": "cat"}')
    second = ask(model)
    assert second.answer.targets[0].label == "cat" and "asked twice" in second.answer.note and "no JSON object" in second.answer.note
    assert len(model.asked[1]) == 3 and model.asked[1][1] == "hm" and "no JSON object" in model.asked[1][2]
    third = ask(Saying(PIXELS, "hm", '{"kind": "remove"}'))
    assert third.answer.targets[0].label == "dog" and third.mask.sum() == 150
    assert "no answer that could be used" in third.answer.note and "read by words" in third.message


def test_any_language_by_the_model_and_words_say_what_they_cannot():
    found = ask(Saying(PIXELS, '{"kind": "remove", "targets": [1], "before": "dog"}'), "entferne den Hund")
    assert found.answer.thing == "dog" and found.answer.targets[0].box == (16, 2, 31, 12)
    with pytest.raises(ValueError, match="saying gave no answer.*looks like German"):
        ask(Saying(PIXELS, "", ""), "entferne den Hund")
    with pytest.raises(ValueError, match="empty"):
        ask(Saying(PIXELS), " ")
    with pytest.raises(ValueError, match="up to 1000"):
        ask(Saying(PIXELS), "x" * 1001)


def test_a_new_box_beside_what_was_detected_and_one_that_is_there_already():
    found = ask(Saying(PIXELS, '{"kind": "remove", "before": "hat", "boxes": [[4, 14, 12, 22]]}'))
    assert found.answer.targets[0].box == (4, 14, 12, 22) and found.answer.targets[0].label == "hat" and len(found.regions) == 3
    assert found.mask.sum() == 64 and found.mask[14, 4] == 1 and float(found.regions.scores[0]) == pytest.approx(0.9)
    masks = torch.zeros(2, 24, 32)
    masks[1, 4:10, 20:28] = 1
    masked = Regions(small().boxes, small().scores, small().labels, (24, 32), masks)
    same = ask(Saying(PIXELS, '{"kind": "remove", "before": "dog", "boxes": [[16, 2, 30, 12]]}'), regions=masked)
    assert len(same.regions) == 2 and same.answer.targets[0].box == (16, 2, 31, 12) and same.mask.sum() == 48  # the region's own mask
    both = ask(Saying(PIXELS, '{"kind": "remove", "before": "hat", "boxes": [[0, 20, 8, 24]]}'), regions=masked)
    assert both.regions.masks.shape == (3, 24, 32) and both.mask.sum() == 32
    assert both.regions.labels[0] == "hat" and both.regions.boxed == (True, False, False)


def test_whole_picture_and_no_proposals():
    style = ask(Saying(MARKS, '{"kind": "restyle", "after": "winter"}'), regions=Regions.empty((24, 32)))
    assert style.mask.min() == 1 and not style.answer.targets and style.answer.after == "winter"
    cut = ask(Saying(PIXELS, '{"kind": "cutout", "boxes": [[0, 0, 16, 24]]}'), regions=Regions.empty((24, 32)))
    assert cut.answer.after == "transparent" and cut.mask.sum() == 16 * 24


def test_only_so_many_are_shown_and_numbers_stay_those_of_the_picture():
    """Numbers count from the best score down, and the record's order does not matter."""
    boxes = torch.tensor([[float(i), 0, i + 2, 4] for i in range(28)] * 2)
    scores = torch.linspace(0.1, 0.9, 56)
    many = Regions(boxes, scores, tuple(f"thing {i}" for i in range(56)), (24, 32))
    model = Saying(MARKS, '{"kind": "remove", "targets": [0, 39], "before": "x"}')
    found = ask(model, regions=many)
    assert [target.label for target in found.answer.targets] == ["thing 55", "thing 16"]
    assert "0: thing 55\n" in model.asked[0][0] and "39: thing 16\n" in model.asked[0][0] and "thing 15" not in model.asked[0][0]
    assert "the 40 best of 56" in found.answer.note


def _mutant(rng: random.Random) -> str:
    """A reply that is right, or wrong in some way."""
    values = [None, True, -1, 0, 1, 2, 7, 10**30, 0.5, 1e308, "", "1", "dog", [], [1], [[1]], {}, {"x": 1}, [0, 0, 9, 9], [[0, 0, 9, 9]],
              [[10, 10, 0, 0]], [["a"] * 4], [[0, 0, 1e9, 5]], [None] * 4, "\u0000\ud83d", "猫", *KINDS]  # fmt: skip
    reply = {"kind": rng.choice(KINDS), "before": "dog", "targets": [rng.randrange(2)], "boxes": [], "after": "blue", "keep": []}
    for _ in range(rng.randrange(3)):
        reply[rng.choice([*reply, "other", ""])] = rng.choice(values)
    for key in list(reply):
        if rng.random() < 0.1:
            del reply[key]
    text = json.dumps(reply)
    for _ in range(rng.choice([0, 0, 1, 3])):
        at = rng.randrange(len(text) + 1)
        way = rng.randrange(4)
        text = (
            text[:at] + text[at + rng.randrange(5) :] if way == 0
            else text[:at] + rng.choice(['"', "{", "}", "[", ",", "\\", "NaN", "```", "</think>", "\x00"]) + text[at:] if way == 1
            else text[:at] if way == 2 else text + text
        )  # fmt: skip
    return text


def test_replies_fuzzed_in_500_ways_have_a_defined_outcome():
    rng, outcomes = random.Random(19), {"model": 0, "twice": 0, "words": 0, "refused": 0}
    for _ in range(500):
        model = Saying(rng.choice([PIXELS, PER_MILLE, MARKS]), _mutant(rng), _mutant(rng))
        try:
            found = ask(model, rng.choice(["remove the dog", "make the horse blue"]))
        except ValueError as error:
            assert "saying gave no answer that could be used" in str(error) and "horse" in str(error)
            outcomes["refused"] += 1
            continue
        note = found.answer.note
        outcomes["words" if "read by words" in note else "twice" if "asked twice" in note else "model"] += 1
        assert found.mask.shape == (24, 32) and 0 <= found.mask.min() and found.mask.max() <= 1 and found.mask.sum() > 0
        assert Answer.from_json(found.answer.to_json(), (24, 32)).kind in KINDS
        x = found.regions.boxes
        assert (x >= 0).all() and (x[:, 2] <= 32).all() and (x[:, 3] <= 24).all()
    assert all(count >= 20 for count in outcomes.values()), outcomes  # each way was gone
