# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pickle
from collections import Counter, defaultdict

import numpy as np
import pytest

from fireedit_core.data.formats import BrokenRow, DatasetError, Reader
from fireedit_core.data.mixture import BLOCK, TRIES, Mixture, Source, permuted, smartedit_shares
from fireedit_core.data.sample import EditSample

DRAWS = 20000
PIXEL = np.zeros((1, 1, 3), np.uint8)


class Fake(Reader):
    """Rows that are their own number."""

    def __init__(self, size, name="fake", broken=()):
        super().__init__()
        self.size, self.name, self.broken, self.reads = size, name, set(broken), []

    def __len__(self):
        return self.size

    def read(self, index):
        self.reads.append(index)
        if index in self.broken:
            raise BrokenRow(f"no target: row {index}")
        return EditSample(id=f"{self.name} {index}", source=PIXEL, instruction="x", dataset=self.name)


class Chooser(Fake):
    epoch = None

    def choose(self, epoch):
        self.epoch = epoch

    def read(self, index):
        sample = super().read(index)
        sample.meta["epoch"] = self.epoch
        return sample


def source(name, size, kind, **options):
    return Source(name, Fake(size, name, **options), kind)


FULL = {
    "magicbrush": (40, "edit"), "instructpix2pix": (260, "edit"), "coco": (70, "segmentation"), "refcoco": (30, "segmentation"),
    "llava": (100, "conversation"), "reasonedit": (20, "reasoning"), "reasonseg": (5, "reasoning"),
}  # fmt: skip


def of(*names):
    return [source(name, *FULL[name]) for name in names]


def full_shares():
    rest = 0.85 * 0.9
    edit, segmentation = rest * 300 / 500, rest * 100 / 500
    return {
        "magicbrush": edit / 2, "instructpix2pix": edit / 2, "coco": segmentation * 0.7, "refcoco": segmentation * 0.3,
        "llava": rest * 100 / 500, "reasonedit": 0.15, "reasonseg": 0.85 * 0.1,
    }  # fmt: skip


def counted(mixture, draws=DRAWS):
    return Counter(mixture.where(i).source.name for i in range(draws))


def test_shares_are_those_of_smartedit():
    mixture = Mixture(of(*FULL), seed=1)
    assert mixture.shares == pytest.approx(full_shares()) and list(mixture.shares) == list(FULL)
    found = counted(mixture)
    for name, share in full_shares().items():
        assert abs(found[name] - DRAWS * share) < 3 * np.sqrt(DRAWS * share * (1 - share)), name


def test_draws_do_not_depend_on_the_draw_before():
    """Draws by turns would keep the shares as well, but a batch would always have the same sources."""
    names = [Mixture(of("magicbrush", "instructpix2pix"), seed=2).where(i).source.name for i in range(4001)]
    same = sum(a == b for a, b in zip(names, names[1:]))
    assert abs(same - 2000) < 3 * np.sqrt(4000 * 0.25)
    mixture = Mixture(of("magicbrush", "instructpix2pix"), seed=2)
    blocks = [np.array([mixture.where(BLOCK * k + i).source.name for i in range(1000)]) for k in range(2)]
    for shift in range(9):  # a generator that is entered too early repeats the block before
        assert abs((blocks[0][shift:] == blocks[1][: 1000 - shift]).sum() - (1000 - shift) / 2) < 4 * np.sqrt(250), shift


@pytest.mark.parametrize(
    ("names", "shares"),
    [
        (["llava"], {"llava": 1}),
        (["reasonedit"], {"reasonedit": 1}),
        (["magicbrush", "reasonedit"], {"magicbrush": 0.85, "reasonedit": 0.15}),
        (["magicbrush", "reasonseg"], {"magicbrush": 0.9, "reasonseg": 0.1}),
        (["reasonedit", "reasonseg"], {"reasonedit": 0.15 / 0.235, "reasonseg": 0.085 / 0.235}),
        (["magicbrush", "llava"], {"magicbrush": 40 / 140, "llava": 100 / 140}),
        (["coco", "refcoco", "llava"], {"coco": 0.35, "refcoco": 0.15, "llava": 0.5}),
        # by size against segmentation, equal among themselves
        (["magicbrush", "instructpix2pix", "coco", "refcoco"],
         {"magicbrush": 0.375, "instructpix2pix": 0.375, "coco": 0.175, "refcoco": 0.075}),
    ],
)  # fmt: skip
def test_what_is_missing_leaves_its_share_to_the_others(names, shares):
    assert smartedit_shares(of(*names)) == pytest.approx(shares)


def test_reasonseg_is_known_by_its_own_or_its_readers_name():
    magicbrush = source("magicbrush", 40, "edit")
    for seg in (
        source("ReasonSeg train", 5, "reasoning"), Source("hard questions", Fake(5, "reasonseg"), "reasoning"),
        source("reasonseg", 5, "segmentation"),
    ):  # fmt: skip
        assert smartedit_shares([magicbrush, seg])[seg.name] == pytest.approx(0.1)
    assert smartedit_shares([magicbrush, source("other", 5, "reasoning")])["other"] == pytest.approx(0.15)


def test_weights_by_name():
    mixture = Mixture(of("magicbrush", "coco", "llava"), seed=3, weights={"llava": 1, "coco": 0, "magicbrush": 3})
    assert mixture.shares == {"magicbrush": 0.75, "coco": 0, "llava": 0.25}
    found = counted(mixture)
    assert found["coco"] == 0 and abs(found["llava"] - DRAWS / 4) < 3 * np.sqrt(DRAWS * 3 / 16)


@pytest.mark.parametrize("weights", [{}, {"magicbrush": 1, "coco": 1}, {"magicbrush": 1, "coko": 1, "llava": 1}])
def test_weights_name_every_source(weights):
    with pytest.raises(DatasetError, match="the sources are coco, llava, magicbrush"):
        Mixture(of("magicbrush", "coco", "llava"), weights=weights)


@pytest.mark.parametrize("pair", [(-1, 2), (float("nan"), 1), (float("inf"), 1), (0, 0)])
def test_weights_that_are_none(pair):
    with pytest.raises(DatasetError, match="0 or more"):
        Mixture(of("magicbrush", "coco"), weights=dict(zip(("magicbrush", "coco"), pair)))


@pytest.mark.parametrize(
    ("sources", "seed", "message"),
    [
        ([], 0, "at least one"),
        ([source("a", 2, "edit"), source("a", 3, "edit")], 0, "one name"),
        ([source("a", 2, "edits")], 0, "kind 'edits'"),
        ([source("a", 2, "edit"), source("b", 0, "edit")], 0, "without any rows: b"),
        ([source("a", 2, "edit")], -1, "seed"),
    ],
)
def test_sources_that_are_none(sources, seed, message):
    with pytest.raises(DatasetError, match=message):
        Mixture(sources, seed)


def test_a_resumed_run_goes_on_bit_equal():
    whole = Mixture(of(*FULL), seed=4)
    first = [whole[i].id for i in range(BLOCK - 50, BLOCK + 50)]  # across the border of two blocks
    far = [whole[i].id for i in range(5 * BLOCK, 5 * BLOCK + 50)]
    again = Mixture(of(*FULL), seed=4)
    assert [again[i].id for i in range(5 * BLOCK, 5 * BLOCK + 50)] == far  # starts in the middle
    assert [again[i].id for i in range(BLOCK - 50, BLOCK + 50)] == first  # goes back
    assert [pickle.loads(pickle.dumps(again))[i].id for i in range(BLOCK, BLOCK + 50)] == first[50:]  # a worker's copy
    backwards = Mixture(of(*FULL), seed=4)
    assert [backwards[i].id for i in reversed(range(BLOCK - 50, BLOCK + 50))] == first[::-1]
    other = Mixture(of(*FULL), seed=5)
    assert [other[i].id for i in range(BLOCK - 50, BLOCK + 50)] != first


def test_the_draws_of_a_seed_stay_what_they_are():
    """A run of an older version must be resumed by a newer one: change these numbers only with a note to users."""
    mixture = Mixture(of(*FULL), seed=0)
    found = [mixture[i].id for i in (0, 1, 2, 1000, 100_000)]
    assert found == ["magicbrush 1", "magicbrush 13", "llava 1", "magicbrush 24", "reasonseg 1"]


def test_each_row_comes_once_in_an_epoch():
    mixture = Mixture([source("a", 37, "edit"), source("b", 5, "edit"), source("c", 1, "segmentation")], seed=6)
    order = defaultdict(list)
    for i in range(1500):
        draw = mixture.where(i)
        assert draw.place == len(order[draw.source.name, draw.epoch])  # in the order of the draws
        assert mixture[i].id == f"{draw.source.name} {draw.row}"
        order[draw.source.name, draw.epoch].append(draw.row)
    for name, size in (("a", 37), ("b", 5), ("c", 1)):
        epochs = [rows for (n, _), rows in sorted(order.items()) if n == name]
        assert len(epochs) > 3 and all(sorted(rows) == list(range(size)) for rows in epochs[:-1]), name
        assert len(set(epochs[-1])) == len(epochs[-1])
    assert order["a", 0] != order["a", 1] != order["a", 2] and order["a", 0] != sorted(order["a", 0])


def test_another_source_leaves_the_order_of_the_rows():
    rows = lambda mixture: [d.row for d in map(mixture.where, range(2000)) if d.source.name == "llava"][:100]  # noqa: E731
    assert rows(Mixture(of("llava", "coco"), seed=7)) == rows(Mixture(of("magicbrush", "llava"), seed=7))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 100, 1000])
def test_permutation(size):
    assert sorted(permuted(i, size, "k") for i in range(size)) == list(range(size))


def test_permutation_of_millions_looks_random_and_costs_no_list():
    size = 5_000_000
    rows = np.array([permuted(i, size, "k") for i in range(4000)])
    assert len(set(rows.tolist())) == 4000 and rows.max() < size
    tenths = np.bincount(rows * 10 // size, minlength=10)
    assert ((tenths - 400) ** 2 / 400).sum() < 27.9  # chi squared, 9 degrees of freedom, 0.1 %
    assert abs(np.corrcoef(rows[:-1], rows[1:])[0, 1]) < 0.05
    assert permuted(0, size, "k") != permuted(0, size, "l")


def test_the_epoch_is_told_to_a_reader_that_chooses():
    mixture = Mixture([Source("a", Chooser(10), "edit"), source("b", 10, "edit")], seed=8)
    numbers = [i for i in range(200) if mixture.where(i).source.name == "a"]
    assert {mixture.where(i).epoch for i in numbers} >= {0, 1, 2, 3}
    for i in (*numbers, numbers[0], numbers[-1]):  # and when it goes back
        assert mixture[i].meta["epoch"] == mixture.where(i).epoch


def test_a_broken_row_is_replaced_by_the_next_and_counted(caplog):
    order = [permuted(place, 6, "9 0 a") for place in range(6)]
    assert order == [Mixture([source("a", 6, "edit")], seed=9).where(i).row for i in range(6)]
    broken = {order[1], order[2], order[5]}
    mixture = Mixture([source("a", 6, "edit", broken=broken)], seed=9)
    found = [int(mixture[i].id.split()[1]) for i in range(6)]
    # the row after 1 and 2 is 3; after the last comes the first
    assert found == [order[0], order[3], order[3], order[3], order[4], order[0]]
    assert mixture.skipped == {"a": {"no target": 4}} and caplog.text.count("is replaced by the next") == 4
    assert f"draw 5: a, row {order[5]} is replaced" in caplog.text
    again = Mixture([source("a", 6, "edit", broken=broken)], seed=9)
    assert [int(again[i].id.split()[1]) for i in reversed(range(6))] == found[::-1]


@pytest.mark.parametrize(("size", "tries"), [(3, 3), (10 * TRIES, TRIES)])
def test_a_source_of_broken_rows_only_is_an_error(size, tries):
    reader = Fake(size, broken=range(size))
    mixture = Mixture([Source("a", reader, "edit"), source("b", 4, "edit")], seed=10)
    for i in range(20):
        if mixture.where(i).source.name == "b":
            assert mixture[i].dataset == "b"
        else:
            reader.reads.clear()
            with pytest.raises(DatasetError, match=f"a: {tries} rows in a row are broken"):
                mixture[i]
            assert len(reader.reads) == len(set(reader.reads)) == tries


def test_the_draws_of_processes():
    mixture = Mixture(of(*FULL), seed=11)
    for step in range(3):
        two = [*mixture.indices(step, 4, 0, 2), *mixture.indices(step, 4, 1, 2)]
        assert sorted(two) == list(mixture.indices(step, 8)) == list(range(8 * step, 8 * step + 8))
        three = [i for rank in range(3) for i in mixture.indices(step, 2, rank, 3)]
        assert sorted(three) == list(mixture.indices(step, 6))
    assert {mixture[i].id for i in mixture.indices(2, 3, 1, 2)} == {mixture[i].id for i in (15, 16, 17)}
    for wrong in ((-1, 4, 0, 1), (0, 0, 0, 1), (0, 4, 2, 2), (0, 4, -1, 2)):
        with pytest.raises(ValueError, match="no such part"):
            Mixture.indices(*wrong)


def test_no_draw_before_the_first():
    with pytest.raises(IndexError, match="from 0"):
        Mixture(of("llava"))[-1]
