# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m fireedit_core.training.paper CONFIG.yaml [--name value ...] [--dry-run]`; run again to go on.

A folder of your own pairs in place of the configuration is trained on by LoRA (own_pairs.py, docs/own-pairs.md).

On several GPUs or machines: `accelerate launch [its options] -m fireedit_core.training.paper CONFIG.yaml`.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from ...checkpoints.index import BundleError
from ...data.formats import DatasetError
from ..lock import AlreadyRunning
from ..loop import TrainingDiverged
from .config import load_config

logger = logging.getLogger("fireedit")

STOPPED = 143  # what a shell says of a process that SIGTERM ended


def main(arguments: list[str] | None = None) -> int:
    """Train, or say what it would take; returns the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments and Path(arguments[0]).is_dir():
            from .own_pairs import own_config

            config, options = own_config(Path(arguments[0]), arguments[1:])
        else:
            config, options = load_config(arguments)
        if options.dry_run:
            from .estimate import estimate

            logger.info("%s", estimate(config))
            return 0
        from .train import train

        made = train(config)
        if made is None:
            logger.info("stopped by a signal, the state is saved in %s; the same command goes on from there", config.out)
            return STOPPED
        logger.info("the bundle is in %s", made)
    except (BundleError, DatasetError, ValueError, OSError, TrainingDiverged, AlreadyRunning) as error:
        logger.error("fireedit: %s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
