# SPDX-License-Identifier: GPL-3.0-or-later
"""How well two boxes lie to each other, written out by hand."""

from __future__ import annotations

import pytest
import torch

from fireedit_core.grounding.places import between, from_middle, lies

BOX, APART = (10, 10, 20, 20), (30, 10, 40, 20)
NEAR = 2 ** -(10 / (0.15 * 20))  # a gap of 10 px between boxes whose sides are 10 px each
TABLE, CUP = (0, 40, 100, 80), (40, 20, 60, 42)  # the cup stands on the table
LYING = (40, 30, 60, 60)  # overlaps with it by two thirds


@pytest.mark.parametrize(
    ("relation", "box", "other", "expected"),
    [
        ("next to", BOX, APART, NEAR),
        ("next to", BOX, BOX, 0.5),
        ("left of", BOX, APART, 0.3 + 0.7 * NEAR),
        ("left of", APART, BOX, 0.02 * (0.3 + 0.7 * NEAR)),
        ("right of", APART, BOX, 0.3 + 0.7 * NEAR),
        ("right of", BOX, APART, 0.02 * (0.3 + 0.7 * NEAR)),
        ("above", CUP, TABLE, 1.0),
        ("above", TABLE, CUP, 0.02),
        ("below", TABLE, CUP, 1.0),
        ("below", CUP, TABLE, 0.02),
        ("on", CUP, TABLE, 1.0),
        ("on", LYING, TABLE, 1.0),
        ("on", (90, 45, 130, 75), TABLE, 10 / 40),  # no more than its edge is over the table
        ("on", (90, 60, 130, 100), TABLE, 0.5 * 10 * 20 / (40 * 40)),
        ("on", TABLE, CUP, 0.5 * 20 * 2 / (100 * 40)),  # reaches below the cup: hardly on it
        ("on", BOX, APART, 0.0),
        ("in", LYING, TABLE, 2 / 3),
        ("in", TABLE, LYING, 20 * 20 / (100 * 40)),
        ("with", TABLE, LYING, 2 / 3),
        ("with", BOX, APART, 0.0),
        ("with", BOX, (21, 10, 31, 20), 0.5 * 2 ** -(1 / 3)),
        ("of", TABLE, LYING, 2 / 3),
        ("of", LYING, TABLE, 2 / 3),
        ("of", BOX, APART, 0.3 * NEAR),
        ("from", CUP, TABLE, 1.0),
        ("from", TABLE, LYING, 2 / 3),
        ("in front of", (10, 20, 20, 40), (10, 10, 20, 30), 1.0),
        ("in front of", (10, 10, 20, 30), (10, 20, 20, 40), 0.1),
        ("in front of", BOX, APART, 0.1 * NEAR),
        ("behind", (10, 10, 20, 30), (10, 20, 20, 40), 1.0),
        ("behind", (10, 20, 20, 40), (10, 10, 20, 30), 0.1),
    ],
)
def test_by_hand(relation, box, other, expected):
    assert lies(relation, torch.tensor(box, dtype=torch.float32), torch.tensor(other, dtype=torch.float32)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("centre", "others", "expected"),
    [
        ((50, 0), ((0, 0), (100, 0)), 1.0),
        ((0, 50), ((0, 0), (0, 100)), 1.0),  # one above the other
        ((50, 50), ((0, 0), (100, 0)), 1 / 3),  # half of their distance below them
        ((50, 300), ((0, 0), (100, 0)), 0.1),
        ((120, 0), ((0, 0), (100, 0)), 0.05),
        ((30, 0), ((0, 0), (20, 0), (100, 0)), 1.0),
        ((50, 0), ((0, 0),), 0.0),
    ],
)
def test_between(centre, others, expected):
    assert between(torch.tensor(centre).float(), torch.tensor(others).float()) == pytest.approx(expected)


def test_the_middle_of_a_row():
    row = torch.tensor([[40.0, 0, 50, 10], [0, 0, 10, 10], [20, 2, 30, 12]])
    assert from_middle(row) == [1, 1, 0] and from_middle(row[:, [1, 0, 3, 2]]) == [1, 1, 0]
    assert from_middle(row[:2]) is None  # two have no middle
    assert from_middle(torch.tensor([[40.0, 0, 50, 10], [0, 0, 10, 10], [20, 40, 30, 50]])) is None  # no row
    assert from_middle(torch.tensor([[40.0, 0, 50, 10], [0, 0, 10, 10], [20, 2, 22, 4]])) is None  # one far behind the others
