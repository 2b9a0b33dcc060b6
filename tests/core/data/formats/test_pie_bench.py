# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import numpy as np
import pytest

from fireedit_core.data.formats import BrokenRow, DatasetError
from fireedit_core.data.formats.pie_bench import MAPPING, PieBench, run_lengths
from fireedit_core.data.writers import pie_bench
from fireedit_core.data.writers.files import save_picture


@pytest.fixture(scope="module")
def root(tmp_path_factory, scenes):
    folder = tmp_path_factory.mktemp("pie")
    pie_bench.write(folder, scenes)
    return folder


def changed(root, folder, change):
    """The mapping file with a changed first row, beside the same pictures."""
    rows = json.loads((root / MAPPING).read_text())
    change(rows[next(iter(rows))])
    folder.mkdir(exist_ok=True)
    (folder / MAPPING).write_text(json.dumps(rows))
    if not (folder / "annotation_images").exists():
        (folder / "annotation_images").symlink_to(root / "annotation_images")
    return PieBench(folder)


def test_rows(root, scenes):
    reader = PieBench(root)
    assert len(reader) == len(scenes)
    for index, (found, scene) in enumerate(zip(reader, scenes, strict=True)):
        assert found.source.shape == (512, 512, 3) and found.target is None and reader.size(index) == (512, 512)
        assert np.abs(found.source[::4, ::4].astype(int) - scene.source).mean() < 12
        wanted = pie_bench.scaled(scene.mask)
        assert np.array_equal(found.mask[1:-1, 1:-1], wanted[1:-1, 1:-1])
        assert found.mask[0].all() and found.mask[-1].all() and found.mask[:, 0].all() and found.mask[:, -1].all()
        assert found.instruction == scene.instruction and found.target_caption == scene.target_caption
        assert len(found.id) == 12 and found.meta["image_path"].endswith(f"{found.id}.jpg") and found.dataset == "pie_bench"
    assert {s.edit_type for s in reader} <= {"random", "change object", "delete object", "change colour", "add object", "change background"}
    assert not reader.skipped


def test_run_lengths_count_along_the_rows():
    found = run_lengths([512 * 3 + 5, 2, 512 * 10 + 510, 4, 512 * 512 - 3, 999])
    inner = found[1:-1, 1:-1].copy()
    assert [tuple(p) for p in np.argwhere(inner) + 1] == [(3, 5), (3, 6), (10, 510), (11, 1)]  # 511 and the next row's 0 are border
    assert found[-1].all() and run_lengths([])[0].all() and not run_lengths([])[1:-1, 1:-1].any()
    mask = np.zeros((512, 512), bool)
    mask[100:200, 50:300] = mask[300, 7] = True
    assert np.array_equal(run_lengths(pie_bench.runs(mask))[1:-1, 1:-1], mask[1:-1, 1:-1])


@pytest.mark.parametrize("runs", [None, "1 2", [1], [-1, 2], [1.5, 2], [True, 1], [512 * 512, 1], [0, "3"], {"0": 1}])
def test_a_mask_that_is_none_costs_its_row(runs, root, tmp_path):
    with pytest.raises(BrokenRow, match="no mask"):
        run_lengths(runs)
    reader = changed(root, tmp_path / "x", lambda row: row.update(mask=runs))
    assert len(list(reader)) == len(reader) - 1 and dict(reader.skipped) == {"no mask": 1}


def test_brackets_mark_words_and_are_left_out(root, tmp_path):
    found = changed(root, tmp_path / "x", lambda row: row.update(editing_prompt="a [red  car] and\n[a] dog", original_prompt=None))[0]
    assert found.target_caption == "a red car and a dog" and found.source_caption == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_path": "../../secret.jpg"}, "leaves the folder"), ({"image_path": None}, "no file name"),
        ({"image_path": "0_random_140/none.jpg"}, "broken picture"), ({"editing_instruction": " "}, "no instruction"),
    ],
)  # fmt: skip
def test_broken_rows(root, tmp_path, change, reason):
    with pytest.raises(BrokenRow, match=reason):
        changed(root, tmp_path / "x", lambda row: row.update(change)).read(0)


def test_a_picture_of_another_size_does_not_fit_its_mask(tmp_path, scenes):
    pie_bench.write(tmp_path, scenes[:1])
    (file,) = tmp_path.rglob("*.jpg")
    save_picture(scenes[0].source, file)
    with pytest.raises(BrokenRow, match="128 x 128, and its mask 512 x 512"):
        PieBench(tmp_path)[0]


def test_files_that_are_no_such_dataset(tmp_path):
    for text in (None, "{", "[1]", '{"a": 3}'):
        if text is not None:
            (tmp_path / MAPPING).write_text(text)
        with pytest.raises(DatasetError, match=MAPPING):
            PieBench(tmp_path)
