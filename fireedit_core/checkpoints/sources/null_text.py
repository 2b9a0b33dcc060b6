# SPDX-License-Identifier: GPL-3.0-or-later
"""CLIP(""), the condition that InstructPix2Pix was trained with where the text is dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .fit import Part
from .lazy_tensor import LazyTensor, derived

if TYPE_CHECKING:
    from ..sd15 import Sd15Config


def null_embedding(text: Part, config: Sd15Config) -> LazyTensor | None:
    """The last hidden state (1, 77, context_size) of CLIP's text tower for "", later; None if it is not that tower.

    Args:
        text: tensors below `text_model.`. No tokenizer is needed: "" is the start token and 76 end tokens, which are also the
            padding; they are the last two of the vocabulary.
    """
    expected = config.text_shapes()
    part = {key: x for key, x in text.items() if key in expected}
    if {k: x.shape for k, x in part.items()} != expected:
        return None
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
