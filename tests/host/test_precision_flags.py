# SPDX-License-Identifier: GPL-3.0-or-later
"""The flags with which users choose the precision of a model: an edit over the real server with each of them."""

from __future__ import annotations

import numpy as np
import pytest

from fireedit_cli.comfy_host import ComfyServer, ExecutionFailed
from tests.host.small import install, load_workflow, node_of, picture

# Flags of one server -> mean difference of its picture from float32's on 0..255. UNet's and VAE's do not touch each other, so that one
# server tries two. Measured with random weights: 0.02, 0.33, 2.9, 5.7, 0.02.
FLAGS = {
    ("--fp16-unet", "--fp32-vae"): 0.5,
    ("--bf16-unet", "--bf16-vae"): 1.5,
    ("--fp8_e4m3fn-unet", "--cpu-vae"): 6.0,
    ("--fp8_e5m2-unet", "--fp16-vae"): 12.0,
    ("--force-fp16",): 0.5,
}


def edit_on(server: ComfyServer) -> np.ndarray:
    image = server.upload_image(picture(seed=4), "precision.png")
    graph = load_workflow(
        "fireedit_edit", FireEditLoader={"bundle": install(server)}, LoadImage={"image": image}, FireEditSample={"steps": 2, "seed": 5}
    )
    result = server.run(graph, timeout=120)
    return result.images[node_of(graph, "SaveImage")][0].astype(float)


def edit(*flags: str) -> np.ndarray:
    with ComfyServer(cpu=True, arguments=flags) as server:
        return edit_on(server)


@pytest.fixture(scope="module")
def wanted(server: ComfyServer) -> np.ndarray:
    return edit_on(server)


@pytest.mark.slow
@pytest.mark.parametrize("flags", FLAGS, ids=" ".join)
def test_an_edit_with_the_flag_is_near_the_one_without(wanted, flags):
    picture = edit(*flags)
    difference = float(np.abs(picture - wanted).mean())
    assert picture.shape == wanted.shape and picture.std() > 5
    assert difference <= FLAGS[flags]


@pytest.mark.slow
def test_a_type_that_cannot_hold_weights_is_refused_in_words():
    with pytest.raises(ExecutionFailed, match="--fp8_e8m0fnu-unet.*Start it without"):
        edit("--fp8_e8m0fnu-unet")
