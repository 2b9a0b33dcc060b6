# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fireedit_core.data import SceneGenerator
from fireedit_core.data.formats import DatasetError
from fireedit_core.data.formats.coco_stuff import CocoStuff
from fireedit_core.data.formats.painting import COLOURS, LEAVE, paint
from fireedit_core.data.writers import coco_stuff


def put(root, values, picture=None, name="000000000001", mode=None):
    """One picture with the label map `values` (H, W) in a set of three classes."""
    picture = np.repeat(values[..., None], 3, axis=2) if picture is None else picture
    for folder, file in (("images", f"{name}.jpg"), ("annotations", f"{name}.png")):
        place = root / folder / "train2017"
        place.mkdir(parents=True, exist_ok=True)
        if folder == "images":
            Image.fromarray(picture).save(place / file, quality=95)
        else:
            label_map = Image.fromarray(values)
            if mode == "P":
                label_map.putpalette([255, 0, 0] * 256)
            elif mode:
                label_map = label_map.convert(mode)
            label_map.save(place / file)
    (root / "labels.txt").write_text("0: unlabeled\n1: person\n2: wall-other\n3: tree: tall\n\n")
    return root


def draws_of(reader, epochs, index=0):
    for epoch in range(epochs):
        reader.choose(epoch)
        yield reader[index]


def test_round_trip(tmp_path, scenes):
    coco_stuff.write(tmp_path, scenes)
    side = scenes[0].source.shape[0]
    reader, positives = CocoStuff(tmp_path, size=side), 0
    assert len(reader) == len(scenes)
    for epoch in range(6):
        reader.choose(epoch)
        for found, scene in zip(reader, scenes, strict=True):
            name, things = found.meta["class"], np.zeros((side, side), bool)
            for label, plane in zip(scene.labels, scene.object_masks, strict=True):
                things |= plane & (label == name)
            if name == scene.meta["background"]:
                things = ~scene.object_masks.any(0)
            assert np.array_equal(found.mask, things) and name in found.instruction and found.meta["colour"] in found.instruction
            assert np.abs(found.source.astype(int) - scene.source).mean() < 6  # JPEG
            assert np.array_equal(found.target, paint(found.source, found.mask, found.meta["colour"]))
            assert found.dataset == "coco-stuff" and found.edit_type == "segmentation" and found.meta["crop"] == (0, 0, side)
            positives += bool(things.any())
    assert 0 < positives < 6 * len(scenes) and not reader.skipped


def test_a_fifth_names_what_is_absent_and_leaves_the_picture(tmp_path, scenes):
    coco_stuff.write(tmp_path, scenes)
    reader, negatives = CocoStuff(tmp_path, size=32), 0
    for epoch in range(60):
        reader.choose(epoch)
        for found, scene in zip(reader, scenes, strict=True):
            if not found.mask.any():
                negatives += 1
                assert found.meta["class"] not in {*scene.labels, scene.meta["background"]}
                assert np.array_equal(found.target, found.source) and found.meta["class"] in found.instruction
                assert found.meta["colour"] in COLOURS
            else:
                assert not np.array_equal(found.target, found.source)
    share = negatives / (60 * len(scenes))
    assert 0.13 < share < 0.28


def test_pixel_v_is_the_entry_v_plus_1(tmp_path):
    values = np.full((40, 40), 0, np.uint8)
    values[:, 20:] = 2
    seen = {}
    for found in draws_of(CocoStuff(put(tmp_path, values), size=40), 60):
        seen[found.meta["class"]] = found.mask
    assert set(seen) == {"person", "wall-other", "tree: tall"}
    assert np.array_equal(seen["person"], values == 0) and np.array_equal(seen["tree: tall"], values == 2)
    assert not seen["wall-other"].any()


def test_labels_of_a_palette_picture_are_its_indices(tmp_path):
    values = np.full((16, 16), 1, np.uint8)
    reader = CocoStuff(put(tmp_path, values, mode="P"), size=16)
    assert {f.meta["class"] for f in draws_of(reader, 40) if f.mask.any()} == {"wall-other"}


def test_nothing_labelled(tmp_path):
    reader = CocoStuff(put(tmp_path, np.full((24, 24), 255, np.uint8)), size=16)
    for found in draws_of(reader, 20):
        assert found.instruction == LEAVE and found.meta["class"] == "" == found.meta["colour"]
        assert not found.mask.any() and found.mask.shape == (16, 16) and np.array_equal(found.source, found.target)


def test_unlabelled_pixels_are_no_class(tmp_path):
    generator = SceneGenerator(split="validation", seed=6)
    scenes = [generator.sample(i) for i in range(2)]
    coco_stuff.write(tmp_path, scenes, backgrounds=False)
    for found in draws_of(CocoStuff(tmp_path, size=scenes[0].source.shape[0]), 30, 1):
        assert not (found.mask & ~scenes[1].object_masks.any(0)).any()


@pytest.mark.parametrize("wide", [True, False])
def test_crops_are_square_along_the_long_side(tmp_path, wide):
    values = np.zeros((32, 96), np.uint8)
    values[:, 48:] = 2
    ramp = np.repeat(np.tile(np.arange(96, dtype=np.uint8) * 2, (32, 1))[..., None], 3, axis=2)
    if not wide:
        values, ramp = values.T.copy(), ramp.transpose(1, 0, 2).copy()
    starts = set()
    for found in draws_of(CocoStuff(put(tmp_path, values, ramp), size=32), 80):
        x, y, side = found.meta["crop"]
        starts.add(x if wide else y)
        assert side == 32 and (y if wide else x) == 0 and found.source.shape == (32, 32, 3)
        crop, part = ramp[y : y + 32, x : x + 32], values[y : y + 32, x : x + 32]
        assert np.abs(found.source.astype(int) - crop).max() < 8  # JPEG
        expected = {"person": part == 0, "wall-other": part == 1, "tree: tall": part == 2}[found.meta["class"]]
        assert np.array_equal(found.mask, expected)
    assert min(starts) < 8 and max(starts) > 56 and max(starts) <= 64 and len(starts) > 30


def test_crops_reach_both_ends(tmp_path):
    reader = CocoStuff(put(tmp_path, np.zeros((32, 33), np.uint8)), size=32)
    assert {found.meta["crop"] for found in draws_of(reader, 30)} == {(0, 0, 32), (1, 0, 32)}


def test_the_picture_is_resized_by_lanczos_and_the_labels_by_nearest(tmp_path):
    values = np.zeros((60, 60), np.uint8)
    values[17:44, 5:50] = 2
    picture = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    reader = CocoStuff(put(tmp_path, values, picture), size=25)
    stored = Image.open(tmp_path / "images" / "train2017" / "000000000001.jpg").convert("RGB")
    shown = np.asarray(Image.fromarray(values).resize((25, 25), Image.Resampling.NEAREST))
    names = set()
    for found in draws_of(reader, 20):
        assert np.array_equal(found.source, np.asarray(stored.resize((25, 25), Image.Resampling.LANCZOS)))
        names.add(found.meta["class"])
        assert np.array_equal(found.mask, shown == {"person": 0, "wall-other": 1, "tree: tall": 2}[found.meta["class"]])
    assert {"person", "tree: tall"} <= names
    assert CocoStuff(tmp_path)[0].source.shape == (256, 256, 3)


def test_what_the_resize_drops_is_neither_present_nor_absent(tmp_path):
    values = np.zeros((64, 64), np.uint8)
    values[0, 0] = 1  # still in the picture, but NEAREST to 8 px does not look there
    seen = {f.meta["class"] for f in draws_of(CocoStuff(put(tmp_path, values), size=8), 120)}
    assert seen == {"person", "tree: tall"}


def test_rows_repeat_per_epoch_and_seed(tmp_path, scenes):
    coco_stuff.write(tmp_path, scenes)
    said = lambda reader: [s.instruction for s in reader]  # noqa: E731
    one, two = CocoStuff(tmp_path, size=32, seed=1), CocoStuff(tmp_path, size=32, seed=1)
    first = said(one)
    assert two[3].instruction == first[3] and said(two) == first  # whatever was read before
    one.choose(1)
    assert said(one) != first
    one.choose(0)
    assert said(one) == first and said(CocoStuff(tmp_path, size=32, seed=2)) != first
    assert len(set(first)) > 3  # rows differ from each other


def test_broken_rows_are_counted_and_left_out(tmp_path, scenes):
    coco_stuff.write(tmp_path, scenes)
    notes, pictures = tmp_path / "annotations" / "train2017", tmp_path / "images" / "train2017"
    (notes / "000000000001.png").unlink()
    Image.new("L", (9, 9)).save(notes / "000000000002.png")
    Image.fromarray(np.full((128, 128), 200, np.uint8)).save(notes / "000000000003.png")
    Image.new("RGB", (128, 128)).save(notes / "000000000004.png")
    (pictures / "000000000005.jpg").write_bytes(b"no picture")
    whole = (notes / "000000000006.png").read_bytes()
    (notes / "000000000006.png").write_bytes(whole[: len(whole) // 2])
    Image.new("I;16", (128, 128)).save(notes / "000000000007.png")
    reader = CocoStuff(tmp_path, size=32)
    assert [s.id for s in reader] == ["000000000008"]
    assert dict(reader.skipped) == {
        "no annotation": 1, "two sizes": 1, "unknown label": 1, "no label map": 2, "broken picture": 1, "broken annotation": 1,
    }  # fmt: skip


def test_what_is_no_such_dataset(tmp_path):
    with pytest.raises(DatasetError, match="labels.txt"):
        CocoStuff(tmp_path)
    put(tmp_path, np.zeros((8, 8), np.uint8))
    with pytest.raises(DatasetError, match="no pictures at .*val2017"):
        CocoStuff(tmp_path, "val2017")
    for text, message in (("1 person", "the line '1 person'"), ("x: person", "line"), ("1: ", "the line"), ("0: unlabeled", "no class")):
        (tmp_path / "labels.txt").write_text(text + "\n")
        with pytest.raises(DatasetError, match=message):
            CocoStuff(tmp_path)


def test_writing_needs_masks(tmp_path):
    with pytest.raises(ValueError, match="no object masks"):
        coco_stuff.write(tmp_path, [SceneGenerator(split="validation", masks=False).sample(0)])
