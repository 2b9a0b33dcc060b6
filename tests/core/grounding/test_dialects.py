# SPDX-License-Identifier: GPL-3.0-or-later
"""Boxes as families of chat models write them, with the numbers written out."""

from __future__ import annotations

import pytest

from fireedit_core.grounding.dialects import MARKS, PER_MILLE, PIXELS, dialect_of

SIZE = (300, 400)  # height, width of the picture
SEEN = (308, 392)  # of what Qwen2.5-VL makes of it: 22 x 28 patches of 14 pixels
BOX = (100.0, 60.0, 300.0, 240.0)


@pytest.mark.parametrize(
    "kind, dialect",
    [("qwen2_vl", PER_MILLE), ("qwen2_5_vl", PIXELS), ("qwen3_vl", PER_MILLE), ("qwen3_vl_moe", PER_MILLE), ("llava", MARKS),
     ("smolvlm", MARKS), ("anything", MARKS)],
)  # fmt: skip
def test_families(kind, dialect):
    assert dialect_of(kind) is dialect


@pytest.mark.parametrize("dialect, numbers", [(PER_MILLE, [250, 200, 750, 800]), (PIXELS, [98, 62, 294, 246])])
def test_there_and_back(dialect, numbers):
    assert dialect.write(BOX, SIZE, SEEN) == numbers
    back = dialect.read(numbers, SIZE, SEEN)
    assert max(abs(a - b) for a, b in zip(back, BOX)) < 1
    # the other dialect would put it elsewhere
    other = PIXELS if dialect is PER_MILLE else PER_MILLE
    try:
        assert max(abs(a - b) for a, b in zip(other.read(numbers, SIZE, SEEN), BOX)) > 20
    except ValueError as error:
        assert "outside" in str(error)


def test_the_whole_picture_and_a_rounding_outside():
    assert PER_MILLE.write((0, 0, 400, 300), SIZE, SEEN) == [0, 0, 1000, 1000]
    assert PIXELS.write((0, 0, 400, 300), SIZE, SEEN) == [0, 0, 392, 308]
    assert PIXELS.read((-3, 0, 395, 310), SIZE, SEEN) == (0, 0, 400, 300)
    assert PER_MILLE.limits(SEEN) == (1000, 1000) and PIXELS.limits(SEEN) == (392, 308)


@pytest.mark.parametrize(
    "dialect, box, words",
    [(PER_MILLE, (10, 10, 10, 20), "right > left"), (PER_MILLE, (300, 10, 100, 20), "right > left"),
     (PER_MILLE, (0, 0, 1200, 20), "from 0 to 1000"),
     (PIXELS, (0, 0, 500, 20), "x goes from 0 to 392, y from 0 to 308"), (PIXELS, (-5, -5, -1, -1), "empty in the picture")],
)  # fmt: skip
def test_what_is_no_box(dialect, box, words):
    with pytest.raises(ValueError, match=words):
        dialect.read(box, SIZE, SEEN)
