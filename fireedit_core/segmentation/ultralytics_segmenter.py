# SPDX-License-Identifier: GPL-3.0-or-later
"""Segmentation networks of ultralytics as segmenters: what they find is matched to the boxes that are asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ..regions.suppression import box_iou
from ..regions.ultralytics_detector import UltralyticsDetector, load_ultralytics
from .segmenter import check_boxes, crop_around

MARGIN = 0.2
_AGREE = 0.5  # intersection over union from which a finding is the thing in the box
_LOWER = 4  # masks come at a quarter of the network's input


class UltralyticsSegmenter(nn.Module):
    """See the module. The network sees the box with a little around it, so that small things are large to it."""

    family, soft, blind = "ultralytics", False, False

    def __init__(self, detector: UltralyticsDetector):
        super().__init__()
        self.detector = detector

    def pixel(self, box: Tensor, size: tuple[int, int]) -> float:
        """See `Segmenter.pixel`."""
        left, top, right, bottom = crop_around(box, size, MARGIN)
        return max(max(right - left, bottom - top) * _LOWER / self.detector.input_size, 1.0)

    @torch.no_grad()
    def segment(self, image: Tensor, boxes: Tensor, progress: Callable[[int], None] | None = None) -> Tensor:
        """See `Segmenter.segment`. A box that agrees with nothing that the network finds gives an empty mask."""
        boxes = check_boxes(image, boxes, self.family)
        size = (int(image.shape[-2]), int(image.shape[-1]))
        masks = torch.zeros(len(boxes), *size)
        for i, box in enumerate(boxes):
            left, top, right, bottom = crop_around(box, size, MARGIN)
            found = self.detector.detect(image[None, :, top:bottom, left:right].float(), 0.1, 0.7, 30)[0]
            if found.masks is not None and len(found):
                agree = box_iou(found.boxes, (box - box.new_tensor([left, top, left, top]))[None])[:, 0]
                if float(agree.max()) >= _AGREE:
                    masks[i, top:bottom, left:right] = found.masks[int(agree.argmax())].clamp(0, 1)
            if progress is not None:
                progress(i + 1)
        return masks


def load_ultralytics_segmenter(path: Path | str) -> UltralyticsSegmenter:
    """The segmenter in a `.pt` file, through the allow-listed load of `ultralytics_detector`.

    Raises:
        ImportError, ValueError: see `load_ultralytics`; ValueError also for a network that gives boxes only.
    """
    detector = load_ultralytics(path)
    if "Seg" not in type(detector.network).__name__:
        raise ValueError(f"{Path(path).name} finds boxes and makes no masks; choose a segmentation file (yolo...-seg.pt).")
    return UltralyticsSegmenter(detector)
