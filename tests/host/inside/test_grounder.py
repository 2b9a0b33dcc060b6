# SPDX-License-Identifier: GPL-3.0-or-later
"""A language model as grounder in the host: folders, the graft of the host's own Qwen2.5-VL, and FireEdit Ground with either."""

from __future__ import annotations

import inspect
import json
import types

import pytest
import torch

from tests.core.grounding import small_chat_models
from tests.host.inside.pack import nodes  # noqa: F401  first: it makes the pack importable
from tests.host.inside.small_qwen import HEAD, loaded_clip, make_small, weights

import comfy.model_management as management  # isort: skip
import comfy.ops  # isort: skip
import comfy.text_encoders.llama as llama  # isort: skip
import folder_paths  # isort: skip
from fireedit_core.regions import Regions  # isort: skip
from fireedit_pack.nodes.errors import FireEditNodeError  # isort: skip
from fireedit_pack.nodes.ground import FireEditGround  # isort: skip
from fireedit_pack.nodes.host import grounders, text_encoder  # isort: skip
from fireedit_pack.nodes.host.streaming_patcher import StreamingPatcher  # isort: skip
from fireedit_pack.nodes.loading import FireEditGrounderLoader  # isort: skip

HEIGHT, WIDTH = 96, 128


@pytest.fixture(scope="module")
def small_qwen():
    patch = pytest.MonkeyPatch()
    make_small(patch)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def state(small_qwen):
    return weights()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """models/text_encoders of the host, alone."""
    patch, place = pytest.MonkeyPatch(), tmp_path_factory.mktemp("text_encoders")
    patch.setitem(folder_paths.folder_names_and_paths, "text_encoders", ([str(place)], {".safetensors"}))
    folder_paths.filename_list_cache.clear()
    yield place
    folder_paths.filename_list_cache.clear()
    patch.undo()


@pytest.fixture(scope="module")
def clip(state, folder):
    from safetensors.torch import save_file

    save_file(weights(1), folder / "another.safetensors")
    save_file(state, folder / "qwen_2.5_vl_7b.safetensors")
    return loaded_clip(state)


def reference(state, config, dtype):
    """transformers' own network with these weights."""
    import transformers

    network = transformers.Qwen2_5_VLForConditionalGeneration(config)
    for value in network.parameters():  # what rotates stays in float32, as from_pretrained leaves it
        value.data = value.data.to(dtype)
    renamed = {
        (f"model.{k}" if k.startswith("visual.") else k if k.startswith("lm_head") else k.replace("model.", "model.language_model.", 1)): v
        for k, v in state.items()
    }
    network.load_state_dict(renamed)
    return network.eval()


@pytest.fixture(scope="module")
def inputs(clip):
    """A question about a picture of 196 x 140, as the host's tokenizer makes it."""
    from PIL import Image

    model = grounders.load(grounders.ENCODER, clip).model
    picture = Image.fromarray((torch.rand(140, 196, 3, generator=torch.Generator().manual_seed(5)) * 255).byte().numpy())
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Where is the cat?"}]}]
    text = model.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    made = model.processor(text=[text], images=[picture], return_tensors="pt")
    assert made["image_grid_thw"].tolist() == [[1, 10, 14]]  # 5 x 7 squares: the windows of 4 x 4 are out of order
    return made


def test_the_graft_equals_transformers(clip, state, inputs):
    network = grounders.load(grounders.ENCODER, clip).model.network
    assert difference(network, reference(state, network.config, torch.float32), inputs) <= 1e-4
    with torch.no_grad():
        hidden = network(**inputs, output_hidden_states=True).hidden_states[-1]
        theirs = reference(state, network.config, torch.float32)(**inputs, output_hidden_states=True).hidden_states[-1]
    assert (hidden - theirs).abs().max() <= 1e-4


def encoder_of(state, dtype, operations=comfy.ops.manual_cast):
    """The host's encoder with these weights, as its loader builds it."""
    encoder = llama.Qwen25_7BVLI({}, dtype, "cpu", operations)
    left = encoder.load_state_dict(dict(state), strict=False)
    assert not left.missing_keys and left.unexpected_keys == [HEAD]
    return encoder


def head_of(weight):
    head = comfy.ops.manual_cast.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    head.weight = torch.nn.Parameter(weight, requires_grad=False)
    return head


def difference(network, theirs, inputs, compute=torch.float32):
    inputs = {k: v.to(compute) if v.is_floating_point() else v for k, v in inputs.items()}
    with torch.no_grad():
        ours, others = network(**inputs).logits, theirs(**inputs).logits
    assert ours.dtype == compute and others.std() > 0.1
    return float((ours.float() - others.float()).abs().max())


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_the_graft_of_bfloat16_weights(state, inputs, compute):
    """On a CPU it computes in float32, on a card in bfloat16; both as transformers does."""
    halved = {k: v.bfloat16() for k, v in state.items()}
    network = text_encoder.graft(encoder_of(halved, torch.bfloat16), head_of(halved[HEAD]), compute)
    assert {v.dtype for v in network.parameters()} == {torch.bfloat16}
    assert difference(network, reference(halved, network.config, compute), inputs, compute) <= 1e-4


def scaled_to_float8(state):
    """Linear weights as the public float8 files have them: divided by their scale. And what they are worth."""
    made, back = {}, {}
    for key, value in state.items():
        if value.ndim == 2 and "embed_tokens" not in key and "lm_head" not in key:
            scale = value.abs().max() / 448
            made[key], made[key.replace("weight", "scale_weight")] = (value / scale).to(torch.float8_e4m3fn), scale
            back[key] = made[key].float() * scale
        else:
            made[key] = value.bfloat16()
            # the host holds the biases of such layers in float8 too
            back[key] = (made[key].to(torch.float8_e4m3fn) if key.endswith("bias") else made[key]).float()
    return made, back


@pytest.mark.skipif(not hasattr(comfy.ops, "scaled_fp8_ops"), reason="later hosts hold scaled float8 in another way")
def test_the_graft_of_scaled_float8_weights(state, inputs):
    made, back = scaled_to_float8(state)
    encoder = encoder_of(made, torch.bfloat16, comfy.ops.scaled_fp8_ops(fp8_matrix_mult=False, override_dtype=torch.float8_e4m3fn))
    assert encoder.model.layers[0].mlp.up_proj.weight.dtype == encoder.visual.blocks[0].attn.qkv.weight.dtype == torch.float8_e4m3fn
    network = text_encoder.graft(encoder, head_of(made[HEAD]), torch.float32)
    assert difference(network, reference(back, network.config, torch.float32), inputs) <= 1e-4
    plain = {k: v.float() for k, v in made.items() if k in back}  # the scales count
    assert difference(network, reference(plain, network.config, torch.float32), inputs) > 0.01


def test_the_graft_of_quantized_tensors(state, inputs):
    """Scaled float8 as later files and hosts have it: the host's own tensors, told by a table or by entries in the file."""
    made, back = scaled_to_float8(state)
    back |= {key: made[key].float() for key in back if key.endswith("bias")}  # here the biases keep their type
    layers = [key.removesuffix(".scale_weight") for key in made if key.endswith(".scale_weight")]
    written = {k: v for k, v in made.items() if not k.endswith(".scale_weight")}
    written |= {f"{layer}.weight_scale": made[f"{layer}.scale_weight"] for layer in layers}
    table = {layer: {"format": "float8_e4m3fn"} for layer in layers}
    if "quant_config" in inspect.signature(comfy.ops.mixed_precision_ops).parameters:
        entry = torch.tensor(list(json.dumps({"format": "float8_e4m3fn"}).encode()), dtype=torch.uint8)
        table, written = {}, written | {f"{layer}.comfy_quant": entry for layer in layers}
    encoder = encoder_of(written, torch.float32, comfy.ops.mixed_precision_ops(table, torch.float32, full_precision_mm=True))
    assert "Quantized" in type(encoder.model.layers[0].mlp.up_proj.weight).__name__
    network = text_encoder.graft(encoder, head_of(made[HEAD]), torch.float32)
    assert difference(network, reference(back, network.config, torch.float32), inputs) <= 1e-4


def test_the_graft_of_plain_float8_weights(state, inputs):
    """As --fp8_e4m3fn-text-enc holds them: everything in float8."""
    eighth = {k: v.to(torch.float8_e4m3fn) for k, v in state.items()}
    encoder = encoder_of(eighth, torch.float8_e4m3fn)
    network = text_encoder.graft(encoder, head_of(eighth[HEAD]), torch.float32)
    assert encoder.model.norm.weight.dtype == encoder.visual.patch_embed.proj.weight.dtype == torch.float8_e4m3fn
    back = {k: v.float() for k, v in eighth.items()}
    assert difference(network, reference(back, network.config, torch.float32), inputs) <= 1e-4


def test_nothing_is_copied_and_the_host_brings_it_to_the_device(clip):
    grounder = FireEditGrounderLoader.execute(grounders.ENCODER, clip).args[0]
    shared = {id(v) for v in clip.cond_stage_model.parameters()}
    own = [name for name, v in grounder.model.network.named_parameters() if id(v) not in shared]
    assert own == ["lm_head.weight"] and grounder.patchers[0] is clip.patcher and len(grounder.patchers) == 2
    grounder.use()
    assert [p for p in grounder.patchers if any(one.model is p for one in management.current_loaded_models)] == list(grounder.patchers)


def test_its_head_comes_from_the_file_of_this_very_encoder(clip, state, folder):
    """Beside it lies another encoder's file with a head of the same shape, which comes first."""
    assert sorted(p.name for p in folder.iterdir()) == ["another.safetensors", "qwen_2.5_vl_7b.safetensors"]
    head = text_encoder._head_from_file(clip.cond_stage_model.qwen25_7b.transformer)
    assert torch.equal(head.weight, state[HEAD])
    stranger = encoder_of(weights(7), torch.float32)
    with pytest.raises(ValueError, match=r"\(2 with a head of this width were looked at\).*qwen_2.5_vl_7b.safetensors"):
        text_encoder._head_from_file(stranger)


def test_a_head_in_float8_is_scaled_and_a_host_with_a_head_is_asked_for_its_own(state, folder, clip):
    from safetensors.torch import save_file

    made = weights(3)
    scale = made[HEAD].abs().max() / 448
    eighth = {"lm_head.weight": (made[HEAD] / scale).to(torch.float8_e4m3fn), "lm_head.scale_weight": scale,
              "model.norm.weight": made["model.norm.weight"]}  # fmt: skip
    save_file(eighth, folder / "eighth.safetensors")
    folder_paths.filename_list_cache.clear()
    try:
        encoder = encoder_of(made, torch.float32)
        head = text_encoder._head_from_file(encoder)
        assert (head.weight.float() - made[HEAD]).abs().max() < 0.1 * made[HEAD].abs().max()
    finally:
        (folder / "eighth.safetensors").unlink()
        folder_paths.filename_list_cache.clear()
    encoder.model.lm_head = head_of(made[HEAD])
    with_head = types.SimpleNamespace(cond_stage_model=torch.nn.ModuleList([encoder]), patcher=clip.patcher, tokenizer=clip.tokenizer)
    model, patchers = text_encoder.grounder_of(with_head)
    assert model.network.lm_head is encoder.model.lm_head and patchers == (clip.patcher,)


def two():
    return Regions(torch.tensor([[2.0, 5, 40, 80], [80, 10, 120, 60]]), torch.tensor([0.8, 0.7]), ("cat", "dog"), (HEIGHT, WIDTH))


@pytest.fixture
def image():
    return torch.rand(1, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(0))


def said(**changes):
    return json.dumps({"kind": "remove", "before": "hat", "targets": [], "boxes": [], "after": "", "keep": []} | changes)


def test_ground_by_the_loaded_encoder(clip, image):
    """It sees 128 x 96 as 140 x 84 (5 x 3 squares of 28), so the box (40, 24, 80, 72) is written [44, 21, 88, 63]."""
    grounder = FireEditGrounderLoader.execute(grounders.ENCODER, clip).args[0]
    grounder.model.pixels = HEIGHT * WIDTH
    small_chat_models.free(grounder.model)  # its library would take a second to read the whole vocabulary
    small_chat_models.script(grounder.model, said(boxes=[[44, 21, 88, 63]]))
    output = FireEditGround.execute(image, "enlève le chapeau", [two()], "", grounder)
    box = json.loads(output.args[2])["targets"][0]["box"]
    assert max(abs(a - b) for a, b in zip(box, (40, 24, 80, 72))) < 1 and output.args[1][0, 30:70, 42:78].min() == 1
    assert "Read by the text encoder (Qwen2.5-VL)" in output.ui["text"][0]
    # one model, and the host still encodes with it
    assert clip.encode_from_tokens(clip.tokenize("a cat")).shape[-1] == 32


def test_other_clips_are_refused_or_asked_by_the_host(image):
    plain = types.SimpleNamespace(cond_stage_model=torch.nn.Linear(2, 2))
    with pytest.raises(FireEditNodeError, match="^FireEdit Grounder Loader: 'encoder of clip' cannot be loaded.*Qwen-Image-Edit can"):
        FireEditGrounderLoader.execute(grounders.ENCODER, plain)
    with pytest.raises(FireEditNodeError, match="connect clip"):
        FireEditGrounderLoader.execute(grounders.ENCODER)
    # a later host: its class, its names of methods
    asked = []
    later = types.SimpleNamespace(
        cond_stage_model=torch.nn.ModuleList([speaking("Qwen3VL_", 2560)]),
        tokenize=lambda text, image, min_length: asked.append((text, image)) or "tokens",
        generate=lambda tokens, do_sample, max_length, repetition_penalty: [tokens],
        decode=lambda written: said(boxes=[[500, 500, 1000, 1000]]),
    )
    grounder = FireEditGrounderLoader.execute(grounders.ENCODER, later).args[0]
    output = FireEditGround.execute(image, "enlève le chapeau", [two()], "", grounder)
    assert json.loads(output.args[2])["targets"][0]["box"] == [64, 48, 128, 96] and "Qwen3VL_" in output.ui["text"][0]
    assert asked[0][1].shape[1] * asked[0][1].shape[2] > 1_000_000 and "[625, 104, 938, 625]" in asked[0][0]
    assert 0.5 < float(asked[0][1].max()) <= 1 and asked[0][1].shape[-1] == 3  # 0..1, as the host's own pictures


@pytest.mark.parametrize("kind, width, norm, head, speaks", [
    ("Qwen3VL_", 2560, True, False, True), ("Qwen3VL_", 4096, True, False, False), ("Qwen3VL_", 4096, True, True, True),
    ("Qwen3VL_", 2560, False, False, False), ("Llama2", 2560, True, False, False), ("Gemma3_4B_Vision", 2560, True, False, True),
])  # fmt: skip
def test_who_can_speak(kind, width, norm, head, speaks):
    """A host generates with the embedding where it has no head, which is right only where the two are one."""
    assert text_encoder._has_head(speaking(kind, width, norm, head)) is speaks


def speaking(kind, width, norm=True, head=False):
    """A language model as later hosts build it."""
    made = type(kind, (torch.nn.Module,), {"generate": None, "preprocess_embed": None})()
    made.model = torch.nn.Module()
    made.model.config = types.SimpleNamespace(hidden_size=width)
    made.model.norm = torch.nn.Identity() if norm else None
    if head:
        made.model.lm_head = torch.nn.Linear(1, 1)
    return made


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The three places, below one root that only this test has."""
    for group, (key, _) in grounders.FOLDERS.items():
        monkeypatch.setitem(folder_paths.folder_names_and_paths, key, ([str(tmp_path / group)], set()))
    return tmp_path


def test_folders_are_listed_and_names_stay_inside(folders):
    for name in ("LLM/Qwen/small", "grounders/llava", "VLM/deep/er/est"):
        (folders / name).mkdir(parents=True)
        (folders / name / "config.json").write_text('{"model_type": "llava", "vision_config": {}}')
    (folders / "LLM" / "text").mkdir()
    (folders / "LLM" / "text" / "config.json").write_text('{"model_type": "llama"}')
    (folders / "outside").mkdir()
    (folders / "outside" / "config.json").write_text('{"model_type": "llava", "vision_config": {}}')
    assert grounders.list_grounders() == [grounders.ENCODER, "LLM/Qwen/small", "grounders/llava"]
    assert grounders.find_grounder("LLM\\Qwen\\small") == folders / "LLM" / "Qwen" / "small"
    for name in ("LLM/../outside", "/etc", "../outside", "grounders/", "", "llava"):
        with pytest.raises(ValueError, match="there is no grounder.*Found: encoder of clip, LLM/Qwen/small"):
            grounders.find_grounder(name)
        assert "there is no grounder" in FireEditGrounderLoader.validate_inputs(name or "-")
    assert FireEditGrounderLoader.validate_inputs("grounders/llava") is True and FireEditGrounderLoader.validate_inputs() is True


def test_a_folder_grounds_a_batch_and_can_be_cancelled(folders, image):
    torch.manual_seed(0)
    small_chat_models.llava(folders / "LLM" / "llava")
    state = FireEditGrounderLoader.fingerprint_inputs("LLM/llava")
    assert state and state == FireEditGrounderLoader.fingerprint_inputs("LLM/llava")
    grounder = FireEditGrounderLoader.execute("LLM/llava").args[0]
    grounder.model.pixels = HEIGHT * WIDTH
    assert isinstance(grounder.patchers[0], StreamingPatcher) and "LoadedGrounder('LLM/llava')" == repr(grounder)
    script = [{"kind": "recolour", "before": "dog", "targets": [n], "after": "blue", "keep": []} for n in (1, 0)]
    small_chat_models.script(grounder.model, *map(json.dumps, script))
    regions, mask, answer = FireEditGround.execute(image.repeat(2, 1, 1, 1), "把狗变成蓝色", [two(), two()], "", grounder).args
    assert [record["targets"][0]["label"] for record in json.loads(answer)] == ["dog", "cat"] and mask.shape == (2, HEIGHT, WIDTH)
    assert mask[0].sum() == 40 * 50 and mask[1].sum() == 38 * 75 and regions[0].labels[0] == "dog"
    # a filled answer runs no model
    grounder.model.network.generate = None
    assert FireEditGround.execute(image.repeat(2, 1, 1, 1), "", [two(), two()], answer, grounder).args[2] == answer
    # cancelled while it writes
    del grounder.model.network.generate
    written = []

    def reply(picture, turns, schema, most_tokens, progress):
        for token in range(1, 9):
            management.interrupt_current_processing(token == 4)
            progress(token)
            written.append(token)

    grounder.model.reply = reply
    try:
        with pytest.raises(management.InterruptProcessingException):
            FireEditGround.execute(image, "remove the dog", [two()], "", grounder)
    finally:
        management.interrupt_current_processing(False)
    assert written == [1, 2, 3]


def test_words_name_the_loader_for_other_languages(image):
    with pytest.raises(FireEditNodeError, match="looks like German.*connect FireEdit Grounder Loader"):
        FireEditGround.execute(image, "entferne die Katze", [two()])


def test_a_folder_that_cannot_be_loaded_names_the_node(folders):
    (folders / "VLM" / "empty").mkdir(parents=True)
    (folders / "VLM" / "empty" / "config.json").write_text('{"model_type": "llava", "vision_config": {}}')
    with pytest.raises(FireEditNodeError, match="^FireEdit Grounder Loader: 'VLM/empty' cannot be loaded: .*no .*safetensors"):
        FireEditGrounderLoader.execute("VLM/empty")


@pytest.mark.parametrize(
    "quick, free, dtype", [(True, 1 << 40, torch.bfloat16), (False, 2600, torch.float32), (False, 2400, torch.bfloat16)]
)
def test_a_folder_in_bfloat16_on_a_cpu(monkeypatch, tmp_path, caplog, quick, free, dtype):
    """In float32 where the CPU only emulates bfloat16, as far as 80 % of the free memory hold twice the file."""
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    monkeypatch.setattr(grounders, "quick_in_bfloat16", lambda device: quick)
    monkeypatch.setattr(grounders.management, "get_free_memory", lambda device: free)
    assert grounders._dtype_on_cpu(tmp_path) == dtype
    assert ("emulates" in caplog.text) == (not quick and dtype == torch.bfloat16)
