# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Chromium on a real ComfyUI, in both of the front end's renderers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from authoring import front_end
from fireedit_cli.comfy_host import ComfyServer
from host_setup.host_lookup import REPO

HERE = Path(__file__).resolve().parent
SHOTS = REPO / "output" / "browser"  # screenshots, kept to be looked at
RENDERERS = ("classic", "nodes 2.0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder carries the marker ``browser``."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    """A started browser; without one the tests are skipped and say what is missing."""
    pytest.importorskip("playwright.sync_api", reason="browser tests need: pip install playwright")
    if front_end.find_chromium() is None:
        pytest.skip("browser tests need Chromium: apt install chromium, or name it in FIREEDIT_CHROMIUM")
    with front_end.started_chromium() as browser:
        yield browser


class Canvas(front_end.Canvas):
    """One that keeps screenshots."""

    name = ""

    def shot(self, what: str) -> None:
        """Write output/browser/<renderer>-<what>.png."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{self.name}-{what}.png".replace(" ", "-"))


@pytest.fixture(params=RENDERERS)
def canvas(request, chromium, server: ComfyServer) -> Iterator[Canvas]:
    """An open front end; at the end no error may have been on its console."""
    made = Canvas(chromium, server, vue_nodes=request.param != "classic")
    made.name = request.param
    yield made.open()
    made.page.close()
    assert not made.errors, "\n".join(sorted(set(made.errors)))
