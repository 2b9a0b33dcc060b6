# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's own Qwen2.5-VL as Qwen-Image-Edit uses it, with few and narrow layers; the vocabulary is the real one, as its tokenizer is."""

from __future__ import annotations

import torch

from tests.host.inside.pack import nodes  # noqa: F401  first: it makes the host importable

import comfy.ops  # isort: skip
import comfy.sd  # isort: skip
import comfy.text_encoders.llama as llama  # isort: skip
import comfy.text_encoders.qwen_image as qwen_image  # isort: skip

WIDTH, WORDS, HEAD = 32, 152064, "lm_head.weight"


def make_small(patch) -> None:
    """Have the host build small ones, as long as `patch` (pytest's MonkeyPatch) holds."""

    class Small(llama.Qwen25_7BVLI_Config):
        def __init__(self, **_):
            super().__init__(hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1)
            self.head_dim, self.rope_dims = 16, [2, 3, 3]

    class Vision(llama.qwen_vl.Qwen2VLVisionTransformer):
        def __init__(self, hidden_size, output_hidden_size, **more):
            super().__init__(hidden_size=32, output_hidden_size=WIDTH, intermediate_size=48, num_heads=2, num_layers=2, **more)
            self.fullatt_block_indexes = [1]

    patch.setattr(llama, "Qwen25_7BVLI_Config", Small)
    patch.setattr(llama.qwen_vl, "Qwen2VLVisionTransformer", Vision)


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """A state dict as the public file has it, head included, in float32."""
    encoder = llama.Qwen25_7BVLI({}, torch.float32, "cpu", comfy.ops.disable_weight_init)
    made = torch.Generator().manual_seed(seed)
    state = {}
    for key, value in encoder.state_dict().items():
        norm = "norm" in key or "ln_q" in key
        state[key] = torch.randn(value.shape, generator=made) * (0.3 if value.ndim > 1 else 0.1) + norm
    return state | {HEAD: torch.randn(WORDS, WIDTH, generator=made) * 0.3}


def loaded_clip(state: dict[str, torch.Tensor], **options):
    """The host's CLIP of these weights. options: of the host, as `load_device`."""
    target = type("Target", (), {})()
    target.params, target.clip, target.tokenizer = {}, qwen_image.te(), qwen_image.QwenImageTokenizer
    clip = comfy.sd.CLIP(target, model_options={"dtype": torch.float32, **options})
    clip.load_sd(dict(state))
    return clip
