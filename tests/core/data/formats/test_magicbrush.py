# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from fireedit_core.data.formats import DatasetError
from fireedit_core.data.formats.magicbrush import MagicBrushFolder, MagicBrushHub
from fireedit_core.data.writers import files, magicbrush


def test_hub(tmp_path, scenes):
    magicbrush.write_hub(tmp_path, scenes)
    reader = MagicBrushHub(tmp_path, cache=tmp_path / "cache")
    for found, scene in zip(reader, scenes, strict=True):
        assert np.array_equal(found.source, scene.source) and np.array_equal(found.target, scene.target)
        assert np.array_equal(found.mask, scene.mask) and found.instruction == scene.instruction and found.turn == 1
    assert len({found.id for found in reader}) == len(scenes)


def test_target_and_mask_of_another_size(tmp_path, scenes):
    scene, twice = scenes[0], np.ones((2, 2), np.uint8)
    row = {
        "img_id": "7", "turn_index": 2, "source_img": files.encoded(scene.source), "instruction": "x",
        "mask_img": files.encoded(np.kron(scene.mask, twice).astype(bool)),
        "target_img": files.encoded(np.kron(scene.target, twice[..., None])),
    }  # fmt: skip
    files.write_parquet(tmp_path / "a.parquet", [row], ("source_img", "mask_img", "target_img"))
    found = MagicBrushHub(tmp_path / "a.parquet", cache=tmp_path / "cache")[0]
    assert found.target.shape == scene.source.shape and np.array_equal(found.mask, scene.mask) and found.turn == 2


@pytest.fixture
def folder(tmp_path, scenes):
    magicbrush.write_folder(tmp_path, [scenes[:1], scenes[1:4], scenes[4:6]])
    return tmp_path


def test_folder_turn_by_turn(folder, scenes):
    reader = MagicBrushFolder(folder)
    assert len(reader) == 6 and reader.sessions == [[0], [1, 2, 3], [4, 5]]
    assert [found.turn for found in reader] == [1, 1, 2, 3, 1, 2]
    for found, scene in zip(reader, scenes, strict=False):
        assert np.array_equal(found.target, scene.target) and np.array_equal(found.mask, scene.mask)
        assert found.target_caption == scene.target_caption and found.meta["local_description"]
    second, third = reader[2], reader[3]
    assert np.array_equal(third.source, second.target) and third.source_caption == second.target_caption


def test_masks_of_both_kinds(folder, scenes):
    place = folder / "images" / "200" / "200-mask1.png"
    Image.fromarray(scenes[0].mask.astype(np.uint8) * 255).save(place)
    assert np.array_equal(MagicBrushFolder(folder)[0].mask, scenes[0].mask)
    reader = MagicBrushFolder(folder, transparent=True)
    assert len(list(reader)) == 5 and dict(reader.skipped) == {"no transparency": 1}
    opened = np.asarray(Image.open(folder / "images" / "201" / "201-mask1.png"))
    white = np.asarray(Image.fromarray(opened).convert("L")) > 127
    assert np.array_equal(MagicBrushFolder(folder, transparent=False)[1].mask, white)


def test_lists_that_disagree_and_broken_rows(folder):
    (folder / "images" / "201" / "201-output2.png").write_bytes(b"no picture")
    reader = MagicBrushFolder(folder)
    # it is the source of the next turn too
    assert len(list(reader)) == 4 and dict(reader.skipped) == {"broken output picture": 1, "broken input picture": 1}
    turns = json.loads((folder / "edit_turns.json").read_text())
    outside = [dict(turn) for turn in turns]
    outside[0]["input"] = "../../../secret.png"
    (folder / "edit_turns.json").write_text(json.dumps(outside))
    with pytest.raises(DatasetError, match="not the same"):
        MagicBrushFolder(folder)
    sessions = json.loads((folder / "edit_sessions.json").read_text())
    sessions["200"][0]["input"] = "../../../secret.png"
    (folder / "edit_sessions.json").write_text(json.dumps(sessions))
    reader = MagicBrushFolder(folder)
    list(reader)
    assert reader.skipped["a name with a folder"] == 1
    (folder / "edit_sessions.json").unlink()
    with pytest.raises(DatasetError, match="edit_sessions.json"):
        MagicBrushFolder(folder)
