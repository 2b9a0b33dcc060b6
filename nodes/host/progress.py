# SPDX-License-Identifier: GPL-3.0-or-later
"""Words on the node that runs: what it is doing at the moment, and at the end what came out. Numbers go through the host's ProgressBar."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from comfy_execution.utils import get_executing_context

from .compat import running_server, ui

_STAGE: ContextVar[str] = ContextVar("fireedit_stage", default="")


def say(text: str) -> None:
    """Show a line on the running node, in place of the one before; nothing happens where no server listens, or in a subgraph.

    The front end (1.32.9) takes the last part of an id such as "12:3" for a subgraph too, and throws an error instead of showing the line.
    """
    server, context = running_server(), get_executing_context()
    if server is not None and context is not None and ":" not in str(context.node_id):
        server.send_progress_text(_STAGE.get() + text, context.node_id, server.client_id)


def report(text: str) -> dict:
    """`ui` of a node whose result has a text: shown on the node, and sent with its output for those who listen without a screen."""
    say(text)
    return ui.PreviewText(text).as_dict()


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Lines said inside begin with `name`: nodes that run other nodes as their parts."""
    token = _STAGE.set(f"{_STAGE.get()}{name}: ")
    try:
        yield
    finally:
        _STAGE.reset(token)
