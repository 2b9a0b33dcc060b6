# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import numpy as np
import pytest

from fireedit_core.data import SceneGenerator
from fireedit_core.data.formats import BrokenRow, DatasetError
from fireedit_core.data.formats.magicbrush import MagicBrushFolder, MagicBrushHub
from fireedit_core.data.writers import files, magicbrush

PICTURES = ("source_img", "mask_img", "target_img")


@pytest.fixture(scope="session")
def sessions(scenes):
    return [SceneGenerator(split="validation", seed=5).turns(3, 3), [scenes[0]], SceneGenerator(split="validation", seed=5).turns(6, 2)]


@pytest.fixture
def root(tmp_path, sessions):
    magicbrush.write_folder(tmp_path / "test", sessions)
    return tmp_path / "test"


def row(scene, **change):
    return {
        "img_id": "7", "turn_index": 1, "source_img": files.encoded(scene.source), "mask_img": files.encoded(scene.mask),
        "instruction": scene.instruction, "target_img": files.encoded(scene.target), **change,
    }  # fmt: skip


def hub(folder, rows, **options):
    files.write_parquet(folder / "a.parquet", rows, PICTURES)
    return MagicBrushHub(folder / "a.parquet", cache=folder / "cache", **options)


def rewrite(file, change):
    table = json.loads(file.read_text())
    change(table)
    file.write_text(json.dumps(table))


def cut_out(scene, alpha):
    return files.encoded(np.dstack([scene.source, alpha.astype(np.uint8)]))


def same(found, scene):
    return all(np.array_equal(getattr(found, key), getattr(scene, key)) for key in ("source", "target", "mask")) and (
        found.instruction == scene.instruction
    )


@pytest.mark.parametrize("cut", [True, False])
def test_hub(tmp_path, sessions, cut):
    magicbrush.write_hub(tmp_path, sessions, cut_out=cut)
    reader, turns = MagicBrushHub(tmp_path, cache=tmp_path / "cache"), [turn for session in sessions for turn in session]
    assert len(reader) == len(turns) == 6
    assert all(same(found, turn) for found, turn in zip(reader, turns, strict=True)) and not reader.skipped
    assert [s.turn for s in reader] == [1, 2, 3, 1, 1, 2]
    assert [s.id for s in reader] == ["100000-1", "100000-2", "100000-3", "100001-1", "100002-1", "100002-2"]
    assert [s.meta["session"] for s in reader] == ["100000"] * 3 + ["100001"] + ["100002"] * 2


def test_where_a_mask_says_edit(tmp_path, scenes):
    scene = scenes[1]
    clear = np.where(scene.mask, 0, 255)
    rows = [
        row(scene, mask_img=cut_out(scene, clear)),
        row(scene, mask_img=files.encoded(np.dstack([np.repeat(scene.mask[..., None] * 255, 3, 2), clear]).astype(np.uint8))),
        row(scene, mask_img=files.encoded(np.dstack([np.repeat(scene.mask[..., None] * 255, 3, 2), clear * 0 + 255]).astype(np.uint8))),
        row(scene), row(scene, mask_img=cut_out(scene, clear * 0 + 255)), row(scene, mask_img=files.encoded(scene.source)),
    ]  # fmt: skip
    found = hub(tmp_path, rows)
    assert [np.array_equal(s.mask, scene.mask) for s in found] == [True] * 4  # the photos without transparency are no masks
    assert dict(found.skipped) == {"no mask": 2}
    clear_only = hub(tmp_path, rows, transparent=True)
    assert np.array_equal(clear_only[0].mask, scene.mask) and not clear_only[4].mask.any()
    with pytest.raises(BrokenRow, match="no transparency"):
        clear_only[3]
    white_only = hub(tmp_path, rows, transparent=False)
    assert np.array_equal(white_only[3].mask, scene.mask)
    assert not np.array_equal(white_only[0].mask, scene.mask)  # forced to white, the photo's bright parts


def test_target_and_mask_come_at_the_size_of_the_source(tmp_path, scenes):
    twice = lambda array: np.kron(array, np.ones((2, 2, 1)[: array.ndim], array.dtype))  # noqa: E731
    big = row(scenes[0], target_img=files.encoded(twice(scenes[0].target)), mask_img=files.encoded(twice(scenes[0].mask)))
    found = hub(tmp_path, [big])[0]
    assert found.source.shape == found.target.shape and np.abs(found.target.astype(int) - scenes[0].target).mean() < 8
    assert np.array_equal(found.mask, scenes[0].mask)


def test_broken_rows_of_the_hub(tmp_path, scenes):
    none, broken = {"bytes": None, "path": None}, {"bytes": b"no picture", "path": None}
    rows = [
        row(scenes[0]), row(scenes[0], turn_index=None), row(scenes[0], mask_img=none), row(scenes[0], mask_img=broken),
        row(scenes[0], target_img=broken), row(scenes[0], instruction=None), row(scenes[0], source_img=none),
    ]  # fmt: skip
    reader = hub(tmp_path, rows)
    assert len(list(reader)) == 1
    assert dict(reader.skipped) == {
        "no img_id or turn_index": 1, "no mask": 1, "broken mask": 1, "broken target_img": 1, "no instruction": 1, "no source_img": 1,
    }  # fmt: skip
    del rows[0]["mask_img"]
    files.write_parquet(tmp_path / "b.parquet", rows[:1], ("source_img", "target_img"))
    with pytest.raises(DatasetError, match="no column mask_img"):
        MagicBrushHub(tmp_path / "b.parquet", cache=tmp_path / "cache")


def test_folder(root, sessions):
    reader, turns = MagicBrushFolder(root), [turn for session in sessions for turn in session]
    assert len(reader) == 6 and reader.sessions == [[0, 1, 2], [3], [4, 5]]
    assert all(same(found, turn) for found, turn in zip(reader, turns, strict=True)) and not reader.skipped
    assert [s.id for s in reader] == ["100000-1", "100000-2", "100000-3", "100001-1", "100002-1", "100002-2"]
    assert [s.turn for s in reader] == [1, 2, 3, 1, 1, 2]
    for found, turn in zip(reader, turns, strict=True):
        assert (found.source_caption, found.target_caption) == (turn.source_caption, turn.target_caption)
    added = next(i for i, turn in enumerate(turns) if turn.edit_noun)
    assert reader[added].meta["local_description"] == turns[added].edit_noun != turns[added].target_caption
    for session in reader.sessions:
        for before, after in zip(session, session[1:]):
            assert np.array_equal(reader[before].target, reader[after].source)


def test_folder_with_white_masks(tmp_path, sessions):
    magicbrush.write_folder(tmp_path, sessions, cut_out=False)
    assert np.array_equal(MagicBrushFolder(tmp_path)[2].mask, sessions[0][2].mask)
    with pytest.raises(BrokenRow, match="no transparency"):
        MagicBrushFolder(tmp_path, transparent=True)[2]


def test_descriptions_that_are_not_there(root):
    rewrite(root / "global_descriptions.json", lambda table: (table["100000"].pop("100000-output1.png"), table.pop("100001")))
    rewrite(root / "local_descriptions.json", lambda table: table["100000"].pop("100000-output1.png"))
    reader = MagicBrushFolder(root)
    assert reader[0].source_caption and reader[0].target_caption == "" and reader[0].meta["local_description"] == ""
    assert reader[1].source_caption == "" and reader[1].target_caption and reader[1].meta["local_description"]
    assert reader[3].source_caption == reader[3].target_caption == "" and reader[3].meta["local_description"]


def test_broken_rows_of_the_folder(root):
    (root / "images" / "100000" / "100000-mask1.png").unlink()
    (root / "images" / "100001" / "100001-output1.png").write_bytes(b"no picture")
    reader = MagicBrushFolder(root)
    assert [s.id for s in reader] == ["100000-2", "100000-3", "100002-1", "100002-2"]  # ids do not move
    assert dict(reader.skipped) == {"broken mask": 1, "broken output": 1}


@pytest.mark.parametrize("name", ["../100000/100000-input.png", "100000/100000-input.png", "..-input.png", "-input.png", "", None, 5])
def test_a_name_that_is_no_file_name(root, name):
    for file, place in (("edit_sessions", lambda table: table["100001"][0]), ("edit_turns", lambda table: table[3])):
        rewrite(root / f"{file}.json", lambda table, place=place: place(table).update(input=name))
    with pytest.raises(BrokenRow, match="no file name for input"):
        MagicBrushFolder(root)[3]


@pytest.mark.parametrize(
    "change",
    [lambda turns: turns.pop(), lambda turns: turns.reverse(), lambda turns: turns[1].update(instruction="another")],
)
def test_sessions_must_be_the_turns(root, change):
    rewrite(root / "edit_turns.json", change)
    with pytest.raises(DatasetError, match="not those of edit_turns.json"):
        MagicBrushFolder(root)


@pytest.mark.parametrize("file", ["edit_sessions", "edit_turns", "global_descriptions", "local_descriptions"])
def test_files_that_are_no_such_dataset(root, file):
    text = (root / f"{file}.json").read_text()
    for wrong, message in (("{", "cannot be read"), ("3", "is no"), ('{"a": 3}', "is no"), ("[3]", "is no")):
        (root / f"{file}.json").write_text(wrong)
        with pytest.raises(DatasetError, match=f"{file}.json {message}"):
            MagicBrushFolder(root)
    (root / f"{file}.json").unlink()
    with pytest.raises(DatasetError, match=f"{file}.json cannot be read"):
        MagicBrushFolder(root)
    (root / f"{file}.json").write_text(text)
    assert len(MagicBrushFolder(root)) == 6


def test_sessions_that_cannot_be_written(tmp_path, scenes, sessions):
    for wrong, message in (([], "0 turns"), ([scenes[0]] * 4, "4 turns"), ([scenes[0], scenes[1]], "no chain")):
        with pytest.raises(ValueError, match=message):
            magicbrush.write_folder(tmp_path, [sessions[0], wrong])
    assert not list(tmp_path.iterdir())
