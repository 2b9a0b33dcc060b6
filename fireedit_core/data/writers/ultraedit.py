# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes in the layouts of UltraEdit; see formats/ultraedit.py."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..sample import SceneSample
from .files import encoded, write_parquet


def write_hub(folder: Path, samples: Iterable[SceneSample], regions: bool = True) -> None:
    """One parquet shard, region-based (with masks and names) or free-form; the scores fall from row to row."""
    rows = []
    for i, sample in enumerate(samples):
        good = 1 / (1 + i)
        row = {
            "clip_sim_source": 0.3 * good, "clip_sim_target": 0.3 * good, "clip_sim_dir": 0.4 * good, "clip_sim_image": good,
            "dinov2_sim": good, "ssim": good, "source_caption": sample.source_caption, "target_caption": sample.target_caption,
            "idx": f"{i:06d}", "edit_prompt": sample.instruction, "source_image": encoded(sample.source),
            "edited_image": encoded(sample.target),
        }  # fmt: skip
        if regions:
            row |= {"mask_image": encoded(sample.mask), "edit_object": sample.edit_noun or sample.referring}
        rows.append(row)
    pictures = ("source_image", "edited_image", *(("mask_image",) if regions else ()))
    name = "RegionBase" if regions else "FreeForm"
    write_parquet(folder / "data" / f"{name}-00000-of-00001.parquet", rows, pictures)
