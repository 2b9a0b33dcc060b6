# SPDX-License-Identifier: GPL-3.0-or-later
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fireedit_core.checkpoints import bundle
from fireedit_core.checkpoints.bundle import (
    COMPONENTS,
    OPTIONS,
    BundleError,
    bundle_options,
    load_component,
    load_components,
    read_index,
    save_adapters,
    save_bundle,
)
from fireedit_core.checkpoints.portable import make_portable


@pytest.fixture
def broken(tiny_bundle, tmp_path):
    """A copy of the bundle to break: hard links, so that 5 MB are not copied; unlink before you write."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle", copy_function=lambda a, b: Path(b).hardlink_to(a)))


def rewrite(path: Path, text: str | bytes) -> None:
    path.unlink()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def edit_index(folder: Path, **changes) -> None:
    rewrite(folder / "model_index.json", json.dumps(read_index(folder) | changes))


# --- round trip --------------------------------------------------------------------------------------------------------


def test_round_trip_in_half_precision(tiny_parts, tiny_bundle, tiny_options):
    loaded = load_components(tiny_bundle)
    assert tuple(loaded) == COMPONENTS
    for name, part in loaded.items():
        if not isinstance(part, torch.nn.Module):
            continue
        before, after = tiny_parts[name].state_dict(), part.state_dict()
        assert before.keys() == after.keys(), name
        for key, value in after.items():
            if value.is_floating_point():
                assert value.dtype == torch.float32, (name, key)
                assert torch.equal(value, before[key].half().float()), (name, key)
        assert not part.training and not any(p.requires_grad for p in part.parameters())
    assert {p.dtype for p in tiny_parts["unet"].parameters()} == {torch.float32}  # the given modules keep theirs
    assert bundle_options(read_index(tiny_bundle)) == tiny_options | {"untrained": (), "without": ()}
    text = "remove the purple apple"
    assert loaded["tokenizer"](text)["input_ids"] == tiny_parts["tokenizer"](text)["input_ids"]
    assert loaded["scheduler"].config.prediction_type == "sample" and loaded["scheduler"].config.timestep_spacing == "trailing"


def test_options_default_to_stable_diffusions(tiny_bundle):
    index = {k: v for k, v in read_index(tiny_bundle).items() if k not in OPTIONS}
    assert bundle_options(index) == OPTIONS and OPTIONS["source_latent_scaled"] is False


def test_only_safetensors_and_json_are_written(tiny_bundle):
    assert {f.suffix for f in tiny_bundle.rglob("*") if f.is_file()} == {".safetensors", ".json"}


def test_components_load_in_the_asked_precision(tiny_bundle):
    for name in ("tati", "language_model", "clip_vision", "detector"):
        assert load_component(tiny_bundle, name, torch.bfloat16).dtype == torch.bfloat16


def test_full_precision_keeps_every_bit(tiny_parts, tiny_options, tmp_path):
    save_bundle(tmp_path, tiny_parts, tiny_options, dtype=None)
    for name in ("tati", "dinov2", "clip_vision"):
        before, after = tiny_parts[name].state_dict(), load_component(tmp_path, name).state_dict()
        assert all(torch.equal(before[k], after[k]) for k in before)


# --- one form for every release of transformers ------------------------------------------------------------------------


def test_keys_on_disk_are_those_of_the_published_checkpoints(tiny_bundle):
    """So a bundle written under transformers 4.57 loads under 5.x and the other way round (both were run)."""
    keys = {}
    for name in ("clip_vision", "dinov2", "language_model"):
        with safe_open(str(tiny_bundle / name / "model.safetensors"), "pt") as handle:
            keys[name] = set(handle.keys())
            assert handle.metadata() == {"format": "pt"}
    assert all(k.startswith("vision_model.") for k in keys["clip_vision"])
    assert "vision_model.embeddings.patch_embedding.weight" in keys["clip_vision"]
    assert "encoder.layer.0.attention.attention.query.weight" in keys["dinov2"]
    assert "model.layers.0.self_attn.q_proj.weight" in keys["language_model"]
    with safe_open(str(tiny_bundle / "qformer" / "diffusion_pytorch_model.safetensors"), "pt") as handle:
        assert "qformer.encoder.layer.0.crossattention.attention.key.weight" in set(handle.keys())
    assert read_index(tiny_bundle)["tokenizer"] == ["transformers", "PreTrainedTokenizerFast"]
    assert json.loads((tiny_bundle / "tokenizer" / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_portable_form_is_written_once_and_carries_rope_theta(tmp_path):
    config = {"model_type": "qwen2", "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    make_portable(tmp_path)
    make_portable(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == config | {"rope_theta": 1e6}


def test_the_trainers_folders_are_not_written(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "AutoencoderDC", "_name_or_path": "/home/me/runs/vae"}))
    make_portable(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == {"_class_name": "AutoencoderDC"}


def test_a_tokenizer_named_by_transformers_5_loads(broken):
    edit_index(broken, tokenizer=["transformers", "TokenizersBackend"])
    assert load_component(broken, "tokenizer")("the cat")["input_ids"]


# --- LoRA --------------------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, None])
def test_lora_is_a_peft_folder_and_comes_back(tiny_parts, tiny_options, tmp_path, dtype):
    import copy

    from peft import LoraConfig, get_peft_model

    from fireedit_core.diffusion.pipeline import make_editor

    base = copy.deepcopy(tiny_parts["language_model"])
    wrapped = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules=["q_proj", "v_proj"]))
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            weight.normal_(std=0.3)
    parts = tiny_parts | {"language_model": wrapped.eval()}
    save_bundle(tmp_path, parts, tiny_options, dtype)
    # the given model still has its adapters and its precision
    assert any("lora_B" in n for n, _ in wrapped.named_parameters()) and wrapped.dtype == torch.float32
    assert (tmp_path / "language_model_lora" / "adapter_config.json").is_file()
    adapter = load_file(tmp_path / "language_model_lora" / "adapter_model.safetensors")
    assert len(adapter) == 2 * 2 * 2 and all("lora_" in k for k in adapter)
    plain = load_file(tmp_path / "language_model" / "model.safetensors")
    assert plain.keys() == tiny_parts["language_model"].state_dict().keys()  # the base stands alone, without "base_layer"
    kept = tiny_parts["language_model"].lm_head.weight
    assert torch.equal(plain["lm_head.weight"].float(), kept.half().float() if dtype else kept)
    loaded = load_components(tmp_path)
    states = []
    for p in (parts, tiny_parts | {"language_model": loaded["language_model"]}, tiny_parts):
        vlm = make_editor(p).vlm
        ids, mask = vlm.encode_text(["remove the red apple"])
        image, region = torch.ones(1, 16, 64), torch.ones(1, 2, 64)
        states.append(vlm(ids, mask, image, region, torch.ones(1, 2, dtype=torch.bool)).img)
    assert torch.allclose(states[0], states[1], atol=1e-2 if dtype else 1e-5)
    assert (states[0] - states[2]).abs().max() > 0.1
    # saving a bundle without LoRA over it leaves none behind
    save_bundle(tmp_path, tiny_parts, tiny_options)
    assert not (tmp_path / "language_model_lora").exists()


@pytest.fixture
def adapted(tiny_parts, tiny_bundle, tmp_path):
    """A bundle with adapters beside its language model; gives their file."""
    import copy

    from peft import LoraConfig, get_peft_model

    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "adapted"))
    wrapped = get_peft_model(copy.deepcopy(tiny_parts["language_model"]), LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    save_adapters(folder / "language_model_lora", wrapped)
    return folder / "language_model_lora" / "adapter_model.safetensors"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: {k: x for k, x in w.items() if k != max(w)}, "has no weights for 1 of its adapters, the first is .*v_proj.lora_B"),
        (lambda w: {k.replace("v_proj", "k_proj"): x for k, x in w.items()}, "has no weights for 4 of its adapters"),
        (lambda w: w | {k.replace("q_proj", "k_proj"): x.clone() for k, x in w.items()}, "has no place, such as .*k_proj"),
        (lambda w: {k: torch.zeros(7, 7) for k in w}, "could not be loaded as adapters"),
    ],
)  # fmt: skip
def test_adapters_that_are_not_whole_or_of_another_model(adapted, change, says):
    """peft warned of what is missing and dropped what it had no place for: the bundle edited without them."""
    save_file(change(load_file(adapted)), adapted, {"format": "pt"})
    with pytest.raises(BundleError, match=says):
        load_component(adapted.parents[1], "language_model")


def test_whole_adapters_load_without_a_warning(adapted, recwarn):
    assert any("lora_A" in name for name, _ in load_component(adapted.parents[1], "language_model").named_parameters())
    assert not [w for w in recwarn if "adapter" in str(w.message)]


# --- a save that does not end ------------------------------------------------------------------------------------------


def content(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file() and ".saving" not in f.parts}


@pytest.mark.parametrize("at", ["unet", "visual_attention", "language_model"])
def test_a_bundle_that_is_there_stays_whole_until_the_new_one_is(tiny_parts, tiny_options, tiny_bundle, tmp_path, monkeypatch, at):
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    (folder / "README.md").write_text("mine")
    (folder / "language_model_lora").mkdir()
    (folder / "language_model_lora" / "adapter_config.json").write_text("{}")
    before, save = content(folder), bundle.save_component

    def killed(place, component, dtype):
        save(place, component, dtype)
        if place.name == at:
            raise KeyboardInterrupt

    monkeypatch.setattr(bundle, "save_component", killed)
    with pytest.raises(KeyboardInterrupt):
        save_bundle(folder, tiny_parts, tiny_options, dtype=None)
    assert content(folder) == before
    monkeypatch.undo()
    save_bundle(folder, tiny_parts, tiny_options, dtype=None)
    assert not (folder / ".saving").exists() and not (folder / "language_model_lora").exists()
    assert (folder / "README.md").read_text() == "mine"
    assert torch.equal(load_component(folder, "tati", None).null_embedding, tiny_parts["tati"].null_embedding)


def test_a_part_that_is_a_link_is_not_written_through(tiny_parts, tiny_options, tiny_bundle, tmp_path):
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    shutil.move(folder / "tati", tmp_path / "shared")
    (folder / "tati").symlink_to(tmp_path / "shared")
    before = content(tmp_path / "shared")
    save_bundle(folder, tiny_parts, tiny_options, dtype=None)
    assert content(tmp_path / "shared") == before and not (folder / "tati").is_symlink()


# --- what is refused ---------------------------------------------------------------------------------------------------


def test_no_folder_and_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="the folder does not exist"):
        read_index(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="has no model_index.json"):
        read_index(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not readable JSON"),
        (b"\xff\xfe\x00", "not readable JSON"),
        ("[]", "not a FireEditPipeline"),
        ("3", "not a FireEditPipeline"),
        ('{"_class_name": "StableDiffusionPipeline"}', "'StableDiffusionPipeline', not a FireEditPipeline"),
        ('{"_class_name": "FireEditPipeline", "vae": ["diffusers", "AutoencoderDC"]}', "lists no unet, scheduler"),
    ],
)
def test_an_index_that_is_none(broken, text, message):
    rewrite(broken / "model_index.json", text)
    with pytest.raises(BundleError, match=message):
        read_index(broken)


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("source_latent_scaled", "false", "true or false"), ("steps", "20", "a whole number of 1 or more"), ("native_size", 0, "a whole"),
        ("steps", True, "a whole number"), ("text_guidance", float("nan"), "a number of 0 or more"), ("image_guidance", None, "a number"),
        ("reconstruction_limit", -1, "a number of 0 or more"),
    ],
)  # fmt: skip
def test_an_option_of_another_kind_is_refused(broken, option, value, wanted):
    """"false" counted as true, and the source came in at a fifth of its scale."""
    edit_index(broken, **{option: value})
    with pytest.raises(BundleError, match=f"has {option} .*, where {wanted}"):
        bundle_options(read_index(broken))


@pytest.mark.parametrize(
    "entry", [["os", "system"], ["diffusers", "DiffusionPipeline"], ["transformers", "AutoModel"], ["fireedit_core", "World"]]
)
def test_classes_that_a_bundle_may_not_name(broken, entry):
    edit_index(broken, tati=entry)
    with pytest.raises(BundleError, match=f"wants {entry[0]}.{entry[1]} for tati"):
        load_component(broken, "tati")


@pytest.mark.parametrize("entry", [None, "TATI", [], ["fireedit_core"], [None, None], [["x"], "TATI"], {"a": 1}])
def test_malformed_entries(broken, entry):
    edit_index(broken, tati=entry)
    with pytest.raises(BundleError, match=r"must name \[library, class\] for tati"):
        load_component(broken, "tati")


def test_a_missing_component_folder(broken):
    shutil.rmtree(broken / "hvca")
    with pytest.raises(BundleError, match="has no folder hvca/"):
        load_components(broken)


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("/tmp/fireedit-evil-was-here"),))


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "weights.pt", "model.ckpt"])
def test_a_pickle_is_refused_and_not_opened(broken, name):
    (broken / "tati" / "diffusion_pytorch_model.safetensors").unlink()
    (broken / "tati" / name).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(BundleError, match=f"{name} is a pickle.*only safetensors.*Convert"):
        load_component(broken, "tati")
    assert not Path("/tmp/fireedit-evil-was-here").exists()


def test_a_pickle_beside_safetensors_is_not_opened(broken):
    for name in ("tati", "dinov2"):
        for file in ("diffusion_pytorch_model.bin", "pytorch_model.bin"):
            (broken / name / file).write_bytes(pickle.dumps(Evil()))
        load_component(broken, name)
    assert not Path("/tmp/fireedit-evil-was-here").exists()


def test_no_weights_at_all(broken):
    (broken / "tati" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(BundleError, match=r"has no \*.safetensors"):
        load_component(broken, "tati")


@pytest.mark.parametrize("name", ["tati", "dinov2", "detector"])
@pytest.mark.parametrize("keep", [0, 5, 1000, -1])
def test_truncated_safetensors(broken, name, keep):
    file = next((broken / name).glob("*.safetensors"))
    rewrite(file, file.read_bytes()[:keep])
    with pytest.raises(BundleError, match=f"{file.name} is truncated or no safetensors file"):
        load_component(broken, name)


@pytest.mark.parametrize("name", ["tati", "dinov2", "clip_vision", "language_model", "unet", "vae", "qformer", "detector"])
def test_a_missing_weight_is_an_error_not_a_random_number(broken, name):
    file = next((broken / name).glob("*.safetensors"))
    weights = load_file(file)
    gone = sorted(k for k in weights if k.endswith(".weight"))[0]
    file.unlink()
    save_file({k: v for k, v in weights.items() if k != gone}, file, {"format": "pt"})
    with pytest.raises(BundleError, match="has no weights for 1 parameters"):
        load_component(broken, name)


@pytest.mark.parametrize("name", ["tati", "dinov2", "unet"])
def test_a_weight_of_another_shape_is_an_error(broken, name):
    file = next((broken / name).glob("*.safetensors"))
    weights = load_file(file)
    key = sorted(k for k in weights if k.endswith(".weight") and weights[k].ndim > 1)[0]
    file.unlink()
    save_file(weights | {key: torch.zeros(3, 3)}, file, {"format": "pt"})
    with pytest.raises(BundleError, match="could not be loaded as"):
        load_component(broken, name)


@pytest.mark.parametrize(
    ("name", "file"),
    [("tati", "config.json"), ("dinov2", "config.json"), ("scheduler", "scheduler_config.json"), ("tokenizer", "tokenizer.json")],
)
@pytest.mark.parametrize("text", [None, "{", "[1]"])
def test_a_broken_or_missing_config(broken, name, file, text):
    (broken / name / file).unlink()
    if text is not None:
        (broken / name / file).write_text(text)
    with pytest.raises(BundleError, match=f"{name} could not be loaded as"):
        load_component(broken, name)
