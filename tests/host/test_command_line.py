# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: one picture, a folder, a CSV; on running servers, several at once, one of which dies."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import ExifTags, Image

from fireedit_cli.__main__ import main, own_server
from fireedit_cli.batch import Fleet, NoServer, Places
from fireedit_cli.comfy_client import ComfyClient, PromptRejected
from fireedit_cli.comfy_host import ComfyServer
from fireedit_cli.jobs import JobError, jobs_of
from fireedit_cli.journal import JOURNAL, Journal
from fireedit_cli.pictures import PictureError, check_picture, is_read_alike, read_picture
from fireedit_cli.ways import Ways
from fireedit_cli.workflow import Workflow, WorkflowError
from tests.host.small import INSTRUCTION, REPO, as_loaded, install, picture


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
    """The second server is killed in the middle of its work."""
    folder, count = tmp_path / "in", 20
    folder.mkdir()
    for index in range(count):
        Image.fromarray(picture(64, 64, seed=index)).save(folder / f"p{index:02}.png")
    out, bundle = tmp_path / "out", install(server)
    second = ComfyServer(cpu=True).start()
    install(second)
    done: list[str] = []
    flow = Workflow.load()
    flow.set("FireEditLoader", "bundle", bundle)
    flow.set("FireEditSample", "steps", 30)  # long enough to be killed within
    fleet = Fleet([server.url, second.url], Ways(flow), Journal("test"), patience=3)

    def kill() -> None:
        until = time.monotonic() + 200
        while time.monotonic() < until and not ((out / JOURNAL).exists() and second.url in (out / JOURNAL).read_text()):
            time.sleep(0.02)
        second._process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        failed = fleet.run(jobs_of(folder, INSTRUCTION, out), lambda job, error: done.append(job.output.name))
    finally:
        killer.join()
        second.stop()
    assert failed == [] and len(list(out.glob("*.png"))) == count
    names = [record["output"] for record in journal(out)]
    assert sorted(names) == sorted(set(names)) == sorted(p.name for p in out.glob("*.png")) and len(done) == count
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
    fleet = Fleet(["http://one", "http://two"], Ways(Workflow.load()), Journal(""), Stub, patience=0.2)
    failed = fleet.run(jobs)
    assert len(failed) == 3 and all(set(job.refused) == {"http://one", "http://two"} for job in failed)
    fleet = Fleet(["http://one", "http://dead"], Ways(Workflow.load()), Journal(""), Stub, patience=0.2)
    failed = fleet.run(jobs_of(pictures, "x", tmp_path))
    assert len(failed) == 3 and all(set(job.refused) == {"http://one"} for job in failed)
    with pytest.raises(NoServer, match="3 of 3 edits are left.*nobody there"):
        Fleet(["http://dead", "http://dead2"], Ways(Workflow.load()), Journal(""), Stub, patience=0.2).run(jobs_of(pictures, "x", tmp_path))


def test_the_command_in_the_repository_explains_itself():
    done = subprocess.run([REPO / "fireedit", "edit", "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "exit codes" in (done.stdout + done.stderr).lower() or "--server" in done.stdout


def test_a_cancelled_run_stops_what_runs_and_nothing_of_others(server: ComfyServer, pictures: Path, tmp_path: Path):
    flow = Workflow.load()
    flow.set("FireEditLoader", "bundle", install(server))
    flow.set("FireEditSample", "steps", 1000)
    fleet, out = Fleet([server.url], Ways(flow), Journal("")), tmp_path / "out"
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


# --- what is never done in silence ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["folder", "file", "csv", "dot", "link"])
def test_originals_are_never_written_over(pictures: Path, tmp_path: Path, monkeypatch, way: str):
    before = {p.name: p.read_bytes() for p in pictures.glob("*.png")}
    if way == "csv":
        (pictures / "j.csv").write_text("image,instruction,output\np0.png,x,../in/p1.png\n")
        with pytest.raises(JobError, match="lies outside of"):
            jobs_of(pictures / "j.csv", None, tmp_path / "out")
        (pictures / "k.csv").write_text("image,instruction,output\np0.png,x,p1.png\np1.png,x,q.png\n")
        with pytest.raises(JobError, match="would be written over"):
            jobs_of(pictures / "k.csv", None, pictures)
    elif way == "folder":
        with pytest.raises(JobError, match="cannot go into the folder of the pictures"):
            jobs_of(pictures, "x", pictures)
    elif way == "link":
        (tmp_path / "same").symlink_to(pictures)
        with pytest.raises(JobError, match="cannot go into the folder of the pictures"):
            jobs_of(pictures, "x", tmp_path / "same")
    elif way == "file":
        with pytest.raises(JobError, match="would be written over"):
            jobs_of(pictures / "p0.png", "x", pictures / "p0.png")
        with pytest.raises(JobError, match="would be written over"):
            jobs_of(pictures / "p0.png", "x", pictures)  # a folder: p0.png in it
    else:
        monkeypatch.chdir(pictures)
        assert jobs_of(Path("."), "x", None)[0].output == tmp_path / "in_edited" / "p0.png"
        with pytest.raises(JobError, match="cannot go into"):
            jobs_of(Path("."), "x", Path("."))
        assert jobs_of(Path("../in"), "x", None)[0].output == tmp_path / "in_edited" / "p0.png"
    assert {p.name: p.read_bytes() for p in pictures.glob("*.png")} == before


def test_a_file_that_is_not_ours_stays(pictures: Path, tmp_path: Path, caplog):
    out = tmp_path / "precious.png"
    out.write_bytes(b"mine")
    where = ["--server", "http://127.0.0.1:9", "--patience", "0", "--quiet"]
    assert main(["edit", str(pictures / "p0.png"), "x", "-o", str(out), *where]) == 2
    assert "was not made by this command" in caplog.text and out.read_bytes() == b"mine"
    assert main(["edit", str(pictures / "p0.png"), "x", "-o", str(out), "--overwrite", *where]) == 3  # it went on to the server
    (tmp_path / JOURNAL).write_text(json.dumps({"output": "precious.png", "stamp": "other"}) + "\n")
    assert main(["edit", str(pictures / "p0.png"), "x", "-o", str(out), *where]) == 3  # one of ours, with other settings
    caplog.clear()
    assert main(["edit", str(pictures), "x", "-o", str(out), *where]) == 2 and "is a file" in caplog.text
    assert main(["edit", str(pictures), "x", "-o", "/proc/nowhere", *where]) == 2 and "cannot be written to" in caplog.text


@pytest.mark.parametrize(
    "arguments", [["--seed", "-1"], ["--seed", str(2**64)], ["--steps", "0"], ["--server", "localhost:8188"], ["--server", "http://"]]
)
def test_wrong_numbers_and_addresses_are_usage_errors(pictures: Path, arguments: list[str], capsys):
    with pytest.raises(SystemExit) as ended:
        main(["edit", str(pictures), "x", *arguments])
    assert ended.value.code == 2 and arguments[1] in capsys.readouterr().err


def test_pictures_that_would_come_in_wrong_are_refused_by_name(pictures: Path, tmp_path: Path):
    whole = (pictures / "p0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no picture")
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:])
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    for name, said in (("cut.png", "damaged"), ("text.png", "no picture"), ("moving.webp", "2 frames"), ("float.tif", "floating point")):
        with pytest.raises(PictureError, match=f"{name}.*{said}"):
            check_picture(tmp_path / name)
    Image.new("RGBA", (8, 8)).save(tmp_path / "glass.png")
    assert check_picture(tmp_path / "glass.png") == ["glass.png: its transparency is lost"]
    Image.new("CMYK", (8, 8)).save(tmp_path / "print.jpg")
    assert check_picture(tmp_path / "print.jpg") == check_picture(pictures / "p0.png") == []


# What hosts read each in their own way, so that we read it: a picture's grey in 16 and in 8 bits, and one that EXIF says is mirrored.
def odd_files(folder: Path) -> dict[str, np.ndarray]:
    """File -> the picture (H, W, 3) that it is of."""
    grey = np.asarray(Image.fromarray(picture(40, 64)).convert("L"))
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 5  # mirrored and lying
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "deep.png")
    Image.fromarray(grey).save(folder / "flat.png")
    Image.fromarray(np.dstack([grey, grey])).save(folder / "glass.png")
    Image.fromarray(picture(64, 40)).save(folder / "turned.png", exif=turned)
    upright = picture(64, 40).transpose(1, 0, 2)
    return dict.fromkeys(("deep.png", "flat.png", "glass.png"), np.dstack([grey] * 3)) | {"turned.png": upright}


def test_what_hosts_read_each_in_their_own_way_comes_in_alike(server: ComfyServer, tmp_path: Path):
    """The edit is the same to the last bit as the one of the same picture in plain RGB, on hosts of any age."""
    out = {name: tmp_path / name for name in ("odd", "odd out", "plain", "plain out")}
    for folder in out.values():
        folder.mkdir()
    for name, upright in odd_files(out["odd"]).items():
        Image.fromarray(upright).save(out["plain"] / name)
    for kind in ("odd", "plain"):
        assert run(server, out[kind], INSTRUCTION, "-o", out[f"{kind} out"]) == 0
    for file in sorted(out["odd"].iterdir()):
        odd, plain = (np.asarray(Image.open(out[f"{kind} out"] / file.name)) for kind in ("odd", "plain"))
        assert odd.shape == (40, 64, 3) and (odd == plain).all() and odd.std() > 1, file.name
    said = {r["output"]: " ".join(r.get("said", [])) for r in journal(out["odd out"])}
    assert {name for name, words in said.items() if "of its 16 bits" in words} == {"deep.png"}
    assert {name for name, words in said.items() if "its transparency is lost" in words} == {"glass.png"}


def test_only_what_hosts_read_otherwise_is_read_here(pictures: Path):
    """A photograph goes to the server as the file that it is."""
    for name in odd_files(pictures):
        assert not is_read_alike(pictures / name), name
    assert read_picture(pictures / "glass.png", alpha=True).shape == (40, 64, 4)
    assert read_picture(pictures / "p0.png", alpha=True).shape == read_picture(pictures / "glass.png").shape == (40, 64, 3)
    Image.fromarray(picture(40, 64)).save(pictures / "photo.jpg")
    assert is_read_alike(pictures / "photo.jpg") and is_read_alike(pictures / "p0.png")


def test_dot_files_are_no_pictures(pictures: Path):
    (pictures / ".p9.png").write_bytes((pictures / "p0.png").read_bytes())
    assert [job.source.name for job in jobs_of(pictures, "x", None)] == ["p0.png", "p1.png", "p2.png"]


def test_where_a_workflow_takes_a_job():
    """The seed of the stock sampler's noise, and the picture that is edited where another Load Image brings a mask."""
    stock = Workflow.load(REPO / "workflows" / "api" / "fireedit_stock_sampler.json")
    assert [stock.nodes[i]["class_type"] for i, _ in Places.of(stock).seeds] == ["RandomNoise"]
    flow = Workflow.load()
    first = Places.of(flow)
    second = flow.add("LoadImage", image="mask.png")
    flow.nodes[flow.only("FireEditVLMConditioning")]["inputs"]["mask"] = [second, 1]
    assert Places.of(flow).picture == first.picture != second
    flow.nodes[flow.only("FireEditVLMConditioning")]["inputs"]["image"] = [second, 0]
    with pytest.raises(WorkflowError, match="cannot be told"):
        Places.of(flow)
    without = Workflow.load()
    del without.nodes[without.only("FireEditSample")]["inputs"]["seed"]
    with pytest.raises(WorkflowError, match="no node that takes a seed"):
        Places.of(without)


@pytest.mark.parametrize(("field", "value"), [("seed", -1), ("steps", 0), ("sampler_name", "eulr")])
def test_what_the_server_refuses_is_said_at_once_and_the_others_go_on(
    server: ComfyServer, pictures: Path, tmp_path: Path, field: str, value: object
):
    """The server answers 200 where another output of the graph is valid; that used to be waited for until patience ended."""
    flow = Workflow.load()
    flow.set("FireEditLoader", "bundle", install(server))
    flow.set("FireEditSample", "steps", 1)
    flow.set("FireEditSample", field, value)
    if field == "seed":
        flow.nodes[flow.only("FireEditSample")]["inputs"]["seed"] = value
    begin, said = time.monotonic(), {}
    jobs = jobs_of(pictures, INSTRUCTION, tmp_path / "out", seed=0)
    bad = flow.copy()
    if field == "seed":  # a job's own seed takes its place: send what no job can have
        jobs[1].seed = -1
    fleet = Fleet([server.url], Ways(bad), Journal(""), patience=60)
    failed = fleet.run(jobs, lambda job, error: said.update({job.source.name: error}))
    assert time.monotonic() - begin < 30 and len(failed) == (1 if field == "seed" else 3)
    assert all(field in str(said[job.source.name]) and "valid" in str(said[job.source.name]) for job in failed)
    until = time.monotonic() + 20  # what was valid of it may have begun, and ends at its next step
    while server.get("/queue")["queue_running"] and time.monotonic() < until:
        time.sleep(0.1)
    assert server.get("/queue") == {"queue_running": [], "queue_pending": []}


def test_a_slow_job_is_cancelled_and_not_sent_again(server: ComfyServer, pictures: Path, tmp_path: Path):
    flow = Workflow.load()
    flow.set("FireEditLoader", "bundle", install(server))
    flow.set("FireEditSample", "steps", 1000)
    fleet, said = Fleet([server.url], Ways(flow), Journal(""), timeout=1.0), []
    before = len(server.history())
    failed = fleet.run(jobs_of(pictures / "p0.png", INSTRUCTION, tmp_path / "o.png"), lambda job, error: said.append(error))
    assert len(failed) == 1 and said == ["not done within 1 s, and cancelled"] and not (tmp_path / "o.png").exists()
    until = time.monotonic() + 20
    while server.get("/queue")["queue_running"] and time.monotonic() < until:
        time.sleep(0.1)
    assert server.get("/queue") == {"queue_running": [], "queue_pending": []} and len(server.history()) <= before + 1


def test_a_job_that_waits_is_taken_off_the_queue(server: ComfyServer, pictures: Path, tmp_path: Path):
    """Cancelled while somebody else's edit runs: ours must not run later, theirs must go on."""
    flow = Workflow.load()
    flow.set("FireEditLoader", "bundle", install(server))
    flow.set("LoadImage", "image", server.upload_image(picture(), "theirs.png"))
    flow.set("FireEditSample", "steps", 300)
    other = ComfyClient(server.url)
    theirs = other.queue(flow.nodes)
    fleet = Fleet([server.url], Ways(flow), Journal(""))
    thread = threading.Thread(target=lambda: fleet.run(jobs_of(pictures / "p0.png", INSTRUCTION, tmp_path / "o.png")))
    thread.start()
    until = time.monotonic() + 20
    while not server.get("/queue")["queue_pending"] and time.monotonic() < until:
        time.sleep(0.05)
    assert len(server.get("/queue")["queue_pending"]) == 1
    fleet.stop()
    assert not server.get("/queue")["queue_pending"]
    assert [row[1] for row in server.get("/queue")["queue_running"]] in ([theirs], [])
    other.wait(theirs, 120)
    thread.join(30)
    assert not thread.is_alive() and not (tmp_path / "o.png").exists()


def test_what_the_nodes_say_reaches_the_shell_and_the_journal(server: ComfyServer, pictures: Path, tmp_path: Path, capsys):
    arguments = ["edit", str(pictures / "p0.png"), "remove the wombat", "-o", str(tmp_path / "o.jpg"), "--server", server.url]
    assert main([*arguments, "--bundle", install(server), "--steps", "1"]) == 0
    assert "wombat" in capsys.readouterr().err and any("wombat" in line for line in journal(tmp_path)[0]["said"])
    made = Image.open(tmp_path / "o.jpg")
    assert made.format == "JPEG" and max(max(table) for table in made.quantization.values()) <= 12  # high quality


class Proxy(ComfyClient):
    """Something in front of the server answers instead of it."""

    def upload_image(self, *_):
        answer = requests.Response()
        answer.status_code, answer._content = int(self.url.rpartition("/")[2]), b"<html>who are you?</html>"
        answer.request, answer.url = requests.Request("POST", "http://proxy/").prepare(), "http://proxy/"
        return self._checked(answer)

    def get(self, *_, **__):
        return {}


def test_what_a_proxy_says_is_told_apart(pictures: Path, tmp_path: Path):
    run_with = lambda status: Fleet(  # noqa: E731
        [f"http://proxy/{status}"], Ways(Workflow.load()), Journal(""), Proxy, patience=0.3
    ).run(jobs_of(pictures, "x", tmp_path / "out"))
    failed = run_with(413)  # this picture is too large for it: the job's fault
    assert len(failed) == 3 and all("status 413" in str(job.refused) for job in failed)
    for status in (401, 403):  # nobody is let in: no use in asking for each job
        with pytest.raises(NoServer, match=f"3 of 3 edits are left.*status {status}.*who are you"):
            run_with(status)
    with pytest.raises(NoServer, match="status 502"):  # it may come back
        run_with(502)


@pytest.mark.slow
def test_a_terminated_command_leaves_nothing_running(server: ComfyServer, pictures: Path, tmp_path: Path):
    flow = Workflow.load()
    flow.set("FireEditSample", "steps", 1000)
    (tmp_path / "slow.json").write_text(json.dumps(flow.nodes))
    command = [
        sys.executable, "-m", "fireedit_cli", "edit", str(pictures), INSTRUCTION, "-o", str(tmp_path / "out"), "--server", server.url,
        "--bundle", install(server), "--workflow", str(tmp_path / "slow.json"), "--quiet",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=REPO, stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    while not server.get("/queue")["queue_running"] and time.monotonic() < until:
        time.sleep(0.1)
    process.terminate()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and b"cancelled" in said
    until = time.monotonic() + 30
    while server.get("/queue")["queue_running"] and time.monotonic() < until:
        time.sleep(0.1)
    assert server.get("/queue") == {"queue_running": [], "queue_pending": []} and not list((tmp_path / "out").glob("*.png"))


def test_a_photograph_takes_the_photo_way_and_a_scene_the_bundles(server: ComfyServer, tmp_path: Path):
    """By the embedded bundle's own word; outside of what was touched every byte is the photo's."""
    examples, folder, out = REPO / "web" / "examples", tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("fireedit_photo_flower.jpg", "fireedit_remove.png"):
        (folder / name).write_bytes((examples / name).read_bytes())
    rows = ("image,instruction,output", "fireedit_photo_flower.jpg,remove the main object,a.png")
    (folder / "rows.csv").write_text("\n".join([*rows, "fireedit_remove.png,get rid of the orange cat,b.png"]) + "\n")
    assert main(["edit", str(folder / "rows.csv"), "-o", str(out), "--server", server.url, "--quiet"]) == 0
    said = {line["output"]: "\n".join(line["said"]) for line in journal(out)}
    assert "photo way" in said["a.png"] and "removed main object" in said["a.png"] and "photo way" not in said["b.png"]
    before, after = as_loaded(server, folder / "fireedit_photo_flower.jpg"), np.asarray(Image.open(out / "a.png").convert("RGB"))
    changed = (before != after).any(-1)
    assert 0.1 < changed.mean() < 0.35 and not changed[:, :80].any() and not changed[:40].any()
    assert after[220, 300].tolist() != before[220, 300].tolist()


# --- the way of an edit model that the user has --------------------------------------------------------------------------------


def test_what_a_model_lacks_is_named_before_the_first_job(server: ComfyServer, pictures: Path, tmp_path: Path, caplog):
    def edit(*arguments: object) -> int:
        caplog.clear()
        return main(["edit", *map(str, arguments), "--server", server.url, "--quiet"])

    out = tmp_path / "out"
    assert edit(pictures, "remove the cat", "-o", out, "--way", "model", "--workflow", "fireedit_photo_kontext") == 2
    for words in (
        "models/diffusion_models/flux1-dev-kontext_fp8_scaled.safetensors (11.9 GB), from https://huggingface.co/Comfy-Org/",
        "models/text_encoders/clip_l.safetensors (0.25 GB)", "models/text_encoders/t5xxl_fp8_e4m3fn_scaled.safetensors (5.2 GB)",
        "models/vae/ae.safetensors (0.34 GB)", "nothing was edited",
    ):  # fmt: skip
        assert words in caplog.text
    assert not list(out.glob("*.png"))
    graph = Workflow.load(REPO / "workflows" / "api" / "fireedit_photo_kontext.json")
    graph.set("VAELoader", "vae_name", "mine.safetensors")
    graph.nodes["90"] = {"class_type": "OfAnotherPack", "inputs": {}}
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps(graph.nodes))
    assert edit(pictures, "remove the cat", "-o", out, "--way", "model", "--workflow", mine) == 2
    assert "  models/vae/mine.safetensors\n" in caplog.text and "the node OfAnotherPack: a newer ComfyUI, or the pack" in caplog.text
    wrong = (((), "needs --workflow: fireedit_photo_ip2p,"), (("--workflow", mine, "--steps", 3), "--steps says how the bundle"))
    for options, words in wrong:
        assert edit(pictures, "remove the cat", "-o", out, "--way", "model", *options) == 2 and words in caplog.text


def test_our_own_server_sees_the_hosts_models():
    server = own_server(with_models=True)
    config = json.loads((server.base / "models_of_the_host.yaml").read_text())["of_the_host"]
    assert config["base_path"] == str(server.host.path / "models") and config["text_encoders"].split() == ["text_encoders", "clip"]
    assert server.arguments == ["--extra-model-paths-config", str(server.base / "models_of_the_host.yaml")]
    assert not own_server(with_models=False).arguments


def test_the_way_of_a_model_brings_the_photograph_back(server: ComfyServer, tmp_path: Path):
    """With Quick Edit in the model's place: two photos of two sizes come back at their own size, and what the nodes said is kept."""
    flow = Workflow.load(REPO / "workflows" / "api" / "fireedit_photo_kontext.json")
    ground, crop, finish = (flow.only(f"FireEdit{kind}") for kind in ("Ground", "PhotoCrop", "PhotoFinish"))
    photo, region = flow.nodes[crop]["inputs"]["image"], flow.nodes[crop]["inputs"]
    region.pop("vae")
    quick = flow.add("FireEditQuickEdit", image=photo, answer=[ground, 2], regions=[ground, 0])
    flow.nodes[finish]["inputs"]["edited"] = [flow.add("FireEditPhotoCrop", **region | {"image": [quick, 0]}), 0]
    ours = ("FireEdit", "LoadImage", "SaveImage", "PrimitiveString")
    flow.nodes = {k: n for k, n in flow.nodes.items() if n["class_type"].startswith(ours) and n["class_type"] != "FireEditConfine"}
    mine, photos, out = tmp_path / "mine.json", tmp_path / "photos", tmp_path / "out"
    mine.write_text(json.dumps(flow.nodes))
    photos.mkdir()
    with Image.open(REPO / "web" / "examples" / "fireedit_photo_astronaut.jpg") as file:
        for name, size in (("a.png", (256, 256)), ("b.png", (300, 240))):
            file.convert("RGB").resize(size).save(photos / name)
    words = "make the person black and white"
    asked = ["edit", str(photos), words, "-o", str(out), "--way", "model", "--workflow", str(mine), "--server", server.url, "--quiet"]
    assert main(asked) == 0
    for name, size in (("a.png", (256, 256)), ("b.png", (300, 240))):
        before, after = (np.asarray(Image.open(folder / name)).astype(int) for folder in (photos, out))
        assert after.shape == before.shape == (size[1], size[0], 3)
        changed = (before != after).any(-1)
        assert 0.15 < changed.mean() < 0.75 and np.ptp(after[changed], axis=-1).mean() < 0.5 * np.ptp(before[changed], axis=-1).mean()
    said = journal(out)[0]["said"]
    assert any("seen at" in line for line in said) and any("false step at the seam" in line for line in said)
