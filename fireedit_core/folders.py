# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies below a folder. `Path.rglob` enters no folder that is a link, and users keep models and pictures behind such."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def files_below(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """All files below a folder, sorted. Folders that are links are entered, as ComfyUI does; one that leads back to a folder above is not.

    Args:
        above: where the folders above really lie.
    """
    here = os.path.realpath(folder)
    try:
        children = sorted(folder.iterdir()) if here not in above else []
    except OSError:  # not ours to read
        return
    for child in children:
        if child.is_dir():
            yield from files_below(child, (*above, here))
        elif child.is_file():
            yield child
