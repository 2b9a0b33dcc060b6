# SPDX-License-Identifier: GPL-3.0-or-later
"""The host starts with the pack linked, runs stock workflows, and its failures arrive as what they are."""

from __future__ import annotations

import shutil
import time

import numpy as np
import pytest

from fireedit_cli.comfy_host import ComfyServer, ExecutionFailed, HostError, PromptRejected
from host_setup.host_lookup import REPO
from host_setup.setup_host import link_folder


def picture(height: int = 24, width: int = 40) -> np.ndarray:
    """A picture without symmetry, uint8 (H, W, 3)."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def inverted(name: str) -> dict:
    """Load a picture, invert it, preview it."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }


def test_server_answers(server: ComfyServer):
    assert server.get("/system_stats")["system"]["comfyui_version"]
    assert "KSampler" in server.object_info()
    assert server.object_info("KSampler")["output"] == ["LATENT"]
    with pytest.raises(HostError, match="NoSuchNode"):
        server.object_info("NoSuchNode")


def test_front_end_is_served(server: ComfyServer):
    assert "<html" in server.http.get(server.url + "/", timeout=30).text.lower()


def test_pack_is_loaded(server: ComfyServer):
    text = server.log_text()
    failed = [line for line in text.splitlines() if "IMPORT FAILED" in line and "custom_nodes" in line]
    assert not failed and "FireEdit cannot be loaded" not in text, server.log_tail(80)


def test_stock_workflow_returns_pixels(server: ComfyServer):
    source = picture()
    result = server.run(inverted(server.upload_image(source, "source.png")), timeout=60)
    difference = result.images["3"][0].astype(int) - (255 - source.astype(int))
    assert np.abs(difference).max() <= 1  # the host cuts off where it could round
    assert result.seconds > 0 and set(result.node_seconds) == {"1", "2", "3"}


def test_bad_workflow_is_rejected_in_the_servers_words(server: ComfyServer):
    with pytest.raises(PromptRejected) as caught:
        server.queue(inverted("no such file.png"))
    assert "1" in caught.value.node_errors and "no such file.png" in str(caught.value)


def test_failing_node_is_named_and_the_server_lives_on(server: ComfyServer):
    broken = server.upload_image(picture(), "broken.png")
    (server.input_dir / broken).write_bytes(b"not a picture")
    with pytest.raises(ExecutionFailed) as caught:
        server.run(inverted(broken), timeout=60)
    assert caught.value.node_type == "LoadImage" and caught.value.exception_message
    assert server.run(inverted(server.upload_image(picture(), "again.png")), timeout=60).images["3"]


def test_free_and_interrupt_of_an_idle_server_do_no_harm(server: ComfyServer):
    server.interrupt("no such prompt")
    server.free()
    time.sleep(0.2)
    assert server.alive and server.run(inverted(server.upload_image(picture(), "idle.png")), timeout=60).images["3"]


@pytest.mark.slow
def test_a_second_copy_stands_aside(tmp_path):
    """The folder under a second name, and an older copy: ComfyUI starts, the first works, and the log says what to remove."""
    packs = tmp_path / "custom_nodes"
    packs.mkdir()
    link_folder(packs / "another-name-of-it", REPO)
    for name in ("nodes", "fireedit_core", "web", "locales"):
        shutil.copytree(REPO / name, packs / "older-copy" / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPO / "__init__.py", packs / "older-copy")
    with ComfyServer(cpu=True, base=tmp_path) as server:
        text = server.log_text()
        assert text.count("ImportError: two copies of FireEdit") == 2 and "FireEditSample" in server.object_info()
        assert str(REPO) in text and "keep one of them" in text
        assert server.get("/fireedit/schedule", steps="2")
