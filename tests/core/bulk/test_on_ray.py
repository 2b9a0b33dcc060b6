# SPDX-License-Identifier: GPL-3.0-or-later
"""Two workers of a real Ray cluster on this machine: the same pictures, every row once, also when a worker or the driver is killed."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from fireedit_core.bulk import EditOptions, EditRow, edit_rows
from fireedit_core.bulk.results import HIDDEN

pytestmark = pytest.mark.slow

ray = pytest.importorskip("ray", reason="needs ray[data]")
STEPS = EditOptions(steps=1)


@pytest.fixture(scope="module")
def cluster():
    """Two cores, and the smallest object store that Ray makes do with; nothing of it stays behind."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # Ray's 15 starves its workers beside other tests: six minutes instead of one
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    context = ray.init("local", num_cpus=2, object_store_memory=100 * 2**20, **quiet)
    yield context.address_info["address"]
    session = context.address_info["session_dir"]
    ray.shutdown()
    ended = time.monotonic() + 20
    while left := processes_of(session):
        assert time.monotonic() < ended, f"left behind: {left}"
        time.sleep(0.1)


def processes_of(session: str) -> list[str]:
    """Command lines that name the folder of a Ray session."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if session in line:
            found.append(line)
    return found


@pytest.fixture(scope="module")
def bundle() -> Path:
    return Path(__file__).resolve().parents[3] / "models" / "fireedit-tiny"


def journals(out: Path) -> dict[str, list[str]]:
    """Worker -> keys that it wrote, in order."""
    found = {}
    for file in sorted((out / HIDDEN).glob("*.jsonl")):
        records = [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
        found[file.stem] = [record["key"] for record in records if "key" in record]
    return found


def first_writer(out: Path, known: set[str], seconds: float = 300) -> str:
    """The worker that writes down the first edit, `known` ones aside."""
    ended = time.monotonic() + seconds
    while time.monotonic() < ended:
        for worker, keys in journals(out).items():
            if keys and worker not in known:
                return worker
        time.sleep(0.005)
    raise TimeoutError(f"no edit in {out}")


def killed_driver(out: Path, rows: list[EditRow], bundle: Path, cluster: str, repo: Path, folder: Path) -> set[str]:
    """A driver that is started elsewhere (its worker gets the code from it) and killed after the first picture; its worker."""
    table = folder / "rows.jsonl"
    table.write_text("".join(json.dumps({**asdict(row), "image": str(row.image)}) + "\n" for row in rows))
    command = [sys.executable, "-m", "fireedit_core.bulk", str(table), "--out", str(out), "--bundle", str(bundle), "--steps", "1"]
    on_ray = ["--ray", "--address", cluster, "--workers", "1", "--chunk", "6", "--quiet"]
    driver = subprocess.Popen([*command, *on_ray], cwd=folder, env={**os.environ, "PYTHONPATH": str(repo)})
    try:
        return {first_writer(out, set())}
    finally:
        driver.kill()
        driver.wait()


@pytest.mark.slow
def test_the_driver_is_killed_and_then_a_worker(cluster, bundle, make_rows, edits, repo, tmp_path):
    from fireedit_core.bulk.on_ray import edit_rows_on_ray

    rows, out, killed = make_rows(12), tmp_path / "out", []
    rows[4].image.write_bytes(b"no picture")
    good = sorted(row.key for row in rows if row.key != "animals/4")
    before = killed_driver(out, rows, bundle, cluster, repo, tmp_path)
    assert 1 <= len(edits(out)) <= 6  # the second chunk was never given out

    def kill() -> None:
        killed.append(first_writer(out, before))
        os.kill(int(killed[0].split("-")[-2]), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    report = edit_rows_on_ray(rows, out, bundle, STEPS, workers=2, chunk=6, progress=False)
    killer.join()

    wrote = journals(out)
    chunk = {row.key for row in (rows[:6] if int(wrote[killed[0]][0][8:]) < 6 else rows[6:])} & set(good)
    others = {key for worker, keys in wrote.items() if worker not in before | set(killed) for key in keys}
    assert chunk & others  # it died in the middle of its rows, and another process did the rest
    assert report.skipped and sorted([*report.skipped, *report.done]) == good == sorted(edits(out))
    assert list(report.failed) == ["animals/4"] and "broken" in report.failed["animals/4"]
    lines = [key for keys in wrote.values() for key in keys]
    assert len(lines) == len(set(lines)) >= len(good) - 2  # none made twice; a kill may come between a picture and its line

    edit_rows(rows, tmp_path / "local", bundle, STEPS, device="cpu", progress=False)
    assert edits(out) == edits(tmp_path / "local")
    without_ray = edit_rows([row for row in rows if row.key != "animals/4"], out, bundle, STEPS, progress=False)
    assert sorted(without_ray.skipped) == good and not without_ray.done


def test_a_worker_that_cannot_begin_or_write(make_rows, bundle, tiny_bundle, tmp_path):
    """It says so in a record that ends the run."""
    from fireedit_core.bulk.on_ray import STOP, EditWorker, chunk_item

    given = {"rows": np.array([chunk_item(make_rows(2))["rows"]], dtype=object)}
    setup = {"out": tmp_path, "options": STEPS, "batch": 1, "token": "driver-1", "device": "cpu", "threads": 1}

    def said(bundle: Path) -> str:
        taken = EditWorker(bundle=bundle, **setup)(given)
        assert list(taken["key"]) == [STOP]
        return taken["reason"][0]

    assert "does not see the driver's folder" in said(tiny_bundle)
    (tmp_path / HIDDEN).mkdir()
    (tmp_path / HIDDEN / "driver-1").touch()
    assert "no FireEdit bundle" in said(tmp_path / "bundle")
    (tmp_path / "animals").touch()  # where the folder of the results would be
    assert "cannot write" in said(tiny_bundle)


def test_a_record_that_ends_the_run(make_rows, bundle, tmp_path, monkeypatch):
    from fireedit_core.bulk import on_ray

    class Data:
        def map_batches(self, *_, **__):
            return self

        def iter_rows(self):
            return iter([{"key": "a", "reason": ""}, {"key": "b", "reason": "broken"}, {"key": on_ray.STOP, "reason": "one cannot write"}])

    monkeypatch.setattr(on_ray.ray.data, "from_items", lambda *_, **__: Data())
    outcomes = on_ray._outcomes([make_rows(1)], None, 1, 0)
    assert [next(outcomes), next(outcomes)] == [("a", None), ("b", "broken")]
    with pytest.raises(on_ray.BulkError, match="one cannot write"):
        next(outcomes)


def test_a_picture_that_is_a_link_is_the_same_on_a_cluster(make_rows, tiny_bundle, tiny_pipe, tmp_path):
    """It was known by what the link leads to, so that a run begun without --ray could not go on with it."""
    from fireedit_core.bulk.on_ray import edit_rows_on_ray

    (row,) = make_rows(1)
    (tmp_path / "link.png").symlink_to(row.image)
    row = replace(row, image=tmp_path / "link.png")
    assert edit_rows([row], tmp_path / "out", tiny_bundle, STEPS, pipe=tiny_pipe, progress=False).done == [row.key]
    assert edit_rows_on_ray([row], tmp_path / "out", tiny_bundle, STEPS).skipped == [row.key]


def test_what_goes_through_the_object_store(make_rows, tmp_path, tiny_bundle, tiny_pipe, monkeypatch):
    """A worker takes names and text and gives names and text."""
    from fireedit_core.bulk import on_ray
    from fireedit_core.evaluation import scenes

    (tmp_path / HIDDEN).mkdir()
    (tmp_path / HIDDEN / "driver-1").touch()
    monkeypatch.setattr(scenes, "load_pipeline", lambda *_: tiny_pipe)
    worker = on_ray.EditWorker(tmp_path, tiny_bundle, STEPS, 2, "driver-1", "cpu", 1)
    rows = make_rows(4)
    (tmp_path / "pictures/1.png").unlink()
    given = on_ray.chunk_item(rows)
    assert list(given) == ["rows"] and len(given["rows"]) < 300 * len(rows)
    taken = worker({"rows": np.array([given["rows"]], dtype=object)})
    assert dict(zip(taken["key"], map(bool, taken["reason"]))) == {f"animals/{i}": i == 1 for i in range(4)}

    class Lost(RuntimeError):
        pass

    def lost(*_):
        raise Lost

    def ended(code):
        raise SystemExit(code)

    worker.lost_device = Lost
    monkeypatch.setattr(worker.editor, "edit", lost)
    monkeypatch.setattr(on_ray.os, "_exit", ended)
    with pytest.raises(SystemExit):
        worker({"rows": np.array([given["rows"]], dtype=object)})


def test_a_cluster_without_room(cluster, bundle, make_rows, tmp_path):
    from fireedit_core.bulk.on_ray import BulkError, edit_rows_on_ray

    with pytest.raises(BulkError, match=r"has 2 CPUs and 0 GPUs, a worker needs 1 and 1"):
        edit_rows_on_ray(make_rows(1), tmp_path / "out", bundle, STEPS, gpus_per_worker=1)
    assert not list((tmp_path / "out" / HIDDEN).iterdir())
