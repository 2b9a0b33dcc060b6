# SPDX-License-Identifier: GPL-3.0-or-later
"""A language model as grounder in the host: folders, the graft of the host's own Qwen2.5-VL, and FireEdit Ground with either."""

from __future__ import annotations

import json

import pytest
import torch

from tests.core.grounding import small_chat_models
from tests.host.inside.pack import nodes  # first: it makes the pack importable

import comfy.ops  # isort: skip
import comfy.sd  # isort: skip
import comfy.text_encoders.llama as llama  # isort: skip
import comfy.text_encoders.qwen_image as qwen_image  # isort: skip
import folder_paths  # isort: skip
from fireedit_core.regions import Regions  # isort: skip
from fireedit_pack.nodes.errors import FireEditNodeError  # isort: skip
from fireedit_pack.nodes.ground import FireEditGround  # isort: skip
from fireedit_pack.nodes.host import grounders, text_encoder  # isort: skip
from fireedit_pack.nodes.loading import FireEditGrounderLoader  # isort: skip

HEIGHT, WIDTH = 96, 128


@pytest.fixture(scope="module")
def small_qwen():
    """The host's Qwen2.5-VL classes with few and narrow layers; the vocabulary is its own, because its tokenizer is."""
    patch = pytest.MonkeyPatch()

    class Small(llama.Qwen25_7BVLI_Config):
        def __init__(self, **_):
            super().__init__(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1)
            self.head_dim, self.rope_dims = 16, [2, 3, 3]

    real = llama.qwen_vl.Qwen2VLVisionTransformer

    class Vision(real):
        def __init__(self, hidden_size, output_hidden_size, **more):
            super().__init__(hidden_size=32, output_hidden_size=32, intermediate_size=48, num_heads=2, num_layers=2, **more)
            self.fullatt_block_indexes = [1]

    patch.setattr(llama, "Qwen25_7BVLI_Config", Small)
    patch.setattr(llama.qwen_vl, "Qwen2VLVisionTransformer", Vision)
    yield
    patch.undo()


def weights(seed=0):
    """A state dict as the public file has it, head included, in float32."""
    encoder = llama.Qwen25_7BVLI({}, torch.float32, "cpu", comfy.ops.disable_weight_init)
    made = torch.Generator().manual_seed(seed)
    state = {k: torch.randn(v.shape, generator=made) * (0.3 if v.ndim > 1 else 0.1) + (1 if "norm" in k or "ln_q" in k else 0)
             for k, v in encoder.state_dict().items()}  # fmt: skip
    return state | {"lm_head.weight": torch.randn(152064, 32, generator=made) * 0.3}


def loaded_clip(state, dtype=torch.float32, **options):
    target = type("Target", (), {})()
    target.params, target.clip, target.tokenizer = {}, qwen_image.te(), qwen_image.QwenImageTokenizer
    clip = comfy.sd.CLIP(target, model_options={"dtype": dtype, **options})
    clip.load_sd(dict(state))
    return clip


@pytest.fixture(scope="module")
def state(small_qwen):
    return weights()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """models/text_encoders of the host, alone."""
    patch, place = pytest.MonkeyPatch(), tmp_path_factory.mktemp("text_encoders")
    patch.setitem(folder_paths.folder_names_and_paths, "text_encoders", ([str(place)], {".safetensors"}))
    folder_paths.filename_list_cache.clear()
    yield place
    folder_paths.filename_list_cache.clear()
    patch.undo()


@pytest.fixture(scope="module")
def clip(state, folder):
    from safetensors.torch import save_file

    save_file(weights(1), folder / "another.safetensors")
    save_file(state, folder / "qwen_2.5_vl_7b.safetensors")
    return loaded_clip(state)


def reference(state, config, dtype):
    """transformers' own network with these weights."""
    import transformers

    network = transformers.Qwen2_5_VLForConditionalGeneration(config).to(dtype)
    renamed = {
        (f"model.{k}" if k.startswith("visual.") else k if k.startswith("lm_head") else k.replace("model.", "model.language_model.", 1)): v
        for k, v in state.items()
    }
    network.load_state_dict(renamed)
    return network.eval()


def inputs_of(model):
    from PIL import Image

    picture = Image.fromarray((torch.rand(140, 196, 3, generator=torch.Generator().manual_seed(5)) * 255).byte().numpy())
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Where is the cat?"}]}]
    text = model.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return model.processor(text=[text], images=[picture], return_tensors="pt")


def test_the_graft_equals_transformers(clip, state):
    model = grounders.load(grounders.ENCODER, clip).model
    inputs = inputs_of(model)
    assert inputs["image_grid_thw"].tolist() == [[1, 10, 14]]
    with torch.no_grad():
        ours = model.network(**inputs, output_hidden_states=True)
        theirs = reference(state, model.network.config, torch.float32)(**inputs, output_hidden_states=True)
    assert (ours.hidden_states[-1] - theirs.hidden_states[-1]).abs().max() <= 1e-4
    assert (ours.logits - theirs.logits).abs().max() <= 1e-4 and theirs.logits.std() > 0.1
