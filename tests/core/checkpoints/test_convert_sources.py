# SPDX-License-Identifier: GPL-3.0-or-later
"""Each source at small size with real numbers: what comes out computes what the original computes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from fireedit_core.checkpoints.sources import ella, groma, instructpix2pix, ip_adapter, language_model, smartedit_qformer, vision_towers
from fireedit_core.training.tiny import word_tokenizer
from tests.core.checkpoints import public_layouts as layouts
from tests.core.checkpoints.public_layouts import SMALL, random_state, save, shapes_of

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]


def load(part: dict) -> dict[str, torch.Tensor]:
    return {k: x.load() for k, x in part.items()}


def filled(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    model.load_state_dict({k: x for k, x in random_state(shapes_of(model.state_dict()), seed).items()})
    return model.eval()


def small_unet(seed: int, in_channels: int = 8) -> UNet2DConditionModel:
    config = SMALL.settings("unet") | {"in_channels": in_channels}
    return filled(UNet2DConditionModel(**config), seed)


def small_file(path: Path, unet, ema=None) -> Path:
    vae, text = filled(AutoencoderKL(**SMALL.settings("vae")), 3), filled(SMALL.text_tower(), 4)
    text = {k.removeprefix("text_model."): x for k, x in text.state_dict().items()}
    return save(path, layouts.single_file(unet.state_dict(), vae.state_dict(), text, ema and ema.state_dict()))


# --- InstructPix2Pix -----------------------------------------------------------------------------------------------------


def test_the_reference_names_of_the_ldm_layout():
    """Keys that architecture notes 4 give, so that the table of the test is right itself."""
    keys = layouts.ldm_unet(small_unet(0).state_dict())
    places = [f"input_blocks.{i}.1" for i in (1, 2, 4, 5, 7, 8)] + ["middle_block.1"] + [f"output_blocks.{i}.1" for i in range(3, 12)]
    assert sorted(p.split(".transformer")[0] for p in keys if p.endswith("attn2.to_k.weight")) == sorted(places)
    assert keys["input_blocks.0.0.weight"].shape == (32, 8, 3, 3) and len(keys) == 686


@torch.no_grad()
def test_the_averaged_weights_are_taken(tmp_path):
    raw, ema = small_unet(1), small_unet(2)
    found = instructpix2pix.read(small_file(tmp_path / "ip2p.safetensors", raw, ema), SMALL)
    made = SMALL.build("unet")
    made.load_state_dict(load(found.parts["unet"]))
    inputs = (torch.randn(1, 8, 8, 8), torch.tensor([321]), torch.randn(1, 77, 32))
    assert torch.equal(made.eval()(*inputs).sample, ema(*inputs).sample)
    assert not torch.equal(raw.conv_in.weight, ema.conv_in.weight) and found.notes["unet"] == ["EMA weights"]
    plain = instructpix2pix.read(small_file(tmp_path / "plain.safetensors", raw), SMALL)
    assert plain.notes["unet"] == []
    weights = raw.state_dict()
    assert all(torch.equal(x.load(), weights[k]) for k, x in plain.parts["unet"].items())


def test_an_average_with_a_hole_is_refused(tmp_path):
    path = small_file(tmp_path / "ip2p.safetensors", small_unet(1), small_unet(2))
    tensors = load_file(path)
    del tensors["model_ema.diffusion_modelout2weight"]
    with pytest.raises(ValueError, match=r"1 missing: conv_out\.weight"):
        instructpix2pix.read(save(path, tensors), SMALL)


@torch.no_grad()
def test_the_autoencoder_and_the_null_text(tmp_path):
    path = small_file(tmp_path / "ip2p.safetensors", small_unet(1))
    found = instructpix2pix.read(path, SMALL)
    original, text = filled(AutoencoderKL(**SMALL.settings("vae")), 3), filled(SMALL.text_tower(), 4)
    made = SMALL.build("vae")
    made.load_state_dict(load(found.parts["vae"]))
    picture = torch.rand(1, 3, 32, 32)
    assert torch.equal(made.eval().encode(picture).latent_dist.mode(), original.encode(picture).latent_dist.mode())
    assert torch.equal(made.decode(torch.ones(1, 4, 4, 4)).sample, original.decode(torch.ones(1, 4, 4, 4)).sample)
    wanted = text(input_ids=torch.tensor([[98] + [99] * 76])).last_hidden_state
    assert torch.allclose(found.parts["tati"]["null_embedding"].load(), wanted, atol=1e-6)


def test_the_null_text_is_what_clips_tokenizer_makes_of_nothing():
    """`SMALL` and the real tower alike: start token, then end tokens, the last two of the vocabulary (49406, 49407)."""
    from transformers import CLIPTokenizerFast

    from fireedit_core.checkpoints.sd15 import SD15

    assert SD15.text_vocabulary == 49408
    words = {w: i for i, w in enumerate(["a</w>", "<|startoftext|>", "<|endoftext|>"])}
    try:
        tokenizer = CLIPTokenizerFast(vocab=words, merges=[], unk_token="<|endoftext|>", pad_token="<|endoftext|>")
    except TypeError:
        pytest.skip("CLIPTokenizerFast of transformers 4 wants files")
    assert tokenizer("", padding="max_length", max_length=5)["input_ids"] == [1, 2, 2, 2, 2]


@torch.no_grad()
def test_a_widened_unet_ignores_the_source(tmp_path):
    raw = small_unet(1, in_channels=4)
    found = instructpix2pix.read(small_file(tmp_path / "sd15.safetensors", raw), SMALL)
    made = SMALL.build("unet")
    made.load_state_dict(load(found.parts["unet"]))
    x, t, context = torch.randn(1, 4, 8, 8), torch.tensor([5]), torch.randn(1, 77, 32)
    assert torch.allclose(made.eval()(torch.cat([x, torch.randn_like(x)], 1), t, context).sample, raw(x, t, context).sample, atol=1e-4)


# --- language model ------------------------------------------------------------------------------------------------------


def small_llama() -> LlamaForCausalLM:
    return filled(LlamaForCausalLM(LlamaConfig(**SMALL.settings("language_model") | {"rope_theta": 5000.0, "rms_norm_eps": 2e-6})), 7)


def llava_folder(folder: Path, kind: str, llama: LlamaForCausalLM) -> Path:
    vision = {"model_type": "clip_vision_model", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28}
    vision |= {"patch_size": 14, "intermediate_size": 64, "projection_dim": 32}
    if kind == "saved":  # whatever the installed release makes of it
        model = LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=llama.config.to_dict()))
        own = model.state_dict()
        for key, x in llama.state_dict().items():
            name = key if key.startswith("lm_head") else key.replace("model.", "model.language_model.", 1)
            own[name if name in own else "language_model." + key].copy_(x)
        model.save_pretrained(folder, max_shard_size="100KB")
    else:
        extra = {"mm_projector.0.weight": (64, 32), "vision_tower.vision_tower.vision_model.encoder.layers.0.layer_norm1.weight": (32,)}
        prefix = "" if kind == "disk" else "model."
        state = {layouts.llava_names(kind, k): x for k, x in llama.state_dict().items()}
        state |= {prefix + k: x for k, x in random_state(extra).items()}
        if kind == "original":
            state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
        save(folder / "model.safetensors", state)
        config = llama.config.to_dict() | {"rope_theta": 5000.0}
        described = {"model_type": "llava", "text_config": config, "vision_config": vision}
        if kind == "original":
            described = config | {"model_type": "llava", "mm_hidden_size": 1024}
        (folder / "config.json").write_text(json.dumps(described))
    word_tokenizer(["cat", "dog"]).save_pretrained(folder)
    return folder


@torch.no_grad()
@pytest.mark.parametrize("kind", ["vicuna", "sharded", "saved", "disk", "memory", "original"])
def test_language_models_in_every_layout(tmp_path, kind):
    llama = small_llama()
    if kind in ("vicuna", "sharded"):
        llama.save_pretrained(tmp_path, max_shard_size="50KB" if kind == "sharded" else "1GB")
        assert len(list(tmp_path.glob("*.safetensors"))) > (3 if kind == "sharded" else 0)
    else:
        llava_folder(tmp_path, kind, llama)
    found, config = language_model.read(tmp_path, SMALL)
    made = LlamaForCausalLM(config)
    made.load_state_dict(load(found.parts["language_model"]))
    ids = torch.tensor([[1, 17, 300, 4, 250, 9]])
    mine, wanted = made.eval()(ids, output_hidden_states=True), llama(ids, output_hidden_states=True)
    assert torch.equal(mine.hidden_states[-1], wanted.hidden_states[-1]) and torch.equal(mine.logits, wanted.logits)
    assert not hasattr(config, "mm_hidden_size") and config.tie_word_embeddings is False


def test_pickled_shards_as_vicuna_publishes_them(tmp_path):
    state = small_llama().state_dict()
    where = {k: f"pytorch_model-0000{1 + i % 2}-of-00002.bin" for i, k in enumerate(state)}
    for name in set(where.values()):
        torch.save({k: x for k, x in state.items() if where[k] == name}, tmp_path / name)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    (tmp_path / "config.json").write_text(json.dumps(small_llama().config.to_dict()))
    found, _ = language_model.read(tmp_path, SMALL)
    assert all(torch.equal(x.load(), state[k]) for k, x in found.parts["language_model"].items())


def test_a_tokenizer_of_sentencepiece(tmp_path):
    """vicuna-7b-v1.5 has no tokenizer.json: ids must be those of the model file itself, after the start token."""
    sentencepiece = pytest.importorskip("sentencepiece")
    (tmp_path / "words.txt").write_text("\n".join(["remove the red apple", "replace the dog with a horse on the left"] * 20))
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "words.txt"), model_prefix=str(tmp_path / "tokenizer"), vocab_size=300, model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, hard_vocab_limit=False, unk_id=0, bos_id=1, eos_id=2,
        pad_id=-1, minloglevel=2,
    )  # fmt: skip
    described = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(described))
    made = language_model.read_tokenizer(tmp_path, 320)
    original = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    for text in ("remove the red apple", "replace ÄÖ the dog  twice"):
        assert made(text)["input_ids"] == [1, *original.encode(text)]
    made.save_pretrained(tmp_path / "out")
    again = language_model.read_tokenizer(tmp_path / "out", 320)  # from tokenizer.json, as a bundle has it
    assert again(text)["input_ids"] == made(text)["input_ids"] and (again.unk_token, again.bos_token) == ("<unk>", "<s>")
    with pytest.raises(ValueError, match="ids up to .* for an embedding of 100 rows"):
        language_model.read_tokenizer(tmp_path, 100)


def test_a_tokenizer_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="no tokenizer.json and no tokenizer.model"):
        language_model.read_tokenizer(tmp_path, 100)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        language_model.read_tokenizer(tmp_path, 100)


# --- vision towers -------------------------------------------------------------------------------------------------------


def small_dino(image: int) -> Dinov2Model:
    return filled(Dinov2Model(Dinov2Config(**SMALL.settings("dinov2") | {"image_size": image})), 8)


def as_trained(module: Dinov2Model, side: int) -> None:
    """What transformers 4.32 did with a position embedding of another size, from the scale factor with the 0.1 (notes 1.1)."""
    stored = module.embeddings.position_embeddings
    n = int((stored.shape[1] - 1) ** 0.5)
    grid = stored[:, 1:].view(1, n, n, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, scale_factor=((side + 0.1) / n, (side + 0.1) / n), mode="bicubic", align_corners=False)
    module.embeddings.interpolate_pos_encoding = lambda *_: torch.cat([stored[:, :1], grid.flatten(2).transpose(1, 2)], 1)


@torch.no_grad()
@pytest.mark.parametrize("image", [56, 70])
def test_dinov2(tmp_path, image):
    original = small_dino(image)
    original.save_pretrained(tmp_path)
    found = vision_towers.read_dinov2(tmp_path, SMALL)
    made = SMALL.build("dinov2")
    names = {vision_towers.public_dino_name(k): k for k in made.state_dict()}
    made.load_state_dict({names[k]: x for k, x in load(found.parts["dinov2"]).items()})
    if image != 56:
        as_trained(original, 4)
    picture = torch.randn(1, 3, 56, 56)
    mine, wanted = (m.eval()(picture, output_hidden_states=True).hidden_states for m in (made, original))
    assert len(mine) == 5 and all(torch.allclose(a, b, atol=1e-5) for a, b in zip(mine, wanted))


def test_positions_of_the_real_size_hardly_differ_from_todays_rule():
    """37 -> 32 by scale factor (Groma, DINOv2) against transformers' present rule by size, on a smooth embedding."""
    row = torch.linspace(0, 3, 37).sin()
    stored = torch.cat([torch.zeros(1, 1, 1), (row[:, None] * row[None]).reshape(1, -1, 1)], 1)
    mine = vision_towers.resize_positions(stored, 32)[:, 1:].view(32, 32)
    size = F.interpolate(stored[:, 1:].view(1, 1, 37, 37), (32, 32), mode="bicubic", align_corners=False)[0, 0]
    assert mine.shape == (32, 32) and 1e-5 < (mine - size).abs().max() < 0.02


@torch.no_grad()
@pytest.mark.parametrize("kind", ["whole", "vision only", "pickle"])
def test_clip(tmp_path, kind):
    vision = CLIPVisionConfig(**SMALL.settings("clip_vision"))
    text = filled(SMALL.text_tower(), 4)
    clip = filled(CLIPModel(CLIPConfig(vision_config=vision.to_dict(), text_config=text.config.to_dict(), projection_dim=32)), 9)
    for key, x in clip.state_dict().items():
        if key.startswith("text_model."):
            x.copy_({k.removeprefix("text_model."): v for k, v in text.state_dict().items()}[key.removeprefix("text_model.")])
    if kind == "pickle":
        extra = {"vision_model.embeddings.position_ids": torch.arange(5)[None]}
        torch.save(clip.state_dict() | extra, tmp_path / "pytorch_model.bin")
    elif kind == "whole":
        clip.save_pretrained(tmp_path)
    else:
        save(tmp_path / "model.safetensors", clip.vision_model.state_dict())  # as transformers 5 saves a CLIPVisionModel
    found = vision_towers.read_clip(tmp_path, SMALL)
    made = SMALL.build("clip_vision")
    names = {vision_towers.public_clip_name(k): k for k in made.state_dict()}
    made.load_state_dict({names[k]: x for k, x in load(found.parts["clip_vision"]).items()})
    picture = torch.randn(1, 3, 28, 28)
    mine = made.eval()(picture, output_hidden_states=True).hidden_states
    wanted = clip.vision_model(picture, output_hidden_states=True).hidden_states
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(mine, wanted))
    if kind == "vision only":
        assert "tati" not in found.parts
    else:
        wanted = clip.text_model(input_ids=torch.tensor([[98] + [99] * 76])).last_hidden_state
        assert torch.allclose(found.parts["tati"]["null_embedding"].load(), wanted, atol=1e-6)


# --- Groma ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", ["both", "second only", "first only"])
def test_groma_detector_with_tied_heads(tmp_path, tied):
    state = random_state(layouts.groma(SMALL, 26, llm=False), 11)
    shapes = layouts.groma_perceiver(SMALL, 26)
    if tied != "first only":
        state |= {"perceiver." + second: state["perceiver." + first] for second, first in layouts.groma_tied(shapes).items()}
    if tied == "second only":
        state = {k: x for k, x in state.items() if k.removeprefix("perceiver.") not in layouts.groma_tied(shapes).values()}
    found = groma.read(save(tmp_path / "model.safetensors", state), SMALL)
    made = SMALL.build("detector").eval()
    made.load_state_dict(load(found.parts["detector"]))
    own = made.state_dict()
    for key in shapes:
        if not key.endswith("position_embeddings"):
            second = {v: k for k, v in layouts.groma_tied(shapes).items()}.get(key, key)
            assert torch.equal(own[key], state["perceiver." + (second if tied == "second only" else key)]), key
    with torch.no_grad():
        boxes = made(torch.rand(1, 3, 56, 56))["boxes"]
    assert boxes.shape == (1, 10, 4) and boxes.isfinite().all()


def test_groma_detector_pretraining_alone(tmp_path):
    found = groma.read(save(tmp_path / "m.safetensors", random_state(layouts.groma_perceiver(SMALL, 17))), SMALL)
    assert set(found.parts) == {"detector", "dinov2"}


@torch.no_grad()
def test_groma_regions_and_bridge(tmp_path):
    state = random_state(layouts.groma(SMALL, 17, llm=False), 12)
    found = groma.read(save(tmp_path / "model.safetensors", state), SMALL)
    adapter = SMALL.build("adapter")
    adapter.load_state_dict(load(found.parts["adapter"]))
    patches = torch.randn(1, 16, 32)
    # groma.py: four strided quarters side by side, then Linear, GELU, Linear
    cells = patches.view(1, 4, 4, 32)
    quarters = [cells[:, 0::2, 0::2], cells[:, 1::2, 0::2], cells[:, 0::2, 1::2], cells[:, 1::2, 1::2]]
    hidden = F.linear(torch.cat(quarters, -1).view(1, 4, 128), state["img_txt_bridge.0.weight"], state["img_txt_bridge.0.bias"])
    wanted = F.linear(F.gelu(hidden), state["img_txt_bridge.2.weight"], state["img_txt_bridge.2.bias"])
    assert torch.allclose(adapter(patches, (4, 4)), wanted, atol=1e-5)
    levels = tuple(torch.randn(1, 16, 32) for _ in range(3))
    boxes, mask = torch.tensor([[[0.5, 0.5, 0.4, 0.4], [0.2, 0.3, 0.1, 0.2]]]), torch.ones(1, 2, dtype=torch.bool)
    tokens = {}
    for mode in ("groma_compat", "exact"):
        encoder = SMALL.build("region_encoder", mode)
        encoder.load_state_dict(load(found.parts["region_encoder"]))
        tokens[mode] = encoder(levels, (4, 4), boxes, mask)
    assert tokens["exact"].shape == (1, 2, 64) and not torch.allclose(tokens["exact"], tokens["groma_compat"], atol=1e-3)
    prefix = "region_encoder."
    assert all(torch.equal(x.load(), state[prefix + k]) for k, x in found.parts["region_encoder"].items())


def test_groma_language_model_and_its_drift(tmp_path):
    state = random_state(layouts.groma(SMALL, 17), 13)
    described = {"model_type": "groma", "llm_cfg": {k: v for k, v in small_llama().config.to_dict().items() if k != "vocab_size"}}
    save(tmp_path / "model.safetensors", state)
    (tmp_path / "config.json").write_text(json.dumps(described))
    part, config = groma.read_language_model(tmp_path, SMALL)
    assert config.vocab_size == 320 + 114 and config.rms_norm_eps == 2e-6
    embedding = part["model.embed_tokens.weight"].load()
    assert torch.equal(embedding[:320], state["llm.model.embed_tokens.weight"])
    assert torch.equal(embedding[320:], state["new_input_embs.weight"])
    assert torch.equal(part["lm_head.weight"].load()[320:], state["extra_lm_head.weight"])
    llm = {k.removeprefix("llm."): x for k, x in state.items() if k.startswith("llm.")}
    rounded = {k: x.bfloat16() for k, x in llm.items()}
    trained = {k: x + 0.02 * x.std() * torch.randn(x.shape, generator=torch.Generator().manual_seed(1)) for k, x in llm.items()}
    for name, other, moved in (("same", rounded, False), ("finetuned", trained, True)):
        tensors = language_model.llama_tensors(groma.open_weights(save(tmp_path / f"{name}.safetensors", other)))
        assert (groma.drift(part, tensors) > groma.DRIFT) == moved, name


# --- SmartEdit, IP-Adapter, ELLA -----------------------------------------------------------------------------------------


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["pickle", "safetensors", "bert"])
def test_smartedit_qformer(tmp_path, kind):
    state = random_state(layouts.smartedit(SMALL, 99), 14)

    def linear(name, x):
        return F.linear(x, state[name + ".weight"], state[name + ".bias"])

    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], state[name + ".weight"], state[name + ".bias"], 1e-12)

    states = torch.randn(1, 5, 64)
    x = norm("sd_qformer.embeddings.LayerNorm", state["sd_query_tokens"])
    for n in range(3):
        layer = f"sd_qformer.encoder.layer.{n}."
        for block, source in (("attention", None), ("crossattention", states))[: 1 if n % 2 else 2]:
            kv = x if source is None else source
            a = attend(*(linear(f"{layer}{block}.self.{p}", s) for p, s in (("query", x), ("key", kv), ("value", kv))), 2)
            x = norm(f"{layer}{block}.output.LayerNorm", linear(f"{layer}{block}.output.dense", a) + x)
        hidden = F.gelu(linear(layer + "intermediate_query.dense", x))
        x = norm(layer + "output_query.LayerNorm", linear(layer + "output_query.dense", hidden) + x)
    renamed = {k.replace("sd_qformer.", "model.sd_qformer.bert."): v for k, v in state.items()} if kind == "bert" else state
    path = tmp_path / ("q.bin" if kind == "pickle" else "q.safetensors")
    torch.save(renamed, path) if kind == "pickle" else save(path, renamed)
    made = SMALL.build("qformer").eval()
    made.load_state_dict(load(smartedit_qformer.read(path, SMALL).parts["qformer"]))
    assert torch.allclose(made(states), x, atol=1e-5)


@pytest.mark.parametrize("kind", ["pickle", "safetensors"])
def test_ip_adapter_against_diffusers_own_loader(tmp_path, kind):
    state = random_state(layouts.ip_adapter(SMALL), 15)
    nested = {g: {k.removeprefix(g + "."): x for k, x in state.items() if k.startswith(g)} for g in ("image_proj", "ip_adapter")}
    if kind == "pickle":
        torch.save(nested, path := tmp_path / "ip-adapter_sd15.bin")
    else:
        path = save(tmp_path / "ip-adapter_sd15.safetensors", state)
    part = load(ip_adapter.read(path, SMALL).parts["visual_attention"])
    names = SMALL.blank("visual_attention").names
    assert len(part) == 32
    for number, place in layouts.IP_PLACES.items():  # the table of architecture notes 5
        layer = names.index(place + ".transformer_blocks.0.attn2")
        for matrix in ("to_k", "to_v"):
            assert torch.equal(part[f"attentions.{layer}.{matrix}.weight"], state[f"ip_adapter.{number}.{matrix}_ip.weight"])
    processors = small_unet(1)._convert_ip_adapter_attn_to_diffusers([nested])
    for name, processor in processors.items():
        if "attn2" in name:
            layer = names.index(name.removesuffix(".processor"))
            assert torch.equal(part[f"attentions.{layer}.to_v.weight"], processor.to_v_ip[0].weight)


@torch.no_grad()
def test_ella_blocks_compute_what_ella_does(tmp_path):
    state = random_state(layouts.ella(SMALL), 16)

    def linear(name, x):
        return F.linear(x, state[name + ".weight"], state[name + ".bias"])

    def adaptive(name, x, time):
        shift, scale = linear(name + ".linear", F.silu(time)).chunk(2, -1)
        return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift

    made = SMALL.build("tati").eval()
    found = ella.read(save(tmp_path / "ella.safetensors", state), SMALL)
    missing = made.load_state_dict(load(found.parts["tati"]), strict=False).missing_keys
    assert missing == ["latents", "null_embedding"]
    made.latents.copy_(torch.randn(77, 32))
    e, t = torch.randn(2, 77, 32), torch.tensor([3.0, 800.0])
    angles = t[:, None] * torch.exp(-torch.log(torch.tensor(10000.0)) * torch.arange(16) / 16)
    time = torch.cat([angles.cos(), angles.sin()], -1)[:, None]  # cosine first, no shift
    time = linear("time_embedding.linear_2", F.silu(linear("time_embedding.linear_1", time)))
    x = made.latents + linear("connector.time_aware_linear", F.silu(time))
    for n in range(2):
        block = f"connector.perceiver_blocks.{n}."
        a = adaptive(block + "ln_1", x, time)
        kv = torch.cat([a, adaptive(block + "ln_2", e, time)], 1)
        weights = zip(state[block + "attn.in_proj_weight"].chunk(3), state[block + "attn.in_proj_bias"].chunk(3), (a, kv, kv))
        x = x + linear(block + "attn.out_proj", attend(*(F.linear(s, w, b) for w, b, s in weights), 2))
        x = x + linear(block + "mlp.c_proj", F.relu(linear(block + "mlp.c_fc", adaptive(block + "ln_ff", x, time))) ** 2)
    assert torch.allclose(made(e, t), x, atol=1e-4)
