# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits in one process: the same whatever lies beside them, whole or not there, and a run that was stopped goes on."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from fireedit_core.bulk import EditOptions, RowError, edit_rows, editing
from fireedit_core.bulk.editing import RowEditor
from fireedit_core.bulk.results import HIDDEN, ResultWriter

STEPS = EditOptions(steps=2)


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content))).astype(int)


@pytest.fixture
def run(tiny_pipe, tiny_bundle, tmp_path):
    """`run(rows, "out", batch=2)` -> the report."""

    def call(rows, out="out", options=STEPS, **more):
        return edit_rows(rows, tmp_path / out, tiny_bundle, options, pipe=tiny_pipe, progress=False, **more)

    return call


def test_the_same_alone_in_a_batch_and_by_the_pipeline(run, make_rows, edits, tiny_pipe, tmp_path):
    rows = make_rows(6)
    report = run(rows, "one")
    assert sorted(report.done) == [row.key for row in rows] and not report.skipped and not report.failed
    run(rows, "three", batch=3)
    alone, together = edits(tmp_path / "one"), edits(tmp_path / "three")
    assert list(alone) == list(together) == [row.key for row in rows]
    for row in rows:
        source = Image.open(row.image)
        noise = torch.Generator().manual_seed(row.seed)
        expected = np.asarray(tiny_pipe(source, row.instruction, num_inference_steps=2, generator=noise).images[0]).astype(int)
        assert np.abs(expected - np.asarray(source).astype(int)).max() > 10  # an edit, else the test shows nothing
        assert np.abs(pixels(alone[row.key]) - expected).max() == 0
        assert np.abs(pixels(together[row.key]) - expected).max() <= 1
    assert alone["animals/0"] != edits_of_other_seed(run, rows[0], tmp_path)


def edits_of_other_seed(run, row, tmp_path) -> bytes:
    run([replace(row, seed=99)], "seed")
    return (tmp_path / "seed" / f"{row.key}.png").read_bytes()


def test_a_scheduler_that_draws_noise_in_every_step(run, make_rows, edits, tiny_pipe, tmp_path, monkeypatch):
    from diffusers import EulerAncestralDiscreteScheduler

    monkeypatch.setattr(tiny_pipe, "scheduler", EulerAncestralDiscreteScheduler.from_config(tiny_pipe.scheduler.config))
    rows = make_rows(4)
    run(rows, "one")
    run(rows[::-1], "two", batch=2)
    alone, together = edits(tmp_path / "one"), edits(tmp_path / "two")
    assert all(np.abs(pixels(alone[key]) - pixels(together[key])).max() <= 1 for key in alone)


def test_options_reach_the_pipeline(run, make_rows, edits, tiny_pipe, tmp_path, monkeypatch):
    """keep_outside too: random weights mean everything or nothing, so here they mean the left half."""
    row, condition = make_rows(1)[0], tiny_pipe.editor.condition

    def left_half(tokens, instructions):
        made = condition(tokens, instructions)
        made.mask = torch.zeros(len(instructions), 64, 64)
        made.mask[:, :, :32] = 1
        return made

    monkeypatch.setattr(tiny_pipe.editor, "condition", left_half)
    options = EditOptions(steps=1, text_guidance=2.0, image_guidance=1.0, working_size=32, keep_outside="exact")
    run([row], "out", options)
    expected = tiny_pipe(
        Image.open(row.image), row.instruction, num_inference_steps=1, text_guidance=2.0, image_guidance=1.0, working_size=32,
        keep_outside="exact", generator=torch.Generator().manual_seed(row.seed),
    ).images[0]  # fmt: skip
    made, source = pixels(edits(tmp_path / "out")[row.key]), np.asarray(Image.open(row.image))
    assert np.array_equal(made, np.asarray(expected))
    assert np.array_equal(made[:, 40:], source[:, 40:]) and not np.array_equal(made[:, :24], source[:, :24])
    run([row], "off", replace(options, keep_outside="off"))
    assert not np.array_equal(pixels(edits(tmp_path / "off")[row.key])[:, 40:], source[:, 40:])


def test_pictures_of_one_size_go_together(run, make_rows, monkeypatch):
    sizes = []
    original = editing.edit_pictures

    def spy(pipe, pictures, *rest):
        sizes.append([p.size for p in pictures])
        return original(pipe, pictures, *rest)

    monkeypatch.setattr(editing, "edit_pictures", spy)
    run(make_rows(7), batch=3)
    assert sizes == [[(64, 64)] * 3, [(64, 64)], [(96, 48)] * 3]


def test_a_broken_picture_fails_alone_and_can_be_mended(run, make_rows, edits, tmp_path):
    rows = make_rows(6)
    run(rows, "good", batch=3)
    whole = rows[2].image.read_bytes()
    rows[0].image.unlink()
    rows[2].image.write_bytes(whole[: len(whole) // 2])  # its head is right, its pixels end too soon
    rows[3].image.write_bytes(b"no picture")
    rows[5] = replace(rows[5], instruction="  ")
    report = run(rows, batch=3)
    broken = ["animals/0", "animals/2", "animals/3", "animals/5"]
    assert sorted(report.failed) == broken and sorted(report.done) == ["animals/1", "animals/4"] == list(edits(tmp_path / "out"))
    assert "No such file" in report.failed["animals/0"] and "no instruction" in report.failed["animals/5"]
    listed = [json.loads(line) for line in (tmp_path / "out/failed.jsonl").read_text().splitlines()]
    assert {r["key"]: r["reason"] for r in listed} == report.failed

    rows = [replace(row, instruction=good.instruction) for row, good in zip(rows, make_rows(6))]
    before = {f: f.stat().st_mtime_ns for f in (tmp_path / "out").rglob("*.png")}
    report = run(rows, batch=3)
    assert sorted(report.done) == broken and sorted(report.skipped) == ["animals/1", "animals/4"] and not report.failed
    assert not (tmp_path / "out/failed.jsonl").exists()
    assert all(f.stat().st_mtime_ns == when for f, when in before.items())  # what was there was not written again
    good, mended = edits(tmp_path / "good"), edits(tmp_path / "out")
    assert all(good[key] == mended[key] for key in broken)


def test_the_colours_of_a_photograph_mean_what_they_meant(run, make_rows, tmp_path):
    """A phone's Display P3 came back without its profile, and looked paler all over."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    rows = make_rows(4)
    Image.open(rows[2].image).save(rows[2].image, icc_profile=profile)
    run(rows, batch=2)
    found = [Image.open(tmp_path / "out" / f"{row.key}.png").info.get("icc_profile") for row in rows]
    assert found == [None, None, profile, None]


@pytest.mark.parametrize("stopped_after", [0, 1, 4])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(run, make_rows, edits, tmp_path, monkeypatch, stopped_after):
    rows = make_rows(6)
    run(rows, "whole", batch=2)
    writes = []
    original = Image.Image.save

    def save(self, file, **more):
        if len(writes) == stopped_after:
            file.write(b"\x89PNG half a picture")
            raise KeyboardInterrupt
        writes.append(file)
        original(self, file, **more)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Image.Image, "save", save)
        run(rows, batch=2)
    half = edits(tmp_path / "out")
    assert len(half) == stopped_after
    assert all(content == edits(tmp_path / "whole")[key] for key, content in half.items())
    report = run(rows, batch=2)
    assert sorted(report.skipped) == sorted(half) and len(report.done) == 6 - stopped_after and len(report) == 6
    assert edits(tmp_path / "out") == edits(tmp_path / "whole")
    assert run(rows, batch=2).skipped == [row.key for row in rows]


def test_results_of_something_else_are_not_taken_for_these(run, make_rows):
    rows = make_rows(2)
    run(rows)
    for other, options in (
        ([replace(rows[0], instruction="make it red"), rows[1]], STEPS), ([replace(rows[0], seed=5), rows[1]], STEPS),
        (rows, EditOptions(steps=1)),
    ):  # fmt: skip
        with pytest.raises(RowError, match=r"made with another .*animals/0\.png; give another folder"):
            run(other, options=options)
    assert run(rows).skipped == [row.key for row in rows]


def test_a_picture_that_came_without_a_journal_counts(run, make_rows, tmp_path):
    """A worker can be killed between the picture and its line."""
    rows = make_rows(2)
    run(rows)
    for journal in (tmp_path / "out" / HIDDEN).glob("*.jsonl"):
        lines = journal.read_text().splitlines(keepends=True)
        journal.write_text(lines[0] + lines[1][:-9])
    assert run(rows).skipped == [row.key for row in rows]


def test_what_a_batch_cannot_take_is_done_one_by_one(run, make_rows, monkeypatch):
    rows = make_rows(4)
    original = editing.edit_pictures

    def small_memory(pipe, pictures, instructions, *rest):
        if len(pictures) > 1 or instructions == [rows[2].instruction]:
            raise torch.OutOfMemoryError("out of memory")
        return original(pipe, pictures, instructions, *rest)

    monkeypatch.setattr(editing, "edit_pictures", small_memory)
    report = run(rows, batch=2)
    assert sorted(report.done) == ["animals/0", "animals/1", "animals/3"]
    assert report.failed == {"animals/2": "not editable: out of memory"}


def test_two_rows_of_one_key_and_no_batch(run, make_rows, tmp_path):
    rows = make_rows(2)
    with pytest.raises(RowError, match="more than one row, the first is 'animals/1'"):
        run([*rows, rows[1]])
    with pytest.raises(RowError, match="1 or more"):
        run(rows, batch=0)
    with pytest.raises(RowError, match="1 or more"):
        run(rows, chunk=0)
    assert not (tmp_path / "out").exists()
    assert len(run([])) == 0


def test_rows_over_which_workers_die(make_rows, tiny_pipe, tiny_bundle, tmp_path, monkeypatch):
    """Once: tried again as they were; twice: one by one; three times: given up. Of another run: no matter."""
    rows = [row for row in make_rows(6) if row.key in ("animals/0", "animals/2", "animals/4")]
    keys = [row.key for row in rows]
    calls = []

    class Killed(BaseException):
        pass

    def deadly(pipe, pictures, instructions, seeds, options):
        calls.append(len(pictures))
        if rows[1].instruction in instructions:
            raise Killed
        return pictures

    monkeypatch.setattr(editing, "edit_pictures", deadly)
    ResultWriter(tmp_path, tiny_bundle, STEPS).begin("an older run", keys * 5)
    for _ in range(3):
        with pytest.raises(Killed):
            list(RowEditor(tiny_pipe, tmp_path, tiny_bundle, STEPS, 3, run="this").edit(rows))
    outcomes = dict(RowEditor(tiny_pipe, tmp_path, tiny_bundle, STEPS, 3, run="this").edit(rows))
    assert calls == [3, 3, 1, 1, 1]  # twice all; then 0, 2 (dies); then 4
    assert [row.key for row in outcomes] == keys
    assert list(outcomes.values())[::2] == [None, None] and "3 workers died" in outcomes[rows[1]]
