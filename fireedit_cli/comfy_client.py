# SPDX-License-Identifier: GPL-3.0-or-later
"""Client of a running ComfyUI server: nodes, uploads, workflows, progress, results. comfy_host.py starts one."""

from __future__ import annotations

import io
import json
import struct
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import requests
import websocket
from PIL import Image

PREVIEW_IMAGE, PREVIEW_IMAGE_WITH_METADATA = 1, 4  # the host's protocol.py, BinaryEventTypes
ENDINGS = ("execution_success", "execution_error", "execution_interrupted")


class HostError(RuntimeError):
    """Anything that goes wrong between us and the server."""


class ServerDied(HostError):
    """The server's process has ended; the message carries the end of its log."""


class PromptRejected(HostError):
    """The server refused a workflow before running it. ``error`` and ``node_errors`` are its own JSON."""

    def __init__(self, payload: dict[str, Any]):
        self.payload = payload
        self.error: dict[str, Any] = payload.get("error") or {}
        self.node_errors: dict[str, Any] = payload.get("node_errors") or {}
        lines = [f"{self.error.get('message', payload)} {self.error.get('details', '')}".strip()]
        for node_id, entry in self.node_errors.items():
            where = f"node {node_id} ({entry.get('class_type')})"
            lines += [f"{where}: {error.get('message')}: {error.get('details')}" for error in entry.get("errors", [])]
        super().__init__("\n".join(lines))


class ExecutionFailed(HostError):
    """A node raised. ``node_id``, ``node_type``, ``exception_type``, ``exception_message``, ``traceback``."""

    def __init__(self, data: dict[str, Any]):
        self.data = data
        self.node_id: str = str(data.get("node_id"))
        self.node_type: str = data.get("node_type", "")
        self.exception_type: str = data.get("exception_type", "")
        self.exception_message: str = data.get("exception_message", "")
        self.traceback: str = "".join(data.get("traceback") or [])
        # what a node of ours refuses is said in words and begins with its name; its class, with a folder's path, tells a person nothing
        named = self.exception_type.rpartition(".")[2] == "FireEditNodeError"
        what = self.exception_message.strip() if named else f"{self.exception_type}: {self.exception_message}"
        super().__init__(f"node {self.node_id} ({self.node_type}): {what}")


class ExecutionInterrupted(HostError):
    """The run was cancelled."""


class RequestRefused(HostError):
    """The server, or what stands in front of it, refused a request by its status 4xx; asking again gives the same answer."""

    def __init__(self, status: int, message: str):
        self.status = status
        super().__init__(message)


class TooSlow(HostError):
    """A run did not end in time. It was cancelled."""


@dataclass(frozen=True)
class Event:
    """One message of the server: ``kind`` is its type, ``seconds`` a monotonic time of arrival."""

    kind: str
    data: dict[str, Any]
    seconds: float


@dataclass
class RunResult:
    """What a workflow gave.

    ``outputs``: node id -> the node's UI output as the server's history states it; ``images``: node id -> pictures,
    uint8 arrays (H, W, 3) or (H, W, 4); ``node_seconds``: node id -> time of execution (cached nodes are absent);
    ``previews``: encoded preview pictures in order of arrival; ``seconds``: from /prompt to the end of the execution.
    """

    prompt_id: str
    outputs: dict[str, dict[str, Any]]
    images: dict[str, list[np.ndarray]]
    events: list[Event]
    seconds: float
    node_seconds: dict[str, float] = field(default_factory=dict)
    previews: list[bytes] = field(default_factory=list)


def node_seconds(events: Sequence[Event]) -> dict[str, float]:
    """Seconds per node id, from each ``executing`` message to the next message that ends it."""
    spent: dict[str, float] = {}
    current: tuple[str, float] | None = None
    for event in events:
        if event.kind != "executing" and event.kind not in ENDINGS:
            continue
        if current is not None:
            spent[current[0]] = spent.get(current[0], 0.0) + event.seconds - current[1]
        node = event.data.get("node") if event.kind == "executing" else None
        current = (str(node), event.seconds) if node is not None else None
    return spent


def encode_png(picture: np.ndarray) -> bytes:
    """PNG bytes of (H, W), (H, W, 3|4) or (1, H, W, 3|4), uint8 or float 0..1."""
    array = np.asarray(picture)
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ValueError(f"expected a picture (H, W), (H, W, 3) or (H, W, 4), got an array of shape {array.shape}")
    if array.dtype != np.uint8:
        array = np.round(np.clip(array.astype(np.float32), 0.0, 1.0) * 255.0).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


class ComfyClient:
    """HTTP and WebSocket client of one ComfyUI server. Not thread safe, but ``interrupt`` may come from any thread."""

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        self.client_id = uuid.uuid4().hex
        self.http = requests.Session()
        self.http.trust_env = False  # a proxy of the environment must not swallow requests to this machine
        self._socket: websocket.WebSocket | None = None
        self._events: dict[str, list[Event]] = {}
        self._previews: dict[str, list[bytes]] = {}
        self._running: str | None = None
        self._cancelled: set[str] = set()

    @property
    def running(self) -> str | None:
        """Id of our prompt that waits or runs, None when it has ended."""
        events = self._events.get(self._running or "", [])
        return None if any(event.kind in ENDINGS for event in events) else self._running

    # --- plain requests

    def get(self, path: str, **params: str) -> Any:
        """The JSON answer of GET ``path``; HostError on another status than 200."""
        return self._checked(self.http.get(self.url + path, params=params, timeout=60)).json()

    def post(self, path: str, **body: Any) -> requests.Response:
        """POST a JSON body; HostError on another status than 200."""
        return self._checked(self.http.post(self.url + path, json=body, timeout=60))

    def _checked(self, answer: requests.Response) -> requests.Response:
        if answer.status_code == 200:
            return answer
        message = f"{answer.request.method} {answer.url}: status {answer.status_code}: {answer.text[:500]}"
        if 400 <= answer.status_code < 500 and answer.status_code not in (408, 425, 429):  # these ask to come again
            raise RequestRefused(answer.status_code, message)
        raise HostError(message)

    def object_info(self, name: str | None = None) -> dict[str, Any]:
        """Definitions of all nodes, or of one; HostError when the server has no node of that name."""
        if name is None:
            return self.get("/object_info")
        found = self.get(f"/object_info/{name}")
        if name not in found:
            raise HostError(f"the server has no node {name!r}")
        return found[name]

    def upload_image(self, picture: str | Path | np.ndarray, name: str | None = None) -> str:
        """Put a picture into the server's input folder; returns the name for ``LoadImage``.

        A path is sent as the file it is; an array (uint8, or float 0..1) is sent as PNG and needs ``name``.
        """
        if isinstance(picture, (str, Path)):
            content, name = Path(picture).read_bytes(), name or Path(picture).name
        else:
            content = encode_png(picture)
        if not name:
            raise ValueError("upload_image got an array without a name; give name='something.png'")
        answer = self.http.post(
            f"{self.url}/upload/image", files={"image": (name, content)}, data={"overwrite": "true"}, timeout=60
        )
        stored = self._checked(answer).json()
        return f"{stored['subfolder']}/{stored['name']}" if stored.get("subfolder") else stored["name"]

    def view(self, item: dict[str, str]) -> bytes:
        """The bytes of one file of an output, ``item`` being {filename, subfolder, type}."""
        wanted = {key: item.get(key, "") for key in ("filename", "subfolder", "type")}
        return self._checked(self.http.get(f"{self.url}/view", params=wanted, timeout=60)).content

    def history(self, prompt_id: str | None = None) -> dict[str, Any]:
        """The server's record of one prompt ({} while it has none), or of all."""
        if prompt_id is None:
            return self.get("/history")
        return self.get(f"/history/{prompt_id}").get(prompt_id, {})

    def interrupt(self, prompt_id: str | None = None) -> None:
        """Cancel what is running (only if it is ``prompt_id``, when given)."""
        self.post("/interrupt", **({"prompt_id": prompt_id} if prompt_id else {}))

    def cancel(self, prompt_id: str) -> None:
        """Take a prompt off the server, whether it waits or runs; others are left alone. Whoever waits for it is told."""
        self._cancelled.add(prompt_id)
        self.post("/queue", delete=[prompt_id])
        self.interrupt(prompt_id)

    def free(self) -> None:
        """Unload all models and drop cached results."""
        self.post("/free", unload_models=True, free_memory=True)

    # --- workflows

    def queue(self, workflow: dict[str, Any]) -> str:
        """Queue a workflow in API format; returns its prompt id.

        Raises:
            PromptRejected: if the server refuses the workflow, or a part of it: it answers 200 and runs the rest where other outputs
                are valid, and nobody would see that one is missing.
            RequestRefused, HostError: if something in front of the server answers.
        """
        self._connect()
        body = {"prompt": workflow, "client_id": self.client_id}
        answer = self.http.post(f"{self.url}/prompt", json=body, timeout=60)
        try:
            payload = answer.json()
        except ValueError:
            payload = None
        if answer.status_code == 400 and isinstance(payload, dict):
            raise PromptRejected(payload)
        self._checked(answer)
        if not isinstance(payload, dict) or "prompt_id" not in payload:
            raise HostError(f"{self.url} does not answer as ComfyUI does: {answer.text[:200]}")
        if payload.get("node_errors"):
            self.cancel(payload["prompt_id"])
            raise PromptRejected({"error": {"message": "a part of the workflow is not valid"}} | payload)
        self._running = payload["prompt_id"]
        return self._running

    def wait(self, prompt_id: str, timeout: float = 600.0) -> list[Event]:
        """Block until the run has ended; returns its events.

        Raises ExecutionFailed, ExecutionInterrupted, ServerDied, or TimeoutError after ``timeout`` seconds.
        """
        ended = self.wait_for(prompt_id, lambda event: event.kind in ENDINGS, timeout)
        if ended.kind == "execution_error":
            raise ExecutionFailed(ended.data)
        if ended.kind == "execution_interrupted":
            raise ExecutionInterrupted(f"prompt {prompt_id} was interrupted at node {ended.data.get('node_id')}")
        return self._events[prompt_id]

    def wait_for(self, prompt_id: str, wanted: Callable[[Event], bool], timeout: float = 600.0) -> Event:
        """The first event of a prompt for which ``wanted`` holds, past ones included; TimeoutError if none comes."""
        deadline = time.monotonic() + timeout
        seen = 0
        while True:
            events = self._events.setdefault(prompt_id, [])
            for event in events[seen:]:
                if wanted(event):
                    return event
            seen = len(events)
            if prompt_id in self._cancelled:  # of one that was still waiting the server says nothing
                raise ExecutionInterrupted(f"prompt {prompt_id} was cancelled")
            if time.monotonic() > deadline:
                last = events[-1] if events else "nothing"
                raise TimeoutError(f"prompt {prompt_id}: not what was waited for in {timeout:g} s; last came {last}")
            self._receive(min(1.0, max(0.01, deadline - time.monotonic())))

    def run(self, workflow: dict[str, Any], timeout: float = 600.0) -> RunResult:
        """Queue, wait and fetch: outputs, pictures, events. Errors as in ``queue`` and ``wait``, but TooSlow after ``timeout``."""
        begin = time.monotonic()
        prompt_id = self.queue(workflow)
        try:
            events = self.wait(prompt_id, timeout)
        except TimeoutError as error:
            self.cancel(prompt_id)
            raise TooSlow(f"not done within {timeout:g} s, and cancelled") from error
        seconds = events[-1].seconds - begin
        record = self._finished_record(prompt_id)
        outputs = record.get("outputs", {})
        images = {
            node_id: [np.asarray(Image.open(io.BytesIO(self.view(item)))) for item in output["images"]]
            for node_id, output in outputs.items()
            if output.get("images")
        }
        previews = self._previews.pop(prompt_id, [])
        return RunResult(prompt_id, outputs, images, events, seconds, node_seconds(events), previews)

    def _finished_record(self, prompt_id: str) -> dict[str, Any]:
        """The history entry, which the server writes a moment after it has announced the end."""
        deadline = time.monotonic() + 10.0
        while not (record := self.history(prompt_id)):
            if time.monotonic() > deadline:
                raise HostError(f"prompt {prompt_id} ended, but the server's history has no record of it")
            time.sleep(0.02)
        return record

    # --- the socket

    def _connect(self) -> None:
        if self._socket is not None and self._socket.connected:
            return
        address = f"{self.url.replace('http', 'ws', 1)}/ws?clientId={self.client_id}"
        self._socket = websocket.create_connection(address, timeout=30)
        features = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
        self._socket.send(json.dumps(features))  # previews then say to which prompt they belong

    def _receive(self, timeout: float) -> None:
        """Read one message into the record; returns after ``timeout`` seconds when none comes."""
        self._connect()
        self._socket.settimeout(timeout)
        try:
            message = self._socket.recv()
        except websocket.WebSocketTimeoutException:
            self._check_alive()
            return
        except (websocket.WebSocketException, OSError) as error:
            self._socket = None
            time.sleep(0.5)  # a dying server closes its sockets a moment before its process is gone
            self._check_alive()
            raise HostError(f"the connection to {self.url} broke: {error}") from error
        now = time.monotonic()
        if isinstance(message, bytes):
            self._keep_preview(message)
        elif message:
            content = json.loads(message)
            data = content.get("data") or {}
            prompt_id = data.get("prompt_id")
            if prompt_id:
                self._running = prompt_id
                self._events.setdefault(prompt_id, []).append(Event(content["type"], data, now))

    def _keep_preview(self, message: bytes) -> None:
        kind = struct.unpack(">I", message[:4])[0]
        if kind == PREVIEW_IMAGE and self._running:
            self._previews.setdefault(self._running, []).append(message[8:])
        elif kind == PREVIEW_IMAGE_WITH_METADATA:
            length = struct.unpack(">I", message[4:8])[0]
            metadata = json.loads(message[8 : 8 + length])
            owner = metadata.get("prompt_id") or self._running
            self._previews.setdefault(owner, []).append(message[8 + length :])

    def _check_alive(self) -> None:
        """Overridden by ComfyServer: raise ServerDied when the process has ended."""

    def close(self) -> None:
        """Close the connections; the server goes on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.http.close()
