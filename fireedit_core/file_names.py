# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that differ and are one file all the same: macOS, Windows and memory cards do not tell `Cat.png` from `cat.png`."""

from __future__ import annotations

import tempfile
import unicodedata
from collections.abc import Iterable
from pathlib import Path


def one_file(folder: Path, names: Iterable[str]) -> tuple[str, str] | None:
    """Two of different names that are one file below a folder that is there; None where there are none."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name:
            return (other, name) if _folds(folder) else None
    return None


def _folds(folder: Path) -> bool:
    """Whether a file is found under its name in other letters there."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".fireedit-Aa") as file:
        made = Path(file.name)
        return made.with_name(made.name.swapcase()).exists()
