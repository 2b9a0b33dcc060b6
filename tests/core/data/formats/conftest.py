# SPDX-License-Identifier: GPL-3.0-or-later
"""A few scenes for the readers to find again."""

from __future__ import annotations

import pytest

from fireedit_core.data import SceneGenerator


@pytest.fixture(scope="session")
def scenes():
    generator = SceneGenerator(split="validation", seed=5)
    return [generator.sample(i) for i in range(8)]
