# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the subgraph blueprints (subgraphs/*.json) from workflows: `python -m authoring.make_blueprint`.

The host offers it in its node library; dropped on the canvas it is one node with a picture in and the edit out, to be opened and
changed like any subgraph. The name has no colon, because Windows allows none in a file's name.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from authoring.make_workflows import FOLDED_IN, arrange, ui_workflow
from fireedit_cli.comfy_host import ComfyServer
from fireedit_cli.ways import PHOTO_WORKFLOW
from fireedit_cli.workflow import EDIT_WORKFLOW, SHIPPED, Workflow
from host_setup.host_lookup import REPO


@dataclass(frozen=True)
class Blueprint:
    """One subgraph of the node library.

    Attributes:
        name: of the blueprint and its file. flow: name of the API workflow that it holds. description: front ends of 2026 on show it; older
            ones say "User generated subgraph blueprint". aliases: the user's own once the blueprint is saved as one: of a pack's blueprints
            1.58.1 reads none.
        outputs: (name, node class, its output). widgets: (node class, widget) that stand on the box. inputs: class of a node that stays
            outside -> name of what comes from it, or of each of its outputs; nodes behind it stay outside too.
    """

    name: str
    flow: Path
    description: str
    aliases: tuple[str, ...]
    outputs: tuple[tuple[str, str, str], ...]
    widgets: tuple[tuple[str, str], ...]
    inputs: Mapping[str, str | Mapping[int, str]] = field(default_factory=lambda: {"LoadImage": "image"})

    def input_of(self, kind: str, output: int) -> str:
        """Name of what comes from an output of a node that stays outside."""
        name = self.inputs[kind]
        return name if isinstance(name, str) else name[output]

    @property
    def path(self) -> Path:
        """Its file."""
        return REPO / "subgraphs" / f"{self.name}.json"


BY_INSTRUCTION = Blueprint(
    "FireEdit - edit by instruction",
    EDIT_WORKFLOW,
    "Edits a picture by an instruction such as 'remove the left cat': FireEdit finds the region that is meant, changes it and leaves the "
    "rest as it is. Runs on the small bundled model as it comes; for photographs choose a bundle of that size, or FireEdit - edit a photo.",
    ("instruction edit", "edit with words", "remove object", "instructpix2pix", "fireedit"),
    (
        ("image", "FireEditSample", "image"), ("grounding", "FireEditVLMConditioning", "grounding"),
        ("regions", "FireEditVLMConditioning", "regions"), ("report", "FireEditSample", "report"),
    ),
    (
        ("FireEditVLMConditioning", "instruction"), ("FireEditSample", "keep_outside"), ("FireEditSample", "text_guidance"),
        ("FireEditSample", "steps"), ("FireEditSample", "seed"), ("FireEditLoader", "bundle"),
    ),
)  # fmt: skip
A_PHOTO = Blueprint(
    "FireEdit - edit a photo",
    PHOTO_WORKFLOW,
    "Edits a photograph by an instruction such as 'remove the man on the right', 'make the bus red' or 'blur the background': finds the "
    "thing that the words mean among 80 kinds, cuts it out, and removes it, recolours it or changes what is behind it. No generative "
    "model, no download; outside of the mask every byte stays.",
    ("photo edit", "remove object", "recolor", "background", "cut out", "fireedit"),
    (
        ("image", "FireEditQuickEdit", "image"), ("mask", "FireEditQuickEdit", "mask"), ("regions", "FireEditGround", "regions"),
        ("answer", "FireEditGround", "answer"), ("report", "FireEditQuickEdit", "report"),
    ),
    (("FireEditGround", "instruction"), ("FireEditDetectorLoader", "detector"), ("FireEditRegionDetect", "score_threshold")),
)  # fmt: skip
CONFINE_AND_FINISH = Blueprint(
    "FireEdit - confine and finish",
    SHIPPED / "fireedit_photo_kontext.json",
    "The part around an edit model that sees a reference latent at cfg 1 (Flux Kontext, Qwen-Image-Edit with Lightning): crops the "
    "masked part of a photograph onto the model's grid, samples it confined to the mask, and brings it back aligned and toned; outside "
    "every value is the photo's own. Mask: FireEdit Ground, with its answer, or painted. Conditioning: the text encoder's.",
    ("kontext", "crop and stitch", "inpaint", "edit only there", "pixel shift", "fireedit"),
    (
        ("image", "FireEditPhotoFinish", "image"), ("mask", "FireEditPhotoFinish", "mask"), ("report", "FireEditPhotoFinish", "report"),
    ),
    (
        ("KSampler", "seed"), ("KSampler", "steps"), ("FluxGuidance", "guidance"), ("FireEditPhotoCrop", "megapixels"),
        ("FireEditConfine", "strength"),
    ),
    {
        "LoadImage": "image", "FireEditGround": {1: "mask", 2: "answer"}, "UNETLoader": "model", "CLIPTextEncode": "conditioning",
        "VAELoader": "vae",
    },
)  # fmt: skip
BLUEPRINTS = (BY_INSTRUCTION, A_PHOTO, CONFINE_AND_FINISH)
# what stands outside of every box: the pictures that go in and come out
OUTSIDE = ("LoadImage", "SaveImage", "FireEditRegionsPreview", "FireEditGroundingPreview")
# what is only there for nodes outside
BEHIND = (
    "FireEditDetectorLoader", "FireEditRegionDetect", "FireEditRegionMasks", "DualCLIPLoader", "PrimitiveStringMultiline",
)  # fmt: skip
_WIRE = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
_IN, _OUT = -10, -20  # the front end's numbers for the two ends of a subgraph


def blueprint(about: Blueprint, info: dict[str, Any]) -> dict[str, Any]:
    """A workflow as one subgraph node, in the front end's format (version 0.4, subgraphs version 1)."""
    flow = Workflow.load(about.flow)
    away = _away(about, flow)
    inside = {key: node for key, node in flow.nodes.items() if key not in away}
    links = lambda node: {n: v for n, v in node["inputs"].items() if not isinstance(v, list) or v[0] in inside}  # noqa: E731
    closed = {key: node | {"inputs": links(node)} for key, node in inside.items()}
    if about.flow.stem in FOLDED_IN:  # there is room for all of them here
        places = arrange(closed, info)
    else:
        places = {key: tuple(node["pos"] + node["size"]) for key, node in _placed(about, flow, info).items()}
    drawn = ui_workflow(about.name, closed, info, places)
    nodes = {str(node["id"]): node for node in drawn["nodes"]}
    wires = [dict(zip(_WIRE, link, strict=True)) for link in drawn["links"]]

    def wire(origin: int, slot: int, target: int, index: int, kind: str) -> int:
        wires.append(dict(zip(_WIRE, (len(wires) + 1, origin, slot, target, index, kind), strict=True)))
        return len(wires)

    taken = {name: {"id": _id(f"in/{name}", about), "name": name, "type": "", "linkIds": [], "localized_name": name}
             for given in about.inputs.values() for name in ([given] if isinstance(given, str) else given.values())}  # fmt: skip
    for key, node in inside.items():  # what comes from outside
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] not in inside:
                come = about.input_of(flow.nodes[value[0]]["class_type"], value[1])
                index, socket = next((i, s) for i, s in enumerate(nodes[key]["inputs"]) if s["name"] == name)
                socket["link"] = wire(_IN, list(taken).index(come), nodes[key]["id"], index, socket["type"])
                taken[come]["type"] = socket["type"]
                taken[come]["linkIds"].append(socket["link"])
    given = []
    for place, (name, kind, output) in enumerate(about.outputs):
        node = nodes[flow.only(kind)]
        slot, socket = next((i, s) for i, s in enumerate(node["outputs"]) if s["name"] == output)
        number = wire(node["id"], slot, _OUT, place, socket["type"])
        socket["links"] = [*(socket["links"] or []), number]
        given.append({"id": _id(f"out/{name}", about), "name": name, "type": socket["type"], "linkIds": [number], "localized_name": name})
    right = max(x + w for x, _, w, _ in (places[key] for key in inside))
    definition = {
        "id": _id("graph", about), "version": 1, "revision": 0, "config": {}, "name": about.name,
        "state": {"lastGroupId": 0, "lastNodeId": max(map(int, nodes)), "lastLinkId": len(wires), "lastRerouteId": 0},
        "inputNode": {"id": _IN, "bounding": [-160, 300, 120, 60]}, "outputNode": {"id": _OUT, "bounding": [right + 60, 300, 120, 120]},
        "inputs": list(taken.values()),
        "outputs": given, "widgets": [], "nodes": list(nodes.values()), "groups": [], "links": wires, "extra": {},
    }  # fmt: skip
    box = {
        "id": 1, "type": definition["id"], "pos": [0, 0], "size": [320, 330], "flags": {}, "order": 0, "mode": 0, "title": about.name,
        "inputs": [{"name": t["name"], "localized_name": t["name"], "type": t["type"], "link": None} for t in taken.values()],
        "outputs": [{"name": g["name"], "localized_name": g["name"], "type": g["type"], "links": []} for g in given],
        "properties": {"proxyWidgets": [[flow.only(kind), name] for kind, name in about.widgets]}, "widgets_values": [],
    }  # fmt: skip
    return {
        "revision": 0, "last_node_id": 1, "last_link_id": 0, "nodes": [box], "links": [], "version": 0.4,
        "definitions": {"subgraphs": [definition]},
        "extra": {"BlueprintDescription": about.description, "BlueprintSearchAliases": list(about.aliases)},
    }  # fmt: skip


def _away(about: Blueprint, flow: Workflow) -> set[str]:
    """Ids of the nodes that stay outside: pictures, what the inputs come from, and all that is behind those."""
    away = {key for key, node in flow.nodes.items() if node["class_type"] in (*OUTSIDE, *about.inputs)}
    behind = list(away)
    while behind:
        for value in flow.nodes[behind.pop()]["inputs"].values():
            if isinstance(value, list) and value[0] not in away and flow.nodes[value[0]]["class_type"] in BEHIND:
                away.add(value[0])
                behind.append(value[0])
    return away


def _placed(about: Blueprint, flow: Workflow, info: dict[str, Any]) -> dict[str, Any]:
    return {str(node["id"]): node for node in ui_workflow(about.flow.stem, flow.nodes, info)["nodes"]}


def _id(what: str, about: Blueprint) -> str:
    place = "blueprint" if about is BY_INSTRUCTION else f"blueprint/{about.name}"  # saved graphs hold the first one's numbers
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"fireedit/{place}/{what}"))


def main() -> int:
    """Write the blueprints."""
    with ComfyServer(cpu=True) as server:
        info = server.object_info()
    for about in BLUEPRINTS:
        about.path.parent.mkdir(exist_ok=True)
        about.path.write_text(json.dumps(blueprint(about, info), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        sys.stdout.write(f"wrote {about.path.relative_to(REPO)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
