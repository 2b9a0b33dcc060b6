# SPDX-License-Identifier: GPL-3.0-or-later
"""One before/after pair with everything that is known about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

EDIT_TYPES = ("remove", "replace", "recolour", "add", "resize", "background")


@dataclass
class EditSample:
    """An exact synthetic edit. All boxes are xyxy in pixels, x1/y1 exclusive; all colours are names of the palette.

    Outside ``mask`` the source and the target are bit-identical.
    """

    id: str
    source: np.ndarray  # (H, W, 3) uint8 RGB
    target: np.ndarray  # (H, W, 3) uint8 RGB
    instruction: str  # lower case, no punctuation
    edit_type: str  # one of EDIT_TYPES
    mask: np.ndarray  # (H, W) bool: old and new footprint; for a background edit all that no object covers fully
    boxes: np.ndarray  # (n, 4) float32, every object of the source
    labels: tuple[str, ...]  # the noun of each box
    colours: tuple[str, ...]  # the tint of each box, "" when it has its native colours
    target_index: int  # the object that the instruction refers to (the anchor for "add"); -1 for "background"
    edit_box: np.ndarray  # (4,) float32: where the edit lands (hull of old and new box; whole image for background)
    referring: str  # "the left apple"; "" for background
    twins: bool  # another object shares the noun of the referred one
    source_caption: str
    target_caption: str
    edit_noun: str = ""  # the noun that appears (replace, add)
    edit_colour: str = ""  # the colour that appears (recolour)
    edit_background: str = ""  # the background that appears (background)
    object_masks: np.ndarray | None = None  # (n, H, W) bool
    meta: dict[str, Any] = field(default_factory=dict)
