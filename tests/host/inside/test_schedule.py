# SPDX-License-Identifier: GPL-3.0-or-later
"""The curve on FireEdit Apply tells of the steps that really happen, and of those in which the method acts."""

from __future__ import annotations

import pytest

from tests.host.inside.pack import guider  # first: it makes the pack importable

import comfy.samplers  # isort: skip
from fireedit_pack.nodes.host import patching, schedule  # isort: skip
from tests.host.small import shared_bundle  # isort: skip



@pytest.mark.parametrize("scheduler", comfy.samplers.KSampler.SCHEDULERS)
def test_steps_are_those_of_the_run(loaded, conds, monkeypatch, scheduler):
    handle, model, _ = loaded
    read = []
    inject = type(handle.editor.tati).inject

    def watch(self, context, timesteps, gate, strength=1.0):
        read.append(float(timesteps[0]))
        return inject(self, context, timesteps, gate, strength)

    monkeypatch.setattr(type(handle.editor.tati), "inject", watch)
    source = conds.args[0][0][1]["concat_latent_image"]
    for start, end, denoise in ((0.0, 1.0, 1.0), (0.3, 0.8, 1.0), (0.0, 0.9, 0.6)):
        patched = patching.apply(model, handle, 1, 1, start, end)
        made = guider.make_guider(patched, *conds.args[:3], 1.0, 1.0)
        read.clear()
        guider.sample(made, source, 3, 5, "euler", scheduler, denoise)
        told = schedule.steps_of(shared_bundle(), "euler", scheduler, 5, denoise, start, end)
        active = [step["timestep"] for step in told if step["active"]]
        once = [t for i, t in enumerate(active) if i == 0 or t != active[i - 1]]  # TATI is computed once per timestep
        assert len(told) == 5 or denoise < 1 or scheduler not in ("simple", "normal")
        assert read == pytest.approx(once, abs=1e-3), (start, end, denoise)


def test_samplers_that_leave_a_step_out(loaded):
    _, model, _ = loaded
    run = comfy.samplers.KSampler(model, steps=4, device="cpu", sampler="dpm_2", scheduler="karras", denoise=1.0)
    told = schedule.steps_of(shared_bundle(), "dpm_2", "karras", 4, 1.0, 0.0, 1.0)
    assert len(told) == len(run.sigmas) - 1
