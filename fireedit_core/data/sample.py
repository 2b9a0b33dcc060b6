# SPDX-License-Identifier: GPL-3.0-or-later
"""One picture with an instruction, and everything that is known about it: the record that all datasets are read into."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

EDIT_TYPES = ("remove", "replace", "recolour", "add", "resize", "background")


@dataclass(kw_only=True)
class EditSample:
    """A row of any dataset. All boxes are xyxy in pixels, x1/y1 exclusive; pictures and masks of one sample have one size.

    Attributes:
        id: unique within its dataset. dataset: name of the reader, "" for synthetic scenes.
        source: (H, W, 3) uint8 RGB. target: the same shape; None where there is none (test sets, conversations).
        instruction: what to change; "" where the row is a conversation only.
        mask: (H, W) bool, where the edit is; None where the dataset does not say.
        edit_type: the dataset's own word for the kind of edit, "" if it has none.
        boxes: (n, 4) float32 of things that are known to be there. labels: a name for each.
        conversation: (speaker, text) in turns, speaker "human" or "gpt"; `<image>` stands for the picture.
        turn: 1 for a first edit, higher where `source` is the result of an earlier one.
    """

    id: str
    source: np.ndarray
    instruction: str
    dataset: str = ""
    target: np.ndarray | None = None
    mask: np.ndarray | None = None
    edit_type: str = ""
    source_caption: str = ""
    target_caption: str = ""
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    labels: tuple[str, ...] = ()
    conversation: tuple[tuple[str, str], ...] = ()
    turn: int = 1
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class SceneSample(EditSample):
    """An exact synthetic edit: target and mask are there, and outside the mask source and target are bit-identical.

    The instruction is lower case without punctuation, `edit_type` is one of EDIT_TYPES, colours are names of the palette. `boxes` holds
    every object of the source, `labels` its nouns. `mask` is the old and the new footprint; for a background edit all that no object
    covers fully.
    """

    colours: tuple[str, ...]  # the tint of each box, "" when it has its native colours
    target_index: int  # the object that the instruction refers to (the anchor for "add"); -1 for "background"
    edit_box: np.ndarray  # (4,) float32: where the edit lands (hull of old and new box; whole image for background)
    referring: str  # "the left apple"; "" for background
    twins: bool  # another object shares the noun of the referred one
    edit_noun: str = ""  # the noun that appears (replace, add)
    edit_colour: str = ""  # the colour that appears (recolour)
    edit_background: str = ""  # the background that appears (background)
    object_masks: np.ndarray | None = None  # (n, H, W) bool
