# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of a photograph that a model sees, and the exact way back."""

import json

import pytest
import torch

from fireedit_core.photo.frame import PhotoFrame


def _photo(height, width, channels=3):
    return torch.rand(height, width, channels, generator=torch.Generator().manual_seed(0))


def _ramp(height, width):
    """Column and row numbers as values, so that a shift can be read off."""
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    return torch.stack([x, y], -1)


FRAMES = {
    "half": ((200, 300), (40, 20, 240, 140), (64, 96)),  # 0.48, padding above and below
    "large": ((100, 90), (10, 20, 60, 51), (128, 160)),  # 3.2
    "sixth": ((600, 900), (0, 0, 900, 600), (96, 144)),
    "odd": ((211, 307), (3, 5, 290, 208), (112, 176)),
}


@pytest.mark.parametrize("name", FRAMES)
def test_nothing_moves_by_a_fraction_of_a_pixel(name):
    (height, width), box, grid = FRAMES[name]
    ramp = _ramp(height, width)
    frame = PhotoFrame.fit(ramp[..., :1] / 1000, box, grid)
    seen = frame.crop(ramp)
    u, v = torch.arange(grid[1]) + 0.5, torch.arange(grid[0]) + 0.5
    x = box[0] + (u - frame.padding[0]) / frame.scale - 0.5
    y = box[1] + (v - frame.padding[1]) / frame.scale - 0.5
    rim = 3.5 * max(1, 1 / frame.scale)  # the kernel looks over the box's edge there
    inside_x = (x > box[0] + rim) & (x < box[2] - 1 - rim)
    inside_y = (y > box[1] + rim) & (y < box[3] - 1 - rim)
    assert int(inside_x.sum()) > 20 and int(inside_y.sum()) > 20
    assert (seen[grid[0] // 2, inside_x, 0] - x[inside_x]).abs().max() < 0.02 / min(1, frame.scale)
    assert (seen[inside_y, grid[1] // 2, 1] - y[inside_y]).abs().max() < 0.02 / min(1, frame.scale)
    back = frame.undo(seen)
    assert back.shape == (*frame.box_size, 2)
    own = ramp[box[1] : box[3], box[0] : box[2]]
    edge = round(2 * rim) + 1
    off = (back - own)[edge:-edge, edge:-edge]
    assert off.mean((0, 1)).abs().max() < 0.005  # no shift
    assert off.abs().max() < 0.03 / min(1, frame.scale)  # a straight line has the kernel's ripple, in px of the coarser side


def test_a_point_comes_back_where_it_was():
    photo = torch.full((120, 160, 1), 0.5)
    photo[70, 90], photo[12, 22] = 1, 0  # the black one only widens the range, so that the kernel's overshoot is not cut
    y, x = torch.meshgrid(torch.arange(100.0), torch.arange(120.0), indexing="ij")
    for grid in ((224, 256), (64, 80), (100, 120)):
        frame = PhotoFrame.fit(photo, (20, 10, 140, 110), grid)
        back = frame.undo(frame.crop(photo))[..., 0] - 0.5
        assert divmod(int(back.argmax()), back.shape[1]) == (60, 70)
        near = back * ((y - 60).abs() < 15) * ((x - 70).abs() < 15)
        assert abs(float((near * x).sum() / near.sum()) - 70) < 0.05 and abs(float((near * y).sum() / near.sum()) - 60) < 0.05


def test_at_scale_one_every_value_stays_bit_for_bit():
    photo = _photo(70, 90, 4)
    frame = PhotoFrame.fit(photo, (11, 7, 59, 39), (48, 48))
    assert frame.scale == 1 and frame.padding == (0, 8, 0, 8)
    seen = frame.crop(photo)
    assert torch.equal(seen[8:40], photo[7:39, 11:59])
    assert torch.equal(seen[0], photo[7, 11:59]) and torch.equal(seen[-1], photo[38, 11:59])  # repeated edges
    assert torch.equal(frame.undo(seen), photo[7:39, 11:59])
    own = PhotoFrame.fit(photo, (11, 7, 59, 39), (32, 48))
    assert torch.equal(own.undo(own.crop(photo)), photo[7:39, 11:59])
    seen = own.crop(photo)
    seen.zero_()
    assert photo.min() >= 0 and float(photo[7:39, 11:59].sum()) > 0  # a copy, never the photo's own memory


def test_no_value_leaves_the_range_of_the_picture():
    photo = (_photo(64, 64) > 0.5).float()
    for grid in ((32, 32), (160, 160)):
        frame = PhotoFrame.fit(photo, (0, 0, 64, 64), grid)
        seen = frame.crop(photo)
        assert seen.min() == 0 and seen.max() == 1 if grid[0] > 64 else seen.min() >= 0 and seen.max() <= 1
        assert frame.undo(seen).min() >= 0 and frame.undo(seen).max() <= 1


def test_a_mark_of_one_pixel_stays_whole_on_a_smaller_grid():
    photo = torch.zeros(600, 900, 3)
    mask = torch.zeros(600, 900)
    mask[301, 402] = 0.75
    frame = PhotoFrame.fit(photo, (0, 0, 900, 600), (100, 150))
    seen = frame.crop_mask(mask)
    assert seen.shape == (100, 150) and float(seen.max()) == 0.75 and seen[50, 67] == 0.75 and int((seen > 0).sum()) == 1
    large = PhotoFrame.fit(photo, (400, 300, 404, 304), (16, 16)).crop_mask(mask)
    assert int((large > 0).sum()) == 16 and torch.equal(large[4:8, 8:12], torch.full((4, 4), 0.75))


def test_every_marked_pixel_lies_under_marked_grid_pixels():
    mask = (torch.rand(211, 307, generator=torch.Generator().manual_seed(1)) > 0.995).float()
    frame = PhotoFrame.fit(mask[..., None], (3, 5, 290, 208), (112, 176))
    seen = frame.crop_mask(mask)
    for y, x in mask[5:208, 3:290].nonzero().tolist():
        u, v = frame.padding[0] + (x + 0.5) * frame.scale, frame.padding[1] + (y + 0.5) * frame.scale
        assert seen[int(v), int(u)] == 1


def test_json_round_trip_and_what_it_refuses():
    photo = _photo(70, 90)
    frame = PhotoFrame.fit(photo, (11, 7, 60, 39), (48, 64))
    assert PhotoFrame.from_json(frame.to_json()) == frame
    good = frame.to_dict()
    assert list(good) == ["size", "box", "grid", "scale", "padding", "fingerprint"]
    bad = {
        "inside": {"box": [11, 7, 91, 39]}, "x0": {"box": [60, 7, 11, 39]}, "whole px": {"box": [11.5, 7, 60, 39]},
        "does not fill": {"scale": 1.0}, "finite": {"scale": float("nan")}, "padding": {"padding": [0, 0]},
        "sizes from": {"grid": [0, 64]}, "fingerprint": {"fingerprint": "abc"}, "needs the keys": {"extra": 1},
        "scale above 0": {"scale": -1.0}, "number": {"size": "large"}, "finite number": {"size": [10**400, 90]},
    }  # fmt: skip
    for words, change in bad.items():
        with pytest.raises(ValueError, match=words):
            PhotoFrame.from_dict(good | change)
    # 49 x 32 px on 64 x 48: 64 / 49 fills the width and leaves the height 6.2 px; either axis alone must be seen to miss
    left, top, right, bottom = frame.padding
    wide, tall = [left + 1, top, right, bottom], [left, top, right, bottom + 1]
    for padding, words in ((wide, r"\+0.000 and \+1.000"), (tall, r"\+1.000 and \+0.000")):
        with pytest.raises(ValueError, match=f"misses by {words} px"):
            PhotoFrame.from_dict(good | {"padding": padding})
    long, deep, twice = frame.to_json().replace("48", "9" * 400), "[" * 100_000, '{"size": [1, 1], "size": [2, 2]}'
    for text in ("", "[", "[1]", "null", json.dumps({"box": [0, 0, 1, 1]}), long, deep, twice, None):
        with pytest.raises(ValueError, match="frame"):
            PhotoFrame.from_json(text)


def test_another_photo_mask_or_size_is_refused():
    photo = _photo(70, 90)
    frame = PhotoFrame.fit(photo, (11, 7, 59, 39), (32, 48))
    frame.check(photo)
    with pytest.raises(ValueError, match="another content"):
        frame.check(1 - photo)
    for act, words in ((frame.check, "picture here"), (frame.crop, "picture here"), (lambda x: frame.crop_mask(x[..., 0]), "mask here")):
        with pytest.raises(ValueError, match=f"height 70 and width 90, but the {words} has height 90 and width 70"):
            act(_photo(90, 70))
    with pytest.raises(ValueError, match="height 16 and width 48, but the frame's grid has height 32 and width 48"):
        frame.undo(_photo(16, 48))


def test_an_enlarged_edit_goes_back_through_its_own_grid():
    ramp = _ramp(100, 120)
    frame = PhotoFrame.fit(ramp[..., :1] / 1000, (10, 10, 110, 90), (64, 80))
    double = frame.on_grid((128, 160))
    assert double.scale == 2 * frame.scale
    back = double.undo(double.crop(ramp))
    assert (back - ramp[10:90, 10:110])[8:-8, 8:-8].abs().max() < 0.02
    padded = PhotoFrame.fit(_ramp(200, 300)[..., :1] / 1000, (40, 20, 240, 140), (64, 96))  # 120 px at 0.48 leave 6.4 px of 64
    assert padded.padding == pytest.approx((0, 3, 0, 3.4)) and padded.on_grid((128, 192)).padding == pytest.approx((0, 6, 0, 6.8))
    with pytest.raises(ValueError, match="another shape"):
        frame.on_grid((128, 128))
