# SPDX-License-Identifier: GPL-3.0-or-later
"""Every node stands in /object_info with words on everything, and has a help page that speaks of everything."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from authoring.make_locales import LANGUAGES, node_definitions
from fireedit_cli.comfy_host import ComfyServer
from tests.host.small import REPO, install

NODES = {
    "FireEditLoader": (["bundle"], ["FIREEDIT", "MODEL", "VAE"]),
    "FireEditDetectorLoader": (["detector"], ["FIREEDIT_DETECTOR"]),
    "FireEditSegmenterLoader": (["segmenter"], ["FIREEDIT_SEGMENTER"]),
    "FireEditGrounderLoader": (["grounder", "clip"], ["FIREEDIT_GROUNDER"]),
    "FireEditRegionMasks": (["image", "regions", "max_regions", "segmenter"], ["REGIONS", "MASK", "STRING"]),
    "FireEditRegionDetect": (
        ["image", "score_threshold", "iou_threshold", "max_regions", "fireedit", "detector", "prompt", "instruction"], ["REGIONS"],
    ),
    "FireEditGround": (["image", "instruction", "regions", "answer", "grounder"], ["REGIONS", "MASK", "STRING"]),
    "FireEditRegionSelect": (["image", "selection", "regions"], ["REGIONS", "MASK"]),
    "FireEditRegionsFilter": (
        ["regions", "labels", "min_score", "min_area", "max_area", "numbers", "top"], ["REGIONS", "REGIONS"],
    ),
    "FireEditRegionsMerge": (["regions_a", "regions_b", "iou_threshold"], ["REGIONS"]),
    "FireEditRegionsFromMask": (["mask", "threshold", "min_area", "label", "image"], ["REGIONS"]),
    "FireEditRegionsFromSEGS": (["segs", "image"], ["REGIONS"]),
    "FireEditRegionsFromBBox": (["bbox", "image", "layout", "batch"], ["REGIONS"]),
    "FireEditRegionsToMask": (["regions", "masks", "feather"], ["MASK"]),
    "FireEditRegionsToSEGS": (["regions", "crop_factor", "image"], ["SEGS"]),
    "FireEditRegionsToBBox": (["regions", "layout"], ["BBOX", "BOUNDING_BOX", "BOUNDING_BOX"]),
    "FireEditRegionTokenize": (["fireedit", "image", "regions"], ["REGION_TOKENS"]),
    "FireEditVLMConditioning": (
        ["fireedit", "region_tokens", "image", "vae", "instruction", "working_size", "mask"],
        ["CONDITIONING", "CONDITIONING", "CONDITIONING", "LATENT", "MASK", "REGIONS"],
    ),
    "FireEditApply": (
        ["model", "tati_strength", "hvca_strength", "start_percent", "end_percent", "fireedit"],
        ["MODEL"],
    ),
    "FireEditConfine": (
        ["model", "strength", "start_percent", "end_percent", "late_edges", "mask", "source", "image", "vae"], ["MODEL"],
    ),
    "FireEditConfinedMask": (["latent"], ["MASK", "STRING"]),
    "FireEditGuider": (["model", "positive", "image_only", "negative", "text_guidance", "image_guidance"], ["GUIDER"]),
    "FireEditSample": (
        [
            "model", "positive", "image_only", "negative", "vae", "image", "seed", "steps", "sampler_name", "scheduler",
            "text_guidance", "image_guidance", "denoise", "keep_outside", "mask",
        ],
        ["LATENT", "IMAGE", "STRING"],
    ),
    "FireEditMultiTurn": (
        [
            "fireedit", "model", "vae", "image", "instructions", "seed", "steps", "sampler_name", "scheduler", "text_guidance",
            "image_guidance", "keep_outside", "score_threshold",
        ],
        ["IMAGE", "IMAGE", "MASK", "STRING"],
    ),
    "FireEditQuickEdit": (["image", "answer", "mask", "regions", "backdrop"], ["IMAGE", "MASK", "STRING"]),
    "FireEditPhotoCrop": (
        ["image", "megapixels", "multiple", "context", "whole_above", "mask", "regions", "vae", "answer"],
        ["IMAGE", "MASK", "LATENT", "PHOTO_FRAME"],
    ),
    "FireEditPhotoFinish": (
        ["edited", "original", "frame", "mask", "align", "tone", "grow", "feather"], ["IMAGE", "MASK", "STRING"],
    ),
    "FireEditCompare": (["before", "after", "amplify", "mask"], ["IMAGE", "STRING"]),
    "FireEditRegionsPreview": (["image", "regions", "zoom", "mask"], ["IMAGE"]),
    "FireEditGroundingPreview": (["image", "mask", "opacity", "zoom"], ["IMAGE"]),
}  # fmt: skip


def inputs_of(info: dict) -> dict[str, list]:
    return {**info["input"].get("required", {}), **info["input"].get("optional", {})}


@pytest.mark.parametrize("node", NODES)
def test_node_is_described(server: ComfyServer, node: str):
    info = server.object_info(node)
    inputs, outputs = NODES[node]
    assert list(inputs_of(info)) == inputs and info["output"] == outputs
    assert info["category"].startswith("FireEdit") and info["display_name"].startswith("FireEdit ")
    assert len(info["description"]) > 20
    for name, spec in inputs_of(info).items():
        assert len(spec[1].get("tooltip") or "") > 10, f"{node}.{name} has no tooltip"
    assert len(info["output_tooltips"]) == len(outputs)
    assert all(len(tip or "") > 10 for tip in info["output_tooltips"]), info["output_tooltips"]


@pytest.mark.parametrize("node", NODES)
def test_help_page_is_complete(server: ComfyServer, node: str):
    page = (REPO / "web" / "docs" / f"{node}.md").read_text(encoding="utf-8")
    info = server.object_info(node)
    assert page.startswith(f"# {info['display_name']}\n")
    for name in [*inputs_of(info), *info["output_name"]]:
        assert f"`{name}`" in page, f"the page of {node} does not speak of {name}"
    assert "\n## Example\n" in page and "\n## What can go wrong\n" in page
    named = re.findall(r"`(fireedit_\w+)`", page)
    assert all((REPO / "workflows" / f"{name}.json").is_file() for name in named), f"the page of {node} names a template that is not there"
    folder = f"{server.url}/extensions/{Path(server.base / 'custom_nodes').glob('*').__next__().name}/docs"
    assert server.http.get(f"{folder}/{node}.md", timeout=30).text == page
    (picture,) = re.findall(r"!\[[^]]+\]\(([^)]+)\)", page)
    shown = server.http.get(f"{folder}/{picture}", timeout=30)
    assert shown.status_code == 200 and min(Image.open(io.BytesIO(shown.content)).size) > 60


def test_every_node_stands_in_a_workflow():
    used = {node["class_type"] for name in (REPO / "workflows" / "api").glob("*.json") for node in json.loads(name.read_text()).values()}
    assert set(NODES) <= used


def test_the_english_texts_are_the_nodes_own(server: ComfyServer):
    """`python -m authoring.make_locales` after a change; the host hands all languages to the front end."""
    written = json.loads((REPO / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    assert written == node_definitions(server.object_info())
    served = server.get("/i18n")
    for language in LANGUAGES:
        assert set(NODES) <= set(served[language]["nodeDefs"]), language


def test_no_node_is_forgotten(server: ComfyServer):
    ours = {name for name, info in server.object_info().items() if info["category"].startswith("FireEdit")}
    assert ours == set(NODES)


def test_bundles_are_listed_when_they_appear(server: ComfyServer):
    name = install(server, "folder/inner")
    options = server.object_info("FireEditLoader")["input"]["required"]["bundle"]
    listed = options[1]["options"] if options[0] == "COMBO" else options[0]
    assert name in listed
