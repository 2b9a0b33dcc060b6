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


def test_one_placeholder_in_front_wherever_it_was(tmp_path, scenes):
    file, pictures = llava.write(tmp_path, scenes[:1])
    rows = json.loads(file.read_text())
    values = ("What?\n<image>", "<image>\nWhat?", "<image> What? <image>", "What?")
    rows = [rows[0] | {"conversations": [{"from": "human", "value": v}, {"from": "gpt", "value": "An <image>\n\nof it"},
                                         {"from": "human", "value": "And <image>?"}]} for v in values]  # fmt: skip
    file.write_text(json.dumps(rows))
    reader = LlavaInstruct(file, pictures)
    expected = (("human", "<image>\nWhat?"), ("gpt", "An \n\nof it"), ("human", "And ?"))
    assert [s.conversation for s in reader] == [expected] * 4
    assert len({s.id for s in reader}) == 4  # the published file has one id for several rows


def test_rows_of_another_form_cost_no_other_row(tmp_path, scenes):
    file, pictures = llava.write(tmp_path, scenes[:6])
    rows = json.loads(file.read_text())
    rows[0] = ["no", "row"]
    rows[1]["conversations"] = "Hello"
    rows[2]["conversations"][1] = "Hello"
    rows[3]["conversations"][1]["value"] = None
    rows[4]["conversations"][2]["value"] = " <image> "
    file.write_text(json.dumps(rows))
    reader = LlavaInstruct(file, pictures)
    assert [s.conversation[1][1] for s in reader] == [scenes[5].source_caption]
    assert dict(reader.skipped) == {"no conversation": 3, "empty turn": 2}
    file.write_bytes(b"\xff\xfe")
    for path in (file, tmp_path / "none.json"):
        with pytest.raises(DatasetError, match="cannot be read"):
            LlavaInstruct(path, pictures)
