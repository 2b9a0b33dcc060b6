# SPDX-License-Identifier: GPL-3.0-or-later
"""Small random-weight bundles for the tests in this folder, and what several of them share."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fireedit_cli.comfy_host import ComfyServer
from fireedit_cli.model_files import LOADERS, named_in
from fireedit_core.checkpoints.bundle import save_bundle
from fireedit_core.regions.yolo import YoloRegionDetector
from fireedit_core.training.autoencoder import make_autoencoder
from fireedit_core.training.tiny import TinyConfig, tiny_components
from host_setup.setup_host import link_folder

REPO = Path(__file__).resolve().parents[2]
WORDS = "remove the red blue apple cat dog left make background a it".split()
INSTRUCTION = "remove the red apple"
SIZE = 64  # pixels, the native size of the small bundle

# Widths that are no whole multiples of the first one: the host needs help there.
CONFIG = TinyConfig(
    image_size=SIZE, latent_channels=8, unet_widths=(96, 128), attention_levels=(False, True), unet_heads=4, context_size=64,
    hidden_size=64, language_layers=2, dino_size=64, dino_layers=2, dino_patch=8, clip_size=64, clip_layers=2, qformer_layers=1,
)  # fmt: skip


def components(config: TinyConfig = CONFIG, seed: int = 0) -> dict[str, Any]:
    """All components, fresh; what starts as zero is shaken, so that every path of the method has an effect."""
    parts = tiny_components(WORDS, config, seed)
    torch.manual_seed(seed + 1)
    parts["vae"] = make_autoencoder(config.latent_channels, (32, 32, 64, 64), (0, 1, 1, 1))
    parts["detector"] = YoloRegionDetector()
    trained = REPO / "models" / "fireedit-tiny" / "detector"
    if (trained / "config.json").is_file():
        parts["detector"] = YoloRegionDetector.from_pretrained(str(trained))
    with torch.no_grad():
        for name in ("unet", "tati", "hvca", "visual_attention", "qformer", "grounding"):
            for parameter in parts[name].parameters():
                parameter += 0.05 * torch.randn_like(parameter)
    return parts


def write_bundle(folder: Path, config: TinyConfig = CONFIG, **options: Any) -> Path:
    """A small bundle in float32, so that comparisons are exact."""
    save_bundle(folder, components(config), {"native_size": config.image_size, "steps": 4} | options, dtype=None)
    return folder


@functools.cache
def shared_bundle() -> Path:
    """One bundle per test session, never to be changed."""
    return write_bundle(temporary_folder() / "small")


def temporary_folder() -> Path:
    """A folder that goes when the tests have ended."""
    folder = Path(tempfile.mkdtemp(prefix="fireedit-bundle-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def install(server: ComfyServer, name: str = "small") -> str:
    """Make a copy of the shared bundle known to the server; returns its name in the loader."""
    target = server.models_dir / "fireedit" / name
    if not target.exists():
        shutil.copytree(shared_bundle(), target)
    return name


def picture(height: int = SIZE, width: int = SIZE, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Soft random colours, uint8 (H, W, channels)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(1, channels, 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(noise, (height, width), mode="bilinear", align_corners=False)
    return (smooth[0].permute(1, 2, 0) * 255).byte().numpy()


def load_workflow(name: str, **changes: Any) -> dict[str, Any]:
    """An API workflow of the repository. `changes`: node class -> {input: value} for every node of that class."""
    graph = json.loads((REPO / "workflows" / "api" / f"{name}.json").read_text())
    for node in graph.values():
        node["inputs"].update(changes.get(node["class_type"], {}))
    return graph


def node_of(graph: dict[str, Any], class_type: str) -> str:
    """Id of the only node of a class."""
    (found,) = [key for key, node in graph.items() if node["class_type"] == class_type]
    return found


def as_loaded(server: ComfyServer, path: Path) -> np.ndarray:
    """A photograph (H, W, 3) as this host's Load Image reads it: newer ones (0.33.0) read JPEG with FFmpeg, which differs a little."""
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": server.upload_image(path)}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    (loaded,) = server.run(graph, timeout=60).images["2"]
    with Image.open(path) as file:
        apart = np.abs(loaded.astype(int) - np.asarray(file.convert("RGB")))
    assert apart.max() <= 4 and apart.mean() < 0.1  # 3 and 0.06 of 255 on 0.33.0, 0 on 0.3.75
    return loaded


def with_small_models(server: ComfyServer, *workflows: str) -> ComfyServer:
    """A server, not started yet, on which these workflows find their files, and small random models of the true classes behind them."""
    for name in workflows:
        for node in load_workflow(name).values():
            for value in named_in(node).values():
                file = server.models_dir / LOADERS[node["class_type"]] / value
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
    packs = server.base / "custom_nodes"
    packs.mkdir(parents=True, exist_ok=True)
    link_folder(packs / "small_models", REPO / "tests" / "host" / "small_models")
    return server
