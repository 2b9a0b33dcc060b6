# SPDX-License-Identifier: GPL-3.0-or-later
"""Photographs that a person names, for measurements that need some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..folders import files_below

KINDS = (".jpg", ".jpeg", ".png", ".webp")


def picture_files(places: Sequence[Path]) -> list[Path]:
    """The picture files that are named, and those in the folders that are named, sorted, each once.

    Raises:
        ValueError: for a name that is neither: fewer pictures than were meant would be measured.
    """
    for place in places:
        if not place.is_dir() and not (place.is_file() and place.suffix.lower() in KINDS):
            raise ValueError(f"{place} is no folder and no picture ({', '.join(KINDS)})")
    files = (file for place in places for file in ([place] if place.is_file() else files_below(place)))
    return sorted({file for file in files if file.suffix.lower() in KINDS})
