# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math

import pytest
import torch

from fireedit_core.blur import gaussian_blur


@pytest.mark.parametrize("sigma", [0.8, 2.0])
def test_a_point_becomes_the_bell_curve_as_far_as_three_deviations(sigma):
    point = torch.zeros(1, 2, 31, 41)
    point[:, 1, 15, 20] = 1
    reach = max(1, round(3 * sigma))
    bell = [math.exp(-(d**2) / (2 * sigma**2)) for d in range(-reach, reach + 1)]
    wanted = torch.zeros(31, 41)
    for i, down in enumerate(bell):
        for j, across in enumerate(bell):
            wanted[15 - reach + i, 20 - reach + j] = down * across / sum(bell) ** 2
    found = gaussian_blur(point, sigma, "constant")
    assert torch.allclose(found[0, 1], wanted, atol=1e-6) and not found[:, 0].any()


def test_what_lies_beyond_the_edge():
    flat = torch.ones(1, 1, 9, 9)
    assert torch.allclose(gaussian_blur(flat, 1.0), flat) and float(gaussian_blur(flat, 1.0, "constant")[0, 0, 0, 0]) < 0.6
