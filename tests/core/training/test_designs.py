# SPDX-License-Identifier: GPL-3.0-or-later
"""Designs side by side, at the smallest scale: what differs between them does, and what was measured is not measured again."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("tensorboard")
from fireedit_core.checkpoints.bundle import load_components
from fireedit_core.data import WORLD
from fireedit_core.training import designs
from fireedit_core.training.controls import ConstantTokens
from fireedit_core.training.designs import DESIGNS, V2, Comparison, components_of, page, run
from fireedit_core.training.endless import read_records

from .small import SIZES, write_small_bundle


@pytest.fixture(scope="module")
def start(repo, tmp_path_factory):
    return write_small_bundle(repo, tmp_path_factory.mktemp("start"), looks=0)


def test_each_design_is_what_its_name_says(start):
    made = {design.name: components_of(design, 0, start, SIZES) for design in DESIGNS}
    first, second = made["v1's design"], made["v2"]
    assert not first["tati"].config.own_rows and second["tati"].config.own_rows
    assert first["hvca"].queries.std() < 0.2 < 0.9 < second["hvca"].queries.std()
    assert not first["hvca"].config.centred and second["hvca"].config.centred
    assert first["visual_attention"].config.condition_size is None
    assert second["visual_attention"].config.condition_size == SIZES.context_size
    assert made["v2, HVCA with finer levels"]["hvca"].config.dino_levels == (1, 2, 3)
    context, tati = torch.randn(1, 77, SIZES.context_size), made["v2, TATI told 500 always (control)"]["tati"].eval()
    assert torch.equal(tati(context, torch.tensor([900])), tati(context, torch.tensor([10])))
    assert isinstance(made["v2, constant tokens for HVCA's (control)"]["hvca"], ConstantTokens)
    # the same start for all: what is not fresh, and the text-dropped condition
    old = load_components(start)
    for name in ("unet", "qformer", "language_model"):
        for design, parts in made.items():
            wanted = old[name].state_dict()
            assert all(torch.equal(x, wanted[k]) for k, x in parts[name].state_dict().items()), (design, name)
    assert all(torch.equal(parts["tati"].null_embedding, old["tati"].null_embedding) for parts in made.values())


@pytest.mark.slow
def test_a_comparison_goes_on_where_it_stopped(start, tmp_path, monkeypatch):
    shared = Comparison(tmp_path, start, looks=16, batch=4, pairs=8, scenes=4, head_steps=2, world=WORLD, sizes=SIZES)
    assert shared.steps == 2
    measured = [run(design, 0, shared) for design in (DESIGNS[0], V2)]
    assert {row["design"] for row in measured} == {"v1's design", "v2"} and all(row["validation"]["score"] > 0 for row in measured)
    assert "v of another scene" in measured[1]["costs"] and measured[0]["validation"]["inside"] != measured[1]["validation"]["inside"]
    monkeypatch.setattr(designs, "components_of", lambda *_: pytest.fail("measured already"))
    assert run(V2, 0, shared)["time"] == measured[1]["time"]
    text = page(read_records(tmp_path / "results.jsonl"), "a command")
    assert "## 16 looks" in text and f"| v2 | {measured[1]['validation']['score']:.4f} |" in text
