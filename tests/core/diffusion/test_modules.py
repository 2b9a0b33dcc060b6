# SPDX-License-Identifier: GPL-3.0-or-later
"""TATI, visual attention, guidance, compositing and the identity start, on small networks."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel

from fireedit_core.diffusion.compositing import WorkingSize, composite, edit_mask
from fireedit_core.diffusion.guidance import combine, dual_guidance, needed_branches
from fireedit_core.diffusion.initialisation import identity_init_
from fireedit_core.diffusion.tati import TATI
from fireedit_core.diffusion.visual_attention import VisualCrossAttention, attach_visual_attention


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8, in_channels=8, out_channels=4, block_out_channels=(96, 96), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32, attention_head_dim=4,
    ).eval()  # fmt: skip


def test_identity_start_returns_the_source(unet):
    identity_init_(unet)
    source, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        out = unet(torch.cat([noise, source], 1), torch.tensor([10, 990]), torch.randn(2, 77, 32)).sample
    assert (out - source).square().mean() / source.square().mean() < 0.02


def test_visual_attention_adds_nothing_for_zero_tokens_and_something_else_for_others(unet):
    visual = VisualCrossAttention.for_unet(unet, 32)
    for layer in visual.attentions:
        torch.nn.init.normal_(layer.to_out.weight, std=0.1)
    inputs = (torch.randn(1, 8, 8, 8), torch.tensor([500]), torch.randn(1, 77, 32))
    attach_visual_attention(unet, visual)
    call = lambda kv: unet(*inputs, cross_attention_kwargs={"visual_kv": kv}).sample  # noqa: E731
    with torch.no_grad():
        plain = call(None)
        assert torch.equal(plain, call(visual.keys_values(torch.zeros(1, 16, 32))))
        assert not torch.allclose(plain, call(visual.keys_values(torch.randn(1, 16, 32))))


def test_tati_follows_time_and_leaves_null_rows_alone():
    torch.manual_seed(0)
    tati = TATI(32, num_heads=4, time_channels=32)
    e = torch.randn(1, 77, 32).expand(3, -1, -1)
    with torch.no_grad():
        out = tati.inject(e, torch.tensor([10.0, 10.0, 900.0]), torch.tensor([1.0, 0.0, 1.0]))
        again = tati(e, torch.tensor([10.0, 10.0, 900.0]))
    assert torch.equal(out[1], e[1])
    assert torch.allclose(out[0], again[1], atol=1e-5) and not torch.allclose(out[0], out[2], atol=1e-3)
    assert tati.inject(e, torch.tensor([10.0]), torch.ones(3), strength=0) is e


@pytest.mark.parametrize("scales", [(1.0, 1.0), (2.0, 1.0), (7.5, 1.5), (0.0, 1.0), (2.0, 2.0)])
def test_guidance_skips_only_what_the_formula_does_not_read(scales):
    values = {name: torch.randn(2, 4) for name in ("positive", "image_only", "negative")}
    needed = needed_branches(*scales)
    expected = dual_guidance(values["positive"], values["image_only"], values["negative"], *scales)
    assert torch.allclose(combine({n: values[n] for n in needed}, *scales), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(128, 128), (130, 97), (1, 1), (2000, 1500)])
def test_size_comes_back_and_outside_is_the_source(size):
    plan = WorkingSize.plan(size, 128)
    source = torch.rand(1, 3, *size)
    small = plan.shrink(source)
    assert small.shape[-2] % 8 == 0 and small.shape[-1] % 8 == 0
    soft = torch.zeros(1, *size)
    soft[:, : size[0] // 3 + 1, : size[1] // 3 + 1] = 1
    mask = edit_mask(soft)
    edited = plan.restore(1 - small, source, mask)
    assert edited.shape == source.shape
    kept = composite(source, edited, mask)
    outside = (mask == 0)[:, None].expand_as(source)
    assert torch.equal(kept[outside], source[outside])
