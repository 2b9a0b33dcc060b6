# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fireedit_core.data.formats import DatasetError, reader
from fireedit_core.data.formats.ultraedit import SCORES, UltraEdit
from fireedit_core.data.writers import files, ultraedit

DIRECTIONS = (0.1, 0.2, 0.3, 0.25, 0.05, 0.4, 0.15, 0.35)


@pytest.fixture(scope="session")
def scored(scenes):
    return [replace(s, meta={"clip_sim_dir": d, "ssim": 1 - d}) for s, d in zip(scenes, DIRECTIONS, strict=True)]


@pytest.mark.parametrize("variant", ultraedit.VARIANTS)
def test_variants(tmp_path, scored, variant):
    ultraedit.write(tmp_path, scored, variant)
    found = UltraEdit(tmp_path, cache=tmp_path / "cache")
    assert ("mask_image" in found.table.column_names) == (variant != "500k")
    assert len(found) == len(scored) and found.dropped == 0
    for sample, scene in zip(found, scored, strict=True):
        assert np.array_equal(sample.source, scene.source) and np.array_equal(sample.target, scene.target)
        assert sample.instruction == scene.instruction
        assert (sample.source_caption, sample.target_caption) == (scene.source_caption, scene.target_caption)
        assert sample.meta["clip_sim_dir"] == scene.meta["clip_sim_dir"] and set(SCORES) < set(sample.meta)
        if variant == "Region_Based":
            assert np.array_equal(sample.mask, scene.mask) and sample.meta["edit_object"] in (*scene.labels, scene.edit_noun, "background")
        else:
            assert sample.mask is None and "edit_object" not in sample.meta
    assert found.skipped == {} and [s.meta["idx"] for s in found] == list(range(len(scored)))


def test_what_is_no_mask(tmp_path, scenes):
    half = np.kron(scenes[0].mask, np.ones((2, 2), bool))
    masks = [scenes[0].mask, None, np.ones_like(scenes[0].mask), half]
    ultraedit.write(tmp_path, [replace(scenes[0], mask=mask) for mask in masks])
    found = list(UltraEdit(tmp_path, cache=tmp_path / "cache"))
    assert [s.mask is None for s in found] == [False, True, True, False]
    assert np.array_equal(found[0].mask, scenes[0].mask) and np.array_equal(found[3].mask, scenes[0].mask)  # fitted to the source


def row(scene, **change):
    return {
        "source_image": files.encoded(scene.source), "edited_image": files.encoded(scene.target), "edit_prompt": scene.instruction,
        **change,
    }  # fmt: skip


def shard(folder, rows, pictures=("source_image", "edited_image"), **options):
    files.write_parquet(folder / "a.parquet", rows, pictures)
    return UltraEdit(folder / "a.parquet", cache=folder / "cache", **options)


def test_mask_of_the_older_version(tmp_path, scenes):
    assert shard(tmp_path, [row(scenes[0], mask_image="NONE")])[0].mask is None


def test_white_is_edited_even_where_the_mask_has_alpha(tmp_path, scenes):
    white = np.repeat(scenes[0].mask[..., None].astype(np.uint8) * 255, 3, 2)
    rows = [row(scenes[0], mask_image=files.encoded(np.dstack([white, np.where(scenes[0].mask, 255, 0).astype(np.uint8)])))]
    found = shard(tmp_path, rows, ("source_image", "edited_image", "mask_image"))
    assert np.array_equal(found[0].mask, scenes[0].mask)


def test_scores_below_the_minimum_are_no_rows(tmp_path, scored, monkeypatch):
    ultraedit.write(tmp_path, scored)
    monkeypatch.setattr(reader, "_opened", lambda *_: pytest.fail("a picture was decoded"))
    found = UltraEdit(tmp_path, cache=tmp_path / "cache", minimum={"clip_sim_dir": 0.2})
    assert len(found) == 5 and found.dropped == 3  # a score of exactly the minimum stays
    both = UltraEdit(tmp_path, cache=tmp_path / "cache", minimum={"clip_sim_dir": 0.2, "ssim": 0.7})
    assert len(both) == 3 and both.dropped == 5
    monkeypatch.undo()
    assert [s.id for s in found] == ["00000001", "00000002", "00000003", "00000005", "00000007"]  # numbers in the file
    assert [s.instruction for s in both] == [scored[i].instruction for i in (1, 2, 3)] and both[-1].id == "00000003"
    none = UltraEdit(tmp_path, cache=tmp_path / "cache", minimum={"clip_sim_dir": 0.9})
    assert len(none) == 0 and none.dropped == 8 and list(none) == []


def test_a_row_without_the_score_is_below(tmp_path, scenes):
    found = shard(tmp_path, [row(scenes[0], ssim=None), row(scenes[1], ssim=0.5)], minimum={"ssim": 0.0})
    assert [s.id for s in found] == ["00000001"] and found.dropped == 1
    files.write_parquet(tmp_path / "b.parquet", [row(scenes[0], ssim=None)], ("source_image", "edited_image"))
    assert UltraEdit(tmp_path / "b.parquet", cache=tmp_path / "cache", minimum={"ssim": 0.0}).dropped == 1  # the type is null


def test_broken_rows(tmp_path, scenes):
    broken = {"bytes": b"no picture", "path": None}
    whole = {"mask_image": files.encoded(scenes[0].mask)}
    rows = [
        row(scenes[0], **whole), row(scenes[0], mask_image=broken), row(scenes[0], **whole) | {"edited_image": broken},
        row(scenes[0], **whole) | {"edit_prompt": None}, row(scenes[0], **whole) | {"source_image": {"bytes": None, "path": None}},
        row(scenes[1], **whole),
    ]  # fmt: skip
    found = shard(tmp_path, rows, ("source_image", "edited_image", "mask_image"))
    assert [s.id for s in found] == ["00000000", "00000005"]
    assert dict(found.skipped) == {"broken mask_image": 1, "broken edited_image": 1, "no instruction": 1, "no source_image": 1}


def test_what_is_no_such_dataset(tmp_path, scenes):
    with pytest.raises(DatasetError, match="no column edit_prompt"):
        rows = [{"source_image": files.encoded(scenes[0].source), "edited_image": files.encoded(scenes[0].target)}]
        shard(tmp_path, rows)
    with pytest.raises(DatasetError, match="has the scores .* not 'idx'"):
        shard(tmp_path, [row(scenes[0], idx=1)], minimum={"idx": 0})
    with pytest.raises(DatasetError, match="no column ssim"):
        shard(tmp_path, [row(scenes[0])], minimum={"ssim": 0.5})
    with pytest.raises(KeyError):
        ultraedit.write(tmp_path, scenes, "Region")
