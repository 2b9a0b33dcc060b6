# SPDX-License-Identifier: GPL-3.0-or-later
"""The weights that training changes, in float16 and in files of at most `PIECE` bytes: to bring them off a machine that lets little out,
and to keep them between machines without a second copy of all that stays the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..whole_files import write_json
from .diffusion import LANGUAGE, TRAINED

PIECE = 15 * 2**20
RECORD = "pieces.json"
PARTS = (*TRAINED, *LANGUAGE)


def write_pieces(out: Path, parts: dict[str, torch.nn.Module], record: dict[str, Any]) -> None:
    """Weights in float16 as `weights-N.safetensors` of at most `PIECE` bytes, then the record that names them."""
    states = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
    tensors = {key: value.detach().half().cpu().contiguous() for key, value in states.items()}
    files: list[dict[str, Tensor]] = [{}]
    room = PIECE
    for key in sorted(tensors, key=lambda k: -tensors[k].nbytes):
        if tensors[key].nbytes > room and files[-1]:
            files.append({})
            room = PIECE
        files[-1][key] = tensors[key].clone()
        room -= tensors[key].nbytes
    names = [f"weights-{i}.safetensors" for i in range(len(files))]
    for name, piece in zip(names, files, strict=True):
        save_file(piece, out / f"{name}.new")
        (out / f"{name}.new").replace(out / name)
    write_json(out / RECORD, record | {"pieces": names})


def read_pieces(folder: Path, components: dict[str, Any]) -> dict[str, Any]:
    """Put the weights of pieces into components; returns their record.

    Raises:
        ValueError: if the pieces do not hold exactly the weights of the trained parts.
        OSError: if one is missing.
    """
    record = json.loads((folder / RECORD).read_text())
    tensors: dict[str, Tensor] = {}
    for name in record["pieces"]:
        tensors |= load_file(folder / name)
    for name in PARTS:
        own = {key.removeprefix(f"{name}."): value.float() for key, value in tensors.items() if key.startswith(f"{name}.")}
        try:
            components[name].load_state_dict(own)
        except RuntimeError as error:
            raise ValueError(f"the pieces in {folder} do not fit {name} of this bundle: {error}") from error
    return record
