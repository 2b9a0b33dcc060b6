# SPDX-License-Identifier: GPL-3.0-or-later
"""Rich phrases mean one object, the world of v1 says them, and turns follow each other."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from fireedit_core.data import RICH_WORLD, WORLD, SceneGenerator, Sprites, vocabulary
from fireedit_core.data.referring import RICH_WAYS, plural, rich_phrases


@dataclass
class Thing:
    noun: str
    x: float
    y: float = 60.0
    colour: str = ""
    size: int = 30


ROW = [Thing("apple", 20), Thing("apple", 60), Thing("apple", 100), Thing("car", 60, 92)]


@pytest.mark.parametrize(
    ("things", "target", "way", "phrase"),
    [
        (ROW, 0, "ordinal", "the first apple from the left"),
        (ROW, 0, "ordinal", "the third apple from the right"),
        (ROW, 1, "ordinal", "the middle apple"),
        (ROW, 2, "most", "the rightmost apple"),
        (ROW, 1, "next", "the apple next to the car"),
        ([Thing("apple", 20), Thing("car", 60), Thing("apple", 100)], 0, "relation", "the apple to the left of the car"),
        ([Thing("apple", 20, 20), Thing("car", 20, 60), Thing("apple", 30, 100)], 2, "relation", "the apple below the car"),
        ([Thing("apple", 60), Thing("car", 20), Thing("dog", 100)], 0, "between", "the apple between the car and the dog"),
        ([Thing("apple", 60), Thing("bus", 20), Thing("bus", 100)], 0, "between", "the apple between the two buses"),
        ([Thing("apple", 20, colour="blue"), Thing("apple", 90, colour="red")], 0, "not colour", "the apple that is not red"),
        ([Thing("apple", 10), Thing("apple", 90), Thing("car", 60)], 0, "not next", "the apple that is not next to the car"),
    ],
)
def test_phrases_by_hand(things, target, way, phrase):
    found = rich_phrases(things, target)
    assert phrase in found[way] and set(found) <= set(RICH_WAYS)
    others = [rich_phrases(things, i) for i in range(len(things)) if i != target]
    assert not any(phrase in phrases for other in others for phrases in other.values())


@pytest.mark.parametrize(
    ("things", "way"),
    [
        ([Thing("apple", 20), Thing("apple", 60)], "ordinal"),  # of two, one says left and right
        ([Thing("apple", 20), Thing("apple", 25), Thing("apple", 90)], "ordinal"),  # which of the first two is first?
        ([Thing("apple", 20), Thing("car", 50), Thing("apple", 85)], "next"),  # both are
        ([Thing("apple", 20, 20), Thing("apple", 30, 90), Thing("car", 90)], "relation"),  # both are to its left
        ([Thing("apple", 60), Thing("apple", 64, 75), Thing("car", 20), Thing("dog", 100)], "between"),  # both are
        ([Thing("apple", 20, colour="blue"), Thing("apple", 90)], "not colour"),  # a native apple may look red or blue
        ([Thing("apple", 20), Thing("car", 50), Thing("car", 90)], "next"),  # which car?
    ],
)
def test_what_is_not_clear_is_not_said(things, way):
    assert way not in rich_phrases(things, 0)


def test_plurals():
    assert [plural(n) for n in ("apple", "bus", "butterfly", "strawberry", "fish", "cactus")] == [
        "apples", "buses", "butterflies", "strawberries", "fish", "cactuses",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def rich(sprites: Sprites) -> SceneGenerator:
    return SceneGenerator(RICH_WORLD, sprites, "train", seed=1, masks=False)


def test_the_world_of_v1_says_them_all(rich):
    pairs = [rich.sample(i) for i in range(500)]
    used = Counter(pair.meta["referred_by"] for pair in pairs)
    assert all(used[way] for way in RICH_WAYS) and sum(used[way] for way in RICH_WAYS) > 100
    known = set(vocabulary(RICH_WORLD))
    assert {word for pair in pairs for word in pair.instruction.split()} <= known
    assert max(len(pair.instruction.split()) for pair in pairs) <= 30  # the small model reads 32
    triplets = [p for p in pairs if max(Counter(p.labels).values()) == 3]
    assert len(triplets) > 20


def test_the_first_world_is_what_it_was():
    assert WORLD.fingerprint() == "4380989a0439" and len(vocabulary(WORLD)) == 100
    assert RICH_WORLD.fingerprint() != WORLD.fingerprint() and "rich_share" in RICH_WORLD.to_dict()
    assert type(WORLD).from_dict(RICH_WORLD.to_dict()) == RICH_WORLD


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_turns_follow_each_other(sprites, split):
    generator = SceneGenerator(RICH_WORLD, sprites, split, seed=1, masks=False)
    kinds = Counter()
    for index in range(40):
        turns = generator.turns(index, 4)
        kinds.update(t.edit_type for t in turns[1:])
        assert len({t.id for t in turns}) == 4 and turns[0].id == generator.sample(index).id
        for before, after in zip(turns, turns[1:]):
            assert np.array_equal(before.target, after.source)
            assert np.array_equal(after.source[~after.mask], after.target[~after.mask])
            assert not np.array_equal(after.source, after.target)
            if after.target_index >= 0 and split == "heldout":
                assert after.labels[after.target_index] in RICH_WORLD.classes
    assert len(kinds) == 6
