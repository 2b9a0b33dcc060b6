# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import numpy as np
import pytest

from fireedit_core.data.formats import DatasetError
from fireedit_core.data.formats.llava import LlavaInstruct
from fireedit_core.data.writers import llava


def test_conversations(tmp_path, scenes):
    reader = LlavaInstruct(*llava.write(tmp_path, scenes))
    for found, scene in zip(reader, scenes, strict=True):
        assert np.abs(found.source.astype(int) - scene.source).mean() < 4 and found.target is None and found.instruction == ""
        assert found.conversation[0] == ("human", "<image>\nWhat is in the picture?")
        assert found.conversation[1] == ("gpt", scene.source_caption) and found.conversation[3] == ("gpt", str(len(scene.labels)))


def test_rows_that_cannot_be_used(tmp_path, scenes):
    file, pictures = llava.write(tmp_path, scenes[:5])
    rows = json.loads(file.read_text())
    rows[0]["conversations"] = []
    rows[1]["conversations"][1]["from"] = "system"
    rows[2]["conversations"].pop(0)
    rows[3]["image"] = "../llava_instruct_150k.json"
    rows[4]["conversations"][0]["value"] = "no placeholder here"
    file.write_text(json.dumps(rows))
    reader = LlavaInstruct(file, pictures)
    (found,) = reader
    assert found.conversation[0] == ("human", "<image>\nno placeholder here")
    assert dict(reader.skipped) == {"no conversation": 1, "unknown speakers": 2, "a name that leaves the folder": 1}
    file.write_text("{}")
    with pytest.raises(DatasetError, match="no list"):
        LlavaInstruct(file, pictures)
