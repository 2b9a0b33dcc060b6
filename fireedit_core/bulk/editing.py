# SPDX-License-Identifier: GPL-3.0-or-later
"""One worker: a loaded pipeline that edits the rows of a chunk and writes the pictures."""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image

from ..colour_profile import colour_profile
from ..data.formats.reader import BrokenRow, is_transparent, picture, picture_size
from ..diffusion.pipeline import FireEditPipeline
from ..evaluation.scenes import row_noise
from .results import ResultWriter, begun_in, result_path
from .rows import EditOptions, EditRow

logger = logging.getLogger("fireedit")

# A device that is lost fails every further row too: that ends the worker, and no row is to blame.
LOST_DEVICE = getattr(torch, "AcceleratorError", ())
ALONE, DEATHS = 2, 3


class RowEditor:
    """Edits rows with one pipeline, in batches of pictures of one size.

    Args:
        run: name of a run whose workers are started again when they die. Rows over which they died `ALONE` times are done one by one,
            and after `DEATHS` times not at all: something in them kills, memory mostly.
    """

    def __init__(
        self, pipe: FireEditPipeline, out: Path, bundle: Path | str, options: EditOptions, batch: int, run: str | None = None
    ):  # fmt: skip
        self.pipe, self.out, self.options, self.batch, self.run = pipe, out, options, batch, run
        self.deaths = begun_in(out, run) if run else Counter()
        self.writer = ResultWriter(out, bundle, options)

    def edit(self, rows: Sequence[EditRow]) -> Iterator[tuple[EditRow, str | None]]:
        """(row, None) for a row whose picture is there or (row, reason) for one that failed, as they come.

        Raises:
            OSError: if a result cannot be written.
        """
        if all(map(self._there, rows)):
            yield from ((row, None) for row in rows)
            return
        sizes: dict[tuple[int, int], list[EditRow]] = defaultdict(list)
        for row in rows:
            try:
                sizes[picture_size(row.image)].append(row)
            except BrokenRow as error:
                yield row, None if self._there(row) else str(error)
        for same in sizes.values():
            for start in range(0, len(same), self.batch):
                rows = same[start : start + self.batch]
                alone = any(self.deaths[row.key] >= ALONE for row in rows)
                for part in [[row] for row in rows] if alone else [rows]:
                    yield from self._edit_batch(part)

    def _there(self, row: EditRow) -> bool:
        return result_path(self.out, row.key).is_file()

    def _edit_batch(self, rows: Sequence[EditRow]) -> Iterator[tuple[EditRow, str | None]]:
        """Where a part of a batch is there already, all of it is computed again and the rest written: the rows keep their company and
        so their bytes. That concerns the batches in which a run was stopped or a picture was broken, and no others."""
        missing = {row.key for row in rows if not self._there(row)}
        usable, pictures, faults = [], [], {}
        for row in rows if missing else ():
            try:
                if not row.instruction.strip():
                    raise BrokenRow("no instruction: it is empty")
                if self.deaths[row.key] >= DEATHS:
                    raise BrokenRow(f"deadly: {self.deaths[row.key]} workers died over it, perhaps for want of memory")
                pictures.append(Image.fromarray(picture(row.image)))
                pictures[-1].info |= colour_profile(row.image)
                usable.append(row)
                if row.key in missing:
                    with Image.open(row.image) as opened:
                        if is_transparent(opened):
                            logger.warning("%s: the transparency of %s is lost, an edit has none", row.key, row.image)
            except BrokenRow as error:
                faults[row.key] = str(error)
        if missing - faults.keys():
            if self.run:
                self.writer.begin(self.run, [row.key for row in usable])
            begin = time.perf_counter()
            edits, refused = self._edits(usable, pictures)
            seconds = round((time.perf_counter() - begin) / len(usable), 3)
            faults |= refused
            for row, source in zip(usable, pictures, strict=True):
                if row.key in missing and row.key in edits:
                    edits[row.key].info |= source.info
                    self.writer.write(row, edits[row.key], seconds=seconds)
        yield from ((row, faults.get(row.key) if row.key in missing else None) for row in rows)

    def _edits(self, rows: Sequence[EditRow], pictures: list[Image.Image]) -> tuple[dict[str, Image.Image], dict[str, str]]:
        """Edits by key, and why there is none. What a batch cannot take (memory, a picture too small) is tried one by one."""
        try:
            edits = edit_pictures(self.pipe, pictures, [r.instruction for r in rows], [r.seed for r in rows], self.options)
            return {row.key: edit for row, edit in zip(rows, edits, strict=True)}, {}
        except LOST_DEVICE:
            raise
        except (RuntimeError, ValueError) as error:
            if len(rows) == 1:
                return {}, {rows[0].key: f"not editable: {error}"}
            logger.warning("a batch of %d is done one by one: %s", len(rows), error)
        single = [self._edits([row], [one]) for row, one in zip(rows, pictures, strict=True)]
        return {k: v for edits, _ in single for k, v in edits.items()}, {k: v for _, faults in single for k, v in faults.items()}


def edit_pictures(
    pipe: FireEditPipeline, pictures: list[Image.Image], instructions: list[str], seeds: Sequence[int], options: EditOptions
) -> list[Image.Image]:
    """Edit pictures of one size. Each is what `pipe(picture, instruction, generator=torch.Generator().manual_seed(seed))` gives,
    up to float rounding: every row has a generator of its own, also for schedulers that draw noise in every step."""
    size = (pictures[0].height, pictures[0].width)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return pipe(
        pictures, instructions, num_inference_steps=options.steps, text_guidance=options.text_guidance,
        image_guidance=options.image_guidance, working_size=options.working_size, keep_outside=options.keep_outside,
        latents=row_noise(pipe, size, generators, options.working_size), generator=generators,
    ).images  # fmt: skip
