# SPDX-License-Identifier: GPL-3.0-or-later
"""Graphs that an older version of the pack has saved, and a bypassed node: links go where their names say."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.browser.conftest import TWO, Canvas
from tests.host.small import REPO

BEFORE = {"FireEditPhotoFinish": ["original", "frame", "edited"]}  # the first inputs as an older version had them
PROMPT = "async () => (await app.graphToPrompt()).output"


def as_before(graph: dict[str, Any]) -> dict[str, Any]:
    """The graph (or subgraph) as the older version has saved it: inputs in its order, and links to its slots."""
    graph = copy.deepcopy(graph)
    nodes = [node for node in graph["nodes"] if node["type"] in BEFORE]
    assert nodes
    for node in nodes:
        names = BEFORE[node["type"]]
        node["inputs"].sort(key=lambda one: names.index(one["name"]) if one["name"] in names else len(names))
        slots = {one["link"]: i for i, one in enumerate(node["inputs"]) if one.get("link") is not None}
        for link in graph["links"]:
            if isinstance(link, list) and link[0] in slots:
                link[4] = slots[link[0]]
            elif isinstance(link, dict) and link["id"] in slots:
                link["target_slot"] = slots[link["id"]]
    return graph


def flow_of(name: str) -> dict[str, Any]:
    return json.loads((REPO / name).read_text(encoding="utf-8"))


def test_a_workflow_of_before_runs_as_today(canvas: Canvas):
    """What is sent to the server is the same, and a saved copy of it is in today's order."""
    flow = flow_of("workflows/fireedit_photo_ip2p.json")
    old = as_before(flow)
    assert old != flow
    canvas.load(flow, "today")
    wanted = canvas.run(PROMPT)
    canvas.load(old, "before")
    assert canvas.run(PROMPT) == wanted
    slots = "() => [...app.graph.links.values()].map((l) => [l.id, l.target_id, l.target_slot].map(Number)).sort((a, b) => a[0] - b[0])"
    assert canvas.run(slots) == [[link[0], link[3], link[4]] for link in sorted(flow["links"])]


def test_a_subgraph_of_before_runs_as_today(canvas: Canvas):
    """The blueprint, as somebody has it in a workflow of their own, with a picture linked to it."""
    flow = flow_of("subgraphs/FireEdit - confine and finish.json")
    old = copy.deepcopy(flow)
    old["definitions"]["subgraphs"] = [as_before(one) for one in flow["definitions"]["subgraphs"]]
    assert old != flow
    got = []
    for i, one in enumerate((flow, old)):
        canvas.load(one, f"subgraph_{i}")
        got.append(canvas.run(PROMPT))
    (finish,) = [node["inputs"] for node in got[1].values() if node["class_type"] == "FireEditPhotoFinish"]
    decode = [key for key, node in got[1].items() if node["class_type"] == "VAEDecode"]
    assert finish["edited"] == [decode[0], 0]
    assert got[0] == got[1]


@pytest.mark.parametrize("canvas", TWO, indirect=True)
def test_a_bypassed_finish_passes_the_edit_on(canvas: Canvas):
    """And never the photograph, as if that had been edited; also in a graph of before."""
    flow = flow_of("workflows/fireedit_photo_ip2p.json")
    for one in (flow, as_before(flow)):
        canvas.load(one, "ip2p")
        canvas.run("() => { app.graph.nodes.find((n) => n.type === 'FireEditPhotoFinish').mode = 4; }")
        prompt = canvas.run(PROMPT)
        assert "FireEditPhotoFinish" not in {node["class_type"] for node in prompt.values()}
        (save,) = [node["inputs"] for node in prompt.values() if node["class_type"] == "SaveImage"]
        assert prompt[save["images"][0]]["class_type"] == "VAEDecode"
