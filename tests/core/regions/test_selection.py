# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters and merging of regions, by hand on four of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fireedit_core.regions import Regions
from fireedit_core.regions.selection import RegionFilter, area_share, box_masks, merge_regions, parse_indices
from fireedit_core.thumbnail import fingerprint


def four(masks: bool = False) -> Regions:
    boxes = torch.tensor([[0, 0, 10, 10], [10, 10, 30, 30], [0, 0, 40, 40], [35, 35, 60, 60]], dtype=torch.float32)
    made = Regions(boxes, torch.tensor([0.9, 0.2, 0.6, 0.6]), ("cat", "Dog", "cat", "bird"), (40, 40))
    return Regions(made.boxes, made.scores, made.labels, made.image_size, box_masks(made)) if masks else made


def kept(**options) -> list[str]:
    stays, rest = RegionFilter(**options).split(four())
    assert len(stays) + len(rest) == 4
    return [f"{label} {score:.1f}" for label, score in zip(stays.labels, stays.scores.tolist(), strict=True)]


def test_each_bound_and_all_together():
    assert kept() == ["cat 0.9", "Dog 0.2", "cat 0.6", "bird 0.6"]
    assert kept(labels=("CAT",)) == ["cat 0.9", "cat 0.6"] and kept(labels=("dog", " bird ")) == ["Dog 0.2", "bird 0.6"]
    assert kept(least_score=0.6) == ["cat 0.9", "cat 0.6", "bird 0.6"] and kept(most_score=0.5) == ["Dog 0.2"]
    assert kept(least_area=0.25) == ["Dog 0.2", "cat 0.6"] and kept(most_area=0.1) == ["cat 0.9", "bird 0.6"]
    assert kept(indices=(2, 0)) == ["cat 0.9", "cat 0.6"] and kept(indices=(-1,)) == ["bird 0.6"] and kept(indices=()) == []
    assert kept(top=2) == ["cat 0.9", "cat 0.6"]  # of equal scores the first
    assert kept(top=2, labels=("dog", "bird")) == ["Dog 0.2", "bird 0.6"] and kept(top=9) == kept()
    assert kept(labels=("cat",), most_area=0.5, top=1) == ["cat 0.9"] and kept(labels=("fish",)) == []
    with pytest.raises(ValueError, match="no region 4: this picture has 4"):
        kept(indices=(4,))


def test_nothing_set_keeps_scores_of_any_kind():
    """Percent and logits, as other packs give them."""
    odd = four().with_scores([95.0, -2.5, 1.5, 0.5])
    assert [len(one) for one in RegionFilter().split(odd)] == [4, 0]
    assert RegionFilter(least_score=0.0).split(odd)[1].labels == ("Dog",) and len(RegionFilter(most_score=1.0).split(odd)[0]) == 2


def test_an_empty_record_stays_empty():
    none = Regions.empty((8, 9))
    assert [len(x) for x in RegionFilter(labels=("cat",), top=3).split(none)] == [0, 0]
    with pytest.raises(ValueError, match="has 0"):
        RegionFilter(indices=(0,)).split(none)


def test_area_counts_only_inside_the_picture():
    assert area_share(four()).tolist() == pytest.approx([100 / 1600, 400 / 1600, 1, 25 / 1600])


def test_numbers_are_read_as_an_artist_writes_them():
    assert parse_indices("0, 2, 5-7") == (0, 2, 5, 6, 7) and parse_indices("3;1 3") == (3, 1) and parse_indices("-1") == (-1,)
    assert parse_indices("  ") is None and parse_indices("0，2、5-6") == (0, 2, 5, 6)
    for text, said in (("one", "is none"), ("7-5", "write 5-7"), ("1.5", "is none")):
        with pytest.raises(ValueError, match=said):
            parse_indices(text)


def test_merging_keeps_all_or_the_better_of_two():
    other = Regions(torch.tensor([[1.0, 1, 10, 10]]), torch.tensor([0.95]), ("kitten",), (40, 40))
    assert merge_regions([four(), other]).labels == ("kitten", "cat", "cat", "bird", "Dog")
    assert merge_regions([four(), other], 0.5).labels == ("kitten", "cat", "bird", "Dog")
    assert merge_regions([four(), other]).masks is None
    mixed = merge_regions([other, four(masks=True)])
    assert mixed.masks.shape == (5, 40, 40) and mixed.masks[0].sum() == 81 and mixed.masks[1].sum() == 100
    assert mixed.boxed == (True, False, False, False, False) == merge_regions([mixed]).boxed
    # the surer one is only a box: it stays, with the outline of the one that goes
    cut = four(masks=True)
    fewer = merge_regions([other, cut], 0.5)
    assert fewer.labels == merge_regions([four(), other], 0.5).labels and fewer.scores[0] == other.scores[0]
    assert not any(fewer.boxed) and torch.equal(fewer.masks[0], cut.masks[cut.labels.index("cat")])
    assert merge_regions([other.select([]), cut], 0.5).boxed == (False,) * 4
    with pytest.raises(ValueError, match="height 40"):
        merge_regions([four(), Regions.empty((40, 41))])
    with pytest.raises(ValueError, match="no regions to merge"):
        merge_regions([])


def test_merged_regions_know_their_picture_and_are_of_one():
    ramp = torch.linspace(0, 1, 40).expand(3, 40, 40)
    one, other = (replace(four(), picture=fingerprint(picture)) for picture in (0.3 * ramp, 1 - 0.3 * ramp))
    for known in ([one, four()], [four(), one], [one, one]):
        assert merge_regions(known).picture == merge_regions(known, 0.5).picture == one.picture
    assert merge_regions([four(), four()]).picture == ""
    with pytest.raises(ValueError, match="found on different pictures"):
        merge_regions([four(), one, other])


def test_shares_and_masks_of_a_picture_that_is_no_square():
    one = Regions(torch.tensor([[10.0, 2, 30, 7], [-5, -5, 5, 4]]), torch.ones(2), ("a", "b"), (10, 40))
    assert area_share(one).tolist() == pytest.approx([20 * 5 / 400, 5 * 4 / 400])
    masks = box_masks(one)
    wanted = torch.zeros(2, 10, 40)
    wanted[0, 2:7, 10:30] = wanted[1, :4, :5] = 1
    assert torch.equal(masks, wanted)
