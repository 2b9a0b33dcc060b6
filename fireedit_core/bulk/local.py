# SPDX-License-Identifier: GPL-3.0-or-later
"""All rows in one process. What is there is not done again, so a run that was stopped goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .results import FailureList, finished, make_folder
from .rows import BulkReport, EditOptions, EditRow, RowError, check_rows

if TYPE_CHECKING:
    from ..diffusion.pipeline import FireEditPipeline

BATCHES_PER_CHUNK = 16


def edit_rows(
    rows: Sequence[EditRow], out: Path, bundle: Path | str, options: EditOptions = EditOptions(), batch: int = 1,  # noqa: B008 frozen
    device: str | None = None, pipe: FireEditPipeline | None = None, chunk: int | None = None, progress: bool = True,
) -> BulkReport:  # fmt: skip
    """Edit all rows into `out/<key>.png`; see `results` for what else lies there.

    Stopping it (KeyboardInterrupt, kill) leaves whole pictures only, and the same call goes on and ends with the same bytes.

    Args:
        out: folder of the results, made if it is not there.
        bundle: bundle folder. pipe: the bundle already loaded; `bundle` then only names it.
        batch: pictures of one size that are edited together. The noise of a row depends on its seed alone, so that a batch changes an
            edit by float rounding at most.
        device: "cpu", "cuda", ...; None takes an accelerator when there is one.
        chunk: rows among which pictures of one size are looked for; None is sixteen batches.
        progress: show a bar.

    Raises:
        RowError: for two rows of one key, a batch or chunk below 1, or pictures in `out` that were made with something else.
        BundleError: for a bundle that cannot be loaded.
        OSError: if a result cannot be written.
    """
    from tqdm import tqdm

    out = Path(out)
    chunks = plan(rows, batch, chunk)
    there = finished(out, rows, bundle, options)
    make_folder(out, rows)
    failures, report = FailureList(out), BulkReport(skipped=[row.key for row in rows if row.key in there])
    if len(there) == len(rows):
        return report
    from ..evaluation.scenes import load_pipeline
    from .editing import RowEditor

    editor = RowEditor(load_pipeline(bundle, device) if pipe is None else pipe, out, bundle, options, batch)
    with tqdm(total=len(rows), initial=len(there), unit="edit", disable=not progress) as bar:
        for part in chunks:
            for row, reason in editor.edit(part):
                if row.key in there:
                    continue
                bar.update()
                if reason is None:
                    report.done.append(row.key)
                else:
                    report.failed[row.key] = reason
                    failures.add(row, reason)
    return report


def plan(rows: Sequence[EditRow], batch: int, chunk: int | None = None) -> list[Sequence[EditRow]]:
    """The rows in pieces that are worked off one by one.

    They depend on the list alone, not on what is done already or how many workers there are: the same rows meet in the same batches,
    also when a run goes on, and an edit has the same bytes.

    Raises:
        RowError: as `edit_rows`.
    """
    check_rows(rows)
    size = batch * BATCHES_PER_CHUNK if chunk is None else chunk
    if batch < 1 or size < 1:
        raise RowError(f"batch and chunk must be 1 or more, got {batch} and {chunk}")
    return list(_pieces(rows, size))


def _pieces(rows: Sequence[EditRow], size: int) -> Iterator[Sequence[EditRow]]:
    yield from (rows[i : i + size] for i in range(0, len(rows), size))
