# SPDX-License-Identifier: GPL-3.0-or-later
"""Confinement without a model: what a prediction becomes, which step is which, masks on cells, and the region of a change."""

from __future__ import annotations

import pytest
import torch

from fireedit_core.diffusion.compositing import mask_on_latents
from fireedit_core.diffusion.confinement import (
    Confinement,
    look_step,
    mask_to_cells,
    otsu,
    region_of_change,
    relevance,
    step_of,
)
from fireedit_core.diffusion.pipeline import pictures_to_tensor

MASK = torch.tensor([[[0.0, 0.5, 1.0]]])  # one row of three cells: outside, edge, inside


def latents(value: float, frames: bool = False) -> torch.Tensor:
    return torch.full((1, 2, 1, 1, 3) if frames else (1, 2, 1, 3), value)


def test_outside_is_the_source_inside_the_prediction():
    held = Confinement(latents(0.1), MASK, steps=4, late_edges=0.0).confine(latents(0.7), 0)
    assert held[0, 0, 0].tolist() == pytest.approx([0.1, 0.4, 0.7])
    # to the bit, where floats do not add up to it
    source, x0 = torch.randn(1, 2, 1, 3) * 1e3, torch.randn(1, 2, 1, 3) * 1e-3
    held = Confinement(source, MASK, 4, late_edges=0.0).confine(x0, 0)
    assert torch.equal(held[..., 0], source[..., 0]) and torch.equal(held[..., 2], x0[..., 2])
    assert Confinement(latents(0.1, True), MASK, 4, late_edges=0.0).confine(latents(0.7, True), 0)[0, 0, 0, 0, 1] == pytest.approx(0.4)


def test_nothing_to_hold_is_the_very_tensor():
    x0 = latents(0.7)
    assert Confinement(latents(0), torch.ones(1, 1, 3), 4).confine(x0, 0) is x0
    assert Confinement(latents(0), MASK, 4, strength=0.0).confine(x0, 0) is x0
    assert Confinement(latents(0), MASK, 4).confine(x0, 0, active=False) is x0


def test_strength_is_the_share_that_is_pulled():
    held = Confinement(latents(0.0), MASK, 4, strength=0.25, late_edges=0.0).confine(latents(1.0), 0)
    assert held[0, 0, 0].tolist() == pytest.approx([0.75, 0.875, 1.0])


@pytest.mark.parametrize("edges, first", [(0.0, 0), (0.5, 2), (1.0, 4)])
def test_an_edge_of_a_half_joins_after_half_of_late_edges(edges, first):
    confinement = Confinement(latents(0.0), MASK, 8, late_edges=edges)
    values = [float(confinement.confine(latents(1.0), step)[0, 0, 0, 1]) for step in range(8)]
    assert values == [0.0] * first + [0.5] * (8 - first)


def test_steps_of_any_sampler():
    sigmas = [8.0, 4.0, 2.0, 1.0, 0.0]
    assert [step_of(s, sigmas) for s in (8.0, 4.0, 2.0, 1.0)] == [0, 1, 2, 3]
    assert [step_of(s, sigmas) for s in (9.0, 5.6, 3.9999, 4.0003, 0.2, 0.001)] == [0, 0, 1, 1, 3, 3]
    assert step_of(5.0, [8.0, 0.0]) == 0 and step_of(5.0, [8.0]) == 0
    assert [look_step(n) for n in (1, 2, 3, 4, 5, 8, 10, 20, 50)] == [0, 0, 1, 1, 1, 2, 2, 4, 10]


def test_masks_go_to_cells_by_their_most():
    mask = torch.zeros(1, 17, 24)
    mask[0, 0, 3] = 0.3
    mask[0, 12, 20] = 1.0
    mask[0, 8, 8] = 1e-4  # a soft mask is nowhere quite black
    cells = mask_to_cells(mask, 8, (2, 3))
    assert cells[0].tolist() == [[pytest.approx(0.3), 0, 0], [0, 0, 1]]
    # what is left over is cut off on both sides, as of the picture: here the first row of three
    wide = torch.zeros(1, 19, 24)
    wide[0, 0] = 1
    assert mask_to_cells(wide, 8, (2, 3)).sum() == 0
    wide[0, 1] = 1
    assert mask_to_cells(wide, 8, (2, 3))[0].tolist() == [[1, 1, 1], [0, 0, 0]]
    with pytest.raises(ValueError, match="height 17 and width 24, but .* 4 x 3 cells of 8 px, a picture of height 32 and width 24"):
        mask_to_cells(mask, 8, (4, 3))


def changed(boxes: list[tuple[int, int, int, int]], noise: float = 0.05) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(len(boxes), 4, 24, 32, generator=generator)
    x0 = source + noise * torch.randn(source.shape, generator=generator)
    for row, (top, left, bottom, right) in enumerate(boxes):
        x0[row, :, top:bottom, left:right] += 1.5
    return x0, source


def test_the_region_of_change():
    boxes = [(2, 3, 8, 9), (12, 20, 20, 30)]
    x0, source = changed(boxes)
    assert relevance(x0, source).shape == (2, 24, 32)
    mask, found = region_of_change(x0, source)
    assert found == [True, True]
    for row, (top, left, bottom, right) in enumerate(boxes):
        assert mask[row, top:bottom, left:right].min() == 1
        far = mask[row].clone()
        far[max(top - 3, 0) : bottom + 3, max(left - 3, 0) : right + 3] = 0
        assert far.sum() == 0 and set(mask[row].unique().tolist()) == {0.0, 0.5, 1.0}


NOTHING, WHOLE, NEARLY_WHOLE, SOME = (0, 0, 0, 0), (0, 0, 24, 32), (0, 0, 24, 28), (2, 3, 8, 9)


@pytest.mark.parametrize("box, noise", [(NOTHING, 0.05), (NOTHING, 0.0), (WHOLE, 0.05), (NEARLY_WHOLE, 0.05), (SOME, 1.2)])
def test_no_region_to_see_leaves_the_picture_free(box, noise):
    mask, found = region_of_change(*changed([box], noise))
    assert found == [False] and mask.min() == 1


@pytest.mark.parametrize("inside, sees", [(1.3, False), (2.4, False), (2.7, True)])
def test_a_region_must_change_clearly_more_than_the_rest(inside, sees):
    """Two halves, each even: without a bound on the contrast every such picture would have a region."""
    source = torch.zeros(1, 4, 24, 32)
    x0 = torch.ones_like(source)
    x0[..., :12] = inside
    assert region_of_change(x0, source)[1] == [sees]


def test_a_prediction_that_is_no_number_has_no_region():
    x0, source = changed([(2, 3, 8, 9)])
    mask, found = region_of_change(x0 * float("nan"), source)
    assert found == [False] and mask.min() == 1


def test_the_automatic_mask_is_locked_once():
    x0, source = changed([(2, 3, 8, 9)])
    other, _ = changed([(12, 20, 20, 30)])
    run = Confinement(source, None, 10)
    assert run.confine(x0, 0) is x0 and run.confine(other, 1) is other and run.mask is None and not run.outside(x0).any()
    held = run.confine(x0, 2)
    assert torch.equal(held[..., 20, 25], source[..., 20, 25]) and torch.equal(held[..., 4, 5], x0[..., 4, 5])
    locked = run.mask.clone()
    run.confine(other, 3)
    assert torch.equal(run.mask, locked) and torch.equal(run.outside(x0), (locked == 0)[:, None])


def test_otsu_parts_two_heaps():
    values = torch.cat([torch.linspace(0, 1, 90), torch.linspace(8, 9, 10)])
    assert 1 <= otsu(values) <= 8 and otsu(torch.ones(4)) == 1.0


@torch.no_grad()
def test_the_pipeline_is_confined(tiny_pipe, picture):
    """To the bit the plain pipeline with a full mask; outside of a mask the source, from the last step on; inside an edit of its own."""
    source = pictures_to_tensor(picture(64, 64))
    conditions = tiny_pipe.editor.condition(tiny_pipe.editor.tokenize(source, tiny_pipe.editor.detect(source)), ["make it red"])
    latent, noise = tiny_pipe.encode_source(source), torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    scale = tiny_pipe.vae.config.scaling_factor
    clean = latent if tiny_pipe.config.source_latent_scaled else latent * scale

    def run(mask):
        held = None if mask is None else Confinement(clean, mask, 4)
        where = mask_on_latents(conditions.mask)
        return scale * tiny_pipe.denoise(conditions, where, latent, 4, 3.0, 1.25, latents=noise, confinement=held)

    plain, mask = run(None), torch.zeros(1, 8, 8)
    mask[:, 2:5, 3:7] = 1
    assert torch.equal(run(torch.ones(1, 8, 8)), plain)
    confined, free = run(mask), mask[:, None].bool().expand_as(plain)
    assert (confined - clean)[~free].abs().max() < 1e-4 < 1e-2 < (plain - clean)[~free].abs().max()
    assert (confined - clean)[free].abs().mean() > 1e-2 and not torch.equal(confined[free], plain[free])


@torch.no_grad()
def test_a_pipeline_that_predicts_noise_refuses(tiny_pipe, picture, monkeypatch):
    source = pictures_to_tensor(picture(64, 64))
    conditions = tiny_pipe.editor.condition(tiny_pipe.editor.tokenize(source, tiny_pipe.editor.detect(source)), ["make it red"])
    scheduler = type(tiny_pipe.scheduler).from_config(tiny_pipe.scheduler.config, prediction_type="epsilon")
    monkeypatch.setattr(tiny_pipe, "scheduler", scheduler)
    latent = tiny_pipe.encode_source(source)
    with pytest.raises(ValueError, match="predicts 'epsilon'; a confinement needs .* FireEdit Confine takes any"):
        tiny_pipe.denoise(
            conditions, mask_on_latents(conditions.mask), latent, 2, 1.0, 1.0, confinement=Confinement(latent, torch.ones(1, 8, 8), 2)
        )
