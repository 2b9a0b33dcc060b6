# SPDX-License-Identifier: GPL-3.0-or-later
"""The answer record: it comes back as it went out, and whatever is wrong with one is said in words."""

from __future__ import annotations

import json
import random

import pytest
import torch

from fireedit_core.grounding import CHOSEN, KINDS, Answer, Target, answers_from_json, answers_to_json
from fireedit_core.thumbnail import fingerprint

SIZE = (480, 640)
GOOD = {
    "kind": "recolour",
    "thing": "motorcycle",
    "targets": [
        {"box": [30.0, 80.0, 600.0, 470.0], "score": 0.9, "label": "motorcycle"},
        {"box": [1, 2, 30, 40], "score": 0.1, "label": "bicycle"},
    ],
    "after": "dark red",
    "keep": ["the wall", "not the tyres"],
    "image_size": [480, 640],
    "note": "sure",
}


def text(**changes) -> str:
    return json.dumps({**GOOD, **changes})


def test_an_answer_comes_back_as_it_went_out():
    answer = Answer.from_json(json.dumps(GOOD), SIZE)
    assert answer.kind == "recolour" and answer.after == "dark red" and answer.keep == ("the wall", "not the tyres")
    assert answer.targets[0] == Target((30.0, 80.0, 600.0, 470.0), 0.9, "motorcycle")
    assert json.loads(answer.to_json()) == GOOD
    assert Answer.from_json(answer.to_json()) == answer


def test_only_what_is_sure_enough_is_chosen():
    answer = Answer.from_json(json.dumps(GOOD))
    assert CHOSEN == 0.5 and [target.label for target in answer.chosen] == ["motorcycle"]


def test_where_none_is_sure_the_best_is_taken_wherever_it_stands():
    written = text(targets=[{"box": [1, 2, 30, 40], "score": 0.2}, {"box": [50, 60, 70, 80], "score": 0.4}])
    assert [target.box for target in Answer.from_json(written).chosen] == [(50, 60, 70, 80)]


def test_what_may_be_left_out():
    answer = Answer.from_json('{"kind": "background", "targets": []}', SIZE)
    assert answer == Answer("background", "", (), "", (), SIZE)
    assert Answer.from_json('\ufeff {"kind": "remove", "targets": [{"box": [0, 0, 9, 9]}]}', SIZE).targets[0].score == 1


def test_a_box_that_sticks_out_by_a_rounding_is_cut():
    assert Answer.from_json(text(targets=[{"box": [-0.6, 0, 640.9, 480]}]), SIZE).targets[0].box == (0.0, 0.0, 640.0, 480.0)


@pytest.mark.parametrize(
    "broken, words",
    [
        ("", "empty"),
        ("remove the cat", "no valid JSON"),
        ("[]", "JSON object"),
        ("null", "JSON object"),
        (text(kind="Remove"), "one of remove"),
        (text(kind=["remove"]), "one of remove"),
        (text(thing=None), "must be text"),
        (text(targets={}), "must be a list"),
        (text(targets=[[0, 0, 5, 5]]), "A target must be"),
        (text(targets=[{"score": 1}]), "'box'"),
        (text(targets=[{"box": [0, 0, 5]}]), "four numbers"),
        (text(targets=[{"box": [0, 0, 5, "9"]}]), "number is needed"),
        (text(targets=[{"box": [0, 0, 5, True]}]), "number is needed"),
        (text(targets=[{"box": [9, 0, 5, 9]}]), "x2 > x1"),
        (text(targets=[{"box": [5, 0, 5, 9]}]), "x2 > x1"),
        (text(targets=[{"box": [0, 0, 641.5, 9]}]), "640 wide"),
        (text(targets=[{"box": [-5, 0, 9, 9]}]), "does not lie in the picture"),
        (text(targets=[{"box": [700, 500, 800, 600]}]), "does not lie in the picture"),
        (text(targets=[{"box": [0, 0, 9, 9], "score": 1.01}]), "between 0 and 1"),
        (text(targets=[{"box": [0, 0, 9, 9], "score": float("nan")}]), "NaN"),
        (text(targets=[{"box": [0, 0, 9, float("inf")]}]), "Infinity"),
        (text().replace("600.0", "1e999"), "finite"),
        (text().replace("600.0", "9" * 5000), "digits"),
        (text(targets=[{"box": [0, 0, 9, 9], "colour": "red"}]), "not known"),
        (text(targets=[{"box": [0, 0, 9, 9]}] * 1001), "up to 1000"),
        (text(keep="the wall"), "list of texts"),
        (text(keep=["x"] * 101), "up to 100"),
        (text(keep=[3]), "must be text"),
        (text(after="x" * 3000), "characters"),
        (text(after="\ud800"), "no text"),
        (text(note="\x1b[31m"), "no text"),
        (text(image_size=[640, 480]), "height 640 and width 480"),
        (text(image_size=[480, 0]), "image_size"),
        (text(image_size=[480.0, 640]), "image_size"),
        (text(image_size=[True, 640]), "image_size"),
        (text(afterr="blue"), "not known"),
        ('{"kind": "remove", "kind": "add", "targets": []}', "twice"),
        ('{"thing": "cat", "targets": []}', "'kind'"),
        ('{"kind": "remove", "thing": "cat"}', "'targets'"),
        (text(kind="adjust"), "brighter"),
        ("[" * 100_000, "no valid JSON"),
        (" " * 600_000, "characters"),
        (5, "JSON text"),
    ],
)
def test_what_is_wrong_is_said(broken, words):
    with pytest.raises(ValueError) as caught:
        Answer.from_json(broken, SIZE)
    assert words in str(caught.value) and len(str(caught.value)) < 700


def test_it_knows_its_picture_and_an_edit_of_it():
    ramp = torch.linspace(0, 0.5, 640).expand(3, 480, 640)
    answer = Answer.from_json(text(picture=fingerprint(ramp)))
    edited = ramp.clone()
    edited[:, 100:200, 100:300] = 1
    assert answer.doubt(ramp) == answer.doubt(edited) == "" and "another picture" in answer.doubt(1 - ramp)
    assert "another picture" in answer.doubt(ramp[:, :400]) and Answer.from_json(text()).doubt(1 - ramp) == ""
    assert Answer.from_json(answer.to_json()) == answer and "picture" not in Answer.from_json(text()).to_dict()
    with pytest.raises(ValueError, match='"picture": .* leave it out'):
        Answer.from_json(text(picture="640x480:"))


def test_a_size_must_come_from_somewhere():
    with pytest.raises(ValueError, match="image_size"):
        Answer.from_json('{"kind": "remove", "targets": []}')


def _broken(seed: int) -> str:
    """The good record with one to four random faults: in the text, in a key, in a value, in the order of brackets."""
    rng = random.Random(seed)
    values = (
        None, True, -1, 0, 1e308, -1e308, "", "x", "\u202e\u05d0", "\ud83d", [], [[]], {}, {"box": 1}, [None], [0, 0, 0, 0], [1, 2, 3],
        float("nan"), float("inf"), 10**30, "9" * 3000, [{"box": [0, 0, 1e9, 1e9]}], [{"box": ["a"] * 4}], {"a": {"b": []}},
    )  # fmt: skip
    record = json.loads(json.dumps(GOOD))
    for _ in range(rng.randint(1, 3)):
        targets = record.get("targets") if isinstance(record.get("targets"), list) else []
        where = rng.choice([record, *(target for target in targets if isinstance(target, dict))])
        key = rng.choice([*where, "extra"]) if where else "extra"
        if rng.random() < 0.25:
            where.pop(key, None)
        else:
            where[key] = rng.choice(values)
    made = json.dumps(record)
    if rng.random() < 0.6:
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(made))
            more = rng.choice('{}[]",:\\0eE-.\x00\u2028\ud800\U0001f431')
            made = rng.choice([made[:at], made[:at] + more + made[at:], made[:at] + made[at + 1 :], made[at:] + made[:at]]) or "{"
    return made


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_two_hundred_breakages_never_end_in_anything_but_words(first):
    refused = 0
    for seed in range(first, first + 50):
        broken = _broken(seed)
        try:
            answer = Answer.from_json(broken, SIZE)
        except ValueError as error:
            refused += 1
            message = str(error)
            assert message and len(message) < 700 and type(error) is ValueError
            message.encode("utf-8")  # can be written to a log whatever came
        else:  # a breakage may leave a good record: then it is one in every respect
            assert answer.kind in KINDS and Answer.from_json(answer.to_json(), SIZE).kind == answer.kind
            answer.to_json().encode("utf-8")
    assert refused >= 40


def test_a_batch_is_a_list_of_records():
    one, two = Answer.from_json(text()), Answer.from_json(text(kind="remove", image_size=[900, 900]))
    assert answers_from_json(answers_to_json([one, two]), [SIZE, (900, 900)]) == [one, two]
    assert answers_from_json(answers_to_json([one]), [SIZE, SIZE]) == [one, one]
    with pytest.raises(ValueError, match="2 records, but there are 3 pictures"):
        answers_from_json(answers_to_json([one, two]), [SIZE] * 3)
    with pytest.raises(ValueError, match="Record 2 of 2: This answer belongs to a picture of height 900"):
        answers_from_json(answers_to_json([one, two]), [SIZE, SIZE])
