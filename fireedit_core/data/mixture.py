# SPDX-License-Identifier: GPL-3.0-or-later
"""Several datasets as one endless row of draws that can be entered anywhere.

Draw number i is a function of the seed and i alone, so a run that is resumed at step i needs no state but the number.

- Which source: one categorical draw per number, from a counter-based generator (Philox) in blocks of BLOCK draws.
- Which row: the draws of a source are counted, and its k-th draw is row k % n of a permutation of its n rows that epoch k // n has. The
  permutation is a Feistel network over 2^(2h) >= n numbers, applied until the result is below n (cycle walking). It is computed for one
  row at a time, so that a set of millions costs no memory.

To count the draws of a source before i, the blocks before i are drawn once and their sums kept: about a second for 50 million draws, and
nothing while a run goes on from there.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .formats.reader import BrokenRow, DatasetError, Reader
from .sample import EditSample
from .size_table import SizeTable

logger = logging.getLogger("fireedit")

KINDS = ("edit", "segmentation", "conversation", "reasoning")
REASON_EDIT = 0.15  # of all draws
REASON_SEG = 0.10  # of the others
REASON_SEG_NAME = "reasonseg"
TRIES = 256  # rows of a source that may be broken in a row
BLOCK = 1 << 14
ROUNDS = 6


def marks(source: Any) -> dict[str, Any]:
    """What a mixture writes into the `meta` of a sample: "source", "kind", and "mirrors", whether it may be mirrored.

    That is what the source's `flip` asks for, else not where sentences are about which of several things is meant, which is said by its
    place in more ways than can be listed.
    """
    mirrors = source.kind not in ("segmentation", "reasoning") if source.flip is None else source.flip
    return {"source": source.name, "kind": source.kind, "mirrors": mirrors}


def shares_of(sources: Sequence[Any]) -> dict[str, float] | None:
    """Weights for a mixture of sources that name their `share`; None where none of them does.

    Raises:
        DatasetError: where some do and some do not.
    """
    found = {source.name: source.share for source in sources if source.share is not None}
    without = [source.name for source in sources if source.share is None]
    if found and without:
        raise DatasetError(f"{', '.join(found)} name their share, {', '.join(without)} do not: give it for all of them, or for none")
    return found or None


@dataclass(frozen=True)
class Source:
    """A dataset of a mixture.

    Attributes:
        name: unique in the mixture. The order of the rows depends on it, so that another source does not change it.
        kind: one of KINDS. Of the kind "reasoning" are ReasonEdit and ReasonSeg; the latter is known by a name that begins with
            "reasonseg", in any case of letters, of the source or of its reader.
        share: of all draws, over those of the other sources; None leaves the shares to `smartedit_shares`.
        flip: whether its pictures may be mirrored in training; None: where the kind does not point at places with words (`marks`).
    """

    name: str
    reader: Reader
    kind: str
    share: float | None = None
    flip: bool | None = None

    @property
    def is_reason_seg(self) -> bool:
        """Whether this is ReasonSeg, which has a share of its own. It counts as such also under the kind "segmentation"."""
        names = (self.name, getattr(self.reader, "name", ""))
        return self.kind in ("reasoning", "segmentation") and any(name.lower().startswith(REASON_SEG_NAME) for name in names)


@dataclass(frozen=True)
class Draw:
    """Where a draw falls: row `row` of `source` in its `epoch`, the `place`-th of that epoch. The row may turn out to be broken."""

    source: Source
    epoch: int
    place: int
    row: int


class Mixture:
    """Draws from several datasets: `mixture[i]` for i = 0, 1, 2 ... without end.

    Without weights the shares are those of SmartEdit (arXiv 2312.06739), see `smartedit_shares`.

    Args:
        sources: one or more, with different names and at least one row each. Their sizes must not change afterwards.
        seed: 0 or more.
        weights: by name, for every source, 0 or more; they need not add up to 1.
        tables: folder in which the sizes of pictures are kept once they are known, shared by all processes; None reads them every time.

    Attributes:
        shares: probability of each source, by name.
        skipped: by name of the source, how many reads met a broken row, by the reason. A row that is met again counts again.

    A sample's `meta` has what `marks` says of its source; all else is the reader's. `choose` of a reader is called before each read, so a
    reader must not be used elsewhere at the same time; workers need a mixture each (a copy by pickle is one).

    Raises:
        DatasetError: for sources or weights that are not as above; and at a draw if TRIES rows of a source in a row are broken.
    """

    def __init__(
        self, sources: Sequence[Source], seed: int = 0, weights: Mapping[str, float] | None = None, tables: Path | str | None = None
    ):
        self.sources, self.seed = tuple(sources), int(seed)
        names = [source.name for source in self.sources]
        if not names:
            raise DatasetError("a mixture needs at least one source")
        if len(set(names)) < len(names):
            raise DatasetError(f"two sources of a mixture have one name: {', '.join(names)}")
        if self.seed < 0:
            raise DatasetError(f"the seed of a mixture must be 0 or more, not {seed}")
        for source in self.sources:
            if source.kind not in KINDS:
                raise DatasetError(f"{source.name} is of the kind {source.kind!r}; there are {', '.join(KINDS)}")
        self.sizes = tuple(len(source.reader) for source in self.sources)
        empty = [name for name, size in zip(names, self.sizes) if size == 0]
        if empty:
            raise DatasetError(f"without any rows: {', '.join(empty)}")
        self.shares = smartedit_shares(self.sources) if weights is None else _weighted(names, weights)
        limits = np.cumsum([self.shares[name] for name in names])
        self._limits = limits / limits[-1]  # ends with 1 exactly, so no draw lies above
        self._key = int.from_bytes(hashlib.blake2b(f"which source {self.seed}".encode(), digest_size=16).digest(), "little")
        self._before = [np.zeros(len(names), np.int64)]  # draws of each source before each block
        self._picks: dict[int, np.ndarray] = {}  # the last few blocks
        self.skipped: dict[str, Counter[str]] = {name: Counter() for name in names}
        # not of a reader whose rows are other pictures in each epoch
        kept = [] if tables is None else [source for source in self.sources if not source.reader.varies]
        self._tables = {source.name: SizeTable(Path(tables), source.name, len(source.reader)) for source in kept}

    def __getitem__(self, number: int) -> EditSample:
        """Draw `number`. A broken row is replaced by the next one of its epoch that is not, counted around."""
        draw = self.where(number)
        source, size = draw.source, len(draw.source.reader)
        tries = min(size, TRIES)
        source.reader.choose(draw.epoch)
        for step in range(tries):
            row = draw.row if step == 0 else self._row(source, draw.epoch, (draw.place + step) % size)
            try:
                sample = source.reader[row]
                sample.meta |= marks(source)
                return sample
            except BrokenRow as error:
                self.skipped[source.name][str(error).split(":", 1)[0]] += 1
                logger.warning("draw %d: %s, row %d is replaced by the next: %s", number, source.name, row, error)
        raise DatasetError(f"{source.name}: {tries} rows in a row are broken, the last at draw {number}; is this the right folder?")

    def size(self, number: int) -> tuple[int, int]:
        """(height, width) of the source picture of draw `number`, of a broken row (1, 1): enough to sort draws by their shape."""
        draw = self.where(number)
        table = self._tables.get(draw.source.name)
        if table is not None and (known := table[draw.row]) is not None:
            return known
        draw.source.reader.choose(draw.epoch)
        try:
            size = draw.source.reader.size(draw.row)
        except BrokenRow:
            size = 1, 1
        if table is not None:
            table[draw.row] = size
        return size

    def where(self, number: int) -> Draw:
        """What draw `number` is, without reading it. Raises IndexError for a number below 0."""
        if number < 0:
            raise IndexError(f"draws are numbered from 0, not {number}")
        block, offset = divmod(int(number), BLOCK)
        while len(self._before) <= block:
            last = len(self._before) - 1
            self._before.append(self._before[last] + np.bincount(self._block(last), minlength=len(self.sources)))
        picks = self._block(block)
        chosen = int(picks[offset])
        count = int(self._before[block][chosen]) + int(np.count_nonzero(picks[:offset] == chosen))
        source, (epoch, place) = self.sources[chosen], divmod(count, self.sizes[chosen])
        return Draw(source, epoch, place, self._row(source, epoch, place))

    @staticmethod
    def indices(step: int, batch: int, rank: int = 0, world_size: int = 1) -> range:
        """The draws of one process at a step: `batch` of them. Two processes draw together what one with twice the batch does.

        A step is one forward pass; with gradient accumulation they are counted one by one. Raises ValueError for what cannot be.
        """
        if step < 0 or batch < 1 or not 0 <= rank < world_size:
            raise ValueError(f"step {step}, batch {batch}, rank {rank} of {world_size}: no such part of a batch")
        first = (step * world_size + rank) * batch
        return range(first, first + batch)

    def _block(self, block: int) -> np.ndarray:
        """(BLOCK,) uint16: the source of each draw of a block."""
        if block not in self._picks:
            # Philox gives 4 numbers for each value of its counter. The raw numbers are what NumPy promises never to change.
            raw = np.random.Philox(key=self._key, counter=block * (BLOCK // 4)).random_raw(BLOCK)
            uniform = (raw >> np.uint64(11)) * 2.0**-53
            while len(self._picks) >= 4:
                self._picks.pop(next(iter(self._picks)))
            self._picks[block] = np.searchsorted(self._limits, uniform, side="right").astype(np.uint16)
        return self._picks[block]

    def _row(self, source: Source, epoch: int, place: int) -> int:
        return permuted(place, len(source.reader), f"{self.seed} {epoch} {source.name}")


def smartedit_shares(sources: Sequence[Source]) -> dict[str, float]:
    """Probability of each source by SmartEdit's rule, as one number instead of a draw in stages.

    ReasonEdit has 15 %. Of the others ReasonSeg has 10 %. Of the rest conversations have as much as they have rows, then editing and
    segmentation by their rows. Among editing sets all are equal (MagicBrush as often as InstructPix2Pix), among others they go by rows.
    What is not there leaves its share to the others.
    """
    groups: dict[str, list[Source]] = {key: [] for key in ("reason_edit", "reason_seg", "conversation", "edit", "segmentation")}
    for source in sources:
        key = "reason_seg" if source.is_reason_seg else "reason_edit" if source.kind == "reasoning" else source.kind
        groups[key].append(source)
    rows = {key: sum(len(source.reader) for source in group) for key, group in groups.items()}
    rest = {key: rows[key] for key in ("conversation", "edit", "segmentation")}
    left = 1.0
    of_group = {}
    for key, share in (("reason_edit", REASON_EDIT), ("reason_seg", REASON_SEG)):
        of_group[key] = left * share if groups[key] else 0.0
        left -= of_group[key]
    # p(conversation) = n_conversation / n, then p(edit) = n_edit / (n - n_conversation): all three go by their rows
    total = sum(rest.values())
    of_group |= {key: left * count / total if total else 0.0 for key, count in rest.items()}
    shares = {}
    for key, group in groups.items():
        for source in group:
            part = 1 / len(group) if key == "edit" else len(source.reader) / rows[key]
            shares[source.name] = of_group[key] * part
    whole = sum(shares.values())  # below 1 where there are only the first two
    return {source.name: shares[source.name] / whole for source in sources}


def permuted(place: int, size: int, key: str) -> int:
    """Where a permutation of 0 .. size - 1 sends `place`; each key is another one. Constant memory, about 20 microseconds.

    A Feistel network is one to one whatever its round function does. It works on 2h bits, where 2^(2h) < 4 size or is 4; results from
    `size` on are sent through again, which ends below `size` because the cycle comes back to `place`.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    secret = hashlib.blake2b(key.encode(), digest_size=32).digest()
    value = place
    while True:
        left, right = value >> half, value & mask
        for number in range(ROUNDS):
            mixed = hashlib.blake2b(right.to_bytes(8, "little"), digest_size=8, key=secret, salt=bytes([number])).digest()
            left, right = right, left ^ (int.from_bytes(mixed, "little") & mask)
        value = left << half | right
        if value < size:
            return value


def _weighted(names: Sequence[str], weights: Mapping[str, float]) -> dict[str, float]:
    if set(weights) != set(names):
        raise DatasetError(f"weights are for {', '.join(sorted(weights))}, the sources are {', '.join(sorted(names))}")
    wrong = [f"{name} {value}" for name, value in weights.items() if not (math.isfinite(value) and value >= 0)]
    total = math.fsum(weights.values())
    if wrong or total <= 0:
        raise DatasetError(f"weights must be 0 or more and not all 0: {', '.join(wrong) or 'all are 0'}")
    return {name: weights[name] / total for name in names}
