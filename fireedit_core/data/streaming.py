# SPDX-License-Identifier: GPL-3.0-or-later
"""Datasets that do not fit the disk: rows come from front to back, a resumed stream goes on with exactly the next one.

Order. An epoch permutes the shards and deals them out to the processes and their loader workers. Each reads its shards one after the
other, in blocks of `buffer` rows, and gives the rows of a block in a permuted order. Every permutation is a function of the seed and
of where it stands, so the state is a handful of numbers: the place where the block began and how many of its rows were given. (The
shuffle buffer of `datasets` cannot say that much; after a resume it is filled anew, and its rows are lost.)

Memory: one block of undecoded rows, and what Arrow holds of a parquet file meanwhile (a row group at most).

Workers: with torch's `DataLoader` and workers the state of a stream is in the workers, so it has to travel with what they give.
`training.paper.streamed` does that: it reads *lanes*, parts whose number has nothing to do with how many processes and workers there are.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from .formats.reader import BrokenRow, DatasetError, ParquetReader
from .formats.registry import check_options, kind_of, load_rows, open_entry, row_settings, split_entry
from .formats.shards import ParquetShards, ReaderShards, Shards
from .mixture import KINDS, TRIES, _weighted, marks, permuted
from .sample import EditSample

logger = logging.getLogger("fireedit")

BUFFER = 256  # rows


class StreamedReader(IterableDataset):
    """Samples of shards. Each `iter` goes on where the last one stopped, to the end of the epoch; the next begins the epoch after.

    Only one iterator may be in use. Broken rows are left out, counted and named in the log. With loader workers an epoch is begun by
    `set_epoch`, as the workers' copies do not come back.

    Args:
        shards: at least as many as there are processes times loader workers; if they do not divide evenly, some have a shard more.
        seed: 0 or more; None: everything in its order, for a validation.
        buffer: rows of a block, 1 or more; 1 leaves the rows of a shard in their order.
        rank, world: number of this process, and how many there are.
        by_worker: in a loader worker, be its part of the process's part.

    Attributes:
        skipped: how many rows were left out, by the reason.

    Raises:
        DatasetError: for numbers that are not as above; in iteration if TRIES rows in a row are broken, or a shard cannot be read.
    """

    def __init__(
        self, shards: Shards, seed: int | None = 0, buffer: int = BUFFER, rank: int = 0, world: int = 1, by_worker: bool = True
    ):
        super().__init__()
        if buffer < 1 or (seed is not None and seed < 0):
            raise DatasetError(f"{shards.name}: the buffer must be 1 or more and the seed 0 or more, not {buffer} and {seed}")
        self.shards, self.seed, self.buffer, self.by_worker = shards, seed, buffer, by_worker
        self.name, self.skipped = shards.name, Counter[str]()
        self.epoch = self._place = self._row = self._given = 0
        self.split(rank, world)

    def split(self, rank: int, world: int) -> None:
        """Be the part of process `rank` of `world`. Raises DatasetError if there is no such part, or it would have no shard."""
        if not 0 <= rank < world:
            raise DatasetError(f"{self.name}: there is no process {rank} of {world}")
        self.rank, self.world = rank, world
        self._check(world)

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch; the one that the stream is in goes on."""
        if epoch != self.epoch:
            self.epoch, self._place, self._row, self._given = epoch, 0, 0, 0

    def __iter__(self) -> Iterator[EditSample]:
        part, parts = self._part()
        self._check(parts)
        rows, broken = self._rows(part, parts), 0
        while block := list(islice(rows, self.buffer)):
            last, key = block[-1], f"{self.seed} {self.epoch} {part} {self._place} {self._row}"
            for given in range(self._given, len(block)):
                number = given if self.seed is None else permuted(given, len(block), key)
                (_, shard, row, content), block[number] = block[number], None  # a row that was given needs no memory
                self._given = given + 1
                try:
                    self.shards.choose(self.epoch)  # each time: others may read of the same shards
                    sample = self.shards.sample(shard, row, content)
                except BrokenRow as error:
                    self.skipped[str(error).split(":", 1)[0]] += 1
                    logger.warning("%s, row %d of %s is left out: %s", self.name, row, self.shards.shards[shard], error)
                    broken += 1
                    if broken == TRIES:
                        raise DatasetError(f"{self.name}: {broken} rows in a row are broken; is this the right data?") from error
                    continue
                broken = 0
                yield sample
            self._place, self._row, self._given = last[0], last[2] + 1, 0
        self.epoch, self._place, self._row, self._given = self.epoch + 1, 0, 0, 0

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is, after the sample that came last: numbers and texts only."""
        position = {"epoch": self.epoch, "place": self._place, "row": self._row, "given": self._given}
        return self._setting() | position | {"skipped": dict(self.skipped)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; an iterator that is in use must be made anew.

        Raises DatasetError if it is of other shards, of another seed or buffer, or of another part of the processes and workers.
        """
        now = self._setting()
        other = [f"{key} {state.get(key)} there, {value} here" for key, value in now.items() if state.get(key) != value]
        if other:
            raise DatasetError(f"{self.name}: this state is of another stream: {', '.join(other)}")
        self.epoch, self._place, self._row, self._given = (int(state[key]) for key in ("epoch", "place", "row", "given"))
        self.skipped = Counter(state["skipped"])

    def _setting(self) -> dict[str, Any]:
        """All that the order depends on. Of the shards the names alone, so that they may move to another folder."""
        names = "\n".join(shard.rsplit("/", 1)[-1] for shard in self.shards.shards)
        part, parts = self._part()
        digest = hashlib.blake2b(names.encode(), digest_size=8).hexdigest()
        return {"shards": f"{len(self.shards.shards)}:{digest}", "seed": self.seed, "buffer": self.buffer, "part": f"{part} of {parts}"}

    def _part(self) -> tuple[int, int]:
        return _part(self.rank, self.world, self.by_worker)

    def _rows(self, part: int, parts: int) -> Iterator[tuple[int, int, int, Any]]:
        """Place of the shard among those of this part, number of the shard, number of the row and its content, from the block on."""
        count, first = len(self.shards.shards), self._row
        places = range(part, count, parts)
        for place in range(self._place, len(places)):
            shard = places[place]
            if self.seed is not None:
                shard = permuted(shard, count, f"{self.seed} {self.epoch} shards")
            name, row = self.shards.shards[shard], first
            try:
                for row, content in self.shards.rows(name, first):
                    yield place, shard, row, content
            except DatasetError:
                raise
            except Exception as error:  # each kind of address has exceptions of its own
                raise DatasetError(f"{self.name}: {name} cannot be read at row {row} ({type(error).__name__}: {error})") from error
            first = 0

    def _check(self, parts: int) -> None:
        count = len(self.shards.shards)
        if count < parts:
            raise DatasetError(
                f"{self.name}: {count} shards cannot be dealt out to {parts} readers ({self.world} processes and the loader workers of "
                "each); use fewer workers or processes, or write the data in more shards"
            )


@dataclass(frozen=True)
class StreamSource:
    """A stream of a `StreamMixture`: a name that is unique in it, the stream, and a kind, one of KINDS; share and flip as in `Source`."""

    name: str
    stream: StreamedReader
    kind: str
    share: float | None = None
    flip: bool | None = None


class StreamMixture(IterableDataset):
    """Draws from several streams without end. Which one a draw falls to is a function of the seed and its number, as in `Mixture`.

    A sample's `meta` has what `marks` says of its source. A stream begins its next epoch where one ends.
    Each `iter` goes on where the last one stopped, and only one may be in use.

    Args:
        sources: one or more, with different names. They are told their part of the processes.
        seed: 0 or more.
        weights: by name, for every source, 0 or more. None: all alike, as the number of rows of a stream is not known (`smartedit_shares`
            gives shares for known ones).
        rank, world: number of this process, and how many there are. by_worker: as in `StreamedReader`.

    Attributes:
        shares: probability of each source, by name.
        number: how many draws this part has made.

    Raises:
        DatasetError: for sources or weights that are not as above; in iteration as `StreamedReader`, and for a stream without samples.
    """

    def __init__(
        self, sources: Sequence[StreamSource], seed: int = 0, weights: Mapping[str, float] | None = None, rank: int = 0, world: int = 1,
        by_worker: bool = True,
    ):  # fmt: skip
        super().__init__()
        self.sources, self.seed, self.number = tuple(sources), int(seed), 0
        names = [source.name for source in self.sources]
        if not names or len(set(names)) < len(names) or self.seed < 0:
            raise DatasetError(f"a mixture needs sources with different names and a seed of 0 or more, not {names} and {seed}")
        for source in self.sources:
            if source.kind not in KINDS:
                raise DatasetError(f"{source.name} is of the kind {source.kind!r}; there are {', '.join(KINDS)}")
            source.stream.split(rank, world)
        self.rank, self.world, self.by_worker = rank, world, by_worker
        self.shares = _weighted(names, dict.fromkeys(names, 1.0) if weights is None else weights)
        limits = np.cumsum([self.shares[name] for name in names])
        self._limits = limits / limits[-1]  # ends with 1 exactly, so no draw lies above
        self._key = int.from_bytes(hashlib.blake2b(f"which source {self.seed}".encode(), digest_size=16).digest(), "little")

    def where(self, number: int) -> StreamSource:
        """The source of a draw, the draws of all parts counted together: part p of n has the numbers p, p + n, p + 2n ..."""
        # as Mixture, which takes a block of numbers at a time: 4 for each value of the counter
        raw = np.random.Philox(key=self._key, counter=number // 4).random_raw(number % 4 + 1)[-1]
        return self.sources[int(np.searchsorted(self._limits, (int(raw) >> 11) * 2.0**-53, side="right"))]

    def __iter__(self) -> Iterator[EditSample]:
        part, parts = _part(self.rank, self.world, self.by_worker)
        running = {source.name: _endless(source) for source in self.sources}
        while True:
            source = self.where(self.number * parts + part)
            sample = next(running[source.name])
            self.number += 1
            sample.meta |= marks(source)
            yield sample

    def state_dict(self) -> dict[str, Any]:
        """Where the mixture and its streams are, after the sample that came last."""
        streams = {source.name: source.stream.state_dict() for source in self.sources}
        return {"seed": self.seed, "shares": dict(self.shares), "number": self.number, "streams": streams}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state. Raises DatasetError if it is of another seed, other sources or shares, and as the streams do."""
        here = {"seed": self.seed, "shares": dict(self.shares)}
        if any(state.get(key) != value for key, value in here.items()):
            raise DatasetError(f"this state is of another mixture: {state.get('seed')}, {state.get('shares')} there, {here} here")
        for source in self.sources:
            source.stream.load_state_dict(state["streams"][source.name])
        self.number = int(state["number"])


@dataclass(frozen=True)
class Lanes:
    """A mixture of streams in parts that any number of processes and workers can read; the arguments are those of `StreamMixture`."""

    sources: Sequence[StreamSource]
    seed: int = 0
    weights: Mapping[str, float] | None = None

    @property
    def shards(self) -> int:
        """How many lanes there can be: each reads a shard or more of every source."""
        return min(len(source.stream.shards.shards) for source in self.sources)

    def lane(self, number: int, count: int, buffer: int = BUFFER) -> StreamMixture:
        """Lane `number` of `count`, over the same shards as all others: its draw j is draw j * count + number of them together."""
        own = [replace(s, stream=StreamedReader(s.stream.shards, s.stream.seed, buffer, number, count, False)) for s in self.sources]
        return StreamMixture(own, self.seed, self.weights, number, count, by_worker=False)


def open_stream(entry: Mapping[str, Any], base: Path | str | None = None, seed: int | None = 0, buffer: int = BUFFER) -> StreamSource:
    """A row of a configuration (see `registry.open_source`) as a stream.

    Formats of parquet and tar shards are streamed; their `files` may be addresses and patterns, see `shards.shard_files`. Any other format
    is opened as it lies on disk.

    Raises:
        DatasetError: as `registry.open_source` and `StreamedReader`.
    """
    name, format, options = split_entry(entry, base)
    kind = kind_of(name, entry, format)
    try:
        if not format.stream and not issubclass(format.load(), ParquetReader):
            shards: Shards = ReaderShards(open_entry(entry, base))
        else:
            check_options(entry["format"], options)
            files = options.pop("files")
            shards = format.load()(files, **options) if format.stream else ParquetShards(format.load()(None, **options), files)
        return StreamSource(name, StreamedReader(shards, seed, buffer), kind, *row_settings(name, entry))
    except DatasetError as error:
        raise error if str(error).startswith("source ") else DatasetError(f"source {name}: {error}") from error


def load_streams(file: Path | str, seed: int | None = 0, buffer: int = BUFFER) -> list[StreamSource]:
    """The sources of a YAML file as streams; see `registry.load_sources` for the file and `open_stream` for the rest."""
    return [open_stream(row, Path(file).parent, seed, buffer) for row in load_rows(file)]


def _part(rank: int, world: int, by_worker: bool) -> tuple[int, int]:
    """Which of how many readers this is, loader workers counted where each is to be a part of its own."""
    worker = get_worker_info() if by_worker else None
    return (rank, world) if worker is None else (rank * worker.num_workers + worker.id, world * worker.num_workers)


def _endless(source: StreamSource) -> Iterator[EditSample]:
    stream = source.stream
    while True:
        epoch, whole = stream.epoch, stream.state_dict()
        found = False
        for sample in stream:
            found = True
            yield sample
        # the rest of a resumed epoch may be empty, a whole one may not
        if not found and not (whole["place"] or whole["row"] or whole["given"]):
            raise DatasetError(f"source {source.name}: epoch {epoch} of this part of the stream has no sample that is not broken")
