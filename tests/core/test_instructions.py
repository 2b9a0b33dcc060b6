# SPDX-License-Identifier: GPL-3.0-or-later
"""Sentences that ask for several edits, and sentences that only look so."""

from __future__ import annotations

import pytest

from fireedit_core.data import RICH_WORLD, SceneGenerator, Sprites
from fireedit_core.instructions import split_edits


@pytest.mark.parametrize(
    ("text", "edits"),
    [
        ("remove the cat and make the apple red", ["remove the cat", "make the apple red"]),
        ("Remove the cat, then make the apple red.", ["Remove the cat", "make the apple red"]),
        ("remove the cat; the apple should be red", ["remove the cat", "the apple should be red"]),
        ("I don't want the dog. Put a tree there", ["I don't want the dog", "Put a tree there"]),
        ("make it snow, add a moon, and please turn the car blue", ["make it snow", "add a moon", "please turn the car blue"]),
        ("erase the dog and then set the background to brick", ["erase the dog", "set the background to brick"]),
        ("  remove   the cat  ", ["remove the cat"]),
        ("", [""]),
        # one edit each
        ("remove the cat and the dog", ["remove the cat and the dog"]),
        ("add a tree between the car and the house", ["add a tree between the car and the house"]),
        ("make the old, red car bigger", ["make the old, red car bigger"]),
        ("turn this into a black and color photo", ["turn this into a black and color photo"]),
        ("the cat and make-up of the clown", ["the cat and make-up of the clown"]),
        ("if there is a dog then remove it", ["if there is a dog then remove it"]),
    ],
)
def test_sentences(text, edits):
    assert split_edits(text) == edits


@pytest.mark.parametrize("joint", [" and ", ", and ", ", ", "; ", ", then ", " and then ", ". "])
def test_two_edits_of_the_rich_grammar_in_one_sentence(joint):
    generator = SceneGenerator(RICH_WORLD, Sprites.for_world(RICH_WORLD), "validation", masks=False)
    for index in range(60):
        instructions = [turn.instruction for turn in generator.turns(index, 2)]
        assert split_edits(joint.join(instructions)) == instructions
        assert [split_edits(one) for one in instructions] == [[one] for one in instructions]
