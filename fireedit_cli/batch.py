# SPDX-License-Identifier: GPL-3.0-or-later
"""Many edits on one or several ComfyUI servers: nothing lost, nothing done twice, and a run that was stopped goes on.

Every finished edit is a picture, written whole or not at all, and a line in the journal of its folder. A job whose server dies goes
back to the queue and is done by another one.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import requests
import websocket
from PIL import Image

from fireedit_cli.comfy_client import (
    ComfyClient,
    ExecutionFailed,
    ExecutionInterrupted,
    HostError,
    PromptRejected,
    RequestRefused,
    TooSlow,
)
from fireedit_cli.jobs import Job, JobError
from fireedit_cli.journal import Journal
from fireedit_cli.pictures import PictureError, check_picture, is_deep, is_read_alike, read_picture
from fireedit_cli.ways import Ways
from fireedit_cli.workflow import Workflow, WorkflowError

log = logging.getLogger("fireedit")

# node -> the input that its seed is
SEEDED = {
    "FireEditSample": "seed", "FireEditMultiTurn": "seed", "KSampler": "seed", "KSamplerAdvanced": "noise_seed",
    "RandomNoise": "noise_seed",
}  # fmt: skip
READERS = ("FireEditVLMConditioning", "FireEditGround")  # the nodes that take the instruction
# the nodes whose words a person should read
TALKERS = (*READERS, "FireEditRegionMasks", "FireEditQuickEdit", "FireEditPhotoCrop", "FireEditPhotoFinish")
SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")  # of the host
MAKERS = ("FireEditSample", "FireEditQuickEdit", "FireEditPhotoFinish")  # the nodes that give the edit
# How written pictures are compressed: PNG loses nothing, the others little that an eye sees.
SAVING = {".jpg": {"quality": 95, "subsampling": 0}, ".jpeg": {"quality": 95, "subsampling": 0}, ".webp": {"quality": 95, "method": 6}}
OPAQUE = (".jpg", ".jpeg", ".bmp")  # kinds of file without transparency
NOT_LET_IN = (401, 403, 407)  # a server that asks for a password refuses every job alike
BROKEN = (requests.RequestException, websocket.WebSocketException, ConnectionError, TimeoutError)


class NoServer(HostError):
    """No server is left that answers."""


# --- one edit on one server --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Places:
    """Where a workflow takes a job: ids of the nodes that get the picture, the instruction and the seed, and that give the result.

    `reader` is the node and the input that the instruction is written to: of the node that reads it, or of the String node before it.
    `lookers` are the detectors that look for what the instruction names: those whose input of that name is there and not linked.
    """

    picture: str
    reader: tuple[str, str]
    lookers: tuple[str, ...]
    seeds: tuple[tuple[str, str], ...]
    result: str

    @classmethod
    def of(cls, flow: Workflow) -> Places:
        """Raises WorkflowError for a graph that cannot be batched, before any job is sent."""
        found = flow.sources("LoadImage", "image") or flow.ids("LoadImage")
        if len(found) != 1:
            raise WorkflowError(
                f"{flow.origin} must have one Load Image whose picture is edited, it has {len(found)}: "
                "which of them a job's picture goes to cannot be told"
            )
        readers = [i for kind in READERS for i in flow.ids(kind)]
        if len(readers) != 1:
            raise WorkflowError(f"{flow.origin} must have exactly one {' or '.join(READERS)}, it has {len(readers)}")
        seeds = tuple((i, name) for kind, name in SEEDED.items() for i in flow.ids(kind) if name in flow.nodes[i]["inputs"])
        if not seeds and not flow.ids("FireEditQuickEdit"):  # which draws nothing
            raise WorkflowError(f"{flow.origin} has no node that takes a seed ({', '.join(SEEDED)}): all jobs would get the same noise")
        lookers = tuple(i for i in flow.ids("FireEditRegionDetect") if isinstance(flow.nodes[i]["inputs"].get("instruction"), str))
        reader = flow.text_of(readers[0], "instruction")
        _check_told(flow, readers[0], reader)
        return cls(found[0], reader, lookers, seeds, result_node(flow))

    def fill(self, flow: Workflow, picture: str, instruction: str, seed: int | None) -> None:
        """Put a job into the graph: a picture's name on the server, the instruction, and the seed where one is given."""
        flow.nodes[self.picture]["inputs"]["image"] = picture
        for key, name in (self.reader, *((key, "instruction") for key in self.lookers)):
            flow.nodes[key]["inputs"][name] = instruction
        for key, name in self.seeds if seed is not None else ():
            flow.nodes[key]["inputs"][name] = seed


def _check_told(flow: Workflow, node: str, reader: tuple[str, str]) -> None:
    """An edit model that is sampled beside FireEdit Ground must be told the same words, which only a String node before both can do."""
    if flow.nodes[node]["class_type"] != "FireEditGround" or not any(flow.ids(kind) for kind in SAMPLERS):
        return
    told = [k for k, n in flow.nodes.items() if [reader[0], 0] in n["inputs"].values() and not n["class_type"].startswith("FireEdit")]
    if reader[0] == node or not told:
        raise WorkflowError(
            f"{flow.origin}: the edit model would not be told the instruction of a job, since FireEdit Ground has it alone. Link one "
            "String node to instruction of FireEdit Ground and to the model's text encoder"
        )


def edit(
    client: ComfyClient, ways: Ways, job: Job, timeout: float = 600.0, note: Callable[[float, list[str], Path], None] | None = None
) -> tuple[float, list[str]]:
    """Run one job and write its picture; returns the seconds and what the nodes said. Raises HostError as `ComfyClient.run` does.

    Args:
        note: called with both and the file that holds the picture, before that is put in its place.
    """
    from fireedit_core.colour_profile import colour_profile  # here: nothing of the core is loaded before there is something to do

    said = check_picture(job.source)
    if is_deep(job.source):
        said.append(f"{job.source.name}: of its 16 bits the upper 8 are read")
    content = hashlib.sha256(job.source.read_bytes()).hexdigest()[:16]
    as_it_is = is_read_alike(job.source)
    sent = job.source if as_it_is else read_picture(job.source, alpha=True)
    name = client.upload_image(sent, f"fireedit_{content}{job.source.suffix.lower() if as_it_is else '.png'}")
    base, why = ways.choose(client, name, job.instruction, timeout)
    said += [why] if why else []
    flow = base.copy()
    places = Places.of(flow)
    places.fill(flow, name, job.instruction, job.seed)
    shown = places.result
    flow.nodes[shown] = {"class_type": "PreviewImage", "inputs": {"images": flow.nodes[shown]["inputs"]["images"]}}  # leaves no file
    result = client.run(flow.nodes, timeout)
    pictures = result.images.get(shown)
    if not pictures:
        raise HostError(f"the run of {job.source.name} gave no picture")
    for key in (*places.lookers, *(i for kind in TALKERS for i in flow.ids(kind))):
        said += [line for text in result.outputs.get(key, {}).get("text", ()) for line in str(text).splitlines()]
    job.output.parent.mkdir(parents=True, exist_ok=True)
    temporary = job.output.with_name(f".{uuid.uuid4().hex}.part{job.output.suffix}")  # its own: another run may make the same picture
    try:
        how = SAVING.get(job.output.suffix.lower(), {}) | colour_profile(job.source)
        Image.fromarray(_as_wanted(pictures[0], job, said)).save(temporary, **how)
        if note is not None:
            note(result.seconds, said, temporary)
        temporary.replace(job.output)  # whole, or not there
    finally:
        temporary.unlink(missing_ok=True)
    return result.seconds, said


def _as_wanted(picture: np.ndarray, job: Job, said: list[str]) -> np.ndarray:
    """(H, W, 3) of what came back, or (H, W, 4) where the edit made something transparent and the file can hold it."""
    if picture.shape[-1] < 4 or picture[..., 3].min() == 255:
        return picture[..., :3]
    if job.output.suffix.lower() in OPAQUE:
        said.append(f"{job.output.name}: what is transparent is lost in this kind of file; name a .png")
        return picture[..., :3]
    return picture


def result_node(flow: Workflow) -> str:
    """The SaveImage that holds the edit: the one that FireEdit Sample or Quick Edit feeds, else the only one."""
    fed = [i for maker in MAKERS for i in flow.fed_by("SaveImage", maker)] or flow.ids("SaveImage")
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
        self, urls: Sequence[str], ways: Ways, journal: Journal, make_client: Callable[[str], ComfyClient] = ComfyClient,
        patience: float = 30.0, timeout: float = 600.0,
    ):  # fmt: skip
        self.urls = list(dict.fromkeys(url.rstrip("/") for url in urls))
        self.ways, self.journal, self.make_client, self.patience, self.timeout = ways, journal, make_client, patience, timeout
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
        """Take no more jobs; what runs or waits for us is cancelled, what does for others is not."""
        with self._change:
            self._stop = True
            self._change.notify_all()
        for client in self._clients:
            if client.running:
                try:
                    client.cancel(client.running)
                except (HostError, *BROKEN):
                    continue  # a server that is gone runs nothing

    def _work(self, url: str, failed: list[Job], progress: Callable[[Job, str | None], None]) -> None:
        client, quiet_since = self.make_client(url), None
        self._clients.append(client)
        while (job := self._take(url)) is not None:
            error = None
            try:
                note = partial(self.journal.write, job, url, stamp=self.journal.stamp(job))
                _, job.said = edit(client, self.ways, job, self.timeout, note)
                quiet_since = None
            except (PromptRejected, ExecutionFailed, ExecutionInterrupted, TooSlow, JobError, PictureError, WorkflowError) as refusal:
                error = str(refusal)
            except RequestRefused as refusal:
                if refusal.status in NOT_LET_IN:
                    self._give_back(job)
                    log.warning("%s does not let us in (%s)", url, _short(refusal))
                    self._leave(url, _short(refusal), failed, progress)
                    return
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
