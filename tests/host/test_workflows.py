# SPDX-License-Identifier: GPL-3.0-or-later
"""The workflows of the repository run, and their two forms say the same."""

from __future__ import annotations

import json

import numpy as np
import pytest

from authoring.make_workflows import widget_values
from authoring.workflow_notes import note
from fireedit_cli.comfy_host import ComfyServer
from fireedit_cli.model_files import FILES, named_in
from tests.host.small import INSTRUCTION, REPO, install, load_workflow, node_of, picture

NAMES = ("fireedit_edit", "fireedit_stock_sampler")
ALL = sorted(path.stem for path in (REPO / "workflows" / "api").glob("*.json"))
REAL = "fireedit-tiny"
HAVE_REAL = (REPO / "models" / REAL / "model_index.json").is_file()


def prepared(server: ComfyServer, name: str, bundle: str, image: str, steps: int) -> dict:
    return load_workflow(
        name, FireEditLoader={"bundle": bundle}, LoadImage={"image": image}, FireEditSample={"steps": steps},
        BasicScheduler={"steps": steps}, FireEditVLMConditioning={"instruction": INSTRUCTION},
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_workflow_runs(server: ComfyServer, name: str):
    # a picture of its own, so that nothing comes out of the host's cache, which would leave texts out
    image = server.upload_image(picture(60, 52, seed=len(name)), f"{name}.png")
    graph = prepared(server, name, install(server), image, 3)
    result = server.run(graph, timeout=120)
    saved = result.images[node_of(graph, "SaveImage")][0]
    shown = result.images[node_of(graph, "FireEditRegionsPreview")][0]
    # the stock route ends at the working size
    assert saved.shape == ((60, 52, 3) if name == "fireedit_edit" else (64, 56, 3))
    assert min(shown.shape[:2]) >= 400 and shown.std() > 0
    assert saved.std() > 0 and len(result.previews) == 3
    assert "region" in result.outputs[node_of(graph, "FireEditRegionDetect")]["text"][0]
    assert "probability" in result.outputs[node_of(graph, "FireEditVLMConditioning")]["text"][0]


@pytest.mark.skipif(not HAVE_REAL, reason="models/fireedit-tiny is not trained yet")
@pytest.mark.parametrize("name", NAMES)
def test_workflow_runs_with_the_embedded_bundle(server: ComfyServer, name: str):
    source = picture(128, 128)
    image = server.upload_image(source, "real.png")
    graph = prepared(server, name, REAL, image, 2)
    saved = server.run(graph, timeout=200).images[node_of(graph, "SaveImage")][0]
    # what it edits is written down in test_golden.py; a picture unlike its world at least stays itself
    assert saved.shape == (128, 128, 3) and 0 < np.abs(saved.astype(int) - source).mean() < 30


@pytest.mark.parametrize("name", ALL)
def test_ui_and_api_form_agree(server: ComfyServer, name: str):
    info = server.object_info()
    api = load_workflow(name)
    ui = json.loads((REPO / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    (written,) = [node for node in ui["nodes"] if node["type"] == "MarkdownNote"]
    assert written["widgets_values"] == [note(name)]
    nodes = {str(node["id"]): node for node in ui["nodes"] if node is not written}
    assert {key: node["type"] for key, node in nodes.items()} == {k: v["class_type"] for k, v in api.items()}
    wanted = {
        (value[0], value[1], key, name) for key, entry in api.items() for name, value in entry["inputs"].items()
        if isinstance(value, list)
    }  # fmt: skip
    drawn = {
        (str(origin), slot, str(target), nodes[str(target)]["inputs"][index]["name"])
        for _, origin, slot, target, index, _ in ui["links"]
    }
    assert drawn == wanted
    for number, origin, slot, target, index, kind in ui["links"]:
        output, socket = nodes[str(origin)]["outputs"][slot], nodes[str(target)]["inputs"][index]
        assert number in output["links"] and socket["link"] == number
        assert kind == output["type"] and kind in socket["type"].split(",")  # a socket may take several types
    for key, node in nodes.items():
        there = widget_values(info[node["type"]], api[key]["inputs"])
        if not node["type"].startswith("FireEdit"):
            there = there[: len(node["widgets_values"])]  # what a newer host added at the end (CFGNorm) stays at its default
        assert node["widgets_values"] == there, node["type"]
        assert node["outputs"] == [] or [o["name"] for o in node["outputs"]] == info[node["type"]]["output_name"]


@pytest.mark.parametrize("name", ALL)
def test_ui_form_fits_one_screen_without_overlap(name: str):
    ui = json.loads((REPO / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    height = lambda node: 0 if node["flags"].get("collapsed") else node["size"][1]  # noqa: E731  a folded node is its title
    boxes = [(*node["pos"], node["size"][0], height(node), node["type"]) for node in ui["nodes"]]
    # a node's title stands 30 pixels above its position
    assert all(x >= 0 and y >= 30 and x + w <= 1930 and y + h <= 1000 for x, y, w, h, _ in boxes)
    for i, (x, y, w, h, a) in enumerate(boxes):
        for x2, y2, w2, h2, b in boxes[i + 1 :]:
            apart = x + w < x2 or x2 + w2 < x or y + h < y2 - 30 or y2 + h2 < y - 30
            assert apart, f"{a} and {b} overlap"


@pytest.mark.parametrize("name", ALL)
def test_the_front_end_is_told_where_model_files_go(name: str):
    api = load_workflow(name)
    ui = json.loads((REPO / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    for node in ui["nodes"]:
        entry = api.get(str(node["id"]), {"class_type": "", "inputs": {}})
        known = [FILES[value] for value in named_in(entry).values() if value in FILES]
        told = [(m["name"], m["directory"], m["url"]) for m in node["properties"].get("models", [])]
        assert told == [(file.name, file.folder, file.source + file.name) for file in known]


# What newer hosts call deprecated or replace (0.33.0, /node_replacements), so that the test says it on older ones too.
REPLACED = {
    "ImageBatch", "ImageScaleBy", "ImageCrop", "ResizeImagesByLongerEdge", "T2IAdapterLoader", "ControlNetApply", "CheckpointLoader",
    "DiffusersLoader", "ConditioningAverage ",
}  # fmt: skip
# Hosts before BatchImagesNode make a batch of two pictures with nothing else; web/examples.js puts the newer one in where there is one.
ONLY_CHOICE = {"ImageBatch"}


def test_no_node_of_the_host_is_an_outdated_one(server: ComfyServer):
    info = server.object_info()
    route = server.http.get(f"{server.url}/node_replacements", timeout=30)
    outdated = REPLACED | {name for name, node in info.items() if node.get("deprecated")} | set(route.json() if route.ok else ())
    used = {name: {node["class_type"] for node in load_workflow(name).values()} & outdated for name in ALL}
    assert {name: kinds for name, kinds in used.items() if kinds} == {"fireedit_batch": ONLY_CHOICE}


def test_the_main_template_is_an_app_too():
    """What App mode of newer front ends shows: every widget and output that it names is there, and the template opens as a graph."""
    ui = json.loads((REPO / "workflows" / "fireedit_edit.json").read_text(encoding="utf-8"))
    nodes = {node["id"]: node for node in ui["nodes"]}
    assert ui["extra"]["linearMode"] is False
    data = ui["extra"]["linearData"]
    for number, widget in data["inputs"]:
        assert widget in {socket["name"] for socket in nodes[number]["inputs"] if "widget" in socket}, (number, widget)
    assert ["FireEditVLMConditioning", "instruction"] in [[nodes[number]["type"], widget] for number, widget in data["inputs"]]
    assert [nodes[number]["type"] for number in data["outputs"]] == ["SaveImage"]


def test_api_form_names_only_known_values(server: ComfyServer):
    info = server.object_info()
    for name in ALL:
        for node in load_workflow(name).values():
            known = info[node["class_type"]]["input"]
            assert set(node["inputs"]) <= {*known.get("required", {}), *known.get("optional", {})}
            assert set(known.get("required", {})) <= set(node["inputs"])
