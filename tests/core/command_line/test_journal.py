# SPDX-License-Identifier: GPL-3.0-or-later
"""What was done is written down and not done again, and what is another's stays as it is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from fireedit_cli import __main__ as command
from fireedit_cli import batch
from fireedit_cli.jobs import jobs_of
from fireedit_cli.journal import JOURNAL, Journal
from fireedit_cli.ways import Ways
from fireedit_cli.workflow import Workflow
from fireedit_core import file_names

from .conftest import edit, journal


def test_what_was_done_is_known_by_all_that_it_depends_on(pictures, tmp_path, recorder):
    source, out = pictures / "one.png", tmp_path / "o.png"

    def sent(*changes: object) -> int:
        before = len(recorder.sent)
        assert edit(source, *(changes or ("remove it",)), "-o", out) == 0
        return len(recorder.sent) - before

    assert sent() == 1 and sent() == 0
    for change in (("make it red",), ("remove it", "--seed", 5), ("remove it", "--steps", 9), ("remove it", "--bundle", "other")):
        assert sent(*change) == 1 and sent(*change) == 0, change
    assert sent() == 1  # the latest line is what lies there
    Image.new("RGB", (8, 6), "white").save(source)
    assert sent() == 1 and sent() == 0
    out.unlink()
    assert sent() == 1


def test_changed_weights_are_another_edit(pictures, tmp_path):
    bundle = tmp_path / "bundle"
    (bundle / "unet").mkdir(parents=True)
    (bundle / "model_index.json").write_text("{}")
    weights = bundle / "unet" / "w.safetensors"
    weights.write_bytes(b"one")
    options = command.parser().parse_args(["edit", "x.png", "x", "--bundle", str(bundle)])
    stamp = lambda: json.dumps(command.weights_stamp(options, Workflow.load()))  # noqa: E731
    seen = [stamp()]
    weights.write_bytes(b"two!")
    seen.append(stamp())
    weights.write_bytes(b"tree")
    os.utime(weights, ns=(1, 1))
    seen.append(stamp())
    weights.parent.rename(tmp_path / "elsewhere")
    weights.parent.symlink_to(tmp_path / "elsewhere")  # the host loads what a link leads to
    assert len(set(seen)) == 3 and stamp() == seen[-1]


def test_the_stamp_of_an_own_server_has_the_weights_in_it(pictures, tmp_path, recorder, monkeypatch):
    class Own:
        url, models_dir = "http://own", tmp_path / "models"

        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda self, *_: None  # noqa: E731

    monkeypatch.setattr(command, "ComfyServer", Own)
    found = ["old"]
    monkeypatch.setattr(command, "weights_stamp", lambda options, flow: found)
    arguments = ["edit", str(pictures / "one.png"), "remove it", "-o", str(tmp_path / "o.png"), "--quiet"]
    assert command.main(arguments) == 0 and command.main(arguments) == 0 and len(recorder.sent) == 1
    found[:] = ["new"]
    assert command.main(arguments) == 0 and len(recorder.sent) == 2


def test_a_line_of_this_run_is_the_latest(pictures, tmp_path):
    """A journal that has been read knows what it has written since."""
    first, second = (jobs_of(pictures / "one.png", text, tmp_path / "o.png")[0] for text in ("remove it", "make it red"))
    book = Journal("settings")
    (tmp_path / "o.png").write_bytes(b"picture")
    for job, other in ((first, second), (second, first), (first, second)):
        book.write(job, "http://one", 1.0)
        assert book.done(job) and not book.done(other)
        assert Journal("settings").done(job) and not Journal("settings").done(other) and not Journal("others").done(job)


@pytest.mark.parametrize("cut", ("within a word", "within a letter"))
def test_a_line_that_was_cut_off_takes_no_other_with_it(pictures, tmp_path, cut):
    """Power that fails while the journal is written: only that edit is done again, and the next line is one of its own."""
    jobs = jobs_of(pictures, "remove it → gone\u2028now", tmp_path / "out")
    (tmp_path / "out").mkdir()
    for job in jobs:
        job.output.write_bytes(b"picture")
    book = Journal("")
    book.write(jobs[0], "http://one", 1.0)
    file = tmp_path / "out" / JOURNAL
    whole = file.read_bytes()
    book.write(jobs[1], "http://one", 1.0)
    line = file.read_bytes()[len(whole) :]
    file.write_bytes(whole + line[: 20 if cut == "within a word" else line.index("→".encode()) + 1])
    book = Journal("")
    assert [book.done(job) for job in jobs] == [True, False, False]
    book.write(jobs[2], "http://one", 1.0)
    assert [Journal("").done(job) for job in jobs] == [True, False, True]


# --- what is another's stays ------------------------------------------------------------------------------------------


def test_a_result_that_somebody_worked_on_is_no_longer_ours(pictures, tmp_path, recorder, caplog):
    """It was written over in silence by the next run with other settings, because its name stood in the journal."""
    source, out = pictures / "one.png", tmp_path / "o.png"
    assert edit(source, "remove it", "-o", out) == 0
    Image.new("RGB", (8, 6), "white").save(out)
    retouched = out.read_bytes()
    assert edit(source, "remove it", "-o", out) == 0 and out.read_bytes() == retouched  # done, and more
    assert edit(source, "make it red", "-o", out) == 2 and "has been changed since" in caplog.text
    assert out.read_bytes() == retouched and len(recorder.sent) == 1
    assert edit(source, "make it red", "-o", out, "--overwrite") == 0 and out.read_bytes() != retouched
    assert edit(source, "make it blue", "-o", out) == 0  # ours again


def test_the_edit_of_another_picture_is_not_written_over(pictures, tmp_path, caplog):
    """one.png and one.jpg are both edited into one_edited.png."""
    Image.new("RGB", (8, 6), "white").save(pictures / "one.jpg")
    assert edit(pictures / "one.jpg", "remove it") == 0
    before = (pictures / "one_edited.png").read_bytes()
    assert edit(pictures / "one.png", "remove it") == 2 and "not made by this command of this picture" in caplog.text
    assert (pictures / "one_edited.png").read_bytes() == before
    assert edit(pictures / "one.jpg", "make it red") == 0
    for older, code in (("elsewhere/one.jpg", 2), ("elsewhere/one.png", 0)):
        (pictures / JOURNAL).write_text(json.dumps({"output": "one_edited.png", "stamp": "x", "source": older}) + "\n")
        assert edit(pictures / "one.png", "remove it") == code


def test_a_picture_that_changes_while_it_is_edited_is_edited_again(pictures, tmp_path, recorder, monkeypatch):
    """The journal said of the new one that it was done; a picture that was gone by then failed beside its own edit."""
    run, source, other = recorder.run, pictures / "one.png", pictures / "two.png"

    def meanwhile(self, *arguments):
        source.write_bytes(other.read_bytes())
        return run(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(recorder, "run", meanwhile)
        assert edit(source, "remove it", "-o", tmp_path / "o.png") == 0
    assert edit(source, "remove it", "-o", tmp_path / "o.png") == 0
    assert [Workflow(graph).get("LoadImage", "image") for graph in recorder.sent][-1] in recorder.uploads
    assert len(recorder.sent) == 2 and len(recorder.uploads) == 2


@pytest.mark.parametrize("before", [False, True])
def test_killed_before_a_picture_is_in_its_place_it_is_made_again(pictures, tmp_path, recorder, monkeypatch, before):
    """Killed between picture and journal, a run found a file there that it did not know, and refused to go on."""
    source, out = pictures / "one.png", tmp_path / "o.png"
    assert not before or edit(source, "make it red", "-o", out) == 0

    def killed(self, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        job = jobs_of(source, "remove it", out, seed=7)[0]
        note = lambda *told: journals.write(job, "http://one", *told)  # noqa: E731
        journals = Journal("settings")
        with pytest.raises(KeyboardInterrupt):
            batch.edit(recorder("http://one"), Ways(Workflow.load()), job, note=note)
    assert not Journal("settings").done(job) and journal(tmp_path)[-1]["instruction"] == "remove it"
    batch.edit(recorder("http://one"), Ways(Workflow.load()), job, note=note)
    assert Journal("settings").done(job) and Journal("settings").knows(job)


def test_two_runs_that_make_one_picture_do_not_write_into_one_file(pictures, tmp_path, recorder, monkeypatch):
    """The second one began the first one's half file anew, and the first put that in its place."""
    parts, replace = [], Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: parts.append(self.name) or replace(self, target))
    for _ in range(2):
        batch.edit(recorder("http://one"), Ways(Workflow.load()), jobs_of(pictures / "one.png", "x", tmp_path / ("o" * 246 + ".png"))[0])
    assert len(set(parts)) == 2 and all(part.startswith(".") for part in parts)


def test_a_changed_detector_is_another_edit(tmp_path):
    detector = tmp_path / "finder"
    detector.mkdir()
    (detector / "config.json").write_text("{}")
    options = command.parser().parse_args(["edit", "x.png", "x", "--way", "photo", "--detector", str(detector)])
    stamp = lambda: json.dumps(command.weights_stamp(options, command.photo_flow(str(detector))))  # noqa: E731
    seen = []
    for content in (b"one", b"three"):
        (detector / "model.safetensors").write_bytes(content)
        seen.append(stamp())
    assert len(set(seen)) == 2 and "[]" not in seen


@pytest.mark.parametrize("folds", [False, True])
def test_two_results_that_are_one_file_there(pictures, tmp_path, monkeypatch, folds, caplog, recorder):
    """Cat.png and cat.png are two files on Linux; elsewhere the second was written over the first, and both were "done"."""
    monkeypatch.setattr(file_names, "_folds", lambda folder: folds)
    (pictures / "rows.csv").write_text("image,output\none.png,Cat.png\ntwo.png,cat.png\n")
    assert edit(pictures / "rows.csv", "remove it", "-o", tmp_path / "out") == (2 if folds else 0)
    assert ("Cat.png" in caplog.text and "are one file there" in caplog.text) is folds and len(recorder.sent) == (0 if folds else 2)
