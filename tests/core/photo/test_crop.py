# SPDX-License-Identifier: GPL-3.0-or-later
"""Where photographs are cut: parts, grids, batches, and what is left of a mark on latent cells."""

import pytest
import torch

from fireedit_core.photo.crop import CropSettings, frames_for, mask_on_cells


def _frames(size, *boxes, **settings):
    masks = []
    for x0, y0, x1, y1 in boxes:
        mask = torch.zeros(size)
        mask[y0:y1, x0:x1] = 1
        masks.append(mask)
    return frames_for([torch.rand(*size, 3)] * len(boxes), masks, CropSettings(**settings))


def test_a_thing_with_its_surroundings_fills_the_grid():
    (frame,) = _frames((2000, 3000), (1000, 800, 1400, 1200))
    assert frame.grid == (1024, 1024)
    assert frame.box == (800, 600, 1600, 1400) and abs(frame.scale - 1.28) < 1e-9 and max(frame.padding) == 0
    (frame,) = _frames((2000, 3000), (1000, 800, 1400, 1200), megapixels=0.25, multiple=64)
    assert frame.grid == (512, 512) and frame.box == (800, 600, 1600, 1400)


def test_the_surroundings_go_by_the_mean_side():
    """400 x 200 px with half of 300 px on every side are 700 x 500; a grid of that shape and 1024 x 1024 px is 1216 x 864."""
    (frame,) = _frames((2000, 3000), (1000, 800, 1400, 1000))
    assert frame.grid == (864, 1216) and frame.scale == pytest.approx(864 / 500)
    assert frame.box == (849, 650, 1552, 1150)  # three columns more, to fill the grid


def test_the_whole_photo_above_a_share_of_it():
    size, box = (1000, 1000), (300, 300, 600, 600)  # 600 px with its context: 36 %
    assert not _frames(size, box)[0].whole and _frames(size, (325, 325, 675, 675))[0].whole  # 49 %, above the 40 of the default
    assert _frames(size, box, whole_above=0.35)[0].whole and _frames(size, box, whole_above=0)[0].whole
    assert not _frames(size, (100, 100, 900, 900), whole_above=1.0, context=0)[0].whole
    assert _frames(size, (0, 0, 1000, 1000))[0].whole


@pytest.mark.parametrize("size,box", [
    ((700, 900), (0, 0, 40, 30)), ((700, 900), (899, 0, 900, 700)), ((700, 900), (0, 350, 900, 351)), ((700, 900), (450, 350, 451, 351)),
    ((64, 48), (10, 10, 20, 20)), ((1, 1), (0, 0, 1, 1)), ((3, 4000), (1000, 0, 1100, 3)), ((4000, 3), (0, 10, 3, 20)),
])  # fmt: skip
@pytest.mark.parametrize("multiple", [8, 16, 32])
def test_any_part_keeps_its_shape_and_its_mark(size, box, multiple):
    mask = torch.zeros(size)
    mask[box[1] : box[3], box[0] : box[2]] = 1
    photo = torch.rand(*size, 3)
    (frame,) = frames_for([photo], [mask], CropSettings(0.2, multiple))
    x0, y0, x1, y1 = frame.box
    assert x0 <= box[0] and y0 <= box[1] and x1 >= box[2] and y1 >= box[3]
    assert not frame.grid[0] % multiple and not frame.grid[1] % multiple
    assert frame.scale <= 16 * multiple  # 4 where the photo is larger than 2 x 2 steps
    seen = frame.crop(photo)
    assert seen.shape == (*frame.grid, 3) and bool(torch.isfinite(seen).all())
    assert frame.crop_mask(mask).max() == 1 and frame.undo(seen).shape == (y1 - y0, x1 - x0, 3)


def test_a_small_mark_takes_in_more_instead_of_being_shown_larger_than_four_times():
    (frame,) = _frames((2000, 3000), (1000, 800, 1004, 804))
    assert frame.scale == 4 and frame.box_size == (256, 256)
    (frame,) = _frames((60, 80), (10, 10, 20, 20))  # nothing more is there
    assert frame.grid == (240, 320) and frame.scale == 4 and frame.whole


def test_a_part_is_never_shown_at_the_size_of_its_photo():
    """A mask of either size can be told by it. 1024 x 1024 px of a square thing would be the photo's own size."""
    size, box = (1024, 1024), (560, 140, 800, 380)
    (part,) = _frames(size, box)
    assert not part.whole and part.grid == (1024, 1040) and part.crop_mask(torch.ones(size)).shape == part.grid
    for x in range(0, 900, 90):
        for wide, high in ((90, 90), (100, 110), (240, 200)):
            (frame,) = _frames(size, (x, 40, min(x + wide, 1024), 40 + high), multiple=64)
            assert frame.whole or frame.grid != size
    (whole,) = _frames(size, (0, 0, 1024, 1024))
    assert whole.whole and whole.grid == size and whole.scale == 1  # either reading is the same
    several = [(1024, 1024), (1024, 1040), (1040, 1024), (1040, 1040)]  # each with a part of its own
    masks = [torch.zeros(one) for one in several]
    for mask in masks:
        mask[300:500, 300:500] = 1
    assert frames_for([torch.rand(*one, 3) for one in several], masks)[0].grid == (1024, 1056)


def test_a_batch_has_one_grid_and_each_its_own_scale():
    frames = _frames((1500, 2000), (100, 100, 400, 200), (900, 600, 1000, 900), (1880, 1400, 2000, 1500), context=0.2)
    assert len({frame.grid for frame in frames}) == 1 and len({frame.scale for frame in frames}) == 3
    for frame in frames:
        assert max(frame.padding) < 2 * frame.scale  # rounding to whole px, since the photo has enough around it
    mixed = frames_for([torch.rand(90, 120, 3), torch.rand(300, 200, 3)], [torch.ones(90, 120), torch.ones(300, 200)])
    assert mixed[0].grid == mixed[1].grid and all(frame.whole for frame in mixed)


def test_grid_of_the_whole_photo_without_a_mark():
    (frame,) = frames_for([torch.rand(300, 400, 3)], [torch.zeros(300, 400)], CropSettings(0.12))
    assert frame.whole and frame.grid == (304, 416) and frame.scale == 304 / 300 and frame.padding[0] == 5


def test_a_cell_counts_as_far_as_any_of_its_pixels_does():
    mask = torch.zeros(2, 32, 48)
    mask[0, 9, 17], mask[1, 31, 47] = 1.0, 0.25
    cells = mask_on_cells(mask, (4, 6))
    assert cells.shape == (2, 1, 4, 6) and cells[0, 0, 1, 2] == 1 and cells[1, 0, 3, 5] == 0.25 and cells.sum() == 1.25


def test_settings_that_leave_nothing_are_refused():
    with pytest.raises(ValueError, match="0.0005 megapixels leave less than 2 x 2 steps of 16 px"):
        CropSettings(0.0005)
    for bad in ({"megapixels": -1}, {"context": float("nan")}, {"whole_above": 2}, {"multiple": 0}):
        with pytest.raises(ValueError, match="a crop needs"):
            CropSettings(**bad)
