# SPDX-License-Identifier: GPL-3.0-or-later
"""A plugin of pytest that runs the tests of `inside` with the host's card simulated: `-p tests.host.devices.on_simulated_device`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.host.devices import simulated_device
from tests.host.devices.simulated_host import Card, convince, management


@pytest.fixture(scope="session", autouse=True)
def card() -> Iterator[Card]:
    """The host has a card with plenty of room for the whole session."""
    if simulated_device.missing():
        pytest.skip(simulated_device.missing())
    made = Card(simulated_device.install())
    with pytest.MonkeyPatch.context() as patch:
        convince(patch, made)
        yield made


@pytest.fixture(scope="module", autouse=True)
def nothing_stays(card: Card) -> Iterator[None]:
    """After a file, what the button "free memory" does leaves nothing on the card."""
    yield
    management.unload_all_models()
    assert simulated_device.collect() - card.kept < 65536  # tables of positions that libraries keep: weights are larger
