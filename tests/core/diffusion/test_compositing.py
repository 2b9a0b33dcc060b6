# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
import torch
from torch.nn.functional import interpolate

from fireedit_core.diffusion.compositing import WorkingSize, composite, edit_mask, match_surroundings, measure_change, next_source


def pictures(height: int, width: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("size", "working", "inner", "padded"),
    [
        ((128, 128), 128, (128, 128), (128, 128)),
        ((130, 97), 0, (130, 97), (136, 104)),
        ((130, 97), 128, (128, 96), (128, 96)),
        ((128, 97), 128, (128, 97), (128, 104)),  # the long side fits already: padded, not resampled
        ((1, 1), 128, (128, 128), (128, 128)),
        ((1, 1), 0, (1, 1), (8, 8)),
        ((2000, 1500), 512, (512, 384), (512, 384)),
        ((1500, 2000), 512, (384, 512), (384, 512)),
        ((2000, 1500), 0, (2000, 1500), (2000, 1504)),
        ((2000, 1), 128, (128, 8), (128, 8)),
    ],
)
def test_plan(size, working, inner, padded):
    plan = WorkingSize.plan(size, working)
    assert (plan.size, plan.inner, plan.padded) == (size, inner, padded)
    assert all(side % 8 == 0 for side in plan.padded)


@pytest.mark.parametrize("size", [(128, 128), (130, 97), (1, 1), (2000, 1500), (8, 300)])
@pytest.mark.parametrize("working", [0, 128])
def test_shrink_and_restore_end_at_the_pictures_own_size(size, working):
    source, plan = pictures(*size), WorkingSize.plan(size, working)
    small = plan.shrink(source)
    assert small.shape == (1, 3, *plan.padded) and small.min() >= 0 and small.max() <= 1
    # an edit that changes nothing gives the source back, in full detail, where nothing was to be edited
    restored = plan.restore(small, source, torch.zeros(1, *size))
    assert restored.shape == source.shape
    assert torch.allclose(restored, source, atol=1e-6)


def test_padding_repeats_the_edge_and_is_undone():
    source, plan = pictures(5, 9), WorkingSize.plan((5, 9))
    small = plan.shrink(source)
    assert torch.equal(small[..., :5, :9], source)
    assert torch.equal(small[..., 7, :9], source[..., 4, :]) and torch.equal(small[..., :5, 15], source[..., 8])
    edited = small.clone()
    edited[..., 5:, :] = edited[..., 9:] = 0  # what happens in the padding is nobody's business
    assert torch.equal(plan.restore(edited, source, torch.ones(1, 5, 9)), source)


def test_restore_enlarges_the_edit_inside_and_only_its_change_outside():
    source = pictures(64, 64)
    plan = WorkingSize.plan((64, 64), 32)
    edited = (plan.shrink(source) + 0.1).clamp(0, 1)
    inside = plan.restore(edited, source, torch.ones(1, 64, 64))
    assert torch.allclose(inside, interpolate(edited, (64, 64), mode="bicubic", antialias=True).clamp(0, 1), atol=1e-6)
    grey = 0.5 * source + 0.2
    outside = plan.restore(plan.shrink(grey) + 0.1, grey, torch.zeros(1, 64, 64))
    assert torch.allclose(outside, grey + 0.1, atol=1e-5)  # the fine detail is the source's


# --- masks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("grow", "feather"), [(3, 4), (0, 0), (0, 5), (6, 8), (2, 1), (5, 0)])
def test_edit_mask_is_one_on_the_edit_and_zero_beyond_its_reach(grow, feather):
    soft = torch.full((1, 60, 60), 0.3)
    soft[0, 25:35, 20:30] = 0.9
    mask = edit_mask(soft, grow=grow, feather=feather)
    assert mask.shape == soft.shape and mask.min() >= 0 and mask.max() <= 1
    y, x = torch.meshgrid(torch.arange(60), torch.arange(60), indexing="ij")
    distance = torch.maximum(torch.maximum(25 - y, y - 34), torch.maximum(20 - x, x - 29)).clamp(min=0)
    assert (mask[0][distance <= grow] == 1).all()
    assert (mask[0][distance > grow + feather] == 0).all()  # exactly, not nearly
    if feather >= 2:
        ramp = [mask[0, 30, 29 + grow + d].item() for d in range(1, feather)]
        assert all(0 < v < 1 for v in ramp) and ramp == sorted(ramp, reverse=True)


def test_edit_mask_of_nothing_of_everything_and_at_the_border():
    assert not edit_mask(torch.full((2, 30, 40), 0.4)).any()
    assert (edit_mask(torch.ones(1, 30, 40)) == 1).all()
    assert edit_mask(torch.ones(1, 1, 1)).shape == (1, 1, 1) and edit_mask(torch.ones(1, 1, 1)) == 1
    corner = torch.zeros(1, 30, 30)
    corner[0, :3, :3] = 1
    assert (edit_mask(corner)[0, :6, :6] == 1).all() and not edit_mask(corner)[0, 11:, :].any()


def test_composite_is_the_source_bit_for_bit_outside():
    source, edited = pictures(40, 40, batch=2), pictures(40, 40, batch=2, seed=1)
    soft = torch.zeros(2, 40, 40)
    soft[0, 10:20, 10:20] = 1
    mask = edit_mask(soft)
    out = composite(source, edited, mask)
    outside = (mask == 0)[:, None].expand_as(out)
    assert torch.equal(out[outside], source[outside]) and torch.equal(out[1], source[1])
    full = (mask == 1)[:, None].expand_as(out)
    assert torch.allclose(out[full], match_surroundings(source, edited, mask)[full], atol=1e-6)
    broken = edited.clone()
    broken[..., 0, 0] = float("nan")
    assert torch.equal(composite(source, broken, mask), out)  # not even a NaN leaks


def test_the_next_turn_starts_from_the_original_wherever_no_turn_has_been():
    original, first, second = (pictures(64, 64, seed=i) for i in range(3))
    masks = torch.zeros(2, 1, 64, 64)
    masks[0, :, 5:15, 5:15], masks[1, :, 40:50, 40:50] = 1, 1
    one, touched = next_source(original, first, edit_mask(masks[0]), torch.zeros(1, 64, 64))
    two, both = next_source(original, second, edit_mask(masks[1]), touched)
    assert torch.equal(both > 0, (edit_mask(masks[0]) > 0) | (edit_mask(masks[1]) > 0))
    for picture, mask in ((one, touched), (two, both)):
        free = (mask == 0)[:, None].expand_as(picture)
        assert torch.equal(picture[free], original[free]) and not torch.equal(picture[~free], original[~free])


def test_a_tint_beside_the_mask_is_taken_off_inside_too():
    source = pictures(96, 128) * 0.6 + 0.2
    mask = torch.zeros(1, 96, 128)
    mask[:, 30:70, 40:90] = 1
    tint = torch.tensor([0.05, -0.03, 0.02]).view(1, 3, 1, 1)
    change = 0.2 * mask[:, None]
    matched = match_surroundings(source, source + change + tint, mask)
    assert torch.allclose(matched, source + change, atol=1e-4)
    # a real change beside the mask is no tint, and where nothing is known nothing is shifted
    moved = source.clone()
    moved[..., 72:90, 40:90] += 0.2
    assert torch.allclose(match_surroundings(source, moved, mask), moved, atol=1e-6)
    assert torch.equal(match_surroundings(source, source + tint, torch.ones_like(mask)), source + tint)


def test_measure_change_by_hand():
    source = torch.full((1, 3, 4, 4), 0.5)
    edited, mask = source.clone(), torch.zeros(1, 4, 4)
    mask[0, :2] = 0.1  # any weight counts as inside
    edited[0, :, 0, 0] += torch.tensor([0.3, 0.0, 0.0])
    edited[0, :, 3, 3] -= 0.2
    change = measure_change(source, edited, mask)
    assert change.inside == pytest.approx(0.1 / 8, abs=1e-6)
    assert change.outside == pytest.approx(0.2 / 8, abs=1e-6)
    assert change.area == 0.5


def test_measure_change_with_an_empty_or_full_mask():
    source, edited = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.25)
    nothing, everything = measure_change(source, edited, torch.zeros(1, 4, 4)), measure_change(source, edited, torch.ones(1, 4, 4))
    assert (nothing.inside, nothing.outside, nothing.area) == (0, 0.25, 0)
    assert (everything.inside, everything.outside, everything.area) == (0.25, 0, 1)


def test_a_later_edit_keeps_what_an_earlier_one_touched():
    """By hand: inside of everything touched so far the edit as it came, everywhere else the original."""
    original, edited = torch.full((1, 3, 32, 32), 0.2), torch.full((1, 3, 32, 32), 0.8)
    first, second = torch.zeros(1, 32, 32), torch.zeros(1, 32, 32)
    first[:, 2:8, 2:8] = second[:, 20:28, 20:28] = 1
    made, touched = next_source(original, edited, second, first)
    wanted = (first + second)[:, None] * 0.8 + (1 - first - second)[:, None] * 0.2
    assert torch.equal(touched, first + second) and torch.allclose(made, wanted.expand(1, 3, 32, 32))
