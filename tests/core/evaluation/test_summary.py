# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables, intervals, and what may be called mastered."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from fireedit_core.evaluation import scenes, summary
from fireedit_core.evaluation.metrics import EditScore


def score(kind: str, success: bool, error: float = 0.5, grounding: str = "single", grounded: bool | None = True) -> EditScore:
    return EditScore(0, kind, error, 0.01, True, success, grounding, grounded)


def result(scores: list[EditScore], split: str = "heldout") -> dict:
    config = {
        "split": split, "seed": 0, "steps": 4, "text_guidance": 1.5, "image_guidance": 1.0, "tati_strength": 1.0,
        "hvca_strength": 1.0,
    }  # fmt: skip
    tables = {name: summary.by_type(scores) for name in summary.SYSTEMS}
    return {
        "config": config, "tables": tables, "scenes": [s.to_dict() for s in scores], "seconds_per_edit": 0.1, "batch": 4,
        "machine": {"device": "cpu (test)", "threads": 1},
    }  # fmt: skip


def test_calibration_is_of_scenes_where_an_object_is_meant():
    sure = [(0.3, False), (0.85, True), (0.85, True), (0.97, True), (0.97, False), (1.0, True)]
    scores = [replace(score("remove", True, grounded=hit), sure=p) for p, hit in sure]
    scores.append(replace(score("background", True, grounding="none"), sure=0.0))
    records = [s.to_dict() for s in scores]
    rows = summary.calibration_rows(records)
    assert [row[:3] for row in rows] == [
        ["0 to 0.5", "1", "0.300"], ["0.8 to 0.9", "2", "0.850"], ["0.95 to 0.99", "2", "0.970"], ["0.99 to 1", "1", "1.000"],
    ]  # fmt: skip
    assert summary.calibration_error(records) == pytest.approx((0.3 + 2 * 0.15 + 0.94 + 0) / 6)
    assert "calibration error 0.2567" in scenes.report(result(scores))
    assert summary.calibration_rows([score("remove", True).to_dict()]) == [] and summary.calibration_error([]) is None


def test_mastered_needs_more_than_half_of_three_hundred_held_out_scenes():
    half = [score("remove", i % 2 == 0) for i in range(300)]
    assert summary.mastered(result(half)) == [] and summary.not_mastered(result(half)) == ["remove"]
    more = [score("remove", i < 151) for i in range(300)]
    assert summary.mastered(result(more)) == ["remove"]
    assert summary.mastered(result(more, split="validation")) == []
    few = [score("remove", True) for _ in range(299)]
    assert summary.mastered(result(few)) == [] and summary.not_mastered(result(few)) == []
    assert summary.mastered(result(more + [score("add", False)] * 300)) == ["remove"]


def test_bootstrap_is_repeatable_and_covers_the_mean():
    values = np.random.default_rng(1).normal(3, 1, 200)
    low, high = summary.bootstrap(values)
    assert (low, high) == summary.bootstrap(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 200**0.5, rel=0.15)
    assert summary.bootstrap([0.25] * 5) == (0.25, 0.25)
    with pytest.raises(ValueError, match="at least one"):
        summary.bootstrap([])


def test_rows_split_by_type_and_grounding():
    rows = summary.by_type([
        score("add", True, 0.05), score("add", False, 0.15, "twins", False), score("background", False, 1.0, "none", True),
    ])  # fmt: skip
    assert list(rows) == ["add", "background", "overall"]
    assert rows["add"]["success"]["mean"] == 0.5 and rows["add"]["relative_error"]["median"] == pytest.approx(0.1)
    assert rows["overall"]["n"] == 3 and rows["overall"]["relative_error"]["mean"] == pytest.approx(0.4)
    grounding = rows["overall"]["grounding"]
    assert [grounding[g]["mean"] for g in ("single", "twins", "none")] == [1, 0, 1]
    assert rows["add"]["grounding"]["none"] == {"n": 0, "mean": None, "interval": None}


def test_goals_say_what_is_met():
    found = {g["what"]: g["met"] for g in summary.goals(result([score("remove", False, 0.4), score("add", False, 0.4)]))}
    assert found["relative error, remove"] is False and found["relative error, add"] is True
    assert found["mean absolute change outside the mask"] is True
    assert found["grounding top-1, one object matches"] is True and "grounding top-1, twins" not in found


def test_report_and_files(tmp_path):
    made = result([score("remove", True, 0.05)] * 300)
    text, markdown = scenes.report(made), scenes.report(made, markdown=True)
    assert "100.0 % [100, 100]" in text and "mastered: remove" in text
    assert "| remove | 300 | 100.0 % [100, 100] | 100.0 % | 100.0 % | 0.050 [0.050, 0.050] | 0.050 |" in markdown
    path = scenes.save_result(made, tmp_path / "deep")
    assert json.loads(path.read_text()) == made and path.with_suffix(".md").read_text() == markdown + "\n"
    assert "use --each" in scenes.report(result([score("remove", True)] * 3))


def test_text_table_lines_up():
    assert summary.text_table(("a", "bb"), [("ccc", "d")]) == "a    bb\nccc  d"
    assert summary.markdown_table(("a", "b"), [("c", "d")]) == "| a | b |\n| --- | --- |\n| c | d |"
