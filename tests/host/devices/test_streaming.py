# SPDX-License-Identifier: GPL-3.0-or-later
"""A language model that does not fit on the card beside the host's reserve: the rest of its group is whole, its layers come and go."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.host.devices import graph, simulated_device
from tests.host.devices.simulated_host import STATES, management
from tests.host.small import CONFIG, temporary_folder, write_bundle


@pytest.fixture(scope="module")
def bundle():
    """A bundle whose language model is nearly all of its group."""
    return write_bundle(temporary_folder() / "large-language", replace(CONFIG, hidden_size=128, language_layers=12))


def test_with_room_for_a_third_the_graph_runs_in_that_room(card, bundle, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(management, "get_torch_device", lambda: torch.device("cpu"))
        wanted = graph.run(graph.load(bundle), graph.image(1), steps=1)
    loaded = graph.load(bundle)
    group = loaded[0].language
    layers = {n: m for n, m in group.model.named_modules() if hasattr(m, "comfy_cast_weights")}
    size = sum(m.weight.nbytes for m in layers.values())
    assert size > 0.7 * group.model_size() and all(isinstance(m, nn.Linear) for m in layers.values())
    card.room = group.model_size() - size + size // 3
    seen, held = [], []

    def look(*_):
        seen.append({name for name, layer in layers.items() if layer.weight.device == card.device})
        held.append(simulated_device.used_bytes())

    load = management.load_models_gpu
    monkeypatch.setattr(management, "load_models_gpu", lambda models, *a, **k: (load(models, *a, **k), group in models and look()))
    for turn in ("fresh", "again"):
        result = graph.run(loaded, graph.image(1), steps=1)
        assert (result["sample"][1] - wanted["sample"][1]).abs().max() <= 1e-4, turn
        assert (result["condition"][4] - wanted["condition"][4]).abs().max() <= 1e-4, turn
        assert 0.1 * len(layers) < len(seen[-1]) < len(layers) / 2, turn  # room was kept for the layers that come and go
        assert group.loaded_size() <= held[-1] <= card.room, turn
    management.unload_all_models()
    assert simulated_device.collect() == card.kept and group.loaded_size() == 0


@pytest.mark.parametrize("state", STATES)
def test_what_the_host_counts_is_what_is_there(card, bundle, monkeypatch, state):
    """Loaded more, loaded less, let go: the host's count of this group stays the sum of its weights on the device."""
    monkeypatch.setattr(management, "vram_state", STATES[state])
    group = graph.load(bundle)[0].language

    def on_device():
        return sum(x.nbytes for x in group.model.state_dict().values() if x.device == card.device)

    rest = group.model_size() - sum(m.weight.nbytes for m in group.model.modules() if hasattr(m, "comfy_cast_weights"))
    for room in (0, group.model_size() // 2, group.model_size() // 3, 2 * group.model_size(), group.model_size() // 2):
        card.room = int(room)
        management.load_models_gpu([group])
        assert group.loaded_size() == on_device() >= rest > 0, room
        before, freed = on_device(), group.partially_unload(group.offload_device, group.model_size() // 4)
        assert group.loaded_size() == on_device() == before - freed >= rest, room
    management.unload_all_models()
    assert on_device() == group.loaded_size() == 0 and simulated_device.collect() == card.kept
