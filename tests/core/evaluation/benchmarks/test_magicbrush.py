# SPDX-License-Identifier: GPL-3.0-or-later
"""MagicBrush's protocol, held against a plain re-statement of what the authors' script computes on the same folders."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from fireedit_core.data.formats import BrokenRow
from fireedit_core.data.writers import magicbrush as writer
from fireedit_core.evaluation.benchmarks.magicbrush import MagicBrush
from fireedit_core.evaluation.benchmarks.profiles import MAGICBRUSH
from fireedit_core.evaluation.benchmarks.score import score
from fireedit_core.evaluation.similarity import MetricWeights

from .conftest import noisy

SIZES = [(130, 90), (77, 140), (256, 256), (128, 128), (300, 121)]  # width, height


@pytest.fixture(scope="module")
def data(tmp_path_factory, sessions):
    """The test layout, its targets at sizes of their own and not square, as they come in the real set."""
    root = tmp_path_factory.mktemp("magicbrush") / "test"
    writer.write_folder(root, sessions)
    for number, file in enumerate(sorted((root / "images").glob("*/*-output*.png"))):
        with Image.open(file) as image:
            image.resize(SIZES[number % len(SIZES)], Image.Resampling.BICUBIC).save(file)
    return root


@pytest.fixture(scope="module")
def generated(tmp_path_factory, data):
    """Somebody's results: every target with noise, again at other sizes, in the authors' naming."""
    root = tmp_path_factory.mktemp("results")
    number = 0
    for folder in sorted((data / "images").iterdir()):
        (root / folder.name).mkdir()
        for target in sorted(folder.glob("*-output*.png")):
            turn = int(target.stem.rsplit("output", 1)[1])
            for name in ["1"] if turn == 1 else [f"inde_{turn}", f"iter_{turn}"]:
                number += 1
                with Image.open(target) as image:
                    noisy(image, number, SIZES[(number * 2) % len(SIZES)]).save(root / folder.name / f"{folder.name}_{name}.png")
    return root


def official(data, generated, weights_folder):
    """What image_eval.py does, written anew: list the folders, sort by the digits of the names, loop over the files, add up, divide."""
    from scipy.spatial.distance import cosine
    from torchvision import transforms
    from transformers import AutoTokenizer, CLIPModel, ViTModel

    def digits(name):
        return int("".join(c for c in name if c.isdigit()))

    finals, alls = [], []
    for session in sorted(os.listdir(data / "images")):
        made, wanted = sorted(os.listdir(generated / session), key=digits), sorted(os.listdir(data / "images" / session), key=digits)
        wanted = [data / "images" / session / n for n in wanted if "output" in n and "mask" not in n]
        last = [n for n in made if "iter_" in n][-1] if len(made) > 1 else made[0]
        finals.append((generated / session / last, wanted[-1]))
        alls += zip([generated / session / n for n in made if n.endswith("_1.png") or "inde_" in n], wanted, strict=True)

    clip = CLIPModel.from_pretrained(weights_folder / "clip-vit-base-patch32")
    dino = ViTModel.from_pretrained(weights_folder / "dino-vits16")
    tokenizer = AutoTokenizer.from_pretrained(weights_folder / "clip-vit-base-patch32")
    captions = json.loads((data / "local_descriptions.json").read_text())
    bicubic = transforms.InterpolationMode.BICUBIC
    clip_view = transforms.Compose([
        transforms.Resize(224, bicubic), transforms.CenterCrop(224), transforms.ToTensor(),
        transforms.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    ])  # fmt: skip
    dino_view = transforms.Compose([
        transforms.Resize(256, bicubic), transforms.CenterCrop(224), transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])  # fmt: skip

    def rgb(file):
        return Image.open(file).convert("RGB")

    @torch.no_grad()
    def clip_of(file):
        out = clip.get_image_features(clip_view(rgb(file))[None])
        return (out if isinstance(out, torch.Tensor) else out.pooler_output)[0].numpy()

    @torch.no_grad()
    def text_of(caption):
        out = clip.get_text_features(**tokenizer([caption], return_tensors="pt"))
        return (out if isinstance(out, torch.Tensor) else out.pooler_output)[0].numpy()

    @torch.no_grad()
    def dino_of(file):
        return dino(dino_view(rgb(file))[None]).last_hidden_state[0, 0].numpy()

    results = {}
    for view, pairs in (("single", alls), ("multi", finals)):
        total = dict.fromkeys(("l1", "l2", "clip_i", "dino", "clip_t", "oracle"), 0.0)
        for made, wanted in pairs:
            target = rgb(wanted)
            a, b = (transforms.ToTensor()(image) for image in (rgb(made).resize(target.size), target))
            caption = text_of(captions[wanted.parent.name][wanted.name])
            total["l1"] += torch.nn.L1Loss()(a, b).item()
            total["l2"] += torch.nn.MSELoss()(a, b).item()
            total["clip_i"] += 1 - cosine(clip_of(made), clip_of(wanted))
            total["dino"] += 1 - cosine(dino_of(made), dino_of(wanted))
            total["clip_t"] += 1 - cosine(clip_of(made), caption)
            total["oracle"] += 1 - cosine(clip_of(wanted), caption)
        results[view] = {name: value / len(pairs) for name, value in total.items()} | {"n": len(pairs)}
    return results


def test_the_numbers_are_the_official_scripts(data, generated, weights, weights_folder):
    pytest.importorskip("torchvision")
    pytest.importorskip("scipy")
    wanted = official(data, generated, weights_folder)
    found = score(MagicBrush(data), MAGICBRUSH, generated, weights)
    assert {view: found["views"][view]["used"] for view in ("single", "multi")} == {"single": 6, "multi": 3}
    for view, expected in wanted.items():
        tables = found["views"][view]["tables"]
        edit, target, same = (tables[system]["overall"] for system in ("edit", "reference", "identity"))
        assert found["views"][view]["used"] == expected["n"]
        for name in ("l1", "l2", "clip_i", "dino", "clip_t"):
            assert edit[name]["mean"] == pytest.approx(expected[name], abs=1e-4), (view, name)
        assert target["clip_t"]["mean"] == pytest.approx(expected["oracle"], abs=1e-4)  # what the authors call the oracle
        assert target["l1"]["mean"] == 0 and target["clip_i"]["mean"] == pytest.approx(1) and same["l1"]["mean"] > 0
        # a test of nothing if the pictures were all alike to these networks
        assert 0.01 < edit["l1"]["mean"] and edit["clip_i"]["mean"] < 0.99 and edit["dino"]["mean"] < 0.999
    assert wanted["single"]["l1"] != wanted["multi"]["l1"]


def test_the_references_calibrate_a_whole_set(data, generated, weights, monkeypatch, caplog):
    bench = MagicBrush(data)
    assert score(bench, MAGICBRUSH, generated, MetricWeights(None), ("multi",))["views"]["multi"]["calibration"] == {}
    monkeypatch.setattr(bench, "counts", {"multi": 3})
    found = score(bench, MAGICBRUSH, generated, weights, ("multi",))["views"]["multi"]
    mean = found["tables"]["reference"]["overall"]["clip_t"]["mean"]
    assert found["calibration"] == {"clip_t": {"known": 0.28554, "found": mean}}
    assert f"the references get clip_t {mean:.5f}, and 0.28554 is known" in caplog.text  # these networks are random
    caplog.clear()
    monkeypatch.setattr(bench, "oracle", {"multi": {"clip_t": mean + 5e-4}})
    score(bench, MAGICBRUSH, generated, weights, ("multi",))
    assert "is known" not in caplog.text


def test_a_wrong_pairing_would_show(data, generated, tmp_path):
    """The same numbers for exchanged turns would mean that pairs are not looked at."""
    shutil.copytree(generated, tmp_path / "g")
    session = sorted(tmp_path.glob("g/*"))[0]
    first, second = session / f"{session.name}_1.png", session / f"{session.name}_inde_2.png"
    first.rename(tmp_path / "x.png")
    second.rename(first)
    (tmp_path / "x.png").rename(second)
    one, other = (score(MagicBrush(data), MAGICBRUSH, g, MetricWeights(None), ("single",)) for g in (generated, tmp_path / "g"))
    l1 = [found["views"]["single"]["tables"]["edit"]["overall"]["l1"]["mean"] for found in (one, other)]
    assert abs(l1[0] - l1[1]) > 1e-3


def test_edits_and_trials(data):
    bench = MagicBrush(data)
    both, single, multi = bench.edits(("single", "multi")), bench.edits(("single",)), bench.edits(("multi",))
    name = lambda k, end: f"{100000 + k}/{100000 + k}_{end}"  # noqa: E731
    assert [e.key for e in single] == [name(0, "1"), name(1, "1"), name(2, "1"), name(0, "inde_2"), name(2, "inde_2"), name(0, "inde_3")]
    assert not any(e.after for e in single)
    chain = {e.key: e.after for e in multi if e.after}
    assert chain == {name(0, "iter_2"): name(0, "1"), name(0, "iter_3"): name(0, "iter_2"), name(2, "iter_2"): name(2, "1")}
    assert len(both) == len({e.key for e in both}) == 9
    assert [t.key for t in bench.trials("multi")] == [name(0, "iter_3"), name(1, "1"), name(2, "iter_2")]
    assert [t.task for t in bench.trials("single")] == ["turn 1", "turn 2", "turn 3", "turn 1", "turn 1", "turn 2"]
    assert bench.groups(1) == {0, 1, 2} and bench.groups(0) == set(range(6))
    # a chain is held against where the session began, and says all that was asked
    case = bench.case(bench.trials("multi")[0], MAGICBRUSH)
    assert np.array_equal(np.asarray(case.source), np.asarray(Image.open(data / "images" / "100000" / "100000-input.png").convert("RGB")))
    assert case.instruction.count("; ") == 2 and case.caption


def test_what_is_missing_or_broken_is_named(data, generated, tmp_path, caplog):
    shutil.copytree(generated, tmp_path / "g")
    (tmp_path / "g" / "100000" / "100000_inde_2.png").unlink()
    (tmp_path / "g" / "100002" / "100002_1.png").write_bytes(b"no picture")
    found = score(MagicBrush(data), MAGICBRUSH, tmp_path / "g", MetricWeights(None), ("single",))["views"]["single"]
    assert found["used"] == 4 and found["expected"] == 6
    assert found["skipped"] == {"no result": ["100000/100000_inde_2"], "broken result": ["100002/100002_1"]}
    assert "100000/100000_inde_2 is left out" in caplog.text
    with pytest.raises(ValueError, match="none of 6 edits"):
        score(MagicBrush(data), MAGICBRUSH, tmp_path, MetricWeights(None), ("single",))


def test_names_in_the_table_do_not_leave_the_folder(data, tmp_path):
    shutil.copytree(data, tmp_path / "test")
    sessions = json.loads((data / "edit_sessions.json").read_text())
    sessions["100000"][0]["output"] = "../../../secret-output1.png"
    (tmp_path / "test" / "edit_sessions.json").write_text(json.dumps(sessions))
    (tmp_path / "test" / "edit_turns.json").write_text(json.dumps([t for turns in sessions.values() for t in turns]))
    bench = MagicBrush(tmp_path / "test")
    with pytest.raises(BrokenRow, match="no file name"):
        bench.case(bench.trials("single")[0], MAGICBRUSH)
