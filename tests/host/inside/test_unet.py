# SPDX-License-Identifier: GPL-3.0-or-later
"""A diffusers UNet as a host MODEL."""

from __future__ import annotations

import pytest
import torch
from diffusers import EulerDiscreteScheduler

from fireedit_core.checkpoints.bundle import BundleError
from tests.host.inside.pack import diffusers_unet, latents  # first: it makes the pack importable

from fireedit_pack.nodes.host import patching, unet  # isort: skip


UNETS = {
    "odd widths": {},
    "two layers": {"layers_per_block": 2},
    "sd15 shape": {
        "block_out_channels": (32, 64, 128, 128), "layers_per_block": 2,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    },
    "attention only below": {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")
    },
    "head width": {"block_out_channels": (64, 128), "attention_head_dim": (4, 8)},
    "linear projection": {"use_linear_projection": True},
    "two blocks": {"transformer_layers_per_block": 2},
}  # fmt: skip


@pytest.mark.parametrize("shape", UNETS)
def test_host_unet_computes_what_diffusers_computes(shape):
    source = diffusers_unet(**UNETS[shape])
    x, t, context = torch.randn(2, 8, 16, 16), torch.tensor([999.0, 250.0]), torch.randn(2, 77, 48)
    wanted = source(x, t, context).sample
    model = unet.build(source, EulerDiscreteScheduler(beta_schedule="scaled_linear"), latents(), False)
    got = model.model.diffusion_model(x, t, context=context)
    assert (got - wanted).abs().max() <= 1e-4


@pytest.mark.parametrize("shape", UNETS)
def test_places_of_all_layers_are_found(shape):
    from fireedit_core.diffusion.visual_attention import VisualCrossAttention

    source = diffusers_unet(**UNETS[shape])
    names = VisualCrossAttention.for_unet(source, 48).names
    model = unet.build(source, EulerDiscreteScheduler(beta_schedule="scaled_linear"), latents(), False)
    host = model.model.diffusion_model
    assert set(patching.host_places(names, list(host.num_res_blocks))) == set(patching._cross_attentions(host))


def test_prediction_types():
    kinds = {"epsilon": "EPS", "v_prediction": "V_PREDICTION", "sample": "X0"}
    for prediction, name in kinds.items():
        scheduler = EulerDiscreteScheduler(beta_schedule="scaled_linear", prediction_type=prediction)
        model = unet.build(diffusers_unet(), scheduler, latents(), False).model
        assert name in [c.__name__ for c in type(model.model_sampling).__mro__], prediction


@pytest.mark.parametrize("schedule", ("scaled_linear", "linear"))
def test_noise_schedule_is_the_schedulers(schedule):
    scheduler = EulerDiscreteScheduler(beta_start=0.001, beta_end=0.013, beta_schedule=schedule)
    model = unet.build(diffusers_unet(), scheduler, latents(), False).model
    wanted = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod) ** 0.5
    assert torch.allclose(model.model_sampling.sigmas, wanted, rtol=1e-4)


@pytest.mark.parametrize("assigns", (False, True))
@pytest.mark.parametrize("flag", ("fp32_unet", "fp16_unet", "bf16_unet", "fp8_e4m3fn_unet", "fp8_e5m2_unet"))
def test_weights_have_the_type_that_the_host_asks_for(monkeypatch, flag, assigns):
    """Whatever they are on disk, and whether the host's layers copy a state dict or, as with dynamic VRAM, take its tensors."""
    import comfy.cli_args
    import comfy.model_base

    if assigns:
        take = lambda self, weights, *_, **__: self.diffusion_model.load_state_dict(weights, assign=True)  # noqa: E731
        monkeypatch.setattr(comfy.model_base.BaseModel, "load_model_weights", take)
    monkeypatch.setattr(comfy.cli_args.args, flag, True)
    wanted = unet.weight_dtype()
    scheduler = EulerDiscreteScheduler(beta_schedule="scaled_linear")
    model = unet.build(diffusers_unet().half(), scheduler, latents(), False).model
    assert {x.dtype for x in model.diffusion_model.parameters()} == {wanted} == {model.get_dtype()}
    x, context = torch.randn(1, 8, 16, 16), torch.randn(1, 77, 48)
    dtype = model.manual_cast_dtype or wanted
    out = model.diffusion_model(x.to(dtype), torch.tensor([250.0]), context=context.to(dtype))
    assert out.isfinite().all()


def test_a_type_that_cannot_hold_weights_is_refused(monkeypatch):
    import comfy.cli_args

    monkeypatch.setattr(comfy.cli_args.args, "fp8_e8m0fnu_unet", True)
    with pytest.raises(BundleError, match="--fp8_e8m0fnu-unet.*Start it without"):
        unet.weight_dtype()


def test_unsupported_unets_are_refused():
    scheduler = EulerDiscreteScheduler(beta_schedule="scaled_linear")
    for changes in ({"norm_num_groups": 16}, {"attention_head_dim": (4, 4, 8), **_three()}, {"act_fn": "gelu"}):
        with pytest.raises(BundleError, match="its UNet"):
            unet.build(diffusers_unet(**changes), scheduler, latents(), False)
    with pytest.raises(BundleError, match="beta_schedule"):
        unet.build(diffusers_unet(), EulerDiscreteScheduler(beta_schedule="squaredcos_cap_v2"), latents(), False)


def _three():
    return {
        "block_out_channels": (32, 64, 64), "down_block_types": ("CrossAttnDownBlock2D",) * 3,
        "up_block_types": ("CrossAttnUpBlock2D",) * 3,
    }  # fmt: skip


def test_source_latent_scale():
    made = latents()
    made.scale_factor = 0.5
    scheduler = EulerDiscreteScheduler(beta_schedule="scaled_linear")
    for scaled, factor in ((True, 0.5), (False, 1.0)):
        model = unet.build(diffusers_unet(), scheduler, made, scaled).model
        assert torch.equal(model.process_ip2p_image_in(torch.ones(1, 4, 2, 2)), torch.full((1, 4, 2, 2), factor))
