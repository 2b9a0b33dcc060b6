# SPDX-License-Identifier: GPL-3.0-or-later
"""The paper's table 3: base, + region tokens, + TATI, + HVCA, trained alike from one configuration, edited and scored on Emu Edit test.

    python -m fireedit_core.training.paper.table3 paper_2_joint --emu emu_edit_test_set --metric-weights weights \\
        --launch "accelerate launch --num_processes 8" [--steps 100 ...]

Run it again to go on: what is trained, edited or scored is not done again. `<out>/table3.md` and `table3.json` hold the table.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from ...checkpoints.index import BundleError
from ...data.formats import DatasetError
from ...evaluation import summary
from ...evaluation.benchmarks.emu_edit import EmuEditTest
from ...evaluation.benchmarks.generate import Settings, generate
from ...evaluation.benchmarks.profiles import FIREEDIT_EMU
from ...evaluation.benchmarks.published import FIREEDIT_PAPER, beside
from ...evaluation.benchmarks.score import EDIT, score
from ...evaluation.scenes import default_device
from ...evaluation.similarity import MetricWeights
from .config import PaperConfig, load_config
from .estimate import estimate

logger = logging.getLogger("fireedit")

NO_HVCA = {"hvca": False, "mark": False, "shared_output": False}  # mark and projections are those of its layers
# name -> (what it lacks, the published row)
ROWS: dict[str, tuple[dict[str, bool], str]] = {
    "base": (NO_HVCA | {"tati": False, "regions": False, "meant_region": False}, "FireEdit without region tokens, TATI, HVCA"),
    "+ region tokens": (NO_HVCA | {"tati": False}, "FireEdit, region tokens only"),
    "+ TATI": (NO_HVCA, "FireEdit without HVCA"),
    "+ HVCA": ({}, "FireEdit (paper)"),
}  # fmt: skip


def row_config(config: PaperConfig, name: str) -> PaperConfig:
    """The run of a row: the configuration without what the row lacks, in a folder of its own."""
    lacks, _ = ROWS[name]
    room = str(Path(config.out) / name.removeprefix("+ ").replace(" ", "-").lower())
    made = replace(config, train_parts=[], out=room, **lacks)
    return replace(made, train_parts=[part for part in config.train_parts if part not in made.left_out])


def train_row(config: PaperConfig, launch: Sequence[str]) -> Path:
    """Train a row in processes of its own, or go on; returns its bundle. Raises RuntimeError where that ends otherwise."""
    file = Path(config.out) / "config.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    # in a file such a path starts from the file's folder
    whole = lambda value: str(Path(value).resolve()) if isinstance(value, str) and value.startswith(("./", "../")) else value  # noqa: E731
    file.write_text(yaml.safe_dump({name: whole(value) for name, value in asdict(config).items()}, sort_keys=False))
    command = [*launch, "-m", "fireedit_core.training.paper", str(file)]
    code = subprocess.run(command, check=False).returncode
    if code:
        raise RuntimeError(f"{shlex.join(command)} ended with {code}; what it said stands above. The same command goes on from there")
    return Path(config.out) / "bundle"


def run(
    config: PaperConfig, emu: Path, weights: MetricWeights, launch: Sequence[str], settings: Settings, limit: int = 0, split: str = "test"
) -> dict[str, Any]:
    """Train, edit and score all rows; returns {row: {metric: mean}}, which `<out>/table3.json` has too."""
    benchmark, found = EmuEditTest(emu, split, FIREEDIT_EMU), {}
    for name in ROWS:
        own = row_config(config, name)
        room, bundle = Path(own.out), train_row(own, launch)
        generate(benchmark, bundle, room / "emu", settings, limit=limit, facts={"split": split})
        result = score(benchmark, FIREEDIT_EMU, room / "emu", weights, limit=limit)
        (room / "emu.json").write_text(json.dumps(result, ensure_ascii=False) + "\n", encoding="utf-8")
        means = result["views"]["all"]["tables"][EDIT][summary.OVERALL]
        found[name] = {metric: estimate["mean"] for metric, estimate in means.items()}
        (Path(config.out) / "table3.json").write_text(json.dumps(found, indent=1) + "\n")
    return found


def table(found: dict[str, dict[str, float]], limit: int = 0) -> str:
    """Our rows with the published number behind each, as Markdown. `limit`: only so many rows of the set were edited, which is said."""
    published = {row.editor: row.values for row in beside(FIREEDIT_EMU.name, "all")}
    metrics = [metric for metric in FIREEDIT_EMU.metrics if any(metric.name in row for row in found.values())]

    def cell(name: str, metric: str) -> str:
        theirs = published.get(ROWS[name][1], {}).get(metric)
        own = found[name].get(metric)
        return ("-" if own is None else f"{own:.4f}") + ("" if theirs is None else f" ({theirs:.4f})")

    head = ["model", *(f"{m.label} {'↑' if m.more else '↓'}" for m in metrics)]
    rows = [[name, *(cell(name, m.name) for m in metrics)] for name in found]
    return (
        "# Table 3\n\n" + summary.markdown_table(head, rows)
        + f"\n\nEmu Edit test, profile {FIREEDIT_EMU.name} (docs/benchmarks.md); in brackets {FIREEDIT_PAPER}, where it gives a number.\n"
        + (f"\nOnly the first {limit} rows of the set: no number here compares with one in brackets.\n" if limit else "")
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    parser = argparse.ArgumentParser(
        prog="python -m fireedit_core.training.paper.table3", description=__doc__, allow_abbrev=False,
        epilog="What is not named here goes to the training: CONFIG and settings such as --steps 100.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--emu", type=Path, required=True, help="facebook/emu_edit_test_set as parquet files")
    parser.add_argument("--split", default="test", help="test or validation, by the number of rows")
    parser.add_argument("--metric-weights", type=Path, help="folder of CLIP, DINO and LPIPS (docs/benchmarks.md)")
    parser.add_argument("--launch", default="", help="what starts the training processes, such as 'accelerate launch --num_processes 8'")
    parser.add_argument("--limit", type=int, default=0, help="only the first N rows of the set: numbers of nobody else's")
    parser.add_argument("--edit-steps", type=int, help="sampling steps; default: the bundle's")
    options, rest = parser.parse_known_args(sys.argv[1:] if arguments is None else arguments)
    config, asked = load_config(rest)
    if config.stage == "text":
        parser.error("table 3 differs in what stages vlm and joint train; give a configuration of one of these")
    if asked.dry_run:
        for name in ROWS:
            logger.info("## %s\n\n%s\n", name, estimate(row_config(config, name)))
        return 0
    try:
        weights = MetricWeights(options.metric_weights, default_device())
        launch = shlex.split(options.launch) or [sys.executable]
        found = run(config, options.emu, weights, launch, Settings(steps=options.edit_steps), options.limit, options.split)
    except (BundleError, DatasetError, ValueError, RuntimeError) as error:
        logger.error("fireedit: %s", error)
        return 2
    file = Path(config.out) / "table3.md"
    text = table(found, options.limit)
    file.write_text(text, encoding="utf-8")
    logger.info("%s\nwrote %s", text, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
