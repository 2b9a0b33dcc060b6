# SPDX-License-Identifier: GPL-3.0-or-later
"""A known drift of colours is taken back, an edit is not, and where nothing says what has drifted nothing is done."""

from __future__ import annotations

import numpy as np
import pytest

from fireedit_core.photo.drift import Drift, colour_drift
from tests.core.photo.test_registration import SIZE, scene

X = np.linspace(-1, 1, SIZE[1], dtype=np.float32)[None, :, None]
Y = np.linspace(-1, 1, SIZE[0], dtype=np.float32)[:, None, None]


def edit(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The photo with a grey and a red thing in it, and where it is still the photo."""
    made, outside = photo.copy(), np.ones(SIZE, bool)
    made[60:180, 80:160], made[60:180, 160:240] = 0.4, (0.7, 0.2, 0.15)
    outside[50:190, 70:250] = False
    return made, outside


def drifted(picture: np.ndarray) -> np.ndarray:
    matrix = np.float32([[1.05, -0.04, 0.02], [0.03, 0.93, 0.0], [0.0, 0.05, 0.95]])
    return (picture @ matrix.T + np.float32([0.03, -0.02, 0.01]) + 0.04 * X - 0.03 * Y).astype(np.float32)


@pytest.mark.parametrize("told", (True, False))
def test_drift_is_taken_back_in_the_edit_too(told):
    photo = 0.15 + 0.7 * scene(3)
    true, outside = edit(photo)
    came = drifted(true)
    found = colour_drift(came, photo, outside if told else np.ones(SIZE, bool))
    made = found.undo(came)
    inside = ~outside
    assert not found.off and "colours corrected" in found.words
    assert np.abs(came - true)[inside].mean() * 255 > 7 and np.abs(made - true)[inside].mean() * 255 < 2
    assert np.abs(made - photo)[outside].max() * 255 < 3


def test_colours_that_the_surroundings_do_not_show_are_left():
    """Grey surroundings that became brighter say nothing about red."""
    photo = np.repeat(0.2 + 0.6 * scene(1)[..., :1], 3, -1)
    true, outside = edit(photo)
    came = (true + 0.05).astype(np.float32)
    made = colour_drift(came, photo, outside).undo(came)
    assert np.abs(made - true)[~outside].max() * 255 < 3


@pytest.mark.parametrize(
    "case, words", [("same", "nothing has drifted"), ("none", "too little"), ("white", "too little"), ("other", "left as they came")]
)
def test_left_alone(case, words):
    photo = 0.15 + 0.7 * scene(2)
    outside = np.ones(SIZE, bool)
    came = photo + np.float32(0.4 / 255)
    if case == "none":
        came, outside = drifted(photo), np.zeros(SIZE, bool)
    if case == "white":
        photo, came = np.ones_like(photo), np.full_like(photo, 0.97)
    if case == "other":
        came = 1 - photo
    found = colour_drift(came, photo, outside)
    assert found.off and words in found.words and found.undo(came) is came


def test_what_takes_a_drift_back_by_hand():
    """A matrix, an offset, and planes along x and y from -1 at the first pixel to 1 at the last; cut to 0..1."""
    picture = np.zeros((3, 5, 3), np.float32) + np.float32([0.5, 0.2, 0.9])
    matrix = np.array([[1.0, 0.5, 0, 0.05, 0.1, 0.02], [0, 2.0, 0, -0.1, 0, 0], [0, 0, 1.0, 0.3, 0, 0]])
    made = Drift(matrix, 0.1, 0.0).undo(picture)
    red = 0.5 + 0.5 * 0.2 + 0.05 + np.add.outer([-0.02, 0, 0.02], [-0.1, -0.05, 0, 0.05, 0.1])
    assert np.allclose(made[..., 0], red) and np.allclose(made[..., 1], 0.3) and (made[..., 2] == 1).all()


def test_a_place_counts_only_where_all_of_it_lies_outside():
    """Every second column was to change: on the small picture that is looked at, no pixel is free of it."""
    photo = 0.15 + 0.7 * scene(2)
    outside = np.ones(SIZE, bool)
    outside[:, ::2] = False
    assert "too little" in colour_drift(drifted(photo), photo, outside).off


def test_sizes_must_fit():
    with pytest.raises(ValueError, match="one size"):
        colour_drift(scene(), scene(), np.ones((3, 3), bool))
