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


def front_end_of(item: pytest.Item) -> int:
    """Place in FRONT_ENDS of the one that a test asks for, -1 where it asks for none."""
    name = item.callspec.params.get("canvas") if hasattr(item, "callspec") else None
    return FRONT_ENDS.index(name) if name in FRONT_ENDS else -1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder carries the marker ``browser``; in a file, tests of one front end follow each other and share its page."""
    ours = [item for item in items if HERE in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.browser)
    files = list(dict.fromkeys(item.path for item in ours))
    ordered = iter(sorted(ours, key=lambda item: (files.index(item.path), front_end_of(item))))
    items[:] = [next(ordered) if HERE in item.path.parents else item for item in items]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Tells the fixture `canvas` whether its test has failed."""
    report = (yield).get_result()
    item.failed = getattr(item, "failed", False) or report.failed


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
    spent = False  # the page is left as no other test should find it: the next one gets a new page

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


@pytest.fixture(scope="session")
def pages() -> dict[str, Canvas]:
    """The open front end by its name, one at most: a page takes seconds to start, and the next test loads its own workflow into it."""
    return {}


@pytest.fixture(params=FRONT_ENDS)
def canvas(request, pages: dict[str, Canvas]) -> Iterator[Canvas]:
    """An open front end, perhaps one that another test has used; at the end no error may have been on its console."""
    name = request.param
    for other in set(pages) - {name}:
        pages.pop(other).page.close()
    made = pages.pop(name, None) or opened(request, name)
    yield made
    if made.spent or made.errors or getattr(request.node, "failed", True):
        return closed(made)
    pages[name] = made
