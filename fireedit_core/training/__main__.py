# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m fireedit_core.training --budget 3h`: train fireedit-tiny from scratch; run again to go on."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from pathlib import Path

from ..data import RICH_WORLD, WORLDS
from ..data.npm_package import PackageError
from .alignment import ALIGNED
from .build import SHARES, STAGES, build_tiny
from .diffusion import TRAINED
from .loop import TrainingDiverged


def minutes(text: str) -> float:
    """Minutes of "90m", "3h" or "30" (minutes)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([hm]?)", text.strip())
    if not match or not float(match[1]):  # of no time comes a bundle that has learnt nothing
        raise argparse.ArgumentTypeError(f"a budget looks like 3h or 90m, got {text!r}")
    return float(match[1]) * (60 if match[2] == "h" else 1)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and train; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fireedit_core.training", description=__doc__)
    shares = ", ".join(f"{name} {share:.0%}%" for name, share in SHARES.items())
    parser.add_argument("--budget", type=minutes, default=minutes("3h"), help=f"wall-clock time of all stages ({shares})")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help="the others are read from a folder below")
    parser.add_argument("--pairs", type=int, default=24_000, help="cached training pairs of the diffusion stage")
    parser.add_argument("--freeze", nargs="+", choices=sorted({"encoder", *ALIGNED, *TRAINED}), default=(), help="parts left as they are")
    parser.add_argument("--compile", action="store_true", help="torch.compile for the UNet of the diffusion stage; needs a C++ compiler")
    parser.add_argument("--world", choices=WORLDS, default=RICH_WORLD.name, help="what the scenes show and how they are spoken of")
    parser.add_argument("--start", type=Path, help="a bundle to go on from instead of random weights, e.g. models/fireedit-tiny")
    parser.add_argument("--out", type=Path, default=Path(".cache/runs/tiny"), help="states, caches, logs and sheets")
    parser.add_argument("--bundle", type=Path, default=Path("models/fireedit-tiny"), help="folder that receives the weights")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("fireedit").setLevel(logging.INFO)
    try:
        build_tiny(
            args.out, args.bundle, args.budget, args.stages, args.pairs, args.freeze, args.compile, WORLDS[args.world], args.start,
        )  # fmt: skip
    except (PackageError, TrainingDiverged, ValueError, OSError) as error:
        logging.getLogger("fireedit").error("fireedit: %s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
