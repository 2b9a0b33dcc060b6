# SPDX-License-Identifier: GPL-3.0-or-later
"""Thumbnails, and fingerprints made of them: a picture is told from another one and known again after what a file does to it."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from fireedit_core.data import SceneGenerator
from fireedit_core.thumbnail import fingerprint, same_fingerprint, same_picture, thumbnail


@pytest.fixture(scope="module")
def scene():
    return SceneGenerator(split="heldout", seed=0).sample(0)


def to_tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def test_the_text_is_written_out():
    left_red = torch.zeros(3, 16, 24)
    left_red[0, :, :12] = 1.0
    assert fingerprint(left_red) == "24x16:" + ("/wAA" * 4 + "AAAA" * 4) * 8


def test_a_picture_is_known_again(scene):
    mine = fingerprint(to_tensor(scene.source))
    assert same_fingerprint(mine, mine)
    for kind, options in (("PNG", {}), ("JPEG", {"quality": 75}), ("WEBP", {"quality": 80})):
        file = io.BytesIO()
        Image.fromarray(scene.source).save(file, kind, **options)
        assert same_fingerprint(mine, fingerprint(to_tensor(np.asarray(Image.open(file).convert("RGB"))))), kind


def test_another_picture_is_told_from_it(scene):
    mine = fingerprint(to_tensor(scene.source))
    others = {
        "one thing is gone": scene.target, "mirrored": scene.source[:, ::-1], "larger": np.kron(scene.source, np.ones((2, 2, 1), np.uint8)),
        "cut": scene.source[:-8],
    }  # fmt: skip
    for what, other in others.items():
        assert not same_fingerprint(mine, fingerprint(to_tensor(other))), what


@pytest.mark.parametrize("text", ["", "24x16:", "24x16:abcd", "24x16:!!", "something else"])
def test_what_is_no_fingerprint_is_refused(scene, text: str):
    with pytest.raises(ValueError, match="no fingerprint"):
        same_fingerprint(fingerprint(to_tensor(scene.source)), text)


def test_a_thumbnail_is_the_mean_of_sixteen_by_sixteen_cells():
    picture = torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    found = thumbnail(picture)
    assert found.shape == (2, 3, 16, 16)
    assert torch.allclose(found[1, 2, 3, 5], picture[1, 2, 6:8, 20:24].mean())


@pytest.mark.parametrize(("shift", "same"), [(0.03, True), (0.05, False)])
def test_slight_corrections_are_the_same_picture_and_other_pictures_are_not(shift, same):
    picture = torch.full((2, 3, 16, 16), 0.5)
    other = picture.clone()
    other[1] += shift  # one row of two is enough
    assert same_picture(picture, other) is same and same_picture(picture, picture)
    assert same_picture(None, other) and same_picture(picture, other[:1])
