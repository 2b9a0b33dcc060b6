# SPDX-License-Identifier: GPL-3.0-or-later
"""How many faults that someone could make are seen by the tests: `make mutants`, or `python -m tests.mutants [--sample 40] [--seed 1]`.

Each mutant of `rooms/` is put into a copy of the tree, never into the working tree, and the tests that are named for it run there. Tools
that mutate every operator (mutmut, cosmic-ray) find other things and take hours here; these are faults of the kinds that field tests found.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

from . import rooms
from .mutant import INSIDE, Mutant

REPO = Path(__file__).resolve().parents[2]
PATIENCE = 600.0  # seconds of one run; what takes longer is said to hang and counts as not seen
LINKED = ("models", "docs", ".cache")  # large, and not mutated


def table() -> dict[str, list[Mutant]]:
    """All mutants by room."""
    names = sorted(module.name for module in pkgutil.iter_modules(rooms.__path__))
    return {name: list(importlib.import_module(f"{rooms.__name__}.{name}").MUTANTS) for name in names}


def copy_tree(target: Path) -> None:
    """What git knows or would know of the working tree; large folders are linked."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=REPO, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if name.split("/")[0] not in LINKED and (REPO / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPO / name, target / name)
    for name in LINKED:
        if (REPO / name).exists():
            (target / name).symlink_to(REPO / name)


class Runner:
    """pytest in a copy of the tree, in processes that have the libraries loaded."""

    def __init__(self, tree: Path):
        self.tree, self.log = tree, tree.parent / "log"
        self.workers: dict[bool, subprocess.Popen] = {}

    def worker(self, inside: bool) -> subprocess.Popen:
        if inside not in self.workers:
            env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
            env.setdefault("FIREEDIT_HOST", str(REPO / ".cache" / "ComfyUI"))
            command = [sys.executable, "tests/mutants/worker.py", *(["host"] if inside else [])]
            self.workers[inside] = subprocess.Popen(
                command, cwd=self.tree, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
            )
        return self.workers[inside]

    def outcome(self, tests: list[str], patience: float = PATIENCE) -> str:
        """What becomes of tests, those of the host's process apart from the others: "pass", "fail", or "hang" after `patience` seconds."""
        inside = [t for t in tests if t.startswith(INSIDE)]
        for some in (inside, [t for t in tests if t not in inside]):
            found = self._run(some, some is inside, patience) if some else "pass"
            if found != "pass":
                return found
        return "pass"

    def _run(self, tests: list[str], inside: bool, patience: float) -> str:
        arguments = ["-q", "-x", "-p", "no:cacheprovider", *tests, *([f"--confcutdir={INSIDE}"] if inside else [])]
        worker = self.worker(inside)
        worker.stdin.write(json.dumps({"arguments": arguments, "log": str(self.log)}) + "\n")
        child = int(worker.stdout.readline())
        clock = threading.Timer(patience, os.killpg, (child, signal.SIGKILL))
        clock.start()
        code = int(worker.stdout.readline())
        clock.cancel()
        if code > 3:  # 2 and 3: a mutant may break an import, which ends the collection; else the named tests are not there
            tail = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise SystemExit(f"pytest {' '.join(arguments)} ended with {code}:\n{tail}")
        return {0: "pass", -signal.SIGKILL: "hang"}.get(code, "fail")

    def close(self) -> None:
        for worker in self.workers.values():
            worker.stdin.close()
            worker.wait()


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run a sample; 1 if less than nine tenths of it are seen."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--sample", type=int, default=24, help="how many, of all rooms; 0 is all (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--room", action="append", choices=sorted(table()), help="only this one; several times for several")
    parser.add_argument("--file", help="only mutants of files whose path has this in it")
    parser.add_argument("--check", action="store_true", help="only whether every text still stands in its file exactly once")
    options = parser.parse_args()
    chosen = [
        (room, m) for room, all_ in table().items() for m in all_
        if (not options.room or room in options.room) and (not options.file or options.file in m.file) and not m.equivalent
    ]  # fmt: skip
    if options.sample and options.sample < len(chosen):
        chosen = sorted(random.Random(options.seed).sample(chosen, options.sample), key=lambda pair: pair[0])
    seen: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    with tempfile.TemporaryDirectory(prefix="fireedit-mutants-") as folder:
        tree = Path(folder) / "tree"
        tree.mkdir()
        copy_tree(tree)
        for _, mutant in chosen:
            (tree / mutant.file).write_text(mutant.apply(tree), encoding="utf-8")
        if options.check:
            say(f"{len(chosen)} texts stand where they should")
            return 0
        runner, begin = Runner(tree), time.monotonic()
        for number, (room, mutant) in enumerate(chosen, 1):
            start = time.monotonic()
            before = mutant.apply(tree)
            try:
                found = runner.outcome(mutant.tests.split())
            finally:
                (tree / mutant.file).write_text(before, encoding="utf-8")
            seen[room][0] += found == "fail"
            seen[room][1] += 1
            said = {"fail": "killed  ", "pass": "SURVIVED", "hang": "HANGS   "}[found]
            say(f"{number}/{len(chosen)} {said} {time.monotonic() - start:5.1f} s  [{room}] {mutant}")
        # what fails without a fault kills every mutant
        tests = list(dict.fromkeys(test for _, mutant in chosen for test in mutant.tests.split()))
        if (found := runner.outcome(tests, PATIENCE * len(tests))) != "pass":
            raise SystemExit(f"the tests {found} without any mutant:\n{runner.log.read_text(errors='replace')[-3000:]}")
        runner.close()
    for room, (killed, tried) in sorted(seen.items()):
        say(f"{room:14} {killed:3} of {tried:3} killed")
    killed, tried = (sum(values[i] for values in seen.values()) for i in (0, 1))
    say(f"{'all':14} {killed:3} of {tried:3} killed ({killed / max(1, tried):.0%}) in {(time.monotonic() - begin) / 60:.1f} min")
    return int(killed < 0.9 * tried)


if __name__ == "__main__":
    sys.exit(main())
