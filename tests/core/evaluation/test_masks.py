# SPDX-License-Identifier: GPL-3.0-or-later
"""The hand-drawn masks and what is measured with them."""

from __future__ import annotations

from statistics import median

import pytest
import torch

from fireedit_core.evaluation import masks
from fireedit_core.evaluation.__main__ import main
from fireedit_core.segmentation.grabcut import GrabCut

pytest.importorskip("cv2", reason="needs OpenCV")
needs_photos = pytest.mark.skipif(masks.find_photo("coffee.png") is None, reason="the photographs of scikit-image are not installed")


@needs_photos
def test_what_is_drawn_lies_in_its_box():
    drawn = masks.load_drawn()
    assert len({one.name for one in drawn}) == len(drawn) >= 14
    for one in drawn:
        rows, columns = one.mask.any(1).nonzero(), one.mask.any(0).nonzero()
        found = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
        assert max(abs(a - b) for a, b in zip(found, one.box, strict=True)) <= 3, one.name


@needs_photos
def test_grabcut_on_some_of_them():
    """Five that are quick and of all sorts; the command measures all (median .85 of 23)."""
    names = ("large coin", "dull coin", "cup", "helmet", "rocket")
    measured = masks.measure([one for one in masks.load_drawn() if one.name in names], GrabCut())
    assert median([one.iou for one in measured]) > 0.75 and min(one.iou for one in measured) > 0.6
    text = masks.report("grabcut", measured, 1.0)
    assert text.splitlines()[-1].startswith("grabcut: median 0.9") and len(text.splitlines()) == 6


def test_iou_by_hand():
    a, b = torch.zeros(4, 4), torch.zeros(4, 4, dtype=torch.bool)
    a[:2], b[1:3] = 1, True
    assert masks.iou(a, b) == pytest.approx(4 / 12)


def test_polygons_and_holes(tmp_path):
    assert masks._fill([[1, 1, 3, 1, 3, 3, 1, 3]], (5, 4)).sum() in (4, 6, 9)
    with pytest.raises(ValueError, match="no hand-drawn masks"):
        masks.load_drawn(tmp_path / "gone.json")
    assert main(["masks", "--drawn", str(tmp_path / "gone.json")]) == 1
