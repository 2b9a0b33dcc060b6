# SPDX-License-Identifier: GPL-3.0-or-later
"""Journals: the latest line wins, and only those of a run count as its own."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
from PIL import Image

from fireedit_core import file_names
from fireedit_core.bulk import EditOptions, EditRow, results
from fireedit_core.bulk.results import HIDDEN, ResultWriter, begun_in, finished, make_folder, read_journals
from fireedit_core.bulk.rows import RowError, stamp


@pytest.fixture
def write(tmp_path):
    """`write(worker, records)`: a journal."""
    (tmp_path / HIDDEN).mkdir()
    return lambda name, records: (tmp_path / HIDDEN / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))


@pytest.mark.parametrize("way", ("plain", "dots", "link"))
def test_a_picture_to_be_edited_is_no_edit(tmp_path, way):
    """`rows.csv --out .`: each picture was taken for its own edit, "were there already", and the command ended with 0."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"mine")
    out = {"plain": tmp_path / "in", "dots": tmp_path / "in" / ".." / "in", "link": tmp_path / "other"}[way]
    if way == "link":
        out.symlink_to(tmp_path / "in")
    rows = [EditRow("b", tmp_path / "in" / "a.png", "x"), EditRow("a", tmp_path / "in" / "b.png", "x")]
    with pytest.raises(RowError, match=r"a\.png is a picture to be edited, and no edit; give another folder"):
        finished(out, rows, "bundle", EditOptions())
    assert finished(tmp_path / "out", rows, "bundle", EditOptions()) == set()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"an edit")
    assert finished(tmp_path / "out", rows, "bundle", EditOptions()) == {"a"}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_latest_line_wins_whoever_wrote_it(tmp_path, write, order):
    lines = [{"key": "a", "stamp": f"s{i}", "time": 100.0 + i} for i in range(3)]
    write("one", [lines[order[0]], {"key": "b", "stamp": "b", "time": 1.0}, lines[order[1]]])
    write("two", [lines[order[2]]])
    assert read_journals(tmp_path) == {"a": "s2", "b": "b"}


def test_of_two_lines_of_one_time_the_later_written_wins(tmp_path, write):
    write("one", [{"key": "a", "stamp": "old", "time": 5.0}, {"key": "a", "stamp": "new", "time": 5.0}])
    assert read_journals(tmp_path) == {"a": "new"}


def test_the_line_of_the_picture_that_lies_there_wins_whatever_the_clocks_say(tmp_path):
    """A picture was deleted and made anew on a machine whose clock is behind: it was taken for the one that is gone."""
    rows = [EditRow("a", tmp_path / "x.png", text) for text in ("remove it", "make it red")]
    options = EditOptions()
    for row, now, shade in zip(rows, (2000.0, 1000.0), (10, 20), strict=True):
        with pytest.MonkeyPatch.context() as clock:
            clock.setattr(results.time, "time", lambda now=now: now)
            ResultWriter(tmp_path, "bundle", options).write(row, Image.new("RGB", (8, 8), (shade, 0, 0)))
    assert read_journals(tmp_path) == {"a": stamp(rows[1], "bundle", options)}
    assert finished(tmp_path, rows[1:], "bundle", options) == {"a"}
    with pytest.raises(RowError, match="made with another picture, instruction"):
        finished(tmp_path, rows[:1], "bundle", options)


def test_what_other_runs_began_does_not_count(tmp_path, write):
    write("one", [{"run": "now", "begin": ["a", "b"]}, {"run": "before", "begin": ["a"]}, {"key": "a", "stamp": "x", "time": 1.0}])
    write("two", [{"run": "now", "begin": ["a"]}])
    assert begun_in(tmp_path, "now") == {"a": 2, "b": 1} and begun_in(tmp_path, "none") == {}


def test_a_stamp_changes_with_all_that_it_depends_on(tmp_path):
    row, options = EditRow("a", tmp_path / "x.png", "remove it", 3), EditOptions(steps=4)
    first = stamp(row, tmp_path / "bundle", options)
    changed = [
        stamp(replace(row, image=tmp_path / "y.png"), tmp_path / "bundle", options),
        stamp(replace(row, instruction="make it red"), tmp_path / "bundle", options),
        stamp(replace(row, seed=4), tmp_path / "bundle", options), stamp(row, tmp_path / "other", options),
    ]  # fmt: skip
    for name, value in {"steps": 5, "text_guidance": 2.0, "image_guidance": 2.0, "working_size": 64, "keep_outside": "exact"}.items():
        changed.append(stamp(row, tmp_path / "bundle", replace(options, **{name: value})))
    assert len({first, *changed}) == 1 + len(changed)
    # the same list on another machine, and a key that is named in another way, are the same edit
    assert stamp(replace(row, key="b", image=tmp_path / "elsewhere" / "x.png"), tmp_path / "mount" / "bundle", options) == first


def test_two_keys_that_are_one_file_there(tmp_path, monkeypatch):
    rows = [EditRow(key, "a.png", "x") for key in ("cat", "dog", "Cat")]
    (tmp_path / "a").touch()
    assert file_names._folds(tmp_path) is (tmp_path / "A").exists() and [file.name for file in tmp_path.iterdir()] == ["a"]
    monkeypatch.setattr(file_names, "_folds", lambda folder: False)
    make_folder(tmp_path / "one", rows)
    monkeypatch.setattr(file_names, "_folds", lambda folder: True)
    with pytest.raises(RowError, match="the keys 'cat' and 'Cat' are one file in .*two"):
        make_folder(tmp_path / "two", rows)
    make_folder(tmp_path / "three", rows[:2])
