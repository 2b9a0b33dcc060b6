# SPDX-License-Identifier: GPL-3.0-or-later
"""A plugin of pytest: the tests of `inside` once more, and the host believes to have a card.

    FIREEDIT_HOST=... python -m pytest tests/host/inside -q --confcutdir=tests/host/inside -p tests.host.devices.on_simulated_device

All of them take a quarter of an hour, for every operator of torch goes through Python; `make test` runs a part, see
tests/host/test_inside.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.host.devices import simulated_device
from tests.host.devices.simulated_host import Card, convince, management

# File, or test of one -> why it says nothing here.
NOT_HERE = {
    "test_both_hosts.py": "plays the host by hand with tensors of the CPU",
    "test_vae_is_the_pipelines": "calls the autoencoder by hand with tensors of the CPU",
    "test_pictures_are_right_for_hosts_of_both_conventions": "calls the autoencoder by hand with tensors of the CPU",
    "test_a_host_that_is_short_of_memory_gets_the_same_result": "loads past the host's list; devices/test_short_memory.py goes through it",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        why = NOT_HERE.get(item.path.name) or NOT_HERE.get(item.originalname)
        if why:
            item.add_marker(pytest.mark.skip(reason=f"not on the simulated device: {why}"))


@pytest.fixture(scope="session", autouse=True)
def card() -> Iterator[Card]:
    """A card with plenty of room, for all tests."""
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
    assert simulated_device.collect() - card.kept < 65536  # tables of positions that libraries keep; weights are larger
