# SPDX-License-Identifier: GPL-3.0-or-later
"""Every difference between hosts, one name each, with the version it came in. Nodes import the node API from here.

Lowest host: ComfyUI 0.3.75. `comfy_api.v0_0_2` is the version that a core maintainer advises (`latest` moves); on 0.3.75
it exports lowercase `io` and `ui`, not `IO`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import comfy.model_management as management
import comfy.model_sampling
import torch
from comfy_api.v0_0_2 import ComfyAPI, ComfyExtension, io, ui

__all__ = [
    "CATEGORY", "RARE", "ComfyExtension", "add_route", "intermediate_dtype", "io", "known", "latent_cell", "middle_block", "replace_nodes",
    "running_server", "schema", "ui", "x0_sampling",
]  # fmt: skip

CATEGORY = "FireEdit"


def known(kind: Callable[..., Any], **options: Any) -> dict[str, Any]:
    """Those of the options that this host's `kind` takes."""
    return {name: value for name, value in options.items() if name in inspect.signature(kind).parameters}


def schema(**fields: Any) -> io.Schema:
    """`io.Schema` without the fields that this host does not know, e.g. `search_aliases` (host 0.11.0, 2026-01)."""
    return io.Schema(**known(io.Schema, **fields))


RARE = known(io.Float.Input, advanced=True)
"""For the widgets that few need: a host that can (2026-01) shows them when one asks for it. `io.Int.Input("zoom", default=512, **RARE)`."""


async def replace_nodes(replacements: Iterable[Mapping[str, Any]]) -> None:
    """Tell a host that can replace nodes (2026-02) which of ours stand for older ones; others drop a workflow's unknown nodes as ever.

    Args:
        replacements: arguments of `io.NodeReplace`, e.g. {"old_node_id": "FireEditOld", "new_node_id": "FireEditNew", "input_mapping":
            [{"old_id": "picture", "new_id": "image"}]}.
    """
    registry = getattr(ComfyAPI(), "node_replacement", None)
    if registry is None:
        return
    for replacement in replacements:
        await registry.register(io.NodeReplace(**replacement))


def running_server() -> Any | None:
    """The host's PromptServer; None in a tool that has imported the nodes without starting one. Never imports it: that starts things."""
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)


def intermediate_dtype() -> torch.dtype:
    """Type of values between nodes: float32, or float16 where the user asked for it (--fp16-intermediates, host 0.18.0, 2026-03)."""
    ask = getattr(management, "intermediate_dtype", None)
    return torch.float32 if ask is None else ask()


def add_route(path: str, answer: Any) -> None:
    """GET `path`, where there is a server; once, because aiohttp refuses to start with a route that is there twice."""
    server = running_server()
    if server is not None and not any(getattr(route, "path", "") == path for route in server.routes):
        server.routes.get(path)(answer)


def middle_block(block: tuple[str, int]) -> tuple[str, int]:
    """One name for the middle block: 0.3.75 calls it ("middle", 0); packs and older hosts also write ("middle", 1)."""
    return ("middle", 0) if block[0] == "middle" else block


# Pixels per latent cell where it is not 8, by the class of the latent format; newer hosts say it themselves (2026-03).
_CELLS = {
    "ChromaRadiance": 1, "SC_B": 4, "Flux2": 16, "Wan22": 16, "HunyuanImage21Refiner": 16, "HunyuanVideo15": 16, "HunyuanImage21": 32,
    "LTXV": 32, "SC_Prior": 42,
}  # fmt: skip


def latent_cell(latent_format: Any) -> int:
    """Pixels per side that one cell of a model's latents stands for."""
    known_here = getattr(latent_format, "spacial_downscale_ratio", None)
    return int(known_here or _CELLS.get(type(latent_format).__name__, 8))


def x0_sampling(model_config: Any) -> Any:
    """Model sampling for a UNet that predicts the clean latent. 0.3.75 has the parts, but no `ModelType` for them."""

    class FireEditX0(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.X0):
        pass

    return FireEditX0(model_config)
