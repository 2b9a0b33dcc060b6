# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
import torch

from fireedit_core.vlm import RegionEncoder

GRID = (6, 8)
BOXES = torch.tensor([[0.3, 0.4, 0.2, 0.3], [0.7, 0.5, 0.4, 0.6], [0.5, 0.5, 1.0, 1.0]])


def small(**changes) -> RegionEncoder:
    torch.manual_seed(0)
    options = {
        "vision_size": 16, "hidden_size": 24, "level_scales": (4, 2, 1), "fuse_rounds": 2, "fuse_groups": 4, "roi_size": 3,
        "position_size": 8,
    }  # fmt: skip
    return RegionEncoder(**(options | changes)).eval()


def levels(batch: int = 1, grid=GRID, seed: int = 1) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(batch, grid[0] * grid[1], 16, generator=generator) for _ in range(5))


@torch.no_grad()
def test_one_row_per_box_and_zero_where_masked():
    mask = torch.tensor([[True, False, True], [False, True, False]])
    tokens = small()(levels(2), GRID, BOXES.expand(2, 3, 4), mask)
    assert tokens.shape == (2, 3, 24)
    assert (tokens[~mask] == 0).all()
    assert (tokens[mask].abs().sum(-1) > 0).all()


@torch.no_grad()
def test_token_depends_on_the_box_and_on_the_picture():
    encoder, mask = small(), torch.ones(1, 3, dtype=torch.bool)
    tokens = encoder(levels(), GRID, BOXES[None], mask)[0]
    assert (tokens[0] - tokens[1]).abs().max() > 1e-3
    assert (tokens - encoder(levels(seed=2), GRID, BOXES[None], mask)[0]).abs().amax(1).min() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("mode", ["exact", "groma_compat"])
def test_rows_of_a_padded_batch_equal_single_runs(mode):
    encoder, features = small(roi_mode=mode), levels(2)
    boxes = torch.stack([BOXES, torch.cat([BOXES[:1].flip(0), torch.zeros(2, 4)])])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    both = encoder(features, GRID, boxes, mask)
    first = encoder(tuple(x[:1] for x in features), GRID, BOXES[None], mask[:1])
    second = encoder(tuple(x[1:] for x in features), GRID, BOXES[None, :1], mask[1:, :1])
    assert torch.allclose(both[0], first[0], atol=1e-5)
    assert torch.allclose(both[1, :1], second[0], atol=1e-5)


@torch.no_grad()
def test_no_regions_at_all():
    encoder = small()
    assert encoder(levels(), GRID, torch.zeros(1, 0, 4), torch.zeros(1, 0, dtype=torch.bool)).shape == (1, 0, 24)
    nothing = encoder(levels(), GRID, BOXES[None], torch.zeros(1, 3, dtype=torch.bool))
    assert nothing.shape == (1, 3, 24) and (nothing == 0).all()


def pooled_rois(encoder: RegionEncoder, boxes: torch.Tensor, monkeypatch, grid=(32, 32)) -> list[torch.Tensor]:
    """The (n, 4) map coordinates that each level is pooled at."""
    import torchvision.ops

    seen = []
    real = torchvision.ops.roi_align

    def spy(x, rois, *args, **kwargs):
        assert kwargs == {"spatial_scale": 1.0, "sampling_ratio": 2, "aligned": True} and x.dtype == torch.float32
        seen.append(rois[:, 1:])
        return real(x, rois, *args, **kwargs)

    monkeypatch.setattr(torchvision.ops, "roi_align", spy)
    with torch.no_grad():
        encoder(levels(grid=grid), grid, boxes[None], torch.ones(1, len(boxes), dtype=torch.bool))
    return seen


def test_exact_mode_pools_the_box_on_every_level(monkeypatch):
    box = torch.tensor([[0.5, 0.25, 0.4, 0.2]])
    rois = pooled_rois(small(), box, monkeypatch, grid=(16, 32))  # rows, columns
    for roi, scale in zip(rois, (4, 2, 1), strict=True):
        sides = torch.tensor([32.0, 16, 32, 16]) * scale
        assert torch.allclose(roi, torch.tensor([[0.3, 0.15, 0.7, 0.35]]) * sides, atol=1e-4)


def test_groma_compat_repeats_both_quirks_of_the_public_weights(monkeypatch):
    """Notes 1.3: the centred box .5 .5 .4 .4 is sampled from (128, 128) to (102, 102) on the 128 x 128 map."""
    rois = pooled_rois(small(roi_mode="groma_compat"), torch.tensor([[0.5, 0.5, 0.4, 0.4]]), monkeypatch)
    for roi, scale in zip(rois, (4, 2, 1), strict=True):
        expected = torch.tensor([[0.5, 0.5, 0.4, 0.4]]) * 448 / (14 / (2 * scale))
        assert torch.allclose(roi, expected, atol=1e-3)
    assert torch.allclose(rois[0], torch.tensor([[128.0, 128.0, 102.4, 102.4]]), atol=1e-3)


@torch.no_grad()
def test_groma_compat_tokens_still_vary_with_the_box():
    """Boxes in the lower right pool nothing at all in this mode, but their position embedding still tells them apart."""
    boxes = torch.tensor([[[0.8, 0.8, 0.2, 0.2], [0.9, 0.9, 0.1, 0.1]]])
    tokens = small(roi_mode="groma_compat")(levels(), GRID, boxes, torch.ones(1, 2, dtype=torch.bool))[0]
    assert (tokens[0] - tokens[1]).abs().max() > 1e-3


@torch.no_grad()
def test_exact_mode_looks_at_the_right_place():
    """A hot patch moves the token of the box around it and of no other box."""
    # identity fusion: the input conv passes the features, no rounds mix them
    encoder = small(level_scales=(1, 1, 1), fuse_rounds=0)
    for conv in encoder.mlvl_fuse.input_conv:
        conv.weight.zero_()
        conv.weight[:, :16, 0, 0] = torch.eye(16)
        conv.bias.zero_()
    cold = tuple(torch.zeros(1, 48, 16) for _ in range(3))
    hot = tuple(x.clone() for x in cold)
    for x in hot:
        x.view(1, 6, 8, 16)[0, 4, 1] = 10  # row 4 of 6, column 1 of 8
    centre = torch.tensor([1.5 / 8, 4.5 / 6])
    boxes = torch.stack([
        torch.cat([centre, torch.tensor([2 / 8, 2 / 6])]),  # around it
        torch.tensor([4.5 / 6, 1.5 / 8, 2 / 8, 2 / 6]),  # x and y swapped
        torch.tensor([1 - 1.5 / 8, 4.5 / 6, 2 / 8, 2 / 6]),  # mirrored
    ])[None]  # fmt: skip
    mask = torch.ones(1, 3, dtype=torch.bool)
    moved = (encoder(hot, GRID, boxes, mask) - encoder(cold, GRID, boxes, mask))[0].abs().amax(-1)
    assert moved[0] > 0.1 and moved[1:].max() < 1e-6


def test_shuffle_order_is_gromas():
    """Channels 0-511 of the level, then 768-1023 of the next, then 512-767 of the one before; ends are clamped."""
    from fireedit_core.vlm.region_encoder import _MultiLevelFuse

    maps = [torch.arange(8.0).view(1, 8, 1, 1) + 10 * i for i in range(3)]
    out = [x.flatten().tolist() for x in _MultiLevelFuse._shuffle(maps)]
    assert out[0] == [0, 1, 2, 3, 16, 17, 4, 5]
    assert out[1] == [10, 11, 12, 13, 26, 27, 4, 5]
    assert out[2] == [20, 21, 22, 23, 26, 27, 14, 15]


def test_coordinates_are_appended_x_first():
    from fireedit_core.vlm.region_encoder import _MultiLevelFuse

    out = _MultiLevelFuse._with_coordinates(torch.zeros(2, 3, 2, 5))
    assert out.shape == (2, 5, 2, 5) and not out[:, :3].any()
    assert out[1, 3].tolist() == [[-1, -0.5, 0, 0.5, 1]] * 2  # from left to right
    assert out[1, 4].tolist() == [[-1] * 5, [1] * 5]


def test_full_scale_size_and_gromas_key_names():
    with torch.device("meta"):
        encoder = RegionEncoder()
    assert sum(p.numel() for p in encoder.parameters()) == 288_653_056
    shapes = {name: tuple(x.shape) for name, x in encoder.state_dict().items()}
    expected = {f"mlvl_fuse.input_conv.{i}.weight": (1024, 1026, 1, 1) for i in range(3)}
    expected |= {f"mlvl_fuse.input_conv.{i}.bias": (1024,) for i in range(3)}
    for i in range(5):
        expected[f"mlvl_fuse.fuse_convs.{i}.conv.weight"] = (1024, 1024, 3, 3)
        expected |= {f"mlvl_fuse.fuse_convs.{i}.gn.{x}": (1024,) for x in ("weight", "bias")}
    for i in range(3):
        expected |= {f"roi_align.pconvs.{i}.weight": (1024, 1024, 3, 3), f"roi_align.pconvs.{i}.bias": (1024,)}
    for i, shape in {0: (256, 4), 2: (256,), 3: (1024, 256), 5: (1024,)}.items():
        expected |= {f"roi_align.pos_embedd.{i}.weight": shape, f"roi_align.pos_embedd.{i}.bias": shape[:1]}
    expected |= {"roi_align.flatten_linear.weight": (1024, 200704), "roi_align.flatten_linear.bias": (1024,)}
    expected |= {"roi_align.updims.weight": (4096, 1024), "roi_align.updims.bias": (4096,)}
    assert shapes == expected


def test_unknown_roi_mode_is_refused():
    with pytest.raises(ValueError, match="roi_mode"):
        small(roi_mode="sloppy")


def test_levels_are_enlarged_corner_to_corner():
    """As Groma's public weights were trained: the outermost samples stay where they are."""
    from fireedit_core.vlm.region_encoder import _resize

    found = _resize(torch.tensor([[[[0.0, 3.0], [6.0, 9.0]]]]), (4, 4))[0, 0]
    assert torch.allclose(found, torch.tensor([[0.0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [6, 7, 8, 9]]))
