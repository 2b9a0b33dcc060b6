# SPDX-License-Identifier: GPL-3.0-or-later
"""A run over one's own pairs rehearses what the bundle can do already."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fireedit_core.checkpoints.bundle import load_component
from fireedit_core.data.formats.registry import load_sources
from fireedit_core.diffusion.pipeline import FireEditPipeline
from fireedit_core.grounding.words import read_words
from fireedit_core.training.paper import replay
from fireedit_core.training.paper.config import PaperConfig
from fireedit_core.training.paper.own_pairs import own_config
from fireedit_core.training.paper.replay import EACH, LEAST, replay_texts, unknown_words

TEXTS = ("turn the apple into a ghost", "replace the left dog with a ghost", "swap the cactus for a ghost", "turn the clock into a ghost")


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pairs"
    root.mkdir()
    for i, text in enumerate(TEXTS):
        for k, name in enumerate(("before", "after")):
            small = np.random.default_rng(i + 100 * k).integers(0, 255, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(small).resize((72, 64), Image.Resampling.BICUBIC).save(root / f"n{i}_{name}.png")
        (root / f"n{i}.txt").write_text(text)
    return root


@pytest.fixture
def start(folder, bundle, tmp_path):
    """The configuration of a run, made as the command makes it; more arguments replace."""
    common = ["--bundle", str(bundle), "--out", str(tmp_path / "run"), "--size", "64", "--validation_steps", "1"]
    return lambda *more: own_config(folder, [*common, *more])[0]


def test_texts_are_about_the_same_things_and_in_known_words(bundle):
    tokenizer = load_component(bundle, "tokenizer")
    found = replay_texts(TEXTS, tokenizer)
    assert all(len(own) == max(EACH, LEAST // len(TEXTS)) == len(set(own)) for own in found)
    assert {read_words(text).kind for own in found for text in own} >= {"remove", "replace", "recolour", "add", "background"}
    for own, thing in zip(found, ("apple", "left dog", "cactus", "clock"), strict=True):
        assert all(f"the {thing}" in text or read_words(text).kind == "background" or "everything" in text for text in own)
        assert not any(unknown_words(tokenizer, text) for text in own) and "ghost" not in " ".join(own)
    assert found == replay_texts(TEXTS, tokenizer) != replay_texts(TEXTS, tokenizer, seed=1)
    # what cannot be read, or has no word, gives none
    assert replay_texts(("mach den apfel rot", "turn the zeppelin into a ghost", "do it"), tokenizer)[0] == []
    assert not [text for own in replay_texts(("turn the zeppelin into a ghost",), tokenizer) for text in own if "zeppelin" in text]


@pytest.mark.slow
def test_the_start_s_own_edits_ride_beside_the_pairs(start, bundle, tmp_path):
    config = start("--replay", "0.5")
    pairs, replay = load_sources(config.sources)
    assert (pairs.share, replay.share, pairs.flip, replay.flip) == (1.0, 0.5, False, False)
    assert len(pairs.reader) == 3 and len(replay.reader) == LEAST
    rows = [json.loads(line) for line in (tmp_path / "run" / "replay" / "pairs.jsonl").read_text().splitlines()]
    trained = json.loads((tmp_path / "run" / "sources.yaml").read_text())[0]["rows"]
    assert {row["source"] for row in rows} == {f"{i}_before.png" for i in trained}
    pipe = FireEditPipeline.from_pretrained(bundle)
    pipe.set_progress_bar_config(disable=True)
    number = int(rows[0]["source"].split("_")[0])
    own = [row["instruction"] for row in rows if row["source"] == rows[0]["source"]]
    before = Image.open(tmp_path / "run" / "replay" / rows[0]["source"])
    made = pipe(before, own, num_inference_steps=1, generator=torch.Generator().manual_seed(number))
    assert np.array_equal(np.asarray(made.images[0]), replay.reader[0].target)
    where = made.mask[0].numpy() > 0.5
    assert np.array_equal(where, replay.reader[0].mask) if where.any() else replay.reader[0].mask is None


@pytest.mark.slow
def test_it_is_made_once_and_anew_for_another_bundle(start, tmp_path):
    start()
    file = tmp_path / "run" / "replay" / "pairs.jsonl"
    then = file.stat().st_mtime_ns
    start()
    assert file.stat().st_mtime_ns == then
    made = tmp_path / "run" / "replay" / "replay.json"
    made.write_text(made.read_text().replace('"bundle": "', '"bundle": "other'))
    start()
    assert file.stat().st_mtime_ns != then


def test_a_run_goes_on_over_the_edits_on_which_it_has_trained(tmp_path, bundle, monkeypatch):
    """Their number of sampling steps may be given anew; they were made anew with it, and the run went on over others."""
    config = PaperConfig(sources="a", bundle=str(bundle), validation_steps=3)
    (tmp_path / "replay").mkdir()
    made = {"bundle": replay.bundle_fingerprint(bundle), "detector": "", "steps": 20, "size": 256, "texts": []}
    (tmp_path / "replay" / "replay.json").write_text(json.dumps(made))
    with pytest.raises(ValueError, match="holds edits made with another validation_steps, on which this run has trained"):
        replay.write_replay(config, None, (), (), tmp_path / "replay", begun=True)
    replay.write_replay(replace(config, validation_steps=20), None, (), (), tmp_path / "replay", begun=True)


def test_without_it_there_are_the_pairs_alone(start, tmp_path, caplog):
    (alone,) = load_sources(start("--replay", "0").sources)
    assert alone.share is None and not (tmp_path / "run" / "replay").exists()
    with pytest.raises(ValueError, match=r"holds a run over other pairs \(--replay differ\)"):
        start()
    with pytest.raises(SystemExit):
        start("--replay", "-1")


def test_pairs_that_say_nothing_readable_are_trained_on_alone(start, folder, tmp_path, caplog):
    for file in folder.glob("*.txt"):
        file.write_text("mach es anders")
    assert len(load_sources(start().sources)) == 1
    assert "the bundle's old edits are not rehearsed" in caplog.text
