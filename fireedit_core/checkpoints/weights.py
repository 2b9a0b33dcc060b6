# SPDX-License-Identifier: GPL-3.0-or-later
"""Which weight files are opened: safetensors, and nothing that could run code."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def check_weights(folder: Path | str, wanted: str = "*.safetensors") -> None:
    """Make sure that a folder holds whole safetensors files; pickles beside them are never looked at.

    Args:
        wanted: name of the file that must be there; by default any.

    Raises:
        ValueError: naming the file that is a pickle, truncated or missing, and what mends it.
    """
    folder = Path(folder)
    files = sorted(folder.glob("*.safetensors"))
    if not any(file.match(wanted) for file in files):
        pickles = sorted(f.name for f in folder.iterdir() if f.suffix in PICKLES)
        if pickles:
            raise ValueError(
                f"{folder / pickles[0]} is a pickle, which can run code when it is loaded; FireEdit loads only safetensors. Convert "
                "it where you trust it: model.save_pretrained(folder, safe_serialization=True) in the library that made it, or "
                "torch.load(..., weights_only=True) and safetensors.torch.save_file."
            )
        raise ValueError(f"{folder} has no {wanted}; copy the folder again.")
    for file in files:
        try:
            with safe_open(str(file), "pt") as handle:
                handle.keys()
        except (SafetensorError, OSError, ValueError) as error:
            raise ValueError(f"{file} is truncated or no safetensors file ({error}); copy it again.") from error


def stored_keys(file: Path | str) -> list[str]:
    """Names of the tensors in a safetensors file."""
    with safe_open(str(file), "pt") as handle:
        return list(handle.keys())


def stored_dtype(folder: Path | str) -> torch.dtype:
    """The type that holds the weights of a folder as they are on disk: float16 or bfloat16 where all are that, else float32."""
    kinds = set()
    for file in Path(folder).glob("*.safetensors"):
        with safe_open(str(file), "pt") as handle:
            kinds |= {handle.get_slice(key).get_dtype() for key in handle.keys()}
    return {"F16": torch.float16, "BF16": torch.bfloat16}.get(next(iter(kinds), ""), torch.float32) if len(kinds) == 1 else torch.float32
