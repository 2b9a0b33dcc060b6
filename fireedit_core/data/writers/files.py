# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures and tables as public datasets store them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def encoded(picture: np.ndarray, form: str = "PNG") -> dict[str, Any]:
    """A picture (H, W, 3) uint8 or mask (H, W) bool as the hub's parquet files hold it."""
    array = picture.astype(np.uint8) * 255 if picture.dtype == bool else picture
    out = io.BytesIO()
    Image.fromarray(array).save(out, form)
    return {"bytes": out.getvalue(), "path": None}


def save_picture(picture: np.ndarray, path: Path) -> None:
    """A picture or mask as a file; JPEG where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = picture.astype(np.uint8) * 255 if picture.dtype == bool else picture
    Image.fromarray(array).save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))


def write_parquet(path: Path, rows: Iterable[Mapping[str, Any]], pictures: Iterable[str]) -> None:
    """One shard. `pictures` names the columns that hold `encoded` pictures."""
    import datasets

    rows = list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = datasets.Dataset.from_list([dict(row) for row in rows])
    for column in pictures:
        table = table.cast_column(column, datasets.Image(decode=False))
    table.to_parquet(str(path))
