# SPDX-License-Identifier: GPL-3.0-or-later
"""SmartEdit's Q-Former (architecture notes 2.3): `checkpoint-15000_embeddings_qformer.bin` of TencentARC/SmartEdit-7B.

Its language model rows and projector in the same file belong to LLaVA 1.1 and are left.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from .fit import Found, Part, SourceError, fit
from .weight_files import open_weights

if TYPE_CHECKING:
    from ..sd15 import Sd15Config

GET = "Get embeddings_qformer/checkpoint-15000_embeddings_qformer.bin of TencentARC/SmartEdit-7B."
QUERIES = "sd_query_tokens"
_LAYERS = re.compile(r"(?:.+\.)?sd_qformer\.(?:bert\.)?(embeddings\.LayerNorm|encoder\.layer)\.(.+)")


def read(path: Path, config: Sd15Config) -> Found:
    """The file -> `qformer`.

    Raises:
        SourceError: if it holds no Q-Former, or one of another shape.
    """
    tensors = open_weights(path)
    part: Part = {}
    for key, x in tensors.items():
        if key.split(".")[-1] == QUERIES:
            part["query_tokens"] = x
        elif match := _LAYERS.fullmatch(key):
            part[_name(match[1], match[2])] = x
    if not part:
        some = ", ".join(sorted(tensors)[:3])
        raise SourceError(f"{path} holds no Q-Former of SmartEdit: expected {QUERIES} and sd_qformer.*, came {some} ... {GET}")
    queries = part["query_tokens"].shape if "query_tokens" in part else "no"
    advice = f"Came: queries {queries}; expected: (1, {config.queries}, {config.context_size}), states of width {config.hidden_size}. {GET}"
    notes = {"qformer": ["trained on LLaVA 1.1 and CLIP patches: a start, to be trained on"]}
    return Found(path, tuple(tensors), {"qformer": fit(part, config.shapes("qformer"), path, "qformer", advice)}, notes)


def _name(kind: str, rest: str) -> str:
    """SmartEdit's name (BERT, as in LAVIS) -> BLIP-2's in transformers."""
    if kind != "encoder.layer":
        return "qformer.layernorm." + rest
    return "qformer.encoder.layer." + rest.replace("attention.self.", "attention.attention.")
