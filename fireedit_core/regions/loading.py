# SPDX-License-Identifier: GPL-3.0-or-later
"""A detector on disk, whichever family it is of. Families are imported when one is met: each brings a large library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from .detector import Detector

if TYPE_CHECKING:
    from .region_detector import RegionDetector

NANODET = "NanoDetDetector"  # `_class_name` in the config.json of a NanoDet


def load_detector(path: str | Path, device: torch.device | str | None = None) -> Detector:
    """Any detector on disk: a folder of this pack or of transformers, or a `.pt` file of ultralytics.

    Args:
        device: where it shall run; None leaves it where its family puts it. One that is no module, as ultralytics', follows its pictures.

    Raises:
        ValueError: for a file or folder that is none of these, or not safe to load; the message says what mends it.
        ImportError: if its family needs a package that is not installed.
    """
    found = _load(Path(path))
    return found.to(device) if device is not None and isinstance(found, nn.Module) else found


def _load(path: Path) -> Detector:
    if path.is_file() and path.suffix == ".pt":
        from .ultralytics_detector import load_ultralytics

        return load_ultralytics(path)
    config = path / "config.json"
    try:
        kind = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is no detector: expected a .pt file of ultralytics, or a folder with config.json and .safetensors ({error})."
        ) from error
    if not isinstance(kind, dict):
        raise ValueError(f"{config}: expected an object, got {type(kind).__name__}.")
    if kind.get("model_type"):
        from .transformers_detector import load_transformers_detector

        return load_transformers_detector(path, str(kind["model_type"]))
    if kind.get("_class_name") == NANODET:
        from .nanodet import load_nanodet

        return load_nanodet(path, kind)
    return load_region_detector(path)


def load_region_detector(folder: str | Path, **kwargs) -> RegionDetector:
    """Load the detector in `folder` (config.json + safetensors), whichever family its config names.

    Raises:
        ValueError: if there is no config.json, or its `_class_name` is not a detector of this pack.
        ImportError: if the family needs a package that is not installed; the message names it.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} is not a detector folder: config.json is missing.")
    name = json.loads(path.read_text(encoding="utf-8")).get("_class_name")
    if name == "YoloRegionDetector":
        from .yolo import YoloRegionDetector as family
    elif name == "DeformableDetrRegionDetector":
        from .deformable_detr import DeformableDetrRegionDetector as family
    else:
        raise ValueError(
            f"{path}: expected _class_name YoloRegionDetector or DeformableDetrRegionDetector, got {name!r}."
        )
    return family.from_pretrained(folder, **kwargs)
