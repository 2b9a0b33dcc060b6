# SPDX-License-Identifier: GPL-3.0-or-later
"""Small random networks in the layout of --metric-weights, and small benchmarks in their authors' layouts."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fireedit_core.data import SceneGenerator
from fireedit_core.data.writers import magicbrush

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,'-"
TRUNKS = {"alexnet": "alex", "squeezenet1_1": "squeeze"}


def write_clip(folder: Path, patch: int, seed: int) -> None:
    """A CLIP as the hub has it: config.json, model.safetensors, vocab.json, merges.txt, tokenizer_config.json."""
    from transformers import CLIPConfig, CLIPModel

    words = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    start, end = len(words) - 2, len(words) - 1
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    text = small | {"vocab_size": len(words), "bos_token_id": start, "eos_token_id": end, "pad_token_id": end}
    torch.manual_seed(seed)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=small | {"patch_size": patch}, projection_dim=24))
    with torch.no_grad():  # fresh weights are so small that every picture looks alike
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(6)
    model.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": words[start], "eos_token": words[end], "unk_token": words[end], "pad_token": words[end]}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **special}))


def write_dino(folder: Path, patch: int, seed: int) -> None:
    """A ViT as facebook/dino-* is one."""
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(seed)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    model = ViTModel(ViTConfig(**small, patch_size=patch, image_size=224), add_pooling_layer=False)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(4)
    model.save_pretrained(folder)


def write_trunk(file: Path, seed: int) -> None:
    """torchvision's features of real shape, as the pickle that it publishes; the classifier, which LPIPS has no use for, is small."""
    import torchvision

    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        features = getattr(torchvision.models, file.stem)(num_classes=2).features
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({f"features.{name}": value for name, value in features.state_dict().items()} | {"classifier.0.bias": torch.ones(2)}, file)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Networks this small lose more by waiting for each other's threads than they win."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory) -> Path:
    """--metric-weights with everything in it, random."""
    folder = tmp_path_factory.mktemp("metric-weights")
    write_clip(folder / "clip-vit-base-patch32", 32, 1)
    write_clip(folder / "clip-vit-large-patch14", 28, 2)
    write_dino(folder / "dino-vits16", 32, 3)
    write_dino(folder / "dino-vitb8", 16, 4)
    for number, name in enumerate(TRUNKS):
        write_trunk(folder / "lpips" / f"{name}.pth", number)
    return folder


@pytest.fixture(scope="session")
def weights(weights_folder):
    """The networks of `weights_folder`."""
    from fireedit_core.evaluation.similarity import MetricWeights

    return MetricWeights(weights_folder)


@pytest.fixture(scope="session")
def scenes():
    generator = SceneGenerator(split="validation", seed=5)
    return [generator.sample(i) for i in range(6)]


@pytest.fixture(scope="session")
def sessions():
    """Chains of three turns, one and two."""
    generator = SceneGenerator(split="validation", seed=5)
    return [generator.turns(3, 3), [generator.sample(0)], generator.turns(6, 2)]


@pytest.fixture(scope="session")
def bundle(repo) -> Path:
    """The weights of the repository."""
    return repo / "models" / "fireedit-tiny"


def noisy(picture: np.ndarray | Image.Image, seed: int, size: tuple[int, int] | None = None) -> Image.Image:
    """Somebody's edit: the picture with smooth noise, at a size (width, height) of its own."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image = image.resize(size, Image.Resampling.BILINEAR) if size else image
    rough = np.random.default_rng(seed).normal(0, 60, (5, 5, 3))
    smooth = np.stack([np.asarray(Image.fromarray(rough[..., c].astype(np.float32)).resize(image.size)) for c in range(3)], -1)
    return Image.fromarray(np.clip(np.asarray(image.convert("RGB")) + smooth, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def data(tmp_path_factory, sessions):
    """MagicBrush's test folder."""
    root = tmp_path_factory.mktemp("magicbrush") / "test"
    magicbrush.write_folder(root, sessions)
    return root
