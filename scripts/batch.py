# SPDX-License-Identifier: GPL-3.0-or-later
"""Many edits on one or several ComfyUI servers: nothing lost, nothing done twice, and a run that was stopped goes on.

Every finished edit is a picture, written whole or not at all, and a line in the journal of its folder. A job whose server dies goes
back to the queue and is done by another one.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import requests
import websocket
from PIL import Image

from scripts.comfy_client import ComfyClient, ExecutionFailed, ExecutionInterrupted, HostError, PromptRejected
from scripts.workflow import Workflow, WorkflowError

log = logging.getLogger("fireedit")

JOURNAL = ".fireedit.jsonl"
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
BROKEN = (requests.RequestException, websocket.WebSocketException, ConnectionError, TimeoutError)


class JobError(ValueError):
    """A list of jobs that cannot be worked off; the message says what to give instead."""


class NoServer(HostError):
    """No server is left that answers."""


@dataclass
class Job:
    """One edit: a picture file, an instruction, the file that receives the result.

    `refused` are the servers that could not do it, with what they said.
    """

    source: Path
    instruction: str
    output: Path
    seed: int = 0
    refused: dict[str, str] = field(default_factory=dict)


def jobs_of(source: Path, instruction: str | None, output: Path | None, seed: int = 0) -> list[Job]:
    """Jobs of a picture, of a folder of pictures, or of a CSV file with the columns image, instruction and, if wanted, output and seed.

    Args:
        instruction: what to do; in a CSV for the rows that have none of their own.
        output: file for a picture, folder otherwise; None puts the result beside the source.

    Raises:
        JobError: for a source that is not there, no instruction, or two jobs with one output.
    """
    if source.is_dir():
        files = sorted(p for p in source.iterdir() if p.suffix.lower() in PICTURES)
        if not files:
            raise JobError(f"{source} holds no pictures ({', '.join(PICTURES)})")
        folder = output or source.with_name(f"{source.name}_edited")
        jobs = [Job(p, instruction or "", folder / f"{p.stem}.png", seed) for p in files]
    elif source.suffix.lower() == ".csv":
        jobs = _jobs_of_csv(source, instruction, output or source.with_name(f"{source.stem}_edited"), seed)
    else:
        target = output or source.with_name(f"{source.stem}_edited.png")
        jobs = [Job(source, instruction or "", target / f"{source.stem}.png" if target.is_dir() else target, seed)]
    for job in jobs:
        if not job.instruction.strip():
            raise JobError(f'what is to be done with {job.source}? Add an instruction, for example "remove the cat"')
        if not job.source.is_file():
            raise JobError(f"there is no picture {job.source}")
        if job.output.suffix.lower() not in PICTURES:
            raise JobError(f"{job.output} must end in one of {', '.join(PICTURES)}")
    twice = [o for o, n in _counts(job.output.resolve() for job in jobs).items() if n > 1]
    if twice:
        raise JobError(f"{len(twice)} outputs are named by more than one job, the first is {twice[0]}; give the CSV a column output")
    return jobs


def _jobs_of_csv(source: Path, instruction: str | None, folder: Path, seed: int) -> list[Job]:
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise JobError(f"{source} cannot be read as CSV ({error})") from error
    if not rows or "image" not in rows[0]:
        raise JobError(f"{source} needs a first line with the columns image and instruction, and rows below it")
    jobs = []
    for number, row in enumerate(rows, 2):
        picture = source.parent / (row.get("image") or "").strip()
        own = (row.get("seed") or "").strip()
        if own and not own.lstrip("-").isdigit():
            raise JobError(f"{source}, line {number}: the seed {own!r} is no whole number")
        name = (row.get("output") or "").strip() or f"{picture.stem}.png"
        jobs.append(Job(picture, (row.get("instruction") or "").strip() or instruction or "", folder / name, int(own) if own else seed))
    return jobs


def _counts(items: Iterable) -> dict:
    found: dict = {}
    for item in items:
        found[item] = found.get(item, 0) + 1
    return found


# --- the journal -------------------------------------------------------------------------------------------------------


class Journal:
    """What was done, one JSON line per finished edit, in each output folder. Safe for several threads."""

    def __init__(self, settings: str):
        self.settings = settings
        self._known: dict[Path, dict[str, str]] = {}
        self._lock = threading.Lock()

    def stamp(self, job: Job) -> str:
        """Changes with the picture's content, the instruction, the seed and the settings."""
        digest = hashlib.sha256(job.source.read_bytes())
        digest.update(json.dumps([job.instruction, job.seed, self.settings]).encode())
        return digest.hexdigest()[:16]

    def done(self, job: Job) -> bool:
        """Whether this very edit lies at its place."""
        return job.output.is_file() and self._read(job.output.parent).get(job.output.name) == self.stamp(job)

    def write(self, job: Job, server: str, seconds: float) -> None:
        """Note a finished edit."""
        record = {
            "output": job.output.name, "stamp": self.stamp(job), "source": str(job.source), "instruction": job.instruction,
            "seed": job.seed, "server": server, "seconds": round(seconds, 2),
        }  # fmt: skip
        with self._lock:
            known = self._read(job.output.parent)
            with (job.output.parent / JOURNAL).open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
            known[job.output.name] = record["stamp"]

    def _read(self, folder: Path) -> dict[str, str]:
        if folder not in self._known:
            found = {}
            path = folder / JOURNAL
            for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
                try:
                    record = json.loads(line)
                    found[record["output"]] = record["stamp"]
                except (ValueError, KeyError, TypeError):
                    continue  # the line that was being written when the machine went down
            self._known[folder] = found
        return self._known[folder]


# --- one edit on one server --------------------------------------------------------------------------------------------


def edit(client: ComfyClient, base: Workflow, job: Job, timeout: float = 600.0) -> float:
    """Run one job and write its picture; returns the seconds. Raises HostError as `ComfyClient.run` does."""
    flow = base.copy()
    content = hashlib.sha256(job.source.read_bytes()).hexdigest()[:16]
    flow.set("LoadImage", "image", client.upload_image(job.source, f"fireedit_{content}{job.source.suffix.lower()}"))
    flow.set("FireEditVLMConditioning", "instruction", job.instruction)
    for kind in ("FireEditSample", "KSampler"):
        for key in flow.ids(kind):
            flow.nodes[key]["inputs"]["seed"] = job.seed
    shown = result_node(flow)
    flow.nodes[shown] = {"class_type": "PreviewImage", "inputs": {"images": flow.nodes[shown]["inputs"]["images"]}}  # leaves no file
    result = client.run(flow.nodes, timeout)
    pictures = result.images.get(shown)
    if not pictures:
        raise HostError(f"the run of {job.source.name} gave no picture")
    job.output.parent.mkdir(parents=True, exist_ok=True)
    temporary = job.output.with_name(f".{job.output.stem}.part{job.output.suffix}")
    Image.fromarray(pictures[0][..., :3]).save(temporary)
    temporary.replace(job.output)  # whole, or not there
    return result.seconds


def result_node(flow: Workflow) -> str:
    """The SaveImage that holds the edit: the one that FireEdit Sample feeds, else the only one."""
    fed = flow.fed_by("SaveImage", "FireEditSample") or flow.ids("SaveImage")
    if len(fed) != 1:
        raise WorkflowError(f"{flow.origin} must have exactly one SaveImage for the edit, it has {len(fed)}")
    return fed[0]


# --- several servers ---------------------------------------------------------------------------------------------------


class Fleet:
    """Works off jobs on several servers at once, one at a time on each.

    Args:
        make_client: makes a client of a server's address. patience: seconds that a server which does not answer is given to come
            back, as long as another one works; with no other, the run ends then.
    """

    def __init__(
        self, urls: Sequence[str], flow: Workflow, journal: Journal, make_client: Callable[[str], ComfyClient] = ComfyClient,
        patience: float = 30.0, timeout: float = 600.0,
    ):  # fmt: skip
        self.urls = list(dict.fromkeys(url.rstrip("/") for url in urls))
        self.flow, self.journal, self.make_client, self.patience, self.timeout = flow, journal, make_client, patience, timeout
        self._waiting: deque[Job] = deque()
        self._open = 0  # jobs that are neither done nor failed
        self._change = threading.Condition()
        self._stop = False
        self._gone: dict[str, str] = {}
        self._clients: list[ComfyClient] = []

    def run(self, jobs: Sequence[Job], progress: Callable[[Job, str | None], None] = lambda job, error: None) -> list[Job]:
        """Do all jobs; returns those that failed, with what each server said in `refused`.

        Args:
            progress: called after each job with None or why it failed, one call at a time.

        Raises:
            NoServer: if no server is left; what was done stays, and a later run goes on.
        """
        self._waiting, self._open, self._stop, self._gone, self._clients = deque(jobs), len(jobs), False, {}, []
        failed: list[Job] = []
        threads = [threading.Thread(target=self._work, args=(url, failed, progress), daemon=True) for url in self.urls]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(0.1)
        except BaseException:
            self.stop()
            raise
        if self._open:
            said = "; ".join(f"{url}: {why}" for url, why in self._gone.items())
            raise NoServer(f"{self._open} of {len(jobs)} edits are left and no server answers ({said})")
        return failed

    def stop(self) -> None:
        """Take no more jobs; what runs for us is cancelled, what runs for others is not."""
        with self._change:
            self._stop = True
            self._change.notify_all()
        for client in self._clients:
            if client.running:
                try:
                    client.interrupt(client.running)
                except (HostError, *BROKEN):
                    continue  # a server that is gone runs nothing

    def _work(self, url: str, failed: list[Job], progress: Callable[[Job, str | None], None]) -> None:
        client, quiet_since = self.make_client(url), None
        self._clients.append(client)
        while (job := self._take(url)) is not None:
            error = None
            try:
                seconds = edit(client, self.flow, job, self.timeout)
                self.journal.write(job, url, seconds)
                quiet_since = None
            except (PromptRejected, ExecutionFailed, ExecutionInterrupted) as refusal:
                error = str(refusal)
            except (HostError, *BROKEN) as broken:
                client.close()
                self._give_back(job)
                quiet_since = quiet_since or time.monotonic()
                if self._stop or time.monotonic() - quiet_since > self.patience or not self._comes_back(client, quiet_since):
                    log.warning("%s does not answer any more (%s); its work goes to the others", url, _short(broken))
                    self._leave(url, _short(broken), failed, progress)
                    return
                continue
            except Exception as surprise:  # a picture that cannot be written, say: this job's fault, not the server's
                error = f"{type(surprise).__name__}: {surprise}"
            self._finish(job, url, error, failed, progress)
        client.close()

    def _take(self, url: str) -> Job | None:
        """The next job that this server has not refused; None when there is none and none can come back."""
        with self._change:
            while not self._stop and self._open:
                for _ in range(len(self._waiting)):
                    job = self._waiting.popleft()
                    if url not in job.refused:
                        return job
                    self._waiting.append(job)
                self._change.wait(0.5)
            return None

    def _give_back(self, job: Job) -> None:
        with self._change:
            self._waiting.appendleft(job)
            self._change.notify_all()

    def _finish(self, job: Job, url: str, error: str | None, failed: list[Job], progress: Callable[[Job, str | None], None]) -> None:
        with self._change:
            if error is not None:
                job.refused[url] = error
                # what one server refuses another may be able to do: it may have the model that is missing here
                if any(other not in job.refused and other not in self._gone for other in self.urls):
                    self._waiting.append(job)
                    self._change.notify_all()
                    return
                failed.append(job)
            self._open -= 1
            progress(job, error)
            self._change.notify_all()

    def _leave(self, url: str, why: str, failed: list[Job], progress: Callable[[Job, str | None], None]) -> None:
        """A server is gone; what all that are left have refused has failed."""
        with self._change:
            self._gone[url] = why
            hopeless = [j for j in self._waiting if j.refused and all(u in j.refused or u in self._gone for u in self.urls)]
            for job in hopeless:
                self._waiting.remove(job)
                failed.append(job)
                self._open -= 1
                progress(job, next(iter(job.refused.values())))
            self._change.notify_all()

    def _comes_back(self, client: ComfyClient, since: float) -> bool:
        while time.monotonic() - since <= self.patience and not self._stop:
            try:
                client.get("/system_stats")
                return True
            except (HostError, *BROKEN):
                time.sleep(0.5)
            with self._change:
                if not self._open:
                    return False
        return False


def _short(error: BaseException) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
