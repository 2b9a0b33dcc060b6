# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks the tests of this folder; the server itself is in tests/conftest.py."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
collect_ignore = ["inside", "devices"]  # run by test_inside.py in processes of their own


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder carries the marker ``host``."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.host)
