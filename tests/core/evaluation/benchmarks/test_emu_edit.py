# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fireedit_core.data.formats import DatasetError
from fireedit_core.data.formats.emu_edit import PLACEHOLDER_CAPTIONS
from fireedit_core.data.writers import emu_edit as writer
from fireedit_core.data.writers import files
from fireedit_core.evaluation.benchmarks.emu_edit import EmuEditTest
from fireedit_core.evaluation.benchmarks.profiles import ANYEDIT_PSEUDO_GT, EMU_L14_CLEAN, FIREEDIT_EMU
from fireedit_core.evaluation.benchmarks.score import score
from fireedit_core.evaluation.similarity import cosine

from .conftest import noisy


@pytest.fixture(scope="module")
def data(tmp_path_factory, scenes):
    """The generations: they hold all that the set holds."""
    root = tmp_path_factory.mktemp("emu")
    writer.write_generations(root, scenes, "test")
    return root


@pytest.fixture(scope="module")
def results(tmp_path_factory, data, scenes):
    """Edits at another size and not square."""
    root = tmp_path_factory.mktemp("emu-results")
    for number, key in enumerate(EmuEditTest(data, cache=data / "cache").keys):
        noisy(scenes[number].target, number, (150, 110)).save(root / f"{key}.png")
    return root


def overall(found, system="edit"):
    return found["views"]["all"]["tables"][system]["overall"]


def test_the_papers_profile_compares_with_the_source(data, results, scenes, weights):
    found = score(EmuEditTest(data, cache=data / "cache"), FIREEDIT_EMU, results, weights)
    edit, same = overall(found), overall(found, "identity")
    assert set(found["views"]["all"]["tables"]) == {"edit", "identity"}  # no target, so no row for it
    assert same["l1"]["mean"] == 0 and same["clip_i"]["mean"] == pytest.approx(1) and same["lpips"]["mean"] == 0
    assert same["clip_dir"]["mean"] == 0  # nothing done goes in no direction
    pictures = {key: np.asarray(Image.open(results / f"{key}.png")) for key in EmuEditTest(data, cache=data / "cache").keys}
    clip, values = weights.clip("clip-vit-base-patch32"), {"l1": [], "clip_t": [], "clip_dir": [], "clip_i": []}
    for scene, picture in zip(scenes, pictures.values(), strict=True):
        edited, source = Image.fromarray(picture), Image.fromarray(scene.source)
        small = np.asarray(edited.resize(source.size, Image.Resampling.BICUBIC), float)
        values["l1"].append(np.abs(small - scene.source).mean() / 255)
        e, s, after, before = clip.picture(edited), clip.picture(source), clip.text(scene.target_caption), clip.text(scene.source_caption)
        values["clip_i"].append(cosine(e, s))
        values["clip_t"].append(cosine(e, after))
        if scene.source_caption != scene.target_caption:
            values["clip_dir"].append(cosine(e - s, after - before))
    assert 0 < len(values["clip_dir"]) < len(scenes)  # some have one caption for before and after
    for name, own in values.items():
        assert edit[name]["mean"] == pytest.approx(np.mean(own), abs=1e-5), name
        assert edit[name]["n"] == len(own) and edit[name]["interval"][0] <= edit[name]["mean"] <= edit[name]["interval"][1]
    tasks = found["views"]["all"]["tables"]["edit"]
    assert set(tasks) == {writer.TASKS[s.edit_type] for s in scenes} | {"overall"}
    assert sum(tasks[t]["l1"]["n"] for t in tasks if t != "overall") == len(scenes)


def test_emu_edits_own_pictures_as_reference(data, results, scenes, weights):
    bench = EmuEditTest(data, cache=data / "cache")
    for number, key in enumerate(bench.keys):
        files.save_picture(scenes[number].target, results.parent / "oracle" / f"{key}.png")
    Image.new("RGB", (64, 64)).save(results.parent / "oracle" / f"{bench.keys[2]}.png")  # a safety filter's
    found = score(bench, ANYEDIT_PSEUDO_GT, results.parent / "oracle", weights)
    view = found["views"]["all"]
    assert view["skipped"] == {"all-black edit": [bench.keys[2]]} and view["used"] == len(scenes) - 1
    assert overall(found)["l1"]["mean"] == overall(found)["l2"]["mean"] == 0 and overall(found)["clip_i"]["mean"] == pytest.approx(1)
    assert overall(found, "reference")["l1"]["mean"] == 0 and overall(found, "identity")["l1"]["mean"] > 0


def test_the_set_alone_is_no_pseudo_target(tmp_path, scenes):
    writer.write_set(tmp_path, scenes)
    bench = EmuEditTest(tmp_path, cache=tmp_path / "cache")
    with pytest.raises(DatasetError, match="give --data the set of generations"):
        bench.case(bench.trials("all")[0], ANYEDIT_PSEUDO_GT)


def captioned(folder, captions, name="test-00000-of-00001.parquet", generations=False):
    pixel = files.encoded(np.full((8, 8, 3), 99, np.uint8))
    more = {"edited_image": pixel, "model": "m"} if generations else {}
    rows = [
        {"instruction": "x", "image": pixel, "task": "add", "split": "test", "idx": i, "input_caption": a, "output_caption": b, **more}
        for i, (a, b) in enumerate(captions)
    ]
    files.write_parquet(folder / name, rows, ("image", "edited_image")[: 1 + generations])
    return folder


def test_captions_that_say_nothing(tmp_path, weights):
    captions = [("a dog", "a cat"), ("A dog", "a  dog"), ("", ""), ("a dog", PLACEHOLDER_CAPTIONS[0])]
    captioned(tmp_path, captions)
    for i in range(4):
        noisy(np.full((8, 8, 3), 99, np.uint8), i).save(tmp_path / f"test-add-{i}.png")
    found = score(EmuEditTest(tmp_path, cache=tmp_path / "cache"), FIREEDIT_EMU, tmp_path, weights)
    assert overall(found)["l1"]["n"] == 4 and overall(found)["clip_t"]["n"] == 3 and overall(found)["clip_dir"]["n"] == 2
    assert found["views"]["all"]["unmeasured"] == {
        "lpips": {"too small for LPIPS": 4}, "clip_t": {"no caption": 1}, "clip_dir": {"identical captions": 1, "no caption": 1},
    }  # fmt: skip
    clean = EmuEditTest(tmp_path, profile=EMU_L14_CLEAN, cache=tmp_path / "cache")
    assert [t.key for t in clean.trials("all")] == ["test-add-0"]
    assert score(clean, EMU_L14_CLEAN, tmp_path, weights)["views"]["all"]["used"] == 1


@pytest.mark.parametrize("generations", [False, True])
def test_a_split_is_taken_by_its_number_of_rows(tmp_path, generations):
    """The generations of the test split were published as validation, and the other way round."""
    same = ("a", "b")
    small, large = ("test", "validation") if generations else ("validation", "test")
    captioned(tmp_path, [same] * 2022, f"{small}-0.parquet", generations)
    captioned(tmp_path, [same] * 3589, f"{large}-0.parquet", generations)
    assert len(EmuEditTest(tmp_path, "test", cache=tmp_path / "cache").keys) == 3589
    assert len(EmuEditTest(tmp_path, "validation", cache=tmp_path / "cache").keys) == 2022
    with pytest.raises(DatasetError, match="so it is"):
        EmuEditTest(tmp_path / f"{small}-0.parquet", "test", cache=tmp_path / "cache")


def test_files_that_cannot_be_told_apart(tmp_path):
    captioned(tmp_path, [("a", "b")] * 3, "validation-0.parquet")
    captioned(tmp_path, [("a", "b")] * 2, "other.parquet")
    with pytest.raises(DatasetError, match=r"other files \(2 rows\).*which of them is test"):
        EmuEditTest(tmp_path, cache=tmp_path / "cache")
    with pytest.raises(DatasetError, match="no parquet files"):
        EmuEditTest(tmp_path / "none")
    (tmp_path / "x.parquet").write_bytes(b"x")
    with pytest.raises(DatasetError, match="cannot be read"):
        EmuEditTest(tmp_path / "x.parquet")


def test_a_key_that_comes_twice_is_edited_once(tmp_path, caplog):
    captioned(tmp_path, [("a", "b")] * 2, "test-0.parquet")
    captioned(tmp_path, [("a", "b")] * 1, "test-1.parquet")
    bench = EmuEditTest(tmp_path, cache=tmp_path / "cache")
    assert [e.key for e in bench.edits(("all",))] == ["test-add-0", "test-add-1"] and len(bench.trials("all")) == 3
    assert "share split, task and idx" in caplog.text
