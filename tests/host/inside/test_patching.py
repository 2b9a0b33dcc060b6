# SPDX-License-Identifier: GPL-3.0-or-later
"""What FireEdit Apply does to the MODEL, alone and beside other packs' patches."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from diffusers import EulerDiscreteScheduler

from tests.host.inside.pack import diffusers_unet, latents, nodes, plain, run  # first: it makes the pack importable
from tests.host.small import CONFIG, INSTRUCTION, picture, shared_bundle

import comfy.sampler_helpers  # isort: skip
from fireedit_pack.nodes.host import models, patching, unet  # isort: skip


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
    assert (together[:1] - alone).abs().max() <= 1e-4


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
    # Acly's regions write a 0 before every entry but a 1, whatever the entry was
    assert patching.entry_rows([0, 1], [0, 0, 0, 1]) == [0, 0, 0, 1]
    assert patching.entry_rows([0, 1, 2], [0, 0, 1, 0, 2]) == [0, 0, 1, 2, 2]
    assert patching.entry_rows([2, 1, 0], [0, 2, 1, 0, 0]) == [0, 0, 1, 2, 2]
    assert patching.entry_rows([2, 0], [0, 2, 0, 0]) == [0, 0, 1, 1]
    assert patching.entry_rows([0, 2], [0, 0, 0, 2]) is None  # the third row may be the prompt's or the other's


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


def test_places_in_a_unet_whose_levels_differ():
    """Levels of 1, 2 and 3 blocks. In: 0 the convolution, 1, 2 the downsampler, 3 4, 5, 6 7 8. Out, one more each: 0-3, 4-6, 7 8."""
    wanted = {
        "down_blocks.0.attentions.0": ("input", 1), "down_blocks.1.attentions.1": ("input", 4), "down_blocks.2.attentions.0": ("input", 6),
        "mid_block.attentions.0": ("middle", 0), "up_blocks.0.attentions.3": ("output", 3), "up_blocks.1.attentions.0": ("output", 4),
        "up_blocks.1.attentions.2": ("output", 6), "up_blocks.2.attentions.1": ("output", 8),
    }  # fmt: skip
    names = [f"{name}.transformer_blocks.0.attn2" for name in wanted]
    found = patching.host_places(names, [1, 2, 3])
    assert found == {(*place, 0): index for index, place in enumerate(wanted.values())}
