# SPDX-License-Identifier: GPL-3.0-or-later
"""What a conversion took from where, counted from the tensors themselves: for the terminal and for convert.json."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from .fresh import STARTS
from .sources.fit import Found, Part
from .sources.lazy_tensor import LazyTensor


@dataclass(frozen=True)
class ComponentLine:
    """One component.

    Attributes:
        taken: source -> tensors from it. fresh: the tensors that come from no file. start: how those are initialised, or "".
    """

    name: str
    parameters: int
    tensors: int
    taken: dict[str, int]
    fresh: list[str]
    start: str
    notes: list[str]

    def __str__(self) -> str:
        given = [f"{n} of {self.tensors} from {source}" for source, n in self.taken.items()]
        few = f" ({', '.join(self.fresh)})" if len(self.fresh) <= 2 and given else ""
        rest = [f"{len(self.fresh)} fresh{few}: {self.start}"] if self.fresh else [self.start] if self.start else []
        return f"{self.name:17}{self.parameters / 1e6:8.1f} M  " + "; ".join(given + rest + self.notes)


@dataclass(frozen=True)
class SourceLine:
    """One source: how many of its tensors were used, and what was left, by the first part of the name."""

    name: str
    file: str
    tensors: int
    taken: int
    left: dict[str, int]

    def __str__(self) -> str:
        left = ", ".join(f"{group}.* {n}" for group, n in list(self.left.items())[:6]) or "nothing"
        return f"{self.name:17}{self.file}: {self.taken} of {self.tensors} tensors taken; left: {left}"


@dataclass(frozen=True)
class Report:
    """A whole conversion. bytes: size of the weights on disk."""

    dtype: str
    roi_mode: str
    bytes: int
    components: list[ComponentLine]
    sources: list[SourceLine]
    warnings: list[str]

    def __str__(self) -> str:
        lines = [str(x) for x in self.components] + ["", *map(str, self.sources)] * bool(self.sources)
        lines += ["", *(f"warning: {x}" for x in self.warnings)] * bool(self.warnings)
        return "\n".join([*lines, "", f"{self.bytes / 1e9:.2f} GB of weights in {self.dtype}, roi_mode {self.roi_mode}"])

    def as_json(self) -> dict[str, Any]:
        """For convert.json; names of files, no folders of the machine that it ran on."""
        return asdict(self)


def component_line(name: str, part: Part, notes: list[str]) -> ComponentLine:
    """The line of one component whose tensors are all decided."""
    # a tensor of several sources counts for each
    taken = Counter(path.name for x in part.values() for path in {path for path, _ in x.origins})
    made = [key for key, x in part.items() if not x.origins]
    # these are computed from what other components are given
    start = STARTS[name] if made or name in ("img_tokens", "visual_attention") else ""
    return ComponentLine(name, sum(math.prod(x.shape) for x in part.values()), len(part), dict(taken), made, start, notes)


def source_line(name: str, found: Found, tensors: Iterable[LazyTensor]) -> SourceLine:
    """The line of one source, given every tensor of the bundle."""
    used = {key for x in tensors for path, key in x.origins if path == found.path}
    left = Counter(key.split(".")[0] for key in found.keys if key not in used)
    return SourceLine(name, found.path.name, len(found.keys), len(found.keys) - left.total(), dict(left.most_common()))
