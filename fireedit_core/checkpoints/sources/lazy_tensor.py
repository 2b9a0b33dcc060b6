# SPDX-License-Identifier: GPL-3.0-or-later
"""A tensor that is known by shape and origin and read from its file only when it is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Origin = tuple[Path, str]


@dataclass(frozen=True)
class LazyTensor:
    """What a key map works with, so that a 7B model can be renamed, checked and copied without ever being in memory.

    Attributes:
        shape: of the tensor that `load` returns.
        load: reads or computes it, on the CPU, in the floating point type of the file.
        origins: (source, key) of every tensor in a file that it is made of; empty if it is a fresh one.
        floating: whether the file holds it in a plain floating point type (no quantised one).
    """

    shape: tuple[int, ...]
    load: Callable[[], Tensor]
    origins: frozenset[Origin] = frozenset()
    floating: bool = True

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, index: Any) -> LazyTensor:
        return self.then(lambda x: x[index])

    def then(self, change: Callable[[Tensor], Tensor]) -> LazyTensor:
        """This tensor after `change`, which must also work on the meta device."""
        return derived([self], change)


def derived(parts: Sequence[LazyTensor], make: Callable[..., Tensor], shape: tuple[int, ...] | None = None) -> LazyTensor:
    """`make(*parts)`, later. Its shape is found on the meta device unless it is given."""
    if shape is None:
        shape = tuple(make(*(torch.empty(x.shape, device="meta") for x in parts)).shape)
    origins = frozenset().union(*(x.origins for x in parts))
    return LazyTensor(shape, lambda: make(*(x.load() for x in parts)), origins, all(x.floating for x in parts))
