# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from fireedit_core.data import SceneGenerator
from fireedit_core.data.formats import DatasetError, painting
from fireedit_core.data.formats.coco_stuff import CocoStuff
from fireedit_core.data.writers import coco_stuff, files


@pytest.fixture(scope="module")
def masked():
    generator = SceneGenerator(split="validation", seed=6, masks=True)
    return [generator.sample(i) for i in range(6)]


@pytest.fixture
def folder(tmp_path, masked):
    coco_stuff.write(tmp_path, masked)
    return tmp_path


def test_what_is_asked_for_is_painted(folder, masked):
    reader, absent, named = CocoStuff(folder, size=128), 0, set()
    for epoch in range(40):
        reader.choose(epoch)
        for found, scene in zip(reader, masked, strict=True):
            (colour,) = [c for c in painting.COLOURS if c in re.findall(r"\w+", found.instruction)]
            nouns = [noun for noun in reader.labels.values() if f"the {noun}" in found.instruction]
            noun = max(nouns, key=len)
            named.add(noun)
            if noun not in scene.labels:
                absent += 1
                assert not found.mask.any() and np.array_equal(found.target, found.source)
                continue
            wanted = np.any([m for m, label in zip(scene.object_masks, scene.labels, strict=True) if label == noun], axis=0)
            # what lies in front hides what lies behind
            assert (found.mask & ~wanted).sum() == 0 and found.mask.any()
            assert np.array_equal(found.target[~found.mask], found.source[~found.mask])
            mixed = (0.5 * found.source[found.mask].astype(np.float32) + 0.5 * np.array(painting.COLOURS[colour])).round()
            assert np.abs(found.target[found.mask] - mixed).max() <= 1
    assert 0.1 < absent / 240 < 0.3 and len(named) > 5


def test_a_row_is_drawn_again_alike(folder):
    one, two = CocoStuff(folder, size=64, seed=3), CocoStuff(folder, size=64, seed=3)
    for reader in (one, two):
        reader.choose(5)
    assert [s.instruction for s in one] == [s.instruction for s in two]
    assert [s.instruction for s in CocoStuff(folder, size=64, seed=4)] != [s.instruction for s in one]


def test_the_crop_keeps_pictures_and_classes_together(tmp_path):
    rng = np.random.default_rng(0)
    classes = np.repeat(np.repeat(rng.integers(0, 3, (5, 8)).astype(np.uint8), 20, 0), 20, 1)  # 100 x 160
    shown = np.repeat(classes[..., None] * 100, 3, 2).astype(np.uint8)
    files.save_picture(shown, tmp_path / "images" / "val2017" / "7.jpg")
    (tmp_path / "annotations" / "val2017").mkdir(parents=True)
    Image.fromarray(classes).save(tmp_path / "annotations" / "val2017" / "7.png")
    (tmp_path / "labels.txt").write_text("0: unlabeled\n1: sky\n2: sea\n3: sand\n")
    reader, seen = CocoStuff(tmp_path, "val2017", size=100), set()
    for epoch in range(12):
        reader.choose(epoch)
        found = reader[0]
        assert found.source.shape == (100, 100, 3)
        value = {"sky": 0, "sea": 100, "sand": 200}[next(n for n in ("sky", "sea", "sand") if f"the {n}" in found.instruction)]
        assert np.abs(found.source[found.mask].astype(int) - value).mean() < 12 if found.mask.any() else True
        seen.add(found.source.tobytes())
    assert len(seen) > 3  # crops differ


def test_no_label_at_all_and_broken_rows(folder):
    Image.fromarray(np.full((128, 128), 255, np.uint8)).save(folder / "annotations" / "train2017" / "000000000000.png")
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(folder / "annotations" / "train2017" / "000000000001.png")
    (folder / "annotations" / "train2017" / "000000000002.png").write_bytes(b"x")
    (folder / "images" / "train2017" / "000000000003.jpg").unlink()
    reader = CocoStuff(folder, size=64)
    found = list(reader)
    assert found[0].instruction == painting.NOTHING and np.array_equal(found[0].source, found[0].target)
    assert dict(reader.skipped) == {"annotation of another size": 1, "broken annotation": 1, "broken picture": 1}
    with pytest.raises(DatasetError, match="no annotations"):
        CocoStuff(folder, "val2017")
    (folder / "labels.txt").unlink()
    with pytest.raises(DatasetError, match="labels.txt"):
        CocoStuff(folder)


def test_templates():
    assert len(set(painting.TEMPLATES)) == 11 and all("{object}" in t and "{color}" in t for t in painting.TEMPLATES)
    rng = painting.draws(0, 0, 0)
    drawn = [painting.instruction("dog", rng) for _ in range(4000)]
    assert len({text for text, _ in drawn}) == 88 and all(colour in text and "dog" in text for text, colour in drawn)
    assert painting.draws(1, 2, 3).random() == painting.draws(1, 2, 3).random() != painting.draws(1, 3, 2).random()
