# SPDX-License-Identifier: GPL-3.0-or-later
"""What Pillow's pictures hold that its own `convert` and `n_frames` do not say as people mean it."""

from __future__ import annotations

import numpy as np
from PIL import Image


def frames(picture: Image.Image) -> int:
    """How many frames a picture has; 1 for the photographs of phones (MPO), which keep a smaller copy or a gain map behind the first."""
    return 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)


def eight_bits(picture: Image.Image) -> Image.Image:
    """A picture of 16 bits, its values 0..65535, in the nearest of 8; `convert` would cut more bits off, and make nearly all white."""
    return Image.fromarray((np.asarray(picture, np.float32) / 257).round().clip(0, 255).astype(np.uint8))
