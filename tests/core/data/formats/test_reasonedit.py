# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import numpy as np
import pytest

from fireedit_core.data.formats import BrokenRow, DatasetError
from fireedit_core.data.formats.reasonedit import CATEGORIES, INFO, ReasonEditBench, ReasonEditTrain
from fireedit_core.data.writers import reasonedit
from fireedit_core.data.writers.files import save_picture


@pytest.fixture
def pairs(tmp_path, scenes):
    reasonedit.write_train(tmp_path / "train", scenes)
    return tmp_path / "train"


@pytest.fixture
def bench(tmp_path, scenes):
    reasonedit.write_bench(tmp_path / "bench", scenes)
    return tmp_path / "bench"


def rewrite(root, change):
    table = json.loads((root / INFO).read_text())
    change(table)
    (root / INFO).write_text(json.dumps(table))


def test_train(pairs, scenes):
    for place in (pairs, pairs / INFO):
        reader = ReasonEditTrain(place)
        assert len(reader) == len(scenes)
        for found, scene in zip(reader, scenes, strict=True):
            assert np.array_equal(found.source, scene.source) and np.array_equal(found.target, scene.target)
            assert found.instruction == scene.instruction and found.mask is None
    assert reader[3].id == "0003/0"
    reader.choose(1)
    assert reader[3].instruction == f"please {scenes[3].instruction}" and reader[3].id == "0003/1"
    reader.choose(2)
    assert reader[3].instruction == scenes[3].instruction


def test_rows_are_in_the_order_of_the_keys(pairs, scenes):
    table = json.loads((pairs / INFO).read_text())
    (pairs / INFO).write_text(json.dumps(dict(reversed(table.items()))))
    assert [s.instruction for s in ReasonEditTrain(pairs)] == [s.instruction for s in scenes]


def test_target_comes_at_the_size_of_the_source(pairs, scenes):
    save_picture(np.kron(scenes[0].target, np.ones((2, 2, 1), np.uint8)), pairs / "target_img" / "0000.png")
    found = ReasonEditTrain(pairs)[0]
    assert found.target.shape == found.source.shape and np.abs(found.target.astype(int) - scenes[0].target).mean() < 8


def test_paths_do_not_leave_the_folder(pairs, scenes, tmp_path):
    save_picture(scenes[0].source, tmp_path / "train2" / "outside.png")  # a folder whose name begins like the root's
    given = (
        "../train2/outside.png", str(tmp_path / "train2" / "outside.png"), "origin_img/../../train2/outside.png",
        "./origin_img/../origin_img/0003.png",
    )  # fmt: skip
    for number, path in enumerate(given):
        rewrite(pairs, lambda table, n=number, p=path: table[f"{n:04d}"].update(origin_img_path=p))
    reader = ReasonEditTrain(pairs)
    for number in range(3):
        with pytest.raises(BrokenRow, match="outside the dataset"):
            reader[number]
    assert np.array_equal(reader[3].source, scenes[3].source)
    assert len(list(reader)) == len(scenes) - 3 and dict(reader.skipped) == {"path outside the dataset": 3}


def test_broken_rows_of_train(pairs, scenes):
    def change(table):
        table["0000"]["instruction"] = []
        table["0001"]["instruction"] = [""]
        table["0002"]["instruction"] = "a text, of which letters would be taken"
        del table["0003"]["target_img_path"]
        table["0004"]["origin_img_path"] = None

    rewrite(pairs, change)
    (pairs / "target_img" / "0005.png").write_bytes(b"no picture")
    (pairs / "origin_img" / "0006.png").unlink()
    reader = ReasonEditTrain(pairs)
    assert [s.id for s in reader] == ["0007/0"]
    assert dict(reader.skipped) == {
        "no instruction": 3, "no target_img_path": 1, "no origin_img_path": 1, "broken target picture": 1, "broken origin picture": 1,
    }  # fmt: skip


def test_what_is_no_train_set(tmp_path):
    with pytest.raises(DatasetError, match=f"{INFO} cannot be read"):
        ReasonEditTrain(tmp_path)
    for wrong, message in (("{", "cannot be read"), ("[]", "no object"), ('{"0000": []}', "no object")):
        (tmp_path / INFO).write_text(wrong)
        with pytest.raises(DatasetError, match=message):
            ReasonEditTrain(tmp_path)


def test_bench(bench, scenes):
    reader = ReasonEditBench(bench)
    order = [0, 6, 1, 7, 2, 3, 4, 5]  # the scenes went round the six folders
    assert len(reader) == len(scenes)
    assert [s.edit_type for s in reader] == [CATEGORIES[i % 6] for i in order]
    for found, scene in zip(reader, [scenes[i] for i in order], strict=True):
        assert np.array_equal(found.source, scene.source) and (found.mask != scene.mask).mean() < 0.002  # JPEG
        assert found.instruction == scene.instruction and found.target_caption == scene.target_caption
        assert found.target is None
    assert len({s.id for s in reader}) == len(scenes) and reader[1].id == "Left-Right/001"


def test_names_of_folders(bench, scenes):
    (bench / "6-Reasoning").rename(bench / "Reasoning-231115")
    (bench / "3-Mirror").rename(bench / "Mirror")
    (bench / "4-Color").rename(bench / "4-Colors")  # none of the benchmark's
    (bench / "0-Reasoning").write_text("a file")
    reader = ReasonEditBench(bench)
    assert [s.edit_type for s in reader] == ["Left-Right"] * 2 + ["Relative-Size"] * 2 + ["Mirror", "Multiple-Objects", "Reasoning"]
    assert reader[-1].id == "Reasoning/000" and reader[-1].instruction == scenes[5].instruction
    (bench / "6-Reasoning").mkdir()
    with pytest.raises(DatasetError, match="are both Reasoning"):
        ReasonEditBench(bench)


def test_masks_go_by_name_where_sorting_would_mix_them(tmp_path, scenes):
    place = tmp_path / "1-Left-Right"
    for name, scene in (("1", scenes[0]), ("10", scenes[1]), ("2", scenes[2])):
        save_picture(scene.source, place / f"{name}.png")
        save_picture(scene.mask, place / f"{name}_mask.jpg")
    (place / "a.txt").write_text("".join(f"{s.instruction} CLIP: {s.target_caption}\n" for s in scenes[:3]))
    for found, scene in zip(ReasonEditBench(tmp_path), scenes[:3], strict=True):
        assert (found.mask != scene.mask).mean() < 0.002 and found.instruction == scene.instruction
    for old, new in (("1", "a"), ("10", "b"), ("2", "c")):  # names that do not agree: the order is all there is
        (place / f"{old}_mask.jpg").rename(place / f"{new}_mask.jpg")
    assert all((found.mask != scene.mask).mean() < 0.002 for found, scene in zip(ReasonEditBench(tmp_path), scenes[:3], strict=True))


def test_text_file(bench, scenes):
    file = bench / "1-Left-Right" / "Left_Right_text.txt"
    lines = file.read_text().splitlines()
    file.write_bytes(("\ufeff" + "\r\n\r\n".join(lines) + "\r\n\r\n").encode())  # a mark, other line ends, empty lines
    (file.parent / "._000.png").write_bytes(b"a Mac's")
    reader = ReasonEditBench(bench)
    assert [reader[i].instruction for i in (0, 1)] == [scenes[0].instruction, scenes[6].instruction]
    assert reader[1].target_caption == scenes[6].target_caption


def test_mask_comes_at_the_size_of_the_picture(bench, scenes):
    save_picture(np.kron(scenes[0].mask, np.ones((2, 2), bool)), bench / "1-Left-Right" / "000_mask.jpg")
    found = ReasonEditBench(bench)[0]
    assert found.mask.shape == found.source.shape[:2] and (found.mask != scenes[0].mask).mean() < 0.002


def test_broken_rows_of_the_bench(bench):
    left, size = bench / "1-Left-Right" / "Left_Right_text.txt", bench / "2-Relative-Size" / "Size_text.txt"
    left.write_text("no target text\n CLIP: no instruction\n")
    size.write_text("move it CLIP:\nmove it CLIP: a cat\n")
    (size.parent / "001.png").write_bytes(b"no picture")
    (bench / "3-Mirror" / "000_mask.jpg").write_bytes(b"no picture")
    reader = ReasonEditBench(bench)
    assert [s.edit_type for s in reader] == ["Color", "Multiple-Objects", "Reasoning"]
    assert dict(reader.skipped) == {"no CLIP text": 2, "no instruction": 1, "broken picture": 1, "broken mask": 1}


@pytest.mark.parametrize("gone", ["001.png", "001_mask.jpg", "line"])
def test_numbers_must_agree(bench, gone):
    folder = bench / "2-Relative-Size"
    if gone == "line":
        file = folder / "Size_text.txt"
        file.write_text(file.read_text().splitlines()[0])
    else:
        (folder / gone).unlink()
    with pytest.raises(DatasetError, match="2-Relative-Size has . pictures, . masks and . lines"):
        ReasonEditBench(bench)


def test_what_is_no_bench(bench, tmp_path):
    for place in (tmp_path / "nowhere", bench / "1-Left-Right"):
        with pytest.raises(DatasetError, match="has no folder like"):
            ReasonEditBench(place)
    file = bench / "5-Multiple-Objects" / "MultipleObjects_text.txt"
    file.write_bytes(b"\xff\xfe\xff CLIP: x\n")
    with pytest.raises(DatasetError, match="no UTF-8"):
        ReasonEditBench(bench)
    (file.parent / "b.txt").write_text("x")
    with pytest.raises(DatasetError, match="5-Multiple-Objects should have one text file, not 2"):
        ReasonEditBench(bench)
    file.unlink(), (file.parent / "b.txt").unlink()
    with pytest.raises(DatasetError, match="one text file, not 0"):
        ReasonEditBench(bench)
