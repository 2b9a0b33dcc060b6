# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a component from tensors that are read one by one, so that a 7B model needs the memory of one shard."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import ModelMixin
from safetensors.torch import save_file
from torch import Tensor, nn

from .portable import make_portable
from .sources.fit import SourceError
from .sources.lazy_tensor import LazyTensor

SHARD_BYTES = 2 * 1024**3


def write_component(
    folder: Path, blank: nn.Module, tensors: Mapping[str, LazyTensor], dtype: torch.dtype, shard: int | None = None
) -> None:
    """A component folder as `save_pretrained` writes it: config.json and safetensors.

    Args:
        blank: the component, on any device, for its config alone. tensors: all of its weights under published names.
        shard: bytes of one file, None for one file in all. Only the language model is large enough to be cut.
    """
    folder.mkdir(parents=True)
    if isinstance(blank, ModelMixin):
        blank.save_config(str(folder))
        stem = "diffusion_pytorch_model"
    else:
        blank.config.architectures = [type(blank).__name__]
        blank.config.dtype = dtype
        blank.config.save_pretrained(str(folder))
        stem = "model"
    write_weights(folder, stem, tensors, dtype, shard)
    make_portable(folder)


def write_weights(
    folder: Path, stem: str, tensors: Mapping[str, LazyTensor], dtype: torch.dtype, shard: int | None = None
) -> None:
    """`stem`.safetensors in `folder`, or several of at most `shard` bytes (a larger tensor has one of its own) and their index."""
    groups: list[list[str]] = [[]]
    filled = 0
    for key, x in tensors.items():
        size = byte_size(x, dtype)
        if shard is not None and groups[-1] and filled + size > shard:
            groups.append([])
            filled = 0
        groups[-1].append(key)
        filled += size
    names = [f"{stem}-{i + 1:05d}-of-{len(groups):05d}.safetensors" for i in range(len(groups))]
    if len(groups) == 1:
        names = [f"{stem}.safetensors"]
    for name, keys in zip(names, groups, strict=True):
        save_file({k: _written(k, tensors[k], dtype) for k in keys}, str(folder / name), {"format": "pt"})
    if len(groups) > 1:
        total = sum(byte_size(x, dtype) for x in tensors.values())
        where = {key: name for name, keys in zip(names, groups, strict=True) for key in keys}
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _written(key: str, x: LazyTensor, dtype: torch.dtype) -> Tensor:
    """A tensor as it goes to disk. Raises SourceError where it cannot be said in that type: a bundle of infinities edits into black."""
    held = x.load()
    # a copy of its own for every tensor: those of a pickle may share their memory, which safetensors refuses
    made = held.to(dtype, copy=True).contiguous()
    if not made.isfinite().all():
        files = ", ".join(sorted({str(path) for path, _ in x.origins})) or "a fresh start"
        kind = str(dtype).removeprefix("torch.")
        fault = f"numbers beyond what {kind} holds; give another --dtype" if held.isfinite().all() else "what is no number; copy it again"
        raise SourceError(f"{files}: {key} holds {fault}")
    return made


def byte_size(x: LazyTensor, dtype: torch.dtype) -> int:
    """Bytes of a tensor on disk."""
    return math.prod(x.shape) * dtype.itemsize
