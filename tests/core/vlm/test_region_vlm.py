# SPDX-License-Identifier: GPL-3.0-or-later
import copy

import pytest
import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from fireedit_core.training.tiny import word_tokenizer
from fireedit_core.vlm import ImgTokens, RegionAwareVLM, VisionAdapter

D, R, M = 32, 4, 6


def language_model(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=64, hidden_size=D, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        max_position_embeddings=128, pad_token_id=0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    for weight in model.parameters():  # 0.02 is so little that attention hardly moves a state
        if weight.ndim > 1:
            weight.data.mul_(8)
    return model


def make_vlm(model=None, **img) -> RegionAwareVLM:
    model = model or language_model()
    torch.manual_seed(5)
    tokens = ImgTokens(R, D, **img)
    tokens.embedding.data.mul_(20)
    tokenizer = word_tokenizer("remove the red apple on left".split())
    return RegionAwareVLM(model, tokenizer, VisionAdapter(8, D), torch.nn.Identity(), tokens).eval()


def inputs(texts: list[str], regions: list[int], vlm: RegionAwareVLM, seed: int = 1):
    generator = torch.Generator().manual_seed(seed)
    ids, text_mask = vlm.encode_text(texts)
    most = max(regions)
    region_mask = torch.arange(most)[None] < torch.tensor(regions)[:, None]
    image = torch.randn(len(texts), M, D, generator=generator)
    return ids, text_mask, image, torch.randn(len(texts), most, D, generator=generator), region_mask


def parts_of(states) -> dict[str, torch.Tensor]:
    return {name: getattr(states, name) for name in ("text", "image", "regions", "img", "before_img")}


@torch.no_grad()
def test_shapes_and_equality_with_the_plain_language_model():
    """The states are those of the base model over [text, image, region, IMG] embeddings, after the final norm."""
    vlm = make_vlm()
    ids, text_mask, image, regions, region_mask = inputs(["remove the red apple"], [3], vlm)
    states = vlm(ids, text_mask, image, regions, region_mask)
    text = vlm.language_model.get_input_embeddings()(ids)
    joined = torch.cat([text, image, regions, vlm.img_tokens.embedding[None]], dim=1)
    plain = vlm.language_model(inputs_embeds=joined, output_hidden_states=True).hidden_states[-1][0]
    got = torch.cat([states.text, states.image, states.regions, states.img], dim=1)[0]
    assert got.shape == (4 + M + 3 + R, D) and torch.allclose(got, plain, atol=1e-5)
    assert torch.allclose(states.before_img[0], plain[-R - 1 : -1], atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("changed", "moves"),
    [("text", "text image regions img"), ("image", "image regions img"), ("regions", "regions img"), ("img", "img")],
)
def test_causal_order_is_text_image_region_img(changed, moves):
    vlm = make_vlm()
    ids, text_mask, image, regions, region_mask = inputs(["remove the red apple"], [3], vlm)
    before = vlm(ids, text_mask, image, regions, region_mask)
    if changed == "text":
        ids = ids.flip(1)
    elif changed == "image":
        image = image + 1
    elif changed == "regions":
        regions = regions + 1
    else:
        vlm.img_tokens.embedding.data.add_(1)
    after = vlm(ids, text_mask, image, regions, region_mask)
    for name in ("text", "image", "regions", "img"):
        difference = (getattr(before, name) - getattr(after, name)).abs().amax(-1)[0, -1]
        assert (difference > 1e-3) == (name in moves.split()), name


@torch.no_grad()
def test_padding_in_the_middle_changes_nothing():
    vlm = make_vlm()
    texts, counts = ["remove the red apple on the left", "remove apple", "the"], [1, 4, 0]
    ids, text_mask, image, regions, region_mask = inputs(texts, counts, vlm)
    both = vlm(ids, text_mask, image, regions, region_mask)
    for row, (text, n) in enumerate(zip(texts, counts, strict=True)):
        one_ids, one_mask = vlm.encode_text([text])
        one = vlm(one_ids, one_mask, image[row : row + 1], regions[row : row + 1, :n], region_mask[row : row + 1, :n])
        for name, alone in parts_of(one).items():
            mine = parts_of(both)[name][row, : alone.shape[1]]
            assert torch.allclose(mine, alone[0], atol=1e-5), (name, row, (mine - alone[0]).abs().max())


@torch.no_grad()
def test_left_padding_tokenizers_give_the_same_states():
    """Llama's tokenizers pad on the left in many bundles; no row may become NaN or see its padding."""
    vlm = make_vlm()
    texts, counts = ["remove the red apple on the left", "remove apple"], [2, 1]
    right = vlm(*inputs(texts, counts, vlm))
    vlm.tokenizer.padding_side = "left"
    left = vlm(*inputs(texts, counts, vlm))
    for name in ("image", "img", "before_img"):
        assert torch.allclose(getattr(left, name), getattr(right, name), atol=1e-5), name


@torch.no_grad()
def test_no_region_is_a_case_of_its_own():
    vlm = make_vlm()
    states = vlm(*inputs(["remove the apple", "remove"], [0, 0], vlm))
    assert states.regions.shape == (2, 0, D) and states.img.shape == (2, R, D)
    assert torch.isfinite(states.img).all()


def test_language_loss_is_the_mean_over_the_img_tokens():
    vlm = make_vlm()
    states = vlm(*inputs(["remove the red apple", "the"], [2, 1], vlm))
    loss = vlm.language_loss(states)
    total = 0.0
    for row in range(2):
        for j in range(R):
            hidden = states.before_img[row, j]
            logits = torch.cat([vlm.language_model.lm_head.weight @ hidden, vlm.img_tokens.head.weight @ hidden])
            total -= F.log_softmax(logits, dim=0)[64 + j]
    assert loss.item() == pytest.approx(total.item() / (2 * R), abs=1e-5)
    loss.backward()
    assert vlm.img_tokens.head.weight.grad.abs().max() > 0
    # only what predicts may learn: the last [IMG] input predicts nothing
    gradient = vlm.img_tokens.embedding.grad
    assert gradient[-1].abs().max() == 0 and gradient[:-1].abs().amax(1).min() > 0


def test_conversation_loss_is_of_each_row_the_mean():
    """One row learns one token and the other four: both count alike. The state at a token predicts the next one."""
    vlm = make_vlm()
    ids, text_mask, image, regions, region_mask = inputs(["remove the red apple on the left", "remove the red apple"], [2, 1], vlm)
    labels = torch.full_like(ids, -100)
    labels[0, 2:6], labels[1, 3] = ids[0, 2:6], ids[1, 3]
    with torch.no_grad():
        found = vlm.conversation_loss(ids, text_mask, labels, image, regions, region_mask)
        rows = []
        for row, learnt in ((0, range(2, 6)), (1, [3])):
            text = vlm.language_model.get_input_embeddings()(ids[row][text_mask[row]])
            joined = torch.cat([image[row], regions[row][region_mask[row]], text])
            said = vlm.language_model(inputs_embeds=joined[None]).logits[0, -len(text) :].log_softmax(-1)
            rows.append(-sum(float(said[at - 1, ids[row, at]]) for at in learnt) / len(learnt))
    assert float(found) == pytest.approx(sum(rows) / 2, abs=1e-4) and abs(rows[0] - rows[1]) > 0.1


def test_prompt_template_truncation_and_braces():
    vlm = make_vlm(prompt_template="the {instruction} left", max_text_tokens=4)
    ids, mask = vlm.encode_text(["  red "])
    assert vlm.tokenizer.decode(ids[0]) == "the red left" and mask.dtype == torch.bool and mask.all()
    assert vlm.encode_text(["red " * 50])[0].shape == (1, 4)
    assert vlm.encode_text(["{apple}"])[0].shape[0] == 1  # braces in an instruction are no slots


def test_a_tokenizer_without_padding_token_still_makes_batches():
    """Llama's own tokenizers have none (SmartEdit takes the unknown token)."""
    tokenizer = word_tokenizer("remove the apple".split())
    tokenizer.pad_token = None
    vlm = RegionAwareVLM(language_model(), tokenizer, VisionAdapter(8, D), torch.nn.Identity(), ImgTokens(R, D)).eval()
    ids, mask = vlm.encode_text(["remove the apple", "apple"])
    assert ids.shape == (2, 3) and mask.sum(1).tolist() == [3, 1]


def lora(model, **options):
    from peft import LoraConfig, get_peft_model

    return get_peft_model(
        model, LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules=["q_proj", "v_proj"], **options)
    )


@torch.no_grad()
def test_lora_reaches_the_states():
    base = make_vlm()
    wrapped = make_vlm(lora(copy.deepcopy(base.language_model)).eval())
    arguments = inputs(["remove the red apple"], [2], base)
    before, fresh = base(*arguments), wrapped(*arguments)
    assert torch.allclose(before.img, fresh.img, atol=1e-6)  # LoRA starts as nothing
    names = []
    for name, weight in wrapped.language_model.named_parameters():
        if "lora_B" in name:
            weight.normal_()
            names.append(name)
    assert len(names) == 4 and all("q_proj" in n or "v_proj" in n for n in names)
    assert (wrapped(*arguments).img - before.img).abs().max() > 1e-2
    assert torch.isfinite(wrapped.language_loss(wrapped(*arguments)))


def test_lora_at_7b_scale():
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig())
        wrapped = lora(model)
    trainable = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    assert trainable == 4_194_304  # SmartEdit: 4.19M
    assert sum(p.numel() for p in model.parameters()) - trainable == 6_738_415_616
