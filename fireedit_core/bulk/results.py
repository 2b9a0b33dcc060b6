# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder of the results is the checkpoint: a picture lies there whole or not at all, and journals say what it was made of.

    out/<key>.png                       the edits
    out/failed.jsonl                    {"key", "image", "reason"} of the rows that failed in the latest run
    out/.fireedit/<worker>.jsonl        one journal per worker, only appended to: {"key", "stamp", "content", "time", "seconds"} per
                                        edit, and {"run", "begin": [keys]} before a batch where dead workers are started again

Each worker has a journal of its own because appending from several machines to one file is not safe on network file systems. Of several
lines about one key that one counts whose `content` is the picture's: the clocks of machines differ, and go back.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import socket
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..file_names import one_file
from .rows import EditOptions, EditRow, RowError, stamp

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger("fireedit")

HIDDEN = ".fireedit"
FAILED = "failed.jsonl"


def result_path(out: Path, key: str) -> Path:
    """Where the edit of a row lies."""
    return out / f"{key}.png"  # not with_suffix: a key may contain dots


def finished(out: Path, rows: Sequence[EditRow], bundle: Path | str, options: EditOptions) -> set[str]:
    """Keys of the rows whose edit is there.

    Raises:
        RowError: if one of them is known to be made of something else (picture, instruction, seed, options or bundle), or is itself a
            picture that is to be edited: to take it for the edit that is asked for would be wrong, and to write over it is not ours to
            decide.
    """
    there = {row.key for row in rows if result_path(out, row.key).is_file()}
    if there:
        folder = cache(os.path.realpath)  # a list of a million pictures names few folders
        real = lambda path: os.path.join(folder(os.path.dirname(path)), os.path.basename(path))  # noqa: E731
        sources = {real(row.image) for row in rows}
        own = [row.key for row in rows if row.key in there and real(result_path(out, row.key)) in sources]
        if own:
            raise RowError(f"{result_path(out, own[0])} is a picture to be edited, and no edit; give another folder for the results")
    made = read_journals(out) if there else {}
    other = [row.key for row in rows if row.key in there and made.get(row.key, "") not in ("", stamp(row, bundle, options))]
    if other:
        raise RowError(
            f"{len(other)} of the pictures in {out} were made with another picture, instruction, seed, option or bundle, the first is "
            f"{other[0]}.png; give another folder, or delete them to have them made again"
        )
    return there


def make_folder(out: Path, rows: Sequence[EditRow]) -> None:
    """Make the folder of the results, with what is hidden in it.

    Raises:
        RowError: for two keys that are one file there.
    """
    (out / HIDDEN).mkdir(parents=True, exist_ok=True)
    alike = one_file(out / HIDDEN, (row.key for row in rows))
    if alike:
        raise RowError(f"the keys {' and '.join(map(repr, alike))} are one file in {out}; every row needs a key of its own")


def read_journals(out: Path) -> dict[str, str]:
    """Key -> stamp of all edits that were written down."""
    found: dict[str, list[tuple[float, str, str]]] = defaultdict(list)
    for record in _records(out):
        if "stamp" in record:
            found[record["key"]].append((record["time"], record["stamp"], record.get("content", "")))
    return {key: _stamp_of(result_path(out, key), lines) for key, lines in found.items()}


def _stamp_of(picture: Path, lines: list[tuple[float, str, str]]) -> str:
    """The stamp of a picture that was deleted and made anew, perhaps on another machine: that of the line which says what lies there, else
    the latest by the clock, as journals before there was a `content` have it."""
    if len({stamp for _, stamp, _ in lines}) > 1 and picture.is_file():
        there = _content(picture.read_bytes())
        lines = [line for line in lines if line[2] == there] or lines
    return sorted(lines, key=lambda line: line[0])[-1][1]


def _content(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def begun_in(out: Path, run: str) -> Counter[str]:
    """How often the workers of a run began each key."""
    return Counter(key for record in _records(out) if record.get("run") == run for key in record["begin"])


def _records(out: Path) -> Iterator[dict[str, Any]]:
    """All lines of all journals; one that was cut off when its worker died is passed over."""
    for file in sorted((out / HIDDEN).glob("*.jsonl")):
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.endswith("}\n"):
                    yield json.loads(line)


class ResultWriter:
    """Writes the edits of one worker. Not for several threads at once: each needs its own.

    Attributes:
        name: of the worker, unlike that of any other on any machine, and also after it was started again.
    """

    def __init__(self, out: Path, bundle: Path | str, options: EditOptions):
        self.out, self.bundle, self.options = out, bundle, options
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        (out / HIDDEN).mkdir(parents=True, exist_ok=True)

    def write(self, row: EditRow, edit: Image.Image, **facts: Any) -> None:
        """Put the picture in its place, then write it down with what else is to be known of it."""
        temporary = self.out / HIDDEN / f"{self.name}.part"
        target = result_path(self.out, row.key)
        target.parent.mkdir(parents=True, exist_ok=True)
        made = io.BytesIO()
        edit.save(made, format="PNG")
        with temporary.open("wb") as file:
            file.write(made.getvalue())
            file.flush()
            os.fsync(file.fileno())  # else a power cut could leave the name without the content
        os.replace(temporary, target)
        made_of, content = stamp(row, self.bundle, self.options), _content(made.getvalue())
        self._note({"key": row.key, "stamp": made_of, "content": content, "time": time.time(), **facts})

    def begin(self, run: str, keys: Sequence[str]) -> None:
        """Write down that a batch is begun."""
        self._note({"run": run, "begin": list(keys)})

    def _note(self, record: dict[str, Any]) -> None:
        with (self.out / HIDDEN / f"{self.name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


class FailureList:
    """`out/failed.jsonl` of one run: begun anew, written as failures come, not there when there are none."""

    def __init__(self, out: Path):
        self.path = out / FAILED
        self.path.unlink(missing_ok=True)

    def add(self, row: EditRow, reason: str) -> None:
        """Write one down."""
        record = {"key": row.key, "image": str(row.image), "reason": reason}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
        logger.warning("%s failed: %s", row.key, reason)
