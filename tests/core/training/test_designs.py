# SPDX-License-Identifier: GPL-3.0-or-later
"""Designs side by side, at the smallest scale: what differs between them does, and what was measured is not measured again."""

from __future__ import annotations

import dataclasses

import pytest
import torch

pytest.importorskip("tensorboard")
from fireedit_core.checkpoints.bundle import load_components
from fireedit_core.data import WORLD
from fireedit_core.diffusion.rows import power_between_rows
from fireedit_core.training import designs
from fireedit_core.training.controls import ConstantTokens, RowsApart, with_power_between
from fireedit_core.training.designs import DESIGNS, V2, Comparison, components_of, page, run
from fireedit_core.training.endless import read_records

from .small import SIZES, write_small_bundle


@pytest.fixture(scope="module")
def start(repo, tmp_path_factory):
    return write_small_bundle(repo, tmp_path_factory.mktemp("start"), looks=0)


@pytest.mark.slow
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


def test_rows_are_given_a_share_of_the_power():
    """Each picture's own, whatever it was; the mean row, all that a flat softmax reads, stays, and the rows keep their directions."""
    rows = torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.001, 1.0, 30.0]).view(3, 1, 1)
    rows = rows + torch.randn(3, 1, 16, generator=torch.Generator().manual_seed(1))
    for share in (0.0, 0.3, 0.9):
        found = with_power_between(rows, share)
        for i in range(3):
            assert power_between_rows(found[i : i + 1]) == pytest.approx(share, abs=1e-4)
        assert torch.allclose(found.mean(1), rows.mean(1), atol=2e-3)
    own = [(x - x.mean(1, keepdim=True)).flatten(1) for x in (rows, found)]
    assert torch.cosine_similarity(*own).min() > 0.999
    assert with_power_between(rows.bfloat16(), 0.3).dtype == torch.bfloat16
    one = torch.ones(2, 5, 4, requires_grad=True)
    spread = with_power_between(one, 0.3)
    assert torch.equal(spread, one)
    spread.sum().backward()
    assert one.grad.isfinite().all()


@pytest.mark.slow
@torch.no_grad()
def test_a_q_former_with_rows_apart(start):
    """The start's own, with the share that is set between the rows of every picture and the same mean row."""
    made = {name: components_of(design, 0, start, SIZES)["qformer"] for name, design in ((d.name, d) for d in DESIGNS)}
    states = torch.randn(2, 4, SIZES.hidden_size)
    plain, apart = made["v2"](states), made["v2, rows of e apart"](states)
    assert [power_between_rows(x[None]) for x in apart] == pytest.approx([RowsApart.SHARE] * 2, abs=1e-4)
    assert torch.allclose(apart.mean(1), plain.mean(1), atol=1e-5) and abs(power_between_rows(plain) - RowsApart.SHARE) > 0.01


@pytest.mark.slow
def test_a_comparison_goes_on_where_it_stopped(start, tmp_path, monkeypatch):
    shared = Comparison(tmp_path, start, looks=16, batch=4, pairs=8, scenes=4, head_steps=2, world=WORLD, sizes=SIZES)
    assert shared.steps == 2
    measured = [run(design, 0, shared) for design in (DESIGNS[0], V2)]
    assert {row["design"] for row in measured} == {"v1's design", "v2"} and all(row["validation"]["score"] > 0 for row in measured)
    assert "v of another scene" in measured[1]["costs"] and measured[0]["validation"]["inside"] != measured[1]["validation"]["inside"]
    monkeypatch.setattr(designs, "components_of", lambda *_: pytest.fail("measured already"))
    assert run(V2, 0, shared)["time"] == measured[1]["time"]
    elsewhere = dataclasses.replace(shared, results=tmp_path / "docs" / "designs.jsonl")
    assert shared.records == tmp_path / "results.jsonl" and elsewhere.records == tmp_path / "docs" / "designs.jsonl"
    text = page(read_records(shared.records), "a command")
    assert " - |" not in text and " - |" in page([{**measured[1], "costs": {}}], "a command")
    assert "## 16 looks" in text and f"| v2 | {measured[1]['validation']['score']:.4f} |" in text
