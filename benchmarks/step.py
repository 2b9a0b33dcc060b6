# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m benchmarks.step --before COMMIT``: a training step of this tree beside one of another commit, at equal work.

Each trains the same stage on the same rows in a process of its own; steps take turns, so that what else the machine does falls on both.
Ratios are of pairs of neighbouring steps. On a busy machine read the CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.edit import machine_line
from fireedit_core.data.writers.registry import write
from fireedit_core.evaluation.summary import markdown_table
from host_setup.host_lookup import REPO

log = logging.getLogger("fireedit")

LEAST = 0.98  # of the throughput before, what issue 20 asks for
WARM = 2  # steps of each that do not count
# A step at each line of the standard input; the numbers that it took go to the standard output.
WORKER = """
import json, sys, time
from fireedit_core.training import loop
from fireedit_core.training.paper import train
from fireedit_core.training.paper.config import PaperConfig

begun = []

def turn(stage):
    now = time.perf_counter(), time.process_time()
    if begun:
        print("step", now[0] - begun[0], now[1] - begun[1], flush=True)
    ends = not sys.stdin.readline().strip()
    begun[:] = time.perf_counter(), time.process_time()
    return ends

loop.TrainingStage._stops = turn
loop.TrainingStage.save = lambda stage: None
train.train(PaperConfig(**json.loads(sys.argv[1])))
"""


class Tree:
    """A trainer of one checkout that waits between its steps."""

    def __init__(self, folder: Path, config: dict[str, Any], threads: int):
        environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": str(threads), "TQDM_DISABLE": "1"}
        command = [sys.executable, "-c", WORKER, json.dumps(config)]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.folder = folder

    def step(self) -> tuple[float, float]:
        """(wall seconds, CPU seconds) of the next step. Raises RuntimeError where the trainer ends."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            word, _, numbers = line.partition(" ")
            if word == "step":
                wall, cpu = map(float, numbers.split())
                return wall, cpu
        raise RuntimeError(f"the trainer in {self.folder} ended: {self.process.stderr.read()[-1500:]}")

    def end(self) -> None:
        """Let it go; it saves nothing."""
        self.process.kill()
        self.process.wait()


def measure(before: str, steps: int, threads: int, settings: dict[str, Any]) -> tuple[list, list]:
    """[(wall, CPU)] of each step of the commit `before`, and of this tree."""
    with tempfile.TemporaryDirectory() as room:
        other, data = Path(room) / "before", Path(room) / "data"
        subprocess.run(["git", "worktree", "add", "--detach", str(other), before], cwd=REPO, check=True, capture_output=True)
        trees = []
        try:
            sources = write(data, ["magicbrush-folder", "pairs", "refcoco", "llava-instruct"], count=24)
            config = {
                "bundle": str(REPO / "models" / "fireedit-tiny"), "sources": str(sources), "size": 128, "max_regions": 16, "buckets": False,
                "frozen_dtype": "float32", "validation": 0, "save_minutes": 1e6, "log_steps": 10**6, "trackers": [],
                "steps": steps + WARM + 1, "conversation_rows": 1, "warmup": 1,
            } | settings  # fmt: skip
            trees += [Tree(other, config | {"out": f"{room}/a"}, threads), Tree(REPO, config | {"out": f"{room}/b"}, threads)]
            found: tuple[list, list] = ([], [])
            for number in range(steps + WARM):
                for k in (0, 1) if number % 2 else (1, 0):  # each goes first as often
                    taken = trees[k].step()
                    if number >= WARM:
                        found[k].append(taken)
            return found
        finally:
            for tree in trees:
                tree.end()
            subprocess.run(["git", "worktree", "remove", "--force", str(other)], cwd=REPO, check=False, capture_output=True)


def main() -> int:
    """Measure and print; with --strict 1 where the goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__)
    parser.add_argument("--before", default="main", help="commit to compare with")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--strict", action="store_true", help=f"exit with 1 below {LEAST} (CPU seconds)")
    o = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    before, now = measure(o.before, o.steps, o.threads, {"batch": o.batch, "accumulate": o.accumulate})
    rows, ratios = [], {}
    for k, kind in enumerate(("wall", "CPU")):
        a, b = [x[k] for x in before], [x[k] for x in now]
        ratios[kind] = statistics.median(x / y for x, y in zip(a, b, strict=True))
        rows.append([kind, f"{statistics.median(a):.3f}", f"{statistics.median(b):.3f}", f"{ratios[kind]:.3f}"])
    head = ["seconds of a step", f"{o.before}", "this tree", "throughput of it"]
    log.info("%s; joint stage, fireedit-tiny, batch %d x %d, medians of %d steps", machine_line(), o.batch, o.accumulate, len(now))
    log.info("%s\nwanted: at least %s", markdown_table(head, rows), LEAST)
    return int(o.strict and ratios["CPU"] < LEAST)


if __name__ == "__main__":
    sys.exit(main())
