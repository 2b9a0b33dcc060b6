# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import numpy as np
import pytest

from fireedit_core.data.formats import DatasetError
from fireedit_core.data.formats.pairs import PairsFolder
from fireedit_core.data.writers import pairs


def same(reader: PairsFolder, scenes) -> None:
    for found, scene in zip(reader, scenes, strict=True):
        assert np.array_equal(found.source, scene.source) and np.array_equal(found.target, scene.target)
        assert np.array_equal(found.mask, scene.mask) and found.instruction == scene.instruction


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_with_a_list(tmp_path, scenes, form):
    pairs.write_listed(tmp_path, scenes, form)
    reader = PairsFolder(tmp_path, "my pictures")
    same(reader, scenes)
    assert reader[0].dataset == "my pictures" and reader[1].edit_type == scenes[1].edit_type
    assert reader[2].target_caption == scenes[2].target_caption


def test_by_name(tmp_path, scenes):
    pairs.write_by_name(tmp_path, scenes)
    same(PairsFolder(tmp_path), scenes)
    (tmp_path / "scene 0_mask.png").unlink()
    (tmp_path / "scene 1_after.png").unlink()
    (tmp_path / "scene 2.txt").unlink()
    reader = PairsFolder(tmp_path)
    assert len(list(reader)) == len(scenes) - 2 and reader[0].mask is None
    assert dict(reader.skipped) == {"no file name": 1, "no instruction": 1}


def test_what_a_list_may_not_do(tmp_path, scenes, caplog):
    pairs.write_listed(tmp_path, scenes[:3])
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    rows[0]["source"], rows[1]["target"], rows[2]["liked"] = "/etc/hostname", "..\\x.png", 5
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with caplog.at_level("INFO", "fireedit"):
        reader = PairsFolder(tmp_path)
    assert "columns that are not read: liked" in caplog.text
    assert len(list(reader)) == 1 and dict(reader.skipped) == {"a name that leaves the folder": 2}


def test_text_with_line_breaks_and_a_byte_order_mark(tmp_path, scenes):
    pairs.write_listed(tmp_path, scenes[:1], "csv")
    file = tmp_path / "pairs.csv"
    text = file.read_text().replace(scenes[0].instruction, '"make it\nblue"', 1)
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert PairsFolder(tmp_path)[0].instruction == "make it blue"


def test_no_pairs(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(DatasetError, match="no pairs.jsonl"):
            PairsFolder(folder)
    (tmp_path / "pairs.jsonl").write_text("{")
    with pytest.raises(DatasetError, match="cannot be read"):
        PairsFolder(tmp_path)
