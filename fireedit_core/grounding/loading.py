# SPDX-License-Identifier: GPL-3.0-or-later
"""A language model that sees, from a folder of transformers: config.json, *.safetensors, the processor's files. Nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..checkpoints.weights import check_weights
from .dialects import dialect_of

if TYPE_CHECKING:
    from .chat import ChatModel
    from .florence import FlorenceModel

FLORENCE = "florence2"


def sees_and_speaks(config: Any) -> bool:
    """Whether the values of a config.json look like those of a model that sees and speaks, without loading a library."""
    return isinstance(config, dict) and bool(config.get("model_type")) and ("vision_config" in config or config["model_type"] == FLORENCE)


def read_config(folder: Path | str) -> dict[str, Any]:
    """The values of a folder's config.json.

    Raises:
        ValueError: where there is none that can be read.
    """
    file = Path(folder) / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} cannot be read ({error}); copy the folder again.") from error
    if not isinstance(config, dict):
        raise ValueError(f"{file}: expected an object, got {type(config).__name__}.")
    return config


def load_grounder(folder: Path | str, dtype: torch.dtype = torch.float32) -> ChatModel | FlorenceModel:
    """The model of a folder, on the CPU in `dtype`.

    Raises:
        ValueError: for pickled, quantized or broken weights, a folder without a processor or a chat template, a model that needs code of
            its own, and one that does not see or speak; the message says what mends it.
        ImportError: if it needs a package that is not installed.
    """
    import transformers

    folder = Path(folder)
    given = read_config(folder)
    check_weights(folder)
    _check_shards(folder)
    kind, local = str(given.get("model_type")), {"local_files_only": True, "trust_remote_code": False}
    if "quantization_config" in given:
        method = given["quantization_config"]
        method = method.get("quant_method", "") if isinstance(method, dict) else ""
        raise ValueError(
            f"{folder.name} is quantized ({method or 'of unknown method'}), and the host could not move it between the card and memory. "
            "Take the folder in bfloat16 or float16."
        )
    auto = transformers.AutoModelForImageTextToText
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **local)
        if type(config) not in auto._model_mapping:
            raise ValueError(f"a model of type {config.model_type!r} does not look at a picture and answer")
        network, loaded = auto.from_pretrained(
            folder, config=config, use_safetensors=True, output_loading_info=True, dtype=dtype, attn_implementation="sdpa", **local
        )
        processor = transformers.AutoProcessor.from_pretrained(folder, **local)
    except ImportError:
        raise
    except Exception as error:  # a broken config, tokenizer or processor ends in whatever its library raises
        more = " It needs code of its own, which FireEdit does not run." if "trust_remote_code" in str(error) else ""
        raise ValueError(f"{folder.name} could not be loaded as a language model that sees: {error}{more}") from error
    if missing := sorted(loaded["missing_keys"]):
        mend = "take the converted folder, for example florence-community/Florence-2-base" if kind == FLORENCE else "copy it again"
        raise ValueError(f"{folder.name} has no weights for {len(missing)} parameters, the first is {missing[0]}; {mend}.")
    if not hasattr(processor, "tokenizer") or not hasattr(processor, "image_processor"):
        raise ValueError(f"{folder.name} has no processor for pictures and text; copy all its files, not only the weights.")
    if kind == FLORENCE:
        from .florence import FlorenceModel

        return FlorenceModel(network, processor, folder.name, dtype)
    from .chat import ChatModel

    return ChatModel(network, processor, dialect_of(kind), folder.name, dtype)


def _check_shards(folder: Path) -> None:
    """An index may only name safetensors files beside it.

    Raises:
        ValueError: for one that names others, or cannot be read.
    """
    for index in sorted(folder.glob("*.index.json")):
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{index} cannot be read ({error}); copy the folder again.") from error
        for name in sorted(map(str, names)):
            if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
                raise ValueError(f"{index} names {name!r}, which is no safetensors file of this folder; do not use it.")
            if not (folder / name).is_file():
                raise ValueError(f"{folder} lacks {name}; copy the folder again.")
