# SPDX-License-Identifier: GPL-3.0-or-later
"""Region nodes through /prompt with the bundled detector, on scenes that it was not trained on."""

from __future__ import annotations

import numpy as np
import pytest

from fireedit_cli.comfy_host import ComfyServer, ExecutionFailed, PromptRejected
from fireedit_core.data import SceneGenerator
from tests.core.regions.test_nanodet import photograph
from tests.host.small import install


def graph(name: str, bundle: str, shown: str = "") -> dict:
    """Detect in one picture, draw on the same or on another one."""
    nodes = {
        "0": {"class_type": "FireEditLoader", "inputs": {"bundle": bundle}},
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {
            "class_type": "FireEditRegionDetect",
            "inputs": {
                "fireedit": ["0", 0], "image": ["1", 0], "score_threshold": 0.4, "iou_threshold": 0.6, "max_regions": 100
            },
        },
        "3": {"class_type": "FireEditRegionsPreview", "inputs": {"image": ["1", 0], "regions": ["2", 0], "zoom": 512}},
    }  # fmt: skip
    if shown:
        nodes["4"] = {"class_type": "LoadImage", "inputs": {"image": shown}}
        nodes["3"]["inputs"]["image"] = ["4", 0]
    return nodes


def test_regions_are_found_and_drawn(server: ComfyServer):
    bundle = install(server)
    scene = SceneGenerator(split="heldout", seed=0).sample(0)
    result = server.run(graph(server.upload_image(scene.source, "scene.png"), bundle), timeout=120)
    assert result.outputs["2"]["text"][0].startswith(f"{len(scene.boxes)} region")
    assert result.images["3"][0].shape == (512, 512, 3)
    empty = np.full((128, 128, 3), 128, np.uint8)
    result = server.run(graph(server.upload_image(empty, "empty-scene.png"), bundle), timeout=60)
    assert result.outputs["2"]["text"][0].startswith("no region found")


def test_bad_input_is_named_and_the_server_lives_on(server: ComfyServer):
    bundle = install(server)
    scene = SceneGenerator(split="heldout", seed=0).sample(1)
    name = server.upload_image(scene.source, "scene1.png")
    with pytest.raises(PromptRejected, match="no-such"):
        server.queue(graph(name, "no-such"))
    other = server.upload_image(np.zeros((64, 40, 3), np.uint8), "other.png")
    with pytest.raises(ExecutionFailed, match="FireEdit Regions Preview"):
        server.run(graph(name, bundle, shown=other), timeout=60)
    assert server.run(graph(name, bundle), timeout=60).images["3"]


def test_a_photograph_needs_no_bundle(server: ComfyServer):
    pixels = (photograph("skimage", "astronaut.png")[0].movedim(0, -1) * 255).round().byte().numpy()
    nodes = graph(server.upload_image(pixels, "astronaut.png"), "")
    options = server.object_info("FireEditDetectorLoader")["input"]["required"]["detector"]
    first = (options[1]["options"] if options[0] == "COMBO" else options[0])[0]
    nodes["0"] = {"class_type": "FireEditDetectorLoader", "inputs": {"detector": first}}
    nodes["2"]["inputs"]["detector"] = nodes["2"]["inputs"].pop("fireedit")
    result = server.run(nodes, timeout=60)
    assert result.outputs["2"]["text"] == ["2 regions (1 helmet, 1 person), best score 0.84"] and result.images["3"]
    del nodes["2"]["inputs"]["detector"]
    with pytest.raises(ExecutionFailed, match="FireEdit Region Detect: .*FireEdit Detector Loader"):
        server.run(nodes, timeout=60)
