# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON that people write and correct by hand, read without what JSON readers let through: NaN, a key twice, nesting without end."""

from __future__ import annotations

import json
from typing import Any

_MOST = 500_000  # characters; what is longer was not meant as a record, and would only cost time and space further on
_MOST_DIGITS = 20  # of a whole number


def parsed(text: Any, what: str) -> Any:
    """The values of a JSON text.

    Args:
        what: name of the text in messages: "answer", "selection".

    Raises:
        ValueError: in words, for anything that is no JSON, and what no reader agrees on.
    """
    if not isinstance(text, str):
        raise ValueError(f"The {what} must be JSON text, got {type(text).__name__}.")
    if len(text) > _MOST:
        raise ValueError(f"The {what} may have up to {_MOST} characters, got {len(text)}.")
    if not text.strip():
        raise ValueError(f"The {what} is empty text; it must be a JSON object in {{...}}.")

    def integer(digits: str) -> int:
        if len(digits) > _MOST_DIGITS:
            raise ValueError(f"The {what} holds a number of {len(digits)} digits, which cannot be meant.")
        return int(digits)

    def no_constant(name: str) -> float:
        raise ValueError(f"The {what} holds {name}, which is no number that can be used.")

    def no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = str([key for key, _ in pairs])
            raise ValueError(f"The {what} names a key twice among {keys[:80]}; which one counts is not clear.")
        return found

    try:
        return json.loads(text.lstrip("\ufeff"), parse_int=integer, parse_constant=no_constant, object_pairs_hook=no_key_twice)
    except json.JSONDecodeError as error:
        raise ValueError(f"The {what} is no valid JSON: {error.msg} in line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise ValueError(f"The {what} is no valid JSON record: it is nested too deeply.") from None
