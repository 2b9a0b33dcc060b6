# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numpy as np
import pytest

from fireedit_core.data.formats.painting import COLOURS, LEAVE, TEMPLATES, draws, paint, request


def test_colours_and_templates_follow_the_published_rules():
    assert len(set(TEMPLATES)) == 11 and LEAVE not in TEMPLATES
    assert COLOURS == {
        "red": (255, 0, 0), "purple": (128, 0, 128), "blue": (0, 0, 255), "green": (0, 128, 0), "yellow": (255, 255, 0),
        "white": (255, 255, 255), "black": (0, 0, 0), "gray": (128, 128, 128),
    }  # fmt: skip
    for template in TEMPLATES:
        said = template.format(object="@@", color="##")
        assert said.count("@@") == 1 and said.count("##") == 1 and "{" not in said


def test_paint_mixes_half_and_half_inside_and_leaves_the_outside():
    source = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    kept, mask = source.copy(), np.zeros((5, 7), bool)
    mask[1:3, 2:6] = True
    target = paint(source, mask, "purple")
    assert np.array_equal(target[~mask], source[~mask])
    assert np.abs(target[mask] - (source[mask] * 0.5 + np.array([64, 0, 64]))).max() <= 0.5
    assert np.array_equal(source, kept) and target.dtype == np.uint8


def test_paint_with_other_transparencies():
    source, mask = np.full((2, 2, 3), 200, np.uint8), np.ones((2, 2), bool)
    assert (paint(source, mask, "black", 1) == 200).all() and (paint(source, mask, "red", 0) == (255, 0, 0)).all()
    assert (paint(source, mask, "black", 0.75) == 150).all() and (paint(source, mask, "white", 0.5) == 228).all()  # 227.5 to even


def test_an_empty_mask_gives_a_copy():
    source = np.full((2, 2, 3), 200, np.uint8)
    target = paint(source, np.zeros((2, 2), bool), "red")
    assert np.array_equal(target, source) and not np.shares_memory(target, source)


@pytest.mark.parametrize(
    ("mask", "colour", "transparency", "message"),
    [
        (np.ones((2, 2), np.uint8), "red", 0.5, "must be bool"), (np.ones((2, 3), bool), "red", 0.5, "must be bool"),
        (np.ones((2, 2), bool), "pink", 0.5, "not 'pink'"), (np.ones((2, 2), bool), "red", 1.5, "0..1"),
        (np.ones((2, 2), bool), "red", float("nan"), "0..1"),
    ],
)  # fmt: skip
def test_what_cannot_be_painted(mask, colour, transparency, message):
    with pytest.raises(ValueError, match=message):
        paint(np.zeros((2, 2, 3), np.uint8), mask, colour, transparency)


def test_a_request_says_name_and_colour_and_reaches_all_of_them():
    rng, templates, colours = draws(0, 0, 0), set(), set()
    for _ in range(600):
        instruction, colour = request("the {odd} cat", rng)
        assert "the {odd} cat" in instruction and colour in instruction
        colours.add(colour)
        templates |= {t for t in TEMPLATES if t.format(object="the {odd} cat", color=colour) == instruction}
    assert templates == set(TEMPLATES) and colours == set(COLOURS)


def test_draws_depend_on_seed_epoch_and_row():
    first = draws(1, 2, 3).integers(2**60)
    assert draws(1, 2, 3).integers(2**60) == first
    assert len({int(draws(*key).integers(2**60)) for key in ((1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4), (3, 2, 1))}) == 5
    with pytest.raises(ValueError):
        draws(0, -1, 0)
