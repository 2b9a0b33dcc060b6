# SPDX-License-Identifier: GPL-3.0-or-later
"""A real ComfyUI server for the tests in this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.comfy_host import ComfyServer, HostNotFound

HERE = Path(__file__).resolve().parent
collect_ignore = ["inside"]  # run by test_inside.py in another process


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder carries the marker ``host``."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.host)


@pytest.fixture(scope="session")
def server() -> Iterator[ComfyServer]:
    """One server for the whole session, on the CPU so that results do not depend on the machine."""
    try:
        host = ComfyServer(cpu=True, preview="latent2rgb")
    except HostNotFound as error:
        pytest.fail(f"these tests need a ComfyUI. {error}", pytrace=False)
    with host:
        yield host
