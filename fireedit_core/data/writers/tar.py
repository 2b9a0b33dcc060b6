# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes as shards of pairs, tar archives in the manner of WebDataset; see `formats.shards.TarPairs`."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

from ..sample import SceneSample
from .files import encoded


def write(folder: Path, samples: Sequence[SceneSample], shards: int = 1) -> list[Path]:
    """`pairs-00000.tar` and so on, as many rows in each as can be: `<key>.src.png`, `<key>.tgt.png`, `<key>.mask.png` and `<key>.json`.

    Returns the archives. Raises ValueError for fewer samples than shards.
    """
    if not 1 <= shards <= len(samples):
        raise ValueError(f"{len(samples)} samples cannot fill {shards} shards")
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"pairs-{number:05d}.tar" for number in range(shards)]
    for number, file in enumerate(files):
        with tarfile.open(file, "w") as archive:
            for place in range(number, len(samples), shards):
                for ending, data in _members(samples[place]).items():
                    entry = tarfile.TarInfo(f"{place:06d}.{ending}")
                    entry.size = len(data)
                    archive.addfile(entry, io.BytesIO(data))
    return files


def _members(sample: SceneSample) -> dict[str, bytes]:
    texts = {key: getattr(sample, key) for key in ("instruction", "edit_type", "source_caption", "target_caption")}
    pictures = {"src.png": sample.source, "tgt.png": sample.target, "mask.png": sample.mask}
    return {key: encoded(picture)["bytes"] for key, picture in pictures.items()} | {"json": json.dumps(texts).encode()}
