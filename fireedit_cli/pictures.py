# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of the user's on their way to a server: what comes in right, what is brought to 8 bits here, what is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError


class PictureError(ValueError):
    """A file that is no picture which can be edited; the message names it and the mend."""


def read_picture(path: Path) -> np.ndarray:
    """Any picture that Pillow reads as (H, W, 3) uint8: turned as its EXIF says, alpha dropped, 16 bit brought to 8.

    Raises PictureError when there is none.
    """
    if not path.is_file():
        raise PictureError(f"no picture at {path}" + (" (it is a folder)" if path.is_dir() else ""))
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith("I"):  # 16 bit; convert("RGB") would clip instead of scaling
                picture = Image.fromarray((np.asarray(picture, np.float32) / 257).clip(0, 255).astype(np.uint8))
            return np.asarray(picture.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise PictureError(f"{path} is no picture that can be read ({error}); give a PNG or JPEG") from error


def is_deep(path: Path) -> bool:
    """Whether a picture is grey with 16 bits: Load Image cuts those off at 255 and edits a white picture."""
    with Image.open(path) as picture:
        return picture.mode.startswith("I")


def check_picture(path: Path) -> list[str]:
    """What is lost when a picture is edited, in sentences.

    Raises:
        PictureError: for a file that is damaged, moving, or no picture: the server would take its first frame, or grey, in silence.
    """
    try:
        with Image.open(path) as picture:
            frames = getattr(picture, "n_frames", 1)
            if frames > 1:
                raise PictureError(f"{path} is moving: it has {frames} frames; save the one that is meant")
            picture.load()
            if picture.mode == "F":
                raise PictureError(f"{path} has floating point pixels, whose range nobody knows; save it with 8 or 16 bits")
            alpha = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
            return [f"{path.name}: its transparency is lost"] if alpha else []
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, PictureError):
            raise
        raise PictureError(f"{path} is damaged or no picture: {error}") from error
