# SPDX-License-Identifier: GPL-3.0-or-later
"""The language model's linear layers are the host's, which fetch their weights when they are called; what they compute is torch's."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tests.host.inside.pack import nodes  # noqa: F401  first: it makes the pack importable
from tests.host.small import INSTRUCTION, components

import comfy.ops  # isort: skip
from fireedit_pack.nodes.host.streaming_patcher import StreamingPatcher, stream_linear_layers  # isort: skip


@pytest.fixture(scope="module")
def language_model():
    return components()["language_model"].eval()


def test_the_group_computes_bit_for_bit_what_torch_computes(loaded, tokens):
    from fireedit_core.checkpoints.bundle import load_components
    from fireedit_core.diffusion.pipeline import make_editor
    from tests.host.small import shared_bundle

    plain = make_editor(load_components(shared_bundle()))
    wanted = plain.condition(tokens[1], [INSTRUCTION])
    for streamed in (False, True):  # on the device, and fetched at each call
        layers = [m for m in loaded[0].editor.language.modules() if hasattr(m, "comfy_cast_weights")]
        assert len(layers) > 10
        for layer in layers:
            layer.comfy_cast_weights = streamed
        got = loaded[0].editor.condition(tokens[1], [INSTRUCTION])
        for name in ("edit_embedding", "visual", "mask"):
            assert torch.equal(getattr(got, name), getattr(wanted, name)), (name, streamed)
    for layer in layers:
        layer.comfy_cast_weights = False


def test_all_linear_layers_are_the_hosts_and_their_weights_the_same(language_model):
    model = copy.deepcopy(language_model)
    before = dict(model.named_parameters())
    stream_linear_layers(model)
    after = dict(model.named_parameters())
    assert before.keys() == after.keys() and all(before[name] is after[name] for name in before)
    kinds = {type(m) for m in model.modules() if isinstance(m, nn.Linear)}
    assert kinds == {comfy.ops.disable_weight_init.Linear}


def test_layers_that_a_host_builds_without_weights(language_model, monkeypatch):
    """With dynamic VRAM (2026-04) the host's linear layer has no parameters until a state dict comes."""

    def lazy(self, in_features, out_features, bias=True, device=None, dtype=None):
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.weight, self.bias = in_features, out_features, None, None

    monkeypatch.setattr(comfy.ops.disable_weight_init.Linear, "__init__", lazy)
    model = copy.deepcopy(language_model)
    stream_linear_layers(model)
    assert {n: x.shape for n, x in model.state_dict().items()} == {n: x.shape for n, x in language_model.state_dict().items()}
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(model(ids).logits, language_model(ids).logits)


def test_a_head_that_is_tied_to_the_embedding_stays(language_model):
    """Left behind it would take the embedding's weight with it."""
    model = copy.deepcopy(language_model)
    model.lm_head.weight = model.get_input_embeddings().weight
    stream_linear_layers(model)
    assert type(model.lm_head) is nn.Linear and model.lm_head.weight is model.get_input_embeddings().weight
    assert hasattr(model.model.layers[0].mlp.up_proj, "comfy_cast_weights")


def test_a_model_with_adapters(language_model):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    plain = peft.get_peft_model(
        copy.deepcopy(language_model), peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    ).eval()
    streamed = copy.deepcopy(plain)
    stream_linear_layers(streamed)
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(streamed(ids).logits, plain(ids).logits)
    assert hasattr(streamed.get_base_model().model.layers[0].self_attn.q_proj.base_layer, "comfy_cast_weights")


def test_what_cannot_be_streamed_is_taken_off_the_room_for_layers(language_model, monkeypatch):
    """The host may fill what it was told with layers: the embedding, norms and the like have to fit beside them."""
    from comfy.model_patcher import ModelPatcher

    model = copy.deepcopy(language_model)
    stream_linear_layers(model)
    patcher, told = StreamingPatcher(model, torch.device("cpu"), torch.device("cpu")), []
    monkeypatch.setattr(ModelPatcher, "load", lambda self, device=None, memory=0, *more, **names: told.append(memory))
    model.model_loaded_weight_memory = 0
    patcher.load(torch.device("cpu"), 10**9)
    rest = sum(x.numel() * x.element_size() for name, module in model.named_modules() if not hasattr(module, "comfy_cast_weights")
               for x in (*module.parameters(recurse=False), *module.buffers(recurse=False)))  # fmt: skip
    taken = model.model_loaded_weight_memory
    assert rest > 10_000 and taken == pytest.approx(rest, rel=0.02) and told == [10**9 - taken]
