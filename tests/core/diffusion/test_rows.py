# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the rows of what a resampler gives differ: the measure, and that fresh modules of every size pass it."""

import math

import pytest
import torch

from fireedit_core.checkpoints.sd15 import Sd15Config
from fireedit_core.diffusion.hvca import HVCA
from fireedit_core.diffusion.rows import FLOORS, collapsed, power_between_pictures, power_between_rows, tati_change
from fireedit_core.diffusion.tati import TATI
from fireedit_core.training.tiny import TinyConfig, tiny_components


def test_power_by_hand():
    mean, apart = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 1.0])
    assert power_between_rows(torch.stack([mean + apart, mean - apart])[None]) == pytest.approx(1 / 5)
    assert power_between_rows(mean.expand(3, 7, 2)) == 0
    # each picture has a mean row of its own: two pictures of equal rows have nothing between rows
    assert power_between_rows(torch.stack([mean.expand(4, 2), apart.expand(4, 2)])) == pytest.approx(0, abs=1e-6)
    assert power_between_rows(torch.randn(2, 500, 8, generator=torch.Generator().manual_seed(0))) > 0.99
    assert math.isnan(power_between_rows(torch.zeros(1, 3, 2)))


def test_power_between_pictures_by_hand():
    constant = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1)
    assert power_between_pictures(constant) == pytest.approx(0, abs=1e-6) and power_between_rows(constant) > 0.5
    mean, apart = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 1.0])
    assert power_between_pictures(torch.stack([(mean + apart)[None], (mean - apart)[None]])) == pytest.approx(1 / 5)


@torch.no_grad()
def test_centred_queries_look_at_different_places():
    """A vector that is added to all queries decides where all of them look; centred, it decides nothing."""
    memory = torch.randn(2, 40, 96, generator=torch.Generator().manual_seed(1))
    spread = {}
    for centred in (False, True):
        torch.manual_seed(0)
        hvca = HVCA(96, num_heads=4, centred=centred)
        hvca.queries.add_(8 * torch.randn(1, 1, 96, generator=torch.Generator().manual_seed(2)))
        hvca.visual_memory = lambda features: features
        for unit in hvca.units:  # nothing but the visual attention
            unit.text_attention.to_out[0].weight.zero_()
            unit.text_attention.to_out[0].bias.zero_()
            unit.visual_attention.to_q.weight.mul_(4)
        maps = hvca.attention(torch.zeros(2, 77, 96), memory)
        spread[centred] = power_between_rows(maps)
    assert spread[True] > 3 * spread[False], spread


def test_what_is_below_its_floor_is_named():
    assert collapsed({"tati": 0.0004, "hvca": 0.002}) == [
        "tati has 0.0004 of its power between rows, the floor is 0.05", "hvca has 0.0020 of its power between rows, the floor is 0.2",
    ]  # fmt: skip
    assert collapsed({"tati": 0.05, "hvca": 0.2, "e": 0.0}) == []
    # what was not measured, or is not a number, does not pass
    assert len(collapsed({"hvca": math.nan})) == 2


def embedding(width: int) -> torch.Tensor:
    """Rows of e as a trained Q-Former gives them: normed, and with a tenth of their power between them."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(2, 1, width, generator=generator) + 0.33 * torch.randn(2, 77, width, generator=generator)
    return torch.nn.functional.layer_norm(rows, (width,))


def fresh(size: str) -> tuple[TATI, HVCA]:
    if size == "tiny":
        parts = tiny_components(("remove",), TinyConfig())
        return parts["tati"], parts["hvca"]
    torch.manual_seed(0)
    config = Sd15Config()
    return TATI(**config.settings("tati")), HVCA(**config.settings("hvca"))


@torch.no_grad()
@pytest.mark.parametrize("size", ["tiny", "sd15"])
def test_fresh_modules_have_rows_that_differ(size):
    tati, hvca = fresh(size)
    width = tati.config.hidden_size
    e = embedding(width)
    power = {
        "tati": power_between_rows(tati_change(tati, e, torch.tensor([999, 100]))),
        "hvca": power_between_rows(hvca(e, torch.randn(2, 40, width, generator=torch.Generator().manual_seed(1)))),
    }
    assert not collapsed(power) and power["tati"] > 2 * FLOORS["tati"] and power["hvca"] > 1.5 * FLOORS["hvca"], power


@torch.no_grad()
def test_small_queries_drown():
    """Why the queries start at a deviation of 1: with ELLA's they are one row from the first step on."""
    torch.manual_seed(0)
    e = embedding(192)
    memory = torch.randn(2, 40, 192, generator=torch.Generator().manual_seed(1))
    power = lambda std: power_between_rows(HVCA(192, num_heads=4, query_std=std)(e, memory))  # noqa: E731
    assert power(192**-0.5) < 0.1 < 0.5 < power(1.0)


@torch.no_grad()
def test_tati_change_is_what_the_unet_gets_beside_e():
    e, t = torch.randn(2, 7, 16), torch.tensor([3, 900])
    for residual in (True, False):
        tati = TATI(16, num_queries=7, num_heads=2, time_channels=8, residual=residual)
        assert torch.equal(tati_change(tati, e, t), tati(e, t) - e if residual else tati(e, t))
