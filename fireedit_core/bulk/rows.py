# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be done and what came of it: rows, options, the report; and the lists and folders that rows are read from."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..folders import files_below
from ..lists import ListError, read_records

COLUMNS = ("image", "instruction", "key", "seed")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
KEEP_OUTSIDE = ("off", "exact")
SEEDS = range(-(2**63), 2**64)  # what torch.Generator.manual_seed takes
LONGEST_NAME = 240  # bytes of one name in a path; most file systems take 255, and the suffix needs some


class RowError(ValueError):
    """Rows or options that cannot be worked off; the message says what to give instead."""


@dataclass(frozen=True)
class EditRow:
    """One edit.

    Attributes:
        key: names the result, `out/<key>.png`: a relative name without suffix, may contain "/", may not leave the folder.
        image: the picture file. instruction: what to do. seed: of the noise.

    Raises:
        RowError: for a key that is no such name, or a seed that is no whole number of 64 bits. A picture that is not there or an
            instruction that is empty fails later, alone.
    """

    key: str
    image: str | Path
    instruction: str
    seed: int = 0

    def __post_init__(self) -> None:
        if fault := key_fault(self.key):
            raise RowError(f"the key {self.key!r} of {self.image} {fault}; give a relative name like 'animals/cat'")
        if not isinstance(self.seed, int) or self.seed not in SEEDS:
            raise RowError(f"the seed of {self.key} must be a whole number of at most 64 bits, got {self.seed!r}")


def key_fault(key: Any) -> str | None:
    """What is wrong with a key, as the end of a sentence; None if nothing is."""
    if not isinstance(key, str) or not key.strip():
        return "is no name"
    if "\\" in key or ":" in key or any(ord(c) < 32 for c in key):
        return "contains a backslash, a colon or a control character"
    for part in key.split("/"):
        if part == "..":
            return "leads out of the folder"
        if not part:
            return "begins or ends with '/' or has two in a row"
        if part.startswith("."):
            return "has a part that begins with a dot, where the hidden files of a run lie"
        if len(part.encode("utf-8", "surrogateescape")) > LONGEST_NAME:
            return f"has a part longer than {LONGEST_NAME} bytes"
    return None


@dataclass(frozen=True)
class EditOptions:
    """How all rows of a run are edited; None is the bundle's own.

    Attributes:
        steps: sampling steps, 1 or more. text_guidance, image_guidance: scales of the two guidances, 0 or more.
        working_size: long side in pixels that the model works at; 0 is each picture's own size.
        keep_outside: "off", or "exact" for source pixels bit for bit outside the feathered edit mask.

    Raises:
        RowError: for values outside these.
    """

    steps: int | None = None
    text_guidance: float | None = None
    image_guidance: float | None = None
    working_size: int | None = None
    keep_outside: str = "off"

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise RowError(f"steps must be 1 or more, got {self.steps}")
        for name in ("text_guidance", "image_guidance"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise RowError(f"{name} must be a number of 0 or more, got {value}")
        if self.working_size is not None and self.working_size < 0:
            raise RowError(f"working_size must be 0 (each picture's own) or a number of pixels, got {self.working_size}")
        if self.keep_outside not in KEEP_OUTSIDE:
            raise RowError(f"keep_outside must be one of {', '.join(KEEP_OUTSIDE)}, got {self.keep_outside!r}")


@dataclass
class BulkReport:
    """What came of the rows: every key stands in exactly one of the three.

    Attributes:
        done: edited in this run. skipped: were there before it. failed: why there is no picture.
    """

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.done) + len(self.skipped) + len(self.failed)

    def __str__(self) -> str:
        return f"{len(self.done)} edited, {len(self.skipped)} were there already, {len(self.failed)} failed"


def stamp(row: EditRow, bundle: Path | str, options: EditOptions) -> str:
    """Sixteen hex digits that change with the picture's name, the instruction, the seed, the options and the bundle's name.

    Names, not contents: hashing a million pictures and 14 GB of weights would cost more than it saves, and a mount may have another
    place on every machine.
    """
    parts = [Path(row.image).name, row.instruction, row.seed, Path(bundle).resolve().name, asdict(options)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def check_rows(rows: Sequence[EditRow]) -> None:
    """Raises RowError where two rows have one key."""
    if twice := _repeated(row.key for row in rows):
        raise RowError(f"{len(twice)} keys are named by more than one row, the first is {twice[0]!r}; every row needs a key of its own")


# --- reading ---------------------------------------------------------------------------------------------------------


def read_rows(source: Path | str, instruction: str | None = None, seed: int = 0, out: Path | str | None = None) -> list[EditRow]:
    """Rows of a .csv or .jsonl list with `image`, `instruction` and, if wanted, `key` and `seed`, or of a folder of pictures.

    Pictures of a list lie beside it, or where an absolute path says. A key that is not given is the picture's path below the list (or
    the folder) without suffix; for a picture elsewhere its name without suffix.

    Args:
        instruction: for the pictures of a folder, and the rows of a list that have none. seed: the same.
        out: the folder of the results; where it lies in the folder of pictures, it is not read.

    Raises:
        RowError: for a source that is no such thing or has no rows, a row without instruction, a bad key or seed, two rows of one key.
    """
    source = Path(source)
    if source.is_dir():
        rows = _rows_of_folder(source, instruction, seed, out)
    elif source.suffix.lower() in (".csv", ".jsonl"):
        rows = [_row(source, number, record, instruction, seed) for number, record in _records(source)]
    else:
        raise RowError(f"{source} is neither a folder of pictures nor a .csv or .jsonl list")
    if not rows:
        raise RowError(f"{source} has no rows" if source.is_file() else f"{source} holds no pictures ({', '.join(PICTURES)})")
    if twice := _repeated(row.key for row in rows):
        same = [str(row.image) for row in rows if row.key == twice[0]]
        raise RowError(f"{' and '.join(same[:2])} would both become {twice[0]}.png; give the list a column key")
    return rows


def _rows_of_folder(source: Path, instruction: str | None, seed: int, out: Path | str | None) -> list[EditRow]:
    if not (instruction or "").strip():
        raise RowError(f'what is to be done with the pictures of {source}? Add an instruction, for example "remove the cat"')
    results = None if out is None else Path(out).resolve()
    if results == source.resolve():
        raise RowError(f"the results cannot go into the folder of the pictures, {source}; give another folder as --out")
    names = (file.relative_to(source) for file in files_below(source) if file.suffix.lower() in PICTURES)
    seen = (name for name in names if not any(part.startswith(".") for part in name.parts))
    return [
        EditRow(name.with_suffix("").as_posix(), source / name, instruction, seed)
        for name in seen
        if results is None or not (source / name).resolve().is_relative_to(results)
    ]


def _records(source: Path) -> Iterable[tuple[int, dict[str, Any]]]:
    """(line, record) of a list."""
    try:
        yield from read_records(source, COLUMNS)
    except ListError as error:
        raise RowError(str(error)) from error


def _row(source: Path, number: int, record: dict[str, Any], instruction: str | None, seed: int) -> EditRow:
    where = f"{source}, line {number}"
    value = {name: "" if record.get(name) is None else str(record[name]).strip() for name in ("image", "instruction", "key", "seed")}
    if not value["image"]:
        raise RowError(f"{where}: no image; the list needs image and instruction, and may have key and seed")
    own = value["seed"] or str(seed)
    if not own.removeprefix("-").isdecimal():
        raise RowError(f"{where}: the seed {own!r} is no whole number")
    text = value["instruction"] or (instruction or "").strip()
    if not text:
        raise RowError(f"{where}: no instruction for {value['image']}, and none for all rows")
    name = Path(value["image"])
    relative = name.with_suffix("").as_posix()
    key = value["key"] or (name.stem if name.is_absolute() or key_fault(relative) else relative)
    try:
        return EditRow(key, source.parent / name, text, int(own))
    except RowError as error:
        raise RowError(f"{where}: {error}") from error


def _repeated(keys: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return [key for key in keys if key in seen or seen.add(key)]
