# SPDX-License-Identifier: GPL-3.0-or-later
"""The slider of FireEdit Compare shows both pictures and follows the pointer and the arrow keys."""

from __future__ import annotations

import numpy as np

from authoring.make_workflows import ui_workflow
from tests.browser.conftest import Canvas

SIZES = {"1": (0, 40, 300, 330), "2": (0, 440, 300, 330), "3": (340, 40, 380, 460)}


def test_slider(canvas: Canvas):
    server = canvas.server
    red, blue = (np.full((64, 96, 3), colour, np.uint8) for colour in ((220, 30, 30), (30, 30, 220)))
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": server.upload_image(red, "red.png")}},
        "2": {"class_type": "LoadImage", "inputs": {"image": server.upload_image(blue, "blue.png")}},
        "3": {"class_type": "FireEditCompare", "inputs": {"before": ["1", 0], "after": ["2", 0], "amplify": 4.0}},
    }
    canvas.load(ui_workflow("compare", graph, server.object_info(), SIZES))
    canvas.run("() => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [200, 100]; app.canvas.setDirty(true, true); }")
    canvas.queue()
    slider = canvas.page.locator(".fireedit-compare")
    canvas.page.wait_for_function(
        "() => { const all = [...document.querySelectorAll('.fireedit-compare img')]; "
        "return all.length === 2 && all.every((x) => x.naturalWidth === 96); }",
        timeout=20_000,
    )
    box = slider.bounding_box()
    canvas.page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    canvas.page.mouse.down()
    canvas.page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.5 * box["height"])
    canvas.page.mouse.up()
    assert abs(int(slider.get_attribute("aria-valuenow")) - 25) <= 1
    canvas.shot("compare")
    slider.focus()
    canvas.page.keyboard.press("ArrowRight")
    assert abs(int(slider.get_attribute("aria-valuenow")) - 30) <= 1
    canvas.page.keyboard.press("End")
    assert slider.get_attribute("aria-valuenow") == "100"
