# SPDX-License-Identifier: GPL-3.0-or-later
"""What the readers and bulk editing make of picture files: right, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fireedit_core.data.formats.reader import BrokenRow, mask, picture

GREYS = np.array([[0, 1, 99, 128, 254, 255]], np.uint8)


@pytest.mark.parametrize("end", ("png", "tif"))
def test_grey_of_16_bits_is_brought_to_8(tmp_path, end):
    """Pillow's own way cuts off at 255: nearly all of the picture was white."""
    file = tmp_path / f"deep.{end}"
    Image.fromarray(GREYS.astype(np.uint16) * 257).save(file)
    for source in (file, file.read_bytes(), Image.open(file)):
        assert np.array_equal(picture(source), np.repeat(GREYS[..., None], 3, -1))
    assert mask(file).tolist() == [[False, False, False, True, True, True]]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.float32([[0, 0.5]]), "picture of floating point"), (np.int32([[0, 65536]]), "more than 16 bits, .*: 0 to 65536"),
        (np.int32([[-1, 5]]), "more than 16 bits"),
    ],
)  # fmt: skip
def test_values_of_no_known_range_are_refused(tmp_path, values, said):
    Image.fromarray(values).save(tmp_path / "x.tif")
    with pytest.raises(BrokenRow, match=said):
        picture(tmp_path / "x.tif")


def test_a_moving_picture_is_refused_and_one_of_a_camera_is_none(tmp_path):
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    for end in ("gif", "webp", "png", "tif"):
        frames[0].save(tmp_path / f"two.{end}", save_all=True, append_images=frames[1:])
        with pytest.raises(BrokenRow, match="a moving source: it has 2 frames"):
            picture(tmp_path / f"two.{end}", "source")
    frames[0].save(tmp_path / "camera.jpg", format="MPO", save_all=True, append_images=frames[1:])
    assert picture(tmp_path / "camera.jpg")[0, 0].tolist() == [254, 0, 0]
