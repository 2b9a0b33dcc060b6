# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what a source gives is what the bundle needs, key by key and shape by shape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .lazy_tensor import LazyTensor

SHOWN = 3

Part = dict[str, LazyTensor]


class SourceError(ValueError):
    """A source that cannot be used; the message says what came, what was expected and what to get instead."""


@dataclass
class Found:
    """What one source gives.

    Attributes:
        path: as the user named it. keys: everything in it.
        parts: component -> tensors under the names that they have in the bundle; a part may be incomplete, never wrong.
        notes: component -> remarks for the report. warnings: what the user should think about.
    """

    path: Path
    keys: tuple[str, ...]
    parts: dict[str, Part] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def fit(part: Mapping[str, LazyTensor], expected: Mapping[str, tuple[int, ...]], path: Path, what: str, advice: str) -> Part:
    """`part`, after making sure that it has exactly the expected keys and shapes.

    Args:
        what: the component, for the message. advice: what came, what was expected, and what to get instead.

    Raises:
        SourceError: listing the first few of what is missing, unknown, quantised or of another shape.
    """
    missing = [k for k in expected if part.get(k) is None]
    unknown = [k for k in part if k not in expected]
    common = [k for k in expected if part.get(k) is not None]
    shapes = [f"{k} came as {part[k].shape}, expected {expected[k]}" for k in common if part[k].shape != tuple(expected[k])]
    quantised = [k for k in common if not part[k].floating]
    faults = [
        f"{len(found)} {fault}: {_few(found)}"
        for found, fault in (
            (missing, "missing"), (shapes, "of another shape"), (unknown, "not expected"), (quantised, "quantised or no numbers"),
        )
        if found
    ]  # fmt: skip
    if faults:
        raise SourceError(f"{path} does not fit as {what}. {advice} Tensors: {'. '.join(faults)}.")
    return dict(part)


def under(tensors: Mapping[str, LazyTensor], prefix: str) -> Part:
    """The tensors below a prefix, without it."""
    return {key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)}


def layer_count(keys: Iterable[str], stem: str) -> int:
    """How many layers are numbered after `stem`, e.g. "encoder.layer."."""
    return len({key.removeprefix(stem).split(".")[0] for key in keys if key.startswith(stem)})


def _few(names: list[str]) -> str:
    return "; ".join(names[:SHOWN]) + (f"; and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
