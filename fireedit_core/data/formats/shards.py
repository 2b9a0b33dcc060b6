# SPDX-License-Identifier: GPL-3.0-or-later
"""Datasets as shards that are read from front to back, for sets that do not fit the disk; `streaming.StreamedReader` goes through them.

A shard is a file or an address (`https://`, `hf://`). Its rows are read undecoded, so that a shuffle buffer holds bytes and no pictures.
"""

from __future__ import annotations

import glob
import io
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..sample import EditSample
from .reader import BrokenRow, DatasetError, ParquetReader, Reader, fitted, mask, of_one_split, picture, sentence

AT_ONCE = 16  # rows of a parquet shard that are turned into Python's objects together
PIECES = 256  # shards that a reader is cut into
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


class Shards(ABC):
    """What a stream needs of a dataset.

    Attributes:
        name: of the dataset. shards: the names of its shards; their order counts.
    """

    name: str
    shards: list[str]

    @abstractmethod
    def rows(self, shard: str, start: int = 0) -> Iterator[tuple[int, Any]]:
        """Number and content of the rows of a shard from number `start` on; rows that an option keeps out are passed over."""

    @abstractmethod
    def sample(self, shard: int, row: int, content: Any) -> EditSample:
        """The sample of a row of the `shard`-th shard. Raises BrokenRow."""

    def choose(self, epoch: int) -> None:  # noqa: B027
        """Move to an epoch, for datasets whose rows are drawn anew in each."""


class ParquetShards(Shards):
    """The files of a `ParquetReader`, one by one. The samples are the reader's; the number of the shard stands before their ids.

    Args:
        reader: a reader without a table (`files` None). files: see `shard_files`.

    Raises:
        DatasetError: if there are no files; at a row, if the shard has not the columns.
    """

    def __init__(self, reader: ParquetReader, files: Path | str | Iterable[Path | str]):
        self.reader, self.name = reader, reader.name
        self.shards = shard_files(files, ".parquet")

    def rows(self, shard: str, start: int = 0) -> Iterator[tuple[int, Any]]:
        """See `Shards`."""
        import datasets

        opened = datasets.load_dataset("parquet", data_files=[shard], split="train", streaming=True, batch_size=AT_ONCE)
        opened = self.reader.prepared(opened, shard)
        row = start
        # in batches because plain iteration would share this one shard among the workers of a loader
        for batch in (opened.skip(start) if start else opened).iter(AT_ONCE):
            for values in zip(*batch.values()):
                content = dict(zip(batch, values))
                if self.reader.keeps(content):
                    yield row, content
                row += 1

    def sample(self, shard: int, row: int, content: Mapping[str, Any]) -> EditSample:
        """See `Shards`."""
        return _placed(self.reader.sample(row, content), shard, self.shards[shard])


class TarPairs(Shards):
    """Tar archives in the manner of WebDataset, the members of a row one after the other under one key:

        000017.src.jpg  000017.tgt.jpg  000017.json  000017.mask.png (if wanted)

    The json is an object with `instruction` and, if wanted, `edit_type`, `source_caption` and `target_caption`. Pictures are of any kind
    that PIL opens; a mask is white or transparent where the edit is. The key is the name up to the first dot.

    Args:
        files: see `shard_files`.
    """

    name = "pairs-tar"

    def __init__(self, files: Path | str | Iterable[Path | str]):
        self.shards = shard_files(files, ".tar")

    def rows(self, shard: str, start: int = 0) -> Iterator[tuple[int, Any]]:
        """See `Shards`. Rows before `start` are read and thrown away: an archive has no table of contents."""
        import datasets

        key, members, row = None, {}, 0
        # not the builder "webdataset" of the same library: one broken json there ends the whole stream
        for path, file in datasets.StreamingDownloadManager().iter_archive(shard):
            folder, _, name = path.rpartition("/")
            stem, dot, ending = name.partition(".")
            if not dot:
                continue
            if key not in (None, (folder, stem)):
                if row >= start:
                    yield row, members
                members, row = {}, row + 1
            key = (folder, stem)
            members |= {"key": f"{folder}/{stem}" if folder else stem, ending.lower(): file.read() if row >= start else b""}
        if key is not None and row >= start:
            yield row, members

    def sample(self, shard: int, row: int, content: Mapping[str, Any]) -> EditSample:
        """See `Shards`."""
        told = _told(content.get("json"))
        roles = {ending.split(".")[0]: data for ending, data in content.items() if ending not in ("key", "json")}
        source, hole = picture(roles.get("src"), "source"), roles.get("mask")
        texts = {key: told.get(key) or "" for key in ("edit_type", "source_caption", "target_caption")}
        wrong = next((key for key, text in texts.items() if not isinstance(text, str)), None)
        if wrong:
            raise BrokenRow(f"{wrong} is no text: {texts[wrong]!r}")
        sample = EditSample(
            id=content["key"], dataset=self.name, source=source, target=fitted(picture(roles.get("tgt"), "target"), source),
            instruction=sentence(told.get("instruction")), mask=None if hole is None else fitted(mask(hole), source), **texts,
        )  # fmt: skip
        return _placed(sample, shard, self.shards[shard])


class ReaderShards(Shards):
    """Any reader, cut into pieces: to draw from it together with streams. Its content is not read before its turn.

    Raises:
        DatasetError: for a reader without rows.
    """

    def __init__(self, reader: Reader):
        self.reader, self.name = reader, reader.name
        count = len(reader)
        if not count:
            raise DatasetError(f"{self.name} has no rows")
        pieces = min(count, PIECES)
        limits = [count * piece // pieces for piece in range(pieces + 1)]
        self.shards = [f"{first}-{end}" for first, end in zip(limits, limits[1:])]

    def rows(self, shard: str, start: int = 0) -> Iterator[tuple[int, Any]]:
        """See `Shards`."""
        first, end = map(int, shard.split("-"))
        return ((row - first, row) for row in range(first + start, end))

    def sample(self, shard: int, row: int, content: int) -> EditSample:
        """See `Shards`."""
        return self.reader.read(content)

    def choose(self, epoch: int) -> None:
        """See `Shards`."""
        self.reader.choose(epoch)


def shard_files(files: Path | str | Iterable[Path | str], ending: str) -> list[str]:
    """The shards that are meant, sorted within each entry.

    Args:
        files: one or several of: a folder (all files below it with the `ending`, of one split), a file, an address, each also with
            `{000..123}` for numbers or `*` (of addresses only where the other side lists its files, as `hf://` does).

    Raises:
        DatasetError: if nothing is found for one of them, or a shard is named twice.
    """
    given = [files] if isinstance(files, (str, Path)) else list(files)
    found = [shard for entry in given for name in _unbraced(str(entry)) for shard in _found(name, ending)]
    if not found:
        raise DatasetError("a stream needs one shard or more")
    twice = next((shard for shard in found if found.count(shard) > 1), None) if len(set(found)) < len(found) else None
    if twice:
        raise DatasetError(f"{twice} is named twice among the shards")
    return found


def _unbraced(name: str) -> list[str]:
    match = BRACES.search(name)
    if not match:
        return [name]
    first, last = match.groups()
    numbers = (f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1))
    return [full for number in numbers for full in _unbraced(name[: match.start()] + number + name[match.end() :])]


def _found(name: str, ending: str) -> list[str]:
    if "://" in name:
        if "*" not in name:
            return [name]
        import fsspec

        system, pattern = fsspec.core.url_to_fs(name)
        found = sorted(system.unstrip_protocol(path) for path in system.glob(pattern))
    else:
        path = Path(name)
        if path.is_dir():
            found = [str(file) for file in of_one_split(path, sorted(path.rglob(f"*{ending}")))]
        else:
            found = [name] if path.is_file() else sorted(glob.glob(name))
    if not found:
        raise DatasetError(f"no shards at {name}, a folder of *{ending}, a file, an address, or a pattern of them was expected")
    return found


def _told(data: bytes | None) -> dict[str, Any]:
    if data is None:
        raise BrokenRow("no json: the row has none")
    try:
        told = json.load(io.BytesIO(data))
    except ValueError as error:  # no JSON, or no UTF-8
        raise BrokenRow(f"broken json: {error}") from error
    if not isinstance(told, dict):
        raise BrokenRow(f"broken json: {str(told)[:80]!r} is no object")
    return told


def _placed(sample: EditSample, number: int, shard: str) -> EditSample:
    return replace(sample, id=f"{number:05d}/{sample.id}", meta={**sample.meta, "shard": shard})
