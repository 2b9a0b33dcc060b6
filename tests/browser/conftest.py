# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Chromium on a real ComfyUI: the host's own front end and the newest one, each in both of its renderers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from authoring import front_end
from fireedit_cli.comfy_host import ComfyServer
from host_setup.host_lookup import REPO
from host_setup.newest_front_end import PACKAGE, newest_front_end
from host_setup.setup_host import SetupError

HERE = Path(__file__).resolve().parent
SHOTS = REPO / "output" / "browser"  # screenshots, kept to be looked at
FRONT_ENDS = ("classic", "nodes 2.0", "newest classic", "newest nodes 2.0")
# For tests of what the server does, or of what does not hang on the pairing: `@pytest.mark.parametrize("canvas", TWO, indirect=True)`.
TWO = ("classic", "newest nodes 2.0")


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


@pytest.fixture(scope="session")
def newest_server() -> Iterator[ComfyServer]:
    """The same host as `server`, with the newest front end; without a network the tests on it are skipped and say so."""
    try:
        root = newest_front_end()
    except SetupError as error:
        pytest.skip(f"{PACKAGE} could not be fetched from PyPI: {error}")
    with ComfyServer(cpu=True, preview="latent2rgb", arguments=["--front-end-root", str(root)]) as host:
        yield host


class Canvas(front_end.Canvas):
    """One that keeps screenshots."""

    name = ""

    def shot(self, what: str) -> None:
        """Write output/browser/<front end>-<what>.png."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{self.name}-{what}.png".replace(" ", "-"))


def opened(request: pytest.FixtureRequest, name: str, touch: bool = False) -> Canvas:
    """An open front end, one of FRONT_ENDS."""
    server = request.getfixturevalue("newest_server" if "newest" in name else "server")
    made = Canvas(request.getfixturevalue("chromium"), server, vue_nodes="classic" not in name, touch=touch)
    made.name = name
    return made.open()


def closed(canvas: Canvas) -> None:
    """No error may have been on its console."""
    canvas.page.close()
    assert not canvas.errors, "\n".join(sorted(set(canvas.errors)))


@pytest.fixture(params=FRONT_ENDS)
def canvas(request) -> Iterator[Canvas]:
    """An open front end; at the end no error may have been on its console."""
    made = opened(request, request.param)
    yield made
    closed(made)
