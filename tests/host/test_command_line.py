# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: one picture, a folder, a CSV; on running servers, several at once, one of which dies."""

from __future__ import annotations

import csv
import json
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.batch import JOURNAL, Fleet, JobError, Journal, NoServer, jobs_of
from scripts.comfy_client import ComfyClient, PromptRejected
from scripts.comfy_host import ComfyServer
from scripts.fireedit import main
from scripts.workflow import Workflow
from tests.host.small import INSTRUCTION, REPO, install, picture


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(picture(40 + index, 64, seed=index)).save(folder / f"p{index}.png")
    return folder


def run(server: ComfyServer, *arguments: object) -> int:
    return main(["edit", *map(str, arguments), "--server", server.url, "--bundle", install(server), "--quiet", "--steps", "1"])


def journal(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]


def test_one_picture(server: ComfyServer, pictures: Path, tmp_path: Path):
    out = tmp_path / "out.png"
    assert run(server, pictures / "p1.png", INSTRUCTION, "-o", out, "--seed", "5") == 0
    made = np.asarray(Image.open(out))
    assert made.shape == (41, 64, 3) and not np.array_equal(made, picture(41, 64, seed=1))
    assert journal(tmp_path)[0]["seed"] == 5 and not list(tmp_path.glob(".*part*"))
    assert not list((server.output_dir).glob("fireedit*out*")), "the server keeps a copy"


def test_a_folder_goes_on_where_it_was_stopped(server: ComfyServer, pictures: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert run(server, pictures, INSTRUCTION, "-o", out) == 0
    assert sorted(p.name for p in out.glob("*.png")) == ["p0.png", "p1.png", "p2.png"] and len(journal(out)) == 3
    times = {p.name: p.stat().st_mtime_ns for p in out.glob("*.png")}
    (out / "p1.png").unlink()
    assert run(server, pictures, INSTRUCTION, "-o", out) == 0
    assert [r["output"] for r in journal(out)[3:]] == ["p1.png"]
    assert (out / "p0.png").stat().st_mtime_ns == times["p0.png"]
    assert run(server, pictures, "make it red", "-o", out) == 0  # another instruction: all anew
    assert len(journal(out)) == 7
    with (out / JOURNAL).open("a") as file:
        file.write('{"output": "p0')  # killed while it wrote
    assert run(server, pictures, "make it red", "-o", out) == 0 and (out / JOURNAL).read_text().count("\n") == 7


def test_a_csv_has_its_own_instructions_outputs_and_seeds(server: ComfyServer, pictures: Path, tmp_path: Path):
    table = pictures / "jobs.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([
            ["image", "instruction", "output", "seed"], ["p0.png", INSTRUCTION, "a.png", "1"], ["p0.png", INSTRUCTION, "b.webp", "2"],
            ["p1.png", "", "", ""],
        ])  # fmt: skip
    out = tmp_path / "out"
    assert run(server, table, "make it red", "-o", out) == 0
    assert {r["output"]: (r["instruction"], r["seed"]) for r in journal(out)} == {
        "a.png": (INSTRUCTION, 1), "b.webp": (INSTRUCTION, 2), "p1.png": ("make it red", 0),
    }  # fmt: skip
    assert Image.open(out / "b.webp").size == (64, 40)


def test_a_failing_edit_does_not_stop_the_others(server: ComfyServer, pictures: Path, tmp_path: Path, capsys):
    (pictures / "p1.png").write_bytes(b"no picture")
    assert run(server, pictures, INSTRUCTION, "-o", tmp_path / "out") == 1
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == ["p0.png", "p2.png"]
    assert "p1.png" in capsys.readouterr().err


def test_wrong_usage_says_what_is_missing(server: ComfyServer, pictures: Path, tmp_path: Path, caplog):
    for arguments, said in (
        ((pictures / "p0.png",), "what is to be done"), ((tmp_path / "gone.png", "x"), "there is no picture"),
        ((tmp_path, "x"), "holds no pictures"), ((pictures / "p0.png", "x", "-o", tmp_path / "a.txt"), "must end in"),
        ((pictures / "p0.png", "x", "--workflow", tmp_path / "gone.json"), "there is no workflow"),
    ):  # fmt: skip
        caplog.clear()
        assert run(server, *arguments) == 2 and said in caplog.text
    with pytest.raises(JobError, match="more than one job"):
        (pictures / "twice.csv").write_text("image,instruction\np0.png,a\np0.png,b\n")
        jobs_of(pictures / "twice.csv", None, tmp_path)
    with pytest.raises(JobError, match="line 2: the seed 'x'"):
        (pictures / "seed.csv").write_text("image,instruction,seed\np0.png,a,x\n")
        jobs_of(pictures / "seed.csv", None, tmp_path)


def test_no_server(pictures: Path, tmp_path: Path, caplog):
    where = ["--server", "http://127.0.0.1:9", "--patience", "1", "--quiet"]
    code = main(["edit", str(pictures), INSTRUCTION, "-o", str(tmp_path / "o"), *where])
    assert code == 3 and "3 of 3 edits are left" in caplog.text


@pytest.mark.slow
def test_one_of_two_servers_dies_and_nothing_is_lost_or_done_twice(server: ComfyServer, tmp_path: Path):
    """40 pictures; the second server is killed in the middle of its work."""
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(40):
        Image.fromarray(picture(64, 64, seed=index)).save(folder / f"p{index:02}.png")
    out, bundle = tmp_path / "out", install(server)
    second = ComfyServer(cpu=True).start()
    install(second)
    done: list[str] = []
    flow = Workflow.load()
    flow.set("FireEditLoader", "bundle", bundle)
    flow.set("FireEditSample", "steps", 30)  # long enough to be killed within
    fleet = Fleet([server.url, second.url], flow, Journal("test"), patience=3)

    def kill() -> None:
        while len(done) < 10:
            time.sleep(0.02)
        second._process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        failed = fleet.run(jobs_of(folder, INSTRUCTION, out), lambda job, error: done.append(job.output.name))
    finally:
        killer.join()
        second.stop()
    assert failed == [] and len(list(out.glob("*.png"))) == 40
    names = [record["output"] for record in journal(out)]
    assert sorted(names) == sorted(set(names)) == sorted(p.name for p in out.glob("*.png")) and len(done) == 40
    by_server = {record["server"] for record in journal(out)}
    assert by_server == {server.url, second.url}
    assert all(np.asarray(Image.open(p)).shape == (64, 64, 3) for p in out.glob("*.png"))


class Stub(ComfyClient):
    """A server that refuses everything, or is not there."""

    def __init__(self, url: str):
        super().__init__(url)

    def upload_image(self, *_):
        if "dead" in self.url:
            raise ConnectionError("nobody there")
        raise PromptRejected({"error": {"message": f"{self.url} has no such model"}})

    def get(self, *_, **__):
        raise ConnectionError("nobody there")


def test_what_one_server_refuses_another_is_asked_for(pictures: Path, tmp_path: Path):
    jobs = jobs_of(pictures, INSTRUCTION, tmp_path / "out")
    fleet = Fleet(["http://one", "http://two"], Workflow.load(), Journal(""), Stub, patience=0.2)
    failed = fleet.run(jobs)
    assert len(failed) == 3 and all(set(job.refused) == {"http://one", "http://two"} for job in failed)
    failed = Fleet(["http://one", "http://dead"], Workflow.load(), Journal(""), Stub, patience=0.2).run(jobs_of(pictures, "x", tmp_path))
    assert len(failed) == 3 and all(set(job.refused) == {"http://one"} for job in failed)
    with pytest.raises(NoServer, match="3 of 3 edits are left.*nobody there"):
        Fleet(["http://dead", "http://dead2"], Workflow.load(), Journal(""), Stub, patience=0.2).run(jobs_of(pictures, "x", tmp_path))


def test_the_command_in_the_repository_explains_itself():
    done = subprocess.run([REPO / "fireedit", "edit", "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "exit codes" in (done.stdout + done.stderr).lower() or "--server" in done.stdout


def test_a_cancelled_run_stops_what_runs_and_nothing_of_others(server: ComfyServer, pictures: Path, tmp_path: Path):
    flow = Workflow.load()
    flow.set("FireEditLoader", "bundle", install(server))
    flow.set("FireEditSample", "steps", 1000)
    fleet, out = Fleet([server.url], flow, Journal("")), tmp_path / "out"
    thread = threading.Thread(target=lambda: fleet.run(jobs_of(pictures, INSTRUCTION, out)))
    thread.start()
    while not (fleet._clients and fleet._clients[0].running):
        time.sleep(0.05)
    time.sleep(0.5)
    begin = time.monotonic()
    fleet.stop()
    thread.join(20)
    assert not thread.is_alive() and time.monotonic() - begin < 15 and not list(out.glob("*"))
    assert run(server, pictures / "p0.png", INSTRUCTION, "-o", tmp_path / "after.png") == 0  # the server works on
