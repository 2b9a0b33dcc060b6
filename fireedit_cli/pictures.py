# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of the user's on their way to a server: what comes in right as it is, what is read here, what is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps


class PictureError(ValueError):
    """A file that is no picture which can be edited; the message names it and the mend."""


def read_picture(path: Path, alpha: bool = False) -> np.ndarray:
    """Any picture that Pillow reads as (H, W, 3) uint8: turned as its EXIF says, 16 bit brought to 8. Transparency is dropped, or comes as
    a fourth channel where there is some and `alpha` asks for it.

    Raises PictureError when there is none.
    """
    if not path.is_file():
        raise PictureError(f"no picture at {path}" + (" (it is a folder)" if path.is_dir() else ""))
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith("I"):  # 16 bit; convert("RGB") would clip instead of scaling
                picture = Image.fromarray((np.asarray(picture, np.float32) / 257).round().clip(0, 255).astype(np.uint8))
            return np.asarray(picture.convert("RGBA" if alpha and _has_alpha(picture) else "RGB"))
    except Exception as error:  # whatever Pillow raises: of damaged files struct.error and TypeError too
        raise PictureError(f"{path} is no picture that can be read ({error}); give a PNG or JPEG") from error


def is_deep(path: Path) -> bool:
    """Whether a picture is grey with 16 bits."""
    with Image.open(path) as picture:
        return picture.mode.startswith("I")


def is_read_alike(path: Path) -> bool:
    """Whether every ComfyUI's Load Image reads a file as `read_picture` does.

    0.3.75 cuts 16 bits of grey off at 255 and edits a white picture; 0.33.0 reads grey up to 1 of 255 too dark, and does not mirror
    what its EXIF says is mirrored.
    """
    with Image.open(path) as picture:
        return picture.mode in ("RGB", "RGBA", "P", "CMYK") and picture.getexif().get(ExifTags.Base.Orientation, 1) == 1


def check_picture(path: Path) -> list[str]:
    """What is lost when a picture is edited, in sentences.

    Raises:
        PictureError: for a file that is damaged, moving, of unknown range, or no picture: the server would take its first frame, or grey,
            in silence.
    """
    try:
        with Image.open(path) as picture:
            frames = getattr(picture, "n_frames", 1)
            if frames > 1 and picture.format != "MPO":  # in which cameras put a smaller copy or a gain map behind the photograph
                raise PictureError(f"{path} is moving: it has {frames} frames; save the one that is meant")
            picture.load()
            picture.getexif()  # which way up it is asked next
            if picture.mode == "F":
                raise PictureError(f"{path} has floating point pixels, whose range nobody knows; save it with 8 or 16 bits")
            if picture.mode == "I" and not 0 <= (extrema := picture.getextrema())[0] <= extrema[1] <= 65535:
                raise PictureError(f"{path} has values of {extrema[0]} to {extrema[1]}, more than 16 bits hold; save it with 8 or 16 bits")
            return [f"{path.name}: its transparency is lost"] if _has_alpha(picture) else []
    except Image.DecompressionBombError as error:
        raise PictureError(f"{path} is too large to be opened: {error}") from error
    except PictureError:
        raise
    except Exception as error:  # as above
        raise PictureError(f"{path} is damaged or no picture: {error}") from error


def _has_alpha(picture: Image.Image) -> bool:
    return picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
