# SPDX-License-Identifier: GPL-3.0-or-later
"""The limit between a bundle's world and photographs: chosen with few false alarms, measured on what it was not chosen on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fireedit_core.evaluation import familiarity, motions
from fireedit_core.evaluation.familiarity import Familiarity


def test_the_limit_lies_between_two_that_are_apart():
    scenes, photos = torch.linspace(0.001, 0.005, 100), torch.linspace(0.02, 0.05, 100)
    limit = familiarity._limit(scenes, photos)
    assert 0.0048 < limit < 0.02


def test_where_they_overlap_false_alarms_stay_few():
    scenes, photos = torch.linspace(0.001, 0.02, 1000), torch.linspace(0.01, 0.05, 1000)
    limit = familiarity._limit(scenes, photos)
    assert float((scenes > limit).float().mean()) <= familiarity.FALSE_ALARMS


def test_rates_and_report():
    found = Familiarity(0.5, torch.tensor([0.1, 0.6]), torch.tensor([0.2, 0.7, 0.8, 0.9]), 8)
    assert (found.false_alarms, found.missed) == (0.5, 0.25)
    assert "False alarms 50.0%" in familiarity.report(found, "command")


def test_photographs_are_looked_for_in_folders_and_the_same_windows_come_again(tmp_path):
    with pytest.raises(ValueError, match="0 pictures"):
        familiarity.photographs([tmp_path])
    for name in ("a.png", "b.jpg"):
        Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    files = familiarity.photographs([tmp_path])
    assert [file.name for file in files] == ["a.png", "b.jpg"]
    one, two = (list(familiarity._windows(files[0])) for _ in range(2))
    assert len(one) == familiarity.CROPS and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_place_that_holds_no_pictures_by_mistake_is_named(tmp_path):
    """A misspelt folder beside a right one was passed over, and half of the photographs were measured."""
    for name in ("a.png", "b.png", "c.tif"):
        Image.new("RGB", (40, 40)).save(tmp_path / name)
    for wrong in ("photso", "c.tif"):
        for photographs in (familiarity.photographs, motions.photographs):
            with pytest.raises(ValueError, match=f"{wrong} is no folder and no picture"):
                photographs([tmp_path, tmp_path / wrong])
    (tmp_path / "d.jpg").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    with pytest.raises(ValueError, match="d.jpg: broken picture"):
        list(familiarity._windows(tmp_path / "d.jpg"))
    deep = np.full((40, 40), 257 * 100, np.uint16)
    Image.fromarray(deep).save(tmp_path / "e.png")  # it was cut off to white
    assert abs(float(next(familiarity._windows(tmp_path / "e.png")).mean()) - 100 / 255) < 1e-3


def test_keeping_changes_one_line_of_the_index(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "FireEditPipeline", "steps": 20}))
    familiarity.keep(tmp_path, 0.00921)
    assert json.loads((tmp_path / "model_index.json").read_text()) == {
        "_class_name": "FireEditPipeline", "steps": 20, "reconstruction_limit": 0.0092,
    }  # fmt: skip


def test_an_index_that_could_not_be_written_is_the_old_one(tmp_path, monkeypatch):
    """It was written in place: a full disk left a bundle without an index."""
    index = tmp_path / "model_index.json"
    index.write_text('{"steps": 20}')
    monkeypatch.setattr(Path, "write_text", lambda path, text, **_: path.write_bytes(text.encode()[:5]) and fail())

    def fail():
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        familiarity.keep(tmp_path, 0.01)
    assert index.read_bytes() == b'{"steps": 20}' and [file.name for file in tmp_path.iterdir()] == ["model_index.json"]


def test_the_limit_is_measured_on_what_it_was_not_chosen_on(tmp_path, monkeypatch):
    errors = iter([0.001, 0.9, 0.002, 0.8, 0.5, 0.1, 0.6, 0.2])  # of four scenes, then of four photographs
    monkeypatch.setattr(familiarity, "error_of", lambda pipe, picture: next(errors))
    monkeypatch.setattr(familiarity, "_windows", lambda file: [None])
    monkeypatch.setattr(familiarity, "to_tensor", lambda pictures: None)
    scenes = SimpleNamespace(draw=lambda world: [(None, SimpleNamespace(source=None))] * 4)
    found = familiarity.study(None, scenes, [tmp_path] * 4)
    assert 0.002 < found.limit < 0.5 and found.scenes.tolist() == pytest.approx([0.9, 0.8]) and found.count == 4
    assert found.photos.tolist() == pytest.approx([0.1, 0.2])
