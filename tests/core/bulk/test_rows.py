# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows, options, and the lists and folders that rows are read from."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from fireedit_core.bulk import EditOptions, EditRow, RowError, read_rows


@pytest.mark.parametrize("key", ["a", "a/b", "a.b/c d", "ä/ß", "a..b", "2024-01-01"])
def test_keys_that_name_a_file_below_the_folder(key):
    assert EditRow(key, "x.png", "remove it").key == key


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("../a", "leads out"), ("a/../../b", "leads out"), ("/etc/a", "begins or ends"), ("a//b", "two in a row"), ("a/", "begins or ends"),
        ("", "no name"), (" ", "no name"), (None, "no name"), (".fireedit/a", "dot"), ("a/.b", "dot"), ("a/.", "dot"), ("C:a", "colon"),
        ("a\\..\\b", "backslash"), ("a\0b", "control"), ("a\nb", "control"), ("x" * 241, "longer"), ("ä" * 121, "longer"),
    ],
)  # fmt: skip
def test_keys_that_do_not(key, fault):
    with pytest.raises(RowError, match=fault):
        EditRow(key, "x.png", "remove it")


@pytest.mark.parametrize("seed", [1.5, "1", 2**64, -(2**63) - 1, None])
def test_seeds_that_a_generator_does_not_take(seed):
    with pytest.raises(RowError, match="whole number"):
        EditRow("a", "x.png", "remove it", seed)


@pytest.mark.parametrize("options", [{"steps": 0}, {"working_size": -1}, {"keep_outside": "soft"},
                                     {"text_guidance": float("nan")}, {"image_guidance": float("inf")}, {"text_guidance": -0.1}])
def test_options_out_of_range(options):
    with pytest.raises(RowError, match=next(iter(options))):
        EditOptions(**options)


def test_csv(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text('image,instruction,key,seed\na/x.png,"remove it, all",,\n/far/y.jpg,,other/y,-7\n../z.v2.png,make it red,,\n')
    rows = read_rows(file, "for all", seed=3)
    assert rows == [
        EditRow("a/x", tmp_path / "a/x.png", "remove it, all", 3), EditRow("other/y", tmp_path / "/far/y.jpg", "for all", -7),
        EditRow("z.v2", tmp_path / "../z.v2.png", "make it red", 3),
    ]  # fmt: skip


def test_jsonl(tmp_path):
    file = tmp_path / "rows.jsonl"
    records = [{"image": "x.png", "instruction": "remove it"}, {"image": "y.png", "instruction": "remove it", "key": "k", "seed": 0}]
    file.write_text("\n\n".join(map(json.dumps, records)) + "\n")
    assert read_rows(file, seed=5) == [
        EditRow("x", tmp_path / "x.png", "remove it", 5), EditRow("k", tmp_path / "y.png", "remove it", 0),
    ]  # fmt: skip


def test_folder_without_hidden_files_and_its_own_results(tmp_path):
    for name in ("b.JPG", "a/c.png", ".hidden/d.png", ".e.png", "notes.txt", "out/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    rows = read_rows(tmp_path, "remove it", out=tmp_path / "out")
    assert [(row.key, row.image) for row in rows] == [("a/c", tmp_path / "a/c.png"), ("b", tmp_path / "b.JPG")]
    (tmp_path / "z").symlink_to(tmp_path / "a")  # a folder that is a link is one of the pictures' as well, and one of its own is not
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    rows = read_rows(tmp_path, "remove it", out=tmp_path / "out")
    assert [row.key for row in rows] == ["a/c", "b", "z/c"]
    with pytest.raises(RowError, match="cannot go into the folder"):
        read_rows(tmp_path, "remove it", out=tmp_path)
    with pytest.raises(RowError, match="Add an instruction"):
        read_rows(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("r.csv", "picture,text\nx.png,remove it\n", "line 1: unknown column 'picture'; there are image, instruction, key, seed"),
        ("r.csv", "image,instruction\n,remove it\n", "line 2: no image"),
        ("r.csv", "instruction,seed\nremove it,1\n", "line 1: no column image"),
        ("r.csv", "image,instruction\nx.png,remove it, all\n", "line 2: more fields"),
        ("r.csv", "image,instruction\nx.png,\n", "line 2: no instruction"),
        ("r.csv", "image,instruction,seed\nx.png,remove it,one\n", "line 2: the seed 'one'"),
        ("r.csv", "image,instruction,key\nx.png,remove it,../x\n", "line 2: the key '../x' .* leads out"),
        ("r.csv", "image,instruction\nx.png,remove it\nx.jpg,remove it\n", "x.png and .*x.jpg would both become x.png"),
        ("r.csv", "image,instruction\n", "has no rows"),
        ("r.csv", b"image,instruction\n\x81\x8d", "cannot be read as CSV"),
        ("r.csv", 'image,instruction\n"x.png,remove it\n', "line 2: cannot be read as CSV"),
        ("r.jsonl", '{"image": "x.png"\n', "line 1: cannot be read as JSONL"),
        ("r.jsonl", '{"image": "x.png", "Instruction": "remove it"}\n', "line 1: unknown entry 'Instruction'"),
        ("r.jsonl", '["x.png"]\n', "line 1: expected an object"),
        ("r.txt", "x.png", "neither a folder"),
    ],
)  # fmt: skip
def test_lists_that_cannot_be_read(tmp_path, name, text, fault):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RowError, match=fault):
        read_rows(tmp_path / name)


def test_no_source_and_no_pictures(tmp_path):
    with pytest.raises(RowError, match="holds no pictures"):
        read_rows(tmp_path, "remove it")
    with pytest.raises(RowError, match="cannot be read"):
        read_rows(tmp_path / "missing.csv")


def test_the_import_is_light(repo):
    code = "import sys, fireedit_core.bulk.__main__; print([m for m in ('torch', 'ray', 'diffusers', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=repo, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
