# SPDX-License-Identifier: GPL-3.0-or-later
"""The language model: a vicuna folder, or a LLaVA folder in any of its layouts, with tokenizer, and LoRA in PEFT's format.

A bundle of other sizes than `fireedit-sd15` may have a Qwen2, Qwen2.5 or Qwen3 instead of a Llama (`FAMILIES`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizerFast,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from .fit import Found, Part, SourceError, fit
from .lazy_tensor import LazyTensor
from .weight_files import open_weights

if TYPE_CHECKING:
    from ..sd15 import Sd15Config

GET = "Get lmsys/vicuna-7b-v1.5 (with Groma's pretrained pieces), liuhaotian/llava-v1.5-7b or llava-hf/llava-1.5-7b-hf."
MODEL_TYPES = ("llama", "llava", "llava_llama", "groma")
# model_type -> classes; the tensors of all of them have the names of Llama's
FAMILIES: dict[str, tuple[type[PretrainedConfig], type[PreTrainedModel]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM), "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}  # fmt: skip
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"

# vicuna: model.layers; LLaVA on disk: language_model.model.layers; LLaVA in the memory of transformers 4.52 and later:
# model.language_model.layers; Groma: llm.model.layers
_DECODER = re.compile(r"(?:model\.)?(?:language_model\.|llm\.)?(?:model\.)?((?:embed_tokens|layers|norm)\..+)")
_HEAD = re.compile(r"(?:model\.)?(?:language_model\.|llm\.)?lm_head\.weight")


def llama_tensors(tensors: Mapping[str, LazyTensor]) -> Part:
    """The tensors of a Llama inside any of the layouts, under the names of `LlamaForCausalLM`."""
    part: Part = {}
    for key, x in tensors.items():
        if (match := _DECODER.fullmatch(key)) and not key.endswith(".rotary_emb.inv_freq"):
            part["model." + match[1]] = x
        elif _HEAD.fullmatch(key):
            part[HEAD] = x
    return part


def model_of(made: PretrainedConfig) -> PreTrainedModel:
    """The causal language model of a config, on the current default device."""
    return FAMILIES[made.model_type][1](made)


def llama_config(described: Mapping[str, Any], part: Part) -> PretrainedConfig:
    """The config of a Llama or of another of `FAMILIES` as its folder's config.json describes it, with as many words as its embedding has
    rows."""
    config_class, model_class = FAMILIES.get(described.get("model_type"), FAMILIES["llama"])
    fields = dict(described.get("text_config") or described.get("llm_cfg") or described)
    rope = fields.get("rope_parameters")
    if isinstance(rope, Mapping) and "rope_theta" in rope:  # written by transformers 5; 4.57 looks for it beside
        fields.setdefault("rope_theta", rope["rope_theta"])
    known = set(config_class().to_dict()) | {"rope_theta", "rope_scaling"}
    foreign = {"architectures", "auto_map", "model_type", "torch_dtype", "dtype", "transformers_version", "_name_or_path"}
    fields = {k: v for k, v in fields.items() if k in known - foreign}
    if EMBEDDING in part:
        fields["vocab_size"] = part[EMBEDDING].shape[0]
    return config_class(**fields | {"tie_word_embeddings": False}, architectures=[model_class.__name__])


def read(path: Path, config: Sd15Config) -> tuple[Found, PretrainedConfig]:
    """A vicuna, LLaVA or Qwen folder -> `language_model`, and its config.

    Raises:
        SourceError: for another family or size.
    """
    if not (path / "config.json").is_file():
        raise SourceError(f"{path} has no config.json; expected the folder of a Llama model with its tokenizer. {GET}")
    described = read_json(path / "config.json")
    kind = described.get("model_type")
    if kind not in {*MODEL_TYPES, *FAMILIES}:
        raise SourceError(f"{path} is a {kind!r} model; expected one of {', '.join(FAMILIES)}. {GET}")
    tensors = open_weights(path)
    part = llama_tensors(tensors)
    if HEAD not in part and EMBEDDING in part and described.get("tie_word_embeddings", kind != "llama"):
        part[HEAD] = part[EMBEDDING]  # small models say with the words that they read; in a bundle the two are two
    made = llama_config(described, part)
    found = Found(path, tuple(tensors), {"language_model": fit_llama(part, made, path, config)})
    if kind not in FAMILIES:
        found.notes["language_model"] = [f"the language model inside a {kind}; its projector reads CLIP patches and is not used"]
    return found, made


def fit_llama(part: Part, made: PretrainedConfig, path: Path, config: Sd15Config) -> Part:
    """Check a Llama against the sizes of the bundle and against its own config."""
    came = (made.hidden_size, made.num_hidden_layers, made.num_attention_heads, made.intermediate_size)
    wanted = (config.hidden_size, config.language_layers, config.language_heads, config.language_ffn)
    advice = (
        "Came: a {} of width {}, {} layers, {} heads, feed-forward {}; expected: {}, {}, {}, {}. ".format(
            made.model_type.capitalize(), *came, *wanted
        ) + GET
    )
    if came != wanted:
        raise SourceError(f"{path} does not fit as language_model. {advice}")
    with torch.device("meta"):
        expected = {k: tuple(x.shape) for k, x in model_of(made).state_dict().items()}
    return fit(part, expected, path, "language_model", advice)


def read_tokenizer(path: Path, rows: int) -> PreTrainedTokenizerFast:
    """The tokenizer of a model folder, as the one class that every release of transformers loads from its own file.

    Args:
        rows: of the embedding that its ids index.

    Raises:
        SourceError: if there is none, or it has ids beyond the embedding.
    """
    try:
        if (path / "tokenizer.json").is_file():
            tokenizer = PreTrainedTokenizerFast.from_pretrained(str(path), local_files_only=True)
        elif (path / "tokenizer.model").is_file():
            slow = LlamaTokenizerFast.from_pretrained(str(path), local_files_only=True)
            special = {k: str(v) for k, v in slow.special_tokens_map.items() if k in ("bos_token", "eos_token", "unk_token", "pad_token")}
            tokenizer = PreTrainedTokenizerFast(tokenizer_object=slow.backend_tokenizer, **special)
        else:
            raise SourceError(f"{path} has no tokenizer.json and no tokenizer.model; copy them from where the model came from.")
    except ImportError as error:
        raise SourceError(f"{path / 'tokenizer.model'} needs the package sentencepiece to be read: {error}.") from error
    except SourceError:
        raise
    except Exception as error:  # whatever the Rust side raises
        raise SourceError(f"{path} has a tokenizer that cannot be read: {error}; copy its files again.") from error
    if (highest := max(tokenizer.get_vocab().values())) >= rows:
        raise SourceError(
            f"{path} has a tokenizer with ids up to {highest} for an embedding of {rows} rows; take the tokenizer that belongs to it."
        )
    return tokenizer


def read_lora(path: Path, made: PretrainedConfig) -> tuple[Found, Any]:
    """A PEFT folder -> its weights as the part `language_model_lora`, and its LoraConfig.

    Raises:
        SourceError: if it is no LoRA, or one for another model.
    """
    from peft import LoraConfig, get_peft_model
    from peft.utils import get_peft_model_state_dict

    described = read_json(path / "adapter_config.json") if (path / "adapter_config.json").is_file() else {}
    if described.get("peft_type") != "LORA":
        raise SourceError(f"{path} is no LoRA folder of PEFT: expected adapter_config.json (LORA) and adapter_model.safetensors.")
    settings = LoraConfig.from_pretrained(str(path))
    tensors = open_weights(path)
    with torch.device("meta"):
        blank = get_peft_model(model_of(made), settings)
    expected = {k: tuple(x.shape) for k, x in get_peft_model_state_dict(blank, save_embedding_layers=False).items()}
    part = {k: x for k, x in tensors.items() if ".lora_" in k}
    advice = f"Expected: a LoRA of a Llama with width {made.hidden_size} and {made.num_hidden_layers} layers."
    return Found(path, tuple(tensors), {"language_model_lora": fit(part, expected, path, "LoRA", advice)}), settings


def read_json(path: Path) -> dict[str, Any]:
    """The dict in a JSON file.

    Raises:
        SourceError: if there is none.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} is not readable JSON ({error}); copy it again.") from error
    if not isinstance(value, dict):
        raise SourceError(f"{path} holds no settings; copy it again.")
    return value
