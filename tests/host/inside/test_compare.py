# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEdit Compare by hand on flat pictures."""

from __future__ import annotations

import pytest
import torch

from tests.host.inside.pack import nodes  # first: it makes the pack importable

from fireedit_pack.nodes.errors import FireEditNodeError  # isort: skip


def compare(before, after, amplify=4.0, mask=None):
    return nodes.FireEditCompare.execute(before, after, amplify, mask).args


def test_change_inside_and_outside():
    before = torch.full((1, 8, 8, 3), 0.5)
    after = before.clone()
    after[:, :4] += 0.1
    mask = torch.zeros(1, 8, 8)
    mask[:, :4] = 1
    change, text = compare(before, after, 4.0, mask)
    assert torch.allclose(change[:, :4], torch.tensor(0.4)) and not change[:, 4:].any()
    assert text == "mean change 0.1000 inside the mask (50.0%), 0.0000 outside; 50.0% of the pixels differ"
    assert compare(before, before)[1] == "mean change 0.0000; 0.0% of the pixels differ"
    assert float(compare(before, after, 100.0)[0].max()) == 1.0
    # one step of 8 bits in one channel differs, a third of one does not
    after = before.clone()
    after[:, :2, :, 1] += 1 / 255
    after[:, 6:] += 1 / 800
    assert compare(before, after)[1].endswith("; 25.0% of the pixels differ")


def test_each_picture_is_measured_inside_its_own_mask():
    before = torch.full((2, 8, 8, 3), 0.5)
    after = before.clone()
    after[0, :4] += 0.1
    after[1, 4:] += 0.2
    mask = torch.zeros(2, 8, 8)
    mask[0, :4], mask[1, 4:] = 1, 1
    lines = compare(before, after, mask=mask)[1].splitlines()
    assert [line.split(";")[0] for line in lines] == [
        f"picture {i}: mean change {change} inside the mask (50.0%), 0.0000 outside" for i, change in ((1, "0.1000"), (2, "0.2000"))
    ]


def test_one_picture_with_many_and_what_does_not_fit():
    one, many = torch.zeros(1, 8, 8, 3), torch.rand(3, 8, 8, 3)
    change, text = compare(one, many, 1.0)
    assert torch.allclose(change, many) and len(text.splitlines()) == 3 and text.startswith("picture 1: ")
    with pytest.raises(FireEditNodeError, match="before is 8 x 8 and after 9 x 8"):
        compare(one, torch.zeros(1, 8, 9, 3))
    with pytest.raises(FireEditNodeError, match="before has 2 pictures and after 3 pictures"):
        compare(many[:2], many)


def test_a_soft_mask_is_in_or_out_at_its_half():
    before = torch.full((1, 8, 8, 3), 0.5)
    after, mask = before.clone(), torch.full((1, 8, 8), 0.4)
    after[:, :4] += 0.1
    mask[:, :4] = 0.6
    assert compare(before, after, 4.0, mask)[1].startswith("mean change 0.1000 inside the mask (50.0%), 0.0000 outside")
