# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Chromium on a real ComfyUI, in both of the front end's renderers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.comfy_host import ComfyServer
from tests.host.small import REPO

HERE = Path(__file__).resolve().parent
SHOTS = REPO / "output" / "browser"  # screenshots, kept to be looked at
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
RENDERERS = ("classic", "nodes 2.0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder carries the marker ``browser``."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)


def find_chromium() -> str | None:
    """FIREEDIT_CHROMIUM, else what the system has."""
    names = (os.environ.get("FIREEDIT_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if name and (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    """A started browser; without one the tests are skipped and say what is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="browser tests need: pip install playwright")
    path = find_chromium()
    if path is None:
        pytest.skip("browser tests need Chromium: apt install chromium, or name it in FIREEDIT_CHROMIUM")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class Canvas:
    """The front end with a workflow open."""

    def __init__(self, page, server: ComfyServer, name: str):
        self.page, self.server, self.name, self.errors = page, server, name, []
        page.on("pageerror", lambda error: self.errors.append(f"{error}\n{error.stack}"))
        page.on("console", self._heard)
        SHOTS.mkdir(parents=True, exist_ok=True)

    def _heard(self, message) -> None:
        # a user without a style sheet is no error of ours, nor that the host may not ask its registry about the nodes
        if message.type == "error" and "404" not in message.text and "Content Security Policy" not in message.text:
            self.errors.append(f"{message.text} {message.location}")

    def open(self) -> Canvas:
        self.page.goto(self.server.url)
        self.page.wait_for_function("() => window.app?.graph && window.app.extensionManager?.workflow?.activeWorkflow", timeout=60_000)
        self.page.wait_for_timeout(500)
        self.errors = [error for error in self.errors if "/extensions/" in error]  # the host's own start is not ours to mend
        return self

    def load(self, workflow: dict) -> None:
        """Open a workflow in the front end's own format, as dropping its file on the canvas does."""
        self.page.evaluate("async (w) => { await app.loadGraphData(w, true, true, 'test'); }", workflow)
        self.page.wait_for_timeout(500)

    def run(self, script: str, argument=None):
        """The value of a script in the page."""
        return self.page.evaluate(script, argument)

    def queue(self) -> None:
        """Press the button, and wait until the server has nothing left to do."""
        self.run("async () => { await app.queuePrompt(0); }")
        self.page.wait_for_function(
            "async () => { const q = await (await fetch('/queue')).json(); return !q.queue_running.length && !q.queue_pending.length; }",
            timeout=120_000,
        )
        self.page.wait_for_timeout(500)

    def shot(self, what: str) -> None:
        self.page.screenshot(path=SHOTS / f"{self.name}-{what}.png".replace(" ", "-"))


@pytest.fixture(params=RENDERERS)
def canvas(request, chromium, server: ComfyServer) -> Iterator[Canvas]:
    """An open front end; at the end no error may have been on its console."""
    settings = {
        "Comfy.TutorialCompleted": True, "Comfy.Workflow.ShowMissingModelsWarning": False, "Comfy.Graph.CanvasInfo": False,
        "Comfy.VueNodes.Enabled": request.param != "classic", "Comfy.Workflow.WorkflowTabsPosition": "Topbar",
    }  # fmt: skip
    server.http.post(f"{server.url}/settings", data=json.dumps(settings), timeout=30)
    page = chromium.new_page(viewport={"width": 1600, "height": 1000})
    made = Canvas(page, server, request.param).open()
    yield made
    page.close()
    assert not made.errors, "\n".join(sorted(set(made.errors)))
