# SPDX-License-Identifier: GPL-3.0-or-later
"""The study of TATI on the bundled weights: what is told to TATI, and what is written."""

from __future__ import annotations

import pytest
import torch

from fireedit_core.data import WORLD
from fireedit_core.evaluation import tati
from fireedit_core.evaluation.scenes import Scenes, load_pipeline


@pytest.fixture(scope="module")
def pipe():
    return load_pipeline("models/fireedit-tiny", "cpu")


def test_at_a_fixed_time_tati_forgets_the_true_one_and_only_there(pipe):
    e = torch.randn(2, 77, pipe.tati.config.hidden_size, generator=torch.Generator().manual_seed(0))
    noise, clean = torch.tensor([999, 999]), torch.tensor([0, 0])
    with torch.no_grad():
        before = pipe.tati(e, noise), pipe.tati(e, clean)
        with tati.fixed_time(pipe.tati, 0):
            assert torch.equal(pipe.tati(e, noise), before[1])
            assert torch.equal(pipe.tati.inject(e, noise, torch.ones(2)), before[1])
        assert torch.equal(pipe.tati(e, noise), before[0])
    assert not torch.allclose(*before, atol=1e-3)


def test_the_page_and_its_plots(pipe, tmp_path):
    text = tati.study(pipe, Scenes(count=2), None, tmp_path, steps=2, command="a command", world=WORLD)
    assert {p.name for p in tmp_path.iterdir()} == {"tati.md", "tati_condition.png", "tati_strength.png"}
    assert (tmp_path / "tati.md").read_text() == text and "`a command` on 2 held-out scenes at 2 steps" in text
    cells = {line.split("|")[1].strip(): line.split("|")[2:] for line in text.splitlines() if line.startswith("|")}
    # the same setting in two tables
    assert cells["0"] != cells["999"] and cells["TATI and HVCA"] == cells["1"] != cells["TATI alone"]
    assert {"HVCA alone", "neither", "500", "0.1 to 1"} <= set(cells)
