# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEdit's nodes from loader to picture, as a graph runs them, with all their outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.host.inside.pack import nodes  # first: it makes the pack importable
from tests.host.small import INSTRUCTION, picture, shared_bundle

from fireedit_pack.nodes.host import models  # isort: skip

GROUPS = ("vision", "language", "detector", "injection")


def load(folder: Path | None = None) -> tuple:
    """FIREEDIT, MODEL, VAE."""
    return models.load(folder or shared_bundle(), "small")


def image(count: int = 2) -> Tensor:
    return torch.stack([torch.from_numpy(picture(seed=i)).float() / 255 for i in range(count)])


def run(loaded: tuple, pictures: Tensor, mask: Tensor | None = None, steps: int = 2) -> dict[str, tuple]:
    """The outputs of every node by its name."""
    handle, model, vae = loaded
    out = {}
    out["detect"] = nodes.FireEditRegionDetect.execute(handle, pictures, 0.15, 0.6, 100).args
    out["tokenize"] = nodes.FireEditRegionTokenize.execute(handle, pictures, out["detect"][0]).args
    out["condition"] = nodes.FireEditVLMConditioning.execute(handle, out["tokenize"][0], pictures, vae, INSTRUCTION, 0, mask).args
    out["apply"] = nodes.FireEditApply.execute(model, handle, 1.0, 1.0, 0.0, 1.0).args
    out["sample"] = nodes.FireEditSample.execute(
        out["apply"][0], *out["condition"][:3], vae, pictures, 3, steps, "euler", "simple", 2.0, 1.5, 1.0, "soft", out["condition"][4]
    ).args
    return out


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor that an output holds, however deep; weights of models are no outputs."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from tensors(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from tensors(one)
    elif dataclasses.is_dataclass(value):
        yield from tensors([getattr(value, field.name) for field in dataclasses.fields(value)])
    elif type(value).__name__ in ("CONDRegular", "SpatialCond"):
        yield from tensors(value.cond)


def held(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name."""
    return dict(module.named_parameters()) | dict(module.named_buffers())
