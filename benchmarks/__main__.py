# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m benchmarks``: the whole edit on a warm ComfyUI server, its stages, and its ratio to the diffusers pipeline.

``python -m benchmarks photo`` measures the photo way; see `benchmarks.photo`.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import shlex
import statistics
import sys
from pathlib import Path

import requests
import torch
from transformers.utils import logging as transformers_logging

from benchmarks import photo
from benchmarks.edit import Timing, machine_line, measure
from fireedit_cli.comfy_host import HostError, HostNotFound
from fireedit_cli.workflow import WorkflowError
from fireedit_core.checkpoints.bundle import BundleError
from fireedit_core.evaluation.summary import markdown_table, text_table
from host_setup.host_lookup import REPO

log = logging.getLogger("fireedit")

# What issue 2 asks for on the two-core machine.
MOST_SECONDS, MOST_RATIO = 6.0, 1.1
MEANINGS = {
    "load": "bundle from disk (cached)", "detect": "region detector", "tokenize": "vision towers, region tokens",
    "read": "language model, Q-Former, HVCA tokens, source latent", "apply": "patch the model",
    "sample": "sampling, decoding, compositing", "rest": "picture files, overlay",
}  # fmt: skip


def tables(timing: Timing) -> tuple[tuple, list, tuple, list]:
    """Head and rows of the summary and of the stages."""
    row = lambda name, values: [name, f"{statistics.median(values):.3f}", f"{min(values):.3f}", f"{max(values):.3f}", str(len(values))]  # noqa: E731
    whole = [row("ComfyUI graph, /prompt to image", timing.graph), row("FireEditPipeline, file to file", timing.pipeline)]
    stages = []
    for name, meaning in MEANINGS.items():
        values = [s[name] for s in timing.stages]
        stages.append([name, meaning, f"{statistics.median(values):.3f}"])
    return ("what", "median s", "least", "most", "runs"), whole, ("stage", "what", "median s"), stages


def verdict(timing: Timing) -> str:
    """The ratio and the goals in words."""
    median = statistics.median(timing.graph)
    return (
        f"ratio graph / pipeline: {timing.ratio:.3f} (goal: at most {MOST_RATIO}). Whole edit: {median:.2f} s (goal: at "
        f"most {MOST_SECONDS:g} s). Largest difference of the two edits of a run: {timing.difference:.4f} of 1."
    )


def page(timing: Timing, command: str) -> str:
    """docs/benchmark.md."""
    head, whole, stage_head, stages = tables(timing)
    settings = ", ".join(f"{k} {v}" for k, v in timing.settings.items())
    return "\n\n".join([
        "# Benchmark",
        "Written by `" + command + f"` on {datetime.date.today().isoformat()}. {machine_line()}; load of the machine in the "
        f"minute before: {timing.system_load:.1f}.",
        f"Settings: {settings}. Every run has a picture, an instruction and a seed of its own; the server is warm (bundle loaded, "
        f"one run before), and both sides take turns. Each starts from a PNG and writes two, the edit and the overlay of the "
        f"regions. Loading the bundle once: {timing.load_graph:.2f} s in the graph, {timing.load_pipeline:.2f} s in the pipeline.",
        markdown_table(head, whole), verdict(timing), "Stages of the graph:", markdown_table(stage_head, stages),
    ]) + "\n"  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run, print, write; returns the exit code, 1 when something failed or a goal is missed with --strict."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["photo"]:
        return photo.main(arguments[1:])
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--bundle", help="name or folder; default: the workflow's")
    parser.add_argument("--runs", type=int, default=15, help="measured edits, at least 5 for a figure worth quoting")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, help="CPU threads of both sides; default: torch's own")
    parser.add_argument("--out", type=Path, default=REPO / "docs" / "benchmark.md")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a goal is missed")
    options = parser.parse_args(arguments)
    if options.runs < 1 or options.steps < 1:
        parser.error("--runs and --steps must be 1 or more")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    transformers_logging.disable_progress_bar()
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        timing = measure(options.bundle, options.runs, options.steps)
    except (WorkflowError, BundleError, HostNotFound, HostError, TimeoutError, OSError, requests.RequestException) as error:
        log.error("the benchmark failed: %s", error)
        return 1
    head, whole, stage_head, stages = tables(timing)
    log.info("\n%s\n\n%s\n\n%s", text_table(head, whole), text_table(stage_head, stages), verdict(timing))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    command = " ".join(["python -m benchmarks", shlex.join(arguments)]).strip()
    options.out.write_text(page(timing, command), encoding="utf-8")
    log.info("wrote %s", options.out)
    missed = timing.ratio > MOST_RATIO or statistics.median(timing.graph) > MOST_SECONDS
    return int(options.strict and missed)


if __name__ == "__main__":
    sys.exit(main())
