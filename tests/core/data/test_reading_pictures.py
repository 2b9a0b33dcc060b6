# SPDX-License-Identifier: GPL-3.0-or-later
"""What the readers and bulk editing make of picture files: right, or refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import ExifTags, Image

from fireedit_core.data.formats.reader import BrokenRow, mask, picture, picture_size

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


def test_a_picture_of_too_many_pixels_is_a_row_that_is_left_out(tmp_path, monkeypatch):
    """It ended a training run in the middle, and each time that it went on from there."""
    Image.new("L", (40, 30)).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    for read in (picture, picture_size, mask):
        with pytest.raises(BrokenRow, match="broken source: Image size .1200 pixels"):
            read(tmp_path / "huge.png", "source")


@pytest.mark.parametrize("kind", ("TIFF", "JPEG"))
def test_whatever_a_damaged_file_raises_is_a_broken_row(tmp_path, kind):
    """A TIFF without its sides raises TypeError, a JPEG with a damaged EXIF struct.error: both ended a training run."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = 6, "somebody"
    file = tmp_path / "damaged"
    Image.new("RGB", (8, 6)).save(file, kind, exif=exif)
    whole, found = file.read_bytes(), []
    for place in range(len(whole)):
        for value in (0, 1, 255):
            file.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
            for read in (picture, picture_size):
                try:
                    read(file)
                except BrokenRow as error:
                    found.append(type(error.__cause__))
    assert {"TIFF": TypeError, "JPEG": struct.error}[kind] in found


@pytest.mark.parametrize("lightest", (1, 127))
def test_a_mask_of_numbers_is_no_empty_mask(tmp_path, lightest):
    """0 and 1, or the colours of a palette: nothing was marked, and that was learnt."""
    values = np.zeros((8, 8), np.uint8)
    values[2:5] = lightest
    Image.fromarray(values).save(tmp_path / "m.png")
    with pytest.raises(BrokenRow, match=f"no white in the mask: its lightest value is {lightest} of 255"):
        mask(tmp_path / "m.png")
    Image.fromarray(values * 0).save(tmp_path / "m.png")
    assert not mask(tmp_path / "m.png").any()  # nothing is marked, and nothing looks as if it were
