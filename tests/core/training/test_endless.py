# SPDX-License-Identifier: GPL-3.0-or-later
"""The trainer that never sleeps, at the smallest scale: as a process that is killed, stopped, asked and started again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("tensorboard")
from fireedit_core.checkpoints.bundle import bundle_options, load_components, read_index
from fireedit_core.data import WORLD
from fireedit_core.evaluation.familiarity import keep
from fireedit_core.training import endless
from fireedit_core.training.edit_cache import RollingCache, fingerprint
from fireedit_core.training.endless import AlreadyRunning, EndlessConfig, looks_of, status, stop
from fireedit_core.training.tiny import renewed

from .small import SIZES, write_small_bundle

# what a process of its own runs: the real `run`, small
PROGRAM = """
import sys, logging
from pathlib import Path
from fireedit_core.data import WORLD
from fireedit_core.training.endless import EndlessConfig, run
from tests.core.training.small import SIZES
logging.basicConfig(level=logging.INFO)
folder, start, last, cooldown, pieces = sys.argv[1:]
run(EndlessConfig(
    folder=Path(folder), start=Path(start), pieces=Path(pieces),
    batch=4, warmup=1, pairs=8, width=2, validation=4, validate_minutes=1e9, save_minutes=0.0,
    compiled=False, cooldown=int(cooldown), last_step=int(last), world=WORLD, sizes=SIZES,
    head_steps=2,
))
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def start(repo, tmp_path_factory):
    return write_small_bundle(repo, tmp_path_factory.mktemp("start"), looks=1000)


def launch(repo, folder, start, last=12, cooldown=0, pieces="none") -> subprocess.Popen:
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repo)}
    command = [sys.executable, "-c", PROGRAM, str(folder), str(start), str(last), str(cooldown), str(pieces)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=repo)


def step_of(folder: Path) -> int:
    record = folder / "diffusion" / "state" / "progress.json"
    try:
        return json.loads(record.read_text())["step"]
    except (OSError, ValueError):  # none yet, or between two renames
        return 0


def wait_for(condition, process, seconds=180):
    until = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None and not condition():
            raise AssertionError(process.stderr.read().decode()[-3000:])
        assert time.monotonic() < until, "nothing came of it in time"
        time.sleep(0.05)


def finish(process) -> None:
    """Wait for a process that ends by itself, and must end well."""
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said.decode()[-3000:]


def state(folder: Path) -> dict[str, torch.Tensor]:
    """Weights, averages and Adam's moments as they lie on disk."""
    folder = folder / "diffusion" / "state"
    found = {f"weight {k}": v for k, v in load_file(folder / "model.safetensors").items()}
    moments = torch.load(folder / "optimizer.bin", weights_only=True)["state"]
    found |= {f"adam {i} {k}": torch.as_tensor(v) for i, row in moments.items() for k, v in row.items()}
    averages = torch.load(folder / "custom_checkpoint_0.pkl", weights_only=True)["shadow_params"]
    return found | {f"average {i}": v for i, v in enumerate(averages)}


@pytest.mark.slow
def test_killed_stopped_and_started_again_it_is_the_run_that_nobody_disturbed(repo, start, tmp_path):
    """12 steps of 4 pairs, three passes over 16, in one go; and in three: kill -9, then SIGTERM."""
    finish(launch(repo, tmp_path / "whole", start))
    broken = tmp_path / "broken"
    process = launch(repo, broken, start)
    wait_for(lambda: step_of(broken) >= 3, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    killed_at = step_of(broken)
    assert killed_at < 12 and "stopped" in status(broken)
    process = launch(repo, broken, start)
    wait_for(lambda: step_of(broken) >= killed_at + 2, process)
    assert f"running (process {process.pid})" in status(broken)
    with pytest.raises(AlreadyRunning, match=f"process {process.pid} trains"):
        endless.run(EndlessConfig(folder=broken, start=start))
    assert stop(broken) == f"process {process.pid} has saved and stopped"
    finish(process)
    assert killed_at + 2 <= step_of(broken) < 12 and stop(broken) == "nothing trains there"
    finish(launch(repo, broken, start))
    one, two = state(tmp_path / "whole"), state(broken)
    assert step_of(broken) == 12 and one.keys() == two.keys() and len(one) > 500
    assert [k for k in one if not torch.equal(one[k], two[k])] == []

    # and what both have written down
    history = endless.read_records(broken / "history.jsonl")
    assert history[-1]["looks"] == 1000 + 12 * 4 * 2 and history[-1]["skipped"] == 0
    validation = endless.read_records(broken / "validation.jsonl")
    assert [row["step"] for row in validation] == [0, 12]  # where it began, and the end
    assert {"e", "tati", "hvca", "hvca pictures"} == validation[-1]["validation"]["power"].keys()
    assert not validation[0]["costs"] and {"TATI off", "no mark"} <= validation[1]["costs"].keys()  # the controls of what was trained here
    said = status(broken)
    assert "0.001M looks" in said and "0 steps skipped" in said and "power between rows: e 0." in said
    assert endless.curve(broken, tmp_path / "curve.jsonl", tmp_path / "curve.png") == 2
    # points that another machine has measured stay
    assert endless.curve(tmp_path / "whole", tmp_path / "curve.jsonl", tmp_path / "curve.png") >= 3
    # the best weights are a bundle that a new run goes on from, with today's modules and the looks that it had
    best = broken / "best"
    record = json.loads((best / "training.json").read_text())
    assert looks_of(best) == record["looks"] in (1000, 1096)
    again = load_components(best)
    assert again["tati"].config.own_rows and again["visual_attention"].config.condition_size == SIZES.context_size
    assert renewed(again) is again
    # kept as pieces, they are what a run on another machine begins with, and the looks are counted on
    kept = endless.keep(broken, tmp_path / "pieces")
    assert kept["looks"] == record["looks"]
    finish(launch(repo, tmp_path / "other", start, last=1, pieces=tmp_path / "pieces"))
    begun = endless.read_records(tmp_path / "other" / "history.jsonl")[0]
    assert begun["step"] == 0 and begun["looks"] == record["looks"]
    first, best_score = (endless.read_records(f / "validation.jsonl") for f in (tmp_path / "other", broken))
    assert first[0]["score"] == pytest.approx(min(row["score"] for row in best_score), rel=0.02)  # float16 on the way
    # the run that they were kept from goes on from its own state, and counts its looks once
    finish(launch(repo, broken, start, last=13, pieces=tmp_path / "pieces"))
    assert endless.read_records(broken / "history.jsonl")[-1]["looks"] == 1000 + 13 * 4 * 2


@pytest.mark.slow
def test_the_cooldown_ends_the_run_at_no_learning_rate(repo, start, tmp_path):
    finish(launch(repo, tmp_path, start, last=3))
    finish(launch(repo, tmp_path, start, cooldown=4))
    progress = json.loads((tmp_path / "diffusion" / "state" / "progress.json").read_text())
    assert progress["step"] == 7 and progress["finished"] and (progress["decay_from"], progress["decay_steps"]) == (3, 4)
    (tmp_path / "run.json").write_text(json.dumps({"batch": 5}))
    process = launch(repo, tmp_path, start)
    _, said = process.communicate(timeout=60)
    assert process.returncode and b"holds a run with another batch" in said


def test_the_best_keeps_what_was_measured_of_the_start_s_autoencoder(start, tmp_path, monkeypatch):
    """`evaluation world --keep` had written the limit into the start; the best bundle took every photograph for its own again."""
    own = Path(shutil.copytree(start, tmp_path / "own"))
    keep(own, 0.0123)
    found = {"score": 0.5, "power": {"tati": 1.0, "hvca": 1.0}}
    for name, value in (("one_step_errors", found), ("module_table", {}), ("costs", {})):
        monkeypatch.setattr(endless, name, lambda *given, value=value, **more: value)
    config = EndlessConfig(folder=tmp_path, start=own)
    endless._validate(SimpleNamespace(raw=None), SimpleNamespace(count=1), load_components(own), config, {"looks": 5, "step": 1})
    assert bundle_options(read_index(tmp_path / "best"))["reconstruction_limit"] == 0.0123


def test_status_before_anything(tmp_path):
    assert status(tmp_path) == f"nothing was trained in {tmp_path} yet"


def test_records_survive_a_line_that_was_cut_off(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"looks": 1}\n{"looks": 2}\n{"loo')
    assert endless.read_records(tmp_path / "a.jsonl") == [{"looks": 1}, {"looks": 2}]


@pytest.fixture(scope="module")
def parts(start):
    return load_components(start)


def test_pairs_roll(parts, tmp_path):
    """The first pass sees one cache of 4, those after it two, each whole and once; then the older makes room for a new one."""
    cache = RollingCache(parts, WORLD, tmp_path, count=4, width=2)
    here = torch.device("cpu")
    passes = [cache.get(range(0, 4), here)]
    assert [p.name for p in tmp_path.iterdir()] == ["00000"]  # learning waits for one cache
    passes += [cache.get(range(4 + 8 * n, 12 + 8 * n), here) for n in range(2)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00001", "00002"]
    keys = [{tuple(x.flatten()[:4].tolist()) for x in batch.source} for batch in passes]
    assert [len(k) for k in keys] == [4, 8, 8] and keys[0] < keys[1] and len(keys[1] & keys[2]) == 4 and not keys[0] & keys[2]
    # a batch may lie across the end of a pass
    torch.manual_seed(5)
    across = RollingCache(parts, WORLD, tmp_path / "b", count=4, width=2)
    batch = across.get(range(6, 10), here)
    assert len(batch.source) == 4
    # making pairs draws nothing from the generator of the step
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))


def test_a_run_elsewhere_is_shown_other_pairs(parts, tmp_path):
    """Weights that have seen the first caches go on with those after them, not with the same again."""
    here = torch.device("cpu")
    before = RollingCache(parts, WORLD, tmp_path / "a", count=4, width=2).get(range(0, 4), here)
    later = RollingCache(parts, WORLD, tmp_path / "b", count=4, width=2, first=3).get(range(0, 4), here)
    assert [p.name for p in (tmp_path / "b").iterdir()] == ["00003"]
    assert not {x.sum().item() for x in before.source} & {x.sum().item() for x in later.source}


def test_a_run_begins_behind_the_pairs_that_its_weights_have_seen(start, tmp_path, monkeypatch):
    """1,000 looks are 500 pairs, each seen twice in a pass: 62 caches of 8."""
    asked = {}

    def stands_in(*_, first, **__):
        asked["first"] = first
        raise RuntimeError("enough")

    monkeypatch.setattr(endless, "RollingCache", stands_in)
    config = EndlessConfig(folder=tmp_path, start=start, pieces=tmp_path / "none", pairs=8, compiled=False, world=WORLD, sizes=SIZES)
    with pytest.raises(RuntimeError, match="enough"):
        endless.run(config)
    assert asked == {"first": 62}


def test_a_cache_that_is_gone_is_made_again_to_the_bit(parts, tmp_path):
    here, weights = torch.device("cpu"), fingerprint(parts)
    one = RollingCache(parts, WORLD, tmp_path / "a", count=4, width=2).get(range(12, 20), here)
    two = RollingCache(parts, WORLD, tmp_path / "b", count=4, width=2)
    two.get(range(0, 4), here), two.get(range(4, 12), here)
    three = two.get(range(12, 20), here)
    for name in ("source", "target", "image_tokens", "region_tokens", "look"):
        assert torch.equal(getattr(one, name), getattr(three, name)), name
    assert two.weights == weights


def test_a_cooldown_that_was_stopped_ends_where_it_was_to_end(tmp_path):
    folder = tmp_path / "diffusion" / "state"
    folder.mkdir(parents=True)
    config = EndlessConfig(folder=tmp_path, cooldown=40)
    (folder / "progress.json").write_text(json.dumps({"step": 100}))
    assert endless._stage_config(config).max_steps == 140
    (folder / "progress.json").write_text(json.dumps({"step": 125, "decay_from": 100}))
    made = endless._stage_config(config)
    assert made.max_steps == 140 and made.cooldown == pytest.approx(40 / 140)
