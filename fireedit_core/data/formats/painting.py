# SPDX-License-Identifier: GPL-3.0-or-later
"""Segmentation turned into edits, as InstructDiffusion (arXiv 2309.03895) does it: paint the named object half-transparent, nothing else.

A negative names what is not there, or asks for nothing at all: its target is the source.
"""

from __future__ import annotations

import numpy as np

COLOURS = {
    "red": (255, 0, 0), "purple": (128, 0, 128), "blue": (0, 0, 255), "green": (0, 128, 0), "yellow": (255, 255, 0),
    "white": (255, 255, 255), "black": (0, 0, 0), "gray": (128, 128, 128),
}  # fmt: skip
TRANSPARENCY = 0.5  # share of the source that stays visible under the colour
# As many as the published set has, in words of our own; no article, as a referring sentence brings its own.
TEMPLATES = (
    "lay a sheer coat of {color} over {object}, nothing else may change",
    "wash {object} with {color} paint and touch nothing outside it",
    "give {object} a see-through {color} layer, the remaining picture stays put",
    "with {color}, tint just the area that {object} fills",
    "find {object} and shade it half {color}, its surroundings are to stay untouched",
    "{object}: cover it in translucent {color}, spare all other pixels",
    "let {color} shine over {object} alone",
    "blend {color} into {object} from edge to edge and stop at its outline",
    "show me where {object} is by a {color} film on it, with no change elsewhere",
    "stain {object} {color}, no pixel beyond it",
    "highlight {object} in {color}, the background and other things do not take part",
)
LEAVE = "leave this picture exactly as it is"  # where there is nothing that could be named


def draws(seed: int, epoch: int, row: int) -> np.random.Generator:
    """The stream of one row in one epoch, whatever was read before. Raises ValueError for a negative number."""
    return np.random.default_rng((seed, epoch, row))


def request(name: str, rng: np.random.Generator) -> tuple[str, str]:
    """An instruction to paint `name`, and the colour's name in it: a template and a colour are drawn."""
    template, colour = TEMPLATES[rng.integers(len(TEMPLATES))], tuple(COLOURS)[rng.integers(len(COLOURS))]
    return template.format(object=name, color=colour), colour


def paint(source: np.ndarray, mask: np.ndarray, colour: str, transparency: float = TRANSPARENCY) -> np.ndarray:
    """A copy of `source` (H, W, 3) uint8 with a colour laid over `mask` (H, W) bool, bit-identical outside it.

    Args:
        colour: one of COLOURS. transparency: 1 leaves the source, 0 hides it.

    Raises:
        ValueError: for a mask of another size or type, an unknown colour, or a transparency outside 0..1.
    """
    if mask.dtype != bool or mask.shape != source.shape[:2]:
        raise ValueError(f"paint: the mask must be bool {source.shape[:2]}, got {mask.dtype} {mask.shape}")
    if colour not in COLOURS:
        raise ValueError(f"paint: there are the colours {', '.join(COLOURS)}, not {colour!r}")
    if not 0 <= transparency <= 1:
        raise ValueError(f"paint: transparency must be in 0..1, got {transparency}")
    target = source.copy()
    mixed = transparency * source[mask].astype(np.float64) + (1 - transparency) * np.asarray(COLOURS[colour])
    target[mask] = np.rint(mixed).astype(np.uint8)
    return target
