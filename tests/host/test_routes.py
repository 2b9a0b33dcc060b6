# SPDX-License-Identifier: GPL-3.0-or-later
"""The stock samplers take FireEdit's values, batches work, and all routes give the pipeline's latents."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fireedit_cli.comfy_host import ComfyServer
from fireedit_core.diffusion.pipeline import FireEditPipeline
from tests.host.small import INSTRUCTION, install, load_workflow, picture, shared_bundle

STEPS, SEED, TEXT, IMAGE = 4, 11, 3.0, 1.5
SIZES = {"batch": (64, 64), "odd": (45, 70)}


@functools.cache
def pipeline() -> FireEditPipeline:
    return FireEditPipeline.from_pretrained(shared_bundle())


def upstream(server: ComfyServer, pictures: list[np.ndarray], instruction: str = INSTRUCTION) -> dict:
    """Nodes 1..6 of the workflow, over one picture or a batch of two."""
    graph = load_workflow("fireedit_edit", FireEditLoader={"bundle": install(server)})
    graph = {key: graph[key] for key in "123456"}
    graph["5"]["inputs"]["instruction"] = instruction
    names = [server.upload_image(p, f"route{i}-{p.shape[0]}.png") for i, p in enumerate(pictures)]
    graph["1"]["inputs"]["image"] = names[0]
    if len(names) == 2:
        graph["21"] = {"class_type": "LoadImage", "inputs": {"image": names[1]}}
        graph["22"] = {"class_type": "ImageBatch", "inputs": {"image1": ["1", 0], "image2": ["21", 0]}}
        for key in "345":
            graph[key]["inputs"]["image"] = ["22", 0]
    return graph


def latent_of(server: ComfyServer, graph: dict, source: list) -> torch.Tensor:
    graph["99"] = {"class_type": "SaveLatent", "inputs": {"samples": source, "filename_prefix": "latents/fireedit"}}
    (item,) = server.run(graph, timeout=120).outputs["99"]["latents"]
    return load_file(server.output_dir / item["subfolder"] / item["filename"])["latent_tensor"]


def with_sample(graph: dict, **inputs) -> dict:
    graph["7"] = load_workflow("fireedit_edit")["7"]
    graph["7"]["inputs"].update(
        seed=SEED, steps=STEPS, text_guidance=TEXT, image_guidance=IMAGE, image=graph["5"]["inputs"]["image"], **inputs
    )
    return graph


def with_guider(graph: dict, node: str, **inputs) -> dict:
    stock = load_workflow("fireedit_stock_sampler")
    for key in ("8", "9", "10", "11"):
        graph[key] = stock[key]
    graph["8"]["inputs"]["noise_seed"], graph["10"]["inputs"]["steps"] = SEED, STEPS
    graph["7"] = {"class_type": node, "inputs": {"model": ["6", 0], **inputs}}
    return graph


def reference(pictures: list[np.ndarray], instruction: str | list[str] = INSTRUCTION, **options) -> torch.Tensor:
    """Final latents of the diffusers pipeline from the noise that the host draws for the seed."""
    pipe = pipeline()
    pipe.set_progress_bar_config(disable=True)
    images = torch.stack([torch.from_numpy(p).permute(2, 0, 1).float() / 255 for p in pictures])
    from fireedit_core.diffusion.compositing import WorkingSize

    plan = WorkingSize.plan(tuple(images.shape[-2:]), pipe.config.native_size)
    shape = (len(pictures), pipe.unet.config.out_channels, plan.padded[0] // 8, plan.padded[1] // 8)
    noise = torch.randn(shape, generator=torch.manual_seed(SEED))
    options = {"num_inference_steps": STEPS, "text_guidance": TEXT, "image_guidance": IMAGE} | options
    return pipe(images, instruction, latents=noise, output_type="latent", **options).images


@pytest.mark.parametrize("count", (1, 2))
@pytest.mark.parametrize("size", SIZES)
def test_graph_and_pipeline_agree(server: ComfyServer, count: int, size: str):
    """Design D2: the same noise gives the same final latents within 1e-3."""
    pictures = [picture(*SIZES[size], seed=i) for i in range(count)]
    wanted = reference(pictures)
    got = latent_of(server, with_sample(upstream(server, pictures)), ["7", 0])
    assert got.shape == wanted.shape and wanted.std() > 0.05
    assert (got - wanted).abs().max() <= 1e-3


def test_the_comparison_would_notice_a_difference(server: ComfyServer):
    pictures = [picture()]
    graph = with_sample(upstream(server, pictures))
    got = latent_of(server, graph, ["7", 0])
    for change in ({"hvca_strength": 0.0}, {"tati_strength": 0.0}):
        assert (got - reference(pictures, **change)).abs().max() > 1e-2, change
        graph["6"]["inputs"].update(change)
        again = latent_of(server, graph, ["7", 0])
        assert (again - reference(pictures, **change)).abs().max() <= 1e-3, change
        graph["6"]["inputs"].update(hvca_strength=1.0, tati_strength=1.0)
    other = reference(pictures, "make it blue")
    assert (got - other).abs().max() > 1e-3


def test_one_line_per_picture(server: ComfyServer):
    pictures = [picture(seed=3), picture(seed=4)]
    lines = ["remove the cat", "make the background blue"]
    graph = with_sample(upstream(server, pictures, "\n".join(lines)))
    got = latent_of(server, graph, ["7", 0])
    assert (got - reference(pictures, lines)).abs().max() <= 1e-3


def test_guiders_and_the_one_node_route_agree(server: ComfyServer):
    pictures = [picture(seed=1)]
    wanted = latent_of(server, with_sample(upstream(server, pictures)), ["7", 0])
    three = {"positive": ["5", 0], "image_only": ["5", 1], "negative": ["5", 2]}
    ours = with_guider(
        upstream(server, pictures), "FireEditGuider", text_guidance=TEXT, image_guidance=IMAGE, **three
    )
    assert (latent_of(server, ours, ["11", 0]) - wanted).abs().max() <= 1e-4
    stock = with_guider(
        upstream(server, pictures), "DualCFGGuider", cond1=["5", 0], cond2=["5", 1], negative=["5", 2],
        cfg_conds=TEXT, cfg_cond2_negative=IMAGE, style="regular",
    )  # fmt: skip
    assert (latent_of(server, stock, ["11", 0]) - wanted).abs().max() <= 1e-4


@pytest.mark.parametrize("sampler", ("euler", "dpmpp_2m", "heun"))
def test_stock_ksampler_takes_positive_and_negative(server: ComfyServer, sampler: str):
    graph = upstream(server, [picture(seed=2)])
    graph["7"] = {
        "class_type": "KSampler",
        "inputs": {
            "model": ["6", 0], "positive": ["5", 0], "negative": ["5", 2], "latent_image": ["5", 3], "seed": SEED,
            "steps": STEPS, "cfg": 2.0, "sampler_name": sampler, "scheduler": "simple", "denoise": 1.0,
        },
    }  # fmt: skip
    got = latent_of(server, graph, ["7", 0])
    assert torch.isfinite(got).all() and got.std() > 0.05
    if sampler == "euler":  # positive and negative alone: both scales are the same
        assert (got - reference([picture(seed=2)], text_guidance=2.0, image_guidance=2.0)).abs().max() <= 1e-3


def test_one_picture_many_variations(server: ComfyServer):
    """The conditioning of one picture serves a batch of latents."""
    graph = upstream(server, [picture(seed=2)])
    graph["30"] = {"class_type": "RepeatLatentBatch", "inputs": {"samples": ["5", 3], "amount": 3}}
    with_guider(
        graph, "FireEditGuider", positive=["5", 0], image_only=["5", 1], negative=["5", 2], text_guidance=2.0,
        image_guidance=1.0,
    )  # fmt: skip
    graph["11"]["inputs"]["latent_image"] = ["30", 0]
    got = latent_of(server, graph, ["11", 0])
    assert got.shape[0] == 3 and (got[0] - got[1]).abs().max() > 0


def test_unneeded_branches_change_nothing(server: ComfyServer):
    """image_guidance 1 leaves out the negative branch; the pipeline does too, DualCFGGuider computes the same."""
    pictures = [picture(seed=1)]
    graph = with_sample(upstream(server, pictures))
    graph["7"]["inputs"].update(image_guidance=1.0)
    got = latent_of(server, graph, ["7", 0])
    assert (got - reference(pictures, image_guidance=1.0)).abs().max() <= 1e-3


def test_exact_keeps_the_outside_bit_for_bit(server: ComfyServer):
    source = picture(100, 84, seed=5)
    graph = with_sample(upstream(server, [source]), keep_outside="exact")
    mask = np.zeros((100, 84, 4), np.uint8)
    mask[..., 3] = 255
    mask[30:60, 20:50, 3] = 0  # Load Image takes transparent as masked
    name = server.upload_image(mask, "mask.png")
    graph["40"] = {"class_type": "LoadImage", "inputs": {"image": name}}
    graph["7"]["inputs"]["mask"] = ["40", 1]
    graph["8"] = {"class_type": "SaveImage", "inputs": {"images": ["7", 1], "filename_prefix": "exact"}}
    result = server.run(graph, timeout=60)
    edited = result.images["8"][0]
    outside = np.ones((100, 84), bool)
    outside[20:70, 10:60] = False
    assert np.abs(edited[outside].astype(int) - source[outside]).max() <= 1  # the host cuts off when it saves
    assert np.abs(edited[30:60, 20:50].astype(int) - source[30:60, 20:50]).mean() > 5
    assert "0.0000 outside" in result.outputs["7"]["text"][0]


def test_tiled_vae_nodes_work(server: ComfyServer):
    graph = upstream(server, [picture(256, 256)])
    graph = {key: graph[key] for key in "12"}
    tile = {"tile_size": 128, "overlap": 32, "temporal_size": 64, "temporal_overlap": 8}
    graph["50"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["1", 0], "vae": ["2", 2]}}
    graph["51"] = {"class_type": "VAEEncodeTiled", "inputs": {"pixels": ["1", 0], "vae": ["2", 2], **tile}}
    graph["52"] = {"class_type": "VAEDecodeTiled", "inputs": {"samples": ["50", 0], "vae": ["2", 2], **tile}}
    graph["53"] = {"class_type": "SaveImage", "inputs": {"images": ["52", 0], "filename_prefix": "tiled"}}
    whole, tiled = latent_of(server, dict(graph), ["50", 0]), latent_of(server, dict(graph), ["51", 0])
    assert whole.shape == tiled.shape == (1, 8, 32, 32)
    assert server.run(graph, timeout=60).images["53"][0].shape == (256, 256, 3)
