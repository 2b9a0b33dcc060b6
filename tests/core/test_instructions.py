# SPDX-License-Identifier: GPL-3.0-or-later
"""Sentences that ask for several edits, and sentences that only look so."""

from __future__ import annotations

import pytest

from fireedit_core.data import RICH_WORLD, SceneGenerator, Sprites
from fireedit_core.instructions import has_words, read, split_edits


@pytest.mark.parametrize(
    ("text", "edits"),
    [
        ("remove the cat and make the apple red", ["remove the cat", "make the apple red"]),
        ("Remove the cat, then make the apple red.", ["Remove the cat", "make the apple red"]),
        ("remove the cat; the apple should be red", ["remove the cat", "the apple should be red"]),
        ("I don't want the dog. Put a tree there", ["I don't want the dog", "Put a tree there"]),
        ("make it snow, add a moon, and please turn the car blue", ["make it snow", "add a moon", "turn the car blue"]),
        ("erase the dog and then set the background to brick", ["erase the dog", "set the background to brick"]),
        ("  remove   the cat  ", ["remove the cat"]),
        ("", [""]),
        # words of order, lists, and other joints
        ("first remove the cat, then remove the dog", ["remove the cat", "remove the dog"]),
        ("Firstly, delete the cat. After that, delete the dog", ["delete the cat", "delete the dog"]),
        ("1. remove the cat 2. make the apple red", ["remove the cat", "make the apple red"]),
        ("1) remove the cat, 2) remove the dog", ["remove the cat", "remove the dog"]),
        ("- remove the cat\n- make the apple red", ["remove the cat", "make the apple red"]),
        ("remove the cat & make the apple red", ["remove the cat", "make the apple red"]),
        ("could you please remove the cat", ["remove the cat"]),
        ("enlarge the dog, please!", ["enlarge the dog"]),
        # several objects of one verb
        ("remove the cat and the dog", ["remove the cat", "remove the dog"]),
        ("remove the cat & the dog", ["remove the cat", "remove the dog"]),
        ("remove the cat + the dog", ["remove the cat", "remove the dog"]),
        ("remove the dog and cat", ["remove the dog", "remove the cat"]),
        ("get rid of the left car, the house and my hat", ["get rid of the left car", "get rid of the house", "get rid of my hat"]),
        ("make the cat and the dog red", ["make the cat red", "make the dog red"]),
        ("take away the cat as well as the dog", ["take away the cat", "take away the dog"]),
        # one edit each
        ("remove the apple between the car and the dog", ["remove the apple between the car and the dog"]),
        ("remove the black and white cat", ["remove the black and white cat"]),
        ("remove the salt and pepper shaker", ["remove the salt and pepper shaker"]),
        ("make the background red and blue", ["make the background red and blue"]),
        ("replace the cat with a dog and a bird", ["replace the cat with a dog and a bird"]),
        ("remove everything but the cat", ["remove everything but the cat"]),
        ("remove the 3 apples", ["remove the 3 apples"]),
        ("2 cats: remove the left one", ["2 cats: remove the left one"]),
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


@pytest.mark.parametrize(
    ("text", "edits", "kept"),
    [
        ("don't remove the orange cat, remove the yellow cat", ["remove the yellow cat"], ["don't remove the orange cat"]),
        ("remove the yellow cat, but don't remove the orange cat", ["remove the yellow cat"], ["don't remove the orange cat"]),
        ("Please do not touch the car. Remove the dog.", ["Remove the dog"], ["do not touch the car"]),
        ("remove the cat but not the dog", ["remove the cat"], ["not the dog"]),
        ("keep the dog as it is and remove the cat", ["remove the cat"], ["keep the dog as it is"]),
        ("never remove the cat", [], ["never remove the cat"]),
        # "i do not want" asks for an edit
        ("i do not want the dog", ["i do not want the dog"], []),
        ("I don't want the cat, and make the apple red", ["I don't want the cat", "make the apple red"], []),
    ],
)
def test_what_must_not_be_done(text, edits, kept):
    request = read(text)
    assert (list(request.edits), list(request.kept)) == (edits, kept)


def test_no_words_and_no_thing():
    for text in ("!!!", "\U0001f431", "123", "  ", ""):
        assert not has_words(text)
    for text in ("remove", "\u5220\u9664\u732b", "\u0627\u062d\u0630\u0641"):
        assert has_words(text)
    assert read("remove").vague == ("remove",) and read("remove it").vague == ("remove it",) and read("remove the cat").vague == ()
    # what it does not understand it leaves as it is
    assert split_edits("\u5220\u9664\u732b") == ["\u5220\u9664\u732b"] and split_edits("entferne die Katze und den Hund") == [
        "entferne die Katze und den Hund"
    ]


def test_check_instructions_reads_what_is_wanted():
    from fireedit_core.editor import check_instructions

    assert check_instructions(["don't remove the orange cat, remove the yellow cat"], 2) == ["remove the yellow cat"] * 2
    assert check_instructions(["  Please remove the cat "], 1) == ["  Please remove the cat "]  # nothing forbidden: as it is
    for text, said in (("!!!", "has no words"), ("never remove the cat", "only says what must not be done"), ("", "is empty")):
        with pytest.raises(ValueError, match=said):
            check_instructions([text], 1)
