# SPDX-License-Identifier: GPL-3.0-or-later
"""Open the weight files that people have: safetensors, one or sharded; and, here alone, pickles, without running their code."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..weights import PICKLES
from .fit import SourceError
from .lazy_tensor import LazyTensor

FLOATING = ("F16", "BF16", "F32", "F64")


def open_weights(path: Path | str) -> dict[str, LazyTensor]:
    """Every tensor of a file or a folder by key; nothing but headers is read.

    A folder may hold one file or shards with an index, as `save_pretrained` writes them; safetensors go before pickles.

    Raises:
        SourceError: if nothing is there, a file is broken or missing, or a pickle holds more than tensors.
    """
    path = Path(path)
    if not path.exists():
        raise SourceError(f"{path} does not exist.")
    found: dict[str, LazyTensor] = {}
    for file in _files(path) if path.is_dir() else [path]:
        if file.suffix == ".safetensors":
            found |= _open_safetensors(file, path)
        elif file.suffix in PICKLES:
            found |= _open_pickle(file, path)
        else:
            raise SourceError(f"{file} is no weight file; expected .safetensors, or one of {', '.join(PICKLES)}.")
    return found


def _files(folder: Path) -> list[Path]:
    for pattern in ("*.safetensors", "*.bin", "*.pth", "*.ckpt", "*.pt"):
        indices = sorted(folder.glob(pattern + ".index.json"))
        files = sorted(folder.glob(pattern))
        if indices:
            return _shards(indices[0])
        if len(files) > 1:
            usual = [f for f in files if f.stem in ("model", "diffusion_pytorch_model", "pytorch_model")]
            if len(usual) != 1:
                raise SourceError(
                    f"{folder} holds {len(files)} weight files ({files[0].name}, {files[1].name}, ...) and no {pattern}.index.json "
                    "that says how they belong together; copy the index too, or name one file."
                )
            files = usual
        if files:
            return files
    raise SourceError(f"{folder} holds no weights: expected *.safetensors (or *.bin), with an *.index.json if there are several.")


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise SourceError(f"{index} is no index of shards ({error}); copy it again.") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise SourceError(f"{index} names {name!r}, which is no file beside it.")
        if not (index.parent / name).is_file():
            raise SourceError(f"{index.parent} lacks the shard {name} of {len(names)}; copy the folder again.")
    return [index.parent / name for name in names]


def _open_safetensors(file: Path, source: Path) -> dict[str, LazyTensor]:
    try:
        handle = safe_open(str(file), "pt")
        keys = list(handle.keys())
    except (SafetensorError, OSError, ValueError) as error:
        raise SourceError(f"{file} is truncated or no safetensors file ({error}); copy it again.") from error
    except RuntimeError as error:  # the library maps the whole file, which the system refuses beyond its memory
        raise SourceError(
            f"{file} could not be opened ({error}). A file must be smaller than the memory: save_pretrained(folder, "
            'max_shard_size="5GB") splits it.'
        ) from error

    def lazy(key: str) -> LazyTensor:
        header = handle.get_slice(key)
        floating = header.get_dtype() in FLOATING
        return LazyTensor(tuple(header.get_shape()), lambda: handle.get_tensor(key), frozenset({(source, key)}), floating)

    return {key: lazy(key) for key in keys}


def _open_pickle(file: Path, source: Path) -> dict[str, LazyTensor]:
    try:
        held = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise SourceError(
            f"{file} is a pickle that holds more than tensors, and restoring that would run code out of the file: {_reason(error)}. "
            "Take the safetensors version of this checkpoint, or convert it where you trust it: torch.load it there and "
            "safetensors.torch.save_file its state_dict."
        ) from error
    except (RuntimeError, OSError, ValueError, EOFError) as error:
        raise SourceError(
            f"{file} could not be opened as a PyTorch file ({_reason(error)}); copy it again, or take the safetensors version. Files "
            "from before PyTorch 1.6 must be saved anew."
        ) from error
    tensors = _flatten(held)
    if not tensors:
        raise SourceError(f"{file} holds no tensors.")
    return {
        key: LazyTensor(tuple(x.shape), lambda x=x: x, frozenset({(source, key)}), x.is_floating_point())
        for key, x in tensors.items()
    }  # fmt: skip


def _flatten(held: object) -> dict[str, Tensor]:
    if not isinstance(held, Mapping):
        return {}
    if isinstance(held.get("state_dict"), Mapping):  # as trainers save it, beside their own state
        held = held["state_dict"]
    flat: dict[str, Tensor] = {}
    for key, value in held.items():
        if isinstance(value, Tensor):
            flat[str(key)] = value
        elif isinstance(value, Mapping):  # IP-Adapter's {"image_proj": {...}, "ip_adapter": {...}}
            flat |= {f"{key}.{inner}": x for inner, x in _flatten(value).items()}
    return flat


def _reason(error: Exception) -> str:
    # torch's message goes on for a page about how to switch the protection off
    text = " ".join(str(error).split())
    start = text.find("Unsupported global")
    return text[start if start >= 0 else 0 :][:160].rstrip(". ")
