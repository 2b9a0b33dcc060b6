# SPDX-License-Identifier: GPL-3.0-or-later
"""The workflows around an edit model, run node by node through the host's own classes.

What their loaders give is small here: a model of the true class with random weights, an encoder that gives its conditioning, and a VAE of
means over cells that keeps the detail, so that what a model leaves alone decodes to the crop. Every other node is the one that is named.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from tests.host.inside.pack import nodes  # first: it makes the pack importable
from tests.host.inside.small_edit_models import EditModel, flux2, kontext, pix2pix, qwen_image
from tests.host.inside.small_parts import CellVAE, Encoder
from tests.host.small import REPO, load_workflow, node_of

import comfy.samplers  # isort: skip

# workflow -> the model, its loader, its latents' channels and pixels per cell, megapixels at which a test can afford it
FLOWS = {
    "fireedit_photo_ip2p": (pix2pix, "CheckpointLoaderSimple", 4, 8), "fireedit_photo_kontext": (kontext, "UNETLoader", 16, 8),
    "fireedit_photo_qwen": (qwen_image, "UNETLoader", 16, 8), "fireedit_photo_klein": (flux2, "UNETLoader", 128, 16),
}  # fmt: skip
MEGAPIXELS = 0.06
_LOADS_CLIP, _LOADS_VAE = ("CLIPLoader", "DualCLIPLoader"), ("VAELoader",)


EXTRA = (
    "nodes_cfg", "nodes_custom_sampler", "nodes_edit_model", "nodes_flux", "nodes_ip2p", "nodes_model_advanced",
    "nodes_primitive", "nodes_qwen", "nodes_sd3",
)  # fmt: skip


@pytest.fixture(scope="module")
def classes():
    """Every node class by its id: the host's, whose module is named as a folder of ours, those of EXTRA, the pack's."""
    folder = Path(comfy.samplers.__file__).parents[1]
    spec = importlib.util.spec_from_file_location("nodes", folder / "nodes.py")
    before, host = sys.modules.get("nodes"), importlib.util.module_from_spec(spec)
    sys.modules["nodes"] = host
    try:
        spec.loader.exec_module(host)
        for name in EXTRA:
            assert asyncio.run(host.load_custom_node(str(folder / "comfy_extras" / f"{name}.py"), module_parent="comfy_extras")), name
    finally:
        if before is None:
            del sys.modules["nodes"]
        else:
            sys.modules["nodes"] = before
    ours = {name: getattr(nodes, name) for name in dir(nodes) if name.startswith("FireEdit")}
    return dict(host.NODE_CLASS_MAPPINGS) | ours | {"GetImageSize": ImageSize}


class ImageSize:
    """GetImageSize, whose file needs a running server."""

    FUNCTION = "size"

    def size(self, image):
        return image.shape[2], image.shape[1], image.shape[0]


def executed(graph: dict, classes: dict, given: dict) -> dict:
    """Outputs of each node. `given`: node id -> outputs that are put in its place."""
    made = dict(given)

    def outputs(key: str) -> tuple:
        if key not in made:
            node = graph[key]
            inputs = {n: outputs(v[0])[v[1]] if isinstance(v, list) else v for n, v in node["inputs"].items()}
            kind = classes[node["class_type"]]
            if hasattr(kind, "execute"):
                made[key] = kind.execute(**inputs).args
            else:
                result = getattr(kind(), kind.FUNCTION)(**inputs)
                made[key] = result["result"] if isinstance(result, dict) else result
        return made[key]

    for key in graph:
        outputs(key)
    return made


def run(name: str, classes: dict, photos: torch.Tensor, told: str = "") -> tuple[dict, dict, Encoder, CellVAE, EditModel]:
    """The workflow on photos (B, H, W, 3), small: graph, outputs, and what stood in for text encoder, VAE and model."""
    build, loads_model, channels, cell = FLOWS[name]
    edit = build()
    graph = load_workflow(name, FireEditPhotoCrop={"megapixels": MEGAPIXELS}, KSampler={"steps": 3}, BasicScheduler={"steps": 3})
    graph.pop(node_of(graph, "SaveImage"))
    if told:
        graph[node_of(graph, "PrimitiveStringMultiline")]["inputs"]["value"] = told
    encoder, vae = Encoder(edit.positive), CellVAE(channels, cell, edit.source.ndim == 5)
    given = {node_of(graph, "LoadImage"): (photos, torch.zeros(1, 64, 64))}
    for key, node in graph.items():
        if node["class_type"] == loads_model:
            given[key] = (edit.model, encoder, vae)
        elif node["class_type"] in (*_LOADS_CLIP, *_LOADS_VAE):
            given[key] = (vae if node["class_type"] in _LOADS_VAE else encoder,)
    return graph, executed(graph, classes, given), encoder, vae, edit


def photo_of(name: str) -> torch.Tensor:
    graph = load_workflow(name)
    file = REPO / "web" / "examples" / graph[node_of(graph, "LoadImage")]["inputs"]["image"]
    return torch.from_numpy(np.array(Image.open(file).convert("RGB"))).float()[None] / 255


@pytest.mark.parametrize("name", FLOWS)
def test_it_edits_the_region_of_a_photograph_and_nothing_else(name, classes):
    photo, cell = photo_of(name), FLOWS[name][3]
    graph, made, encoder, vae, _ = run(name, classes, photo)
    crop, marked, _, (frame,) = made[node_of(graph, "FireEditPhotoCrop")]
    image, weight, report = made[node_of(graph, "FireEditPhotoFinish")]
    height, width = frame.grid
    assert height % 16 == width % 16 == 0 and height * width <= 1.1 * MEGAPIXELS * 2**20 and 0 < float(marked.mean()) < 0.8
    # the model sees the crop once, at its own size: what the conditioning refers to, what is confined, and what comes back
    assert vae.encoded == [(1, height, width, 3)]
    told = graph[node_of(graph, "PrimitiveStringMultiline")]["inputs"]["value"]
    assert told in encoder.told[0][0] and all(told not in text for text, _ in encoder.told[1:])
    (sampled,) = (made[k][0]["samples"] for k, n in graph.items() if n["class_type"] in ("KSampler", "SamplerCustomAdvanced"))
    source = vae.encode(crop)
    free = F.max_pool2d(marked[:, None], cell)[0, 0] > 0
    assert sampled.shape == source.shape and float((sampled - source)[..., ~free].abs().max()) == 0
    assert float((sampled - source)[..., free].abs().mean()) > 0.1
    # the photograph: its own size, every value outside of what was pasted, another picture inside
    assert image.shape == photo.shape and torch.equal(image[0][weight[0] == 0], photo[0][weight[0] == 0])
    inside = weight[0] == 1
    assert 0.1 < float(inside.float().mean()) < float((weight[0] > 0).float().mean()) < 0.7
    assert float((image - photo)[0][inside].abs().mean()) > 0.05, report


@pytest.mark.parametrize("name", ("fireedit_photo_ip2p", "fireedit_photo_kontext"))  # one for each kind of model
def test_a_new_background_is_made_behind_what_stays_in_front(name, classes):
    photo = photo_of(name)
    graph, made, *_ = run(name, classes, photo, "change the background to a beach")
    front, answer = made[node_of(graph, "FireEditGround")][1:3]
    (frame,) = made[node_of(graph, "FireEditPhotoCrop")][3]
    image, weight, _ = made[node_of(graph, "FireEditPhotoFinish")]
    assert json.loads(answer)["targets"] and 0.05 < float(front.mean()) < 0.7
    edge = round((6 + 16 + 4) / frame.scale)  # px of the photo: the edit is grown and soft by so many of the crop
    kept = F.max_pool2d(1 - front[None], 2 * edge + 1, 1, edge)[0, 0] < 0.5
    assert kept.any() and torch.equal(image[0][kept], photo[0][kept])
    behind = F.max_pool2d(front[None], 2 * edge + 1, 1, edge)[0, 0] < 0.5
    assert float(weight[0][behind].min()) == 1 and float((image - photo)[0][behind].abs().mean()) > 0.05


@pytest.mark.parametrize("name", [name for name in FLOWS if name != "fireedit_photo_qwen"])  # its text encoder reads one picture
def test_two_photographs_at_once_each_with_its_own_mask(name, classes):
    """Right for each of them: never the one's edit in the other."""
    photo, cell = photo_of("fireedit_photo_kontext"), FLOWS[name][3]
    photos = torch.cat([photo, photo.flip(2).pow(0.8)])
    graph, made, _, vae, _ = run(name, classes, photos, "turn the person into a statue")
    crop, marked, _, frames = made[node_of(graph, "FireEditPhotoCrop")]
    image, weight, report = made[node_of(graph, "FireEditPhotoFinish")]
    (sampled,) = (made[k][0]["samples"] for k, n in graph.items() if n["class_type"] in ("KSampler", "SamplerCustomAdvanced"))
    source = vae.encode(crop)
    assert len(frames) == len(image) == len(sampled) == 2 and not torch.equal(marked[0], marked[1])
    for i in range(2):
        free = F.max_pool2d(marked[i][None, None], cell)[0, 0] > 0
        assert float((sampled[i] - source[i])[..., ~free].abs().max()) == 0 < float((sampled[i] - source[i])[..., free].abs().mean())
        assert torch.equal(image[i][weight[i] == 0], photos[i][weight[i] == 0]) and 0.1 < float((weight[i] == 1).float().mean()) < 0.7
        assert float((image[i] - photos[i])[weight[i] == 1].abs().mean()) > 0.05, report
    assert "picture 2: " in report


def settings(graph: dict, kind: str) -> dict:
    return {n: v for n, v in graph[node_of(graph, kind)]["inputs"].items() if not isinstance(v, list)}


def test_settings_are_those_of_each_models_makers():
    ip2p, kontext_, qwen, klein = (load_workflow(name) for name in FLOWS)
    assert settings(ip2p, "DualCFGGuider") == {"cfg_conds": 7.5, "cfg_cond2_negative": 1.5, "style": "regular"}
    assert [settings(g, "FireEditPhotoCrop")["megapixels"] for g in (ip2p, kontext_, qwen, klein)] == [0.25, 1, 1, 1]
    assert settings(kontext_, "FluxGuidance") == {"guidance": 2.5} and settings(kontext_, "KSampler")["cfg"] == 1
    assert settings(qwen, "ModelSamplingAuraFlow") == {"shift": 3.1} and settings(qwen, "CFGNorm") == {"strength": 1}
    assert (settings(qwen, "KSampler")["cfg"], settings(qwen, "KSampler")["steps"]) == (4, 20)
    assert all("vae" not in n["inputs"] for n in qwen.values() if n["class_type"] == "TextEncodeQwenImageEditPlus")
    assert settings(klein, "Flux2Scheduler")["steps"] == 4
    for graph in (ip2p, kontext_, qwen, klein):  # what is confined is what was cropped, and is pasted where it was
        confine, finish = (graph[node_of(graph, kind)]["inputs"] for kind in ("FireEditConfine", "FireEditPhotoFinish"))
        crop = node_of(graph, "FireEditPhotoCrop")
        assert confine["mask"] == finish["mask"] == [crop, 1] and finish["frame"] == [crop, 3]
        assert finish["original"] == graph[crop]["inputs"]["image"] == [node_of(graph, "LoadImage"), 0]


def test_the_true_formula_of_instructpix2pix():
    """The middle conditioning is picture without words, the last neither: the other way round edits nothing, and no message says so."""
    graph = load_workflow("fireedit_photo_ip2p")
    guider = graph[node_of(graph, "DualCFGGuider")]["inputs"]
    pictured, empty = node_of(graph, "InstructPixToPixConditioning"), [k for k, n in graph.items() if n["inputs"].get("text") == ""]
    assert (guider["cond1"], guider["cond2"], [guider["negative"]]) == ([pictured, 0], [pictured, 1], [[k, 0] for k in empty])
    assert json.dumps(graph[pictured]["inputs"]["negative"]) == json.dumps(guider["negative"])
