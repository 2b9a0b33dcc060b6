# SPDX-License-Identifier: GPL-3.0-or-later
"""Edit a list or a folder of pictures without ComfyUI; run again to go on (docs/bulk.md).

    python -m fireedit_core.bulk pictures/ --instruction "remove the cat" --out edited --bundle models/fireedit-tiny
    python -m fireedit_core.bulk rows.csv --out edited --bundle models/fireedit-tiny --ray --workers 8 --gpus 1 --address auto

A list is .csv or .jsonl with image, instruction and, if wanted, key and seed. Exit codes: 0 all done, 1 some edits failed or the run could
not go on, 2 wrong usage, 130 cancelled.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from ..checkpoints.index import BundleError
from .local import edit_rows
from .results import FAILED
from .rows import KEEP_OUTSIDE, BulkReport, EditOptions, RowError, read_rows

log = logging.getLogger("fireedit")

DONE, STOPPED, USAGE, CANCELLED = 0, 1, 2, 130


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main = argparse.ArgumentParser(
        prog="python -m fireedit_core.bulk", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    main.add_argument("source", type=Path, help=".csv, .jsonl or folder of pictures")
    main.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="of the results")
    main.add_argument("--bundle", type=Path, required=True, metavar="FOLDER")
    main.add_argument("--instruction", help="for a folder, and for rows of a list that have none")
    main.add_argument("--seed", type=int, default=0, help="the same (default %(default)s)")
    main.add_argument("--steps", type=int, help="default: the bundle's, like the next three")
    main.add_argument("--text-guidance", type=float)
    main.add_argument("--image-guidance", type=float)
    main.add_argument("--working-size", type=int, metavar="PIXELS", help="long side that the model works at; 0: each picture's own")
    main.add_argument("--keep-outside", choices=KEEP_OUTSIDE, default="off")
    main.add_argument("--batch", type=int, default=1, help="pictures of one size that are edited together (default %(default)s)")
    main.add_argument("--chunk", type=int, metavar="ROWS", help="rows that are worked off at once (default: 16 batches)")
    main.add_argument("--device", help="cpu, cuda, ...; default: an accelerator when there is one (not with --ray, see --gpus)")
    main.add_argument("--quiet", action="store_true", help="no progress bar")
    cluster = main.add_argument_group("on a Ray cluster")
    cluster.add_argument("--ray", action="store_true", help='needs pip install "ray[data]"')
    cluster.add_argument("--workers", type=int, default=2, help="default %(default)s")
    cluster.add_argument("--cpus", type=float, default=1, help="of one worker (default %(default)s)")
    cluster.add_argument("--gpus", type=float, default=0, help="of one worker (default %(default)s: on the CPU)")
    cluster.add_argument("--address", help="of a running cluster, or auto; default: a cluster on this machine for this run")
    return main


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit code."""
    o = parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    try:
        report = _run(o)
    except (RowError, BundleError) as error:
        log.error("fireedit: %s", error)
        return USAGE
    except ImportError as error:
        if not o.ray or "ray[data]" not in str(error):
            raise
        log.error("fireedit: %s", error)
        return USAGE
    except (OSError, RuntimeError) as error:  # RuntimeError: a BulkError, or a device that is lost
        log.error("fireedit: the run could not go on, the same command goes on from here: %s", error)
        return STOPPED
    except KeyboardInterrupt:
        log.error("fireedit: cancelled; the same command goes on where this one stopped")
        return CANCELLED
    where = f"; see {o.out / FAILED}" if report.failed else ""
    log.info("fireedit: %s%s", report, where)
    return STOPPED if report.failed else DONE


def _run(o: argparse.Namespace) -> BulkReport:
    options = EditOptions(o.steps, o.text_guidance, o.image_guidance, o.working_size, o.keep_outside)
    rows = read_rows(o.source, o.instruction, o.seed, o.out)
    shared = {"chunk": o.chunk, "progress": not o.quiet}
    if not o.ray:
        return edit_rows(rows, o.out, o.bundle, options, o.batch, o.device, **shared)
    if o.device:
        raise RowError("--device is for runs without --ray; there, --gpus 1 puts each worker on a GPU of its own")
    from .on_ray import edit_rows_on_ray

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # the bar tells what the user wants to know
    return edit_rows_on_ray(rows, o.out, o.bundle, options, o.batch, o.workers, o.gpus, o.cpus, o.address, **shared)


if __name__ == "__main__":
    sys.exit(main())
