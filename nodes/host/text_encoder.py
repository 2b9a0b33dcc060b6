# SPDX-License-Identifier: GPL-3.0-or-later
"""The text encoder of an edit model as a chat model: who edits with Qwen-Image-Edit has Qwen2.5-VL loaded already.

The host runs it only to encode. Two ways make it speak:

- Qwen2.5-VL is grafted: transformers' own network without weights, with the host's modules in the places of its own. So the host goes on
  managing the memory, nothing is loaded twice, float8 weights are cast by the host's layers, and the forward is transformers' (the vision
  tower of host 0.3.75 gives its tokens in the order of windows; hosts generate with the embedding where a head is missing: wrong words
  without an error). The head is the host's where it has one, else `lm_head.weight` of the file that the encoder came from.
- Other encoders (Qwen3-VL, Gemma of later hosts) are asked through the host's own `generate`, where the host has their head.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.model_management as management
import comfy.ops
import folder_paths
import numpy as np
import torch
from comfy.model_patcher import ModelPatcher
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from fireedit_core.grounding.dialects import MARKS, PER_MILLE, PIXELS, Size

from .models import make_patcher
from .streaming_patcher import StreamingPatcher

logger = logging.getLogger("fireedit")

QWEN2_5 = "Qwen25_7BVLI"  # the host's class
_TIED_WIDTHS = (2048, 2560)  # of Qwen3-VL 2B and 4B, whose head is the embedding; the larger ones have their own
_IMAGE_WORD, _VIDEO_WORD = "<|image_pad|>", "<|video_pad|>"
# Qwen2.5-VL's own chat template, of the kinds of turns that there are here
_TEMPLATE = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}"
    "{% endif %}{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_HEADS = ("lm_head.weight", "model.lm_head.weight")
_NORMS = ("model.norm.weight", "model.language_model.norm.weight", "language_model.model.norm.weight")
_SCALES = ("scale_weight", "weight_scale")  # beside a weight in float8


def grounder_of(clip: Any) -> tuple[Any, tuple[ModelPatcher, ...]]:
    """(a model that grounds, what the host has to load for it) of a host's CLIP.

    Raises:
        ValueError: for an encoder that cannot see or speak, and where its head is nowhere; the message says what mends it.
    """
    encoder = _part(clip.cond_stage_model, lambda m: type(m).__name__ == QWEN2_5 and hasattr(m, "visual"))
    if encoder is not None:
        return _grafted(clip, encoder)
    speaks = _part(clip.cond_stage_model, _has_head)
    sees = _part(clip.cond_stage_model, lambda m: hasattr(m, "preprocess_embed"))
    if speaks is not None and sees is not None and hasattr(clip, "generate") and hasattr(clip, "decode"):
        return HostChat(clip, type(speaks).__name__), ()
    kinds = sorted({type(m).__name__ for m in clip.cond_stage_model.modules() if hasattr(m, "get_input_embeddings")})
    raise ValueError(
        f"this clip ({', '.join(kinds) or type(clip.cond_stage_model).__name__}) cannot look at a picture and answer. The text encoder of "
        "Qwen-Image-Edit can (Load CLIP, type qwen_image); or choose the folder of a language model that sees."
    )


def _part(module: nn.Module, fits: Callable[[nn.Module], bool]) -> nn.Module | None:
    return next((part for part in module.modules() if fits(part)), None)


def _has_head(module: nn.Module) -> bool:
    """Whether a host's language model can tell words: `generate` alone does not say so, it takes the embedding where there is no head."""
    inner = getattr(module, "model", None)
    if not hasattr(module, "generate") or not isinstance(inner, nn.Module) or not isinstance(getattr(inner, "norm", None), nn.Module):
        return False  # some encoders are loaded without their last norm: what comes out are no words
    if isinstance(getattr(inner, "lm_head", None), nn.Module):
        return True
    kind, width = type(module).__name__, getattr(getattr(inner, "config", None), "hidden_size", 0)
    return kind.startswith("Gemma") or kind.startswith("Qwen3VL") and width in _TIED_WIDTHS


class HostChat:
    """An encoder that the host itself can have speak. Its words are not held to a form; the host shows progress and cancels."""

    constrained = False

    def __init__(self, clip: Any, kind: str):
        self.clip, self.name = clip, f"the text encoder ({kind})"
        self.dialect = PER_MILLE if kind.startswith("Qwen3VL") else MARKS
        self.pixels = 1_048_576

    def fitted(self, size: Size) -> Size:
        """As `ChatModel.fitted`."""
        from fireedit_core.grounding.chat import fitted

        return fitted(size, self.pixels)

    def seen(self, picture: Image.Image) -> Size:
        """As `ChatModel.seen`; its dialects do not depend on it."""
        return picture.height, picture.width

    def reply(self, picture: Image.Image, turns: list[str], schema: Any = None, most_tokens: int = 512, progress: Any = None) -> str:
        """As `ChatModel.reply`; the host takes one text, so what was said before stands in it."""
        image = torch.from_numpy(np.array(picture)).float()[None] / 255
        try:
            tokens = self.clip.tokenize("\n\n".join(turns), image=image, min_length=1)
            written = self.clip.generate(tokens, do_sample=False, max_length=most_tokens, repetition_penalty=1.0)
            return self.clip.decode(written)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"this host's text encoder cannot be asked about a picture ({error}); choose a folder instead") from error


def _grafted(clip: Any, encoder: nn.Module) -> tuple[Any, tuple[ModelPatcher, ...]]:
    from fireedit_core.grounding.chat import ChatModel

    head, patchers = getattr(encoder.model, "lm_head", None), (clip.patcher,)
    if not isinstance(head, nn.Module):
        head = _head_from_file(encoder)
        patchers = (*patchers, make_patcher("FireEditGrounderHead", head, kind=StreamingPatcher))
    device = clip.patcher.load_device
    # float16 is too narrow for this model's activations
    dtype = torch.bfloat16 if management.should_use_bf16(device) and not management.is_device_cpu(device) else torch.float32
    network = graft(encoder, head, dtype, device)
    processor = _processor(clip, network.config)
    name = "the text encoder (Qwen2.5-VL)"
    return ChatModel(network, processor, PIXELS, name, dtype, where=lambda: device), patchers


def graft(encoder: nn.Module, head: nn.Module, dtype: torch.dtype, device: torch.device | None = None) -> Any:
    """transformers' Qwen2.5-VL with the host's modules inside; nothing is copied.

    Args:
        encoder: the host's `Qwen25_7BVLI`. head: hidden states -> logits. dtype, device: of the computation; those of the weights may be
            others, as the host sees fit.

    Returns:
        A `Qwen2_5_VLForConditionalGeneration` whose parameters are the encoder's and the head's. The owner of those moves them.

    Raises:
        ValueError: for an encoder that is not built as expected.
    """
    import accelerate
    import transformers

    try:
        config = _config(encoder)
        with accelerate.init_empty_weights(include_buffers=False):  # weights on no device; what rotates is computed anew
            network = transformers.Qwen2_5_VLForConditionalGeneration(config)
        network.generation_config = transformers.GenerationConfig.from_model_config(config)
        text, sight, visual = network.model.language_model, network.model.visual, encoder.visual
        text.embed_tokens = _Embedding(encoder.model.embed_tokens, dtype)
        text.norm = _Norm(encoder.model.norm, config.text_config.rms_norm_eps)
        for theirs, ours in zip(text.layers, encoder.model.layers, strict=True):
            _take(theirs, ours, ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
                                 "mlp.up_proj", "mlp.down_proj"))  # fmt: skip
            for name in ("input_layernorm", "post_attention_layernorm"):
                setattr(theirs, name, _Norm(getattr(ours, name), config.text_config.rms_norm_eps))
        sight.patch_embed = visual.patch_embed
        for theirs, ours in zip(sight.blocks, visual.blocks, strict=True):
            _take(theirs, ours, ("attn.qkv", "attn.proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"))
            theirs.norm1, theirs.norm2 = _Norm(ours.norm1, 1e-6), _Norm(ours.norm2, 1e-6)
        _take(sight.merger, visual.merger, ("mlp.0", "mlp.2"))
        sight.merger.ln_q = _Norm(visual.merger.ln_q, 1e-6)
    except (AttributeError, IndexError, ValueError) as error:
        raise ValueError(f"this host's Qwen2.5-VL is not built as FireEdit knows it ({error}); choose a folder instead.") from error
    network.lm_head = head
    left = [name for name, value in network.named_parameters() if value.is_meta]
    if left:
        raise ValueError(f"this host's Qwen2.5-VL lacks {len(left)} parts, the first is {left[0]}; choose a folder instead.")
    # transformers asks its networks where and in what to compute, and they would answer with some weight's place and type
    _answer(sight, dtype=dtype)
    if device is not None:
        _answer(network, device=device)
    return network.eval().requires_grad_(False)


def _answer(module: nn.Module, **values: Any) -> None:
    """Have a module answer with these values where its class has properties of the names."""
    own = {name: property(lambda self, value=value: value) for name, value in values.items()}
    module.__class__ = type(type(module).__name__, (type(module),), own)


def _config(encoder: nn.Module) -> Any:
    """transformers' configuration of a host's encoder."""
    import transformers

    own, visual = encoder.model.config, encoder.visual
    block = visual.blocks[0]
    if own.head_dim * own.num_attention_heads != own.hidden_size:
        raise ValueError(f"{own.num_attention_heads} heads of {own.head_dim} for a width of {own.hidden_size}")
    text = {
        "vocab_size": own.vocab_size, "hidden_size": own.hidden_size, "intermediate_size": own.intermediate_size,
        "num_hidden_layers": own.num_hidden_layers, "num_attention_heads": own.num_attention_heads,
        "num_key_value_heads": own.num_key_value_heads, "rms_norm_eps": own.rms_norm_eps, "rope_theta": own.rope_theta,
        "max_position_embeddings": own.max_position_embeddings,
        "rope_scaling": {"type": "mrope", "mrope_section": list(own.rope_dims)}, "bos_token_id": None, "eos_token_id": 151645,
        "pad_token_id": None, "tie_word_embeddings": False,
    }  # fmt: skip
    vision = {
        "depth": len(visual.blocks), "hidden_size": visual.hidden_size, "intermediate_size": block.mlp.gate_proj.out_features,
        "num_heads": block.attn.num_heads, "out_hidden_size": visual.merger.mlp[2].out_features, "patch_size": visual.patch_size,
        "spatial_merge_size": visual.spatial_merge_size, "temporal_patch_size": visual.patch_embed.temporal_patch_size,
        "window_size": visual.window_size, "fullatt_block_indexes": list(visual.fullatt_block_indexes),
    }  # fmt: skip
    config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False)
    config._attn_implementation = "sdpa"
    return config


def _take(theirs: nn.Module, ours: nn.Module, names: tuple[str, ...]) -> None:
    """Put our modules in the places of theirs that have the same names."""
    for name in names:
        parent, _, last = name.rpartition(".")
        setattr(theirs.get_submodule(parent), last, ours.get_submodule(name))


class _Norm(nn.Module):
    """A host's norm, computed as transformers computes it: in float32, rounded before the weight. The host's rounds after it."""

    def __init__(self, host: nn.Module, eps: float):
        super().__init__()
        self.host, self.eps = host, eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.host.weight.to(device=x.device, dtype=x.dtype) * wide.to(x.dtype)


class _Embedding(nn.Module):
    """A host's embedding, in the type of the computation whatever it is stored in."""

    def __init__(self, host: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.host, self.dtype = host, dtype

    @property
    def weight(self) -> Tensor:
        return self.host.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.host(ids, out_dtype=self.dtype).to(self.dtype)


def _head_from_file(encoder: nn.Module) -> nn.Module:
    """The head in the file of models/text_encoders that holds this very encoder: its last norm is the same number for number."""
    norm, width = encoder.model.norm.weight.detach().cpu(), encoder.model.config.hidden_size
    looked = 0
    for file in _files():
        try:
            with safe_open(str(file), "pt") as handle:
                keys = set(handle.keys())
                names = [next((key for key in options if key in keys), "") for options in (_HEADS, _NORMS)]
                if not all(names) or list(handle.get_slice(names[0]).get_shape())[1:] != [width]:
                    continue
                looked += 1
                if not torch.equal(handle.get_tensor(names[1]).to(norm.dtype), norm):
                    continue
                weight = handle.get_tensor(names[0])
                scale = next((key for key in (names[0].replace("weight", s) for s in _SCALES) if key in keys), None)
                if scale is not None:
                    weight = weight.to(torch.bfloat16) * handle.get_tensor(scale).to(torch.bfloat16)
        except (SafetensorError, OSError, ValueError):
            continue  # a file that is being written, or no safetensors: the host will say so where it is chosen
        head = comfy.ops.manual_cast.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta", dtype=weight.dtype)
        head.weight = nn.Parameter(weight, requires_grad=False)
        logger.info("FireEdit: the head of the text encoder was read from %s", file.name)
        return head
    raise ValueError(
        "the host loads this text encoder without the head that turns its thoughts into words (lm_head.weight), and no file in "
        f"models/text_encoders has it together with this encoder ({looked} with a head of this width were looked at). The file in "
        "bfloat16, qwen_2.5_vl_7b.safetensors, has it: put it beside the one that you use. Or choose the folder of a language model that "
        "sees."
    )


def _files() -> list[Path]:
    names = [name for name in folder_paths.get_filename_list("text_encoders") if name.endswith(".safetensors")]
    found = (folder_paths.get_full_path("text_encoders", name) for name in names)
    return [Path(path) for path in found if path is not None]


def _processor(clip: Any, config: Any) -> Any:
    """transformers' processor around the host's tokenizer."""
    import transformers

    number = config.image_token_id
    for one in vars(clip.tokenizer).values():
        words = getattr(one, "tokenizer", None)
        if hasattr(words, "convert_tokens_to_ids") and words.convert_tokens_to_ids(_IMAGE_WORD) == number:
            images = transformers.Qwen2VLImageProcessor(patch_size=config.vision_config.patch_size)
            return transformers.Qwen2_5_VLProcessor(images, words, transformers.Qwen2VLVideoProcessor(), chat_template=_TEMPLATE)
    raise ValueError(f"the tokenizer of this clip has no {_IMAGE_WORD}, so no picture can be shown to it; choose a folder instead.")
