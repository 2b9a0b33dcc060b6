# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
import torch

from fireedit_core.vlm.vision import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD, encode_vision, squash


def test_squash_keeps_the_whole_picture_and_normalises():
    picture = torch.zeros(1, 3, 20, 50)
    picture[..., 25:] = 1  # black left, white right: nothing may be cropped away
    out = squash(picture, 16, IMAGENET_MEAN, IMAGENET_STD)
    assert out.shape == (1, 3, 16, 16)
    for channel, (mean, std) in enumerate(zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)):
        assert out[0, channel, 8, 0].item() == pytest.approx(-mean / std, abs=1e-5)
        assert out[0, channel, 8, 15].item() == pytest.approx((1 - mean) / std, abs=1e-5)
    same = torch.rand(1, 3, 16, 16)
    expected = (same - torch.tensor(CLIP_MEAN)[:, None, None]) / torch.tensor(CLIP_STD)[:, None, None]
    assert torch.allclose(squash(same, 16, CLIP_MEAN, CLIP_STD), expected)


@torch.no_grad()
def test_both_towers_give_patch_tokens_of_every_level(tiny_parts):
    pictures = torch.rand(2, 3, 40, 90, generator=torch.Generator().manual_seed(0))
    features = encode_vision(tiny_parts["dinov2"], tiny_parts["clip_vision"], pictures)
    assert features.dino_grid == (8, 8)
    assert [tuple(x.shape) for x in features.dino] == [(2, 64, 32)] * 4  # the embedding and 3 blocks
    assert [tuple(x.shape) for x in features.clip] == [(2, 16, 32)] * 3
    alone = encode_vision(tiny_parts["dinov2"], tiny_parts["clip_vision"], pictures[1:])
    assert all(torch.allclose(a[1:], b, atol=1e-5) for a, b in zip(features.dino, alone.dino, strict=True))
    # pre-norm: the last level is not yet what the tower returns
    model = tiny_parts["dinov2"]
    pixels = squash(pictures, 64, IMAGENET_MEAN, IMAGENET_STD)
    assert torch.allclose(model.layernorm(model(pixels, output_hidden_states=True).hidden_states[-1])[:, 1:],
                          model(pixels).last_hidden_state[:, 1:], atol=1e-5)  # fmt: skip
    assert (features.dino[-1] - model(pixels).last_hidden_state[:, 1:]).abs().max() > 1e-3


@torch.no_grad()
def test_towers_are_row_major(tiny_parts):
    """Only the patch that covers a painted spot moves at the embedding level."""
    plain = torch.full((1, 3, 64, 64), 0.5)
    spot = plain.clone()
    spot[..., 17:23, 41:47] = 1  # row 2, column 5 of the 8 x 8 grid; row 1, column 2 of CLIP's 4 x 4
    a, b = (encode_vision(tiny_parts["dinov2"], tiny_parts["clip_vision"], x) for x in (plain, spot))
    moved = lambda x, y: (x - y).abs().amax(-1)[0].nonzero().flatten().tolist()  # noqa: E731
    assert moved(a.dino[0], b.dino[0]) == [2 * 8 + 5]
    assert moved(a.clip[0], b.clip[0]) == [1 * 4 + 2]


def test_features_move_together(tiny_parts):
    features = encode_vision(tiny_parts["dinov2"], tiny_parts["clip_vision"], torch.rand(1, 3, 64, 64))
    half = features.to(dtype=torch.bfloat16)
    assert {x.dtype for x in half.dino + half.clip} == {torch.bfloat16} and half.dino_grid == features.dino_grid


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (150, 90), (40, 200)])
def test_the_pixels_that_reach_each_tower_are_those_of_the_public_processors(tiny_parts, size):
    """transformers' own processors, told to squash instead of to crop. They round to 8 bits, and PIL's bicubic differs a little."""
    import numpy as np
    from transformers import BitImageProcessor, CLIPImageProcessor
    from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    rough = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(2))
    picture = (torch.nn.functional.interpolate(rough, size, mode="bilinear") * 255).byte()
    seen = {}
    keep = lambda name: lambda module, _, given: seen.update({name: given["pixel_values"]})  # noqa: E731
    hooks = [tiny_parts[name].register_forward_pre_hook(keep(name), with_kwargs=True) for name in ("dinov2", "clip_vision")]
    try:
        encode_vision(tiny_parts["dinov2"], tiny_parts["clip_vision"], picture.float() / 255)
    finally:
        for hook in hooks:
            hook.remove()
    for name, kind, options in (
        ("dinov2", BitImageProcessor, {"image_mean": IMAGENET_DEFAULT_MEAN, "image_std": IMAGENET_DEFAULT_STD}),
        ("clip_vision", CLIPImageProcessor, {}),  # its own numbers are CLIP's
    ):
        side = tiny_parts[name].config.image_size
        processor = kind(size={"height": side, "width": side}, do_center_crop=False, resample=3, **options)
        wanted = processor(np.asarray(picture[0].permute(1, 2, 0)), return_tensors="pt")["pixel_values"]
        assert seen[name].shape == wanted.shape == (1, 3, side, side)
        off = (seen[name] - wanted).abs()
        assert off.mean() < 0.01 and off.max() < 0.06, (name, float(off.mean()), float(off.max()))
        # what rounding leaves has no direction: ImageNet's mean in place of CLIP's would be 0.013 off in red
        assert (seen[name] - wanted).mean((0, 2, 3)).abs().max() < 0.004
