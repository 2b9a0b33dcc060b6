# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import numpy as np
import pytest

from fireedit_core.data.formats import BrokenRow, DatasetError
from fireedit_core.data.formats.refedit_bench import PROMPTS, RefEditBench, polygon
from fireedit_core.data.writers import files, refedit_bench


@pytest.fixture
def root(tmp_path, scenes):
    refedit_bench.write(tmp_path / "bench", scenes)
    return tmp_path / "bench"


def test_rows(root, scenes):
    reader = RefEditBench(root, root / "cache")
    assert len(reader) == len(scenes)
    for number, (found, scene) in enumerate(zip(reader, scenes, strict=True)):
        assert found.id == str(number) and found.edit_type == "easy" and np.array_equal(found.source, scene.source)
        ys, xs = np.nonzero(scene.mask)
        box = np.zeros_like(scene.mask)
        box[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1] = True
        assert np.array_equal(found.mask, box) and found.target is None
        assert found.instruction == scene.instruction and found.target_caption == scene.target_caption
        assert found.meta["single_instruction"] and reader.size(number) == scene.source.shape[:2]


def test_the_second_hundred_is_hard(tmp_path):
    pixel = files.encoded(np.zeros((4, 4, 3), np.uint8))
    row = {"input_image": pixel, "editing_instruction": "x", "mask": "[[0, 0, 3, 0, 3, 3]]"}
    files.write_parquet(tmp_path / "a.parquet", [row] * 101, ("input_image",))
    reader = RefEditBench(tmp_path, tmp_path / "cache")
    assert [reader[i].edit_type for i in (0, 99, 100)] == ["easy", "easy", "hard"]
    assert reader[0].target_caption == "" and reader[0].meta["single_instruction"] == ""  # columns and prompts that may be missing


def test_prompts_of_a_column_go_before_those_of_the_file(tmp_path, scenes):
    row = {"input_image": files.encoded(scenes[0].source), "editing_instruction": "x", "mask": "[[0, 0, 9, 0, 9, 9]]",
           "editing_prompt": "a [blue] dog", "original_prompt": None}  # fmt: skip
    files.write_parquet(tmp_path / "a.parquet", [row], ("input_image",))
    (tmp_path / PROMPTS).write_text(json.dumps({"0": {"original_prompt": "a red dog", "editing_prompt": "other"}}))
    found = RefEditBench(tmp_path / "a.parquet", tmp_path / "cache")[0]
    assert (found.source_caption, found.target_caption) == ("a red dog", "a blue dog")
    for wrong in ("{", "[]", '{"0": 1}'):
        (tmp_path / PROMPTS).write_text(wrong)
        with pytest.raises(DatasetError, match=PROMPTS):
            RefEditBench(tmp_path / "a.parquet", tmp_path / "cache")


def test_polygons():
    found = polygon("[[1, 1, 5, 1, 5, 3, 1, 3], [0, 0, 9, 0, 9, 9]]", (6, 8))  # the second one is not looked at
    assert found.shape == (6, 8) and found.sum() == 15 and found[1:4, 1:6].all()
    assert np.array_equal(polygon([[1.2, 1, 5, 1, 5, 3, 1, 3.4]], (6, 8)), polygon("[[1.2, 1, 5, 1, 5, 3, 1, 3.4]]", (6, 8)))
    assert not polygon("[[90, 90, 95, 90, 95, 95]]", (6, 8)).any()  # outside the picture: an empty mask


@pytest.mark.parametrize("value", [None, "", "[]", "[[1, 2, 3, 4]]", "[[1, 2, 3, 4, 5, 6, 7]]", '[["a", 1, 2, 3, 4, 5]]', "[1, 2]",
                                   "[[1, 2, 3, 4, 5, 1e99]]", '{"a": 1}', "[[NaN, 1, 2, 3, 4, 5]]"])  # fmt: skip
def test_masks_that_are_none(value):
    with pytest.raises(BrokenRow, match="no mask"):
        polygon(value, (6, 8))


def test_a_broken_row_costs_itself_only(tmp_path, scenes):
    good = {"input_image": files.encoded(scenes[0].source), "editing_instruction": "x", "mask": "[[0, 0, 9, 0, 9, 9]]"}
    bad = [good | {"mask": "none"}, good | {"input_image": {"bytes": b"no", "path": None}}, good | {"editing_instruction": ""}]
    files.write_parquet(tmp_path / "a.parquet", [*bad, good], ("input_image",))
    reader = RefEditBench(tmp_path, tmp_path / "cache")
    assert [s.id for s in reader] == ["3"]
    assert dict(reader.skipped) == {"no mask": 1, "broken input_image": 1, "no editing_instruction": 1}
