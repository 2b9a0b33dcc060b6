# SPDX-License-Identifier: GPL-3.0-or-later
"""A workflow opens from the host's templates, runs at the press of the button, and shows its result."""

from __future__ import annotations

import json

import pytest

from tests.browser.conftest import Canvas
from tests.host.small import REPO, install, picture

READY = ("fireedit_edit", "fireedit_stock_sampler", "fireedit_pick_regions", "fireedit_multi_turn")  # need no file of the user's


def test_all_workflows_are_offered(canvas: Canvas):
    offered = canvas.server.get("/api/workflow_templates")
    (ours,) = [names for names in offered.values() if "fireedit_edit" in names]
    assert set(ours) == {path.stem for path in (REPO / "workflows").glob("*.json")}


@pytest.mark.parametrize("name", READY)
def test_a_template_opens_runs_and_shows(canvas: Canvas, name: str):
    server = canvas.server
    (pack,) = [pack for pack, names in server.get("/api/workflow_templates").items() if name in names]
    flow = server.get(f"/api/workflow_templates/{pack}/{name}.json")
    assert flow == json.loads((REPO / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    image = server.upload_image(picture(60, 52, seed=len(name)), f"template-{name}.png")
    canvas.load(flow, name)
    assert canvas.run("() => app.graph.nodes.filter((n) => n.has_errors || n.type === undefined).length") == 0
    canvas.run(
        """([image, bundle]) => { for (const n of app.graph.nodes) for (const w of n.widgets ?? []) {
        if (n.type === 'LoadImage' && w.name === 'image') w.value = image;
        if (w.name === 'bundle') w.value = bundle; } }""",
        [image, install(server)],
    )
    canvas.queue()
    save = canvas.run("() => app.graph.nodes.find((n) => n.type === 'SaveImage').id")
    canvas.page.wait_for_function("(id) => app.nodeOutputs[id]?.images?.length > 0", arg=save, timeout=30_000)
    canvas.page.wait_for_timeout(500)
    canvas.shot(name)
