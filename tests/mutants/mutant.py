# SPDX-License-Identifier: GPL-3.0-or-later
"""A fault that someone could make, and the tests that ought to see it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

INSIDE = "tests/host/inside"  # these tests run in the host's process


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        file: below the repository. text: stands there exactly once. new: what takes its place.
        kind: of fault, in a word or two: constant, axis, sign, default, wrong row, dropped option, stale key, clamp, ...
        tests: pytest's arguments, separated by blanks. equivalent: why no test can see it, if none can.
    """

    file: str
    text: str
    new: str
    kind: str
    tests: str
    equivalent: str = ""

    def __str__(self) -> str:
        return f"{self.file}: {self.text.strip()[:70]!r} -> {self.new.strip()[:70]!r} ({self.kind})"

    def apply(self, root: Path) -> str:
        """Put the fault into the tree below `root`; returns what the file was.

        Raises:
            ValueError: if the text does not stand in the file exactly once: the table is out of date.
        """
        path = root / self.file
        before = path.read_text(encoding="utf-8")
        if before.count(self.text) != 1:
            raise ValueError(f"{self.file} has {before.count(self.text)} times {self.text!r}; mend the table in tests/mutants/rooms")
        path.write_text(before.replace(self.text, self.new), encoding="utf-8")
        return before


def of(file: str, tests: str, *rows: tuple[str, ...]) -> list[Mutant]:
    """Mutants of one file: rows of (text, new, kind) and, where they differ, the tests."""
    return [Mutant(file, text, new, kind, *(more or [tests])) for text, new, kind, *more in rows]
