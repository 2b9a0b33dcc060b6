# SPDX-License-Identifier: GPL-3.0-or-later
"""The paper's table 3, small: random weights of the true classes, from a converted bundle to the table."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import yaml

from fireedit_core.checkpoints.bundle import bundle_options, read_index
from fireedit_core.checkpoints.convert import Sources, convert
from fireedit_core.data.writers.registry import write
from fireedit_core.training.paper import __main__ as program
from fireedit_core.training.paper import table3
from fireedit_core.training.paper.config import load_config
from tests.core.checkpoints import small_ip2p


def test_each_row_lacks_what_the_one_before_it_lacks_but_for_one_module():
    config = replace(load_config(["paper_2_joint"])[0], train_parts=["unet", "qformer", "hvca"])
    rows = [table3.row_config(config, name) for name in table3.ROWS]
    assert [(r.regions, r.tati, r.hvca, r.shared_output) for r in rows] == [
        (False, False, False, False), (True, False, False, False), (True, True, False, False), (True, True, True, True)
    ]  # fmt: skip
    assert [r.trained for r in rows] == [("unet", "qformer")] * 3 + [("unet", "qformer", "hvca")]
    assert len({r.out for r in rows}) == 4
    assert replace(rows[-1], out=config.out) == config


def test_the_table_puts_the_published_number_behind_each():
    found = {name: {"l1": 0.1 * k, "lpips": 0.5} for k, name in enumerate(table3.ROWS)}
    text = table3.table(found)
    assert "| base | 0.0000 (0.0897) | 0.5000 (0.3174) |" in text and "| + HVCA | 0.3000 (0.0574) | 0.5000 (0.1373) |" in text
    assert "| + TATI | 0.2000 (0.0609) | 0.5000 (0.1580) |" in text
    assert "Only the first" not in text and "Only the first 5 rows of the set: no number here compares" in table3.table(found, 5)


def test_paths_of_the_command_line_are_those_of_the_row_s_process(tmp_path, monkeypatch):
    """`--out ../runs` was read below the row's own folder: it trained, and then its bundle was not found."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    config = replace(load_config(["paper_2_joint"])[0], out="../runs", bundle="./start", sources="data/sources.yaml")
    seen = []

    def run(command, check):
        seen.append(load_config(command[3:])[0])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(table3.subprocess, "run", run)
    made = table3.train_row(table3.row_config(config, "base"), ["python"])
    assert Path(seen[0].out).resolve() == tmp_path / "runs" / "base" == made.parent.resolve()
    assert Path(seen[0].bundle).resolve() == tmp_path / "here" / "start" and seen[0].sources == "data/sources.yaml"


def test_a_dry_run_trains_nothing(monkeypatch, tmp_path, caplog):
    """`--dry-run` was swallowed."""
    monkeypatch.setattr(table3, "estimate", lambda config: f"estimate of {config.out}")
    monkeypatch.setattr(table3, "run", lambda *given: pytest.fail("it trains"))
    with caplog.at_level("INFO", "fireedit"):
        assert table3.main(["paper_2_joint", "--emu", str(tmp_path), "--out", "runs/t", "--dry-run"]) == 0
    assert [f"estimate of runs/t/{room}" in caplog.text for room in ("base", "region-tokens", "tati", "hvca")] == [True] * 4


@pytest.mark.slow
def test_all_rows_from_a_converted_bundle_to_a_table(tmp_path, monkeypatch):
    run = subprocess.run

    def here(command, *args, **kwargs):  # the very command, without a process for each
        if command[:3] != [sys.executable, "-m", "fireedit_core.training.paper"]:
            return run(command, *args, **kwargs)
        return subprocess.CompletedProcess(command, program.main(command[3:]))

    monkeypatch.setattr(table3.subprocess, "run", here)
    small_ip2p.pipeline(tmp_path / "words").save_pretrained(tmp_path / "ip2p")
    convert(tmp_path / "bundle", Sources(instructpix2pix=tmp_path / "ip2p"), config=small_ip2p.CONFIG, dtype=torch.float32)
    index = tmp_path / "bundle" / "model_index.json"  # as with --groma, whose detector was trained
    told = json.loads(index.read_text())
    index.write_text(json.dumps(told | {"untrained": [name for name in told["untrained"] if name != "detector"]}))
    data = write(tmp_path / "data", ["pairs", "emu-edit"], count=2)
    paper = load_config(["paper_2_joint"])[0]
    small = replace(
        paper, bundle=str(tmp_path / "bundle"), sources=str(data), out=str(tmp_path / "runs"), size=64, steps=1, batch=1, accumulate=1,
        conversation_rows=0, workers=0, validation=0, max_regions=3, precision="no", frozen_dtype="float32", checkpointing=False,
    )  # fmt: skip
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(asdict(small)))
    arguments = [str(file), "--emu", str(tmp_path / "data" / "emu-edit"), "--edit-steps", "1"]
    assert table3.main(arguments) == 0
    found = json.loads((tmp_path / "runs" / "table3.json").read_text())
    assert list(found) == list(table3.ROWS) and all(0 < row["l1"] < 1 for row in found.values())
    lacks = [bundle_options(read_index(tmp_path / "runs" / room / "bundle")) for room in ("base", "region-tokens", "tati", "hvca")]
    off = [{"tati", "hvca"}, {"tati", "hvca"}, {"hvca"}, set()]
    assert [set(o["untrained"]) for o in lacks] == [{"grounding", *names} for names in off]
    assert [set(o["without"]) for o in lacks] == [{"regions", "meant_region", "grounding"}] + [{"meant_region", "grounding"}] * 3
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="false -m fireedit_core.training.paper .* ended with 1; .* goes on from there"):
        table3.train_row(table3.row_config(small, "base"), ["false"])
