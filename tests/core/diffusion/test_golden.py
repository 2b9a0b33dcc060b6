# SPDX-License-Identifier: GPL-3.0-or-later
"""The pipeline over the embedded bundle gives what is written down."""

from __future__ import annotations

import pytest

from tests.golden.cases import CASES, TOLERANCE, by_pipeline, check, described, differences, turns_by_pipeline


@pytest.mark.parametrize("name", CASES)
def test_an_edit(name):
    check(name, *by_pipeline(CASES[name]))


def test_turns():
    for name, made in turns_by_pipeline().items():
        check(name, *made)


def test_a_small_fault_is_a_difference():
    """A row too low, swapped channels, a hundredth too bright: all beyond the tolerance."""
    made = by_pipeline(CASES["free"])
    expected = described(*made)
    for picture in (made[0][::-1][1:][::-1], made[0][..., ::-1], made[0] + 0.01):
        assert differences(described(picture, *made[1:]), expected)
    assert not differences(described(made[0] + TOLERANCE / 2, *made[1:]), expected)
