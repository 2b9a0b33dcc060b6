# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches out of streams: read ahead by workers, the same on any number of processes, resumed with exactly the next row.

The rows of a batch of all processes together come from *lanes*, so many from each, in their order. A lane reads its own shards of every
source and knows nothing of the others, so who reads it does not matter: each process has the lanes of its rows, each of its workers some of
those. Where a lane is after a batch travels with the batch, so a state says where the *training* is, however far the workers have read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ...data.formats.reader import DatasetError
from ...data.streaming import BUFFER, Lanes
from .batches import EditRows, TalkRows, augmented, edit_rows, joined, talk_rows
from .config import PaperConfig

logger = logging.getLogger("fireedit")

LEAST_BUFFER = 64  # undecoded rows of a lane and source: all lanes of a process share its memory
States = dict[str, dict[int, dict[str, Any]]]  # kind of rows -> lane -> where it is


@dataclass
class Plan:
    """Which lanes of a mixture a process reads.

    Attributes:
        rows: of a batch, of all processes. count: lanes that they come from. own: those of this process. states: where they are.
    """

    lanes: Lanes
    rows: int
    count: int
    own: range
    states: dict[int, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, lanes: Lanes, rows: int, rank: int, world: int, count: int = 0) -> Plan:
        """As many lanes as the shards allow, if `count` does not say how many; both `rows` and the lanes are shared out evenly.

        Raises:
            DatasetError: where they cannot be shared out among so many processes.
        """
        if count and count % world:
            fits = ", ".join(str(n) for n in range(1, count + 1) if count % n == 0)
            raise DatasetError(f"the streams were saved in {count} lanes, which {world} processes cannot share; go on with one of {fits}")
        fits = [n for n in range(1, rows + 1) if rows % n == 0 and n % world == 0 and n <= lanes.shards]
        if not count and not fits:
            fewest = min(lanes.sources, key=lambda source: len(source.stream.shards.shards))
            raise DatasetError(
                f"{fewest.name}: {lanes.shards} shards cannot be dealt out to {world} processes; use fewer processes, or write the data in "
                "more shards"
            )
        count = count or fits[-1]
        share = count // world
        return cls(lanes, rows, count, range(rank * share, (rank + 1) * share))

    @property
    def each(self) -> int:
        """Rows of a batch from one lane."""
        return self.rows // self.count

    def mixtures(self, worker: int, workers: int) -> dict[int, Any]:
        """The lanes of a worker, where they are, by number."""
        buffer = max(LEAST_BUFFER, BUFFER // self.count)
        made = {n: self.lanes.lane(n, self.count, buffer) for n in _part_of(self.own, worker, workers)}
        for number, mixture in made.items():
            if number in self.states:
                mixture.load_state_dict(self.states[number])
        return made


class StreamedRows:
    """`rows[number]` is the next batch of one process, as of `Rows`; the number is that of the loop and says nothing here.

    Args:
        edits, talk: streams, see `Lanes`. rank, world: of the process.
    """

    def __init__(self, edits: Lanes, talk: Lanes | None, config: PaperConfig, rank: int = 0, world: int = 1):
        self.config, self.rank, self.world = config, rank, world
        self._lanes = {"edits": (edits, config.batch * world)}
        if talk is not None and config.conversation_rows:
            self._lanes["talk"] = talk, config.conversation_rows * world
        self.plans = {name: Plan.of(lanes, rows, rank, world) for name, (lanes, rows) in self._lanes.items()}
        self._batches: Iterator | None = None
        for plan in self.plans.values():
            plan.mixtures(0, 1)  # what is wrong with the sources is said now and not by a worker

    @property
    def workers(self) -> int:
        """Loader processes: a lane is read by one of them."""
        return min(self.config.workers, len(self.plans["edits"].own))

    def __getitem__(self, number: int) -> tuple[EditRows, TalkRows | None]:
        if self._batches is None:
            if self.workers < self.config.workers:
                logger.info("streams: %d of %d workers, as there are no more lanes of shards", self.workers, self.config.workers)
            self._batches = iter(self._loader())
        parts = [next(self._batches) for _ in range(max(1, self.workers))]
        for _, _, states in parts:
            for name, found in states.items():
                self.plans[name].states |= found
        edits, talks = joined([edit for edit, _, _ in parts]), [talk for _, talk, _ in parts if talk is not None]
        if not talks:
            return edits, None
        return edits, TalkRows(torch.cat([talk.pictures for talk in talks]), [turns for talk in talks for turns in talk.turns])

    def _loader(self) -> DataLoader:
        # a generator of its own, see `batches.loader`
        return DataLoader(
            _Worker(self.plans, self.config), batch_size=None, num_workers=self.workers, generator=torch.Generator(),
            prefetch_factor=2 if self.workers else None, multiprocessing_context="spawn" if self.workers else None,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Where the lanes of this process are, after the batch that came last."""
        return {name: {"lanes": plan.count, "states": {str(n): s for n, s in plan.states.items()}} for name, plan in self.plans.items()}

    def load_state_dict(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Go on from the states of all processes of the run that saved them, however many those were.

        Raises DatasetError for states of other streams, and where the lanes cannot be shared by so many processes as there are now.
        """
        self._batches = None
        for name, (lanes, rows) in self._lanes.items():
            found = [state.get(name, {}) for state in states]
            counts = {one.get("lanes") for one in found}
            if len(counts) != 1 or None in counts:
                raise DatasetError(f"this state is of other streams: it has no lanes of {name}, or several numbers of them")
            plan = self.plans[name] = Plan.of(lanes, rows, self.rank, self.world, counts.pop())
            everyone = {int(n): state for one in found for n, state in one["states"].items()}
            lost = [n for n in plan.own if n not in everyone]
            if lost and everyone:
                raise DatasetError(f"this state lacks lane {lost[0]} of {plan.count} of {name}: a process has not saved its part")
            plan.states = {n: everyone[n] for n in plan.own if n in everyone}
            plan.mixtures(0, 1)  # refuses states of other shards, seeds and shares now and not in a worker


class _Worker(IterableDataset):
    """Its lanes' rows of each batch, with where the lanes are after it."""

    def __init__(self, plans: Mapping[str, Plan], config: PaperConfig):
        self.plans, self.config = dict(plans), config

    def __iter__(self) -> Iterator[tuple[EditRows, TalkRows | None, States]]:
        info, config = get_worker_info(), self.config
        part = (0, 1) if info is None else (info.id, info.num_workers)
        lanes = {name: plan.mixtures(*part) for name, plan in self.plans.items()}
        running = {name: {n: iter(mixture) for n, mixture in own.items()} for name, own in lanes.items()}
        while True:
            samples, draws, talk = [], [], []
            for n, lane in lanes["edits"].items():
                for _ in range(self.plans["edits"].each):
                    draws.append(lane.number * lane.world + n)
                    samples.append(augmented(next(running["edits"][n]), (config.size, config.size), draws[-1], config))
            for n in lanes.get("talk", {}):
                talk += [next(running["talk"][n]) for _ in range(self.plans["talk"].each)]
            states = {name: {n: mixture.state_dict() for n, mixture in own.items()} for name, own in lanes.items()}
            yield edit_rows(samples, draws, config.seed), talk_rows(talk, config.size) if talk else None, states


def _part_of(lanes: range, worker: int, workers: int) -> range:
    """Neighbouring lanes, so that the parts of a batch one after the other are the batch."""
    first, last = (len(lanes) * k // workers for k in (worker, worker + 1))
    return lanes[first:last]
