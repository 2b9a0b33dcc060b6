# SPDX-License-Identifier: GPL-3.0-or-later
"""Real edits with the repository's own weights at 2 steps: naming, going on after a stop, and what is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from fireedit_core.data.writers import emu_edit, pie_bench, refedit_bench
from fireedit_core.diffusion.pipeline import FireEditPipeline
from fireedit_core.evaluation.benchmarks import generate as generation
from fireedit_core.evaluation.benchmarks.emu_edit import EmuEditTest
from fireedit_core.evaluation.benchmarks.generate import MANIFEST, Settings, generate, noise_seed
from fireedit_core.evaluation.benchmarks.magicbrush import MagicBrush
from fireedit_core.evaluation.benchmarks.pie_bench import PieBenchTest
from fireedit_core.evaluation.benchmarks.profiles import MAGICBRUSH
from fireedit_core.evaluation.benchmarks.refedit_bench import RefEditBenchTest
from fireedit_core.evaluation.benchmarks.report import facts
from fireedit_core.evaluation.benchmarks.score import score
from fireedit_core.evaluation.similarity import MetricWeights

pytestmark = pytest.mark.slow

TWO_STEPS = Settings(seed=3, steps=2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data, bundle):
    """A run that nothing stopped."""
    out = tmp_path_factory.mktemp("generated") / "whole"
    return out, generate(MagicBrush(data), bundle, out, TWO_STEPS)


def pictures(out):
    return {file.relative_to(out / "pictures").as_posix(): file.read_bytes() for file in sorted((out / "pictures").rglob("*.png"))}


def test_magicbrush_in_the_authors_naming(whole, data, bundle):
    out, made = whole
    name = lambda k, *ends: [f"{100000 + k}/{100000 + k}_{end}.png" for end in ends]  # noqa: E731
    wanted = [*name(0, "1", "inde_2", "inde_3", "iter_2", "iter_3"), *name(1, "1"), *name(2, "1", "inde_2", "iter_2")]
    assert list(pictures(out)) == sorted(wanted) and len(made.done) == 9 and not made.failed and not made.skipped
    # nothing but the sessions' folders, which the authors' script takes for ids
    assert sorted(p.name for p in (out / "pictures").iterdir()) == ["100000", "100001", "100002"]
    manifest = json.loads((out / MANIFEST).read_text())
    assert manifest["steps"] == 2 and manifest["seed"] == 3 and manifest["text_guidance"] == 1.0 and manifest["working_size"] == 128
    assert manifest["views"] == ["single", "multi"] and len(manifest["bundle_fingerprint"]) == 12 and manifest["bundle"] == bundle.name
    # it goes straight to the scorer, which knows what it was made with
    found = score(MagicBrush(data), MAGICBRUSH, out, MetricWeights(None))
    assert found["views"]["multi"]["used"] == 3 and found["generation"]["steps"] == 2
    assert score(MagicBrush(data), MAGICBRUSH, out / "pictures", MetricWeights(None))["generation"] == found["generation"]


def test_an_edit_is_that_of_the_pipeline_from_its_own_source(whole, data, bundle):
    """The chain starts from the result of the turn before, the independent turn from the data; noise is that of seed and key."""
    import torch

    from fireedit_core.evaluation.scenes import load_pipeline

    out, _ = whole
    pipe, bench = load_pipeline(bundle, "cpu"), MagicBrush(data)
    for key, source in (
        ("100000/100000_inde_2", data / "images" / "100000" / "100000-output1.png"),
        ("100000/100000_iter_2", out / "pictures" / "100000" / "100000_1.png"),
    ):
        noise = torch.Generator().manual_seed(noise_seed(3, key))
        said = bench.reader.turns[1]["instruction"]
        wanted = pipe(Image.open(source).convert("RGB"), said, num_inference_steps=2, generator=noise).images[0]
        found = np.asarray(Image.open(out / "pictures" / f"{key}.png"), int)
        assert np.abs(found - np.asarray(wanted, int)).max() <= 1, key


def test_stopped_and_gone_on_gives_the_same_pictures(whole, data, bundle, tmp_path, monkeypatch):
    out, calls, call = tmp_path / "out", [], FireEditPipeline.__call__

    def stop(self, *args, **options):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return call(self, *args, **options)

    monkeypatch.setattr(FireEditPipeline, "__call__", stop)
    with pytest.raises(KeyboardInterrupt):
        generate(MagicBrush(data), bundle, out, TWO_STEPS)
    assert len(pictures(out)) == 3
    monkeypatch.setattr(FireEditPipeline, "__call__", call)
    made = generate(MagicBrush(data), bundle, out, TWO_STEPS)
    assert len(made.skipped) == 3 and len(made.done) == 6 and pictures(out) == pictures(whole[0])
    # a third time nothing is loaded and nothing done
    monkeypatch.setattr(generation, "load_pipeline", None)
    assert len(generate(MagicBrush(data), bundle, out, TWO_STEPS).skipped) == 9


def test_a_first_part_is_part_of_the_whole(whole, data, bundle, tmp_path):
    made = generate(MagicBrush(data), bundle, tmp_path / "out", TWO_STEPS, ("multi",), limit=1)
    assert made.done == ["100000/100000_1", "100000/100000_iter_2", "100000/100000_iter_3"]
    everything = pictures(whole[0])
    assert all(everything[name] == content for name, content in pictures(tmp_path / "out").items())


def test_other_settings_are_refused(whole, data, bundle):
    out, _ = whole
    before = pictures(out)
    for settings, said in ((Settings(seed=4, steps=2), "seed 3, now 4"), (Settings(seed=3), "steps 2, now 20")):
        with pytest.raises(ValueError, match=f"made with other settings .*{said}"):
            generate(MagicBrush(data), bundle, out, settings)
    assert generate(MagicBrush(data), bundle, out, Settings(seed=3, steps=2, text_guidance=1.0)).skipped  # the bundle's own value
    assert pictures(out) == before


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"detector": "other", "detector_fingerprint": "abc"}, "detector 'other', now None; detector_fingerprint 'abc', now None"),
        ({"sampling": "magicbrush"}, "sampling 'magicbrush', now None"),
    ],
)
def test_what_is_named_no_longer_is_another_setting_too(data, bundle, tmp_path, more, said):
    """Edits with a detector of one's own, and then without it, came into one folder and one score."""
    generation._write_manifest(MagicBrush(data), bundle, tmp_path, Settings(steps=2), ("single",), {}, "cpu")
    told = json.loads((tmp_path / MANIFEST).read_text())
    generation._write_manifest(MagicBrush(data), bundle, tmp_path, Settings(steps=2), ("multi",), {}, "cpu")
    (tmp_path / MANIFEST).write_text(json.dumps(told | more))
    with pytest.raises(ValueError, match=f"made with other settings .{said}"):
        generation._write_manifest(MagicBrush(data), bundle, tmp_path, Settings(steps=2), ("single",), {}, "cpu")


def test_a_detector_is_known_by_its_weights(data, bundle, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(generation, "_write_manifest", lambda *given: told.append(given[5]) or (tmp_path / MANIFEST).write_text("{}"))
    monkeypatch.setattr(generation, "_rounds", lambda edits: [])
    for weights in (b"one", b"two"):
        (tmp_path / "detector.pt").write_bytes(weights)
        generate(MagicBrush(data), bundle, tmp_path, TWO_STEPS, detector=tmp_path / "detector.pt")
    assert told[0]["detector"] == told[1]["detector"] == "detector.pt"
    assert told[0]["detector_fingerprint"] != told[1]["detector_fingerprint"]


def test_a_report_tells_what_else_the_edits_were_made_with():
    """Edits by another detector, or sampled as MagicBrush's authors do, were said to be made as all others."""
    made = {"bundle": "b", "bundle_fingerprint": "f", "steps": 2, "text_guidance": 1.0, "image_guidance": 1.0, "working_size": 0,
            "keep_outside": "off", "seed": 3}  # fmt: skip
    profile = {"name": "magicbrush", "version": 1, "hash": "h"}
    told = lambda **more: facts({"profile": profile, "generation": made | more, "generated": "g", "limit": 0, "left_out": {}})  # noqa: E731
    assert told().endswith("seed 3.")
    assert told(sampling="magicbrush", detector="d.pt").endswith("seed 3, sampling magicbrush, detector d.pt.")


def test_a_folder_of_unknown_pictures_is_not_added_to(whole, data, bundle, tmp_path):
    shutil.copytree(whole[0], tmp_path / "out")
    (tmp_path / "out" / MANIFEST).unlink()
    with pytest.raises(ValueError, match="no generation.json that says how they were made"):
        generate(MagicBrush(data), bundle, tmp_path / "out", TWO_STEPS)
    (tmp_path / "out" / MANIFEST).write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        generate(MagicBrush(data), bundle, tmp_path / "out", TWO_STEPS)


def test_broken_rows_are_named_and_so_is_what_hangs_on_them(data, bundle, tmp_path, caplog):
    shutil.copytree(data, tmp_path / "test")
    (tmp_path / "test" / "images" / "100002" / "100002-input.png").write_bytes(b"no picture")
    (tmp_path / "test" / "images" / "100001" / "100001-input.png").unlink()
    sessions = json.loads((data / "edit_sessions.json").read_text())
    sessions["100000"][1]["instruction"] = " "
    (tmp_path / "test" / "edit_sessions.json").write_text(json.dumps(sessions))
    (tmp_path / "test" / "edit_turns.json").write_text(json.dumps([t for turns in sessions.values() for t in turns]))
    made = generate(MagicBrush(tmp_path / "test"), bundle, tmp_path / "out", TWO_STEPS)
    assert made.done == ["100000/100000_1", "100002/100002_inde_2", "100000/100000_inde_3"]
    reasons = {key.split("_", 1)[1] + " of " + key[5]: why.split(":")[0] for key, why in made.failed.items()}
    assert reasons == {
        "1 of 1": "no source", "1 of 2": "broken picture", "inde_2 of 0": "no instruction", "iter_2 of 0": "no instruction",
        "iter_2 of 2": "no source", "iter_3 of 0": "no source",
    }  # fmt: skip
    assert "the turn before it, 100002/100002_1, has no result" in made.failed["100002/100002_iter_2"]
    assert json.loads((tmp_path / "out" / MANIFEST).read_text())["failed"] == made.failed
    assert str(made) == "3 edited, 0 were there already, 6 failed"


def test_sources_in_parquet_are_written_out(scenes, bundle, tmp_path):
    emu_edit.write_set(tmp_path / "emu", scenes[:2], "test")
    refedit_bench.write(tmp_path / "ref", scenes[:2])
    rows = [f"test-{emu_edit.TASKS[s.edit_type]}-{i}" for i, s in enumerate(scenes[:2])]
    for bench, keys in (
        (EmuEditTest(tmp_path / "emu", cache=tmp_path / "c"), rows),
        (RefEditBenchTest(tmp_path / "ref", tmp_path / "c"), ["0", "1"]),
    ):
        out = tmp_path / bench.name
        assert generate(bench, bundle, out, TWO_STEPS, batch=2).done == keys
        for key, scene in zip(keys, scenes, strict=False):
            assert np.array_equal(np.asarray(Image.open(out / "sources" / f"{key}.png")), scene.source)
        assert sorted(pictures(out)) == sorted(f"{key}.png" for key in keys)


def test_pie_bench_lies_as_its_sources(scenes, bundle, tmp_path):
    pie_bench.write(tmp_path / "pie", scenes[:1])
    made = generate(PieBenchTest(tmp_path / "pie"), bundle, tmp_path / "out", TWO_STEPS)
    assert made.done == ["annotation_images/0_random_140/000000000000"] and not (tmp_path / "out" / "sources").exists()
    assert Image.open(tmp_path / "out" / "pictures" / f"{made.done[0]}.png").size == (512, 512)


def test_noise_depends_on_seed_and_key():
    seeds = {noise_seed(seed, key) for seed in (0, 1) for key in ("a", "b", "0/a")}
    assert len(seeds) == 6 and noise_seed(1, "a") == noise_seed(1, "a") and all(0 <= s < 2**63 for s in seeds)
