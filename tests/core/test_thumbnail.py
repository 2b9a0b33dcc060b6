# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
import torch

from fireedit_core.thumbnail import same_picture, thumbnail


def test_a_thumbnail_is_the_mean_of_sixteen_by_sixteen_cells():
    picture = torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    found = thumbnail(picture)
    assert found.shape == (2, 3, 16, 16)
    assert torch.allclose(found[1, 2, 3, 5], picture[1, 2, 6:8, 20:24].mean())


@pytest.mark.parametrize(("shift", "same"), [(0.03, True), (0.05, False)])
def test_slight_corrections_are_the_same_picture_and_other_pictures_are_not(shift, same):
    picture = torch.full((2, 3, 16, 16), 0.5)
    other = picture.clone()
    other[1] += shift  # one row of two is enough
    assert same_picture(picture, other) is same and same_picture(picture, picture)
    assert same_picture(None, other) and same_picture(picture, other[:1])
