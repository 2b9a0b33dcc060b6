# SPDX-License-Identifier: GPL-3.0-or-later
"""ISNet (Qin and others 2022) and its kin as ONNX files of the user's, through onnxruntime: mattes of the main thing in a crop.

Such a network finds what stands out and knows no box, so it sees the box with a little around it: one person among many becomes the
main thing there. Where what it finds does not fill the box, it looks again with more around it, and the matte that fits the box stays.

Files do not say what they want. As in rembg: ISNet sees (x - 128) / 256; U2-Net, which sees 320 px, and BiRefNet, which gives logits, see
the picture less ImageNet's mean, over its spread.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..opencv import bytes_of, opencv
from ..regions.suppression import box_iou
from .segmenter import FARTHEST, bounds, check_boxes, crop_around

MARGIN, WIDER = 0.15, 0.4  # of the box, on each side: what is seen at first, and where that did not do
_FITS = 0.85  # intersection over union of the box and that of the matte, from which there is no second look
_SIDE = 1024  # where the file leaves the size open
_U2NET = (320, 320)
_MEAN, _SPREAD = np.float32([0.485, 0.456, 0.406]) * 255, np.float32([0.229, 0.224, 0.225]) * 255  # of ImageNet
_ROOM = 0.05  # beyond 0..1: what is farther off is no alpha


class IsNet:
    """See the module. The matte beyond the box and its margin is empty.

    Args:
        session: an onnxruntime session with one picture (1, 3, h, w) in, and alpha (1, 1, h, w) or its logits as its first output.
    """

    family, soft, blind = "isnet", True, True

    def __init__(self, session: Any):
        self.session = session
        (first, *rest) = session.get_inputs()
        if rest or len(first.shape) != 4 or first.shape[1] != 3:
            raise ValueError(
                f"the ONNX file takes {[(i.name, i.shape) for i in session.get_inputs()]}; expected one picture (1, 3, height, width), as "
                "ISNet, U2-Net and BiRefNet files have it."
            )
        self.input = first.name
        self.side = tuple(n if isinstance(n, int) else _SIDE for n in first.shape[2:])
        self.half = first.type == "tensor(float16)"
        self.imagenet, self.logits = self.side == _U2NET, False

    def pixel(self, box: Tensor, size: tuple[int, int]) -> float:
        """See `Segmenter.pixel`."""
        left, top, right, bottom = crop_around(box, size, MARGIN)
        return max((bottom - top) / self.side[0], (right - left) / self.side[1], 1.0)

    def segment(self, image: Tensor, boxes: Tensor, progress: Callable[[int], None] | None = None) -> Tensor:
        """See `Segmenter.segment`.

        Raises:
            ValueError: also if the file gives something that is no matte.
        """
        boxes = check_boxes(image, boxes, self.family)
        masks = torch.zeros(len(boxes), int(image.shape[-2]), int(image.shape[-1]))
        for i, box in enumerate(boxes):
            if self._look(image, box, MARGIN, masks[i]) < _FITS:
                again = torch.zeros_like(masks[i])
                if self._look(image, box, WIDER, again) > _fit(masks[i], box):
                    masks[i] = again
            if progress is not None:
                progress(i + 1)
        return masks

    def _look(self, image: Tensor, box: Tensor, margin: float, mask: Tensor) -> float:
        """Write the matte of one crop into an empty mask (H, W); returns how well it fits the box."""
        left, top, right, bottom = crop = crop_around(box, (int(image.shape[-2]), int(image.shape[-1])), margin)
        cv2 = opencv()
        alpha = self._alpha(bytes_of(image, crop, self.side).astype(np.float32))
        fitted = cv2.resize(alpha, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
        mask[top:bottom, left:right] = torch.from_numpy(fitted)
        return _fit(mask, box)

    def _alpha(self, picture: np.ndarray) -> np.ndarray:
        """Alpha (h, w) in 0..1 of a picture (h, w, 3) in 0..255. The first that is none tells what kind of file it is."""
        pixels = (picture - _MEAN) / _SPREAD if self.imagenet else (picture - 128) / 256
        pixels = pixels.transpose(2, 0, 1)[None].astype(np.float16 if self.half else np.float32)
        alpha = np.asarray(self.session.run(None, {self.input: pixels})[0], dtype=np.float32)
        if alpha.size != self.side[0] * self.side[1] or not np.isfinite(alpha).all():
            raise ValueError(f"the ONNX file gives {alpha.shape} instead of one alpha of {self.side[0]} x {self.side[1]} pixels.")
        if not self.logits and (alpha.min() < -_ROOM or alpha.max() > 1 + _ROOM):
            self.logits = self.imagenet = True
            return self._alpha(picture)
        if self.logits:
            alpha = 1 / (1 + np.exp(-alpha.clip(-60, 60)))
        return alpha.reshape(self.side).clip(0, 1)


def _fit(mask: Tensor, box: Tensor) -> float:
    """Intersection over union of a box (4,) and that of what a mask (H, W) has in it, 0..1."""
    found = bounds(mask, crop_around(box, (int(mask.shape[0]), int(mask.shape[1])), FARTHEST, 4))
    return 0.0 if found is None else float(box_iou(box.new_tensor(found)[None], box[None]))


def load_isnet(path: Path | str) -> IsNet:
    """The segmenter in an ONNX file, on the CPU.

    Raises:
        ImportError: without onnxruntime. ValueError: for a file that cannot be read or is of another form.
    """
    path = Path(path)
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ImportError(f"{path.name} needs onnxruntime, which is not installed: pip install onnxruntime") from error
    if not path.is_file():
        raise ValueError(f"there is no file {path}.")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of errors of its own for every kind of broken file
        raise ValueError(f"{path.name} cannot be read by onnxruntime ({error}). Get the file again.") from error
    return IsNet(session)
