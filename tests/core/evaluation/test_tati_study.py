# SPDX-License-Identifier: GPL-3.0-or-later
"""The study of TATI on the bundled weights: what is told to TATI, and what is written."""

from __future__ import annotations

import pytest
import torch

from fireedit_core.data import WORLD
from fireedit_core.evaluation import tati
from fireedit_core.evaluation.scenes import Scenes, load_pipeline

pytestmark = pytest.mark.slow


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


def test_the_released_weights_are_measured_as_the_audit_did(pipe):
    """fireedit-tiny 0.2: TATI's rows are one, and so are HVCA's."""
    from fireedit_core.evaluation.scenes import power_of

    power = power_of(pipe, Scenes(count=8), WORLD)
    assert power.keys() == {"e", "tati", "hvca"} and all(0 < value < 1 for value in power.values())


def test_the_page_and_its_plots(pipe, tmp_path):
    text = tati.study(pipe, Scenes(count=2), None, tmp_path, steps=2, command="a command", world=WORLD)
    assert {p.name for p in tmp_path.iterdir()} == {"tati.md", "tati_condition.png", "tati_strength.png"}
    assert (tmp_path / "tati.md").read_text() == text and "`a command` on 2 held-out scenes at 2 steps" in text
    cells = {line.split("|")[1].strip(): line.split("|")[2:] for line in text.splitlines() if line.startswith("|")}
    # the same setting in two tables
    assert cells["0"] != cells["999"] and cells["TATI and HVCA"] == cells["1"] != cells["TATI alone"]
    assert {"HVCA alone", "neither", "500", "0.1 to 1"} <= set(cells)


def test_oracles_and_controls_of_the_bundled_weights(pipe, tmp_path):
    """What optimising finds is better than what is there, on noises that it did not see; what is swapped is worse."""
    from fireedit_core.evaluation import oracle

    # two of the five timesteps and few scenes: each step of an oracle goes through the UNet and back
    found = oracle.study("models/fireedit-tiny", count=4, steps=4, world=WORLD, folder=tmp_path, timesteps=(999, 250))
    plain = found["modules"]["as it is"]["inside"]
    for name in ("best e_t, one for all t", "best e_t, one for each t"):
        assert all(found["oracles"][name][t] < plain[t] for t in plain), name
    assert all(found["modules"]["e of another scene"]["inside"][t] > 1.2 * plain[t] for t in plain)
    text = oracle.report(found, "a command")
    assert "Written by `a command` on 4 validation scenes" in text
    assert "| TATI told 500 |" in text and "Share of power between rows: e 0." in text


def test_maps_of_attention_are_shares(pipe):
    from fireedit_core.evaluation import attention
    from fireedit_core.evaluation.scenes import to_tensor

    scenes = Scenes(count=2)
    samples = [s for _, s in scenes.draw(WORLD)]
    maps = attention.token_maps(pipe, to_tensor([s.source for s in samples]), [s.instruction for s in samples])
    assert maps.shape == (2, 16, 16, 16) and maps.min() >= 0
    assert torch.allclose(maps.flatten(2).sum(-1), torch.ones(2, 16), atol=1e-4)
    # what the unit really computes is what is shown: its output is the weighted values
    picture = attention.picture(pipe, scenes, WORLD)
    assert picture.size[1] == 2 * (attention.LINE + 2 * (attention.CELL + attention.GAP))
