# SPDX-License-Identifier: GPL-3.0-or-later
"""Segmentation turned into edits: "paint the dog red". The rules are those of InstructDiffusion (arXiv 2309.03895), the sentences our own.

What is drawn for a row depends on (seed, epoch, row) alone, so that a run that is resumed sees the same.
"""

from __future__ import annotations

import numpy as np

COLOURS = {
    "red": (255, 0, 0), "purple": (128, 0, 128), "blue": (0, 0, 255), "green": (0, 128, 0), "yellow": (255, 255, 0),
    "white": (255, 255, 255), "black": (0, 0, 0), "gray": (128, 128, 128),
}  # fmt: skip
TRANSPARENCY = 0.5  # how much of the picture shines through the paint
TEMPLATES = (
    "lay a see-through coat of {color} over the {object}",
    "tint the {object} {color} and touch nothing else",
    "mark the {object} in {color}",
    "cover every pixel of the {object} with {color}, the others stay",
    "show me where the {object} is by making it {color}",
    "wash the {object} over with {color}",
    "put a {color} film on the {object} only",
    "fill in the {object} with half transparent {color}",
    "shade the {object} {color}; keep all around it",
    "give the {object} a {color} glaze",
    "draw {color} over the {object}, leave the rest as it is",
)
NOTHING = "leave the picture as it is"


def draws(seed: int, epoch: int, row: int) -> np.random.Generator:
    """The random numbers of a row in an epoch."""
    return np.random.default_rng((seed, epoch, row))


def instruction(name: str, rng: np.random.Generator) -> tuple[str, str]:
    """(sentence, name of the colour) for a thing."""
    colour = list(COLOURS)[int(rng.integers(len(COLOURS)))]
    return TEMPLATES[int(rng.integers(len(TEMPLATES)))].format(object=name, color=colour), colour


def paint(picture: np.ndarray, mask: np.ndarray, colour: str, transparency: float = TRANSPARENCY) -> np.ndarray:
    """A picture (H, W, 3) uint8 with the pixels of a mask (H, W) bool mixed with a colour; all others stay bit for bit."""
    mixed = transparency * picture.astype(np.float32) + (1 - transparency) * np.array(COLOURS[colour], np.float32)
    return np.where(mask[..., None], mixed.round().astype(np.uint8), picture)
