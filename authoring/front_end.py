# SPDX-License-Identifier: GPL-3.0-or-later
"""ComfyUI's front end in a real Chromium, for the browser tests and for authoring/make_pictures.py."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

from fireedit_cli.comfy_client import ComfyClient

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SETTINGS = {
    "Comfy.TutorialCompleted": True, "Comfy.Workflow.ShowMissingModelsWarning": False, "Comfy.Graph.CanvasInfo": False,
    "Comfy.Minimap.Visible": False,
}  # fmt: skip
# newer front ends warn of what they are about to drop, once a session; here each time and, where our own scripts ask for it, as an error
DEPRECATIONS_ARE_ERRORS = """() => { LiteGraph.alwaysRepeatWarnings = true; LiteGraph.onDeprecationWarning?.push((words) => {
  const { stack } = new Error(); if (stack.includes('/extensions/fireedit/')) console.error(`deprecated: ${words} ${stack}`); }); }"""
_TOUCH: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()  # for each context whether its screen can be touched
# errors of the host itself: a user without a style sheet, its registry that cannot be asked, a subgraph opened by a script
NOT_OURS = ("404", "Content Security Policy", "listeners for graph that was never set up")


def find_chromium() -> str | None:
    """FIREEDIT_CHROMIUM, else what the system has."""
    names = (os.environ.get("FIREEDIT_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if name and (found := shutil.which(name))), None)


@contextlib.contextmanager
def started_chromium() -> Iterator[Any]:
    """A started browser (playwright's `Browser`). Raises ImportError without playwright, FileNotFoundError without a browser."""
    from playwright.sync_api import sync_playwright

    path = find_chromium()
    if path is None:
        raise FileNotFoundError("no Chromium: apt install chromium, or name it in FIREEDIT_CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def new_page(browser: Any, url: str, size: tuple[int, int], touch: bool) -> Any:
    """A page (playwright's `Page`) of a context that pages before it have used, if there is one: it has the front end's scripts compiled, a
    quarter of the time to open it. What they have stored there is taken away."""
    known = next((context for context in browser.contexts if _TOUCH.get(context) == touch), None)
    context = known or browser.new_context(has_touch=touch)
    _TOUCH[context] = touch
    page = context.new_page()
    page.set_viewport_size({"width": size[0], "height": size[1]})
    if known:
        session = context.new_cdp_session(page)
        session.send("Storage.clearDataForOrigin", {"origin": url, "storageTypes": "cookies,local_storage,indexeddb"})
        session.detach()
    return page


class Canvas:
    """The front end with a workflow open.

    Args:
        vue_nodes: draw nodes with the Nodes 2.0 renderer. touch: the screen can be touched.
    """

    def __init__(
        self, browser: Any, server: ComfyClient, vue_nodes: bool = False, size: tuple[int, int] = (1600, 1000), touch: bool = False
    ):  # fmt: skip
        self.server, self.errors = server, []
        settings = SETTINGS | {"Comfy.VueNodes.Enabled": vue_nodes}
        server.http.post(f"{server.url}/settings", data=json.dumps(settings), timeout=30)
        self.page = new_page(browser, server.url, size, touch)
        self.page.on("pageerror", lambda error: self.errors.append(f"{error}\n{error.stack}"))
        self.page.on("console", self._heard)

    def _heard(self, message: Any) -> None:
        if message.type == "error" and not any(words in message.text for words in NOT_OURS):
            self.errors.append(f"{message.text} {message.location}")

    def open(self) -> Canvas:
        """Load the page, or load it again."""
        self.page.goto(self.server.url)
        self.page.wait_for_function("() => window.app?.graph && window.app.extensionManager?.workflow?.activeWorkflow", timeout=60_000)
        self.run(DEPRECATIONS_ARE_ERRORS)
        self.page.wait_for_timeout(500)
        self.errors = [error for error in self.errors if "/extensions/" in error]  # the host's own start is not ours to mend
        return self

    def load(self, workflow: dict[str, Any], name: str = "test") -> None:
        """Open a workflow in the front end's own format, as dropping its file on the canvas does."""
        self.page.evaluate("async ([w, name]) => { await app.loadGraphData(w, true, true, name); }", [workflow, name])
        self.page.wait_for_timeout(500)

    def view(self, scale: float, offset: tuple[float, float]) -> None:
        """Where the canvas is looked at."""
        move = "([s, o]) => { app.canvas.ds.scale = s; app.canvas.ds.offset = o; app.canvas.setDirty(true, true); }"
        self.page.evaluate(move, [scale, list(offset)])
        self.page.wait_for_timeout(300)

    def run(self, script: str, argument: Any = None) -> Any:
        """The value of a script in the page."""
        return self.page.evaluate(script, argument)

    def queue(self, timeout: float = 180) -> None:
        """Press the button, and wait until the server has run what it was given."""
        before, limit = len(self.server.history()), time.monotonic() + timeout
        self.run("async () => { await app.queuePrompt(0); }")
        while len(self.server.history()) <= before or self._busy():
            if time.monotonic() > limit:
                raise TimeoutError(f"the server was not done after {timeout:g} s")
            self.page.wait_for_timeout(200)
        self.page.wait_for_timeout(500)
        last = list(self.server.history().values())[-1]
        if last["status"]["status_str"] != "success":
            raise RuntimeError(f"the run ended with {last['status']}")

    def _busy(self) -> bool:
        queue = self.server.get("/queue")
        return bool(queue["queue_running"] or queue["queue_pending"])
