# SPDX-License-Identifier: GPL-3.0-or-later
"""The detector for photographs that comes with the pack, and those that users have: ultralytics files where the Impact Pack keeps
them, folders of transformers in models/detectors."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import folder_paths
from comfy.model_patcher import ModelPatcher

from fireedit_core.folders import files_below
from fireedit_core.regions.ultralytics_version import COMPROMISED_VERSIONS, ultralytics_available

from . import model_folders
from .bundles import OWN_MODELS
from .models import make_patcher

if TYPE_CHECKING:
    from fireedit_core.regions.detector import Detector

logger = logging.getLogger("fireedit")

# Name of a folder in a graph -> the host's keys for it (the first two are the Impact Subpack's) and where it lies by default.
FOLDERS = {
    "bbox": ("ultralytics_bbox", os.path.join("ultralytics", "bbox")),
    "segm": ("ultralytics_segm", os.path.join("ultralytics", "segm")),
    "detectors": ("detectors", "detectors"),
}
BUILT_IN, _BUILT_IN_FOLDER = "photo-detector (built in)", OWN_MODELS / "photo-detector"
NONE = "none found"


def register_folders() -> None:
    """Make the folders known to the host. Appends, so entries of extra_model_paths.yaml and other packs stay."""
    model_folders.register(FOLDERS)


def list_detectors() -> list[str]:
    """The one that comes with the pack, as the combo's default, then names as 'bbox/face.pt' and 'detectors/rtdetr', sorted.

    [NONE] where there is none: a pack whose models were left out.
    """
    names = set(map(model_folders.name_of, _found()))
    if not ultralytics_available():
        pt = {name for name in names if name.endswith(".pt")}
        if pt:
            logger.info(
                "FireEdit: %d ultralytics detectors are not offered, because ultralytics is not installed or is one of the "
                "compromised releases %s", len(pt), ", ".join(COMPROMISED_VERSIONS),
            )  # fmt: skip
        names -= pt
    return [*([BUILT_IN] if _has_built_in() else []), *sorted(names)] or [NONE]


def find_detector(name: str) -> Path:
    """The file or folder of a detector. Backslashes of a graph saved on Windows are understood.

    Raises:
        ValueError: for a name that is not below the folders; the message lists what there is.
    """
    if name == BUILT_IN and _has_built_in():
        return _BUILT_IN_FOLDER
    if (path := model_folders.path_of(name, _found())) is not None:
        return path
    places = ", ".join(str(Path(folder_paths.models_dir) / place) for _, place in FOLDERS.values())
    raise ValueError(
        f"there is no detector {name!r}. Found: {', '.join(list_detectors())}. Put a .pt file of ultralytics or a folder of transformers "
        f"(config.json and .safetensors) into one of {places}, press R to refresh, and choose it."
    )


class LoadedDetector:
    """What travels on a FIREEDIT_DETECTOR wire: a detector and its host ModelPatcher."""

    def __init__(self, name: str, detector: Detector):
        self.name, self.detector = name, detector
        self.patcher: ModelPatcher = make_patcher("FireEditDetector", detector)

    def __repr__(self) -> str:
        return f"LoadedDetector({self.name!r})"


def load(name: str) -> LoadedDetector:
    """Load a detector by its name, on the host's offload device.

    Raises:
        ValueError, ImportError: see `fireedit_core.regions.loading.load_detector`.
    """
    from fireedit_core.regions.loading import load_detector

    return LoadedDetector(name, load_detector(find_detector(name)))


def _has_built_in() -> bool:
    return (_BUILT_IN_FOLDER / "config.json").is_file()


def _found() -> Iterator[model_folders.Found]:
    """(group, root, file or folder) of everything that looks like a detector."""
    for group, (key, _) in FOLDERS.items():
        for root in model_folders.roots(key):
            if group == "detectors":
                folders = (config.parent for config in sorted(root.glob("*/config.json")))
                yield from ((group, root, folder) for folder in folders)
            else:
                yield from ((group, root, file) for file in files_below(root) if file.suffix == ".pt")
