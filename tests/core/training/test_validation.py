# SPDX-License-Identifier: GPL-3.0-or-later
"""What a control costs is measured against the right base."""

from __future__ import annotations

import pytest

from fireedit_core.training.validation import SWAPS, base_of, cost


def test_a_control_with_a_coarse_source_is_compared_with_a_coarse_source():
    row = lambda inside, outside: {"inside": {999: inside, 50: inside / 2}, "outside": {999: outside, 50: outside}}  # noqa: E731
    table = {
        "as it is": row(0.2, 0.04), "v = 0": row(0.22, 0.04), "source coarse": row(0.4, 0.08), "source coarse, v = 0": row(0.4, 0.1),
    }  # fmt: skip
    assert cost(table, "v = 0") == {"inside": pytest.approx(0.1), "outside": pytest.approx(0)}
    assert cost(table, "source coarse") == {"inside": pytest.approx(1), "outside": pytest.approx(1)}
    assert cost(table, "source coarse, v = 0") == {"inside": pytest.approx(0), "outside": pytest.approx(0.25)}
    assert {base_of(name) for name in SWAPS} <= {"as it is", *SWAPS}
