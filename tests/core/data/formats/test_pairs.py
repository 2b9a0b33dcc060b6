# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from fireedit_core.data.formats import DatasetError
from fireedit_core.data.formats.pairs import PairsFolder
from fireedit_core.data.writers import files, pairs


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


def test_a_csv_whose_commas_are_not_quoted(tmp_path, scenes):
    pairs.write_listed(tmp_path, scenes[:2], "csv")
    lines = ["instruction,source,liked,target", "make it red, not blue,a/0.png,5,b/0.png", '"make it red, not blue",a/1.png,5,b/1.png,']
    (tmp_path / "pairs.csv").write_text("\r\n".join(lines))
    reader = PairsFolder(tmp_path)
    assert [s.instruction for s in reader] == ["make it red, not blue"] and dict(reader.skipped) == {"more fields than columns": 1}
    (tmp_path / "pairs.csv").write_text("\n".join(line.replace(",", ";") for line in lines))
    with pytest.raises(DatasetError, match="no column source, target, instruction, only instruction;source"):
        PairsFolder(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pairs.csv", "source,target,instruction,instruction\na.png,b.png,one,two\n"),
        ("pairs.jsonl", '{"source": "a.png", "target": "b.png", "instruction": "one", "instruction": "two"}\n'),
    ],
)
def test_what_stands_there_twice(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(DatasetError, match="instruction .*more than once"):
        PairsFolder(tmp_path)


def test_a_quote_that_is_left_open_takes_no_row_with_it(tmp_path, scenes):
    """All rows behind it became part of one instruction."""
    pairs.write_listed(tmp_path, scenes[:3], "csv")
    file = tmp_path / "pairs.csv"
    head, first, *rest = file.read_text().splitlines()
    place = head.split(",").index("instruction")
    fields = next(csv.reader([first]))
    fields[place] = '"remove the apple'
    file.write_text("\n".join([head, ",".join(fields), *rest]))
    with pytest.raises(DatasetError, match="pairs.csv cannot be read"):
        PairsFolder(tmp_path)


def test_a_json_list(tmp_path, scenes):
    pairs.write_listed(tmp_path, scenes[:3])
    file = tmp_path / "pairs.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0]["instruction"] = "one\u2028two"  # no end of a line in JSON
    rows[0] |= {"tags": ["a", "b"], "instruction file": "x.txt"}  # not read, whatever it is
    rows[1]["edit_type"] = 5
    del rows[2]["target"]
    file.write_text("\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    reader = PairsFolder(tmp_path)
    assert [s.instruction for s in reader] == ["one two"] and dict(reader.skipped) == {"edit_type is no text": 1, "no file name": 1}
    file.write_text("5\n")
    with pytest.raises(DatasetError, match="cannot be read"):
        PairsFolder(tmp_path)


def test_two_lists(tmp_path, scenes):
    pairs.write_listed(tmp_path, scenes[:1], "csv")
    pairs.write_listed(tmp_path, scenes[:1], "jsonl")
    with pytest.raises(DatasetError, match="both"):
        PairsFolder(tmp_path)


def test_names_of_all_kinds(tmp_path, scenes, caplog):
    pairs.write_by_name(tmp_path, scenes[:6])
    move = lambda a, b: (tmp_path / a).rename(tmp_path / b)  # noqa: E731
    move("scene 0_before.png", "scene 0_before.PNG")  # as cameras write them
    (tmp_path / "scene 1_before.png").unlink()  # only the picture after
    for key in ("before", "after"):
        (tmp_path / f"scene 2_{key}.png").unlink()  # only the mask
    (tmp_path / "scene 3_before.jpg").write_bytes((tmp_path / "scene 3_before.png").read_bytes())
    (tmp_path / "scene 4.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "._scene 5_before.png").write_bytes(b"what a Mac leaves beside a file")
    (tmp_path / "readme.txt").write_text("no pair")
    with caplog.at_level("INFO", "fireedit"):
        reader = PairsFolder(tmp_path)
    assert not caplog.records and len(reader) == 6
    assert [s.instruction for s in reader] == [scenes[0].instruction, scenes[5].instruction]
    assert dict(reader.skipped) == {"no file name": 2, "several files for one picture": 1, "broken instruction": 1}


def test_a_link_that_leaves_the_folder(tmp_path, scenes):
    root = tmp_path / "mine"
    pairs.write_by_name(root, scenes[:2])
    (root / "scene 0.txt").rename(tmp_path / "secret.txt")
    (root / "scene 0.txt").symlink_to(tmp_path / "secret.txt")
    reader = PairsFolder(root)
    assert len(list(reader)) == 1 and dict(reader.skipped) == {"a name that leaves the folder": 1}


def test_pictures_of_two_sizes(tmp_path, scenes):
    pairs.write_by_name(tmp_path, scenes[:1])
    for key in ("target", "mask"):
        big = np.repeat(np.repeat(getattr(scenes[0], key), 2, 0), 2, 1)
        files.save_picture(big, tmp_path / f"scene 0_{'after' if key == 'target' else key}.png")
    found = PairsFolder(tmp_path)[0]
    assert found.target.shape == found.source.shape and np.array_equal(found.mask, scenes[0].mask)
