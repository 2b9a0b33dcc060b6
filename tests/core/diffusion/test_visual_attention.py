# SPDX-License-Identifier: GPL-3.0-or-later
import copy
import json
import math

import pytest
import torch
from diffusers import UNet2DConditionModel

from fireedit_core.diffusion.visual_attention import (
    VisualAttentionLayer,
    VisualCrossAttention,
    attach_visual_attention,
    cross_attentions,
    mask_tokens,
)


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8, in_channels=8, out_channels=4, block_out_channels=(32, 32), layers_per_block=1, norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16, attention_head_dim=4,
    ).eval().requires_grad_(False)  # fmt: skip


def stirred(unet, visual_size: int = 16, mark: str = "condition") -> VisualCrossAttention:
    torch.manual_seed(1)
    visual = VisualCrossAttention.for_unet(unet, visual_size, mark).eval()
    for layer in visual.attentions:  # both start at zero
        layer.to_out.weight.data.normal_(std=0.3)
        layer.to_mark.weight.data.normal_(std=0.3)
    return visual.requires_grad_(False)


def inputs(batch: int = 2):
    generator = torch.Generator().manual_seed(2)
    make = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return make(batch, 8, 8, 8), torch.tensor([700.0] * batch), make(batch, 7, 16), make(batch, 16, 16)


def run(unet, x, t, context, **visual) -> torch.Tensor:
    with torch.no_grad():
        return unet(x, t, context, cross_attention_kwargs=visual or None).sample


def test_sixteen_layers_beside_sd15():
    with torch.device("meta"):
        unet = UNet2DConditionModel(in_channels=8, cross_attention_dim=768)
        visual = VisualCrossAttention.for_unet(unet, 768)
    assert len(visual.names) == 16
    size = lambda *parts: sum(p.numel() for n, p in visual.named_parameters() if any(x in n for x in parts))  # noqa: E731
    assert size("to_k", "to_v") == 19_169_280  # IP-Adapter's 19.2M
    down, up, middle = [320] * 2 + [640] * 2 + [1280] * 2, [1280] * 3 + [640] * 3 + [320] * 3, [1280]
    assert [layer["channels"] for layer in visual.config.layers] == down + up + middle
    assert {layer["heads"] for layer in visual.config.layers} == {8}
    assert visual.names == [n for n, _ in unet.named_modules() if n.endswith("attn2")]


def test_names_and_starting_weights(unet):
    visual = VisualCrossAttention.for_unet(unet, 16)
    modules = dict(unet.named_modules())
    assert len(visual.names) == 4  # one down, two up, one in the middle
    for name, layer in zip(visual.names, visual.attentions, strict=True):
        for part in ("to_q", "to_k", "to_v"):
            assert torch.equal(getattr(layer, part).weight, getattr(modules[name], part).weight)
        assert not layer.to_out.weight.any() and not layer.to_mark.weight.any()
    other = VisualCrossAttention.for_unet(unet, 24)  # v is wider than the text: K and V cannot be copied
    assert torch.equal(other.attentions[0].to_q.weight, modules[other.names[0]].to_q.weight)
    assert other.attentions[0].to_k.weight.shape == (32, 24)


@torch.no_grad()
def test_layer_equals_attention_by_hand():
    torch.manual_seed(0)
    layer = VisualAttentionLayer(channels=8, heads=2, visual_size=6)
    layer.to_out.weight.normal_()
    hidden, visual = torch.randn(1, 5, 8), torch.randn(1, 3, 6)
    out = layer(hidden, layer.project(visual))
    q, k, v = hidden[0] @ layer.to_q.weight.T, visual[0] @ layer.to_k.weight.T, visual[0] @ layer.to_v.weight.T
    heads = []
    for h in (slice(0, 4), slice(4, 8)):
        heads.append((q[:, h] @ k[:, h].T / math.sqrt(4)).softmax(-1) @ v[:, h])
    assert torch.allclose(out[0], torch.cat(heads, dim=1) @ layer.to_out.weight.T, atol=1e-5)


@torch.no_grad()
def test_zero_visual_tokens_contribute_exactly_zero():
    layer = VisualAttentionLayer(8, 2, 6)
    layer.to_out.weight.normal_()
    layer.to_mark.weight.normal_()
    nothing = layer.project(torch.zeros(2, 16, 6))
    assert (layer(torch.randn(2, 4, 8), nothing) == 0).all()
    assert (layer(torch.randn(2, 4, 8), nothing, torch.ones(2, 1, 2, 2)) == 0).all()


@torch.no_grad()
def test_only_the_cells_of_the_mask_are_marked():
    layer = VisualAttentionLayer(8, 2, 6)  # to_out is zero: what is left is the mark
    layer.to_mark.weight.normal_()
    visual, where = torch.randn(2, 3, 6), torch.zeros(2, 1, 4, 4)
    where[0, 0, :2, 2:] = 1
    where[1, 0, 3, 3] = 0.5
    out = layer(torch.randn(2, 16, 8), layer.project(visual), where)
    mark = visual.mean(1) @ layer.to_mark.weight.T
    assert torch.allclose(out, where.flatten(2).transpose(1, 2) * mark[:, None], atol=1e-6)
    coarse = layer(torch.randn(2, 4, 8), layer.project(visual), where)  # one level down: shares of cells
    assert torch.allclose(coarse[0, :, :], torch.tensor([0, 1, 0, 0])[:, None] * mark[0], atol=1e-6)
    assert torch.allclose(coarse[1, :, :], torch.tensor([0, 0, 0, 0.125])[:, None] * mark[1], atol=1e-6)


@torch.no_grad()
def test_the_mark_of_the_text_condition_is_its_mean_row_and_no_business_of_v():
    layer = VisualAttentionLayer(8, 2, 6, condition_size=5)
    layer.to_mark.weight.normal_()
    visual, condition, where = torch.randn(2, 3, 6), torch.randn(2, 7, 5), torch.zeros(2, 1, 4, 4)
    where[0, 0, :2, 2:] = 1
    where[1, 0, 3, 3] = 0.5
    out = layer(torch.randn(2, 16, 8), layer.project(visual), where, condition)
    mark = condition.mean(1) @ layer.to_mark.weight.T
    assert torch.allclose(out, where.flatten(2).transpose(1, 2) * mark[:, None], atol=1e-6)
    assert torch.equal(layer(torch.randn(2, 16, 8), layer.project(visual * 2 + 1), where, condition), out)
    with pytest.raises(ValueError, match="none was given"):
        layer(torch.randn(2, 16, 8), layer.project(visual), where)


def test_the_mark_is_of_the_condition_unless_v_is_asked_for(unet):
    assert VisualCrossAttention.for_unet(unet, 24).config.condition_size == 16
    old = VisualCrossAttention.for_unet(unet, 24, mark="visual")
    assert old.config.condition_size is None and old.attentions[0].to_mark.weight.shape == (32, 24)
    with pytest.raises(ValueError, match="'condition' or 'visual', got 'both'"):
        VisualCrossAttention.for_unet(unet, 24, mark="both")


def test_a_bundle_before_0_3_marks_with_v(unet, tmp_path):
    """Its config does not know the word, and its mark reads v."""
    old = stirred(unet, mark="visual")
    old.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["condition_size"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = VisualCrossAttention.from_pretrained(tmp_path)
    hidden, v, where = torch.randn(2, 16, 32), torch.randn(2, 16, 16), torch.rand(2, 1, 4, 4)
    with torch.no_grad():
        one, two = (x.attentions[0](hidden, x.attentions[0].project(v), where) for x in (old, loaded))
        unmarked = loaded.attentions[0](hidden, loaded.attentions[0].project(v))
        expected = where.flatten(2).transpose(1, 2) * (v.mean(1) @ loaded.attentions[0].to_mark.weight.T)[:, None]
    assert torch.equal(one, two) and torch.allclose(two - unmarked, expected, atol=1e-5)


@pytest.mark.parametrize("size, tokens", [((64, 64), 4096), ((64, 64), 64), ((13, 24), 7 * 12), ((13, 24), 2 * 3), ((1, 5), 3)])
def test_mask_tokens_follow_the_levels_of_a_unet(size, tokens):
    assert mask_tokens(torch.ones(2, 1, *size), tokens).shape == (2, tokens, 1)


def test_mask_tokens_refuse_another_shape():
    with pytest.raises(ValueError, match="does not fit attention over 5 tokens"):
        mask_tokens(torch.ones(1, 1, 8, 8), 5)


def test_without_payload_the_unet_is_the_plain_one_bit_for_bit(unet):
    x, t, context, v = inputs()
    plain = run(unet, x, t, context)
    attached, visual = copy.deepcopy(unet), stirred(unet)
    attach_visual_attention(attached, visual)
    kv = visual.project(v)
    assert torch.equal(run(attached, x, t, context), plain)
    assert torch.equal(run(attached, x, t, context, visual=None, visual_strength=1.0), plain)
    assert torch.equal(run(attached, x, t, context, visual=kv, visual_strength=0), plain)
    nothing = visual.project(torch.zeros_like(v))
    assert torch.equal(run(attached, x, t, context, visual=nothing), plain)
    assert (run(attached, x, t, context, visual=kv) - plain).abs().max() > 1e-3
    assert attached.state_dict().keys() == unet.state_dict().keys()  # nothing is registered inside the UNet


def test_rows_without_v_in_a_mixed_batch_are_the_plain_ones(unet):
    x, t, context, v = inputs()
    attached, visual = copy.deepcopy(unet), stirred(unet)
    attach_visual_attention(attached, visual)
    v[1] = 0
    out = run(attached, x, t, context, visual=visual.project(v))
    plain = run(unet, x, t, context)
    assert torch.equal(out[1], plain[1]) and (out[0] - plain[0]).abs().max() > 1e-3
    alone = run(attached, x[:1], t[:1], context[:1], visual=visual.project(v[:1]))
    assert torch.allclose(out[:1], alone, atol=1e-5)


def test_every_layer_gets_its_own_keys_and_the_strength_is_linear(unet):
    """One hook per layer sees h, and what is added there is strength * layer(h, projected v, mask) of that layer."""
    x, t, context, v = inputs()
    attached, visual = copy.deepcopy(unet), stirred(unet)
    attach_visual_attention(attached, visual)
    kv, seen = visual.project(v), {}
    plain_processors = {n: m for n, m in cross_attentions(unet)}

    def hook(name):
        def keep(module, args, kwargs, out):
            seen[name] = (args[0], kwargs["encoder_hidden_states"], out)
        return keep

    for name, module in cross_attentions(attached):
        module.register_forward_hook(hook(name), with_kwargs=True)
    where = torch.rand(x.shape[0], 1, *x.shape[-2:])
    run(attached, x, t, context, visual=kv, where=where, visual_strength=0.25)
    assert list(visual.names) == [n for n, _ in cross_attentions(attached)] and seen.keys() == set(visual.names)
    with torch.no_grad():
        for name, layer, projected in zip(visual.names, visual.attentions, kv, strict=True):
            hidden, text, out = seen[name]
            expected = plain_processors[name](hidden, encoder_hidden_states=text) + 0.25 * layer(
                hidden, projected, where, text
            )
            assert torch.allclose(out, expected, atol=1e-5)


def test_a_visual_attention_of_another_unet_is_refused(unet):
    visual = VisualCrossAttention([{"name": "mid_block.attentions.0.transformer_blocks.0.attn2", "channels": 32, "heads": 4}], 16)
    with pytest.raises(ValueError, match="another UNet"):
        attach_visual_attention(copy.deepcopy(unet), visual)


def test_attaching_again_replaces_the_first(unet):
    x, t, context, v = inputs()
    first, second, attached = stirred(unet), VisualCrossAttention.for_unet(unet, 16), copy.deepcopy(unet)
    attach_visual_attention(attached, first)
    attach_visual_attention(attached, second)  # its to_out is zero
    with torch.no_grad():
        kv = second.project(v)
    assert torch.equal(run(attached, x, t, context, visual=kv), run(unet, x, t, context))


@pytest.mark.parametrize("mark", ["condition", "visual"])
def test_gradients_reach_every_weight(unet, mark):
    x, t, context, v = inputs()
    attached, visual = copy.deepcopy(unet), stirred(unet, mark=mark).requires_grad_(True)
    attach_visual_attention(attached, visual)
    attached(
        x, t, context, cross_attention_kwargs={"visual": visual.project(v), "where": torch.rand(x.shape[0], 1, *x.shape[-2:])}
    ).sample.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in visual.parameters())


def test_round_trip_on_disk(unet, tmp_path):
    visual = stirred(unet)
    visual.save_pretrained(tmp_path)
    loaded = VisualCrossAttention.from_pretrained(tmp_path)
    assert loaded.names == visual.names
    v = inputs()[3]
    with torch.no_grad():
        pairs = zip(loaded.project(v), visual.project(v), strict=True)
        assert all(a is b is None or torch.equal(a, b) for one, two in pairs for a, b in zip(one, two, strict=True))
    attach_visual_attention(copy.deepcopy(unet), loaded)
