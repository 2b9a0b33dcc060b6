# SPDX-License-Identifier: GPL-3.0-or-later
"""Dual guidance over the host's sampler."""

from __future__ import annotations

from tests.host.inside.pack import run  # first: it makes the pack importable

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
    assert len(seen) == 2 and seen[0]["cond_denoised"].abs().max() > 0 and seen[0]["uncond_denoised"].abs().max() > 0
