# SPDX-License-Identifier: GPL-3.0-or-later
"""CLIP's text tower, with which InstructPix2Pix was trained, and CLIP(""), its condition where the text is dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .fit import Part
from .lazy_tensor import LazyTensor, derived

if TYPE_CHECKING:
    from ..sd15 import Sd15Config


def text_parts(text: Part, config: Sd15Config) -> dict[str, Part]:
    """What a text tower gives a bundle: itself as `text_encoder`, and CLIP("") as TATI's null embedding; nothing if it is not CLIP-L's.

    Args:
        text: tensors below `text_model.`.
    """
    expected = config.text_shapes()
    part = {key: text[key] for key in expected if key in text}
    if {k: x.shape for k, x in part.items()} != expected:
        return {}
    return {"text_encoder": {"text_model." + k: x for k, x in part.items()}, "tati": {"null_embedding": _null_embedding(part, config)}}


def _null_embedding(part: Part, config: Sd15Config) -> LazyTensor:
    """The last hidden state (1, 77, context_size) of the tower for "", later.

    No tokenizer is needed: "" is the start token and 76 end tokens, which are also the padding; they are the last two of the vocabulary.
    """
    names = list(part)

    def encode(*weights: Tensor) -> Tensor:
        model = config.text_tower()
        own = {name.removeprefix("text_model."): name for name in model.state_dict()}
        model.load_state_dict({own[n]: w.float() for n, w in zip(names, weights, strict=True)})
        start = config.text_vocabulary - 2
        ids = torch.tensor([[start] + [start + 1] * (config.queries - 1)])
        with torch.no_grad():
            return model.eval()(input_ids=ids).last_hidden_state

    return derived([part[n] for n in names], encode, (1, config.queries, config.context_size))
