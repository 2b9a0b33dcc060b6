# SPDX-License-Identifier: GPL-3.0-or-later
"""Start a ComfyUI server of our own and talk to it: used by the demo, the benchmarks and the tests.

    from fireedit_cli.comfy_host import ComfyServer

    with ComfyServer() as server:
        name = server.upload_image("cat.png")
        result = server.run(api_workflow)          # {"1": {"class_type": ..., "inputs": {...}}, ...}
        picture = result.images["9"][0]            # (H, W, 3) uint8

The server runs in a base directory of its own (models, input, output, user, custom_nodes with this pack alone), so it
sees no foreign pack, leaves nothing in the host's folders, and several can run side by side.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import requests

from fireedit_cli.comfy_client import (
    ComfyClient,
    Event,
    ExecutionFailed,
    ExecutionInterrupted,
    HostError,
    PromptRejected,
    RunResult,
    ServerDied,
)
from host_setup.host_lookup import LINK_NAME, REPO, HostNotFound, find_python, gpu_present, require_host
from host_setup.setup_host import link_folder

__all__ = [
    "ComfyClient",
    "ComfyServer",
    "Event",
    "ExecutionFailed",
    "ExecutionInterrupted",
    "HostError",
    "HostNotFound",
    "PromptRejected",
    "RunResult",
    "ServerDied",
]

log = logging.getLogger("fireedit")


def free_port() -> int:
    """A TCP port of this machine that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ComfyServer(ComfyClient):
    """A ComfyUI process and its client.

    Arguments: ``cpu`` None runs on an accelerator when there is one; ``base`` is the base directory, None makes a
    temporary one that ``stop`` removes; ``preview`` is the host's preview method (none, auto, latent2rgb, taesd);
    ``load_pack`` False leaves this pack out (the plain host, for comparisons); ``arguments`` and ``env`` are added to
    the command line and the environment.

    Raises HostNotFound when there is no ComfyUI or no Python for it (the message names ``make setup``), and ServerDied
    or TimeoutError from ``start`` with the end of the log.
    """

    def __init__(
        self,
        *,
        cpu: bool | None = None,
        base: str | Path | None = None,
        preview: str = "none",
        load_pack: bool = True,
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        start_timeout: float = 300.0,
    ):
        self.host = require_host()
        self.python = find_python(self.host)
        if not self.python.is_file():
            raise HostNotFound(f"there is no Python at {self.python} to run ComfyUI with. Run `make setup`.")
        self.port = free_port()
        super().__init__(f"http://127.0.0.1:{self.port}")
        self._temporary = base is None
        self.base = Path(tempfile.mkdtemp(prefix="fireedit-host-")) if base is None else Path(base).resolve()
        self.log_path = self.base / "server.log"
        self.cpu = not gpu_present() if cpu is None else cpu
        self.preview, self.load_pack = preview, load_pack
        self.arguments, self.env = list(arguments), dict(env or {})
        self.start_timeout = start_timeout
        self.start_seconds = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def input_dir(self) -> Path:
        """Where ``LoadImage`` reads from."""
        return self.base / "input"

    @property
    def output_dir(self) -> Path:
        """Where ``SaveImage`` writes to."""
        return self.base / "output"

    @property
    def models_dir(self) -> Path:
        """The server's ``models`` folder; a bundle in ``models_dir / "fireedit"`` is listed by the loader."""
        return self.base / "models"

    @property
    def pid(self) -> int | None:
        """Process id, None when not started."""
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def command(self) -> list[str]:
        """The command line of the server."""
        parts = [str(self.python), str(self.host.path / "main.py")]
        parts += ["--listen", "127.0.0.1", "--port", str(self.port), "--disable-auto-launch"]
        parts += ["--base-directory", str(self.base), "--database-url", "sqlite:///:memory:"]
        # Without it the nodes of paid services are loaded too: seconds of start-up, and requests to the internet.
        parts += ["--disable-api-nodes", "--preview-method", self.preview]
        return parts + (["--cpu"] if self.cpu else []) + self.arguments

    def start(self) -> ComfyServer:
        """Start the process and wait until it answers; returns itself. Does nothing when it runs already."""
        if self.alive:
            return self
        for name in ("custom_nodes", "input", "output", "temp", "user", "models"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        link = self.base / "custom_nodes" / LINK_NAME
        if self.load_pack and not link.exists():
            link_folder(link, REPO)
        begin = time.monotonic()
        with self.log_path.open("ab") as log_file:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.host.path,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=subprocess.STDOUT,
            )
        atexit.register(self.stop)
        while True:
            self._check_alive()
            try:
                if self.http.get(f"{self.url}/system_stats", timeout=5).status_code == 200:
                    break
            except requests.RequestException:
                pass
            if time.monotonic() - begin > self.start_timeout:
                tail = self.log_tail()
                self.stop()
                raise TimeoutError(f"ComfyUI did not answer within {self.start_timeout:.0f} s. End of its log:\n{tail}")
            time.sleep(0.1)
        self.start_seconds = time.monotonic() - begin
        log.info("ComfyUI %s answers at %s after %.1f s", self.host.path, self.url, self.start_seconds)
        return self

    def stop(self) -> None:
        """End the process and remove the base directory if it was a temporary one. May be called twice."""
        self.close()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._temporary:
            shutil.rmtree(self.base, ignore_errors=True)  # does not follow the link to this repository
        atexit.unregister(self.stop)

    def log_text(self) -> str:
        """All that the server has written so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.is_file() else ""

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of its log."""
        return "\n".join(self.log_text().splitlines()[-lines:])

    def _check_alive(self) -> None:
        if not self.alive:
            code = self._process.poll() if self._process else None
            raise ServerDied(f"ComfyUI has ended (exit code {code}). End of its log:\n{self.log_tail()}")

    def __enter__(self) -> ComfyServer:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *exception: object) -> None:
        self.stop()
