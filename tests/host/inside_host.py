# SPDX-License-Identifier: GPL-3.0-or-later
"""The host-side mechanism against the host's own modules, on its CPU. Run by test_inside.py."""

from __future__ import annotations

import copy
import importlib.util
import logging
import os
import sys
from pathlib import Path

import pytest
import torch

REPO = Path(__file__).resolve().parents[2]
sys.path.append(os.environ["FIREEDIT_HOST"])  # at the end: it has folders named like ours

import comfy.cli_args  # noqa: E402

comfy.cli_args.args.cpu = True

import comfy.sample  # noqa: E402
import comfy.samplers  # noqa: E402
import folder_paths  # noqa: E402
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel  # noqa: E402

from fireedit_core.checkpoints.bundle import BundleError  # noqa: E402
from tests.host.small import CONFIG, INSTRUCTION, picture, shared_bundle  # noqa: E402


def _import_pack():
    spec = importlib.util.spec_from_file_location(
        "fireedit_pack", REPO / "__init__.py", submodule_search_locations=[str(REPO)]
    )
    pack = importlib.util.module_from_spec(spec)
    sys.modules["fireedit_pack"] = pack
    spec.loader.exec_module(pack)
    pack._load_core()
    return importlib.import_module("fireedit_pack.nodes")


nodes = _import_pack()
from fireedit_pack.nodes import conditioning  # noqa: E402
from fireedit_pack.nodes.host import bundles, guider, models, patching, unet  # noqa: E402
from fireedit_pack.nodes.pictures import to_core  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def inference():
    with torch.inference_mode():  # as the host runs nodes
        yield


@pytest.fixture(scope="module")
def loaded():
    return models.load(shared_bundle(), "small")


@pytest.fixture(scope="module")
def tokens(loaded):
    """Two pictures and their region tokens."""
    handle = loaded[0]
    images = torch.stack([torch.from_numpy(picture(seed=i)).float() / 255 for i in range(2)])
    regions = nodes.FireEditRegionDetect.execute(handle, images, 0.15, 0.6, 100)[0]
    return images, nodes.FireEditRegionTokenize.execute(handle, images, regions)[0]


@pytest.fixture(scope="module")
def conds(loaded, tokens):
    """positive, image_only, negative, latent for two pictures."""
    handle, _, vae = loaded
    images, region_tokens = tokens
    return nodes.FireEditVLMConditioning.execute(handle, region_tokens, images, vae, INSTRUCTION, 0)


def run(model, conds, text=2.0, image=1.5, steps=3, rows=None, seed=3):
    made = guider.make_guider(model, *conds.args[:3], text, image)
    latent = torch.zeros_like(conds.args[3]["samples"][:rows])
    return guider.sample(made, latent, seed, steps, "euler", "simple", 1.0)


def plain(conds):
    """The same conditionings as a stranger would make them: no payload."""
    stripped = []
    for cond in conds.args[:3]:
        options = {k: v for k, v in cond[0][1].items() if k not in ("model_conds", conditioning.WORKING_SIZE)}
        stripped.append([[cond[0][0], options]])
    return type("Plain", (), {"args": (*stripped, conds.args[3])})()


# --- the UNet


def diffusers_unet(**changes):
    torch.manual_seed(0)
    settings = {
        "in_channels": 8, "out_channels": 4, "block_out_channels": (64, 96), "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), "cross_attention_dim": 48, "attention_head_dim": 4,
        "sample_size": 16,
    }  # fmt: skip
    return UNet2DConditionModel(**(settings | changes)).eval()


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


def latents(channels=4):
    import comfy.latent_formats

    made = comfy.latent_formats.LatentFormat()
    made.latent_channels = channels
    return made


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


# --- the VAE


def test_vae_is_the_pipelines(loaded):
    from fireedit_core.diffusion.pipeline import decode_latents, encode_latents

    vae = loaded[2]
    image = torch.from_numpy(picture()).float()[None] / 255
    module = vae.first_stage_model.autoencoder
    latent = vae.encode(image)
    assert latent.shape == (1, CONFIG.latent_channels, 8, 8) and vae.latent_channels == CONFIG.latent_channels
    assert torch.allclose(latent, encode_latents(module, image.movedim(-1, 1)), atol=1e-5)
    assert torch.allclose(vae.decode(latent), decode_latents(module, latent).movedim(1, -1), atol=1e-5)
    assert vae.spacial_compression_encode() == vae.spacial_compression_decode() == 8
    assert loaded[1].model.latent_format is vae.latent_format


@pytest.mark.parametrize("kind", ("kl", "tiny"))
def test_other_autoencoders(kind):
    from diffusers import AutoencoderKL, AutoencoderTiny
    from fireedit_pack.nodes.host.vae import BundleVAE

    if kind == "kl":
        blocks = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
        module = AutoencoderKL(
            latent_channels=4, block_out_channels=(32,) * 4, down_block_types=blocks[0], up_block_types=blocks[1],
            scaling_factor=0.18215,
        )  # fmt: skip
    else:
        module = AutoencoderTiny(latent_channels=4, decoder_block_out_channels=(32,) * 4, encoder_block_out_channels=(32,) * 4)
    vae = BundleVAE(module.eval())
    latent = vae.encode(torch.rand(1, 64, 48, 3))
    assert latent.shape == (1, 4, 8, 6) and vae.decode(latent).shape == (1, 64, 48, 3)
    assert len(vae.latent_format.latent_rgb_factors) == 4


# --- the patches


def test_nothing_changes_without_payload(loaded, conds):
    handle, model, _ = loaded
    wanted = run(model, plain(conds))
    assert torch.equal(run(patching.apply(model, handle, 1, 1, 0, 1), plain(conds)), wanted)
    assert torch.equal(run(model, conds), wanted)  # a plain MODEL ignores the payload


def test_nothing_changes_with_strength_zero(loaded, conds):
    handle, model, _ = loaded
    assert torch.equal(run(patching.apply(model, handle, 0, 0, 0, 1), conds), run(model, plain(conds)))


def test_nothing_changes_outside_the_range(loaded, conds):
    handle, model, _ = loaded
    # 3 steps lie at 0, 1/3 and 2/3 of the schedule
    assert torch.equal(run(patching.apply(model, handle, 1, 1, 0.9, 1), conds), run(model, plain(conds)))
    part = run(patching.apply(model, handle, 1, 1, 0.5, 1), conds)
    whole = run(patching.apply(model, handle, 1, 1, 0, 1), conds)
    assert not torch.equal(part, whole) and not torch.equal(part, run(model, plain(conds)))
    assert torch.equal(run(patching.apply(model, handle, 1, 1, 0, 0.99), conds), whole)


def test_each_part_has_an_effect(loaded, conds):
    handle, model, _ = loaded
    results = [run(patching.apply(model, handle, a, b, 0, 1), conds) for a, b in ((0, 0), (1, 0), (0, 1), (1, 1), (2, 1))]
    for i, one in enumerate(results):
        for other in results[i + 1 :]:
            assert (one - other).abs().max() > 1e-3


def test_negative_conditioning_alone_is_untouched(loaded, conds):
    """v = 0 and gate 0: bit-equal to the plain host."""
    handle, model, _ = loaded
    only = type("Only", (), {"args": (conds.args[2], conds.args[2], conds.args[2], conds.args[3])})()
    bare = type("Only", (), {"args": (*(plain(conds).args[2],) * 3, conds.args[3])})()
    assert torch.equal(run(patching.apply(model, handle, 1, 1, 0, 1), only), run(model, bare))


def test_applying_again_replaces(loaded, conds):
    handle, model, _ = loaded
    once = patching.apply(model, handle, 0.5, 1.5, 0, 1)
    twice = patching.apply(patching.apply(model, handle, 1, 1, 0.2, 0.8), handle, 0.5, 1.5, 0, 1)
    assert torch.equal(run(once, conds), run(twice, conds))
    for name in ("attn2_patch", "attn2_output_patch"):
        assert len(twice.model_options["transformer_options"]["patches"][name]) == 1
    assert len(twice.wrappers[patching.WrappersMP.DIFFUSION_MODEL][patching.KEY]) == 1
    assert not model.model_options["transformer_options"].get("patches") and not model.additional_models
    off = patching.apply(twice, handle, 0, 0, 0, 1)
    assert torch.equal(run(off, conds), run(model, plain(conds)))


def test_clones_share_the_weights(loaded):
    handle, model, _ = loaded
    clone = patching.apply(model, handle, 1, 1, 0, 1).clone().clone()
    assert clone.additional_models[patching.KEY][0].model is handle.injection.model
    assert copy.deepcopy(handle) is handle
    first, again = (m.model_options["transformer_options"]["patches"]["attn2_output_patch"][0] for m in (clone, clone.clone()))
    assert first is again


def test_weights_are_loaded_with_the_unet(loaded, conds, monkeypatch):
    handle, model, _ = loaded
    seen = []
    original = comfy.sampler_helpers.comfy.model_management.load_models_gpu

    def watch(patchers, **options):
        seen.extend(p.model for p in patchers)
        return original(patchers, **options)

    monkeypatch.setattr(comfy.sampler_helpers.comfy.model_management, "load_models_gpu", watch)
    run(patching.apply(model, handle, 1, 1, 0, 1), conds, steps=1)
    assert any(m is handle.injection.model for m in seen)


def test_keys_are_projected_once_per_run(loaded, conds, monkeypatch):
    handle, model, _ = loaded
    calls = []
    original = type(handle.visual_attention).project

    def watch(self, visual):
        calls.append(visual.shape[0])
        return original(self, visual)

    monkeypatch.setattr(type(handle.visual_attention), "project", watch)
    patched = patching.apply(model, handle, 1, 1, 0, 1)
    run(patched, conds, steps=4)
    assert calls == [6]  # three branches of two pictures, once
    run(patched, conds, steps=4)
    assert calls == [6, 6]  # nothing is kept beyond the run


def test_conditionings_run_in_one_batch_and_alone(loaded, conds, monkeypatch):
    handle, model, _ = loaded
    patched = patching.apply(model, handle, 1, 1, 0, 1)
    together = run(patched, conds)
    monkeypatch.setattr(type(model.model), "memory_required", lambda self, *a, **k: 1e30)
    assert (run(patched, conds) - together).abs().max() <= 1e-4
    monkeypatch.undo()


def test_rows_of_a_batch_do_not_mix(loaded, conds):
    handle, model, vae = loaded
    patched = patching.apply(model, handle, 1, 1, 0, 1)
    together = run(patched, conds)
    first = []
    for cond in conds.args[:3]:
        options = dict(cond[0][1])
        options["model_conds"] = {k: type(v)(v.cond[:1]) for k, v in options["model_conds"].items()}
        if "concat_latent_image" in options:
            options["concat_latent_image"] = options["concat_latent_image"][:1]
        first.append([[cond[0][0][:1], options]])
    alone = run(patched, type("First", (), {"args": (*first, {"samples": conds.args[3]["samples"][:1]})})())
    assert (together[:1] - alone).abs().max() <= 1e-3


def multiply_batch(times):
    """A pair of patches as regional prompting packs have: repeat every entry's rows, mutate cond_or_uncond, merge later."""

    def before(q, k, v, extra):
        entries = extra["cond_or_uncond"]
        rows = q.shape[0] // len(entries)
        extra["entries before"] = list(entries)
        big = lambda x: x.unflatten(0, (len(entries), rows)).repeat_interleave(times, 0).flatten(0, 1)  # noqa: E731
        repeated = big(q), big(k), big(v)
        entries[:] = [e for e in entries for _ in range(times)]
        return repeated

    def after(n, extra):
        entries = extra["entries before"]
        rows = n.shape[0] // len(entries) // times
        extra["cond_or_uncond"][:] = entries
        return n.unflatten(0, (len(entries), times, rows)).mean(1).flatten(0, 1)

    return before, after


def test_batch_multiplying_neighbour_in_both_orders(loaded, conds):
    handle, model, _ = loaded
    alone = run(patching.apply(model, handle, 1, 1, 0, 1), conds)
    before, after = multiply_batch(3)
    neighbour = model.clone()
    neighbour.set_model_attn2_patch(before)
    neighbour.set_model_attn2_output_patch(after)
    behind = patching.apply(neighbour, handle, 1, 1, 0, 1)
    front = patching.apply(model, handle, 1, 1, 0, 1)
    front.set_model_attn2_patch(before)
    front.set_model_attn2_output_patch(after)
    # the neighbour repeats and averages the same thing, so nothing may change
    assert (run(behind, conds) - alone).abs().max() <= 1e-4
    assert (run(front, conds) - alone).abs().max() <= 1e-4


def test_rows_that_cannot_be_matched_are_said(loaded, conds, caplog):
    handle, model, _ = loaded

    def cut(n, extra):
        return torch.cat([n, n[:1]])

    def uncut(n, extra):
        return n[:-1]

    strange = model.clone()
    strange.set_model_attn2_output_patch(cut)
    strange = patching.apply(strange, handle, 1, 1, 0, 1)
    strange.set_model_attn2_output_patch(uncut)
    with caplog.at_level(logging.WARNING, logger="fireedit"):
        run(strange, conds)
    assert sum("HVCA is left out" in r.message for r in caplog.records) == 1  # once per run


def test_replacing_neighbour_in_both_orders(loaded, conds):
    """An IP-Adapter-like replacement of attn2 keeps working, and so do we."""
    handle, model, _ = loaded

    def replace(q, k, v, extra):
        from comfy.ldm.modules.attention import optimized_attention

        return 0.5 * optimized_attention(q, k, v, extra["n_heads"])

    first = model.clone()
    for number in range(6):
        first.set_model_attn2_replace(replace, "output", number)
    a = patching.apply(first, handle, 1, 1, 0, 1)
    b = patching.apply(model, handle, 1, 1, 0, 1)
    for number in range(6):
        b.set_model_attn2_replace(replace, "output", number)
    results = run(a, conds), run(b, conds)
    assert torch.equal(*results)
    assert not torch.equal(results[0], run(first, conds))
    assert not torch.equal(results[0], run(patching.apply(model, handle, 1, 1, 0, 1), conds))


def test_entry_rows():
    assert patching.entry_rows([1, 0], [1, 1, 1, 0, 0, 0]) == [0, 0, 0, 1, 1, 1]
    assert patching.entry_rows([0, 0, 1], [0, 0, 0, 0, 1]) == [0, 0, 1, 1, 2]
    assert patching.entry_rows([0, 1], [0, 1]) == [0, 1]
    assert patching.entry_rows([0, 1], [1, 1, 0]) is None and patching.entry_rows([0, 0], [0, 0, 0]) is None


def test_models_that_do_not_fit(loaded):
    handle, _, _ = loaded
    scheduler = EulerDiscreteScheduler(beta_schedule="scaled_linear")
    shaped = {"in_channels": 16, "out_channels": 8, "cross_attention_dim": CONFIG.context_size}
    wrong = {
        "takes 8 channels": ({**shaped, "in_channels": 8}, 8),
        "cross attentions": (shaped | {"layers_per_block": 2}, 8),
        "width": (
            shaped | {"cross_attention_dim": 48, "block_out_channels": CONFIG.unet_widths}
            | {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")},
            8,
        ),
    }  # fmt: skip
    for words, (changes, channels) in wrong.items():
        model = unet.build(diffusers_unet(**changes), scheduler, latents(channels), False)
        with pytest.raises(patching.ModelMismatch, match=words):
            patching.apply(model, handle, 1, 1, 0, 1)


def test_half_precision(monkeypatch, conds, loaded):
    """As on a GPU: editor and UNet in bfloat16. The result is the same up to rounding, so no type is mixed up."""
    wanted = run(patching.apply(loaded[1], loaded[0], 1, 1, 0, 1), conds)
    monkeypatch.setattr(models, "module_dtype", lambda: torch.bfloat16)
    monkeypatch.setattr(unet, "weight_dtype", lambda: torch.bfloat16)
    handle, model, vae = models.load(shared_bundle(), "small")
    assert model.model.get_dtype() == torch.bfloat16 == handle.editor.tati.null_embedding.dtype
    images = torch.stack([torch.from_numpy(picture(seed=i)).float() / 255 for i in range(2)])
    regions = nodes.FireEditRegionDetect.execute(loaded[0], images, 0.15, 0.6, 100)[0]
    assert nodes.FireEditRegionDetect.execute(handle, images, 0.15, 0.6, 100)[0]
    tokens = nodes.FireEditRegionTokenize.execute(handle, images, regions)[0]
    made = nodes.FireEditVLMConditioning.execute(handle, tokens, images, vae, INSTRUCTION, 0)
    assert all(c[0][0].dtype == torch.float32 for c in made.args[:3]) and made.args[4].dtype == torch.float32
    got = run(patching.apply(model, handle, 1, 1, 0, 1), made)
    assert got.dtype == torch.float32 and (got - wanted).abs().mean() < 0.1 * wanted.std()


# --- the guider


def test_unneeded_branches_are_not_computed(loaded, conds, monkeypatch):
    handle, model, _ = loaded
    patched = patching.apply(model, handle, 1, 1, 0, 1)
    rows = []
    patched.add_wrapper_with_key(
        patching.WrappersMP.DIFFUSION_MODEL, "count", lambda ex, x, *a, **k: (rows.append(x.shape[0]), ex(x, *a, **k))[1]
    )
    for text, image, branches in ((2.0, 1.0, 2), (2.0, 1.5, 3), (1.0, 1.0, 1), (2.0, 2.0, 2)):
        rows.clear()
        run(patched, conds, text, image, steps=1)
        assert sum(rows) == 2 * branches, (text, image)


def test_patches_after_the_guidance_are_called(loaded, conds):
    handle, model, _ = loaded
    patched = patching.apply(model, handle, 1, 1, 0, 1)
    seen = []
    patched.set_model_sampler_post_cfg_function(lambda a: (seen.append(a), a["denoised"] * 0)[1])
    assert run(patched, conds, steps=2).abs().max() < 1e-5
    assert len(seen) == 2 and seen[0]["cond_denoised"].abs().max() > 0 and seen[0]["uncond_denoised"].abs().max() > 0


# --- conditioning


def test_conditioning_contract(conds, loaded):
    """Design D3: same keys and shapes on all three."""
    positive, image_only, negative = (c[0] for c in conds.args[:3])
    shapes = [(c[0].shape, {k: v.cond.shape for k, v in c[1]["model_conds"].items()}) for c in (positive, image_only, negative)]
    assert shapes[0] == shapes[1] == shapes[2]
    assert shapes[0][0] == (2, 77, CONFIG.context_size) and set(shapes[0][1]) == {"fireedit_visual", "fireedit_where", "fireedit_gate"}
    gates = [c[1]["model_conds"]["fireedit_gate"].cond.flatten().tolist() for c in (positive, image_only, negative)]
    assert gates == [[1, 1], [0, 0], [0, 0]]
    assert not negative[1]["model_conds"]["fireedit_visual"].cond.any()
    where = [c[1]["model_conds"]["fireedit_where"].cond for c in (positive, image_only, negative)]
    assert torch.allclose(where[0], torch.nn.functional.avg_pool2d(conds.args[4][:, None], 8), atol=1e-5)
    assert where[0].any() and not where[1].any() and not where[2].any()
    assert torch.equal(image_only[0], negative[0]) and torch.equal(image_only[0][:1], image_only[0][1:])
    null = loaded[0].editor.tati.null_embedding
    assert torch.allclose(negative[0][:1], null.float())
    assert "concat_latent_image" in positive[1] and "concat_latent_image" in image_only[1]
    assert "concat_latent_image" not in negative[1] and not conds.args[3]["samples"].any()
    mask, regions = conds.args[4], conds.args[5]
    assert mask.shape == (2, 64, 64) and 0 <= mask.min() and mask.max() <= 1 and len(regions) == 2
    for one in regions:
        assert one.scores.tolist() == sorted(one.scores.tolist(), reverse=True)


def test_a_mask_of_ones_own_moves_the_edit(loaded, tokens, conds):
    handle, model, vae = loaded
    images, region_tokens = tokens
    mask = torch.zeros(1, 64, 64)
    mask[:, 8:24, 40:] = 1
    moved = nodes.FireEditVLMConditioning.execute(handle, region_tokens, images, vae, INSTRUCTION, 0, mask)
    assert torch.equal(moved.args[4].cpu(), mask.expand(2, -1, -1))
    where = moved.args[0][0][1]["model_conds"]["fireedit_where"].cond
    assert where[:, 0, 1:3, 5:].eq(1).all() and where.sum() == 2 * 6
    patched = patching.apply(model, handle, 1, 1, 0, 1)
    assert (run(patched, moved) - run(patched, conds)).abs().max() > 1e-4


def test_conditioning_survives_the_hosts_nodes(loaded, conds):
    """Timed and combined conditionings, as the stock nodes make them."""
    import node_helpers

    handle, model, _ = loaded
    patched = patching.apply(model, handle, 1, 1, 0, 1)
    early = node_helpers.conditioning_set_values(conds.args[0], {"start_percent": 0.0, "end_percent": 0.5})
    late = node_helpers.conditioning_set_values(conds.args[0], {"start_percent": 0.5, "end_percent": 1.0})
    timed = type("Timed", (), {"args": (early + late, *conds.args[1:])})()
    assert (run(patched, timed) - run(patched, conds)).abs().max() <= 1e-4


def test_instruction_lines():
    split = conditioning.split_instruction
    assert split(" remove  the cat\n", 1) == ["remove the cat"] and split("a\nb", 2) == ["a", "b"]
    assert split("a\n\nb\n", 2) == ["a", "b"] and split("a\nb", 3) == ["a b"] and split("a\nb", 1) == ["a b"]
    assert split("", 1) == [""]


def test_pictures():
    assert to_core(torch.rand(2, 5, 6, 4), "x").shape == (2, 3, 5, 6)
    assert to_core(torch.rand(5, 6, 1), "x").shape == (1, 3, 5, 6)
    with pytest.raises(ValueError, match="^A Node: expected an IMAGE"):
        to_core(torch.rand(2, 5, 6, 2), "A Node")


# --- folders


def test_bundle_names(tmp_path, monkeypatch):
    import shutil

    shutil.copytree(shared_bundle(), tmp_path / "deep" / "er" / "one")
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    monkeypatch.setattr(bundles, "roots", lambda: [tmp_path, tmp_path / "absent"])
    assert bundles.list_bundles() == ["deep/er/one"]
    for name in ("deep/er/one", "deep\\er\\one", "./deep/er/one/"):
        assert bundles.find_bundle(name) == tmp_path / "deep" / "er" / "one"
    outside = tmp_path / "deep"
    monkeypatch.setattr(bundles, "roots", lambda: [outside / "er"])
    assert bundles.find_bundle("one")
    for name in ("../er/one", str(outside / "er" / "one"), "one/..", "c:/one", "", "two"):
        with pytest.raises(BundleError, match="there is no bundle"):
            bundles.find_bundle(name)


def test_importing_makes_no_folder():
    (path,) = folder_paths.get_folder_paths("fireedit")[-1:]
    assert path.endswith(os.path.join("models", "fireedit"))
    assert not os.path.exists(os.path.join(os.environ["FIREEDIT_HOST"], "models", "fireedit"))
