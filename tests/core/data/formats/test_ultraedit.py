# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numpy as np
import pytest

from fireedit_core.data.formats import DatasetError
from fireedit_core.data.formats.ultraedit import UltraEdit
from fireedit_core.data.writers import files, ultraedit


@pytest.mark.parametrize("regions", [True, False])
def test_both_kinds(tmp_path, scenes, regions):
    ultraedit.write_hub(tmp_path, scenes, regions)
    reader = UltraEdit(tmp_path, cache=tmp_path / "cache")
    for found, scene in zip(reader, scenes, strict=True):
        assert np.array_equal(found.source, scene.source) and np.array_equal(found.target, scene.target)
        assert found.instruction == scene.instruction and found.target_caption == scene.target_caption
        assert np.array_equal(found.mask, scene.mask) if regions else found.mask is None
        assert 0 < found.meta["ssim"] <= 1 and (found.meta["edit_object"] != "") <= regions
    assert reader.dropped == 0 and not reader.skipped


def test_scores_choose_rows_before_pictures_are_opened(tmp_path, scenes, monkeypatch):
    ultraedit.write_hub(tmp_path, scenes)
    opened = []
    monkeypatch.setattr("fireedit_core.data.formats.ultraedit.picture", lambda *a: opened.append(a))
    reader = UltraEdit(tmp_path, cache=tmp_path / "cache", minimum={"ssim": 0.3, "clip_sim_dir": 0.19})
    assert len(reader) == 2 and reader.dropped == len(scenes) - 2 and not opened
    with pytest.raises(DatasetError, match="no score beauty"):
        UltraEdit(tmp_path, cache=tmp_path / "cache", minimum={"beauty": 1})


@pytest.mark.parametrize("white", [files.encoded(np.ones((128, 128), bool)), {"bytes": None, "path": None}])
def test_free_form_rows_among_regions(tmp_path, scenes, white):
    row = lambda value: {  # noqa: E731
        "source_image": files.encoded(scenes[0].source), "edited_image": files.encoded(scenes[0].target), "edit_prompt": "x",
        "mask_image": value,
    }  # fmt: skip
    rows = [row(white), row(files.encoded(scenes[0].mask))]
    files.write_parquet(tmp_path / "a.parquet", rows, ("source_image", "edited_image", "mask_image"))
    first, second = UltraEdit(tmp_path / "a.parquet", cache=tmp_path / "cache")
    assert first.mask is None and np.array_equal(second.mask, scenes[0].mask)


def test_the_word_none_of_older_files(tmp_path, scenes):
    row = {
        "source_image": files.encoded(scenes[0].source), "edited_image": files.encoded(scenes[0].target), "edit_prompt": "x",
        "mask_image": "NONE",
    }  # fmt: skip
    files.write_parquet(tmp_path / "a.parquet", [row], ("source_image", "edited_image"))
    assert UltraEdit(tmp_path / "a.parquet", cache=tmp_path / "cache")[0].mask is None
