# SPDX-License-Identifier: GPL-3.0-or-later
"""Models that users keep in the host's folders, by the names that graphs have for them: 'bbox/face.pt', 'detectors/rtdetr'."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import folder_paths

from fireedit_core.folders import files_below

Found = tuple[str, Path, Path]  # (group, root, file or folder below it)


def register(folders: Mapping[str, tuple[str, str]]) -> None:
    """Make folders known to the host: group -> (the host's key, where it lies below models/). Appends, so entries of
    extra_model_paths.yaml and of other packs stay."""
    for key, place in folders.values():
        folder_paths.add_model_folder_path(key, os.path.join(folder_paths.models_dir, place))


def roots(key: str) -> Iterator[Path]:
    """The folders of a key of the host that exist; none for a key that this host does not know."""
    if key in folder_paths.folder_names_and_paths:
        yield from (root for root in map(Path, folder_paths.get_folder_paths(key)) if root.is_dir())


def state_of(path: Path) -> tuple:
    """Changes when a model's file, or a file of its folder, changes: (path, size, time) of each."""
    files = [(path.name, path)] if path.is_file() else [(file.relative_to(path).as_posix(), file) for file in files_below(path)]
    return tuple((name, file.stat().st_size, file.stat().st_mtime_ns) for name, file in files)


def name_of(found: Found) -> str:
    """The group and the path below the root, with slashes on every system."""
    group, root, path = found
    return f"{group}/{path.relative_to(root).as_posix()}"


def path_of(name: str, found: Iterable[Found]) -> Path | None:
    """What has that name, None if nothing does. Backslashes of a graph saved on Windows are understood."""
    wanted = str(name).replace("\\", "/")
    return next((one[2] for one in found if name_of(one) == wanted), None)
