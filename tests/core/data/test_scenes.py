# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pairs promise: exactness, determinism, unambiguous words, separate splits."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from fireedit_core.data import EDIT_TYPES, SPLITS, WORLD, SceneGenerator, SceneSample, Sprites, vocabulary


def same(a: SceneSample, b: SceneSample) -> bool:
    return a.instruction == b.instruction and np.array_equal(a.source, b.source) and np.array_equal(a.target, b.target)


def test_a_sample_depends_on_its_index_alone(sprites: Sprites, train: list[SceneSample]) -> None:
    fresh = SceneGenerator(WORLD, Sprites.for_world(WORLD), "train", seed=3)
    assert all(same(fresh.sample(i), train[i]) for i in (77, 5, 301))
    assert all(same(a, b) for a, b in zip(islice(fresh, 4), train, strict=False))


def test_seeds_and_splits_give_other_pictures(sprites: Sprites) -> None:
    seen = [
        SceneGenerator(WORLD, sprites, split, seed).sample(i).source.tobytes()
        for split in SPLITS
        for seed in (0, 1)
        for i in range(20)
    ]
    assert len(set(seen)) == len(seen)


def test_shapes_and_types(train: list[SceneSample]) -> None:
    size = WORLD.image_size
    for pair in train:
        count = len(pair.labels)
        assert pair.source.shape == pair.target.shape == (size, size, 3) and pair.source.dtype == np.uint8
        assert pair.mask.shape == (size, size) and pair.mask.dtype == bool
        assert pair.boxes.shape == (count, 4) and pair.boxes.dtype == np.float32
        assert pair.object_masks is not None and pair.object_masks.shape == (count, size, size)
        assert len(pair.colours) == count and 2 <= count <= 5
        assert (pair.target_index == -1) == (pair.edit_type == "background")


def test_all_edit_types_come_at_their_weights(train: list[SceneSample]) -> None:
    counts = Counter(pair.edit_type for pair in train)
    assert set(counts) == set(EDIT_TYPES)
    for kind, weight in WORLD.edit_weights.items():
        assert abs(counts[kind] / len(train) - weight) < 0.06
    twins = [p for p in train if len(set(p.labels)) < len(p.labels)]
    assert 0.25 < len(twins) / len(train) < 0.45
    tinted = [bool(c) for p in train for c in p.colours]
    assert 0.3 < np.mean(tinted) < 0.55


def test_outside_the_mask_nothing_changes_and_inside_it_does(train: list[SceneSample]) -> None:
    for pair in train:
        changed = (pair.source != pair.target).any(-1)
        assert not (changed & ~pair.mask).any(), pair.instruction
        assert changed.sum() > 0.3 * pair.mask.sum(), pair.instruction
        x0, y0, x1, y1 = pair.edit_box.astype(int)
        inside = np.zeros_like(pair.mask)
        inside[y0:y1, x0:x1] = True
        assert not (pair.mask & ~inside).any()


def test_boxes_are_tight_inside_and_apart(train: list[SceneSample]) -> None:
    for pair in train:
        for box, mask in zip(pair.boxes, pair.object_masks, strict=True):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert box.tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            assert box.min() >= WORLD.border and box.max() <= WORLD.image_size - WORLD.border
        for i, a in enumerate(pair.boxes):
            for b in pair.boxes[i + 1 :]:
                gap = max(b[0] - a[2], a[0] - b[2], b[1] - a[3], a[1] - b[3])
                assert gap >= WORLD.separation
        after = [box for _, _, box in pair.meta["target_objects"]]
        assert np.min(after, initial=WORLD.border) >= WORLD.border


def test_the_phrase_fits_one_object_only(train: list[SceneSample]) -> None:
    used = Counter()
    for pair in (p for p in train if p.target_index >= 0):
        i, how = pair.target_index, pair.meta["referred_by"]
        assert pair.referring in pair.instruction
        rivals = [k for k, noun in enumerate(pair.labels) if noun == pair.labels[i] and k != i]
        assert pair.twins == bool(rivals)
        used[how, pair.twins] += 1
        centre = (pair.boxes[:, :2] + pair.boxes[:, 2:]) / 2
        sizes = pair.meta["sizes"]
        for k in rivals:
            dx, dy = centre[k] - centre[i]
            assert {
                "left": dx >= 20,
                "right": dx <= -20,
                "top": dy >= 20,
                "bottom": dy <= -20,
                "big": sizes[i] >= 1.3 * sizes[k],
                "small": sizes[k] >= 1.3 * sizes[i],
                "colour": bool(pair.colours[k]) and pair.colours[k] != pair.colours[i],
            }[how], pair.instruction
        if how == "colour":
            assert pair.colours[i] and pair.colours[i] in pair.referring
    ways = ("left", "right", "top", "bottom", "big", "small", "colour")
    assert all(used[way, True] for way in ways) and used["noun", False]


def test_bigger_is_as_frequent_as_smaller(sprites: Sprites) -> None:
    generator = SceneGenerator(WORLD.only(resize=1.0), sprites, masks=False)
    share = np.mean([pair.meta["detail"] == "bigger" for pair in islice(generator, 200)])
    assert 0.38 < share < 0.62


def test_edits_do_what_they_say(train: list[SceneSample]) -> None:
    for pair in train:
        before = [(n, c, tuple(b.astype(int))) for n, c, b in zip(pair.labels, pair.colours, pair.boxes, strict=True)]
        after = [(n, c, tuple(b)) for n, c, b in pair.meta["target_objects"]]
        gone, new = [o for o in before if o not in after], [o for o in after if o not in before]
        words = pair.instruction.split()
        if pair.edit_type == "background":
            assert not gone and not new and words[-1] == pair.edit_background != pair.meta["background"]
            continue
        target = before[pair.target_index]
        assert gone == ([] if pair.edit_type == "add" else [target])
        assert len(new) == (0 if pair.edit_type == "remove" else 1)
        if pair.edit_type == "replace":
            assert new[0][:2] == (pair.edit_noun, "") and words[-1] == pair.edit_noun
        elif pair.edit_type == "recolour":
            assert new[0] == (target[0], pair.edit_colour, target[2]) and pair.edit_colour in words
        elif pair.edit_type == "resize":
            bigger = new[0][2][2] - new[0][2][0] > target[2][2] - target[2][0]
            assert (
                bigger == (pair.meta["detail"] == "bigger") == any(w in words for w in ("bigger", "larger", "enlarge"))
            )
        elif pair.edit_type == "add":
            a, b = target[2], new[0][2]
            gaps = {"left": a[0] - b[2], "right": b[0] - a[2], "above": a[1] - b[3], "below": b[1] - a[3]}
            assert gaps[pair.meta["detail"]] == WORLD.add_gap and new[0][0] == pair.edit_noun


def test_heldout_classes_stay_out_of_training(train: list[SceneSample], heldout: list[SceneSample]) -> None:
    unseen = set(WORLD.heldout)
    for pair in train:
        assert not unseen & {*pair.labels, pair.edit_noun}
    for pair in heldout:
        assert len(unseen & set(pair.labels)) == 1
        assert pair.edit_noun not in unseen and not unseen & set(pair.instruction.split())
        assert pair.target_index < 0 or pair.labels[pair.target_index] not in unseen


def test_unseen_targets_are_called_by_the_generic_noun(sprites: Sprites) -> None:
    world = replace(WORLD.only(remove=1.0), unseen_targets=True)
    generator = SceneGenerator(world, sprites, "heldout")
    for pair in islice(generator, 30):
        assert pair.labels[pair.target_index] in WORLD.heldout and "object" in pair.referring
        assert set(pair.instruction.split()) <= set(vocabulary(world))


def test_vocabulary_covers_every_word(train: list[SceneSample], heldout: list[SceneSample]) -> None:
    words = vocabulary(WORLD)
    assert words == sorted(set(words))
    for pair in train:
        text = f"{pair.instruction} {pair.source_caption} {pair.target_caption} {pair.referring}".split()
        assert set(text) <= set(words), pair.instruction
        for i, word in enumerate(text):
            assert word not in ("a", "an") or (word == "an") == (text[i + 1][0] in "aeiou")
    assert {w for p in heldout for w in p.target_caption.split()} <= set(vocabulary(WORLD, heldout=True))


def test_wrong_arguments_are_explained(sprites: Sprites) -> None:
    with pytest.raises(ValueError, match="split must be one of"):
        SceneGenerator(WORLD, sprites, "test")
    with pytest.raises(ValueError, match="index must be 0 or more"):
        SceneGenerator(WORLD, sprites).sample(-1)
    with pytest.raises(ValueError, match="lack"):
        SceneGenerator(replace(WORLD, heldout={"anchor": "anchor"}), sprites)
    crowded = replace(WORLD, count_weights={12: 1.0}, size_range=(60, 64))
    with pytest.raises(ValueError, match="no room"):
        SceneGenerator(crowded, sprites).sample(0)


def test_rate(sprites: Sprites, train: list[SceneSample], record_property) -> None:  # noqa: ANN001
    """Recorded, not asserted: the machine may be busy."""
    generator = SceneGenerator(WORLD, sprites, "train", seed=3)
    start = time.perf_counter()
    for i in range(300):
        generator.sample(i)
    record_property("pairs_per_second", round(300 / (time.perf_counter() - start)))
