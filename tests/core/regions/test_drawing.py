# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pytest
import torch

from fireedit_core.regions.drawing import draw_heat_map, draw_regions
from fireedit_core.regions.record import Regions

BOXES = torch.tensor([[20.0, 30.0, 60.0, 70.0], [64.0, 0.0, 128.0, 40.0]])
REGIONS = Regions(BOXES, torch.tensor([1.0, 0.2]), ("cat", ""), (96, 128))


def test_small_pictures_are_enlarged_and_drawing_is_deterministic():
    image = torch.full((96, 128, 3), 0.5)
    first, second = draw_regions(image, REGIONS), draw_regions(image[None], REGIONS)
    assert first.shape == (384, 512, 3) and first.dtype == np.uint8 and np.array_equal(first, second)
    assert np.array_equal(first, draw_regions(image.permute(2, 0, 1), REGIONS))
    plain = draw_regions(image, Regions.empty((96, 128)), min_side=0)
    assert plain.shape == (96, 128, 3) and (plain == plain[0, 0]).all()
    assert tuple(first[160, 80]) == (255, 222, 70)  # the left edge of the first box, in the colour of score 1
    assert (first[250, 100:200] == plain[0, 0]).all()  # inside a box the picture stays as it is


def test_labels_and_tint():
    image = torch.rand(96, 128, 3, generator=torch.Generator().manual_seed(0))
    bare = draw_regions(image, REGIONS, labels=False, scores=False)
    assert not np.array_equal(bare, draw_regions(image, REGIONS))
    mask = torch.zeros(1, 48, 64)
    mask[:, 20:40, 10:30] = 1
    tinted = draw_regions(image, Regions.empty((96, 128)), mask, min_side=0).astype(int)
    plain = draw_regions(image, Regions.empty((96, 128)), min_side=0).astype(int)
    assert np.array_equal(tinted[:30], plain[:30]) and np.abs(tinted[50:70, 30:50] - plain[50:70, 30:50]).mean() > 30


def test_wrong_input():
    with pytest.raises(ValueError, match="height 96"):
        draw_regions(torch.rand(128, 96, 3), REGIONS)
    with pytest.raises(ValueError, match="one picture"):
        draw_regions(torch.rand(2, 96, 128, 3), REGIONS)
    with pytest.raises(ValueError, match="one mask"):
        draw_regions(torch.rand(96, 128, 3), REGIONS, torch.rand(4))


def test_heat_map():
    image = torch.rand(30, 40, 3, generator=torch.Generator().manual_seed(0))
    heat = torch.zeros(30, 40)
    heat[10:20, 10:30] = 1
    heat[25:, :5] = 0.5
    drawn = draw_heat_map(image, heat, 1.0, min_side=0)
    assert drawn.shape == (30, 44, 3) and drawn.dtype == np.uint8
    assert tuple(drawn[15, 20]) == (255, 222, 70) and tuple(drawn[0, 0]) == (58, 96, 170)
    assert np.abs(drawn[27, 2].astype(int) - (214, 98, 58)).max() < 4
    assert tuple(drawn[-1, 40]) == (58, 96, 170)  # the foot of the scale
    half, bare = draw_heat_map(image, heat, 0.5, min_side=0), draw_heat_map(image, heat, 0.0, min_side=0)
    assert np.abs(half[:, :40].astype(int) - (drawn[:, :40].astype(int) + bare[:, :40]) / 2).max() <= 1
    assert np.ptp(bare[:, :40].astype(int), axis=2).max() == 0  # grey
    assert draw_heat_map(image, heat[None], min_side=100).shape[0] == 90
    assert np.array_equal(draw_heat_map(image, torch.ones(6, 8), 1.0, 0)[:, :40], np.full((30, 40, 3), (255, 222, 70)))
    with pytest.raises(ValueError, match="draw_heat_map"):
        draw_heat_map(image, torch.rand(2, 30, 40))
