# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures and tables as public datasets store them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..sample import SceneSample


def encoded(picture: np.ndarray, form: str = "PNG") -> dict[str, Any]:
    """A picture (H, W, 3) uint8 or mask (H, W) bool as the hub's parquet files hold it."""
    out = io.BytesIO()
    _image(picture).save(out, form)
    return {"bytes": out.getvalue(), "path": None}


def save_picture(picture: np.ndarray, path: Path) -> None:
    """A picture or mask as a file; JPEG where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _image(picture).save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))


def _image(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(picture.astype(np.uint8) * 255 if picture.dtype == bool else picture)


def object_masks(sample: SceneSample) -> np.ndarray:
    """(n, H, W) bool, one mask per box. Raises ValueError for a scene that was made without them."""
    if sample.object_masks is None:
        raise ValueError(f"{sample.id} has no object masks; SceneGenerator(masks=True) makes them")
    return sample.object_masks


def write_parquet(path: Path, rows: Iterable[Mapping[str, Any]], pictures: Iterable[str]) -> None:
    """One shard. `pictures` names the columns that hold `encoded` pictures."""
    import datasets

    rows = list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = datasets.Dataset.from_list([dict(row) for row in rows])
    for column in pictures:
        table = table.cast_column(column, datasets.Image(decode=False))
    table.to_parquet(str(path))
