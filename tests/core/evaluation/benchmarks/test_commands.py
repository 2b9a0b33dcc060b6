# SPDX-License-Identifier: GPL-3.0-or-later
"""The two commands as a user runs them, and what they leave: tables, a plot, a sheet."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from fireedit_core.data.writers import emu_edit, pie_bench
from fireedit_core.evaluation.__main__ import main
from fireedit_core.evaluation.benchmarks.profiles import MAGICBRUSH
from fireedit_core.evaluation.benchmarks.report import markdown
from fireedit_core.evaluation.benchmarks.sheet import every_nth

from .conftest import noisy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def generated(tmp_path_factory, data):
    """Results of somebody else for single turns."""
    root = tmp_path_factory.mktemp("results")
    for number, target in enumerate(sorted(data.glob("images/*/*-output*.png"))):
        session, turn = target.parent.name, int(target.stem[-1])
        (root / session).mkdir(exist_ok=True)
        noisy(Image.open(target), number).save(root / session / f"{session}_{'1' if turn == 1 else f'inde_{turn}'}.png")
    return root


@pytest.fixture(autouse=True)
def everything_logged(caplog):
    caplog.set_level("INFO", "fireedit")


def run(*arguments):
    return main([str(a) for a in arguments])


class Reader(HTMLParser):
    """What a browser would find."""

    def __init__(self, text):
        super().__init__()
        self.pictures, self.tags, self.rows, self.words = [], set(), 0, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.rows += tag == "tr"
        if tag == "img":
            self.pictures.append(dict(attributes)["src"])

    def handle_data(self, data):
        self.words.append(data)


def test_score_writes_table_plot_and_sheet(data, generated, weights_folder, tmp_path, caplog):
    arguments = ("--data", data, "--generated", generated, "--metric-weights", weights_folder, "--out", tmp_path, "--name", "somebody <b>")
    assert run("score", "magicbrush", "--mode", "single", "--device", "cpu", *arguments) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["profile"]["hash"] == MAGICBRUSH.fingerprint and result["left_out"] == {} and result["generation"] is None
    assert result["software"]["torch"] and result["software"]["lpips"] != "-"
    text = (tmp_path / "result.md").read_text()
    edit = result["views"]["single"]["tables"]["edit"]["overall"]["l1"]
    row = next(line for line in text.splitlines() if line.startswith("| somebody <b> | 6 |"))
    assert f"| {edit['mean']:.4f} [{edit['interval'][0]:.4f}, {edit['interval'][1]:.4f}] |" in row
    for wanted in ("| doing nothing (the source) | 6 |", "| the targets themselves | 6 |", "| FireEdit (paper) |  | 0.0701 | 0.0238 |",
                   "| turn 3 |", "the published set has 1053", MAGICBRUSH.fingerprint, "Qwen-Image-Edit-2511"):  # fmt: skip
        assert wanted in text, wanted
    assert Image.open(tmp_path / "result.png").width > 800
    sheet = (tmp_path / "sheet.html").read_text()
    page = Reader(sheet)
    assert len(page.pictures) == 6 * 3 and not page.tags & {"script", "link", "iframe"} and "http" not in sheet
    for source in page.pictures:  # every picture is in the file and opens
        assert source.startswith("data:image/jpeg;base64,")
        assert max(Image.open(io.BytesIO(base64.b64decode(source.split(",", 1)[1]))).size) <= 224
    first = json.loads((data / "edit_turns.json").read_text())[0]["instruction"]
    assert first in page.words and "somebody <b>" in page.words and "<b>somebody" not in sheet.replace("&lt;b&gt;", "")
    assert not [w for w in caplog.messages if w.startswith("left out")]
    # the thumbnails stand in the order that their captions say
    assert re.findall(r"<figcaption>(.*?)</figcaption>", sheet)[:3] == ["source", "edit", "target"]


def test_without_weights_only_pixels_are_compared_and_a_line_says_what_to_get(data, generated, tmp_path, caplog):
    weights = tmp_path / "weights"
    weights.mkdir()
    arguments = ("--data", data, "--generated", generated, "--metric-weights", weights, "--out", tmp_path / "out")
    assert run("score", "magicbrush", "--mode", "single", *arguments) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["profile"]["metrics"] == ["l1", "l2"] and set(result["left_out"]) == {"clip_i", "dino", "clip_t", "lpips"}
    lines = [line for line in caplog.messages if line.startswith("left out")]
    assert len(lines) == 3  # one for each network, not for each metric
    network = "clip-vit-base-patch32"
    assert f"left out: clip_i, clip_t: the folder {weights}/{network} is not there; put openai/{network} there" in lines[0]
    assert "clip-vit-base-patch32 is not there" in (tmp_path / "out" / "result.md").read_text()
    assert "clip-vit-base-patch32 is not there" in (tmp_path / "out" / "sheet.html").read_text()


def test_judged_scores_stand_beside_the_metrics(data, generated, tmp_path, caplog):
    keys = ["100000/100000_1", "100000/100000_inde_2", "100001/100001_1"]
    scores = {key: {"sc": 2.0 * n, "pq": 8} for n, key in enumerate(keys, 1)} | {"other/key": {"sc": 1}}
    (tmp_path / "judge.json").write_text(json.dumps(scores))
    arguments = ("--data", data, "--generated", generated, "--out", tmp_path / "out", "--judge-scores", tmp_path / "judge.json")
    assert run("score", "magicbrush", "--mode", "single", *arguments) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    table = result["views"]["single"]["tables"]
    assert table["edit"]["overall"]["sc"] | {"interval": 0} == {"n": 3, "mean": 4.0, "interval": 0}
    assert table["edit"]["turn 1"]["sc"]["mean"] == 4.0 and table["edit"]["turn 2"]["sc"]["n"] == 1
    assert table["identity"]["overall"]["sc"]["n"] == 0
    assert "judge: sc" in (tmp_path / "out" / "result.md").read_text() and "1 judged keys are no edit" in caplog.text
    for wrong in ("{", "[]", '{"a": 3}', '{"a": {"sc": "7"}}', '{"a": {"sc": NaN}}'):
        (tmp_path / "judge.json").write_text(wrong)
        caplog.clear()
        assert run("score", "magicbrush", *arguments) == 1 and "judge.json" in caplog.text


def test_identity_and_oracle_as_results(data, tmp_path, weights_folder):
    """The sources as results give the identity's numbers, the targets those of the reference."""
    for session in (data / "images").iterdir():
        for kind in ("same", "oracle"):
            (tmp_path / kind / session.name).mkdir(parents=True)
        turns = len(list(session.glob("*-output*.png")))
        for turn in range(1, turns + 1):
            name = f"{session.name}_1.png" if turn == 1 else f"{session.name}_inde_{turn}.png"
            before = session / (f"{session.name}-input.png" if turn == 1 else f"{session.name}-output{turn - 1}.png")
            (tmp_path / "same" / session.name / name).write_bytes(before.read_bytes())
            (tmp_path / "oracle" / session.name / name).write_bytes((session / f"{session.name}-output{turn}.png").read_bytes())
    for kind, row in (("same", "identity"), ("oracle", "reference")):
        arguments = ("--data", data, "--generated", tmp_path / kind, "--out", tmp_path / f"out-{kind}", "--metric-weights", weights_folder)
        assert run("score", "magicbrush", "--mode", "single", *arguments) == 0
        tables = json.loads((tmp_path / f"out-{kind}" / "result.json").read_text())["views"]["single"]["tables"]
        assert tables["edit"] == tables[row]
    assert tables["reference"]["overall"]["l1"]["mean"] == 0 and tables["identity"]["overall"]["l1"]["mean"] > 0


def test_generate_and_score_one_after_the_other(scenes, bundle, tmp_path, caplog):
    emu_edit.write_set(tmp_path / "data", scenes[:3], "test")
    where = ("--data", tmp_path / "data", "--cache", tmp_path / "cache", "--limit", 2)
    make = ("generate", "emu", *where, "--bundle", bundle, "--out", tmp_path / "made", "--steps", 2, "--device", "cpu")
    assert run(*make) == 0 and "2 edited, 0 were there already, 0 failed" in caplog.text
    assert run(*make) == 0 and "0 edited, 2 were there already, 0 failed" in caplog.text
    assert run(*make, "--seed", 1) == 1 and "made with other settings (seed 0, now 1)" in caplog.text
    assert run(*make, "--split", "validation") == 1 and "split 'test', now 'validation'" in caplog.text
    assert run("score", "emu", *where, "--generated", tmp_path / "made", "--out", tmp_path / "out", "--sheet", 1) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["views"]["all"]["used"] == 2 and result["limit"] == 2 and result["generation"]["split"] == "test"
    text = (tmp_path / "out" / "result.md").read_text()
    assert "Only the first 2 of the data" in text and "2 steps, text guidance 1" in text and "Inferred, not stated in the paper" in text
    assert "1 of 2 at even distances, not chosen" in (tmp_path / "out" / "sheet.html").read_text()


def test_a_row_that_fails_shows_in_the_exit_code(scenes, bundle, tmp_path, caplog):
    pie_bench.write(tmp_path / "pie", scenes[:1])
    next(tmp_path.rglob("*.jpg")).write_bytes(b"no picture")
    assert run("generate", "pie-bench", "--data", tmp_path / "pie", "--bundle", bundle, "--out", tmp_path / "out", "--steps", 1) == 1
    assert "0 edited, 0 were there already, 1 failed" in caplog.text
    assert "  annotation_images/0_random_140/000000000000: broken" in caplog.text


def test_an_infinite_psnr_is_no_broken_table(scenes, tmp_path):
    pie_bench.write(tmp_path / "pie", scenes[:2])
    files = sorted((tmp_path / "pie" / "annotation_images").rglob("*.jpg"))
    for number, file in enumerate(files):
        target = tmp_path / "g" / file.relative_to(tmp_path / "pie" / "annotation_images")
        target.parent.mkdir(parents=True)
        if number:
            noisy(Image.open(file), 1).save(target.with_suffix(".png"))
        else:
            target.write_bytes(file.read_bytes())
    assert run("score", "pie-bench", "--data", tmp_path / "pie", "--generated", tmp_path / "g", "--out", tmp_path / "out") == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    found = result["views"]["all"]["tables"]["edit"]["overall"]["psnr_background"]
    assert found["n"] == 1 and found["infinite"] == 1 and math.isfinite(found["mean"])
    assert re.search(r"\| \d+\.\d\d \[\d+\.\d\d, \d+\.\d\d\] \(\+1 inf\) \|", markdown(result))


def test_mistakes_on_the_command_line(data, tmp_path, caplog):
    common = ("--data", data, "--out", tmp_path / "o")
    for arguments, said in (
        (("score", "magicbrush", *common, "--generated", tmp_path / "none"), "there is no folder of results"),
        (("score", "magicbrush", *common, "--generated", tmp_path, "--profile", "pie_bench"), "magicbrush has the profiles magicbrush"),
        (("score", "pie-bench", *common, "--generated", tmp_path), "mapping_file.json cannot be read"),
        (("score", "emu", *common, "--generated", tmp_path, "--mode", "multi"), "--mode is for magicbrush"),
        (("score", "magicbrush", *common, "--generated", tmp_path, "--limit", "-1"), "--limit must be 0 or more"),
        (("generate", "magicbrush", *common, "--bundle", tmp_path / "none"), "does not exist"),
        (("generate", "magicbrush", *common, "--steps", 0), "steps must be 1 or more"),
    ):
        caplog.clear()
        assert run(*arguments) == 1 and said in caplog.text, said
    assert not (tmp_path / "o").exists()


def test_every_nth():
    assert every_nth(range(10), 4) == [0, 2, 5, 7] and every_nth(range(3), 4) == [0, 1, 2] and every_nth(range(9), 0) == list(range(9))
    assert np.diff(every_nth(range(1053), 60)).max() <= 18
