# SPDX-License-Identifier: GPL-3.0-or-later
"""The workflows that join FireEdit with other things run through /prompt, and the other thing has an effect."""

from __future__ import annotations

import json
import os
import subprocess

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fireedit_cli.comfy_host import ComfyServer, ExecutionFailed, PromptRejected
from fireedit_cli.model_files import FILES, LOADERS, missing, named_in
from fireedit_cli.workflow import Workflow
from host_setup.host_lookup import find_python, require_host
from tests.host.small import (
    INSTRUCTION,
    REPO,
    SIZE,
    TinyConfig,
    as_loaded,
    load_workflow,
    node_of,
    picture,
    write_bundle,
)

# Whole ratios of the widths and heads of 64 channels: what the host's ControlNet loader takes a file of unknown shape for.
SHAPE = TinyConfig(
    image_size=SIZE, latent_channels=8, unet_widths=(128, 256), attention_levels=(False, True), unet_heads=4, context_size=64,
    hidden_size=64, language_layers=1, dino_size=64, dino_layers=2, dino_patch=16, clip_size=64, clip_layers=2, qformer_layers=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def bundle(server: ComfyServer) -> str:
    folder = server.models_dir / "fireedit" / "graphs"
    if not folder.exists():
        write_bundle(folder, SHAPE)
    return "graphs"


def prepared(server: ComfyServer, name: str, bundle: str, seed: int = 0, **changes) -> dict:
    image = server.upload_image(picture(60, 52, seed=seed), f"graph-{seed}.png")
    graph = load_workflow(
        name, FireEditLoader={"bundle": bundle}, LoadImage={"image": image}, FireEditSample={"steps": 2}, FireEditMultiTurn={"steps": 2},
        KSampler={"steps": 3}, **changes,
    )  # fmt: skip
    for node in graph.values():
        if node["class_type"] == "FireEditVLMConditioning" and "\n" not in node["inputs"]["instruction"]:
            node["inputs"]["instruction"] = INSTRUCTION
    return graph


def saved(server: ComfyServer, graph: dict) -> list[np.ndarray]:
    return server.run(graph, timeout=200).images[node_of(graph, "SaveImage")]


def test_lora(server: ComfyServer, bundle: str):
    generator = torch.Generator().manual_seed(2)
    name = "diffusion_model.output_blocks.0.1.transformer_blocks.0.attn2.to_v"
    folder = server.models_dir / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    weights = {"lora_up": torch.randn(256, 4, generator=generator), "lora_down": torch.randn(4, 64, generator=generator)}
    save_file({f"{name}.{part}.weight": value for part, value in weights.items()}, folder / "my_lora.safetensors")
    server.object_info("LoraLoaderModelOnly")  # the host reads its folders anew
    with_it = saved(server, prepared(server, "fireedit_lora", bundle))[0]
    without = saved(server, prepared(server, "fireedit_lora", bundle, LoraLoaderModelOnly={"strength_model": 0.0}))[0]
    assert with_it.shape == (60, 52, 3) and not np.array_equal(with_it, without)


def test_controlnet(server: ComfyServer, bundle: str):
    host, file = require_host(), server.models_dir / "controlnet" / "my_controlnet.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    command = [find_python(host), "-m", "tests.host.inside.make_controlnet", str(file), str(server.models_dir / "fireedit" / bundle)]
    env = {**os.environ, "FIREEDIT_HOST": str(host.path)}
    done = subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    server.object_info("ControlNetLoader")
    runs = [
        saved(server, prepared(server, "fireedit_controlnet", bundle, ControlNetApplyAdvanced={"strength": strength}))[0]
        for strength in (1.0, 0.0)
    ]
    assert runs[0].shape == (60, 52, 3) and not np.array_equal(*runs)


def test_model_upscaler(server: ComfyServer, bundle: str):
    from spandrel.architectures.Compact import Compact

    folder = server.models_dir / "upscale_models"
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = Compact(num_in_ch=3, num_out_ch=3, num_feat=8, num_conv=2, upscale=2, act_type="prelu")
    save_file(network.state_dict(), folder / "my_upscaler.safetensors")
    server.object_info("UpscaleModelLoader")
    assert saved(server, prepared(server, "fireedit_upscale", bundle))[0].shape == (120, 104, 3)


def test_hires_second_pass(server: ComfyServer, bundle: str):
    graph = prepared(server, "fireedit_hires", bundle)
    for node in graph.values():  # twice the native size of the small bundle
        if node["inputs"].get("working_size"):
            node["inputs"]["working_size"] = 2 * SIZE
    picture_ = saved(server, graph)[0]
    assert max(picture_.shape[:2]) == 2 * SIZE and picture_.std() > 0


def test_inpaint_mask_from_grounding(server: ComfyServer, bundle: str):
    """What stands outside the mask is the source, bit for bit, through the host's own nodes."""
    graph = prepared(server, "fireedit_inpaint", bundle)
    node_cond = node_of(graph, "FireEditVLMConditioning")
    graph["90"] = {"class_type": "MaskToImage", "inputs": {"mask": [node_of(graph, "GrowMask"), 0]}}
    graph["91"] = {"class_type": "SaveImage", "inputs": {"images": ["90", 0], "filename_prefix": "mask"}}
    image = server.upload_image(picture(SIZE, SIZE, seed=3), "inpaint.png")
    mask = np.zeros((SIZE, SIZE, 4), np.uint8)
    mask[..., 3] = 255
    mask[:20, :20, 3] = 0  # LoadImage's mask is where the picture is transparent
    painted = server.upload_image(mask, "painted.png")
    graph["92"] = {"class_type": "LoadImage", "inputs": {"image": painted}}
    for node in graph.values():
        if node["class_type"] == "LoadImage" and node["inputs"]["image"] != painted:
            node["inputs"]["image"] = image
    graph[node_cond]["inputs"]["mask"] = ["92", 1]  # random weights point everywhere
    images = server.run(graph, timeout=200).images
    out, shown = images[node_of_save(graph, "fireedit")][0], images["91"][0]
    outside = shown.max(-1) == 0
    assert outside.mean() > 0.5 and np.array_equal(out[outside], picture(SIZE, SIZE, seed=3)[outside])
    assert not np.array_equal(out[~outside], picture(SIZE, SIZE, seed=3)[~outside])


def test_confined_and_its_mask(server: ComfyServer, bundle: str):
    """A given mask comes out of the sampled latent again, on the latent's cells; a second run takes all of it from the host's cache."""
    graph = prepared(server, "fireedit_confine", bundle)
    painted = np.zeros((SIZE, SIZE, 4), np.uint8)
    painted[..., 3] = 255
    painted[3:20, 30:34, 3] = 0  # LoadImage's mask is where the picture is transparent
    graph["90"] = {"class_type": "LoadImage", "inputs": {"image": server.upload_image(painted, "confine-mask.png")}}
    graph[node_of(graph, "FireEditConfine")]["inputs"]["mask"] = ["90", 1]
    mask = node_of(graph, "FireEditConfinedMask")
    graph["91"] = {"class_type": "MaskToImage", "inputs": {"mask": [mask, 0]}}
    graph["92"] = {"class_type": "SaveImage", "inputs": {"images": ["91", 0], "filename_prefix": "mask"}}
    image = server.upload_image(picture(SIZE, SIZE, seed=3), "confine.png")
    for key, node in graph.items():
        if node["class_type"] == "LoadImage" and key != "90":
            node["inputs"]["image"] = image
    result = server.run(graph, timeout=200)
    cells = np.zeros((SIZE, SIZE), bool)
    cells[:24, 24:40] = True
    assert np.array_equal(result.images["92"][0][..., 0] == 255, cells) and result.images["92"][0][~cells].max() == 0
    assert result.outputs[mask]["text"] == ["the edit was free on 9% of the picture"]
    graph["92"]["inputs"]["filename_prefix"] = "again"
    assert np.array_equal(server.run(graph, timeout=200).images["92"][0], result.images["92"][0])


def node_of_save(graph: dict, prefix: str) -> str:
    (found,) = [k for k, n in graph.items() if n["class_type"] == "SaveImage" and n["inputs"]["filename_prefix"] == prefix]
    return found


def test_batch_of_pictures_with_one_instruction(server: ComfyServer, bundle: str):
    graph = prepared(server, "fireedit_batch", bundle)
    graph[node_of(graph, "FireEditVLMConditioning")]["inputs"]["instruction"] = INSTRUCTION
    first, second = [k for k, n in graph.items() if n["class_type"] == "LoadImage"]
    graph[second]["inputs"]["image"] = server.upload_image(picture(60, 52, seed=9), "graph-9.png")
    both = saved(server, graph)
    assert len(both) == 2 and not np.array_equal(*both)
    alone = prepared(server, "fireedit_edit", bundle)
    alone[node_of(alone, "FireEditVLMConditioning")]["inputs"]["instruction"] = INSTRUCTION
    single = saved(server, alone)[0]
    assert np.abs(both[0].astype(int) - single).max() <= 1  # of 255: the first of a batch has the noise of a single one


def test_one_picture_with_many_instructions(server: ComfyServer, bundle: str):
    graph = prepared(server, "fireedit_many_instructions", bundle)
    graph[node_of(graph, "FireEditVLMConditioning")]["inputs"]["instruction"] = f"{INSTRUCTION}\nmake the cat blue\nremove the dog"
    three = saved(server, graph)
    assert len(three) == 3 and len({x.tobytes() for x in three}) == 3


def test_multi_turn(server: ComfyServer, bundle: str):
    lines = {"steps": 2, "instructions": "remove the cat\nremove the dog"}
    graph = prepared(server, "fireedit_multi_turn", bundle)
    graph[node_of(graph, "FireEditMultiTurn")]["inputs"].update(lines)
    result = server.run(graph, timeout=200)
    assert len(result.images[node_of(graph, "SaveImage")]) == 2 and len(result.previews) == 4
    assert len(result.outputs[node_of(graph, "FireEditMultiTurn")]["text"][0].splitlines()) == 2


def test_regions_of_ones_own(server: ComfyServer, bundle: str):
    graph = prepared(server, "fireedit_own_regions", bundle)
    painted = np.dstack([picture(60, 52, seed=5), np.full((60, 52), 255, np.uint8)])
    painted[8:20, 8:30, 3] = 0
    graph[node_of(graph, "LoadImage")]["inputs"]["image"] = server.upload_image(painted, "painted-regions.png")
    result = server.run(graph, timeout=200)
    assert result.outputs[node_of(graph, "FireEditRegionsMerge")]["text"][0].endswith(("region", "regions"))
    assert result.images[node_of(graph, "SaveImage")][0].shape == (60, 52, 3)


def test_regions_picked_by_hand(server: ComfyServer, bundle: str):
    """A typed selection: with force, what is outside the picked box is the source bit for bit."""
    graph = prepared(server, "fireedit_pick_regions", bundle, seed=6)
    graph[node_of(graph, "FireEditRegionSelect")]["inputs"]["selection"] = '{"mode": "force", "boxes": [[5, 5, 25, 25]]}'
    out, source = saved(server, graph)[0], picture(60, 52, seed=6)
    assert np.array_equal(out[34:], source[34:]) and np.array_equal(out[:, 34:], source[:, 34:])
    assert not np.array_equal(out[5:25, 5:25], source[5:25, 5:25])
    graph[node_of(graph, "FireEditRegionSelect")]["inputs"]["selection"] = '{"mode": "restrict"}'
    with pytest.raises(ExecutionFailed, match="FireEdit Region Select: nothing is picked"):
        saved(server, graph)
    graph[node_of(graph, "FireEditRegionSelect")]["inputs"]["selection"] = "{"
    with pytest.raises(PromptRejected, match="FireEdit Region Select: The selection is no valid JSON"):
        server.queue(graph)


def test_a_pick_belongs_to_its_picture(server: ComfyServer, bundle: str):
    """Picked on one picture, queued with another: refused by name with force, dropped and said with auto, done where it stands for any."""
    graph = prepared(server, "fireedit_pick_regions", bundle, seed=6)
    select, load, save = (node_of(graph, name) for name in ("FireEditRegionSelect", "LoadImage", "SaveImage"))
    picker = json.loads(server.run(graph, timeout=200).outputs[select]["fireedit_regions"][0])
    mine = graph[load]["inputs"]["image"]
    asked = server.get(f"/fireedit/fingerprint?filename={mine}")["picture"]
    assert asked == picker["picture"]  # what the browser is told before the first run is what the node finds in it
    other = server.upload_image(picture(60, 52, seed=66), "another-picture.png")
    pick = {"mode": "force", "boxes": [[5, 5, 25, 25]], "picture": asked}

    def run(value: dict, image: str):
        graph[select]["inputs"]["selection"], graph[load]["inputs"]["image"] = json.dumps(value), image
        return server.run(graph, timeout=200)

    assert not np.array_equal(run(pick, mine).images[save][0][5:25, 5:25], picture(60, 52, seed=6)[5:25, 5:25])
    with pytest.raises(ExecutionFailed, match="FireEdit Region Select: the selection was made on another picture .*force would"):
        run(pick, other)
    said = run(pick | {"mode": "auto"}, other)
    assert "another picture came" in said.outputs[select]["text"][0]
    source = picture(60, 52, seed=66)
    anywhere = run({k: v for k, v in pick.items() if k != "picture"}, other).images[save][0]
    assert np.array_equal(anywhere[34:], source[34:]) and not np.array_equal(anywhere[5:25, 5:25], source[5:25, 5:25])


@pytest.mark.parametrize("query", [
    "filename=none.png", "filename=../../server.log", "filename=server.log&subfolder=..", "filename=x.png&type=models", "", "filename=",
    "filename=/etc/hostname",
])  # fmt: skip
def test_only_pictures_of_the_servers_folders_have_a_fingerprint(server: ComfyServer, query: str):
    answer = server.http.get(f"{server.url}/fireedit/fingerprint?{query}", timeout=20)
    assert answer.status_code == 400 and answer.json()["error"]


def test_what_other_packs_bring_and_take(server: ComfyServer, bundle: str):
    pytest.importorskip("ultralytics")
    from tests.core.regions.test_own_detectors import write_yolo

    folder = server.models_dir / "ultralytics" / "bbox"
    folder.mkdir(parents=True, exist_ok=True)
    write_yolo(folder / "my_detector.pt")
    server.object_info("FireEditDetectorLoader")
    graph = prepared(server, "fireedit_other_packs", bundle, seed=8)
    result = server.run(graph, timeout=200)
    text = result.outputs[node_of(graph, "FireEditCompare")]["text"][0]
    inside, outside = (float(text.split(word)[0].split()[-1]) for word in (" inside", " outside"))
    assert inside > 2 * outside  # the edit is where the best region is, but for the ramp around it
    assert result.images[node_of(graph, "SaveImage")][0].shape == (60, 52, 3)


def test_every_node_is_in_a_workflow(server: ComfyServer):
    used = {node["class_type"] for path in (REPO / "workflows" / "api").glob("*.json") for node in json.loads(path.read_text()).values()}
    ours = {name for name, info in server.object_info().items() if info["category"].startswith("FireEdit")}
    assert ours <= used


@pytest.mark.parametrize(
    ("name", "picture_of", "touched"),
    (
        ("fireedit_photo_remove", "flower", (0.1, 0.35)),
        ("fireedit_photo_recolour", "astronaut", (0.25, 0.5)),
        ("fireedit_photo_background", "astronaut", (0.5, 0.75)),
    ),
)
def test_a_photograph(server: ComfyServer, name: str, picture_of: str, touched: tuple[float, float]):
    """As it comes, with its own picture: outside of what Quick Edit gives as touched, every byte is the photo's."""
    file = REPO / "web" / "examples" / f"fireedit_photo_{picture_of}.jpg"
    graph = load_workflow(name, LoadImage={"image": server.upload_image(file, file.name)})
    # all that is touched at all: a preview of the mask itself would round its faintest part to 0
    graph["89"] = {"class_type": "ThresholdMask", "inputs": {"mask": [node_of(graph, "FireEditQuickEdit"), 1], "value": 0.0}}
    graph["90"] = {"class_type": "MaskToImage", "inputs": {"mask": ["89", 0]}}
    graph["91"] = {"class_type": "PreviewImage", "inputs": {"images": ["90", 0]}}
    images = server.run(graph, timeout=200).images
    before, after = as_loaded(server, file), images[node_of(graph, "SaveImage")][0][..., :3]
    outside = images["91"][0].max(-1) == 0
    assert touched[0] < 1 - outside.mean() < touched[1]
    assert np.array_equal(before[outside], after[outside]) and (before != after)[~outside].any(-1).mean() > 0.5


def test_a_language_model_grounds(server: ComfyServer):
    """With a small random one: what it babbles cannot be used, or is a choice by chance; the report says which."""
    import torch

    from tests.core.grounding import small_chat_models

    torch.manual_seed(0)
    small_chat_models.llava(server.models_dir / "LLM" / "small-llava")
    server.object_info("FireEditGrounderLoader")
    file = REPO / "web" / "examples" / "fireedit_photo_astronaut.jpg"
    image = server.upload_image(file, file.name)
    graph = load_workflow("fireedit_photo_any_language", LoadImage={"image": image})
    with pytest.raises(Exception, match="qwen_2.5_vl_7b.safetensors"):  # as it comes: the host names the file that is not there
        server.run(graph, timeout=60)
    graph.pop(node_of(graph, "CLIPLoader"))
    loader, ground = node_of(graph, "FireEditGrounderLoader"), node_of(graph, "FireEditGround")
    graph[loader]["inputs"] = {"grounder": "encoder of clip"}
    with pytest.raises(ExecutionFailed, match="FireEdit Grounder Loader: .*connect clip"):
        server.run(graph, timeout=60)
    graph[loader]["inputs"] = {"grounder": "LLM/small-llava"}
    graph[ground]["inputs"]["instruction"] = "make the person black and white"
    result = server.run(graph, timeout=200)
    text = result.outputs[ground]["text"][0]
    assert "Read by small-llava" in text or "small-llava gave no answer that could be used" in text and "read by words" in text


AROUND_A_MODEL = ("fireedit_photo_ip2p", "fireedit_photo_kontext", "fireedit_photo_qwen", "fireedit_photo_klein")


@pytest.mark.parametrize("name", AROUND_A_MODEL)
def test_around_an_edit_model(server: ComfyServer, name: str):
    """With files of the names that it gives all of it is valid, and stops at what those hold. With models in them it is run node by node
    in tests/host/inside/test_model_workflows.py: what the host reads from a file is of the true size, which no test can hold."""
    graph = load_workflow(name)
    photo = REPO / "web" / "examples" / graph[node_of(graph, "LoadImage")]["inputs"]["image"]
    graph[node_of(graph, "LoadImage")]["inputs"]["image"] = server.upload_image(photo, photo.name)
    wanted = {value: LOADERS[node["class_type"]] for node in graph.values() for value in named_in(node).values()}
    assert all(FILES[value].folder == folder for value, folder in wanted.items())
    lacking = missing(server, Workflow(graph))
    assert len(lacking) == len(wanted)
    assert all(any(f"models/{folder}/{value} (" in line for line in lacking) for value, folder in wanted.items())
    with pytest.raises(PromptRejected, match=next(iter(wanted))):
        server.queue(graph)
    files = [server.models_dir / folder / value for value, folder in wanted.items()]
    try:
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"no weights")
        assert missing(server, Workflow(graph)) == []
        with pytest.raises(ExecutionFailed) as failed:
            server.run(graph, timeout=100)
        assert failed.value.node_type in LOADERS
    finally:
        for file in files:
            file.unlink(missing_ok=True)


def test_every_workflow_has_a_test_here():
    with open(__file__, encoding="utf-8") as file:
        text = file.read()
    names = [path.stem for path in (REPO / "workflows" / "api").glob("*.json")]
    assert names and all(f'"{name}"' in text or name == "fireedit_stock_sampler" for name in names)


def test_the_same_queue_gives_the_same_bytes(server: ComfyServer, bundle: str):
    graph = prepared(server, "fireedit_edit", bundle, seed=21)
    first = saved(server, graph)[0]
    server.free()  # nothing of the first run is left in the host's cache
    assert np.array_equal(saved(server, graph)[0], first)
