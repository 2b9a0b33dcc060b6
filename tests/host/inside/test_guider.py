# SPDX-License-Identifier: GPL-3.0-or-later
"""Dual guidance over the host's sampler."""

from __future__ import annotations

import pytest
import torch

from tests.host.inside.pack import nodes, plain, run  # first: it makes the pack importable

from fireedit_pack.nodes.errors import FireEditNodeError  # isort: skip
from fireedit_pack.nodes.host import patching  # isort: skip


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
    assert len(seen) == 2
    # what the host calls uncond is the branch that has the picture and not the text: at image guidance 1 it is all there is beside cond
    seen.clear()
    run(patched, conds, text=2.5, image=1.0, steps=1)
    (given,) = seen
    cond, uncond = given["cond_denoised"], given["uncond_denoised"]
    assert (cond - uncond).abs().max() > 1e-3 and given["cond_scale"] == 2.5
    assert torch.allclose(given["denoised"], uncond + 2.5 * (cond - uncond), atol=1e-4)
    gates = [given[name][0]["model_conds"]["fireedit_gate"].cond.flatten().tolist() for name in ("cond", "uncond")]
    assert gates == [[1, 1], [0, 0]]  # each with the conditioning that it came of


def test_patches_before_the_guidance_are_called(loaded, conds):
    """APG, TCFG and their like change what is guided; they used to have no effect under dual guidance, and no word said so."""
    handle, model, _ = loaded
    patched = patching.apply(model, handle, 1, 1, 0, 1)
    seen = []

    def before(args):
        seen.append((args["cond_scale"], [o.abs().max() > 0 for o in args["conds_out"]]))
        cond, uncond, *rest = args["conds_out"]
        return [uncond + 0.5 * (cond - uncond), uncond, *rest]

    patched.set_model_sampler_pre_cfg_function(before)
    half = run(patched, conds, text=4.0, image=1.5, steps=2)
    assert seen == [(4.0, [True] * 3)] * 2
    # half of the difference at scale 4 is the whole of it at scale 2.5: i + 4 * (0.5 * (p - i)) = i + 2 * (p - i)
    assert torch.allclose(half, run(patching.apply(model, handle, 1, 1, 0, 1), conds, text=2.0, image=1.5, steps=2), atol=1e-4)


@pytest.mark.parametrize("name", ["nodes_apg.APG", "nodes_tcfg.TCFG"])
def test_the_hosts_own_have_an_effect(loaded, conds, name):
    import importlib

    module, kind = name.split(".")
    node = getattr(importlib.import_module(f"comfy_extras.{module}"), kind)
    handle, model, _ = loaded
    patched = patching.apply(model, handle, 1, 1, 0, 1)
    changed = node.execute(patched, **({"eta": 0.5, "norm_threshold": 1.0, "momentum": 0.0} if kind == "APG" else {}))[0]
    out = run(changed, conds, text=4.0)
    assert torch.isfinite(out).all() and (out - run(patched, conds, text=4.0)).abs().max() > 1e-3


def test_a_model_without_apply_is_seen(loaded, conds, tokens):
    handle, model, vae = loaded
    settings = (7, 1, "euler", "simple", 1.0, 1.0, 1.0, "off")
    with pytest.raises(FireEditNodeError, match="^FireEdit Sample: this MODEL has not been through FireEdit Apply"):
        nodes.FireEditSample.execute(model, *conds.args[:3], vae, tokens[0], *settings)
    with pytest.raises(FireEditNodeError, match="^FireEdit Guider: this MODEL has not been through FireEdit Apply"):
        nodes.FireEditGuider.execute(model, *conds.args[:3], 1.0, 1.0)
    nodes.FireEditGuider.execute(patching.apply(model, handle, 0, 0, 0, 1), *conds.args[:3], 1.0, 1.0)  # to compare
    nodes.FireEditGuider.execute(model, *plain(conds).args[:3], 1.0, 1.0)  # conditionings of others
