# SPDX-License-Identifier: GPL-3.0-or-later
"""Every public checkpoint at its real size: complete files with true headers and holes for numbers, through the real command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from fireedit_core.checkpoints.__main__ import main
from fireedit_core.checkpoints.convert import Sources, convert, plan
from fireedit_core.checkpoints.sd15 import SD15
from fireedit_core.checkpoints.sources import ella, groma, instructpix2pix, ip_adapter, language_model, smartedit_qformer, vision_towers
from fireedit_core.checkpoints.sources.fit import SourceError
from fireedit_core.training.tiny import word_tokenizer
from tests.core.checkpoints import public_layouts as layouts
from tests.core.checkpoints.public_layouts import sparse_file

pytestmark = pytest.mark.slow

# architecture notes 1.1, 1.3, 2.3, 4, 8 and 9.3
PARAMETERS = {
    "unet": 859.5, "vae": 83.7, "dinov2": 304.0, "clip_vision": 303.2, "region_encoder": 288.7, "adapter": 33.6, "qformer": 65.0,
    "tati": 22.8, "hvca": 25.8, "language_model": 6738.4,
}  # fmt: skip
POSITIONS = 37 * 37 + 1


def unet_state(**changes) -> dict:
    config = {"in_channels": 8, "cross_attention_dim": 768, "attention_head_dim": 8} | changes
    with torch.device("meta"):
        return UNet2DConditionModel(block_out_channels=(320, 640, 1280, 1280), **config).state_dict()


def text_state() -> dict:
    with torch.device("meta"):
        state = CLIPTextModel(
            CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
        ).state_dict()
    return {k.removeprefix("text_model."): x for k, x in state.items()}


def single_file(path: Path, unet: dict, ema: dict | None = None, dtype: str = "F32") -> Path:
    with torch.device("meta"):
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, latent_channels=4,
        ).state_dict()  # fmt: skip
    return sparse_file(path, layouts.shapes_of(layouts.single_file(unet, vae, text_state(), ema)), dtype)


def clip_shapes(image: int = 224, width: int = 1024, layers: int = 24) -> dict:
    from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig

    vision = CLIPVisionConfig(
        hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=16, image_size=image, patch_size=14
    )
    text = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12)
    with torch.device("meta"):
        made = CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=768)).state_dict()
    return layouts.shapes_of(made) | {"vision_model.embeddings.position_ids": (1, (image // 14) ** 2 + 1)}


def model_folder(folder: Path, shapes: dict, config: dict) -> Path:
    """A language model in three shards with their index."""
    where = {key: f"model-{1 + 3 * i // len(shapes):05d}-of-00003.safetensors" for i, key in enumerate(shapes)}
    for name in set(where.values()):
        sparse_file(folder / name, {k: s for k, s in shapes.items() if where[k] == name})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (folder / "config.json").write_text(json.dumps(config))
    word_tokenizer(["cat"], ["<unk>", "[PAD]", "[UNK]"]).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """One full-size file or folder per option of the command."""
    root = tmp_path_factory.mktemp("public")
    unet = unet_state()
    return {
        "instructpix2pix": single_file(root / "instruct-pix2pix-00-22000.safetensors", unet, unet),
        "language_model": model_folder(root / "vicuna-7b-v1.5", layouts.llama(SD15), {"model_type": "llama", "hidden_size": 4096}),
        "dinov2": sparse_file(root / "dinov2-large/model.safetensors", layouts.dinov2(SD15, POSITIONS), "F32").parent,
        "clip": sparse_file(root / "clip-vit-large-patch14/model.safetensors", clip_shapes(), "F32").parent,
        "groma": sparse_file(root / "groma-7b-pretrain/model.safetensors", layouts.groma(SD15, POSITIONS)).parent,
        "smartedit_qformer": sparse_file(root / "embeddings_qformer.safetensors", layouts.smartedit(SD15), "F32"),
        "ip_adapter": sparse_file(root / "ip-adapter_sd15.safetensors", layouts.ip_adapter(SD15)),
        "ella": sparse_file(root / "ella-sd1.5-tsc-t5xl.safetensors", layouts.ella(SD15)),
    }


def test_the_layouts_have_the_published_sizes(files):
    """So that the files under test are the public ones: sizes of architecture notes 4, 5 and 8."""
    # 7.70 GB: UNet twice, autoencoder and text tower in float32
    assert files["instructpix2pix"].stat().st_size / 1e9 == pytest.approx(7.70, abs=0.01)
    assert (files["dinov2"] / "model.safetensors").stat().st_size / 1e9 == pytest.approx(1.22, abs=0.005)
    assert (files["groma"] / "model.safetensors").stat().st_size / 1e9 == pytest.approx(14.8, abs=0.05)
    assert (files["clip"] / "model.safetensors").stat().st_size / 1e9 == pytest.approx(1.71, abs=0.01)
    assert files["ella"].stat().st_size / 1e6 == pytest.approx(134, abs=1)
    assert files["ip_adapter"].stat().st_size / 1e6 == pytest.approx(44.6, abs=0.1)
    assert len(layouts.smartedit(SD15)) == 133
    assert sum(a * b for a, b in (s for k, s in layouts.ip_adapter(SD15).items() if "_ip" in k)) == pytest.approx(19.17e6, abs=1e4)


def test_everything_fits_in_a_dry_run(files, tmp_path, capsys):
    options = [x for name, path in files.items() for x in ("--" + name.replace("_", "-"), str(path))]
    assert main(["convert", "--out", str(tmp_path / "out"), "--dry-run", *options]) == 0
    text = capsys.readouterr().out
    assert not (tmp_path / "out").exists() and not list(tmp_path.iterdir())
    report = plan(Sources(**files)).report(torch.float16)
    assert str(report) == text.strip()
    lines = {x.name: x for x in report.components}
    for name, million in PARAMETERS.items():
        assert lines[name].parameters / 1e6 == pytest.approx(million, abs=0.05), name
    assert report.roi_mode == "groma_compat"
    # nothing is random but what nobody published
    assert {name: x.fresh for name, x in lines.items() if x.fresh and name not in ("grounding", "hvca")} == {
        "tati": ["latents"],
        "visual_attention": [f"attentions.{i}.{m}.weight" for i in range(16) for m in ("to_out", "to_mark")],
    }
    assert lines["unet"].taken == {"instruct-pix2pix-00-22000.safetensors": 686} and lines["unet"].notes == ["EMA weights"]
    assert lines["detector"].taken == {"groma-7b-pretrain": 773} and lines["dinov2"].taken == {"dinov2-large": 439}
    assert lines["language_model"].taken == {"vicuna-7b-v1.5": 291}
    assert lines["visual_attention"].taken == {"instruct-pix2pix-00-22000.safetensors": 16, "ip-adapter_sd15.safetensors": 32}
    left = {x.name: x.left for x in report.sources}
    assert left["instructpix2pix"] == {
        "model": 686, "model_ema": 2, "cond_stage_model": 1, "betas": 1, "alphas_cumprod": 1,
    }  # fmt: skip
    assert left["smartedit_qformer"] == {"mm_projector": 2, "lm_head": 1, "sd_qformer": 1}
    assert left["ella"] == {"connector": 1 + 2 + 4 * 14} and left["ip_adapter"] == {"image_proj": 4}
    assert report.bytes / 1e9 == pytest.approx(18.2, abs=0.1)


def test_groma_taken_whole_brings_its_words(files):
    with pytest.raises(SourceError, match="groma-7b-pretrain has no config.json"):
        plan(Sources(groma=files["groma"]))
    (files["groma"] / "config.json").write_text(json.dumps({"model_type": "groma", "llm_cfg": {"rms_norm_eps": 1e-5}}))
    word_tokenizer(["cat"]).save_pretrained(files["groma"])
    made = plan(Sources(groma=files["groma"]))
    assert made.parts["language_model"]["model.embed_tokens.weight"].shape == (32114, 4096)
    assert made.llama.vocab_size == 32114 and made.llama.rms_norm_eps == 1e-5
    assert made.parts["language_model"]["lm_head.weight"].shape == (32114, 4096)


def refused(read, path: Path, *parts: str) -> None:
    with pytest.raises(SourceError) as error:
        read(path, SD15)
    for part in (str(path), *parts):
        assert part in str(error.value), str(error.value)


def test_wrong_unets_are_refused(tmp_path):
    read = instructpix2pix.read
    nine = single_file(tmp_path / "inpainting.safetensors", unet_state(in_channels=9))
    refused(read, nine, "9 input channels", "8 channels", "Get instruct")
    two = single_file(tmp_path / "sd2.safetensors", unet_state(in_channels=4, cross_attention_dim=1024))
    refused(read, two, "context width 1024", "context 768", "33 of another shape", "and 30 more")
    folder = sparse_file(tmp_path / "diffusers.safetensors", layouts.shapes_of(unet_state()))
    refused(read, folder, "expected a single file with model.diffusion_model.* keys", "conv_in", "Get instruct")


def test_a_text_to_image_unet_is_widened(tmp_path):
    found = instructpix2pix.read(single_file(tmp_path / "v1-5-pruned-emaonly.safetensors", unet_state(in_channels=4)), SD15)
    assert found.parts["unet"]["conv_in.weight"].shape == (320, 8, 3, 3)
    assert found.notes["unet"] == ["text-to-image UNet widened: input channels 4..7 are zero, editing must be trained"]


def test_wrong_towers_are_refused(tmp_path):
    base = replace(SD15, dino_size=768, dino_layers=12)
    refused(
        vision_towers.read_dinov2, sparse_file(tmp_path / "base.safetensors", layouts.dinov2(base, POSITIONS)),
        "width 768 and 12 layers", "width 1024, 24 layers", "facebook/dinov2-large", "embeddings.cls_token came as (1, 1, 768), ex",
    )  # fmt: skip
    registers = layouts.dinov2(SD15, POSITIONS) | {"embeddings.register_tokens": (1, 4, 1024)}
    refused(vision_towers.read_dinov2, sparse_file(tmp_path / "registers.safetensors", registers), "with register tokens", "1 not expected")
    fine = sparse_file(tmp_path / "clip-336.safetensors", clip_shapes(336))
    refused(vision_towers.read_clip, fine, "577 positions", "257 positions", "not -336")
    refused(vision_towers.read_clip, sparse_file(tmp_path / "clip-h.safetensors", clip_shapes(224, 1280, 32)), "width 1280, 32 layers")


def test_wrong_language_models_are_refused(tmp_path):
    large = replace(SD15, hidden_size=5120, language_layers=40, language_heads=40, language_ffn=13824)
    fields = {"hidden_size": 5120, "num_hidden_layers": 40, "num_attention_heads": 40, "intermediate_size": 13824}
    folder = model_folder(tmp_path / "vicuna-13b", layouts.llama(large), {"model_type": "llama"} | fields)
    refused(language_model.read, folder, "width 5120, 40 layers, 40 heads", "4096, 32, 32, 11008", "vicuna-7b-v1.5")
    folder = model_folder(tmp_path / "qwen", layouts.llama(SD15), {"model_type": "qwen2"})
    refused(language_model.read, folder, "a Qwen2 of width 4096", "feed-forward 22016")
    folder = model_folder(tmp_path / "gpt", layouts.llama(SD15), {"model_type": "gpt2"})
    refused(language_model.read, folder, "'gpt2' model", "llama, qwen2")
    refused(language_model.read, sparse_file(tmp_path / "no-config/model.safetensors", layouts.llama(SD15)).parent, "has no config.json")
    cut = {k: s for k, s in layouts.llama(SD15).items() if ".layers.31." not in k}
    folder = model_folder(tmp_path / "cut", cut, {"model_type": "llama", "num_hidden_layers": 32})
    refused(language_model.read, folder, "9 missing: model.layers.31.self_attn.q_proj.weight; ", "and 6 more")


def test_other_wrong_files_are_refused(tmp_path):
    dino = sparse_file(tmp_path / "dino.safetensors", layouts.dinov2(SD15, POSITIONS))
    refused(groma.read, dino, "no Groma checkpoint", "perceiver.", "came embeddings.cls_token", "Get FoundationVision")
    refused(smartedit_qformer.read, dino, "sd_query_tokens", "Get embeddings_qformer")
    refused(ip_adapter.read, dino, "expected ip_adapter.1.to_k_ip.weight", "h94/IP-Adapter")
    refused(ella.read, dino, "connector.perceiver_blocks", "QQGYLab/ELLA")
    large = layouts.smartedit(replace(SD15, hidden_size=5120))
    refused(smartedit_qformer.read, sparse_file(tmp_path / "smartedit-13b.safetensors", large), "came as (768, 5120), expected (768, 4096)")
    wide = sparse_file(tmp_path / "ella-xl.safetensors", layouts.ella(replace(SD15, context_size=2048)))
    refused(ella.read, wide, "width 2048 with 6 blocks", "expected: width 768")
    xl = {k: (s[0], 2048) for k, s in layouts.ip_adapter(SD15).items() if "_ip" in k} | {"ip_adapter.33.to_k_ip.weight": (640, 2048)}
    xl = sparse_file(tmp_path / "ip-xl.safetensors", xl)
    refused(ip_adapter.read, xl, "33 matrices that read width [2048]", "not XL", "ip_adapter.33")
    small = layouts.groma(replace(SD15, hidden_size=5120, roi_size=7), POSITIONS, llm=False)
    refused(groma.read, sparse_file(tmp_path / "groma-13b.safetensors", small), "region_encoder", "from width 1024 to 4096")


def test_a_quantised_file_is_refused(tmp_path):
    refused(
        vision_towers.read_dinov2, sparse_file(tmp_path / "int.safetensors", layouts.dinov2(SD15, POSITIONS), "I64"), "439 quantised"
    )


def test_the_disk_must_be_large_enough(files, tmp_path, monkeypatch):
    import shutil
    from types import SimpleNamespace

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5e9))
    with pytest.raises(SourceError, match=r"needs 18\.2 GB and .* has 5\.0 GB free"):
        convert(tmp_path / "out", Sources(language_model=files["language_model"]))
    assert not list(tmp_path.iterdir())
