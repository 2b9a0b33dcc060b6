# SPDX-License-Identifier: GPL-3.0-or-later
"""Find a ComfyUI and the Python that runs it. Standard library only; nothing here changes the disk.

Order of the host: ``COMFYUI_PATH``, an enclosing ``custom_nodes``, the cached checkout ``.cache/ComfyUI``.
Order of the Python: ``FIREEDIT_PYTHON``; for a host of the user's own its virtual environment, its embedded Python, the
current environment when that has torch; else ``.cache/venv``.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
CACHE = REPO / ".cache"
CACHED_HOST = CACHE / "ComfyUI"
CACHED_VENV = CACHE / "venv"
LINK_NAME = "fireedit"


class HostNotFound(RuntimeError):
    """No usable ComfyUI or Python; the message says what was looked for and what mends it."""


@dataclass(frozen=True)
class Host:
    """A ComfyUI checkout: ``path`` holds ``main.py``, ``owned`` is True when it is the user's and not our cache's."""

    path: Path
    origin: str
    owned: bool


def is_comfyui(path: Path) -> bool:
    """Whether ``path`` holds ComfyUI's own code (a base directory with models only does not count)."""
    return (path / "main.py").is_file() and (path / "comfy").is_dir() and (path / "folder_paths.py").is_file()


def _enclosing_hosts() -> list[Path]:
    """Folders X with this repository at X/custom_nodes/Y, by its real path and by the path it was entered through."""
    # The shell's PWD keeps a symbolic link that the system's working directory has already resolved.
    entered = [Path(os.path.abspath(__file__)).parents[1]]
    pwd = os.environ.get("PWD")
    if pwd and Path(pwd).is_dir() and Path(pwd).resolve() == REPO:
        entered.append(Path(pwd))
    hosts = [path.parent.parent for path in [REPO, *entered] if path.parent.name == "custom_nodes"]
    return list(dict.fromkeys(hosts))


def find_host() -> Host | None:
    """The first ComfyUI in the lookup order, or None. Raises HostNotFound when ``COMFYUI_PATH`` leads nowhere."""
    named = os.environ.get("COMFYUI_PATH", "").strip()
    if named:
        path = Path(named).expanduser().resolve()
        if not is_comfyui(path):
            raise HostNotFound(
                f"COMFYUI_PATH is {named!r}, but there is no ComfyUI (main.py, comfy/) in {path}. "
                "Point it to the folder that holds ComfyUI's main.py, or unset it."
            )
        return Host(path, "COMFYUI_PATH", owned=path != CACHED_HOST.resolve())
    for path in _enclosing_hosts():
        if is_comfyui(path) and path.resolve() != CACHED_HOST.resolve():
            return Host(path, "enclosing custom_nodes", owned=True)
    if is_comfyui(CACHED_HOST):
        return Host(CACHED_HOST, "cached checkout", owned=False)
    return None


def require_host() -> Host:
    """Like ``find_host``, but raises HostNotFound naming ``make setup`` when there is none."""
    host = find_host()
    if host is None:
        raise HostNotFound(
            f"no ComfyUI found: COMFYUI_PATH is not set, {REPO} lies in no custom_nodes folder, and {CACHED_HOST} does "
            "not exist. Run `make setup` (it fetches one), or set COMFYUI_PATH to your own."
        )
    return host


def venv_python(venv: Path) -> Path:
    """Path of the interpreter inside a virtual environment (it need not exist)."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def has_torch(python: Path) -> bool:
    """Whether ``python`` can find torch. The module is looked up, not imported, which would take seconds."""
    if Path(sys.executable) == python:
        return importlib.util.find_spec("torch") is not None
    probe = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)"
    return subprocess.run([str(python), "-c", probe], capture_output=True).returncode == 0


def find_python(host: Host | None) -> Path:
    """The interpreter that belongs to ``host``; ``.cache/venv``'s when there is none yet. It may not exist yet."""
    named = os.environ.get("FIREEDIT_PYTHON", "").strip()
    if named:
        path = Path(os.path.abspath(Path(named).expanduser()))  # not resolve(): a venv's python is itself a link
        if not path.is_file():
            raise HostNotFound(f"FIREEDIT_PYTHON is {named!r}, but there is no such file. Name a python executable.")
        return path
    if host is not None and host.owned:
        candidates = [venv_python(host.path / name) for name in ("venv", ".venv")]
        # The Windows portable build puts its Python beside ComfyUI, not inside it.
        candidates += [base / "python_embeded" / "python.exe" for base in (host.path, host.path.parent)]
        for candidate in candidates:
            if candidate.is_file():
                return candidate
        if has_torch(Path(sys.executable)):
            return Path(sys.executable)
    return venv_python(CACHED_VENV)


def gpu_present() -> bool:
    """A cheap guess at an accelerator that ComfyUI can use; ``FIREEDIT_CPU=1`` forces False, ``=0`` True."""
    forced = os.environ.get("FIREEDIT_CPU", "").strip()
    if forced in ("0", "1"):
        return forced == "0"
    if sys.platform == "darwin":
        return os.uname().machine == "arm64"
    if Path("/dev/kfd").exists():
        return True
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and b"GPU" in listed.stdout


if __name__ == "__main__":  # `make serve` asks for the flags that fit this machine
    sys.stdout.write("" if gpu_present() else "--cpu")
