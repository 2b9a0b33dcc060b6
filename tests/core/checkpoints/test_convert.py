# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole bundle from synthetic public checkpoints: it loads, edits, says where it comes from, and is never half there."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, LlamaConfig, LlamaForCausalLM

from fireedit_core.checkpoints import convert as conversion
from fireedit_core.checkpoints.__main__ import main
from fireedit_core.checkpoints.bundle import COMPONENTS, load_component, load_components, read_index
from fireedit_core.checkpoints.convert import Sources, convert, plan
from fireedit_core.checkpoints.sources.fit import SourceError
from fireedit_core.checkpoints.sources.lazy_tensor import LazyTensor
from fireedit_core.checkpoints.sources.weight_files import open_weights
from fireedit_core.checkpoints.streaming import write_weights
from fireedit_core.training.tiny import word_tokenizer
from tests.core.checkpoints import public_layouts as layouts
from tests.core.checkpoints.public_layouts import SMALL, random_state, save, shapes_of

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]
NO_TOKENIZER = (
    "the bundle edits nothing before it is trained, because it lacks CLIP's tokenizer (--text-tokenizer; ComfyUI has one in "
    "comfy/sd1_tokenizer; so has the folder openai/clip-vit-large-patch14.)"
)
WORDS = "remove the red apple dog make it blue".split()


def state(module: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    return random_state(shapes_of(module.state_dict()), seed)


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Sources:
    """Every source, small."""
    root = tmp_path_factory.mktemp("public")
    text = {k.removeprefix("text_model."): x for k, x in state(SMALL.text_tower(), 4).items()}
    unet, vae = UNet2DConditionModel(**SMALL.settings("unet")), AutoencoderKL(**SMALL.settings("vae"))
    single = layouts.single_file(state(unet, 1), state(vae, 3), text, state(unet, 2))
    vicuna = LlamaForCausalLM(LlamaConfig(**SMALL.settings("language_model")))
    vicuna.load_state_dict({k: x for k, x in state(vicuna, 5).items()})
    vicuna.save_pretrained(root / "vicuna", max_shard_size="60KB")
    word_tokenizer(WORDS, ["<unk>", "<s>", "</s>", "[PAD]", "[UNK]"]).save_pretrained(root / "vicuna")
    vision = CLIPVisionConfig(**SMALL.settings("clip_vision")).to_dict()
    text_config = SMALL.text_tower().config.to_dict()
    CLIPModel(CLIPConfig(vision_config=vision, text_config=text_config, projection_dim=32)).save_pretrained(root / "clip")
    groma = random_state(layouts.groma(SMALL, 26), 6)
    groma |= {"llm." + k: x.half() for k, x in vicuna.state_dict().items()}
    torch.save(random_state(layouts.smartedit(SMALL, 99), 8), root / "qformer.bin")
    return Sources(
        instructpix2pix=save(root / "ip2p.safetensors", single), language_model=root / "vicuna", clip=root / "clip",
        dinov2=save(root / "dino/model.safetensors", random_state(layouts.dinov2(SMALL, 17), 7)).parent,
        groma=save(root / "groma/model.safetensors", groma).parent, smartedit_qformer=root / "qformer.bin",
        ip_adapter=save(root / "ip-adapter_sd15.safetensors", random_state(layouts.ip_adapter(SMALL), 9)),
        ella=save(root / "ella.safetensors", random_state(layouts.ella(SMALL), 10)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def bundle(sources, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "small"
    convert(folder, sources, config=SMALL, dtype=torch.float32, shard=60_000)
    return folder


# --- the bundle ----------------------------------------------------------------------------------------------------------


def test_it_loads_and_edits(bundle, picture):
    from fireedit_core.diffusion.pipeline import FireEditPipeline

    pipe = FireEditPipeline.from_pretrained(bundle)
    pipe.set_progress_bar_config(disable=True)
    assert pipe.scheduler.config.prediction_type == "epsilon" and type(pipe.scheduler).__name__ == "EulerAncestralDiscreteScheduler"
    assert (pipe.config.text_guidance, pipe.config.image_guidance, pipe.config.source_latent_scaled) == (7.5, 1.5, False)
    source = picture(48, 64)
    run = lambda text: pipe(source, text, num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]  # noqa: E731
    edited, other = run("remove the red apple"), run("make it blue")
    assert edited.size == source.size and np.asarray(edited).std() > 1 and (np.asarray(edited) != np.asarray(source)).any()
    assert (np.asarray(edited) != np.asarray(other)).any()


def test_every_component_is_complete_and_from_its_source(bundle, sources):
    parts = load_components(bundle)
    assert tuple(parts) == COMPONENTS
    where = plan(sources, SMALL).parts
    single = load_file(sources.instructpix2pix)
    assert torch.equal(parts["unet"].conv_in.weight, single["model_ema.diffusion_modelinput_blocks00weight"])
    groma = load_file(sources.groma / "model.safetensors")
    assert torch.equal(parts["adapter"].bridge[0].weight, groma["img_txt_bridge.0.weight"])
    assert parts["region_encoder"].config.roi_mode == "groma_compat"
    # the user's own DINOv2 is the tower; Groma's stays in its detector
    dino = load_file(sources.dinov2 / "model.safetensors")
    assert torch.equal(parts["dinov2"].embeddings.position_embeddings, dino["embeddings.position_embeddings"])
    assert torch.equal(parts["detector"].vis_encoder.embeddings.cls_token, groma["perceiver.vis_encoder.embeddings.cls_token"])
    visual = parts["visual_attention"]
    assert all((layer.to_out.weight == 0).all() and (layer.to_mark.weight == 0).all() for layer in visual.attentions)
    name = visual.names[0]
    assert torch.equal(visual.attentions[0].to_q.weight, dict(parts["unet"].named_modules())[name].to_q.weight)
    assert torch.equal(parts["tati"].null_embedding, where["tati"]["null_embedding"].load())
    mean = parts["language_model"].get_input_embeddings().weight.mean(0)
    assert (parts["img_tokens"].embedding - mean).abs().max() < 0.12 and parts["img_tokens"].embedding.std(0).min() > 0
    assert parts["tokenizer"]("remove the apple")["input_ids"] == word_tokenizer(WORDS, ["<unk>", "<s>", "</s>", "[PAD]", "[UNK]"])(
        "remove the apple"
    )["input_ids"]


def test_the_language_model_is_sharded_and_has_fresh_lora(bundle):
    shards = sorted((bundle / "language_model").glob("model-*-of-*.safetensors"))
    index = json.loads((bundle / "language_model/model.safetensors.index.json").read_text())
    assert len(shards) > 3 and set(index["weight_map"].values()) == {f.name for f in shards}
    # the embedding alone is larger than a shard
    assert all(sum(x.nbytes for x in load_file(f).values()) <= max(60_000, 320 * 64 * 4) for f in shards)
    assert sum(x.nbytes for f in shards for x in load_file(f).values()) == index["metadata"]["total_size"]
    lora = load_file(bundle / "language_model_lora/adapter_model.safetensors")
    assert len(lora) == 2 * 2 * 2 and all(k.startswith("base_model.model.model.layers.") for k in lora)
    for key, x in lora.items():
        assert x.shape == ((8, 64) if "lora_A" in key else (64, 8))
        assert (x == 0).all() == ("lora_B" in key)
    settings = json.loads((bundle / "language_model_lora/adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"], sorted(settings["target_modules"])) == (8, 16, ["q_proj", "v_proj"])
    assert settings["base_model_name_or_path"] is None
    model = load_component(bundle, "language_model")
    assert type(model).__name__ == "PeftModel" and sum(x.numel() for n, x in model.named_parameters() if "lora_" in n) == 8 * 64 * 8


def test_the_report_is_in_the_bundle_and_names_no_folders(bundle, sources):
    text = (bundle / "convert.json").read_text()
    assert str(sources.language_model.parent) not in text
    report = json.loads(text)
    assert [x["name"] for x in report["components"]] == [n for n in COMPONENTS if n not in ("scheduler", "tokenizer")]
    line = {x["name"]: x for x in report["components"]}
    assert line["unet"]["taken"] == {"ip2p.safetensors": 686} and line["unet"]["notes"] == ["EMA weights"]
    assert line["tati"]["taken"] == {"ip2p.safetensors": 1, "ella.safetensors": 34} and line["tati"]["fresh"] == ["latents"]
    assert line["hvca"]["fresh"] and line["hvca"]["start"] == "random: to be trained"
    assert {x["name"] for x in report["sources"]} == {k for k, v in asdict(sources).items() if v}
    assert report["roi_mode"] == "groma_compat" and report["dtype"] == "float32" and report["warnings"] == [NO_TOKENIZER]
    assert "model_index.json" in {f.name for f in bundle.iterdir()} and not list(bundle.parent.glob(".*"))
    assert report["bytes"] == sum(
        x.nbytes for n in line for f in (bundle / n).glob("*.safetensors") for x in load_file(f).values()
    )  # fmt: skip


def test_published_names_on_disk(bundle):
    """So that transformers 4.57 loads the bundle too."""
    keys = {n: set(load_file(bundle / n / "model.safetensors")) for n in ("dinov2", "clip_vision")}
    assert "encoder.layer.0.attention.attention.query.weight" in keys["dinov2"]
    assert all(k.startswith("vision_model.") for k in keys["clip_vision"])
    config = json.loads((bundle / "language_model/config.json").read_text())
    assert config["rope_theta"] == 10000.0 and config["architectures"] == ["LlamaForCausalLM"]
    index = read_index(bundle)
    assert index["tokenizer"] == ["transformers", "PreTrainedTokenizerFast"] and index["dinov2"] == ["transformers", "Dinov2Model"]


# --- without sources -----------------------------------------------------------------------------------------------------


def test_nothing_given_is_a_fresh_bundle_that_says_so(tmp_path):
    report = convert(tmp_path / "fresh", Sources(), config=SMALL)
    assert all(x.taken == {} and x.fresh for x in report.components)
    assert report.warnings[-1] == NO_TOKENIZER.replace("lacks ", "lacks an InstructPix2Pix UNet (--instructpix2pix) and CLIP's text tower "
                                                       "(--clip) and ")  # fmt: skip
    assert [w.split(":")[0] for w in report.warnings[:-1]] == [
        "without --language-model the tokenizer is one of bytes; a language model must be trained from nothing.",
        "no CLIP text tower was given",
    ]
    parts = load_components(tmp_path / "fresh")
    assert (parts["tati"].null_embedding == 0).all() and parts["region_encoder"].config.roi_mode == "exact"
    blocks = dict(parts["unet"].named_modules())
    for name, layer in zip(parts["visual_attention"].names, parts["visual_attention"].attentions):
        assert torch.equal(layer.to_v.weight, blocks[name].to_v.weight) and torch.equal(layer.to_q.weight, blocks[name].to_q.weight)
    assert (parts["language_model"].base_model.model.model.norm.weight == 1).all()
    assert parts["tokenizer"]("é!")["input_ids"][0] == 1 and parts["tokenizer"].decode(parts["tokenizer"]("é!")["input_ids"][1:]) == "é!"
    again = convert(tmp_path / "again", Sources(), config=SMALL)
    assert again == report
    files = [f.relative_to(tmp_path / "fresh") for f in (tmp_path / "fresh").rglob("*") if f.is_file()]
    assert len(files) > 30
    assert all((tmp_path / "fresh" / f).read_bytes() == (tmp_path / "again" / f).read_bytes() for f in files)


def test_one_source_gives_what_it_has(sources):
    made = plan(Sources(clip=sources.clip), SMALL)
    assert made.notes["tati"] == ['null embedding is CLIP("")'] and not made.parts["tati"]["null_embedding"].load().eq(0).all()
    made = plan(Sources(dinov2=sources.dinov2), SMALL)
    line = next(x for x in made.report(torch.float16).components if x.name == "detector")
    assert line.taken == {"dino": 79} and line.start.startswith("random but for its DINOv2")


def test_roi_mode_and_a_drifted_language_model(sources, tmp_path):
    made = plan(sources, SMALL, "exact")
    exact = "Groma's region encoder was trained with roi_mode groma_compat; with exact it must be trained on."
    assert made.warnings == [exact, NO_TOKENIZER]
    tensors = load_file(sources.groma / "model.safetensors")
    tensors["llm.model.layers.1.self_attn.q_proj.weight"] += 0.01 * torch.randn(64, 64).half()
    save(tmp_path / "groma/model.safetensors", tensors)
    warnings = plan(replace(sources, groma=tmp_path / "groma"), SMALL).warnings
    assert len(warnings) == 2 and "and vicuna differ by" in warnings[0] and "leave out --language-model to take Groma whole" in warnings[0]
    without = {k: x for k, x in tensors.items() if not k.startswith(("llm.", "new_input", "extra_lm"))}
    save(tmp_path / "bare/model.safetensors", without)
    assert "cannot be seen" in plan(replace(sources, groma=tmp_path / "bare"), SMALL).warnings[0]


def test_a_given_lora(sources, bundle, tmp_path):
    lora = tmp_path / "lora"
    lora.mkdir()
    (lora / "adapter_config.json").write_text((bundle / "language_model_lora/adapter_config.json").read_text())
    weights = {k: torch.full_like(x, 0.25) for k, x in load_file(bundle / "language_model_lora/adapter_model.safetensors").items()}
    save(lora / "adapter_model.safetensors", weights)
    report = convert(tmp_path / "out", Sources(language_model=sources.language_model, lora=lora), config=SMALL)
    written = load_file(tmp_path / "out/language_model_lora/adapter_model.safetensors")
    assert written.keys() == weights.keys() and all((x == 0.25).all() and x.dtype == torch.float16 for x in written.values())
    assert next(x for x in report.components if x.name == "language_model").notes == ["LoRA from lora"]
    save(lora / "adapter_model.safetensors", {k: x[:, :4] for k, x in weights.items()})
    with pytest.raises(SourceError, match="does not fit as LoRA.*8 of another shape"):
        plan(Sources(language_model=sources.language_model, lora=lora), SMALL)
    with pytest.raises(SourceError, match="is no LoRA folder of PEFT"):
        plan(Sources(language_model=sources.language_model, lora=tmp_path), SMALL)


# --- pickles and broken files --------------------------------------------------------------------------------------------


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("/tmp/fireedit-convert-was-here"),))


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    torch.save({"state_dict": {"a": torch.ones(1)}, "callbacks": Evil()}, tmp_path / "a.ckpt")
    (tmp_path / "b.ckpt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(SourceError, match=r"a\.ckpt is a pickle that holds more than tensors.*Unsupported global.*safetensors version"):
        open_weights(tmp_path / "a.ckpt")
    with pytest.raises(SourceError, match=r"b\.ckpt (is a pickle|could not be opened)"):
        open_weights(tmp_path / "b.ckpt")
    assert not Path("/tmp/fireedit-convert-was-here").exists()


def test_pickles_of_tensors_are_read(tmp_path):
    torch.save({"state_dict": {"a": torch.arange(3.0)}, "epoch": 4}, tmp_path / "a.ckpt")
    torch.save({"ip_adapter": {"1.x": torch.ones(2)}, "image_proj": {"y": torch.ones(1)}}, tmp_path / "b.bin")
    opened = open_weights(tmp_path / "a.ckpt")
    assert opened["a"].load().tolist() == [0, 1, 2] and set(opened) == {"a"}
    assert set(open_weights(tmp_path / "b.bin")) == {"ip_adapter.1.x", "image_proj.y"}


def test_safetensors_go_before_pickles(tmp_path):
    save(tmp_path / "model.safetensors", {"a": torch.ones(1)})
    torch.save({"a": Evil()}, tmp_path / "pytorch_model.bin")
    assert open_weights(tmp_path)["a"].load() == 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no weights"),
        ({"a.safetensors": b"", "b.safetensors": b""}, "holds 2 weight files .* and no"),
        ({"m.safetensors.index.json": b"{"}, "no index of shards"),
        ({"m.safetensors.index.json": b'{"weight_map": {"a": "m-1.safetensors"}}'}, "lacks the shard m-1.safetensors"),
        ({"m.safetensors.index.json": b'{"weight_map": {"a": "../m.safetensors"}}'}, "no file beside it"),
        ({"model.safetensors": b"12345678901234"}, "truncated or no safetensors"),
        ({"model.bin": b"nonsense"}, "(is a pickle|could not be opened)"),
    ],
)
def test_broken_folders(tmp_path, files, message):
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError, match=message):
        open_weights(tmp_path)


def test_no_such_file(tmp_path):
    with pytest.raises(SourceError, match="does not exist"):
        open_weights(tmp_path / "nothing")
    (tmp_path / "readme.md").write_text("hello")
    with pytest.raises(SourceError, match="is no weight file"):
        open_weights(tmp_path / "readme.md")


def test_a_number_that_the_type_does_not_hold_is_no_infinity(tmp_path):
    """bfloat16 goes to 3e38, float16 to 65504: beyond that the weights of a bundle were infinite, and its edits black."""
    weights = {"a": LazyTensor((2,), lambda: torch.tensor([1.0, 7e4]), frozenset({(Path("llm"), "a")}))}
    with pytest.raises(SourceError, match="llm: a holds numbers beyond what float16 holds; give another --dtype"):
        write_weights(tmp_path, "model", weights, torch.float16)
    write_weights(tmp_path, "model", weights, torch.bfloat16)
    broken = {"b": LazyTensor((1,), lambda: torch.tensor([float("nan")]))}
    with pytest.raises(SourceError, match="a fresh start: b holds what is no number"):
        write_weights(tmp_path, "other", broken, torch.float32)


# --- nothing half ---------------------------------------------------------------------------------------------------------


def test_a_failure_in_the_middle_leaves_nothing(sources, tmp_path, monkeypatch):
    real = conversion.write_component

    def fail(folder, *rest):
        real(folder, *rest)
        if folder.name == "hvca":
            raise OSError("no space left")

    monkeypatch.setattr(conversion, "write_component", fail)
    with pytest.raises(OSError, match="no space left"):
        convert(tmp_path / "out", Sources(ella=sources.ella), config=SMALL)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_kill_in_the_middle_leaves_no_bundle(sources, tmp_path):
    code = f"""
import os, signal
from fireedit_core.checkpoints import convert as c
from tests.core.checkpoints.public_layouts import SMALL
real = c.write_component
def kill(folder, *rest):
    real(folder, *rest)
    if folder.name == "tati": os.kill(os.getpid(), signal.SIGKILL)
c.write_component = kill
c.convert({str(tmp_path / "out")!r}, c.Sources(ella={str(sources.ella)!r}), config=SMALL)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True, env=os.environ)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-500:]
    assert [f.name for f in tmp_path.iterdir()] == [".out.partial"]
    with pytest.raises(ValueError, match="has no model_index.json"):
        read_index(tmp_path / ".out.partial")
    convert(tmp_path / "out", Sources(ella=sources.ella), config=SMALL)
    assert [f.name for f in tmp_path.iterdir()] == ["out"] and read_index(tmp_path / "out")


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(SourceError, match="exists already"):
        convert(tmp_path / "out", Sources(), config=SMALL)
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["mine.txt"]


# --- the command ---------------------------------------------------------------------------------------------------------


def test_the_command_refuses_and_says_why(sources, tmp_path, caplog, capsys):
    assert main(["convert", "--out", str(tmp_path / "out"), "--ella", str(sources.ip_adapter)]) == 2
    assert "is no ELLA connector" in caplog.text and "Get ella-sd1.5-tsc-t5xl" in caplog.text and not list(tmp_path.iterdir())
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    text = capsys.readouterr().out
    assert all("--" + name.replace("_", "-") in text for name in asdict(sources))


def test_fireedit_convert_is_that_command(sources, tmp_path, caplog):
    from fireedit_cli.__main__ import main as fireedit

    assert fireedit(["convert", "--out", str(tmp_path / "out"), "--dry-run", "--ella", str(sources.ip_adapter)]) == 2
    assert "is no ELLA connector" in caplog.text


def test_editing_does_not_import_the_converter():
    code = "import sys, fireedit_cli.__main__ as cli; cli.parser(); sys.exit('torch' in sys.modules or 'fireedit_core' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3]).returncode == 0
