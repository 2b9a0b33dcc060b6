# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m fireedit_core.training --budget 30m`: the stages of fireedit-tiny that exist so far, each resumable."""

from __future__ import annotations

import argparse
import logging
import re
from pathlib import Path

from ..data import WORLD, vocabulary
from .alignment import ALIGNED, train_alignment
from .autoencoder import train_autoencoder
from .loop import StageConfig
from .tiny import tiny_components

STAGES = ("autoencoder", "alignment")


def minutes(text: str) -> float:
    """Minutes of "90m", "3h" or "30" (minutes)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([hm]?)", text.strip())
    if not match:
        raise argparse.ArgumentTypeError(f"a budget looks like 3h or 90m, got {text!r}")
    return float(match[1]) * (60 if match[2] == "h" else 1)


def main() -> None:
    """Train the chosen stages within the budget; a stage that has a state in --out goes on from it."""
    parser = argparse.ArgumentParser(prog="python -m fireedit_core.training", description=__doc__)
    parser.add_argument("--budget", type=minutes, default=minutes("30m"), help="wall-clock time of all stages together")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--out", type=Path, default=Path(".cache/runs/tiny"))
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    share = args.budget / len(args.stages)
    if "autoencoder" in args.stages:
        config = StageConfig(share, batch=64, lr=2e-3, warmup=50, cooldown=0.3, ema_decay=0.99, weight_decay=0.0)
        train_autoencoder(args.out, config).save_pretrained(args.out / "vae")
    if "alignment" in args.stages:
        components = tiny_components(vocabulary(WORLD))
        train_alignment(components, WORLD, args.out, StageConfig(share, lr=1e-3, warmup=100, cooldown=0.25, ema_decay=0.995))
        for name in ALIGNED:
            components[name].save_pretrained(args.out / "aligned" / name)


if __name__ == "__main__":
    main()
