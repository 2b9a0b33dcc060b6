# SPDX-License-Identifier: GPL-3.0-or-later
"""Where bundles lie: below the host's `fireedit` model folders and below the pack's own models/."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import folder_paths

from fireedit_core.checkpoints.index import INDEX, BundleError, read_index

FOLDER = "fireedit"
OWN_MODELS = Path(__file__).resolve().parents[2] / "models"
_DEPTH = 3  # folders below a root that are searched


def register_folder() -> None:
    """Make models/fireedit known to the host. Appends, so entries of extra_model_paths.yaml stay; creates nothing."""
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))
    # a fresh entry has no extensions and would list every file
    paths, extensions = folder_paths.folder_names_and_paths[FOLDER][:2]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, set(extensions) or {".safetensors"})


def roots() -> list[Path]:
    """The folders that are searched; the user's come first, so that they can shadow the embedded bundle."""
    return [*(Path(p) for p in folder_paths.get_folder_paths(FOLDER)), OWN_MODELS]


def list_bundles() -> list[str]:
    """Names of all bundles, '/' between folders, sorted; the embedded one comes first, as the combo's default."""
    names = {path.relative_to(root).as_posix() for root in roots() for path in _bundles_below(root, _DEPTH)}
    own = {path.relative_to(OWN_MODELS).as_posix() for path in _bundles_below(OWN_MODELS, _DEPTH)}
    return sorted(names, key=lambda name: (name not in own, name))


def find_bundle(name: str) -> Path:
    """The folder of a bundle. Backslashes of a graph saved on Windows are understood.

    Raises:
        BundleError: for a name that is not below the folders, or is no bundle; the message lists what there is.
    """
    parts = [part for part in str(name).replace("\\", "/").split("/") if part not in ("", ".")]
    absolute = str(name).replace("\\", "/").startswith("/") or any(":" in part for part in parts)
    if parts and not absolute and ".." not in parts:
        for root in roots():
            folder = root.joinpath(*parts)
            if (folder / INDEX).is_file():
                read_index(folder)
                return folder
    found = ", ".join(list_bundles()) or "none"
    places = " or ".join(str(root) for root in roots())
    raise BundleError(
        f"there is no bundle {name!r}. Bundles found: {found}. Put the bundle's folder (the one with {INDEX}) into {places}, "
        "press R to refresh, and choose it in the loader."
    )


def _bundles_below(folder: Path, depth: int) -> Iterator[Path]:
    try:
        children = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError:
        return
    for child in children:
        if (child / INDEX).is_file():
            try:
                read_index(child)
            except BundleError:
                continue
            yield child
        elif depth > 1:
            yield from _bundles_below(child, depth - 1)
