# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command line makes of pictures on their way to a server and back."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from fireedit_cli.batch import edit
from fireedit_cli.comfy_client import RunResult, encode_png
from fireedit_cli.jobs import jobs_of
from fireedit_cli.pictures import PictureError, check_picture, read_picture
from fireedit_cli.ways import Ways
from fireedit_cli.workflow import Workflow
from fireedit_core.colour_profile import colour_profile


def test_two_frames_are_moving(tmp_path):
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(PictureError, match="2 frames"):
        check_picture(tmp_path / "two.gif")
    # what a camera puts behind a photograph (a small copy, a gain map for bright screens) is no second frame
    frames[0].save(tmp_path / "camera.jpg", format="MPO", save_all=True, append_images=frames[1:])
    assert check_picture(tmp_path / "camera.jpg") == [] and read_picture(tmp_path / "camera.jpg")[0, 0].tolist() == [254, 0, 0]


def test_values_of_no_known_range_are_refused(tmp_path):
    for name, values in (("low.tif", [-1, 5]), ("high.tif", [0, 65536])):
        Image.fromarray(np.array([values], np.int32)).save(tmp_path / name)
        with pytest.raises(PictureError, match=f"{name} has values of {values[0]} to {values[1]}, more than 16 bits hold"):
            check_picture(tmp_path / name)
    Image.fromarray(np.array([[0, 65535]], np.int32)).save(tmp_path / "fits.tif")
    assert check_picture(tmp_path / "fits.tif") == [] and read_picture(tmp_path / "fits.tif")[0, :, 0].tolist() == [0, 255]


def test_a_picture_that_is_too_large_is_refused_by_name(tmp_path, monkeypatch):
    Image.new("L", (40, 30)).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(PictureError, match="huge.png is too large to be opened: Image size .1200 pixels"):
        check_picture(tmp_path / "huge.png")


def test_grey_of_16_bits_is_rounded_to_8(tmp_path):
    """257 steps of 16 bits are one of 8: half of that and more is the next."""
    values = np.array([[0, 128, 129, 99 * 257 + 128, 99 * 257 + 129, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    found = read_picture(tmp_path / "deep.png")
    assert found.shape == (1, 6, 3) and (found == found[..., :1]).all() and found[0, :, 0].tolist() == [0, 0, 1, 99, 100, 255]


def test_floats_become_the_nearest_bytes():
    values = np.array([[-0.1, 0.0, 99.4 / 255], [99.6 / 255, 254.6 / 255, 1.2]], np.float32)
    made = Image.open(io.BytesIO(encode_png(values)))
    assert np.asarray(made).tolist() == [[0, 0, 99], [100, 255, 255]]


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() + b"\0" * 4  # one that nobody else writes


class Server:
    """Gives back a grey picture, as hosts do: without any profile."""

    def upload_image(self, picture, name=None):
        return name

    def run(self, nodes, timeout=600.0):
        flow = Workflow(nodes)
        (shown,) = flow.fed_by("PreviewImage", "FireEditSample")
        return RunResult("id", {}, {shown: [np.full((6, 8, 3), 128, np.uint8)]}, [], 1.0)


@pytest.mark.parametrize("end", ["png", "jpg", "webp", "tif"])
def test_the_colours_of_a_photograph_mean_what_they_meant(tmp_path: Path, end: str):
    """A phone's Display P3 came back without its profile, and looked paler all over."""
    Image.new("RGB", (8, 6), "red").save(tmp_path / "in.jpg", icc_profile=PROFILE)
    job = jobs_of(tmp_path / "in.jpg", "remove it", tmp_path / f"out.{end}")[0]
    edit(Server(), Ways(Workflow.load()), job)
    assert Image.open(job.output).info["icc_profile"] == PROFILE
    Image.new("RGB", (8, 6), "red").save(tmp_path / "in.jpg")
    edit(Server(), Ways(Workflow.load()), job)
    assert not Image.open(job.output).info.get("icc_profile")


def test_a_profile_of_other_colours_does_not_fit_what_was_converted(tmp_path: Path):
    Image.new("CMYK", (8, 6)).save(tmp_path / "in.jpg", icc_profile=PROFILE[:16] + b"CMYK" + PROFILE[20:])
    assert colour_profile(tmp_path / "in.jpg") == {}
