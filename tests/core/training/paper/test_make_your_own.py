# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/make-your-own.md as one chain, each command with random weights of the true classes: convert, train by stages, edit, measure, card."""

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from fireedit_core.checkpoints import __main__ as converter
from fireedit_core.checkpoints.bundle import bundle_options, load_component, read_index
from fireedit_core.checkpoints.convert import Sources, config_as_given
from fireedit_core.checkpoints.sources.fit import SourceError
from fireedit_core.data import SceneGenerator
from fireedit_core.data.writers import magicbrush, pairs
from fireedit_core.diffusion.pipeline import FireEditPipeline
from fireedit_core.evaluation.__main__ import main as evaluate
from fireedit_core.regions.loading import load_detector
from fireedit_core.training.paper.__main__ import main as train
from fireedit_core.training.paper.config import CONFIGS, load_config
from fireedit_core.training.tiny import word_tokenizer
from tests.core.checkpoints import small_ip2p

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SMALL = {"vocab_size": 330, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "tie_word_embeddings": True}  # fmt: skip
LANGUAGE = {
    "smollm2": (LlamaConfig, LlamaForCausalLM, {}), "qwen2.5": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 16}),
}  # fmt: skip


def language_model(folder: Path, name: str) -> Path:
    config, kind, more = LANGUAGE[name]
    torch.manual_seed(1)
    kind(config(**SMALL, **more)).save_pretrained(folder)
    word_tokenizer("remove the red apple dog make it blue".split(), ["[PAD]", "[UNK]"]).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def downloads(tmp_path_factory) -> Path:
    """What the page downloads, small: folders under their names."""
    root = tmp_path_factory.mktemp("downloads")
    pipe = small_ip2p.pipeline(root / "words")
    pipe.save_pretrained(root / "instruct-pix2pix")
    for name in LANGUAGE:
        language_model(root / name, name)
    dino = Dinov2Config(hidden_size=32, num_hidden_layers=4, num_attention_heads=2, patch_size=14, image_size=56)
    Dinov2Model(dino).save_pretrained(root / "dinov2")
    vision = CLIPVisionConfig(hidden_size=32, intermediate_size=128, num_hidden_layers=4, num_attention_heads=2, patch_size=14, image_size=28)
    text = small_ip2p.CONFIG.text_tower().config.to_dict()
    CLIPModel(CLIPConfig(vision_config=vision.to_dict(), text_config=text, projection_dim=32)).save_pretrained(root / "clip")
    pipe.tokenizer.save_pretrained(root / "clip")
    return root


@pytest.fixture
def small_base(monkeypatch):
    """The UNet of the small InstructPix2Pix in place of the true one; the command line is the user's."""
    monkeypatch.setattr(converter, "SD15", small_ip2p.CONFIG)


def convert(downloads: Path, out: Path, language: str, *more: str) -> int:
    return converter.main([
        "convert", "--any-size", "--out", str(out), "--instructpix2pix", str(downloads / "instruct-pix2pix"),
        "--language-model", str(downloads / language), "--dinov2", str(downloads / "dinov2"), "--clip", str(downloads / "clip"), *more,
    ])  # fmt: skip


@pytest.mark.parametrize("name", LANGUAGE)
def test_a_language_model_of_each_family_is_taken_as_it_is(downloads, tmp_path, small_base, name):
    assert convert(downloads, tmp_path / "bundle", name, "--dtype", "float32") == 0
    mine, kind = load_component(tmp_path / "bundle", "language_model"), LANGUAGE[name][1]
    mine = mine.get_base_model() if hasattr(mine, "get_base_model") else mine
    assert type(mine) is kind
    ids = torch.tensor([[3, 7, 5]])
    theirs = kind.from_pretrained(downloads / name)
    assert torch.allclose(mine(ids).logits, theirs(ids).logits, atol=1e-4)


def test_what_any_size_cannot_take(downloads, tmp_path, caplog):
    given = Sources(language_model=downloads / "qwen2.5", dinov2=downloads / "dinov2")
    with pytest.raises(SourceError, match="needs --clip"):
        config_as_given(given)
    with pytest.raises(SourceError, match="--groma has weights for Vicuna-7B"):
        config_as_given(Sources(groma=downloads))
    with pytest.raises(SystemExit):
        converter.main(["convert", "--out", str(tmp_path / "x"), "--any-size", "--for-editing"])


@pytest.mark.parametrize("name", [file.stem for file in sorted(CONFIGS.glob("weekend_*.yaml"))])
def test_every_weekend_configuration_can_be_read(name):
    config, _ = load_config([name])
    assert config.detector == ("" if config.stage == "text" else "models/photo-detector")


def test_the_whole_chain(downloads, tmp_path, small_base, repo):
    start, runs = tmp_path / "start", tmp_path / "runs"
    assert convert(downloads, start, "qwen2.5") == 0
    captions = tmp_path / "captions.txt"
    captions.write_text("a red apple\na dog\nthe blue dog\na red dog\n")
    scenes = [SceneGenerator(split="train").sample(i) for i in range(4)]
    quick = ["--precision", "no", "--frozen_dtype", "float32", "--optimizer", "adamw", "--steps", "2", "--batch", "2", "--workers", "0",
             "--warmup", "1", "--log_steps", "1", "--accumulate", "1"]  # fmt: skip
    text = ["--captions", str(captions), "--text_encoder", str(downloads / "clip")]
    assert train(["weekend_24gb_1_text", "--bundle", str(start), "--out", str(runs / "text"), *text, *quick]) == 0
    assert "qformer" not in bundle_options(read_index(runs / "text" / "bundle"))["untrained"]
    data = ["--sources", str(sources_list(tmp_path, scenes)), "--size", "64", "--feature_cache", str(tmp_path / "features"),
            "--detector", str(repo / "models" / "photo-detector"), "--validation", "1", "--validation_steps", "1"]  # fmt: skip
    # the detector that the conversion made up is not asked
    refused = [*data[:4], "--detector", ""]
    assert train(["weekend_24gb_2_lora", "--bundle", str(runs / "text/bundle"), "--out", str(runs / "no"), *refused, *quick]) == 2
    lora = ["weekend_24gb_2_lora", "--bundle", str(runs / "text/bundle"), "--out", str(runs / "lora")]
    assert train([*lora, *data, *quick, "--dry-run"]) == 0
    assert train([*lora, *data, *quick]) == 0
    assert (runs / "lora" / "sheet-0000002.png").is_file() and any((tmp_path / "features").rglob("*.source.safetensors"))
    whole = ["weekend_24gb_3_whole", "--bundle", str(runs / "lora/bundle"), "--out", str(runs / "whole")]
    assert train([*whole, *data, *quick]) == 0
    bundle = runs / "whole" / "bundle"
    assert bundle_options(read_index(bundle))["untrained"] == ("detector",)

    pipe = FireEditPipeline.from_pretrained(bundle)
    pipe.editor.use_detector(load_detector(repo / "models" / "photo-detector"))
    made = pipe(torch.rand(1, 3, 64, 64), "make it blue", num_inference_steps=1, output_type="pt").images
    assert made.shape == (1, 3, 64, 64) and torch.isfinite(made).all()

    bench = tmp_path / "magicbrush" / "test"
    magicbrush.write_folder(bench, [[scene] for scene in scenes])
    made = ["generate", "magicbrush", "--data", str(bench), "--bundle", str(bundle), "--out", str(tmp_path / "made"), "--steps", "1",
            "--detector", str(repo / "models" / "photo-detector"), "--limit", "1"]  # fmt: skip
    assert evaluate(made) == 0
    result = tmp_path / "scored"
    assert evaluate(["score", "magicbrush", "--data", str(bench), "--generated", str(tmp_path / "made"), "--out", str(result),
                     "--name", "mine", "--limit", "1"]) == 0  # fmt: skip
    assert evaluate(["card", "--bundle", str(bundle), "--score", str(result / "result.json"), "--licence", "openrail++"]) == 0
    card = (bundle / "README.md").read_text()
    for said in ("license: openrail++", "`qwen2.5`", "`dinov2`", "`instruct-pix2pix`", "lr: 1e-05", "mine", "random before training"):
        assert said in card, said
    # a table of other weights is not put onto these
    assert evaluate(["card", "--bundle", str(runs / "lora/bundle"), "--score", str(result / "result.json")]) != 0


def sources_list(root: Path, scenes) -> Path:
    """MagicBrush as the hub has it, and pairs of one's own."""
    magicbrush.write_hub(root / "MagicBrush/data", [[scene] for scene in scenes])
    pairs.write_listed(root / "mine", scenes)
    rows = [
        {"name": "magicbrush", "format": "magicbrush-hub", "files": "MagicBrush/data", "share": 2, "cache": "cache"},
        {"name": "mine", "format": "pairs", "root": "mine", "share": 1},
    ]
    file = root / "sources.yaml"
    file.write_text(json.dumps(rows))
    return file
