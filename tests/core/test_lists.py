# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists as spreadsheets, editors and scripts write them."""

from __future__ import annotations

import json

import pytest

from fireedit_core.lists import ListError, read_records

COLUMNS = ("image", "instruction", "seed")
ROWS = [
    (2, {"image": "a.png", "instruction": "remove the cat, please", "seed": "7"}),
    (3, {"image": "b.png", "instruction": "", "seed": ""}),
]
PLAIN = 'image,instruction,seed\na.png,"remove the cat, please",7\nb.png,,\n'


def read(tmp_path, content, name="list.csv"):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_records(tmp_path / name, COLUMNS))


@pytest.mark.parametrize(
    "content",
    [
        PLAIN, PLAIN.replace("\n", "\r\n"), PLAIN.encode("utf-8-sig"), PLAIN.encode("utf-16"), f"\ufeff{PLAIN}".encode("utf-16-be"),
        PLAIN.replace("image,instruction,seed", " Image , Instruction,SEED "), PLAIN.replace("a.png,", "a.png , "),
        "image;instruction;seed\na.png;remove the cat, please;7\nb.png;;\n",
        'image\tinstruction\tseed\na.png\t"remove the cat, please"\t7\nb.png\t\t\n',
        PLAIN.replace("seed\n", "seed,,\n").replace("7\n", "7,,\n"),
    ],
    ids=["plain", "crlf", "bom", "utf-16", "utf-16-be", "head", "blanks", "semicolons", "tabs", "empty columns"],
)  # fmt: skip
def test_one_list_in_the_ways_it_comes(tmp_path, content):
    assert read(tmp_path, content) == ROWS


def test_blank_lines_and_line_numbers(tmp_path):
    rows = read(tmp_path, 'image,instruction\n\na.png,"remove\nthe cat"\n\nb.png,x\n')
    assert [(line, row["image"]) for line, row in rows] == [(4, "a.png"), (6, "b.png")] and rows[0][1]["instruction"] == "remove\nthe cat"


def test_windows_text(tmp_path):
    assert read(tmp_path, "image,instruction\nkäse.png,entferne die Äpfel\n".encode("cp1252"))[0][1]["instruction"] == "entferne die Äpfel"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("image,instruction\na.png,remove it, and that\n", r"line 2: more fields than columns \(3 for 2\); text with a ',' needs double"),
        ("image;instruction\na.png;remove it; now\n", "text with a ';' needs double quotes"),
        ("image,instruktion\na.png,x\n", "line 1: unknown column 'instruktion'; there are image, instruction, seed"),
        ("image,image\na.png,x\n", "column image stands there more than once"),
        ("a.png,remove it\n", "line 1: unknown column 'a.png'"),
        ("instruction\nx\n", "line 1: no column image"),
    ],
)  # fmt: skip
def test_what_would_be_read_as_something_else_is_refused(tmp_path, content, said):
    with pytest.raises(ListError, match=said):
        read(tmp_path, content)


def test_an_entry_that_stands_there_twice(tmp_path):
    with pytest.raises(ListError, match="line 1: .*instruction stands there more than once"):
        read(tmp_path, '{"image": "a.png", "instruction": "one", "instruction": "two"}\n', "list.jsonl")


def test_json_lines(tmp_path):
    assert read(tmp_path, '\n{"image": "a.png", "seed": 7}\n', "list.jsonl") == [(2, {"image": "a.png", "seed": 7})]
    # JSON may hold what Unicode takes for a line's end; files come with the ends of all systems
    assert read(tmp_path, '{"image": "a\u2028b\x85.png"}\r\n\r{"image": "c.png"}', "list.jsonl") == [
        (1, {"image": "a\u2028b\x85.png"}), (3, {"image": "c.png"})
    ]  # fmt: skip
    with pytest.raises(ListError, match="cannot be read"):
        list(read_records(tmp_path / "gone.csv", COLUMNS))


@pytest.mark.parametrize("value", (["remove the cat", "add a dog"], {"en": "remove the cat"}, True))
def test_what_is_no_text_does_not_become_one(tmp_path, value):
    """The edit was of "['remove the cat', 'add a dog']"."""
    line = json.dumps({"image": "a.png", "instruction": value})
    with pytest.raises(ListError, match=r"list.jsonl, line 2: instruction must be a text or a number, got "):
        read(tmp_path, f'{{"image": "a.png", "seed": null}}\n{line}\n', "list.jsonl")
