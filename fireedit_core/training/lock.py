# SPDX-License-Identifier: GPL-3.0-or-later
"""One process trains in a folder at a time: two would write into each other's states."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where nothing is held
    fcntl = None

LOCK = "lock"


class AlreadyRunning(RuntimeError):
    """Another process trains in the folder."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system lets go of however the process ends. Raises AlreadyRunning where another one holds it."""
    with (folder / LOCK).open("a+") as lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise AlreadyRunning(f"process {running(folder)} trains in {folder} already; let it end, or stop it first") from error
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def running(folder: Path) -> int | None:
    """The number of the process that trains in a folder, or None."""
    path = folder / LOCK
    if not path.is_file() or fcntl is None:
        return None
    with path.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return int(lock.read() or 0)
    return None
