# SPDX-License-Identifier: GPL-3.0-or-later
"""The runs around the metrics: which scenes, which noise, the command line, the card."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fireedit_core.data import WORLD
from fireedit_core.evaluation import card, oracle, pictures, scenes, sweep, turns
from fireedit_core.evaluation.__main__ import main, parser
from fireedit_core.evaluation.scenes import Scenes, Settings, batches, evaluate, scene_noise
from fireedit_core.regions import Regions


class Painter:
    """Stands for a pipeline: returns a fixed picture per scene, or the source; its autoencoder is the identity."""

    class Vae:
        dtype = torch.float32
        encode = staticmethod(lambda x: SimpleNamespace(latent=x))
        decode = staticmethod(lambda x: SimpleNamespace(sample=x))

    config = {"steps": 7, "text_guidance": 2.0, "image_guidance": 1.25}

    def __init__(self):
        self.vae, self.device, self.calls = self.Vae(), torch.device("cpu"), []
        self.unet = SimpleNamespace(config=SimpleNamespace(out_channels=4))
        self.config = type("Config", (dict,), {"native_size": 128})(self.config)
        self.editor = SimpleNamespace(detect=lambda x: [Regions.empty((128, 128))] * len(x))

    def __call__(self, image, instructions, **options):
        self.calls.append(options)
        return SimpleNamespace(images=image, regions=[Regions.empty((128, 128))] * len(instructions))


def test_scenes_are_the_generators_own_and_batches_keep_their_order():
    items = list(Scenes(count=5, seed=2).draw())
    assert [i for i, _ in items] == [0, 1, 2, 3, 4] and all("heldout-2" in s.id for _, s in items)
    assert [len(b) for b in batches(iter(items), 2)] == [2, 2, 1]
    only = list(Scenes(each=2, kinds=("add", "remove")).draw())
    assert [s.edit_type for _, s in only] == ["add", "add", "remove", "remove"]
    assert len(Scenes(each=2, kinds=("add", "remove"))) == 4 and len(Scenes(each=3)) == 18
    with pytest.raises(ValueError, match="unknown edit types"):
        Scenes(kinds=("melt",))


def test_noise_depends_on_the_scene_alone():
    pipe = Painter()
    both = scene_noise(pipe, (128, 128), 0, [3, 4])
    assert both.shape == (2, 4, 16, 16)
    assert torch.equal(both[1:], scene_noise(pipe, (128, 128), 0, [4]))
    assert not torch.equal(both[1:], scene_noise(pipe, (128, 128), 1, [4]))


def test_evaluate_an_editor_that_does_nothing(tmp_path):
    pipe = Painter()
    result = evaluate(pipe, Scenes(count=6), batch=4, progress=lambda items, total: items)
    json.dumps(result)
    assert [c["num_inference_steps"] for c in pipe.calls] == [7, 7] and pipe.calls[0]["keep_outside"] == "off"
    edit, same, floor = (result["tables"][k]["overall"] for k in ("edit", "identity", "autoencoder"))
    assert edit["n"] == 6 and edit["relative_error"]["mean"] == pytest.approx(1, abs=1e-5)
    assert same["relative_error"]["mean"] == pytest.approx(1) and same["success"]["mean"] == 0
    assert floor["relative_error"]["mean"] == pytest.approx(0, abs=1e-9) and floor["success"]["mean"] == 1
    assert result["config"]["steps"] == 7 and result["config"]["text_guidance"] == 2.0 and not result["mastered"]
    scenes.report(result)


def test_turns_keep_what_no_turn_touches_and_a_chain_does_not():
    """An editor that darkens the picture a little each time, as an autoencoder loses a little each time."""
    pipe = Painter()
    call, calls = pipe.__call__, pipe.calls

    def darken(image, instructions, **options):
        out = call(0.9 * image, instructions, **options)
        out.mask = torch.zeros(len(instructions), 128, 128)
        return out

    pipe = type("Darkener", (), {**vars(pipe), "__call__": lambda self, *a, **k: darken(*a, **k)})()
    found = turns.evaluate_turns(pipe, Scenes(count=3), 3, batch=2)
    # every turn has noise of its own, the same in both ways
    noises = [call["latents"] for call in calls]
    assert len(noises) == 12 and len({float(noise[0, 0, 0, 0]) for noise in noises[:3]}) == 3
    assert all(torch.equal(a, b) for a, b in zip(noises[:3], noises[3:6], strict=True))
    drift = {way: [np.mean(turn["outside"]) for turn in rows] for way, rows in found["ways"].items()}
    assert len(drift["kept"]) == 3 and drift["kept"][2] == pytest.approx(drift["kept"][0])
    assert drift["chained"][2] > 2 * drift["chained"][0]
    assert "x 1.00" in turns.report(found)
    again = turns.evaluate_turns(pipe, Scenes(count=3), 3, batch=3)
    assert again["ways"]["kept"] == found["ways"]["kept"]


def test_sweep_covers_the_grid():
    rows = sweep.sweep(Painter(), Scenes(count=3, split="validation"), [1, 2], [1.0], [1.0, 1.5])
    assert [tuple(r["settings"].values()) for r in rows] == [(1, 1.0, 1.0), (1, 1.0, 1.5), (2, 1.0, 1.0), (2, 1.0, 1.5)]
    assert len(sweep.sweep_report(rows).splitlines()) == 5 + 3 + 5


def test_sheet_shows_every_scene():
    picture = pictures.sheet(Painter(), Scenes(count=3), Settings(steps=1), columns=2)
    assert picture.size == (2 * (3 * 128 + 14), 2 * (128 + 24))


def test_demo_pictures_are_the_lowest_index_of_their_type(tmp_path):
    records = pictures.write_demo_pictures(tmp_path, ["background", "remove"])
    assert [r["edit_type"] for r in records] == ["remove", "background"]
    assert json.loads((tmp_path / "examples.json").read_text()) == records
    kinds = [s.edit_type for _, s in Scenes(count=records[1]["seed_index"] + 1).draw()]
    assert kinds.index("background") == records[1]["seed_index"] and kinds.index("remove") == records[0]["seed_index"]
    assert (tmp_path / "fireedit_remove.png").is_file()
    with pytest.raises(ValueError, match="edit types"):
        pictures.write_demo_pictures(tmp_path, ["melt"])


def test_the_card_names_what_is_not_mastered_and_refuses_other_weights(tmp_path):
    bundle = tmp_path / "some-bundle"
    (bundle / "unet").mkdir(parents=True)
    (bundle / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    index = {"_class_name": "FireEditPipeline", **{name: ["x", "Y"] for name in card.COMPONENTS}}
    (bundle / "model_index.json").write_text(json.dumps(index))
    (bundle / "training.json").write_text(json.dumps({"hardware": "two cores", "stages": [{"name": "a", "steps": 3}]}))
    result = evaluate(Painter(), Scenes(each=300, kinds=("remove",)), batch=64, baselines=False, progress=lambda items, total: items)
    result |= {"command": "the command", "bundle": {"fingerprint": scenes.bundle_fingerprint(bundle)}}
    path = scenes.save_result(result, tmp_path)
    text = card.write_card(bundle, [path]).read_text()
    assert "- not mastered: remove" in text and "- mastered: none" in text and "the command" in text
    assert "| a | 3 |" in text and "two cores" in text and WORLD.fingerprint() in text and "each module" not in text
    (tmp_path / "ablation.json").write_text(json.dumps({"variants": {"base": {"0": {"l1": [0.25, 0.5]}}}}))
    text = card.write_card(bundle, [path], ablation=tmp_path / "ablation.json").read_text()
    assert "## What each module is worth" in text and "| base | 1 | 0.3750 [" in text
    # a bundle whose resamplers have collapsed, or were never looked at, is not called released
    assert "**Not a released bundle**: no result says" in text
    for power, said in (
        ({"tati": 0.0004, "hvca": 0.5}, "**Not a released bundle**: tati has 0.0004 of its power between rows, the floor is 0.05."),
        ({"tati": 0.1234, "hvca": 0.5}, "tati 0.1234, hvca 0.5000 (floors: tati 0.05, hvca 0.2)."),
    ):
        text = card.write_card(bundle, [scenes.save_result(result | {"power": power}, tmp_path)]).read_text()
        assert said in text and ("Not a released" in text) == (power["tati"] < 0.05)
    (bundle / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"others")
    with pytest.raises(ValueError, match="measure again"):
        card.write_card(bundle, [path])


def test_a_training_record_that_is_asked_for_must_be_there(tmp_path, monkeypatch):
    """The card said that there is none."""
    monkeypatch.setattr(card, "read_index", lambda folder: {})
    monkeypatch.setattr(card, "_read_result", lambda path, own: {"config": {"world": "rich"}})
    monkeypatch.setattr(card, "card_text", lambda folder, index, loaded, record, *more: f"{record} {card.WRITTEN}")
    with pytest.raises(ValueError, match="there is no file .*nowhere.json"):
        card.write_card(tmp_path, ["result.json"], training=tmp_path / "nowhere.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match="broken.json is no JSON"):
        card.write_card(tmp_path, ["result.json"], ablation=tmp_path / "broken.json")
    assert card.write_card(tmp_path, ["result.json"]).read_text().startswith("None ")


def test_a_fingerprint_sees_all_that_an_edit_depends_on(tmp_path):
    """Not the text encoder, which reads in place of an untrained Q-Former; and of a detector only its name was looked at."""
    (tmp_path / "text_encoder").mkdir()
    seen = []
    for weights in (b"a", b"b"):
        (tmp_path / "text_encoder" / "model.safetensors").write_bytes(weights)
        (tmp_path / "detector.pt").write_bytes(weights)
        seen.append((scenes.bundle_fingerprint(tmp_path), scenes.detector_fingerprint(tmp_path / "text_encoder"),
                     scenes.detector_fingerprint(tmp_path / "detector.pt")))  # fmt: skip
    assert all(one != two for one, two in zip(*seen, strict=True))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["card", "--score", "a", "--training", "b"], "leave out --training and --ablation"),
        (["card", "--score", "a", "--ablation", "b"], "leave out --training and --ablation"),
        (["card", "--result", "a", "--licence", "mit"], "--licence goes with --score"),
        (["tati", "--oracle", "--split", "validation", "--steps", "3"], "leave out --split, --steps"),
        (["generate", "magicbrush", "--data", "a", "--out", "b", "--split", "validation"], "--split is for emu"),
        (["score", "pie-bench", "--data", "a", "--generated", "b", "--out", "c", "--split", "test"], "--split is for emu"),
    ],
)
def test_an_option_without_effect_is_refused(arguments, says, caplog, monkeypatch):
    monkeypatch.setattr(oracle, "study", lambda *given: pytest.fail("it measures"))
    assert main(arguments) == 1 and says in caplog.text


@pytest.mark.parametrize(
    "arguments",
    [["turns", "--each", "3"], ["ablation", "--device", "cpu"], ["attention", "--batch", "2"], ["turns", "--no-regions"],
     ["confine", "--no-regions"]],
)  # fmt: skip
def test_a_command_has_no_option_that_it_does_not_use(arguments, capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(arguments)
    assert f"unrecognized arguments: {arguments[1]}" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["sheet", "--out", "a", "--columns"], ["turns", "--turns"], ["scenes", "--batch"], ["sheet", "--zoom"]])
def test_none_of_a_thing_is_refused(option, capsys):
    """`--columns 0` ended in a division, and `--batch 0` took all scenes at once."""
    with pytest.raises(SystemExit):
        parser().parse_args([*option, "0"])
    assert "must be 1 or more, got 0" in capsys.readouterr().err


def test_a_readme_that_a_person_wrote_is_no_card(tmp_path):
    (tmp_path / card.CARD).write_text("My bundle, and how I made it.")
    with pytest.raises(ValueError, match="README.md is there already and was not written by this command"):
        card.put_card(tmp_path, "other")
    assert (tmp_path / card.CARD).read_text() == "My bundle, and how I made it."
    (tmp_path / card.CARD).write_text(f"This card is {card.WRITTEN} --score`.")
    assert card.put_card(tmp_path, "other").read_text() == "other"


def test_the_command_line_explains_what_is_missing(tmp_path, caplog):
    assert main(["scenes", "--bundle", str(tmp_path / "none")]) == 1
    assert "does not exist" in caplog.text
    with pytest.raises(SystemExit):
        main(["scenes", "--kinds", "melt"])


def test_arrays_round_trip():
    picture = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    assert np.allclose(scenes.to_arrays(scenes.to_tensor(list(picture))) * 255, picture, atol=1e-4)
