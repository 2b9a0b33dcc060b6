# SPDX-License-Identifier: GPL-3.0-or-later
"""What only some hosts know of a node: left out where it is not known, given where it is. Both sides are played on the host at hand."""

from __future__ import annotations

import asyncio
import inspect
from types import SimpleNamespace

import pytest
from fireedit_pack.nodes import NODES, FireEditExtension
from fireedit_pack.nodes.host import compat

from tests.host.inside import pack  # noqa: F401  the host first


def test_every_node_can_be_found_by_other_words(monkeypatch):
    """As on a host that knows aliases; hosts before 0.11.0 do not."""
    monkeypatch.setattr(compat, "io", SimpleNamespace(Schema=lambda node_id, search_aliases=(), **fields: (node_id, search_aliases)))
    monkeypatch.setattr(compat, "known", lambda kind, **options: options)
    found = dict(node.define_schema() for node in NODES)
    assert len(found) == len(NODES)
    for name, words in found.items():
        assert words and all(isinstance(word, str) and word == word.lower() and word.strip() for word in words), name


def test_what_a_host_does_not_know_is_left_out():
    old, new = (lambda default: default), (lambda default, advanced=None: advanced)
    assert compat.known(old, default=1, advanced=True) == {"default": 1}
    assert compat.known(new, default=1, advanced=True) == {"default": 1, "advanced": True}
    knows = "advanced" in inspect.signature(compat.io.Float.Input).parameters
    assert compat.RARE == ({"advanced": True} if knows else {})


RARE = {
    "FireEditApply": {"start_percent", "end_percent"}, "FireEditRegionDetect": {"iou_threshold", "max_regions"},
    "FireEditSample": {"denoise"}, "FireEditConfine": {"start_percent", "end_percent", "late_edges"},
}  # fmt: skip


@pytest.mark.skipif(not compat.RARE, reason="this host shows all widgets alike")
def test_rare_widgets_are_folded_away():
    for node in NODES:
        if node.__name__ in RARE:
            assert {i.id for i in node.define_schema().inputs if getattr(i, "advanced", None)} == RARE[node.__name__]


RENAMED = {"old_node_id": "FireEditOld", "new_node_id": "FireEditLoader", "input_mapping": [{"old_id": "model", "new_id": "bundle"}]}


def test_renamed_nodes_are_told_to_a_host_that_can_replace(monkeypatch):
    told = []

    class Registry:
        async def register(self, replacement):
            told.append(vars(replacement))

    monkeypatch.setattr(compat, "ComfyAPI", lambda: SimpleNamespace(node_replacement=Registry()))
    monkeypatch.setattr(compat, "io", SimpleNamespace(NodeReplace=lambda **fields: SimpleNamespace(**fields)))
    monkeypatch.setattr("fireedit_pack.nodes.RENAMED", [RENAMED])
    asyncio.run(FireEditExtension().on_load())
    assert told == [RENAMED]


def test_a_host_that_cannot_replace_starts_all_the_same(monkeypatch):
    monkeypatch.setattr(compat, "ComfyAPI", lambda: SimpleNamespace())
    monkeypatch.setattr("fireedit_pack.nodes.RENAMED", [RENAMED])
    asyncio.run(FireEditExtension().on_load())


def test_the_host_at_hand_takes_an_entry(monkeypatch):
    """The true `io.NodeReplace`, where there is one, with a registry of its own kind."""
    told = []
    if not hasattr(compat.io, "NodeReplace"):
        assert getattr(compat.ComfyAPI(), "node_replacement", None) is None
        return
    server = SimpleNamespace(node_replace_manager=SimpleNamespace(register=told.append))
    monkeypatch.setattr("server.PromptServer.instance", server, raising=False)
    asyncio.run(compat.replace_nodes([RENAMED]))
    assert told[0].as_dict()["input_mapping"] == RENAMED["input_mapping"] and told[0].old_node_id == "FireEditOld"
