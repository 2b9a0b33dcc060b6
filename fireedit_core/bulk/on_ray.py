# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows on many processes or machines, through Ray Data: a pool of actors that each hold one pipeline.

Only names and text travel through Ray's object store: a worker reads the picture and writes the edit itself, into a folder that all
machines see. That folder is the checkpoint (`results`). A worker that dies is started again by Ray and gets its rows again, where what
it had written is not done twice, and a row over which worker after worker dies is given up. When the driver dies, the same call goes on.

Sources: Ray 2.60, `ray.data.Dataset.map_batches`, `ActorPoolStrategy` and `DataContext`. Ray Data starts the actors of a pool again and
does their tasks again without limit (`ActorPoolMapOperator._apply_default_remote_args`), which is what this relies on.
"""

from __future__ import annotations

import json
import logging
import math
import os
import socket
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..checkpoints.index import BundleError, read_index
from .local import plan
from .results import HIDDEN, FailureList, finished, make_folder
from .rows import BulkReport, EditOptions, EditRow, RowError

try:
    import ray
    from ray.data import ActorPoolStrategy, DataContext, ExecutionResources
except ImportError as error:
    raise ImportError(f'edits on many machines need Ray Data, which is not installed ({error}); pip install "ray[data]"') from error

logger = logging.getLogger("fireedit")

BLOCKS = 10_000  # at most; a block then holds several chunks
IN_FLIGHT = 1  # blocks that a worker holds: a second would wait behind it while other workers, that load longer, have none
BLOCK_BYTES = 2**20  # what Ray is told a block may have; ours have a few KB
STORE_BYTES = 64 * 2**20  # of the object store, for this run
OWN_STORE_BYTES = 200 * 2**20  # the object store of a cluster that is made for the run
STOP = ""  # the key of a record that ends the run; no row has it
INIT_DEATHS = 3  # workers that die while loading, one after the other, before the run is given up


class BulkError(RuntimeError):
    """The run could not go on; the message says why. What was written is whole, and the same call goes on from there."""


def edit_rows_on_ray(
    rows: Sequence[EditRow], out: Path, bundle: Path | str, options: EditOptions = EditOptions(), batch: int = 1,  # noqa: B008 frozen
    workers: int = 2, gpus_per_worker: float = 0, cpus_per_worker: float = 1, address: str | None = None, chunk: int | None = None,
    progress: bool = True,
) -> BulkReport:  # fmt: skip
    """As `edit_rows`, on `workers` actors of a Ray cluster; the same report and, up to float rounding, the same pictures.

    Args:
        out, bundle, the rows' pictures: folders and files that all machines of the cluster see under the same path.
        workers: actors, each with a pipeline of its own.
        gpus_per_worker: GPUs of one worker, may be a fraction; 0 works on the CPU.
        cpus_per_worker: cores of one worker, and the threads that it uses when it works on the CPU.
        address: of a running cluster, "auto" for the one on this machine; None is the one that this process is connected to, or that
            RAY_ADDRESS names, or else a cluster of `workers` on this machine that ends with the call.
        chunk: rows that a worker gets at once, see `edit_rows`. The last chunks decide how long the other workers wait for the slowest.

    Raises:
        RowError: as `edit_rows`, and for fewer than one worker.
        BulkError: if the cluster has no room for a worker, a worker does not see the folders, cannot load the bundle or cannot write, or
            too many die while they load.
    """
    out, bundle = Path(out).resolve(), Path(bundle).resolve()
    read_index(bundle)  # a bundle that is not there is told at once
    rows = [replace(row, image=Path(row.image).absolute()) for row in rows]  # not resolved: a link's name is what its edit is known by
    if workers < 1:
        raise RowError(f"workers must be 1 or more, got {workers}")
    chunks = plan(rows, batch, chunk)
    there = finished(out, rows, bundle, options)
    make_folder(out, rows)
    failures, report = FailureList(out), BulkReport(skipped=[row.key for row in rows if row.key in there])
    todo = [part for part in chunks if any(row.key not in there for row in part)]
    waiting = {row.key: row for row in rows if row.key not in there}
    if not waiting:
        return report

    def settle(key: str, reason: str | None) -> None:
        if (row := waiting.pop(key, None)) is None:  # was there before, or came twice
            return
        bar.update()
        if reason is None:
            report.done.append(key)
        else:
            report.failed[key] = reason
            failures.add(row, reason)

    with _cluster(address, workers, cpus_per_worker, gpus_per_worker), _token(out) as token, _limits():
        found = _outcomes(
            todo, ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=IN_FLIGHT), cpus_per_worker, gpus_per_worker,
            out=out, bundle=bundle, options=options, batch=batch, token=token, device="cuda" if gpus_per_worker else "cpu",
            threads=max(1, int(cpus_per_worker)),
        )  # fmt: skip
        with tqdm(total=len(rows), initial=len(there), unit="edit", disable=not progress) as bar:
            for key, reason in found:
                settle(key, reason)
        if waiting:
            raise BulkError(f"Ray ended without a word on {len(waiting)} rows, the first is {next(iter(waiting))}; run again")
    return report


def _outcomes(
    chunks: list[Sequence[EditRow]], pool: ActorPoolStrategy, cpus: float, gpus: float, **constructor: Any
) -> Iterator[tuple[str, str | None]]:
    """(key, None or why it failed) of every row, in the order in which blocks are finished."""
    items = [chunk_item(chunk) for chunk in chunks]
    data = ray.data.from_items(items, override_num_blocks=min(len(items), BLOCKS)).map_batches(
        EditWorker, batch_size=1, batch_format="numpy", compute=pool, fn_constructor_kwargs=constructor, num_cpus=cpus, num_gpus=gpus,
    )  # fmt: skip
    try:
        for record in data.iter_rows():
            if record["key"] == STOP:
                raise BulkError(record["reason"])
            yield record["key"], record["reason"] or None
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise BulkError(f"the workers cannot go on: {cause}") from error


def chunk_item(chunk: Sequence[EditRow]) -> dict[str, str]:
    """What a worker gets: {"rows": JSON}."""
    return {"rows": json.dumps([(row.key, str(row.image), row.instruction, row.seed) for row in chunk])}


class EditWorker:
    """An actor of the pool.

    What stops the run (folders that are not there, a bundle that cannot be loaded, a full disk) comes out as a record with the key
    `STOP`: raised, Ray would try it again and again and bury it in its own words.

    Args:
        token: name of the file that the driver wrote into `out`, to see that it is the same folder here; also names the run.
        threads: of torch, on the CPU.
    """

    def __init__(self, out: Path, bundle: Path, options: EditOptions, batch: int, token: str, device: str, threads: int):
        import torch

        from ..evaluation.scenes import load_pipeline
        from .editing import LOST_DEVICE, RowEditor

        self.lost_device, self.fault = LOST_DEVICE, None
        if device == "cpu":
            torch.set_num_threads(threads)  # else every worker takes all cores
        if not (out / HIDDEN / token).is_file():
            self.fault = f"does not see the driver's folder {out}; mount it there under the same path"
            return
        try:
            self.editor = RowEditor(load_pipeline(bundle, device), out, bundle, options, batch, run=token)
        except (BundleError, OSError) as error:
            self.fault = f"cannot begin, the bundle and the results must lie under the same path there: {error}"

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """{"rows": (1,) JSON of a chunk} -> {"key", "reason"}, one each per row; the reason is "" where the picture is there."""
        rows = [EditRow(*values) for values in json.loads(batch["rows"][0])]
        outcomes = []
        try:
            if self.fault is None:
                outcomes = [(row.key, reason or "") for row, reason in self.editor.edit(rows)]
        except OSError as error:
            self.fault = f"cannot write: {error}"
        except self.lost_device as error:
            logger.error("the device is lost, the worker is started again: %s", error)
            os._exit(1)  # nothing in this process can use the device any more
        if self.fault is not None:
            outcomes = [(STOP, f"{socket.gethostname()} {self.fault}")]
        return {name: np.array(values, dtype=object) for name, values in zip(("key", "reason"), zip(*outcomes), strict=True)}


# --- the cluster -----------------------------------------------------------------------------------------------------


@contextmanager
def _cluster(address: str | None, workers: int, cpus: float, gpus: float) -> Iterator[None]:
    """Connected to a cluster with room for a worker; one that was made for the run ends with it."""
    own = not ray.is_initialized()
    if own:
        address = address or os.environ.get("RAY_ADDRESS")  # set within a job that was submitted to a cluster
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster of ours tells nobody about itself
        fresh = {"num_cpus": math.ceil(workers * cpus), "include_dashboard": False, "object_store_memory": OWN_STORE_BYTES}
        code = {"py_modules": [str(Path(__file__).resolve().parents[1])]}  # other machines run this very code
        try:
            ray.init(
                address or "local", log_to_driver=False, logging_level=logging.WARNING, **({"runtime_env": code} if address else fresh)
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise BulkError(f"no Ray cluster at {address or 'this machine'}: {error}") from error
    try:
        room = ray.cluster_resources()
        fit = min(int(room.get(kind, 0) / share) for kind, share in (("CPU", cpus), ("GPU", gpus)) if share)
        if not fit:
            has = f"{room.get('CPU', 0):g} CPUs and {room.get('GPU', 0):g} GPUs"
            raise BulkError(f"the cluster has {has}, a worker needs {cpus:g} and {gpus:g}")
        if fit < workers:
            logger.warning("the cluster has room for %d of the %d workers; the others join when there is more", fit, workers)
        yield
    finally:
        if own:
            ray.shutdown()


@contextmanager
def _token(out: Path) -> Iterator[str]:
    """A file in `out` by which a worker sees that its `out` is the driver's."""
    token = out / HIDDEN / f"driver-{uuid.uuid4().hex}"
    token.touch()
    try:
        yield token.name
    finally:
        token.unlink(missing_ok=True)


@contextmanager
def _limits() -> Iterator[None]:
    """Ray Data's settings for this run, and those of the caller after it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Ray's copy touches its own old settings
        context = DataContext.get_current().copy()
    context.target_max_block_size = BLOCK_BYTES
    context.execution_options.resource_limits = ExecutionResources.for_limits(object_store_memory=STORE_BYTES)
    context.max_consecutive_actor_init_deaths = INIT_DEATHS
    context.enable_progress_bars = context.print_on_execution_start = False
    with DataContext.current(context):
        yield
