# SPDX-License-Identifier: GPL-3.0-or-later
"""The graph on a second device: what the CPU gives, where the host keeps values, and nothing left behind."""

from __future__ import annotations

import pytest
import torch

from tests.host.devices import graph, simulated_device
from tests.host.devices.simulated_host import management


@pytest.fixture(scope="module")
def wanted():
    """All outputs as the CPU computes them."""
    with torch.inference_mode():
        return graph.run(graph.load(), graph.image())


def same(got, wanted, limit):
    got, wanted = list(graph.tensors(got)), list(graph.tensors(wanted))
    assert len(got) == len(wanted) > 0
    for one, other in zip(got, wanted, strict=True):
        assert one.shape == other.shape
        assert (one.cpu().float() - other.float()).abs().max() <= limit


def test_every_node_gives_what_the_cpu_gives(card, wanted):
    found = graph.run(graph.load(), graph.image())
    for name in wanted:
        if name != "apply":
            same(found[name], wanted[name], 1e-4)
            assert {x.device for x in graph.tensors(found[name])} == {management.intermediate_device()} == {torch.device("cpu")}, name
