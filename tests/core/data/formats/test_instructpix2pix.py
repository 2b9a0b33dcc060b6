# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import numpy as np
import pytest

from fireedit_core.data.formats import BrokenRow, DatasetError
from fireedit_core.data.formats.instructpix2pix import InstructPix2PixFolder, InstructPix2PixHub
from fireedit_core.data.writers import files, instructpix2pix


def test_hub(tmp_path, scenes):
    instructpix2pix.write_hub(tmp_path, scenes)
    reader = InstructPix2PixHub(tmp_path, cache=tmp_path / "cache")
    assert len(reader) == len(scenes)
    for found, scene in zip(reader, scenes, strict=True):
        assert np.array_equal(found.source, scene.source) and np.array_equal(found.target, scene.target)
        assert found.instruction == scene.instruction and found.source_caption == scene.source_caption
    assert reader[-1].instruction == scenes[-1].instruction and reader[0].dataset == "instructpix2pix"
    with pytest.raises(IndexError):
        reader[len(scenes)]


def test_broken_rows_are_counted_and_left_out(tmp_path, scenes, caplog):
    row = lambda s, **change: {  # noqa: E731
        "original_image": files.encoded(s.source), "edit_prompt": s.instruction, "edited_image": files.encoded(s.target), **change,
    }  # fmt: skip
    rows = [
        row(scenes[0]), row(scenes[1], edit_prompt="  "), row(scenes[2], edited_image={"bytes": b"no picture", "path": None}),
        row(scenes[3], original_image={"bytes": None, "path": None}), row(scenes[4]),
    ]  # fmt: skip
    files.write_parquet(tmp_path / "a.parquet", rows, ("original_image", "edited_image"))
    reader = InstructPix2PixHub(tmp_path / "a.parquet", cache=tmp_path / "cache")
    assert [s.instruction for s in reader] == [scenes[0].instruction, scenes[4].instruction]
    assert dict(reader.skipped) == {"no instruction": 1, "broken edited_image": 1, "no original_image": 1}
    assert caplog.text.count("is left out") == 3
    assert [s.id for s in reader.samples(start=4)] == ["00000004"]


def test_what_is_no_such_dataset(tmp_path, scenes):
    with pytest.raises(DatasetError, match="no parquet files"):
        InstructPix2PixHub(tmp_path)
    files.write_parquet(tmp_path / "b.parquet", [{"picture": files.encoded(scenes[0].source)}], ("picture",))
    with pytest.raises(DatasetError, match="no column original_image, edit_prompt"):
        InstructPix2PixHub(tmp_path / "b.parquet", cache=tmp_path / "cache")
    with pytest.raises(DatasetError, match="seeds.json"):
        InstructPix2PixFolder(tmp_path)
    with pytest.raises(DatasetError, match="splits"):
        InstructPix2PixFolder(tmp_path, "dev")


def test_folder(tmp_path, scenes):
    instructpix2pix.write_folder(tmp_path, scenes)
    reader = InstructPix2PixFolder(tmp_path, "train")
    assert len(reader) == int(0.9 * len(scenes)) and len(InstructPix2PixFolder(tmp_path, "test")) == 1
    found = reader[2]
    assert found.instruction == scenes[2].instruction and found.target_caption == scenes[2].target_caption
    for got, wanted, other in ((found.source, scenes[2].source, scenes[2].target), (found.target, scenes[2].target, scenes[2].source)):
        near, far = (np.abs(got.astype(int) - x).mean() for x in (wanted, other))
        assert near < 4 < far or near < far / 3  # JPEG
    first = reader[0].id
    reader.choose(1)
    assert reader[0].id != first and reader[0].id.startswith("0000000/")
    # each seed has its own pair
    seed = reader[0].id.split("/")[1]
    for number, picture in enumerate((scenes[5].source, scenes[5].target)):
        files.save_picture(picture, tmp_path / "0000000" / f"{seed}_{number}.jpg")
    for got, wanted in ((reader[0].source, scenes[5].source), (reader[0].target, scenes[5].target)):
        assert np.abs(got.astype(int) - wanted).mean() < 4
    reader.choose(0)
    assert np.abs(reader[0].target.astype(int) - scenes[0].target).mean() < 4
    reader.choose(1)
    reader.choose(2)
    assert reader[0].id == first
    prompt = json.loads((tmp_path / "0000001" / "prompt.json").read_text())
    prompt["caption"] = prompt.pop("input")
    (tmp_path / "0000001" / "prompt.json").write_text(json.dumps(prompt))
    assert reader[1].source_caption == scenes[1].source_caption
    (tmp_path / "0000003" / "prompt.json").unlink()
    assert len(list(reader)) == len(reader) - 1 and dict(reader.skipped) == {"no prompt.json": 1}


def test_what_seeds_and_prompts_cannot_say(tmp_path, scenes):
    """A seeds.json of somebody's read pictures from anywhere; a prompt.json that is no text in UTF-8 ended the whole run."""
    instructpix2pix.write_folder(tmp_path / "set", scenes)
    file = tmp_path / "set" / "seeds.json"
    (folder, seeds), *rest = json.loads(file.read_text())
    (tmp_path / folder).mkdir()
    for one in (tmp_path / "set" / folder).iterdir():
        (tmp_path / folder / one.name).write_bytes(one.read_bytes())
    names = [f"../{folder}", str(tmp_path / folder), "..", 5]
    file.write_text(json.dumps([*([name, seeds] for name in names), [folder, [f"../{folder}/{seeds[0]}"]], *rest]))
    for (name, _), content in zip(rest, (b"\xff\xfe", b"[1]")):
        (tmp_path / "set" / name / "prompt.json").write_bytes(content)
    reader = InstructPix2PixFolder(tmp_path / "set")
    assert len(list(reader)) == len(reader) - 7 and dict(reader.skipped) == {"no file name": 5, "no prompt.json": 2}
    with pytest.raises(BrokenRow, match="no file name"):
        reader.size(0)
    file.write_text('[["a"]]')
    with pytest.raises(DatasetError, match="is no list of folders with their seeds"):
        InstructPix2PixFolder(tmp_path / "set")


def test_pairs_of_two_sizes_come_at_the_size_of_the_source(tmp_path, scenes):
    big = np.kron(scenes[0].target, np.ones((2, 2, 1), np.uint8))
    row = {"original_image": files.encoded(scenes[0].source), "edit_prompt": "x", "edited_image": files.encoded(big)}
    files.write_parquet(tmp_path / "a.parquet", [row], ("original_image", "edited_image"))
    found = InstructPix2PixHub(tmp_path / "a.parquet", cache=tmp_path / "cache")[0]
    assert found.target.shape == found.source.shape and np.abs(found.target.astype(int) - scenes[0].target).mean() < 8
