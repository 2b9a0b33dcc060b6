# SPDX-License-Identifier: GPL-3.0-or-later
"""A workflow opens from the host's templates, runs at the press of the button, and shows its result."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image

from authoring.workflow_notes import NEEDS
from tests.browser.conftest import FRONT_ENDS, TWO, Canvas
from tests.host.small import REPO

READY = sorted({path.stem for path in (REPO / "workflows").glob("*.json")} - set(NEEDS))


def test_all_workflows_are_offered(server):
    offered = server.get("/api/workflow_templates")
    (ours,) = [names for names in offered.values() if "fireedit_edit" in names]
    assert set(ours) == {path.stem for path in (REPO / "workflows").glob("*.json")}


@pytest.mark.parametrize("name", sorted(path.stem for path in (REPO / "workflows").glob("*.json")))
def test_every_workflow_has_a_thumbnail(server, name: str):
    (pack,) = [pack for pack, names in server.get("/api/workflow_templates").items() if name in names]
    answer = server.http.get(f"{server.url}/api/workflow_templates/{pack}/{name}.jpg", timeout=30)
    picture = Image.open(io.BytesIO(answer.content))
    assert answer.status_code == 200 and picture.format == "JPEG" and min(picture.size) >= 240 and len(answer.content) < 80_000


FEW_STEPS = """() => { for (const node of app.graph.nodes) for (const w of node.widgets ?? [])
  if (w.name === 'steps') { w.value = 2; w.callback?.(2); } }"""


@pytest.mark.parametrize("canvas", TWO, indirect=True)
@pytest.mark.parametrize("name", READY)
def test_a_template_opens_runs_and_shows(canvas: Canvas, name: str):
    """As it comes: with the bundled weights and the bundled pictures, which the server does not have before."""
    server = canvas.server
    (pack,) = [pack for pack, names in server.get("/api/workflow_templates").items() if name in names]
    flow = server.get(f"/api/workflow_templates/{pack}/{name}.json")
    assert flow == json.loads((REPO / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    canvas.load(flow, name)
    assert canvas.run("() => app.graph.nodes.filter((n) => n.has_errors || n.type === undefined).length") == 0
    wanted = [node["widgets_values"][0] for node in flow["nodes"] if node["type"] == "LoadImage"]
    assert canvas.run("() => app.graph.nodes.filter((n) => n.type === 'LoadImage').map((n) => n.widgets[0].value)") == wanted
    widths = [Image.open(REPO / "web" / "examples" / image).width for image in wanted]
    shown = "(w) => JSON.stringify(app.graph.nodes.filter((n) => n.type === 'LoadImage').map((n) => n.imgs?.[0]?.naturalWidth)) === w"
    canvas.page.wait_for_function(shown, arg=json.dumps(widths, separators=(",", ":")))
    assert canvas.page.get_by_text("Select image").count() == 0  # what Nodes 2.0 writes for a file that it does not know
    if canvas.name != TWO[0]:  # all its steps are sampled once; the other front end shows the same with few
        canvas.run(FEW_STEPS)
    canvas.queue()
    save = canvas.run("() => app.graph.nodes.find((n) => n.type === 'SaveImage').id")
    canvas.page.wait_for_function("(id) => app.nodeOutputs[id]?.images?.length > 0", arg=save, timeout=30_000)
    canvas.page.wait_for_timeout(500)
    canvas.shot(name)


@pytest.mark.parametrize("canvas", TWO, indirect=True)
def test_the_picker_shows_the_picture_of_a_template_that_the_server_did_not_have(canvas: Canvas):
    """And knows it before the first run, so that what is drawn on it belongs to it; the server is not asked for a file it has not got."""
    (canvas.server.base / "input" / "fireedit_remove.png").unlink(missing_ok=True)
    canvas.open()
    canvas.load(json.loads((REPO / "workflows" / "fireedit_pick_regions.json").read_text(encoding="utf-8")), "fresh")
    known = """() => { const { picture, natural } = app.graph.nodes.find((n) => n.type === 'FireEditRegionSelect').fireeditPicker;
      return picture.startsWith('128x128:') && natural?.[0] === 128; }"""
    canvas.page.wait_for_function(known, timeout=20_000)
    assert not canvas.errors


@pytest.mark.parametrize("canvas", TWO, indirect=True)
@pytest.mark.parametrize("name", sorted(NEEDS))
def test_a_template_that_needs_a_file_says_so(canvas: Canvas, name: str):
    canvas.load(json.loads((REPO / "workflows" / f"{name}.json").read_text(encoding="utf-8")), name)
    assert canvas.run("() => app.graph.nodes.filter((n) => n.type === undefined).length") == 0
    assert NEEDS[name] in canvas.run("() => app.graph.nodes.find((n) => n.type === 'MarkdownNote').widgets[0].value")


NEWER_NODE = """() => { if (LiteGraph.registered_node_types.BatchImagesNode) return;
class Batch extends LGraphNode { comfyClass = 'BatchImagesNode'; constructor() { super('Batch Images');
  this.addInput('images.image0', 'IMAGE'); this.addInput('images.image1', 'IMAGE'); this.addOutput('IMAGE', 'IMAGE'); } }
LiteGraph.registerNodeType('BatchImagesNode', Batch); }"""


@pytest.mark.parametrize("canvas", TWO, indirect=True)
def test_the_batch_template_takes_the_node_that_the_host_likes_best(canvas: Canvas):
    """On a host with BatchImagesNode (here a node of that name where the host has none); another's workflow is left as it is."""
    flow = json.loads((REPO / "workflows" / "fireedit_batch.json").read_text(encoding="utf-8"))
    canvas.spent = True  # it is left with a node that the host may not have
    canvas.run(NEWER_NODE)
    canvas.load(flow, "fireedit_batch")
    kinds = "() => app.graph.nodes.map((n) => n.type)"
    assert "BatchImagesNode" in canvas.run(kinds) and "ImageBatch" not in canvas.run(kinds)
    node = "app.graph.nodes.find((n) => n.type === 'BatchImagesNode')"
    assert canvas.run(f"() => [0, 1].map((i) => {node}.getInputNode(i)?.type)") == ["LoadImage", "LoadImage"]
    prompt = canvas.run("async () => (await app.graphToPrompt()).output")
    (inputs,) = [node["inputs"] for node in prompt.values() if node["class_type"] == "BatchImagesNode"]
    assert set(inputs) == {"images.image0", "images.image1"}
    del flow["extra"]["fireedit"]
    canvas.load(flow, "of_somebody_else")
    assert "ImageBatch" in canvas.run(kinds)


@pytest.mark.parametrize("canvas", [name for name in FRONT_ENDS if "newest" in name], indirect=True)
def test_the_main_template_as_an_app(canvas: Canvas):
    """App mode shows the instruction and what else its data names, and runs; front end 1.32.9 has no such mode."""
    canvas.load(json.loads((REPO / "workflows" / "fireedit_edit.json").read_text(encoding="utf-8")), "fireedit_edit")
    assert canvas.page.locator("canvas#graph-canvas").is_visible()  # a graph until one asks for the app
    canvas.spent = True  # it is left in App mode
    canvas.run("async () => { await app.extensionManager.command.execute('Comfy.ToggleLinear'); }")
    panel = canvas.page.locator("[data-testid=linear-widgets]")
    panel.wait_for()
    canvas.shot("app")
    assert panel.locator("textarea").first.input_value() == "get rid of the orange cat"
    for name in ("instruction", "keep_outside", "text_guidance", "steps", "seed"):
        assert panel.get_by_text(name, exact=True).count() >= 1, name
    assert panel.get_by_text("scheduler", exact=True).count() == 0
