# SPDX-License-Identifier: GPL-3.0-or-later
"""What was done already: a line per finished edit in the folder that it lies in, so that a run that was stopped goes on."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from fireedit_cli.jobs import Job, JobError

JOURNAL = ".fireedit.jsonl"


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

    def knows(self, job: Job) -> bool:
        """Whether the file at the job's place was made by an earlier run, with whatever settings."""
        return job.output.name in self._read(job.output.parent)

    def write(self, job: Job, server: str, seconds: float, said: Sequence[str] = ()) -> None:
        """Note a finished edit, and what the nodes said of it."""
        record = {
            "output": job.output.name, "stamp": self.stamp(job), "source": str(job.source), "instruction": job.instruction,
            "seed": job.seed, "server": server, "seconds": round(seconds, 2), "said": list(said),
        }  # fmt: skip
        with self._lock:
            known = self._read(job.output.parent)
            path = job.output.parent / JOURNAL
            begin = "" if _ends_whole(path) else "\n"  # else this line would be lost with the one that was cut off
            with path.open("a", encoding="utf-8") as file:
                file.write(begin + json.dumps(record, ensure_ascii=False) + "\n")
            known[job.output.name] = record["stamp"]

    def _read(self, folder: Path) -> dict[str, str]:
        if folder not in self._known:
            found = {}
            path = folder / JOURNAL
            # not splitlines: an instruction may hold what Unicode calls a line's end; a line may end within a letter
            for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else ():
                try:
                    record = json.loads(line)
                    found[record["output"]] = record["stamp"]
                except (ValueError, KeyError, TypeError):
                    continue  # the line that was being written when the machine went down
            self._known[folder] = found
        return self._known[folder]


def _ends_whole(path: Path) -> bool:
    """Whether the last line of a file is complete, or there is none."""
    if not path.is_file() or not path.stat().st_size:
        return True
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def check_places(jobs: Sequence[Job], journal: Journal, overwrite: bool = False) -> None:
    """Find out before the first edit whether all results can be written, and that none replaces a file that is not ours.

    Raises:
        JobError: for a folder that cannot be written to, or a file that no journal knows.
    """
    for folder in {job.output.parent for job in jobs}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".fireedit"):
                pass
        except OSError as error:
            raise JobError(f"{folder} cannot be written to: {error.strerror or error}") from error
    strange = [job.output for job in jobs if job.output.exists() and not overwrite and not journal.knows(job)]
    if strange:
        more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise JobError(f"{strange[0]}{more} is there already and was not made by this command; give another -o, or --overwrite")
