# SPDX-License-Identifier: GPL-3.0-or-later
"""Segmenters that users have: GrabCut, ONNX files, ultralytics segm files where the Impact Pack keeps them, transformers folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import folder_paths
from comfy.model_patcher import ModelPatcher
from torch import nn

from fireedit_core.folders import files_below
from fireedit_core.regions.ultralytics_version import ultralytics_available
from fireedit_core.segmentation.loading import GRABCUT

from . import model_folders
from .models import make_patcher

if TYPE_CHECKING:
    from fireedit_core.segmentation.segmenter import Segmenter

# Name of a folder in a graph -> the host's key for it, and where it lies by default. Hosts since 2026 have "background_removal" of their
# own; on the others the key does not exist and nothing is listed.
OWN, SEGM, BACKGROUND = "segmenters", "segm", "background_removal"
_KEYS = {OWN: "fireedit_segmenters", SEGM: "ultralytics_segm", BACKGROUND: "background_removal"}
PLACE = os.path.join("fireedit", "segmenters")


def register_folders() -> None:
    """Make models/fireedit/segmenters known to the host; the others belong to the detectors and to the host."""
    model_folders.register({OWN: (_KEYS[OWN], PLACE)})


def list_segmenters() -> list[str]:
    """`grabcut`, then names as 'segmenters/isnet.onnx', 'segm/yolo11n-seg.pt' and 'segmenters/sam2', sorted."""
    names = set(map(model_folders.name_of, _found()))
    if not ultralytics_available():
        names = {name for name in names if not name.endswith(".pt")}
    return [GRABCUT, *sorted(names)]


def find_segmenter(name: str) -> Path | str:
    """The file or folder of a segmenter; `grabcut` itself. Backslashes of a graph saved on Windows are understood.

    Raises:
        ValueError: for a name that is not below the folders; the message lists what there is.
    """
    if name == GRABCUT:
        return GRABCUT
    if (path := model_folders.path_of(name, _found())) is not None:
        return path
    raise ValueError(
        f"there is no segmenter {name!r}. Found: {', '.join(list_segmenters())}. Put an .onnx file of ISNet or a folder of transformers "
        f"(config.json and .safetensors) into {Path(folder_paths.models_dir) / PLACE}, or a segmentation .pt of ultralytics into "
        f"{Path(folder_paths.models_dir) / 'ultralytics' / 'segm'}, press R to refresh, and choose it."
    )


class LoadedSegmenter:
    """What travels on a FIREEDIT_SEGMENTER wire: a segmenter, and its host ModelPatcher where it has weights for the device."""

    def __init__(self, name: str, segmenter: Segmenter):
        self.name, self.segmenter = name, segmenter
        self.patcher: ModelPatcher | None = make_patcher("FireEditSegmenter", segmenter) if isinstance(segmenter, nn.Module) else None

    def __repr__(self) -> str:
        return f"LoadedSegmenter({self.name!r})"


def load(name: str) -> LoadedSegmenter:
    """Load a segmenter by its name, on the host's offload device.

    Raises:
        ValueError, ImportError: see `fireedit_core.segmentation.loading.load_segmenter`.
    """
    from fireedit_core.segmentation.loading import load_segmenter

    return LoadedSegmenter(name, load_segmenter(find_segmenter(name)))


def _found() -> Iterator[model_folders.Found]:
    """(group, root, file or folder) of everything that looks like a segmenter."""
    for group, key in _KEYS.items():
        for root in model_folders.roots(key):
            ending = ".pt" if group == SEGM else ".onnx"
            yield from ((group, root, file) for file in files_below(root) if file.suffix == ending)
            if group == OWN:
                yield from ((group, root, config.parent) for config in sorted(root.glob("*/config.json")))
