# SPDX-License-Identifier: GPL-3.0-or-later
"""TATI reads the timestep that the UNet is really called with: every scheduler, samplers of all kinds, whole and part runs."""

from __future__ import annotations

import pytest

from tests.host.inside.pack import guider  # first: it makes the pack importable

import comfy.samplers  # isort: skip
from comfy.patcher_extension import WrappersMP  # isort: skip
from fireedit_pack.nodes.host import patching  # isort: skip

SAMPLERS = ("euler", "euler_ancestral", "dpmpp_2m", "heun", "lcm")


@pytest.mark.parametrize("scheduler", comfy.samplers.KSampler.SCHEDULERS)
def test_the_true_timestep(loaded, conds, monkeypatch, scheduler):
    handle, model, _ = loaded
    read, sigmas = [], []
    inject = type(handle.editor.tati).inject

    def watch(self, context, timesteps, gate, strength=1.0):
        read.append(timesteps.clone())
        return inject(self, context, timesteps, gate, strength)

    monkeypatch.setattr(type(handle.editor.tati), "inject", watch)
    patched = patching.apply(model, handle, 1, 1, 0, 1)
    patched.add_wrapper_with_key(
        WrappersMP.APPLY_MODEL, "watch", lambda executor, x, t, *args, **kw: sigmas.append(t.clone()) or executor(x, t, *args, **kw)
    )
    sampling = model.get_model_object("model_sampling")
    made = guider.make_guider(patched, *conds.args[:3], 2.0, 1.5)
    source = conds.args[0][0][1]["concat_latent_image"]
    first = 999.0
    for sampler in SAMPLERS:
        for denoise in (1.0, 0.6):
            read.clear(), sigmas.clear()
            guider.sample(made, source, 3, 3, sampler, scheduler, denoise)
            assert all(len(set(t.tolist())) == 1 for t in read) and len(sigmas) >= 3
            called = [float(sampling.timestep(s)[0]) for s in sigmas]
            # where a sampler looks twice at a timestep in a row (heun), TATI is computed once
            once = [t for i, t in enumerate(called) if i == 0 or t != called[i - 1]]
            assert [float(t[0]) for t in read] == once, (sampler, denoise)
            first = called[0] if denoise == 1.0 else first
            assert called[0] <= first
