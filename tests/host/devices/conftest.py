# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulated device in this process, and the host convinced of it for each test; skipped where torch cannot have it."""

from __future__ import annotations

import pytest
import torch

from tests.host.devices import simulated_device
from tests.host.devices.simulated_host import Card, convince, management


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():  # as the host runs nodes
        yield


@pytest.fixture
def card(monkeypatch) -> Card:
    """The host has a card with plenty of room, and none of its models is on it."""
    if simulated_device.missing():
        pytest.skip(simulated_device.missing())
    made = Card(simulated_device.install())
    with monkeypatch.context() as patch:
        convince(patch, made)
        yield made
        management.unload_all_models()
