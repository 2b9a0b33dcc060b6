# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numpy as np
import pytest

from fireedit_core.data.formats import DatasetError
from fireedit_core.data.formats.emu_edit import PLACEHOLDER_CAPTIONS, EmuEdit
from fireedit_core.data.writers import emu_edit, files


def table(path, captions, generations=False):
    """A shard of one-pixel pictures with the given captions; the file."""
    pixel = files.encoded(np.zeros((1, 1, 3), np.uint8))
    more = {"edited_image": pixel, "model": "m"} if generations else {}
    rows = [
        {"instruction": "x", "image": pixel, "task": "add", "split": "test", "idx": i, "hash": str(i), "input_caption": before,
         "output_caption": after, **more}
        for i, (before, after) in enumerate(captions)
    ]  # fmt: skip
    files.write_parquet(path, rows, ("image", "edited_image")[: 1 + generations])
    return path


def test_set(tmp_path, scenes):
    emu_edit.write_set(tmp_path, scenes)
    reader = EmuEdit(tmp_path, cache=tmp_path / "cache")
    assert len(reader) == reader.kept == reader.total == len(scenes) and not reader.generations and not reader.dropped
    for number, (found, scene) in enumerate(zip(reader, scenes, strict=True)):
        task = emu_edit.TASKS[scene.edit_type]
        assert np.array_equal(found.source, scene.source) and found.target is None and found.mask is None
        assert found.instruction == scene.instruction and found.edit_type == task and found.id == f"validation-{task}-{number}"
        assert found.source_caption == scene.source_caption and found.target_caption == scene.target_caption
        assert found.meta["idx"] == number and found.meta["hash"] and not {"edited_image", "model"} & set(found.meta)
        assert found.dataset == "emu_edit"


def test_generations(tmp_path, scenes):
    emu_edit.write_generations(tmp_path, scenes, "test", model="emu")
    reader = EmuEdit(tmp_path, cache=tmp_path / "cache")
    assert reader.generations
    for found, scene in zip(reader, scenes, strict=True):
        assert found.target is None and found.meta["model"] == "emu" and np.array_equal(found.meta["edited_image"], scene.target)
        assert found.id.startswith("test-")


def test_a_picture_of_the_generations_keeps_its_size_and_a_broken_one_costs_its_row(tmp_path, scenes):
    row = {"instruction": "x", "image": files.encoded(scenes[0].source), "task": "add", "split": "test", "idx": 3, "input_caption": "a",
           "output_caption": "b", "model": "m"}  # fmt: skip
    big = np.kron(scenes[0].target, np.ones((2, 2, 1), np.uint8))
    rows = [row | {"edited_image": files.encoded(big)}, row | {"edited_image": {"bytes": b"no picture", "path": None}}]
    files.write_parquet(tmp_path / "a.parquet", rows, ("image", "edited_image"))
    reader = EmuEdit(tmp_path / "a.parquet", cache=tmp_path / "cache")
    (found,) = reader
    assert np.array_equal(found.meta["edited_image"], big) and dict(reader.skipped) == {"broken edited_image": 1}
    assert "hash" not in found.meta  # a column that may be missing


@pytest.mark.parametrize(
    ("options", "kept", "dropped"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6, 7], {}),
        ({"drop_identical_captions": True}, [0, 3, 4, 7], {"identical captions": 4}),
        ({"drop_placeholder_captions": True}, [0, 1, 2, 4, 6], {"placeholder captions": 3}),
        (
            {"drop_identical_captions": True, "drop_placeholder_captions": True}, [0, 4],
            {"identical captions": 3, "placeholder captions": 3},
        ),
    ],
)  # fmt: skip
def test_rows_with_captions_that_measure_nothing(tmp_path, caplog, options, kept, dropped):
    fake = PLACEHOLDER_CAPTIONS[0]
    captions = [
        ("a dog", "a cat"), ("a dog", "a dog"), ("A dog", "a  dog "), ("a dog", fake), (f"{fake} at night", "a dog"), (fake, fake),
        (None, ""), (fake, "a dog"),
    ]  # fmt: skip
    with caplog.at_level("INFO", "fireedit"):
        reader = EmuEdit(table(tmp_path / "a.parquet", captions), cache=tmp_path / "cache", **options)
    assert [s.meta["idx"] for s in reader] == kept and dict(reader.dropped) == dropped
    assert (reader.total, reader.kept, len(reader)) == (8, len(kept), len(kept))
    assert (f"{len(kept)} of 8 rows are kept" in caplog.text) == bool(options)


@pytest.mark.parametrize(
    ("generations", "right"), [(False, {2022: "validation", 3589: "test"}), (True, {3589: "validation", 2022: "test"})]
)
def test_a_split_is_known_by_its_number_of_rows(tmp_path, caplog, generations, right):
    for rows, split in right.items():
        file = table(tmp_path / f"{rows}.parquet", [("a", "b")] * (rows - 1) + [("a", "a")], generations)
        # rows that are left out afterwards do not count here
        assert EmuEdit(file, split, cache=tmp_path / "cache", drop_identical_captions=True).kept == rows - 1
        assert "rows, but" not in caplog.text
        (other,) = {"validation", "test"} - {split}
        with pytest.raises(DatasetError, match=f"so it is {split}"):
            EmuEdit(file, other, cache=tmp_path / "cache")
        assert EmuEdit(file, cache=tmp_path / "cache").total == rows


def test_a_subset_is_read_with_a_warning(tmp_path, caplog):
    file = table(tmp_path / "a.parquet", [("a", "b")] * 3)
    assert len(EmuEdit(file, cache=tmp_path / "cache")) == 3 and not caplog.records
    assert len(EmuEdit(file, "test", cache=tmp_path / "cache")) == 3
    assert "3 rows, but test of the set has 3589" in caplog.text
    with pytest.raises(DatasetError, match="splits validation, test"):
        EmuEdit(file, "train")
