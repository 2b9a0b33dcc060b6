# SPDX-License-Identifier: GPL-3.0-or-later
"""What the numbers of a picture's pixels mean: the ICC profile that goes with them. Loads no model library."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

_KEY = "icc_profile"  # among what Pillow reads beside the pixels, and an option of its `save`


def colour_profile(file: Path | str) -> dict[str, bytes]:
    """{"icc_profile": ...} of a picture file, for the picture that is made of its pixels; {} where it has none that fits RGB.

    Nothing converts the pixels on their way through an edit. Without their profile a photograph of a phone (Display P3) or in Adobe RGB
    is shown in paler colours than it was, also where nothing was edited.
    """
    with Image.open(file) as picture:
        profile = picture.info.get(_KEY) or b""
    return {_KEY: profile} if profile[16:20] == b"RGB " else {}  # of grey and CMYK the pixels were converted, and no longer fit
