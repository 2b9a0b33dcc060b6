# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing of ours stays behind: not in the host's list of loaded models, not in memory once the graph is gone."""

from __future__ import annotations

import gc
import weakref

import torch

from tests.host.inside.pack import nodes, run  # first: it makes the pack importable
from tests.host.small import INSTRUCTION, SIZE, picture, shared_bundle

import comfy.model_management as management  # isort: skip
from fireedit_pack.nodes.host import models, patching  # isort: skip


def test_free_memory_lets_go_of_everything():
    handle, model, vae = models.load(shared_bundle(), "small")
    image = torch.from_numpy(picture(SIZE, SIZE)).float()[None] / 255
    regions = nodes.FireEditRegionDetect.execute(handle, image, 0.15, 0.6, 100)[0]
    tokens = nodes.FireEditRegionTokenize.execute(handle, image, regions)[0]
    conds = nodes.FireEditVLMConditioning.execute(handle, tokens, image, vae, INSTRUCTION, 0)
    patched = patching.apply(model, handle, 1, 1, 0, 1)
    run(patched, conds, steps=1)
    groups = (handle.vision, handle.language, handle.detector, handle.injection, model)
    ours = {id(p.model) for p in groups}
    listed = lambda: [m for m in management.current_loaded_models if m.model is not None and id(m.model.model) in ours]  # noqa: E731
    assert listed(), "the host does not know of our models"
    management.unload_all_models()  # what the button "free memory" does first
    assert not listed()
    inner = [m for p in groups for m in p.model.children()]
    seen = [weakref.ref(x) for x in (*(p.model for p in groups), *inner, handle, patched)]
    del handle, model, vae, tokens, conds, patched, groups, inner  # and then the host forgets the outputs of all nodes
    management.cleanup_models()
    gc.collect()
    assert [ref for ref in seen if ref() is not None] == []


def test_a_run_leaves_nothing_in_the_patch(loaded, conds):
    """Projections and injected conditions belong to a run; the MODEL that lies in the host's cache keeps none of them."""
    patched = patching.apply(loaded[1], loaded[0], 1, 1, 0, 1)
    run(patched, conds, steps=2)
    wrapper = patched.wrappers[patching.WrappersMP.DIFFUSION_MODEL][patching.KEY][0]
    (state,) = [cell.cell_contents for cell in wrapper.__closure__ if isinstance(cell.cell_contents, patching._Run)]
    assert state.cache == [] and state.injected == []


def test_a_group_is_loaded_whole_or_not_at_all(monkeypatch):
    """Whatever room the host offers: what stayed on the CPU would meet the rest on the card, as no layer of ours streams.

    On the CPU all devices are one, so what is looked at is where each module is told to go.
    """
    handle, _, vae = models.load(shared_bundle(), "small")
    management.unload_all_models()
    device = management.get_torch_device()
    for group in (handle.vision, handle.detector, handle.injection, vae.patcher):
        moved = []
        monkeypatch.setattr(group.model, "to", lambda *args, moved=moved, **_: moved.append(args) or None)
        for room in (1, 64, 10**4):
            group.detach()
            moved.clear()
            group.partially_load(device, extra_memory=room)
            assert (device,) in moved, "the group as a whole is never sent to the device"
            assert not group.model.model_lowvram and group.model.model_loaded_weight_memory == group.model_size()
            assert group.partially_unload(group.offload_device, 10**9) == 0
            assert group.model.model_loaded_weight_memory == group.model_size()
        monkeypatch.undo()
        group.detach()
        assert group.model.model_loaded_weight_memory == 0  # letting go still works


def test_a_host_that_is_short_of_memory_gets_the_same_result(loaded, conds):
    """What --lowvram does: load with next to no memory to spend. Only the language model has layers that may stay behind."""
    handle, model, _ = loaded
    patched = patching.apply(model, handle, 1, 1, 0, 1)
    wanted = run(patched, conds, steps=1)
    management.unload_all_models()
    for group in (handle.vision, handle.language, handle.detector, handle.injection):
        group.load(management.get_torch_device(), lowvram_model_memory=64)
        assert group.model.model_lowvram == (group is handle.language)
    assert torch.equal(run(patched, conds, steps=1), wanted)
    management.unload_all_models()
    assert not management.current_loaded_models
