# SPDX-License-Identifier: GPL-3.0-or-later
"""Language models that see, on a second device with no room to spare: they say what they say on the CPU, and nothing stays behind."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fireedit_core.grounding.loading import load_grounder
from tests.core.grounding import small_chat_models
from tests.host.devices import graph
from tests.host.devices.simulated_host import STATES, management
from tests.host.inside.pack import nodes  # noqa: F401  first: it makes the pack importable
from tests.host.inside.small_qwen import loaded_clip, make_small, weights

import folder_paths  # isort: skip
from fireedit_pack.nodes.host import grounders  # isort: skip

PICTURE = Image.effect_mandelbrot((112, 84), (-3, -2.5, 2, 2.5), 60).convert("RGB")


def said(model):
    if hasattr(model, "locate"):
        seen = []
        model.locate(PICTURE, "a cat", most_tokens=6, progress=seen.append)
        return seen
    small_chat_models.free(model)
    return model.reply(PICTURE, ["Where is the cat?"], most_tokens=8)


@pytest.mark.parametrize("kind, state", [
    ("qwen2_5_vl", "NORMAL_VRAM"), ("qwen2_5_vl", "NO_VRAM"), ("qwen3_vl", "NO_VRAM"), ("llava", "NO_VRAM"), ("florence2", "NO_VRAM"),
])  # fmt: skip
def test_folders(card, monkeypatch, tmp_path, kind, state):
    torch.manual_seed(0)
    with torch.inference_mode(False):
        getattr(small_chat_models, kind)(tmp_path / kind)
        here = load_grounder(tmp_path / kind)
        monkeypatch.setitem(folder_paths.folder_names_and_paths, "LLM", ([str(tmp_path)], set()))
        there = grounders.load(f"LLM/{kind}")
    wanted = said(here)
    monkeypatch.setattr(management, "vram_state", STATES[state])
    card.room = 0 if state == "NO_VRAM" else card.room
    there.use()
    held = graph.held(there.patchers[0].model)
    assert {x.device for x in held.values()} == ({card.device} if state == "NORMAL_VRAM" else {card.device, torch.device("cpu")})
    assert wanted and said(there.model) == wanted
    management.unload_all_models()
    assert all(x.device.type == "cpu" for x in graph.held(there.patchers[0].model).values())


def test_the_text_encoder(card, monkeypatch, tmp_path, recwarn):
    """The host's Qwen2.5-VL, grafted: without room all of its layers, and the head that was added, are fetched when they are called."""
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "text_encoders", ([str(tmp_path)], {".safetensors"}))
    with torch.inference_mode(False):
        make_small(monkeypatch)
        made = weights()
        save_file(made, tmp_path / "qwen_2.5_vl_7b.safetensors")
        folder_paths.filename_list_cache.clear()
        cpu = torch.device("cpu")
        with monkeypatch.context() as patch:
            patch.setattr(management, "get_torch_device", lambda: cpu)
            wanted = said(grounders.load(grounders.ENCODER, loaded_clip(made, load_device=cpu, offload_device=cpu)).model)
        clip = loaded_clip(made, load_device=card.device, offload_device=cpu)
        there = grounders.load(grounders.ENCODER, clip)
    for state, room, places in (("NORMAL_VRAM", card.room, {card.device}), ("NO_VRAM", 0, {cpu})):
        monkeypatch.setattr(management, "vram_state", STATES[state])
        card.room = room
        there.use()
        assert {x.device for x in there.model.network.parameters()} == places, state
        assert wanted and said(there.model) == wanted, state
        management.unload_all_models()
        assert {x.device for x in there.model.network.parameters()} == {cpu}, state
    assert not [w for w in recwarn if "device" in str(w.message)]
    folder_paths.filename_list_cache.clear()
