# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenCV, imported when it is needed: ComfyUI does not bring it, ultralytics does."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from torch import Tensor


def opencv() -> Any:
    """The module cv2.

    Raises:
        ImportError: where it is not installed; the message says how to get it.
    """
    try:
        return importlib.import_module("cv2")
    except ImportError as error:
        raise ImportError("edits of photographs need OpenCV, which is not installed: pip install opencv-python-headless") from error


def bytes_of(image: Tensor, crop: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
    """The crop (left, top, right, bottom) of a picture (3, H, W) at `size` = (height, width), as uint8 (h, w, 3).

    Channel by channel, so that a photo of 24 MP is never copied whole.
    """
    cv2 = opencv()
    left, top, right, bottom = crop
    way = cv2.INTER_AREA if size[0] <= bottom - top and size[1] <= right - left else cv2.INTER_LINEAR
    made = []
    for channel in image[:, top:bottom, left:right]:
        small = cv2.resize(channel.float().cpu().numpy(), (size[1], size[0]), interpolation=way)
        made.append((small.clip(0, 1) * 255).round().astype(np.uint8))
    return np.dstack(made)
