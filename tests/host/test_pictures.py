# SPDX-License-Identifier: GPL-3.0-or-later
"""The edited picture that comes out of /prompt is the diffusers pipeline's, by every way that a latent becomes a picture.

Each way goes through other hooks that the host calls: the VAE's, the latent format's, the guider, the patches, the previewer. A host
that calls one of them otherwise than we think gives a wrong picture and no message, so pictures are compared and not only latents.
"""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fireedit_cli.comfy_host import ComfyServer
from fireedit_core.checkpoints.bundle import save_bundle
from fireedit_core.diffusion.pipeline import FireEditPipeline
from tests.host.small import CONFIG, INSTRUCTION, REPO, components, load_workflow, temporary_folder

SEED, STEPS, TEXT, IMAGE = 5, 4, 3.0, 1.5
NEAR = 2.0  # of 255: SaveImage cuts off where it could round, which is 1


@cache
def scaled_bundle() -> Path:
    """A bundle whose latents are neither in the autoencoder's scale nor one cell a pixel: a hook that forgets the scale shows."""
    parts = components()
    parts["vae"].register_to_config(scaling_factor=0.37)
    folder = temporary_folder() / "scaled"
    save_bundle(folder, parts, {"native_size": CONFIG.image_size, "steps": STEPS, "source_latent_scaled": True}, dtype=None)
    return folder


@cache
def pipeline(name: str) -> FireEditPipeline:
    pipe = FireEditPipeline.from_pretrained(scaled_bundle() if name == "scaled" else REPO / "models" / name)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def source(name: str) -> tuple[np.ndarray, str]:
    """A picture (H, W, 3) as large as the bundle works, so that nothing is resized, and an instruction."""
    with Image.open(REPO / "web" / "examples" / "fireedit_remove.png") as file:
        size = int(pipeline(name).config.native_size)
        return np.array(file.convert("RGB").resize((size, size))), "get rid of the orange cat" if name != "scaled" else INSTRUCTION


@cache
def wanted(name: str, keep_outside: str = "off") -> np.ndarray:
    """The pipeline's picture (H, W, 3) in 0..255, from the noise that the host draws for the seed."""
    picture, instruction = source(name)
    pipe = pipeline(name)
    cells = picture.shape[0] // 8
    noise = torch.randn((1, pipe.unet.config.out_channels, cells, cells), generator=torch.manual_seed(SEED))
    out = pipe(
        torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255, instruction, num_inference_steps=STEPS, text_guidance=TEXT,
        image_guidance=IMAGE, latents=noise, keep_outside=keep_outside, output_type="pt",
    )  # fmt: skip
    return out.images[0].permute(1, 2, 0).numpy() * 255


def graph_of(server: ComfyServer, name: str) -> dict:
    """Load, detect, tokenize, condition and apply: nodes 1 to 6 of the shipped workflow, and FireEdit Sample as 7."""
    if name == "scaled" and not (target := server.models_dir / "fireedit" / name).exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(scaled_bundle(), target_is_directory=True)
    picture, instruction = source(name)
    image = server.upload_image(picture, f"pictures-{name}.png")
    settings = {"seed": SEED, "steps": STEPS, "text_guidance": TEXT, "image_guidance": IMAGE, "keep_outside": "off"}
    made = load_workflow(
        "fireedit_edit", FireEditLoader={"bundle": name}, LoadImage={"image": image}, FireEditSample=settings,
        FireEditVLMConditioning={"instruction": instruction},
    )  # fmt: skip
    return {key: made[key] for key in "1234567"}


def ways(graph: dict) -> dict[str, list]:
    """Adds every way to a picture to the graph; name of the way -> the link that carries its IMAGE."""
    stock = load_workflow("fireedit_stock_sampler")
    graph |= {f"2{key}": stock[key] for key in ("8", "9", "10")}  # noise, sampler, sigmas
    graph["28"]["inputs"]["noise_seed"] = SEED
    graph["210"]["inputs"] |= {"model": ["6", 0], "steps": STEPS}
    three = {"positive": ["5", 0], "image_only": ["5", 1], "negative": ["5", 2]}
    graph["20"] = {
        "class_type": "FireEditGuider",
        "inputs": {"model": ["6", 0], "text_guidance": TEXT, "image_guidance": IMAGE, **three},
    }
    graph["21"] = {
        "class_type": "SamplerCustomAdvanced",
        "inputs": {"noise": ["28", 0], "guider": ["20", 0], "sampler": ["29", 0], "sigmas": ["210", 0], "latent_image": ["5", 3]},
    }
    graph["30"] = {"class_type": "FireEditSample", "inputs": graph["7"]["inputs"] | {"keep_outside": "exact"}}
    tile = {"tile_size": 512, "overlap": 64, "temporal_size": 64, "temporal_overlap": 8}
    for key, samples, more in (("40", ["7", 0], {}), ("41", ["7", 0], tile), ("42", ["21", 0], {}), ("43", ["21", 1], {})):
        graph[key] = {"class_type": "VAEDecodeTiled" if more else "VAEDecode", "inputs": {"samples": samples, "vae": ["2", 2], **more}}
    # the picture's own latent through both halves of the VAE, and a batch of two, which the host decodes by parts
    graph["44"] = {"class_type": "LatentBatch", "inputs": {"samples1": ["7", 0], "samples2": ["21", 0]}}
    graph["45"] = {"class_type": "VAEDecode", "inputs": {"samples": ["44", 0], "vae": ["2", 2]}}
    return {
        "FireEdit Sample": ["7", 1], "FireEdit Sample, exact": ["30", 1], "VAE Decode": ["40", 0], "VAE Decode (tiled)": ["41", 0],
        "the stock sampler": ["42", 0], "the stock sampler's denoised output": ["43", 0], "a batch": ["45", 0],
    }  # fmt: skip


@pytest.mark.parametrize("name", ["fireedit-tiny", "scaled"])
def test_every_way_gives_the_pipelines_picture(server: ComfyServer, name: str):
    graph = graph_of(server, name)
    links = ways(graph)
    for index, link in enumerate(links.values()):
        graph[f"9{index}"] = {"class_type": "SaveImage", "inputs": {"images": link, "filename_prefix": "ways"}}
    found = server.run(graph, timeout=300).images
    plain, exact = wanted(name), wanted(name, "exact")
    assert plain.std() > 5 and np.abs(plain - source(name)[0]).max() > 20, "the edit does nothing that could be compared"
    far = {
        way: [round(float(np.abs(picture - (exact if "exact" in way else plain)).max()), 1) for picture in found[f"9{index}"]]
        for index, way in enumerate(links)
    }
    assert len(far["a batch"]) == 2 and not {way: each for way, each in far.items() if max(each) > NEAR}


def test_the_last_preview_shows_the_edited_picture(server: ComfyServer):
    """The latent format's map to colours, fitted when the bundle is loaded: a cell's colour is that of its 8 x 8 pixels."""
    graph = graph_of(server, "fireedit-tiny")
    graph["7"]["inputs"]["seed"] = SEED + 1  # nothing out of the host's cache, which samples nothing
    graph["8"] = {"class_type": "SaveImage", "inputs": {"images": ["7", 1], "filename_prefix": "preview"}}
    result = server.run(graph, timeout=300)
    edited = Image.fromarray(result.images["8"][0])
    cells = (edited.width // 8, edited.height // 8)
    previews = [np.asarray(Image.open(io.BytesIO(p)).convert("RGB").resize(cells, Image.Resampling.BOX), float) for p in result.previews]
    colours = np.asarray(edited.resize(cells, Image.Resampling.BOX), float)
    assert len(previews) == STEPS
    # the map is linear and knows no picture: 0.92 and 19 of 255 when this was written, 0.0 to 0.6 with a wrong scale or channel order
    assert np.corrcoef(previews[-1].ravel(), colours.ravel())[0, 1] > 0.85
    assert np.abs(previews[-1] - colours).mean() < 25 < 3 * np.abs(colours - colours.mean((0, 1))).mean()
