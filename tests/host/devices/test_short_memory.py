# SPDX-License-Identifier: GPL-3.0-or-later
"""A card with little room: whatever the host decides to leave behind, the graph runs and gives the same picture."""

from __future__ import annotations

import pytest
import torch

from tests.host.devices import graph, simulated_device
from tests.host.devices.simulated_host import MEGABYTE, STATES, management

ROOMS = (0, 1, 3, 8, 16, 30)  # megabytes beside the host's reserve; the groups of the small bundle take 1.5 to 18
OURS = {"FireEditVision", "FireEditLanguage", "FireEditDetector", "FireEditInjection", "AutoencoderAdapter"}


@pytest.fixture(scope="module")
def wanted():
    with torch.inference_mode():
        return graph.run(graph.load(), graph.image(1), steps=1)["sample"][1]


@pytest.fixture
def loads(monkeypatch):
    """Names of our groups as the host was asked for them, and what was not on the device when it said it was done."""
    asked, behind = [], []
    load = management.load_models_gpu

    def watched(models, *args, **kwargs):
        load(models, *args, **kwargs)
        for patcher in {p for m in models for p in (m, *m.model_patches_models(), *m.get_nested_additional_models())}:
            name = type(patcher.model).__name__
            if name.startswith("FireEdit") or name == "AutoencoderAdapter":
                asked.append(name)
                layers = [name for name, module in patcher.model.named_modules() if hasattr(module, "comfy_cast_weights")]
                streamed = {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
                held = graph.held(patcher.model)
                behind.extend(f"{name}.{key}" for key, x in held.items() if x.device != patcher.load_device and key not in streamed)

    monkeypatch.setattr(management, "load_models_gpu", watched)
    return asked, behind


@pytest.mark.parametrize("state", STATES)
def test_any_room_gives_the_same_picture_twice(card, wanted, loads, monkeypatch, state):
    asked, behind = loads
    monkeypatch.setattr(management, "vram_state", STATES[state])
    loaded, pictures = graph.load(), graph.image(1)
    for room in ROOMS:
        card.room = room * MEGABYTE
        for turn in ("fresh", "again"):
            asked.clear()
            result = graph.run(loaded, pictures, steps=1)["sample"][1]
            where = f"{state}, {room} MB, {turn}"
            assert set(asked) == OURS, where
            assert not behind, (where, behind[:5])
            assert (result - wanted).abs().max() <= 1e-4, where
        management.unload_all_models()
        assert simulated_device.collect() == card.kept, where
