# SPDX-License-Identifier: GPL-3.0-or-later
"""Outlines of masks are the masks, in a few kilobytes."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops, ImageDraw

from fireedit_core.regions import Regions
from fireedit_core.regions.outlines import outlines

pytest.importorskip("cv2", reason="needs OpenCV")


def regions(*masks):
    boxes = torch.tensor([[0.0, 0, mask.shape[1], mask.shape[0]] for mask in masks])
    return Regions(boxes, torch.ones(len(masks)), ("thing",) * len(masks), tuple(masks[0].shape), torch.stack(masks))


def filled(path, size):
    """A path as the browser fills it by the even-odd rule."""
    image = Image.new("1", size[::-1])
    for part in re.findall(r"M([^MZ]*)Z", path):
        one = Image.new("1", size[::-1])
        ImageDraw.Draw(one).polygon([tuple(map(int, pair.split(","))) for pair in part.split(" ")], fill=1)
        image = ImageChops.logical_xor(image, one)
    return torch.from_numpy(np.array(image))


def likeness(a, b):
    return float((a & b).sum()) / float((a | b).sum())


def blob(height, width, seed):
    noise = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    return (torch.nn.functional.interpolate(noise, (height, width), mode="bicubic")[0, 0] > 0.45).float()


@pytest.mark.parametrize("size", ((300, 400), (1500, 2500)))
def test_an_outline_is_its_mask(size):
    ring = torch.zeros(size)
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in size), indexing="ij")
    ring[((x**2 + y**2) < 0.6) & ((x**2 + y**2) > 0.2)] = 1
    for mask in (ring, blob(*size, 0), blob(*size, 1)):
        (path,) = outlines(regions(mask))
        assert likeness(filled(path, size), mask > 0.5) > 0.93 and len(path) < 2500


def test_eighty_masks_are_less_than_a_hundred_kilobytes():
    made = outlines(regions(*(blob(500, 700, seed) for seed in range(80))))
    assert len(made) == 80 and sum(map(len, made)) < 100_000
    assert sum(likeness(filled(path, (500, 700)), blob(500, 700, seed) > 0.5) for seed, path in enumerate(made)) / 80 > 0.88


def test_odd_masks():
    none, dot, line, full, specks = (torch.zeros(40, 60) for _ in range(5))
    dot[7, 9], line[3, 5:50], full[:] = 1, 1, 1
    specks[::2, ::2] = 1
    paths = outlines(regions(none, dot, line, full, specks))
    assert paths[0] == "" and all(path.startswith("M") and path.endswith("Z") for path in paths[1:]) and max(map(len, paths)) < 3000
    assert likeness(filled(paths[3], (40, 60)), full > 0.5) > 0.99
    numbers = [list(map(int, re.findall(r"-?\d+", path))) for path in paths[1:]]
    assert min(map(min, numbers)) >= 0 and max(map(max, numbers)) <= 60
    assert filled(paths[1], (40, 60))[7, 9] and filled(paths[2], (40, 60))[3, 20]
    assert outlines(Regions.empty((4, 4))) == [] and outlines(Regions.whole_image((4, 4))) == []
