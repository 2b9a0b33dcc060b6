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
from typing import Any

from fireedit_cli.jobs import Job, JobError

JOURNAL = ".fireedit.jsonl"


class Journal:
    """What was done, one JSON line per finished edit, in each output folder. Safe for several threads.

    A line is written before its picture is put in its place, and knows the picture by its content ("made"): so a run that is killed
    between the two has promised nothing, and what somebody has made of a result since is not taken for ours.
    """

    def __init__(self, settings: str):
        self.settings = settings
        self._known: dict[Path, dict[str, list[dict[str, Any]]]] = {}  # folder -> name -> its lines
        self._lock = threading.Lock()

    def stamp(self, job: Job) -> str:
        """Changes with the picture's content, the instruction, the seed and the settings."""
        digest = hashlib.sha256(job.source.read_bytes())
        digest.update(json.dumps([job.instruction, job.seed, self.settings]).encode())
        return digest.hexdigest()[:16]

    def done(self, job: Job) -> bool:
        """Whether this very edit lies at its place, or what somebody has made of it."""
        lines = self._lines(job)
        if not lines or not job.output.is_file():
            return False
        made = _content(job.output)
        told = next((line for line in reversed(lines) if line.get("made") == made), lines[-1])
        return told["stamp"] == self.stamp(job)

    def knows(self, job: Job) -> bool:
        """Whether the file at the job's place was made of its picture by an earlier run, with whatever settings, and is as it was made."""
        made = _content(job.output) if job.output.is_file() else ""
        # lines of older versions say nothing of the content
        return any(line.get("made", made) == made and _of_one_picture(line, job) for line in self._lines(job))

    def write(
        self, job: Job, server: str, seconds: float, said: Sequence[str] = (), made: Path | None = None, stamp: str | None = None
    ) -> None:
        """Note a finished edit, and what the nodes said of it.

        Args:
            made: the file that holds it, which is about to become `job.output`; None: it is there already.
            stamp: of the job when it was begun; None: as it is now.
        """
        record = {
            "output": job.output.name, "stamp": stamp or self.stamp(job), "made": _content(made or job.output),
            "source": str(job.source.resolve()), "instruction": job.instruction, "seed": job.seed, "server": server,
            "seconds": round(seconds, 2), "said": list(said),
        }  # fmt: skip
        with self._lock:
            lines = self._lines(job)
            path = job.output.parent / JOURNAL
            begin = "" if _ends_whole(path) else "\n"  # else this line would be lost with the one that was cut off
            with path.open("a", encoding="utf-8") as file:
                file.write(begin + json.dumps(record, ensure_ascii=False) + "\n")
            lines.append(record)

    def _lines(self, job: Job) -> list[dict[str, Any]]:
        folder = job.output.parent
        if folder not in self._known:
            found: dict[str, list[dict[str, Any]]] = {}
            path = folder / JOURNAL
            # not splitlines: an instruction may hold what Unicode calls a line's end; a line may end within a letter
            for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else ():
                try:
                    record = json.loads(line)
                    found.setdefault(record["output"], []).append(record | {"stamp": record["stamp"]})
                except (ValueError, KeyError, TypeError):
                    continue  # the line that was being written when the machine went down
            self._known[folder] = found
        return self._known[folder].setdefault(job.output.name, [])


def _content(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def _of_one_picture(line: dict[str, Any], job: Job) -> bool:
    source = line.get("source")
    if not isinstance(source, str):
        return True
    # older versions wrote it as it was given, from a folder that nobody knows any more
    return Path(source).resolve() == job.source.resolve() if Path(source).is_absolute() else Path(source).name == job.source.name


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
        JobError: for a folder that cannot be written to, two results that are one file there, or a file that no journal knows as it is.
    """
    from fireedit_core.file_names import one_file  # here: nothing of the core is loaded before there is something to do

    for folder in {job.output.parent for job in jobs}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".fireedit"):
                pass
        except OSError as error:
            raise JobError(f"{folder} cannot be written to: {error.strerror or error}") from error
    alike = one_file(jobs[0].output.parent, (str(job.output) for job in jobs)) if jobs else None
    if alike:
        raise JobError(f"{' and '.join(alike)} are one file there; give the list a column output, or name one of the pictures otherwise")
    strange = [job.output for job in jobs if job.output.exists() and not overwrite and not journal.knows(job)]
    if strange:
        more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise JobError(
            f"{strange[0]}{more} is there already and was not made by this command of this picture, or has been changed since; give "
            "another -o, or --overwrite"
        )
