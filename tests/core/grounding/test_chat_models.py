# SPDX-License-Identifier: GPL-3.0-or-later
"""Chat models of the true classes, small and random: babble falls back on words; what they are made to say lands on the right pixels."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import LogitsProcessorList

from fireedit_core.checkpoints import weights
from fireedit_core.grounding import constraint
from fireedit_core.grounding.by_model import ground_by_model
from fireedit_core.grounding.constraint import Vocabulary
from fireedit_core.grounding.dialects import PER_MILLE
from fireedit_core.grounding.loading import load_grounder, sees_and_speaks
from fireedit_core.grounding.protocol import reply_schema
from fireedit_core.regions.record import Regions
from fireedit_core.thumbnail import fingerprint
from tests.core.grounding import small_chat_models

SIZE = (300, 400)
needs_library = pytest.mark.skipif(importlib.util.find_spec(constraint.LIBRARY) is None, reason="llguidance is optional")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def get(kind):
        if kind not in made:
            torch.manual_seed(0)
            made[kind] = tmp_path_factory.mktemp("chat") / kind
            getattr(small_chat_models, kind)(made[kind])
        return made[kind]

    return get


@pytest.fixture
def model(folders, request):
    loaded = load_grounder(folders(getattr(request, "param", "qwen2_5_vl")))
    loaded.pixels = SIZE[0] * SIZE[1]
    return loaded


@pytest.fixture
def picture():
    return torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(2))


def two():
    return Regions(torch.tensor([[5.0, 5, 60, 50], [320, 10, 390, 90]]), torch.tensor([0.9, 0.8]), ("cat", "dog"), SIZE)


def spoken(**changes):
    return json.dumps({"kind": "remove", "before": "hat", "targets": [], "boxes": [], "after": "", "keep": ["the wall"]} | changes)


@pytest.mark.parametrize("model", ["qwen2_5_vl", "qwen3_vl", "llava"], indirect=True)
def test_babble_is_asked_again_and_then_read_by_words(model, picture):
    small_chat_models.free(model)
    tokens = []
    found = ground_by_model(model, picture, "remove the dog", two(), tokens.append, most_tokens=6)
    assert found.answer.targets[0].label == "dog" and found.mask.sum() == 70 * 80
    assert f"{model.name} gave no answer that could be used" in found.message and "; then " in found.message
    assert 2 <= len(tokens) <= 12 and tokens.count(1) == 2  # two rounds, counted from one


# what each dialect says for the box (100, 60, 300, 240) of a picture of 400 x 300; Qwen2.5-VL sees 392 x 308 of it
@pytest.mark.parametrize(
    "model, box", [("qwen2_5_vl", [98, 62, 294, 246]), ("qwen3_vl", [250, 200, 750, 800])], indirect=["model"]
)  # fmt: skip
def test_a_box_lands_on_the_right_pixels(model, picture, box):
    left = small_chat_models.script(model, spoken(boxes=[box]))
    regions = replace(two(), picture=fingerprint(picture))
    found = ground_by_model(model, picture, "enlève le chapeau", regions, most_tokens=300)
    target = found.answer.targets[0]
    assert not left and max(abs(a - b) for a, b in zip(target.box, (100, 60, 300, 240))) < 1 and target.label == "hat"
    inside = torch.zeros(SIZE)
    inside[60:240, 100:300] = 1
    assert (found.mask - inside).abs().sum() <= 2 * (200 + 180) and found.answer.keep == ("the wall",)
    assert found.regions.picture == regions.picture and len(found.regions) == 3
    assert f"Read by {model.name}" in found.answer.note and "words" not in found.answer.note


def test_the_question_has_the_boxes_in_pixels_as_seen(model, picture, monkeypatch):
    asked = []
    monkeypatch.setattr(type(model), "reply", lambda self, shown, turns, *_: asked.append((shown, turns[0])) or spoken(targets=[1]))
    found = ground_by_model(model, picture, "remove the dog", two())
    shown, question = asked[0]
    assert "0: cat [5, 5, 59, 51]\n1: dog [314, 10, 382, 92]\n" in question and "392 wide and 308 high" in question
    assert found.answer.targets[0].box == (320, 10, 390, 90)
    # the marks are on the picture that it sees, and nothing else is changed
    plain = torch.from_numpy(np.array(shown)).permute(2, 0, 1).float() / 255
    changed = (plain - picture).abs().amax(0) > 0.01
    assert changed[50, 320:390].float().mean() < 0.2 and changed[9:12, 330:380].any(0).all() and not changed[120:, :].any()


@pytest.mark.parametrize("model", ["llava"], indirect=True)
def test_marks_only(model, picture):
    assert not model.dialect.boxes
    script = json.dumps({"kind": "recolour", "before": "dog", "targets": [1], "after": "blue", "keep": []})
    small_chat_models.script(model, script)
    found = ground_by_model(model, picture, "把狗变成蓝色", two(), most_tokens=300)
    assert found.answer.targets[0].label == "dog" and found.answer.after == "blue" and found.mask.sum() == 70 * 80


def test_the_second_answer_is_used(model, picture):
    small_chat_models.free(model)
    small_chat_models.script(model, "The hat is in the middle.", spoken(targets=[1], before="dog"))
    found = ground_by_model(model, picture, "remove the dog", two(), most_tokens=300)
    assert "asked twice" in found.answer.note and found.mask.sum() == 70 * 80


@pytest.mark.parametrize("model", ["florence2"], indirect=True)
def test_florence_finds_what_words_name(model, picture):
    small_chat_models.script(model, "the dog<loc_250><loc_200><loc_750><loc_800>")
    found = ground_by_model(model, picture, "make the red dog blue", two())
    assert max(abs(a - b) for a, b in zip(found.answer.targets[0].box, (100, 60, 300, 240))) < 1
    assert (found.answer.kind, found.answer.after) == ("recolour", "blue") and "found by florence2" in found.answer.note
    del model.network.generate  # and by itself, random, it finds nothing
    assert "found nothing of it: it was read by words" in ground_by_model(model, picture, "remove the dog", two()).message
    with pytest.raises(ValueError, match="German"):
        ground_by_model(model, picture, "entferne den Hund", two())


class Finds:
    """A Florence-2 that finds what stands in a table of words, as it does: every thing of the name, wherever it is."""

    name = "finder"

    def __init__(self, **there):
        self.there, self.asked = there, []

    def locate(self, picture, phrase, progress=None):
        self.asked.append(phrase)
        return [box for word in phrase.split() for box in self.there.get(word, [])]


@pytest.mark.parametrize(
    ("instruction", "wanted", "asked"),
    [
        ("remove the man on the left", [(10, 100, 60, 250)], ["man"]),
        ("remove the second man from the left", [(150, 100, 200, 250)], ["man"]),
        ("remove both men", [(10, 100, 60, 250), (150, 100, 200, 250)], ["man"]),
        ("remove the old man next to the bus", [(150, 100, 200, 250)], ["old man", "bus"]),
        ("remove everything but the cat", [(320, 10, 390, 90)], ["cat"]),  # the detector's other region
    ],
)
def test_florence_says_where_things_are_and_words_which_of_them(picture, instruction, wanted, asked):
    """It grounds every noun of a caption, and has no notion of a place or a number: two men and the bus used to go."""
    model = Finds(man=[(10.0, 100, 60, 250), (150.0, 100, 200, 250)], bus=[(210.0, 80, 310, 260)], cat=[(5.0, 5, 60, 50)])
    found = ground_by_model(model, picture, instruction, two())
    assert sorted(target.box for target in found.answer.chosen) == wanted and model.asked == asked
    assert "found by finder" in found.answer.note
    assert "a guess" in ground_by_model(model, picture, "remove the man", two()).message


class Cancelled(Exception):
    pass


@pytest.mark.parametrize("model", ["qwen2_5_vl", "florence2"], indirect=True)
def test_cancel_within_a_reply(model, picture):
    seen = []

    def progress(done):
        seen.append(done)
        if len(seen) == 3 or model.name == "florence2":
            raise Cancelled

    with pytest.raises(Cancelled):
        ground_by_model(model, picture, "remove the dog", two(), progress)
    assert seen[-1] == len(seen) <= 3 or model.name == "florence2"


def test_at_least_a_megapixel_is_fed_whatever_the_folder_says(folders):
    model = load_grounder(folders("qwen2_5_vl"))  # its folder says 56 x 56 pixels at most
    assert model.fitted((480, 640)) == (887, 1182) and model.fitted((1000, 1500)) == (1000, 1500)
    assert model.fitted((3000, 4000)) == (1254, 1672)
    height, width = model.seen(Image.new("RGB", (1182, 887)))
    assert height % 28 == width % 28 == 0 and height * width > 1_000_000


def test_the_same_question_has_the_same_answer(model, picture):
    small_chat_models.free(model)
    image = Image.new("RGB", (112, 84), (200, 30, 30))
    first = model.reply(image, ["What is this?"], most_tokens=8)
    assert first == model.reply(image, ["What is this?"], most_tokens=8)
    assert first != model.reply(Image.new("RGB", (112, 84), (0, 90, 240)), ["What is this?"], most_tokens=8)  # it looks at the picture


@needs_library
def test_the_library_holds_a_model_to_the_form(model):
    schema = reply_schema(2, PER_MILLE, SIZE)
    words = model.tokenizer
    vocabulary = Vocabulary(words, len(words), [words.eos_token_id])
    assert vocabulary.ready

    def write(text):
        rules = LogitsProcessorList(
            [vocabulary.constraint(schema), small_chat_models.Forced(words(text)["input_ids"], words.eos_token_id)]
        )
        ids = torch.zeros(1, 3, dtype=torch.long)
        for _ in range(len(words(text)["input_ids"]) + 1):
            token = rules(ids, torch.zeros(1, len(words))).argmax(-1, keepdim=True)
            ids = torch.cat([ids, token], 1)

    good = {"kind": "recolour", "before": "dog", "targets": [1], "boxes": [[0, 10, 1000, 900]], "after": "blau ü", "keep": ["a"]}
    write(json.dumps(good, ensure_ascii=False))
    for wrong in ({"kind": "paint"}, {"targets": [2]}, {"boxes": [[0, 0, 1001, 5]]}, {"boxes": [[1, 2, 3]]}, {"keep": 1}):
        with pytest.raises(AssertionError, match="ruled out"):
            write(json.dumps(good | wrong))
    with pytest.raises(AssertionError, match="ruled out"):
        write("Sure! " + json.dumps(good))
    assert Vocabulary(object(), 10, []).ready is False  # a tokenizer that it cannot read


def test_without_the_library_one_line_says_so(model, monkeypatch, caplog):
    monkeypatch.setattr(constraint.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(constraint, "_said", False)
    with caplog.at_level(logging.INFO, "fireedit"):
        assert not model.constrained and not Vocabulary(None, 1, []).ready
    assert [r for r in caplog.messages if "pip install llguidance" in r] == caplog.messages and len(caplog.messages) == 1


def _changed(folder, target, **config):
    shutil.copytree(folder, target)
    values = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(values | config))
    return target


def test_folders_that_are_refused(folders, tmp_path):
    good = folders("qwen2_5_vl")
    with pytest.raises(ValueError, match="config.json cannot be read"):
        load_grounder(tmp_path)
    pickled = _changed(good, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ValueError, match="is a pickle"):
        load_grounder(pickled)
    broken = _changed(good, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes((broken / "model.safetensors").read_bytes()[:999])
    with pytest.raises(ValueError, match="truncated"):
        load_grounder(broken)
    sharded = _changed(good, tmp_path / "sharded")
    (sharded / "model.safetensors").rename(tmp_path / "model.safetensors")
    (sharded / "other.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes())
    for shard, words in (("../model.safetensors", "no safetensors file of this folder"), ("x.bin", "no safetensors file"),
                         ("gone.safetensors", "lacks gone.safetensors")):  # fmt: skip
        (sharded / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": {"lm_head.weight": shard}}))
        with pytest.raises(ValueError, match=words):
            load_grounder(sharded)
    with pytest.raises(ValueError, match="is quantized .gptq."):
        load_grounder(_changed(good, tmp_path / "gptq", quantization_config={"quant_method": "gptq"}))
    code = {"AutoConfig": "own.C", "AutoModelForImageTextToText": "own.M"}
    own = _changed(good, tmp_path / "moondream", model_type="moondream1", auto_map=code)
    (own / "own.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ValueError, match="could not be loaded"):
        load_grounder(own)
    with pytest.raises(ValueError, match="'llama' does not look at a picture"):
        load_grounder(_changed(good, tmp_path / "llama", model_type="llama", rope_scaling=None))
    silent = _changed(good, tmp_path / "silent")
    for name in ("chat_template.jinja", "chat_template.json"):
        (silent / name).unlink(missing_ok=True)
    for name in ("processor_config.json", "tokenizer_config.json"):
        if (silent / name).is_file():
            values = json.loads((silent / name).read_text())
            values.pop("chat_template", None)
            (silent / name).write_text(json.dumps(values))
    with pytest.raises(ValueError, match="no chat template"):
        load_grounder(silent)


def test_missing_weights_are_named(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    less = _changed(folders("llava"), tmp_path / "less")
    state = load_file(less / "model.safetensors")
    gone = sorted(state)[0]
    state.pop(gone)
    save_file(state, less / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="no weights for 1 parameters"):
        load_grounder(less)


def test_what_looks_like_one_without_loading_a_library():
    assert sees_and_speaks({"model_type": "qwen2_5_vl", "vision_config": {}}) and sees_and_speaks({"model_type": "florence2"})
    assert not sees_and_speaks({"model_type": "llama"}) and not sees_and_speaks([]) and not sees_and_speaks({"vision_config": {}})
    assert weights.PICKLES  # the check of weights is the pack's own
