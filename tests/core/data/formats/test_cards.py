# SPDX-License-Identifier: GPL-3.0-or-later
"""UltraEdit and Emu Edit in the very schema of their dataset cards: columns in their order, their types, and how the files are named.

From the READMEs of BleachNick/UltraEdit (4b99925), UltraEdit_500k (8d78dc5), UltraEdit_Region_Based_100k (1df7a36), and of
facebook/emu_edit_test_set and emu_edit_test_set_generations (f498093).
"""

from __future__ import annotations

import numpy as np
import pytest

from fireedit_core.data.formats.emu_edit import COUNTS, GENERATIONS_COUNTS, EmuEdit
from fireedit_core.data.formats.ultraedit import SCORES, UltraEdit
from fireedit_core.data.streaming import open_stream
from fireedit_core.data.writers.files import encoded

TEXTS = ("source_caption", "target_caption")
# (what edit_object and mask_image are, name of a file)
ULTRAEDIT = {
    "UltraEdit": (("null", "null"), "FreeForm_19-00000-of-00002.parquet"),
    "UltraEdit_500k": ((), "FreeForm-00000-of-00391.parquet"),
    "UltraEdit_Region_Based_100k": (("string", "image"), "RegionBase-00000-of-00093.parquet"),
}


def features_of(*columns: tuple[str, str]):
    import datasets

    kinds = {"image": datasets.Image()}
    return datasets.Features({name: kinds.get(kind) or datasets.Value(kind) for name, kind in columns})


def write(folder, name, features, rows):
    import datasets

    (folder / "data").mkdir(parents=True, exist_ok=True)
    columns = {key: [row[key] for row in rows] for key in features}
    datasets.Dataset.from_dict(columns, features=features).to_parquet(str(folder / "data" / name))


def ultraedit(folder, scenes, kinds, name):
    object_and_mask = list(zip(("edit_object", "mask_image"), kinds))
    features = features_of(
        *((score, "float64") for score in SCORES), *((text, "string") for text in TEXTS), ("idx", "int64"), ("edit_prompt", "string"),
        *object_and_mask[:1], ("source_image", "image"), ("edited_image", "image"), *object_and_mask[1:],
    )  # fmt: skip
    rows = [
        {score: 0.1 * k for k, score in enumerate(SCORES)} | {
            "source_caption": s.source_caption, "target_caption": s.target_caption, "idx": 10 + i, "edit_prompt": s.instruction,
            "edit_object": "apple" if kinds[:1] == ("string",) else None, "source_image": encoded(s.source),
            "edited_image": encoded(s.target), "mask_image": encoded(s.mask) if kinds[1:] == ("image",) else None,
        }
        for i, s in enumerate(scenes)
    ]  # fmt: skip
    write(folder, name, features, rows)


@pytest.mark.parametrize("name", ULTRAEDIT)
def test_ultraedit(tmp_path, scenes, name):
    kinds, file = ULTRAEDIT[name]
    ultraedit(tmp_path, scenes[:3], kinds, file)
    found = list(UltraEdit(tmp_path / "data", cache=tmp_path / "cache", minimum={"dinov2_sim": 0.3}))
    assert len(found) == 3
    for sample, scene in zip(found, scenes, strict=False):
        assert np.array_equal(sample.source, scene.source) and np.array_equal(sample.target, scene.target)
        assert sample.instruction == scene.instruction and sample.target_caption == scene.target_caption
        assert {score: sample.meta[score] for score in SCORES} == pytest.approx({score: 0.1 * k for k, score in enumerate(SCORES)})
        region = kinds == ("string", "image")
        assert (sample.mask is not None) == region and sample.meta.get("edit_object") == ("apple" if region else None)
        assert not region or np.array_equal(sample.mask, scene.mask)
    assert [s.meta["idx"] for s in found] == [10, 11, 12]
    stream = open_stream({"name": "u", "format": "ultraedit", "files": str(tmp_path / "data")}, seed=None).stream
    assert [s.meta["idx"] for s in stream] == [10, 11, 12]  # read in passing, of types that are null too


@pytest.mark.parametrize("generations", [False, True])
def test_emu_edit(tmp_path, scenes, generations):
    columns = [("instruction", "string"), ("image", "image"), ("task", "string"), ("split", "string"), ("idx", "int64"), ("hash", "string"),
               ("input_caption", "string"), ("output_caption", "string")]  # fmt: skip
    more = [("edited_image", "image"), ("model", "string")] if generations else []
    rows = [
        {"instruction": s.instruction, "image": encoded(s.source), "task": "local", "split": "test", "idx": i, "hash": f"{i:x}",
         "input_caption": s.source_caption, "output_caption": s.target_caption, "edited_image": encoded(s.target), "model": "emu-edit"}
        for i, s in enumerate(scenes[:2])
    ]  # fmt: skip
    write(tmp_path, "test-00000-of-00003-14580e6bdcdb8218.parquet", features_of(*columns, *more), rows)
    reader = EmuEdit(tmp_path / "data", cache=tmp_path / "cache")
    assert reader.generations == generations and [s.id for s in reader] == ["test-local-0", "test-local-1"]
    for sample, scene in zip(reader, scenes, strict=False):
        assert np.array_equal(sample.source, scene.source) and sample.target is None and sample.mask is None
        assert (sample.source_caption, sample.target_caption) == (scene.source_caption, scene.target_caption)
        assert ("edited_image" in sample.meta) == generations and sample.meta["hash"] == f"{sample.meta['idx']:x}"
    assert COUNTS == {"validation": 2022, "test": 3589} and GENERATIONS_COUNTS == {"validation": 3589, "test": 2022}  # as the cards have it
