# SPDX-License-Identifier: GPL-3.0-or-later
"""Libraries that set the number of threads of the whole process, as pymatting does by way of numba's OpenMP, are held to its own.

Torch shares OpenMP with them; with another number of threads the host's own results would differ in the last bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def kept_threads() -> Iterator[None]:
    """Whatever happens inside, torch has as many threads afterwards as before."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def keeping_threads(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, called within `kept_threads`."""

    @functools.wraps(function)
    def kept(*args: Any, **kwargs: Any) -> Any:
        with kept_threads():
            return function(*args, **kwargs)

    return kept
