# SPDX-License-Identifier: GPL-3.0-or-later
"""The subgraph blueprint: found in the host's search, dropped on the canvas, and it edits as the workflow does."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from authoring.make_blueprint import BLUEPRINTS, BY_INSTRUCTION, Blueprint, blueprint
from fireedit_cli.workflow import Workflow
from tests.browser.conftest import FRONT_ENDS, Canvas
from tests.host.small import INSTRUCTION, install, picture


@pytest.mark.parametrize("about", BLUEPRINTS, ids=lambda about: about.name)
def test_the_file_belongs_to_the_workflow(server, about: Blueprint):
    assert json.loads(about.path.read_text(encoding="utf-8")) == blueprint(about, server.object_info())


def searched(canvas: Canvas, about: Blueprint):
    """The blueprint among what the search box finds."""
    canvas.load({"nodes": [], "links": [], "last_node_id": 0, "last_link_id": 0, "version": 0.4}, "empty")
    search = canvas.page.locator("input[placeholder*='Search'], input[role='combobox']")
    for _ in range(5):  # the first double click after a page was opened may be lost
        canvas.page.mouse.dblclick(700, 500)
        canvas.page.wait_for_timeout(1000)
        if search.count():
            break
    search.last.fill(about.name)
    # in 1.32.9 the field itself is an option too, named by what is typed into it
    found = canvas.page.get_by_role("option", name=about.name).and_(canvas.page.locator(":not(.p-autocomplete-input-chip)"))
    found.wait_for()
    return found


@pytest.mark.parametrize("canvas", [name for name in FRONT_ENDS if "newest" in name], indirect=True)
@pytest.mark.parametrize("about", BLUEPRINTS, ids=lambda about: about.name)
def test_it_says_what_it_does(canvas: Canvas, about: Blueprint):
    """Front end 1.32.9 says "User generated subgraph blueprint" of all. The aliases are read by 1.58.1 of a user's own blueprints only."""
    searched(canvas, about).hover()
    canvas.page.get_by_text(about.description[:40]).first.wait_for(timeout=10_000)
    canvas.shot("blueprint-found")


def test_blueprint_edits_as_the_workflow_does(canvas: Canvas):
    server, page = canvas.server, canvas.page
    image, bundle = server.upload_image(picture(60, 52, seed=77), "blueprint.png"), install(server)
    searched(canvas, BY_INSTRUCTION)
    page.wait_for_timeout(1000)  # until the first one found is the chosen one
    page.keyboard.press("Enter")
    page.wait_for_function("() => app.graph.nodes.length === 1")
    values = {"instruction": INSTRUCTION, "steps": 3, "seed": 5, "bundle": bundle, "keep_outside": "off"}
    widgets = canvas.run(
        """([image, values]) => { const box = app.graph.nodes[0];
        const make = (type, x) => { const n = LiteGraph.createNode(type); n.pos = [x, 100]; app.graph.add(n); return n; };
        const load = make('LoadImage', 50), save = make('SaveImage', 1200);
        load.widgets[0].value = image; load.connect(0, box, 0); box.connect(0, save, 0);
        const plain = (w) => w.name.split(': ').pop();  // the front end puts the node's number in front
        for (const w of box.widgets) if (values[plain(w)] !== undefined) { w.value = values[plain(w)]; w.callback?.(w.value); }
        return box.widgets.map(plain); }""",
        [image, values],
    )  # fmt: skip
    assert set(widgets) >= {*values, "text_guidance"}
    canvas.shot("blueprint")
    canvas.queue()
    canvas.shot("blueprint-run")
    (saved,) = canvas.run("() => app.nodeOutputs[app.graph.nodes.find((n) => n.type === 'SaveImage').id].images")
    flow = Workflow.load().copy()
    flow.set("LoadImage", "image", image)
    flow.set("FireEditLoader", "bundle", bundle)
    flow.set("FireEditVLMConditioning", "instruction", INSTRUCTION)
    for name in ("steps", "seed", "keep_outside"):
        flow.set("FireEditSample", name, values[name])
    wanted = server.run(flow.nodes, timeout=120).images[flow.only("SaveImage")][0]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(server.view(saved)))), wanted)
