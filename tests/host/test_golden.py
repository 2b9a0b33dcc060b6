# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded bundle through /prompt, the command line and Multi Turn gives what is written down, row by row."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fireedit_cli.__main__ import main
from fireedit_cli.comfy_host import ComfyServer
from tests.golden.cases import BUNDLE, CASES, NODES_ONLY, ROWS, TURNS, Case, check, scene
from tests.host.small import load_workflow, node_of

CUT = 1.1 / 255  # the host saves pictures rounded down to 8 bits; `inside/test_golden.py` is stricter


def uploaded(server: ComfyServer, case: Case) -> str:
    return server.upload_image(np.asarray(scene(case.scene)), f"golden-{case.scene}.png")


def graph_of(server: ComfyServer, case: Case) -> dict:
    """fireedit_edit for a case, with the mask as a second picture ("92")."""
    options = {
        "seed": case.seed, "steps": case.steps, "text_guidance": case.text_guidance, "image_guidance": case.image_guidance,
        "keep_outside": case.keep_outside, **case.nodes,
    }  # fmt: skip
    tati, hvca = case.strengths
    graph = load_workflow(
        "fireedit_edit", FireEditLoader={"bundle": BUNDLE.name}, LoadImage={"image": uploaded(server, case)}, FireEditSample=options,
        FireEditVLMConditioning={"instruction": case.instruction, "working_size": case.working_size or 0},
        FireEditApply={"tati_strength": tati, "hvca_strength": hvca, "start_percent": case.window[0], "end_percent": case.window[1]},
    )  # fmt: skip
    conditioning = node_of(graph, "FireEditVLMConditioning")
    if case.box:
        opaque = np.where(case.mask[0].numpy() > 0, 0, 255).astype(np.uint8)  # Load Image's mask is where a picture is transparent
        painted = server.upload_image(np.dstack([np.asarray(scene(case.scene)), opaque]), "golden-mask.png")
        graph["90"] = {"class_type": "LoadImage", "inputs": {"image": painted}}
        graph[conditioning]["inputs"]["mask"] = ["90", 1]
    graph["91"] = {"class_type": "MaskToImage", "inputs": {"mask": [conditioning, 4]}}
    graph["92"] = {"class_type": "PreviewImage", "inputs": {"images": ["91", 0]}}
    return graph


@pytest.mark.parametrize("name", [*CASES, *NODES_ONLY])
def test_an_edit_through_prompt(server: ComfyServer, name: str):
    graph = graph_of(server, (CASES | NODES_ONLY)[name])
    images = server.run(graph, timeout=200).images
    check(name, images[node_of(graph, "SaveImage")][0], images["92"][0][..., 0], tolerance=CUT)


def test_the_stock_sampler(server: ComfyServer):
    case = CASES["stock"]
    graph = load_workflow(
        "fireedit_stock_sampler", FireEditLoader={"bundle": BUNDLE.name}, LoadImage={"image": uploaded(server, case)},
        FireEditVLMConditioning={"instruction": case.instruction}, BasicScheduler={"steps": case.steps},
        RandomNoise={"noise_seed": case.seed},
        FireEditGuider={"text_guidance": case.text_guidance, "image_guidance": case.image_guidance},
    )  # fmt: skip
    check("stock", server.run(graph, timeout=200).images[node_of(graph, "SaveImage")][0], tolerance=CUT)


def test_multi_turn(server: ComfyServer):
    first, second = TURNS.values()
    options = {
        "instructions": f"{first.instruction}, then {second.instruction}", "seed": first.seed, "steps": first.steps,
        "text_guidance": first.text_guidance, "image_guidance": first.image_guidance, "keep_outside": first.keep_outside,
    }  # fmt: skip
    image = {"image": uploaded(server, first)}
    graph = load_workflow("fireedit_multi_turn", FireEditLoader={"bundle": BUNDLE.name}, LoadImage=image, FireEditMultiTurn=options)
    pictures = server.run(graph, timeout=200).images[node_of(graph, "SaveImage")]
    for name, picture in zip(TURNS, pictures, strict=True):
        check(name, picture, tolerance=CUT)


def test_a_list_on_the_command_line(server: ComfyServer, tmp_path: Path):
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "instruction", "output", "seed"])
        for name, case in ROWS.items():
            scene(case.scene).save(tmp_path / f"{case.scene}.png")
            table.writerow([f"{case.scene}.png", case.instruction, f"{name}.png", case.seed])
    case = ROWS["row 0"]
    options = {
        "--steps": case.steps, "--text-guidance": case.text_guidance, "--image-guidance": case.image_guidance,
        "--keep-outside": case.keep_outside, "--bundle": BUNDLE.name, "-o": tmp_path / "out", "--server": server.url,
    }  # fmt: skip
    assert main(["edit", str(tmp_path / "rows.csv"), "--quiet", *(str(x) for pair in options.items() for x in pair)]) == 0
    for name in ROWS:
        check(name, np.asarray(Image.open(tmp_path / "out" / f"{name}.png")), tolerance=CUT)
