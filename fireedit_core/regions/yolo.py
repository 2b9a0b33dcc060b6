# SPDX-License-Identifier: GPL-3.0-or-later
"""A YOLO detector whose layers come from ultralytics (AGPL-3.0, optional) and whose weights are plain safetensors."""

from __future__ import annotations

import copy
import importlib
import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from PIL import Image
from torch import Tensor

from .detector import letterbox, undo_letterbox
from .region_detector import RegionDetector
from .ultralytics_version import check_version

# The layers that a config may name. ultralytics resolves names with globals() and evaluates "activation" with eval, so
# a config.json from a stranger must not reach it unchecked.
ALLOWED_LAYERS = frozenset(
    {"Conv", "DWConv", "C2f", "C3", "C3k2", "C2PSA", "Bottleneck", "SPPF", "SCDown", "Concat", "Detect", "nn.Upsample"}
)
_MODEL_KEYS = {"nc", "reg_max", "backbone", "head"}

# YOLOv8-shaped, 0.93M parameters: boxes at strides 8 and 16, context from stride 32. Channels are literal.
TINY_ARCHITECTURE: dict[str, Any] = {
    "nc": 1,
    "backbone": [
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "Conv", [24, 3, 2]],
        [-1, 1, "C2f", [24, True]],
        [-1, 1, "Conv", [48, 3, 2]],
        [-1, 2, "C2f", [48, True]],
        [-1, 1, "Conv", [96, 3, 2]],
        [-1, 2, "C2f", [96, True]],
        [-1, 1, "Conv", [128, 3, 2]],
        [-1, 1, "C2f", [128, True]],
        [-1, 1, "SPPF", [128, 5]],
    ],
    "head": [
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [[-1, 6], 1, "Concat", [1]],
        [-1, 1, "C2f", [96]],
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [[-1, 4], 1, "Concat", [1]],
        [-1, 1, "C2f", [48]],
        [-1, 1, "Conv", [48, 3, 2]],
        [[-1, 12], 1, "Concat", [1]],
        [-1, 1, "C2f", [96]],
        [[15, 18], 1, "Detect", ["nc"]],
    ],
}


class YoloRegionDetector(RegionDetector):
    """Class-agnostic YOLO (one class: object). Needs ultralytics for its layers; NMS and resizing are our own.

    Args:
        architecture: a model dict in ultralytics' yaml form (nc 1, `backbone`, `head`); None for `TINY_ARCHITECTURE`.
        input_size: side of the square that pictures are letterboxed into, a multiple of 32.

    Raises:
        ImportError: if ultralytics is missing or one of the releases that carried malware.
        ValueError: if the architecture names a layer that is not allowed.
    """

    @register_to_config
    def __init__(self, architecture: dict[str, Any] | None = None, input_size: int = 128) -> None:
        super().__init__()
        if input_size % 32:
            raise ValueError(f"YoloRegionDetector: input_size must be a multiple of 32, got {input_size}.")
        if architecture is None:
            architecture = TINY_ARCHITECTURE
            # The config on disk says what was built, even if this default changes one day.
            self.register_to_config(architecture=copy.deepcopy(architecture))
        check_architecture(architecture)
        detection_model = import_ultralytics().DetectionModel
        self.network = detection_model(copy.deepcopy(dict(architecture)), ch=3, nc=1, verbose=False)
        # Loss gains, read by ultralytics' own loss from model.args (its defaults).
        self.network.args = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5)
        self.eval()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """As `RegionDetector.from_pretrained`."""
        # ultralytics runs a forward pass in its constructor (to find the strides), which fails on the meta device.
        kwargs["low_cpu_mem_usage"] = False
        kwargs.pop("device_map", None)
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    def forward(self, images: Tensor) -> Any:
        """Letterboxed images (B, 3, S, S) 0..1 -> raw predictions in training, decoded (B, 4 + 1, N) in evaluation."""
        output = self.network(images)
        return output if self.training else (output[0] if isinstance(output, (tuple, list)) else output)

    def predict_boxes(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `RegionDetector.predict_boxes`."""
        side = self.config.input_size
        decoded = self(letterbox(images, side)).float()
        centre, extent, scores = decoded[:, :2], decoded[:, 2:4], decoded[:, 4]
        boxes = torch.cat([centre - extent / 2, centre + extent / 2], dim=1).transpose(1, 2)
        return undo_letterbox(boxes, (images.shape[2], images.shape[3]), side), scores


def check_architecture(architecture: Mapping[str, Any]) -> None:
    """Refuse a model dict that could make ultralytics run anything but the allowed layers.

    Raises:
        ValueError: naming the key, layer or argument that is not allowed.
    """
    if not isinstance(architecture, Mapping) or not {"backbone", "head"} <= set(architecture):
        raise ValueError("YOLO architecture: expected a dict with the keys nc, backbone and head.")
    if unknown := set(architecture) - _MODEL_KEYS:
        raise ValueError(f"YOLO architecture: keys {sorted(unknown)} are not allowed, only {sorted(_MODEL_KEYS)}.")
    if architecture.get("nc", 1) != 1 or not isinstance(architecture.get("reg_max", 16), int):
        raise ValueError("YOLO architecture: nc must be 1 (class-agnostic) and reg_max an integer.")
    for row in [*architecture["backbone"], *architecture["head"]]:
        if not isinstance(row, (list, tuple)) or len(row) != 4:
            raise ValueError(f"YOLO architecture: a row must be [from, repeats, layer, arguments], got {row!r}.")
        source, repeats, layer, arguments = row
        sources = source if isinstance(source, (list, tuple)) else [source]
        if layer not in ALLOWED_LAYERS:
            raise ValueError(f"YOLO architecture: layer {layer!r} is not allowed, only {sorted(ALLOWED_LAYERS)}.")
        if not all(type(value) is int for value in [*sources, repeats]):
            raise ValueError(f"YOLO architecture: 'from' and 'repeats' must be integers in {row!r}.")
        for argument in arguments:
            if argument not in ("nc", "nearest") and not isinstance(argument, (int, float, type(None))):
                raise ValueError(f"YOLO architecture: argument {argument!r} of {layer} is not allowed.")


def import_ultralytics() -> Any:
    """ultralytics.nn.tasks, imported offline, quietly and without touching the user's settings.

    Raises:
        ImportError: if ultralytics is not installed, or is a release that carried malware.
    """
    check_version()
    if "ultralytics.nn.tasks" in sys.modules:
        return sys.modules["ultralytics.nn.tasks"]
    with _quiet_import():
        return importlib.import_module("ultralytics.nn.tasks")


@contextmanager
def _quiet_import():
    """What ultralytics reads at import is set for the import only; what it changes for others is put back.

    It would otherwise write a settings file into the user's profile, look for a network, set OMP_NUM_THREADS for every
    later process, and replace torch.save and PIL.Image.open (whose replacement raises where pi_heif is absent).
    """
    wanted = {
        "YOLO_CONFIG_DIR": os.environ.get("YOLO_CONFIG_DIR") or os.path.join(tempfile.gettempdir(), "fireedit-yolo"),
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_VERBOSE": "false",
    }
    watched = (*wanted, "OMP_NUM_THREADS", "NUMEXPR_MAX_THREADS", "TORCH_CPP_LOG_LEVEL", "TF_CPP_MIN_LOG_LEVEL")
    before = {name: os.environ.get(name) for name in watched}
    torch_save, image_open = torch.save, Image.open
    os.environ.update(wanted)
    try:
        yield
        settings = getattr(sys.modules.get("ultralytics"), "settings", None)
        if settings is not None:
            dict.update(settings, sync=False)  # in memory only: no file is written
    finally:
        torch.save, Image.open = torch_save, image_open
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
