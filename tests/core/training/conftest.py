# SPDX-License-Identifier: GPL-3.0-or-later
"""accelerate for tests: on the CPU, and none of its state from one test to the next."""

from __future__ import annotations

import pytest


@pytest.fixture
def fresh_accelerate(monkeypatch):
    """A function that forgets accelerate's state, of which a process has one; it was called before the test and is after it."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")

    def forget() -> None:
        from accelerate.state import AcceleratorState, GradientState

        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()

    forget()
    yield forget
    forget()


@pytest.fixture(autouse=True)
def on_the_cpu(fresh_accelerate):
    """For every test here."""
