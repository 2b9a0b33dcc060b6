# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration: round trip, checks, backgrounds."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from fireedit_core.data import WORLD, World
from fireedit_core.data.backgrounds import PAINTERS, paint


def test_round_trip_through_json() -> None:
    again = World.from_dict(json.loads(json.dumps(WORLD.to_dict())))
    assert again == WORLD and again.fingerprint() == WORLD.fingerprint()
    assert replace(WORLD, add_gap=5).fingerprint() != WORLD.fingerprint()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"classes": {**WORLD.classes, "orange": "tangerine"}}, "name two things"),
        ({"classes": {**WORLD.classes, "Red Apple": "red apple"}}, "one lower-case word"),
        ({"backgrounds": ("sky", "moon")}, "unknown"),
        ({"edit_weights": {"explode": 1.0}}, "edit_weights"),
        ({"edit_weights": {"remove": 0.0}}, "edit_weights"),
        ({"edit_weights": {}}, "edit_weights"),
        ({"size_range": (40, 90)}, "size_range"),
        ({"count_weights": {1: 1.0}}, "two or more"),
    ],
)
def test_values_that_do_not_fit(values: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        replace(WORLD, **values)


def test_backgrounds_are_steady_and_distinct() -> None:
    means = []
    for name in PAINTERS:
        plain = paint(name, 128)
        assert np.array_equal(plain, paint(name, 128))
        jittered = [paint(name, 128, k).astype(int) for k in range(1, 9)]
        assert all(0 < np.abs(image - plain).mean() < 30 for image in jittered)
        means.append(plain.reshape(-1, 3).mean(0))
    for i, a in enumerate(means):
        assert all(np.abs(a - b).max() > 20 for b in means[i + 1 :])
    with pytest.raises(ValueError, match="unknown background"):
        paint("moon", 128)
