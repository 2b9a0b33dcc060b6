# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import numpy as np
import pytest

from fireedit_core.data.formats import DatasetError
from fireedit_core.data.formats.reasonedit import ReasonEditBench, ReasonEditTrain
from fireedit_core.data.writers import reasonedit


def test_train(tmp_path, scenes):
    reader = ReasonEditTrain(reasonedit.write_train(tmp_path, scenes))
    for found, scene in zip(reader, scenes, strict=True):
        assert np.array_equal(found.source, scene.source) and np.array_equal(found.target, scene.target)
        assert found.instruction == scene.instruction
    reader.choose(1)
    assert reader[0].instruction == f"please {scenes[0].instruction}"
    reader.choose(2)
    assert reader[0].instruction == scenes[0].instruction


def test_train_rows_that_cannot_be_used(tmp_path, scenes):
    file = reasonedit.write_train(tmp_path, scenes[:5])
    rows = json.loads(file.read_text())
    rows["0000"]["instruction"] = []
    rows["0001"]["origin_img_path"] = "../outside.png"
    rows["0002"]["target_img_path"] = "pictures/none.png"
    del rows["0003"]["origin_img_path"]
    file.write_text(json.dumps(rows))
    reader = ReasonEditTrain(file)
    assert [found.id for found in reader] == ["0004"]
    assert dict(reader.skipped) == {
        "no instruction": 1, "a name that leaves the folder": 1, "broken picture after": 1, "no file name": 1,
    }  # fmt: skip
    file.write_text("no json")
    with pytest.raises(DatasetError, match="cannot be read"):
        ReasonEditTrain(file)


def test_bench(tmp_path, scenes):
    reasonedit.write_bench(tmp_path, {"1-Left-Right": scenes[:2], "6-Reasoning-231115": scenes[2:5]})
    reader = ReasonEditBench(tmp_path)
    assert [found.edit_type for found in reader] == ["Left-Right"] * 2 + ["Reasoning"] * 3
    for found, scene in zip(reader, scenes, strict=False):
        assert np.array_equal(found.source, scene.source) and found.target is None
        assert found.instruction == scene.instruction and found.target_caption == scene.target_caption
        assert (found.mask != scene.mask).mean() < 0.02  # JPEG
    assert len({found.id for found in reader}) == 5


def test_bench_where_numbers_disagree(tmp_path, scenes):
    with pytest.raises(DatasetError, match="no folder named after"):
        ReasonEditBench(tmp_path)
    reasonedit.write_bench(tmp_path, {"4-Color": scenes[:2]})
    (tmp_path / "4-Color" / "001_mask.jpg").unlink()
    with pytest.raises(DatasetError, match="2 pictures, 1 masks and 2 lines"):
        ReasonEditBench(tmp_path)
    (tmp_path / "4-Color" / "other.txt").write_text("x")
    with pytest.raises(DatasetError, match="one text file"):
        ReasonEditBench(tmp_path)
