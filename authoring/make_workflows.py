# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the UI workflows (workflows/*.json) from the API ones: `python -m authoring.make_workflows`.

The API files say what is connected and set; here stands where each node lies on the canvas: by hand for the first two, else packed
into columns. The order of sockets and widgets comes from the running host, so that the files keep up with the nodes.
"""

from __future__ import annotations

import json
import sys
import uuid
from typing import Any

from authoring.workflow_notes import note
from fireedit_cli.comfy_host import ComfyServer
from fireedit_cli.model_files import FILES, named_in
from host_setup.host_lookup import REPO

WORKFLOWS = REPO / "workflows"

NOTE = "note"  # stands for the note on the canvas, which is no node of the API form

# node id -> x, y, width, height; columns from left to right, one screen of 1920 x 1080 at full size
_COMMON = {
    "1": (20, 40, 300, 380), "2": (20, 500, 300, 110),
    "3": (350, 40, 270, 220), "4": (350, 320, 270, 130),
    "5": (650, 40, 370, 330), "6": (650, 440, 370, 230),
}  # fmt: skip
LAYOUTS = {
    "fireedit_edit": _COMMON
    | {NOTE: (20, 670, 300, 300), "7": (1050, 40, 300, 480),
       "8": (1380, 40, 340, 380), "9": (1380, 490, 340, 480), "10": (350, 520, 270, 450)},
    "fireedit_stock_sampler": _COMMON
    | {
        NOTE: (20, 670, 300, 260),
        "7": (1050, 40, 270, 180), "8": (1050, 290, 270, 90), "9": (1050, 450, 270, 60), "10": (1050, 580, 270, 110),
        "11": (1350, 40, 250, 110), "12": (1350, 220, 250, 50), "13": (1630, 40, 290, 330), "14": (1630, 440, 290, 380),
    },
}  # fmt: skip


# App mode of newer front ends (2026): (node, widget) that its panel shows, and the node whose pictures it shows. The template still opens
# as a graph, where notes and regions are seen.
APPS = {
    "fireedit_edit": (
        [("LoadImage", "image"), ("FireEditVLMConditioning", "instruction"), ("FireEditSample", "keep_outside"),
         ("FireEditSample", "text_guidance"), ("FireEditSample", "steps"), ("FireEditSample", "seed")],
        ["SaveImage"],
    ),
    "fireedit_photo_remove": ([("LoadImage", "image"), ("FireEditGround", "instruction")], ["SaveImage"]),
} | {
    f"fireedit_photo_{name}": ([("LoadImage", "image"), ("PrimitiveStringMultiline", "value"), seed], ["SaveImage"])
    for name, seed in {
        "ip2p": ("RandomNoise", "noise_seed"), "kontext": ("KSampler", "seed"), "qwen": ("KSampler", "seed"),
        "klein": ("RandomNoise", "noise_seed"),
    }.items()
}  # fmt: skip

# Workflows around an edit model have more nodes than a screen holds: what nobody sets there is folded to its title.
FOLDED_IN = ("fireedit_photo_ip2p", "fireedit_photo_kontext", "fireedit_photo_qwen", "fireedit_photo_klein")
_FOLDED = (
    "GetImageSize", "EmptySD3LatentImage", "EmptyFlux2LatentImage", "ConditioningZeroOut", "CFGNorm", "ModelSamplingAuraFlow",
    "ReferenceLatent", "BasicGuider", "KSamplerSelect", "VAEDecode", "InstructPixToPixConditioning", "FireEditDetectorLoader",
    "SamplerCustomAdvanced",
)  # fmt: skip


def is_folded(name: str, entry: dict[str, Any]) -> bool:
    """Whether a node of a workflow is drawn as its title alone; those that encode the workflow's words, or none, too."""
    encodes = any(entry["inputs"].get(words) == "" or isinstance(entry["inputs"].get(words), list) for words in ("text", "prompt"))
    return name in FOLDED_IN and (entry["class_type"] in _FOLDED or (encodes and "clip" in entry["inputs"]))

SCREEN = (1920, 990)  # px that a workflow may cover at full size
_TITLE, _GAP, _GAP_FOLDED, _LEFT, _TOP = 30, 30, 12, 20, 40
# what nodes show after a run, and the height that it takes
_SHOWN = {
    260: ("SaveImage", "PreviewImage", "FireEditRegionsPreview", "FireEditGroundingPreview", "FireEditRegionSelect", "FireEditCompare",
          "FireEditSample"),
    100: ("FireEditApply",),
    150: ("FireEditRegionMasks", "FireEditGround", "FireEditQuickEdit", "FireEditPhotoFinish"),
    60: ("FireEditRegionDetect", "FireEditRegionTokenize", "FireEditVLMConditioning", "FireEditMultiTurn",
         "FireEditConfinedMask", "FireEditPhotoCrop",
         "FireEditRegionsFilter", "FireEditRegionsMerge", "FireEditRegionsFromMask", "FireEditRegionsFromSEGS", "FireEditRegionsFromBBox"),
}  # fmt: skip
_SHOWN_HEIGHT = {kind: height for height, kinds in _SHOWN.items() for kind in kinds}


def height_of(kind: str, info: dict[str, Any]) -> int:
    """Pixels that the front end needs for a node: rows of sockets, widgets, and what it shows after a run."""
    specs = inputs_of(info).values()
    sockets = max(sum(not is_widget(s) for s in specs), len(info["output"]))
    height = 16 + 20 * sockets + _SHOWN_HEIGHT.get(kind, 0)
    for spec in filter(is_widget, specs):
        options = spec[1] if len(spec) > 1 else {}
        height += 90 if options.get("multiline") else 26
        height += 26 * bool(options.get("control_after_generate")) + 240 * bool(options.get("image_upload"))
    return height


def height_of_note(text: str, width: int) -> int:
    """Pixels that a note needs: a heading, and lines of about 7 px per letter."""
    lines = sum(max(1, -(-7 * len(line) // (width - 30))) for line in text.splitlines() if line.strip())
    return 70 + 19 * lines + 8 * text.count("\n\n")


def arrange(
    graph: dict[str, Any], info: dict[str, Any], text: str | None = None, width: int = 285, name: str = ""
) -> dict[str, tuple[int, int, int, int]]:  # fmt: skip
    """Places for the note, if there is a text, and the nodes of a graph: in the order of the work, down one column after the other.

    Raises:
        ValueError: if they do not fit the screen.
    """
    places, x, y = {}, _LEFT, _TOP
    heights = {} if text is None else {NOTE: height_of_note(text, width)}
    heights |= {
        key: 0 if is_folded(name, entry) else height_of(entry["class_type"], info[entry["class_type"]]) for key, entry in graph.items()
    }
    for key, height in heights.items():
        if y > _TOP and y + height > SCREEN[1]:
            x, y = x + width + _GAP, _TOP
        places[key] = (x, y, width, height)
        y += height + _TITLE + (_GAP if height else _GAP_FOLDED)
    if x + width > SCREEN[0]:
        raise ValueError(f"the workflow is {x + width} px wide and does not fit a screen of {SCREEN[0]}")
    return places


def is_widget(spec: list[Any]) -> bool:
    """Whether an input of /object_info is a widget on the node, and no mere socket."""
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    return (isinstance(kind, list) or kind in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")) and not options.get("forceInput")


def widget_values(info: dict[str, Any], values: dict[str, Any]) -> list[Any]:
    """Values in the order in which the front end stores them, with the widgets that it adds itself."""
    out: list[Any] = []
    for name, spec in inputs_of(info).items():
        if not is_widget(spec):
            continue
        options = spec[1] if len(spec) > 1 else {}
        value = values.get(name, options.get("default"))
        out.append(options.get("default") if isinstance(value, list) else value)  # a widget whose socket is linked keeps its own value
        if options.get("control_after_generate") or name in ("seed", "noise_seed"):
            out.append("fixed")
        if options.get("image_upload"):
            out.append("image")
    return out


def inputs_of(info: dict[str, Any]) -> dict[str, list[Any]]:
    """All inputs of a node in order: required, then optional."""
    return {**info["input"].get("required", {}), **info["input"].get("optional", {})}


def ui_workflow(
    name: str, graph: dict[str, Any], info: dict[str, Any], places: dict[str, tuple[int, int, int, int]] | None = None,
    text: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """An API workflow in the front end's own format (version 0.4); `places` are x, y, width, height of its nodes, `text` is a note."""
    layout = places or LAYOUTS.get(name) or arrange(graph, info, text, name=name)
    nodes: dict[str, dict[str, Any]] = {}
    for order, (key, entry) in enumerate(graph.items()):
        kind = entry["class_type"]
        specs = inputs_of(info[kind])
        x, y, width, height = layout[key]
        # the front end puts sockets first and the sockets of widgets after them
        sockets = [{"name": n, "type": _type(s), "link": None} for n, s in specs.items() if not is_widget(s)]
        sockets += [
            {"name": n, "type": _type(s), "widget": {"name": n}, "link": None} for n, s in specs.items() if is_widget(s)
        ]
        nodes[key] = {
            "id": int(key), "type": kind, "pos": [x, y], "size": [width, height or height_of(kind, info[kind])],
            "flags": {"collapsed": True} if height == 0 else {}, "order": order, "mode": 0, "inputs": sockets,
            "outputs": [
                {"name": n, "type": t, "links": None, "slot_index": i}
                for i, (n, t) in enumerate(zip(info[kind]["output_name"], info[kind]["output"]))
            ],
            "properties": {"Node name for S&R": kind} | _models(entry),
            "widgets_values": widget_values(info[kind], entry["inputs"]),
        }  # fmt: skip
    links = []
    for key, entry in graph.items():
        slots = {socket["name"]: (i, socket) for i, socket in enumerate(nodes[key]["inputs"])}
        for input_name, value in entry["inputs"].items():
            if not isinstance(value, list):
                continue
            origin, slot = nodes[value[0]], int(value[1])
            number = len(links) + 1
            index, socket = slots[input_name]
            socket["link"] = number
            output = origin["outputs"][slot]
            output["links"] = [*(output["links"] or []), number]
            links.append([number, origin["id"], slot, nodes[key]["id"], index, output["type"]])
    if text is not None:
        x, y, width, height = layout[NOTE]
        number = max(node["id"] for node in nodes.values()) + 1
        nodes[NOTE] = {
            "id": number, "type": "MarkdownNote", "pos": [x, y], "size": [width, height], "flags": {}, "order": len(nodes), "mode": 0,
            "inputs": [], "outputs": [], "properties": {}, "widgets_values": [text], "color": "#432", "bgcolor": "#653",
        }  # fmt: skip
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"fireedit/{name}")), "revision": 0,
        "last_node_id": max(node["id"] for node in nodes.values()), "last_link_id": len(links),
        "nodes": list(nodes.values()), "links": links, "groups": [], "config": {},
        "extra": {"ds": {"scale": 1, "offset": [0, 0]}, "fireedit": name} | app_mode(name, graph),
        "version": 0.4,
    }  # fmt: skip


def _models(entry: dict[str, Any]) -> dict[str, Any]:
    """What the front end tells a user who lacks a file: its name, its folder, and where it is to be had."""
    known = [FILES[value] for value in named_in(entry).values() if value in FILES]
    found = [{"name": file.name, "url": f"{file.source}{file.name}", "directory": file.folder} for file in known]
    return {"models": found} if found else {}


def app_mode(name: str, graph: dict[str, Any]) -> dict[str, Any]:
    """What App mode reads of a workflow's `extra`; nothing for one that is no app."""
    if name not in APPS:
        return {}
    number = {entry["class_type"]: int(key) for key, entry in graph.items()}
    inputs, outputs = APPS[name]
    return {
        "linearMode": False,
        "linearData": {"inputs": [[number[kind], widget] for kind, widget in inputs], "outputs": [number[kind] for kind in outputs]},
    }


def _type(spec: list[Any]) -> str:
    return "COMBO" if isinstance(spec[0], list) else spec[0]


def main() -> int:
    """Write every UI workflow."""
    with ComfyServer(cpu=True) as server:
        info = server.object_info()
    for path in sorted((WORKFLOWS / "api").glob("*.json")):
        name, graph = path.stem, json.loads(path.read_text(encoding="utf-8"))
        text = json.dumps(ui_workflow(name, graph, info, text=note(name)), indent=1, ensure_ascii=False)
        (WORKFLOWS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        sys.stdout.write(f"wrote workflows/{name}.json\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
