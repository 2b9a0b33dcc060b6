# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes in the three variants of UltraEdit; see formats/ultraedit.py."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..formats.ultraedit import SCORES
from ..sample import SceneSample
from .files import encoded, write_parquet

VARIANTS = {"FreeForm": "FreeForm_0", "500k": "FreeForm", "Region_Based": "RegionBase"}  # and the name of the split


def write(folder: Path, samples: Iterable[SceneSample], variant: str = "Region_Based") -> None:
    """One parquet shard. A score is the sample's own, from `meta`, else 0.5: scenes are not scored.

    Args:
        folder: is made. samples: a mask may be None.
        variant: "FreeForm" (mask and object are there, of type null), "500k" (they are not there) or "Region_Based".

    Raises:
        KeyError: for another variant.
    """
    split, rows = VARIANTS[variant], []
    for number, s in enumerate(samples):
        row = {name: float(s.meta.get(name, 0.5)) for name in SCORES}
        row |= {
            "source_caption": s.source_caption, "target_caption": s.target_caption, "idx": number, "edit_prompt": s.instruction,
            "source_image": encoded(s.source), "edited_image": encoded(s.target),
        }  # fmt: skip
        if variant == "FreeForm":
            row |= {"edit_object": None, "mask_image": None}
        elif variant == "Region_Based":
            named = s.edit_noun or (s.labels[s.target_index] if s.target_index >= 0 else "background")
            row |= {"edit_object": named, "mask_image": None if s.mask is None else encoded(s.mask)}
        rows.append(row)
    pictures = ("source_image", "edited_image") + (("mask_image",) if variant == "Region_Based" else ())
    write_parquet(folder / "data" / f"{split}-00000-of-00001.parquet", rows, pictures)
