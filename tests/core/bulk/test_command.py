# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m fireedit_core.bulk`."""

from __future__ import annotations

import csv
import sys

import pytest

from fireedit_core.bulk.__main__ import CANCELLED, DONE, STOPPED, USAGE, main
from fireedit_core.bulk.rows import BulkReport


@pytest.fixture
def table(make_rows, tmp_path):
    """A CSV of four rows whose last picture is missing."""
    rows = make_rows(4)
    rows[3].image.unlink()
    file = tmp_path / "pictures" / "rows.csv"
    with file.open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["image", "instruction", "key", "seed"])
        writer.writerows([row.image.name, row.instruction, row.key, row.seed] for row in rows)
    return file


def test_a_list_twice(table, tiny_bundle, edits, tmp_path, caplog):
    arguments = [str(table), "--out", str(tmp_path / "out"), "--bundle", str(tiny_bundle), "--steps", "1", "--quiet", "--device", "cpu"]
    assert main(arguments) == STOPPED
    assert "3 edited, 0 were there already, 1 failed; see " in caplog.text and "failed.jsonl" in caplog.text
    first = edits(tmp_path / "out")
    assert sorted(first) == ["animals/0", "animals/1", "animals/2"]
    caplog.clear()
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    assert main(arguments) == DONE
    assert "0 edited, 3 were there already, 0 failed" in caplog.text and edits(tmp_path / "out") == first
    assert main([*arguments, "--text-guidance", "1"]) == USAGE
    assert "made with another" in caplog.text


def test_a_folder(make_rows, tiny_bundle, edits, tmp_path, monkeypatch):
    make_rows(2)
    monkeypatch.chdir(tmp_path)
    arguments = ["pictures", "--instruction", "remove the apple", "--out", "out", "--bundle", str(tiny_bundle), "--steps", "1"]
    assert main([*arguments, "--batch", "2"]) == DONE
    assert sorted(edits(tmp_path / "out")) == ["0", "1"]


def test_the_seed_of_the_command_is_of_all_rows_without_one(make_rows, tiny_bundle, tmp_path, monkeypatch):
    make_rows(2)
    sent = []
    monkeypatch.setattr("fireedit_core.bulk.__main__.edit_rows", lambda rows, *_, **__: sent.extend(rows) or BulkReport())
    arguments = [str(tmp_path / "pictures"), "--instruction", "x", "--out", str(tmp_path / "out"), "--bundle", str(tiny_bundle)]
    assert main([*arguments, "--seed", "7"]) == DONE and [row.seed for row in sent] == [7, 7]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (["--bundle", "missing"], "no FireEdit bundle"), (["--steps", "0"], "steps must be"), (["--batch", "0"], "batch"),
        (["--ray", "--device", "cpu"], "--gpus"), (["--ray", "--workers", "0"], "workers must be 1"),
    ],
)  # fmt: skip
def test_wrong_usage(table, tiny_bundle, tmp_path, caplog, change, fault):
    if "--workers" in change:
        pytest.importorskip("ray")
    assert main([str(table), "--out", str(tmp_path / "out"), "--bundle", str(tiny_bundle), "--quiet", *change]) == USAGE
    assert fault in caplog.text


def test_without_ray(table, tiny_bundle, tmp_path, caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "fireedit_core.bulk.on_ray", raising=False)
    assert main([str(table), "--out", str(tmp_path / "out"), "--bundle", str(tiny_bundle), "--ray"]) == USAGE
    assert 'pip install "ray[data]"' in caplog.text


def test_cancelled_and_no_room_on_the_disk(table, tiny_bundle, tmp_path, caplog, monkeypatch):
    arguments = [str(table), "--out", str(tmp_path / "out"), "--bundle", str(tiny_bundle), "--quiet"]
    for error, code in ((KeyboardInterrupt(), CANCELLED), (OSError(28, "No space left on device"), STOPPED)):

        def stopped(*_, error=error, **__):
            raise error

        monkeypatch.setattr("fireedit_core.bulk.__main__.edit_rows", stopped)
        assert main(arguments) == code
    assert "goes on" in caplog.text and "No space left" in caplog.text
