# SPDX-License-Identifier: GPL-3.0-or-later
"""Detectors that artists already have: ultralytics `.pt` files, bbox and segm, loaded without running their pickle.

A `.pt` of ultralytics pickles the whole network. torch's restricted unpickler rebuilds it from classes that are named here
and from nothing else, so a file that asks for more is refused before anything of it is built.
"""

from __future__ import annotations

import importlib
import pathlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .detector import LabelledDetector, Proposals, letterbox, undo_letterbox
from .yolo import import_ultralytics

# Modules whose nn.Module classes a checkpoint may name, and two whose plain helpers ride along with a trained network.
_LAYERS = ("torch.nn.modules.", "ultralytics.nn.modules.", "ultralytics.nn.tasks")
_HELPERS = ("ultralytics.utils.loss", "ultralytics.utils.tal")
# Old names of things that have moved: full name -> where it is now.
_MOVED = {
    "ultralytics.yolo.utils.IterableSimpleNamespace": "ultralytics.utils.IterableSimpleNamespace",
    "ultralytics.nn.modules.block.Silence": "torch.nn.modules.linear.Identity",
    "ultralytics.nn.tasks.YOLOv10DetectionModel": "ultralytics.nn.tasks.DetectionModel",
    "ultralytics.utils.loss.v10DetectLoss": "ultralytics.utils.loss.E2EDetectLoss",
}


# Networks that give upright boxes in pixels, with masks or points or without.
_READ = ("DetectionModel", "SegmentationModel", "PoseModel", "WorldModel", "YOLOEModel", "YOLOESegModel")
_GREY = 114 / 255  # what ultralytics pads with in training


class UltralyticsDetector(LabelledDetector):
    """A YOLO network of ultralytics with its class names; gives masks where it is a segmentation network.

    Args:
        network: an `ultralytics.nn.tasks.DetectionModel` or `SegmentationModel`.
        input_size: side in pixels of the square that pictures are letterboxed into.
    """

    own_threshold = 0.25  # `conf` of ultralytics' own predict

    def __init__(self, network: nn.Module, input_size: int = 640):
        super().__init__()
        self.network = network.float().eval().requires_grad_(False)
        stride = int(max(getattr(network, "stride", torch.tensor([32.0])).max(), 32))
        self.input_size = -(-int(input_size) // stride) * stride
        names = getattr(network, "names", {})
        self.names = dict(enumerate(names)) if isinstance(names, (list, tuple)) else {int(k): str(v) for k, v in names.items()}

    @property
    def _finished(self) -> bool:
        """Whether the network gives rows that need no suppression: YOLOv10, YOLO26 where it is used so."""
        layers = getattr(self.network, "model", None)
        return bool(layers) and bool(getattr(layers[-1], "end2end", False))

    def propose(self, image: Tensor, score_threshold: float, iou_threshold: float, prompt: str = "") -> Proposals:
        """See `LabelledDetector.propose`; the prompt means nothing to a network of fixed classes."""
        size = (int(image.shape[-2]), int(image.shape[-1]))
        out = self.network(letterbox(image, self.input_size, _GREY))
        raw = list(_tensors(out))
        found = _suppress(raw[0].float(), score_threshold, iou_threshold, len(self.names), self._finished)
        boxes = undo_letterbox(found[:, :4], size, self.input_size)
        labels = [self.names.get(int(c), str(int(c))) for c in found[:, 5]]
        prototypes = next((x for x in raw[1:] if x.ndim == 4 and x.shape[1] == found.shape[1] - 6), None)
        if prototypes is None:
            return Proposals(boxes, found[:, 4], labels)
        return Proposals(boxes, found[:, 4], labels, lambda kept: self._masks(prototypes[0].float(), found[kept.to(found.device)], size))

    def _masks(self, prototypes: Tensor, found: Tensor, size: tuple[int, int]) -> Tensor:
        """Masks (n, H, W) of the picture from prototypes (k, h, w) of the square and rows of boxes and k factors."""
        from ultralytics.utils.ops import process_mask

        side = self.input_size
        masks = process_mask(prototypes, found[:, 6:], found[:, :4], (side, side), upsample=True).float()
        corners = undo_letterbox(torch.tensor([[0.0, 0.0, side, side]]), size, side)[0].tolist()
        # undo the letterbox on pixels: the part of the square that the picture fills, at the picture's size
        scale = side / (corners[2] - corners[0])
        left, top = round(-corners[0] * scale), round(-corners[1] * scale)
        width, height = round(size[1] * scale), round(size[0] * scale)
        inside = masks[:, top : top + height, left : left + width]
        if not len(inside):
            return masks.new_zeros(0, *size)
        return F.interpolate(inside[None], size, mode="bilinear", align_corners=False)[0]


def load_ultralytics(path: Path | str) -> UltralyticsDetector:
    """The detector in a `.pt` file of ultralytics.

    Raises:
        ImportError: without ultralytics, or with a release that carried malware.
        ValueError: for a file that names anything beyond the layers of torch and ultralytics, is damaged, or is no detector, or one that
            gives something else than upright boxes in pixels.
    """
    path = Path(path)
    tasks = import_ultralytics()
    try:
        needed = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        allowed = [(resolve(name), name) for name in needed]
        if "numpy.dtype" in needed:  # numpy builds the classes of its dtypes as they are asked for
            allowed.append(type(np.dtype(np.float64)))
        with torch.serialization.safe_globals(allowed):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Refused:
        raise
    except Exception as error:  # the restricted unpickler raises whatever it stumbles over
        raise ValueError(f"{path.name} is no ultralytics checkpoint that can be read safely ({error}). Get the file again.") from error
    network = (checkpoint.get("ema") or checkpoint.get("model")) if isinstance(checkpoint, dict) else None
    if not isinstance(network, (tasks.DetectionModel, tasks.SegmentationModel)):
        raise ValueError(f"{path.name} holds no detection or segmentation network of ultralytics (it is {type(network).__name__}).")
    if problem := _not_read(network, tasks):
        raise ValueError(f"{path.name} {problem}")
    arguments = checkpoint.get("train_args")
    side = arguments.get("imgsz") if isinstance(arguments, dict) else None
    return UltralyticsDetector(network, side if isinstance(side, int) and 32 <= side <= 4096 else 640)


def _not_read(network: nn.Module, tasks: Any) -> str:
    """Why what a network of ultralytics gives would be read wrongly, in words; "" where it would not.

    All are kinds of `DetectionModel`, and many give something else than upright boxes in pixels.
    """
    kind = type(network).__name__
    if kind not in _READ:
        return (
            f"is of the kind {kind} of ultralytics, which gives something else than upright boxes in pixels (turned boxes, shares of the "
            "picture, depth). Take a YOLO file for boxes or masks; for RT-DETR its folder of transformers, in models/detectors."
        )
    if isinstance(network, getattr(tasks, "YOLOEModel", ())) and not hasattr(network, "pe") and not hasattr(network.model[-1], "lrpc"):
        return "is a YOLOE for which no words were set, so it would find nothing. Call its set_classes in ultralytics and save it."
    return ""


class Refused(ValueError):
    """A checkpoint names something that is not on the allow-list."""


def resolve(name: str) -> Any:
    """What a checkpoint may mean by a full name.

    Raises:
        Refused: for a name that is not on the allow-list.
    """
    if name == "builtins.getattr":
        return _layer_attribute
    if name in ("pathlib.PosixPath", "pathlib.WindowsPath", "pathlib._local.PosixPath", "pathlib._local.WindowsPath"):
        return pathlib.PurePosixPath  # a path of the machine that trained it is only ever a note
    if name == "numpy.dtype":
        return np.dtype
    if name in ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"):
        return np.float64(0).__reduce__()[0]
    module, _, attribute = _MOVED.get(name, name).rpartition(".")
    if module == "ultralytics.utils" and attribute == "IterableSimpleNamespace":
        return getattr(importlib.import_module(module), attribute)
    if f"{module}.".startswith(_LAYERS) or module in _HELPERS:
        found = getattr(importlib.import_module(module), attribute, None)
        if isinstance(found, type) and (issubclass(found, nn.Module) or (module in _HELPERS and found.__module__ == module)):
            return found
    raise Refused(
        f"the file asks for {name}, which is not on the list of what a detector may be made of. Files of strangers can run code; "
        "get it from its author, or export it again with ultralytics."
    )


def _layer_attribute(thing: Any, name: str) -> Any:
    """What `getattr` is allowed to be: some heads were pickled with `Detect.forward`."""
    if isinstance(thing, type) and issubclass(thing, nn.Module) and name in ("forward", "forward_fuse"):
        return getattr(thing, name)
    raise Refused(f"the file asks for {getattr(thing, '__name__', type(thing).__name__)}.{name}, which it may not have.")


def _suppress(raw: Tensor, score_threshold: float, iou_threshold: float, classes: int, finished: bool) -> Tensor:
    """Rows x1, y1, x2, y2, score, class, mask factors of one picture, by ultralytics' own non-maximum suppression."""
    try:
        from ultralytics.utils.nms import non_max_suppression
    except ImportError:  # before 8.3.190
        from ultralytics.utils.ops import non_max_suppression
    ends = finished or raw.shape[-1] == 6 and raw.shape[1] != 4 + classes
    options = {"conf_thres": score_threshold, "iou_thres": iou_threshold, "agnostic": True, "nc": classes, "max_time_img": 30.0}
    return non_max_suppression(raw, **options, **({"end2end": True} if ends else {}))[0]


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors of a nested output, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
