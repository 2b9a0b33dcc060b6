# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds a model to a JSON schema while it writes, with llguidance where it is installed (optional: `pip install llguidance`)."""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor

logger = logging.getLogger("fireedit")

LIBRARY = "llguidance"
_said = False


class Vocabulary:
    """A tokenizer as the library wants it. Making one takes about a second for 150,000 tokens, so a model keeps its own.

    Attributes:
        ready: whether there is one: the library is installed and can read this tokenizer.
    """

    def __init__(self, tokenizer: Any, size: int, ends: Sequence[int]):
        """size: of the model's logits. ends: tokens that end a reply."""
        self._made = _vocabulary(tokenizer, size, ends)
        self.ready = self._made is not None

    def constraint(self, schema: dict[str, Any]) -> Constraint | None:
        """What holds one reply to a schema; None where that cannot be, which is logged."""
        if self._made is None:
            return None
        from llguidance import LLMatcher

        # spaced as models have seen most JSON, and no blanks without end
        form = {"whitespace_flexible": False, "key_separator": ": ", "item_separator": ", "}
        grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=form)
        matcher = LLMatcher(self._made, grammar, log_level=0)
        if matcher.is_error():
            logger.warning("FireEdit: %s does not take the form of the answer (%s); replies are read as they come", LIBRARY,
                           matcher.get_error())  # fmt: skip
            return None
        return Constraint(matcher)


class Constraint(LogitsProcessor):
    """Rules out every token with which one reply would leave the schema; one row, for one call of `generate`."""

    def __init__(self, matcher: Any):
        self._matcher, self._length = matcher, None

    @property
    def done(self) -> bool:
        """Whether the reply is complete, or the library gave up."""
        return self._matcher.is_stopped()

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """scores: (1, vocabulary); those of tokens that cannot follow become -inf."""
        if self._length is not None:
            for token in input_ids[0, self._length :].tolist():
                self._matcher.consume_token(token)
        self._length = input_ids.shape[1]
        if self._matcher.is_error():
            return scores
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), np.uint8), bitorder="little")
        allowed = torch.zeros(scores.shape[-1], dtype=torch.bool)
        count = min(len(bits), len(allowed))
        allowed[:count] = torch.from_numpy(bits[:count].astype(bool))
        return scores.masked_fill(~allowed.to(scores.device), float("-inf")) if allowed.any() else scores


def _vocabulary(tokenizer: Any, size: int, ends: Sequence[int]) -> Any:
    global _said
    if importlib.util.find_spec(LIBRARY) is None:
        if not _said:
            logger.info("FireEdit: %s is not installed, so language models answer freely and are asked again where that cannot be read "
                        "(pip install %s)", LIBRARY, LIBRARY)  # fmt: skip
            _said = True
        return None
    try:
        from llguidance.hf import from_tokenizer

        return from_tokenizer(tokenizer, n_vocab=max(size, len(tokenizer)), eos_token=list(ends) or None)
    except Exception as error:  # a tokenizer that is none of Rust's, or of an unknown make: whatever the library raises
        logger.info("FireEdit: %s cannot read this tokenizer (%s), so the model answers freely", LIBRARY, error)
        return None
