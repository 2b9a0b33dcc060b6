# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the subgraph blueprint (subgraphs/*.json) from the edit workflow: `python -m authoring.make_blueprint`.

The host offers it in its node library; dropped on the canvas it is one node with a picture in and the edit out, to be opened and
changed like any subgraph. The name has no colon, because Windows allows none in a file's name.
"""

from __future__ import annotations

import json
import sys
import uuid
from typing import Any

from authoring.make_workflows import ui_workflow
from fireedit_cli.comfy_host import ComfyServer
from fireedit_cli.workflow import Workflow
from host_setup.host_lookup import REPO

NAME = "FireEdit - edit by instruction"
PATH = REPO / "subgraphs" / f"{NAME}.json"
# Front ends of 2026 on show the description; older ones say "User generated subgraph blueprint". The aliases are the user's own once the
# blueprint is saved as one: of a pack's blueprints 1.58.1 reads none.
DESCRIPTION = (
    "Edits a picture by an instruction such as 'remove the left cat': FireEdit finds the region that is meant, changes it and leaves the "
    "rest as it is. Runs on the small bundled model as it comes; for photographs choose a bundle of that size."
)
SEARCH_ALIASES = ["instruction edit", "edit with words", "remove object", "instructpix2pix", "fireedit"]
# what stands outside of the box: the pictures that go in and come out
OUTSIDE = ("LoadImage", "SaveImage", "FireEditRegionsPreview", "FireEditGroundingPreview")
OUTPUTS = (
    ("image", "FireEditSample", "image"), ("grounding", "FireEditVLMConditioning", "grounding"),
    ("regions", "FireEditVLMConditioning", "regions"), ("report", "FireEditSample", "report"),
)  # fmt: skip
WIDGETS = (
    ("FireEditVLMConditioning", "instruction"), ("FireEditSample", "keep_outside"), ("FireEditSample", "text_guidance"),
    ("FireEditSample", "steps"), ("FireEditSample", "seed"), ("FireEditLoader", "bundle"),
)  # fmt: skip
_WIRE = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
_IN, _OUT = -10, -20  # the front end's numbers for the two ends of a subgraph


def blueprint(flow: Workflow, info: dict[str, Any]) -> dict[str, Any]:
    """The edit workflow as one subgraph node, in the front end's format (version 0.4, subgraphs version 1)."""
    inside = {key: node for key, node in flow.nodes.items() if node["class_type"] not in OUTSIDE}
    links = lambda node: {n: v for n, v in node["inputs"].items() if not isinstance(v, list) or v[0] in inside}  # noqa: E731
    closed = {key: node | {"inputs": links(node)} for key, node in inside.items()}
    places = {key: tuple(node["pos"] + node["size"]) for key, node in _placed(flow, info).items()}
    drawn = ui_workflow(NAME, closed, info, places)
    nodes = {str(node["id"]): node for node in drawn["nodes"]}
    wires = [dict(zip(_WIRE, link, strict=True)) for link in drawn["links"]]

    def wire(origin: int, slot: int, target: int, index: int, kind: str) -> int:
        wires.append(dict(zip(_WIRE, (len(wires) + 1, origin, slot, target, index, kind), strict=True)))
        return len(wires)

    taken = []
    for key, node in inside.items():  # what came from outside is the picture
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] not in inside:
                index, socket = next((i, s) for i, s in enumerate(nodes[key]["inputs"]) if s["name"] == name)
                socket["link"] = wire(_IN, 0, nodes[key]["id"], index, "IMAGE")
                taken.append(socket["link"])
    given = []
    for place, (name, kind, output) in enumerate(OUTPUTS):
        node = nodes[flow.only(kind)]
        slot, socket = next((i, s) for i, s in enumerate(node["outputs"]) if s["name"] == output)
        number = wire(node["id"], slot, _OUT, place, socket["type"])
        socket["links"] = [*(socket["links"] or []), number]
        given.append({"id": _id(f"out/{name}"), "name": name, "type": socket["type"], "linkIds": [number], "localized_name": name})
    right = max(x + w for x, _, w, _ in (places[key] for key in inside))
    definition = {
        "id": _id("graph"), "version": 1, "revision": 0, "config": {}, "name": NAME,
        "state": {"lastGroupId": 0, "lastNodeId": max(map(int, nodes)), "lastLinkId": len(wires), "lastRerouteId": 0},
        "inputNode": {"id": _IN, "bounding": [-160, 300, 120, 60]}, "outputNode": {"id": _OUT, "bounding": [right + 60, 300, 120, 120]},
        "inputs": [{"id": _id("in/image"), "name": "image", "type": "IMAGE", "linkIds": taken, "localized_name": "image"}],
        "outputs": given, "widgets": [], "nodes": list(nodes.values()), "groups": [], "links": wires, "extra": {},
    }  # fmt: skip
    box = {
        "id": 1, "type": definition["id"], "pos": [0, 0], "size": [320, 330], "flags": {}, "order": 0, "mode": 0, "title": NAME,
        "inputs": [{"name": "image", "localized_name": "image", "type": "IMAGE", "link": None}],
        "outputs": [{"name": g["name"], "localized_name": g["name"], "type": g["type"], "links": []} for g in given],
        "properties": {"proxyWidgets": [[flow.only(kind), name] for kind, name in WIDGETS]}, "widgets_values": [],
    }  # fmt: skip
    return {
        "revision": 0, "last_node_id": 1, "last_link_id": 0, "nodes": [box], "links": [], "version": 0.4,
        "definitions": {"subgraphs": [definition]},
        "extra": {"BlueprintDescription": DESCRIPTION, "BlueprintSearchAliases": SEARCH_ALIASES},
    }  # fmt: skip


def _placed(flow: Workflow, info: dict[str, Any]) -> dict[str, Any]:
    return {str(node["id"]): node for node in ui_workflow("fireedit_edit", flow.nodes, info)["nodes"]}


def _id(what: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"fireedit/blueprint/{what}"))


def main() -> int:
    """Write the blueprint."""
    with ComfyServer(cpu=True) as server:
        made = blueprint(Workflow.load(), server.object_info())
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(f"wrote {PATH.relative_to(REPO)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
