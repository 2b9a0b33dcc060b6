# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m benchmarks photo``: the photo way at 1 and 24 megapixels, warm: detect, masks, ground, and each kind of quick edit.

Every size has a process of its own, so that its peak of memory is its own. The picture is one that lies in the repository (or --photo),
enlarged with grain, so that 24 megapixels hold fine texture as a camera's do. Wall seconds tell what a person waits for, CPU seconds
change little with whatever else the machine does, and ratios to detection alone, run by run, allow for a slower or a busy machine.
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import os
import resource
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.edit import machine_line
from fireedit_core.evaluation.summary import markdown_table
from host_setup.host_lookup import REPO

log = logging.getLogger("fireedit")

PHOTO = REPO / "web" / "examples" / "fireedit_photo_astronaut.jpg"
DETECTOR = REPO / "models" / "photo-detector"
THRESHOLD, OVERLAP, MOST = 0.35, 0.5, 32  # of Region Detect in the public photo workflows
FIRST = ("detect", "masks", "ground")  # come before each of the edits
EDITS = {"remove": "remove {}", "recolour": "make {} blue", "background": "blur the background"}
GRAIN = 2 / 255
# What issue 18 asks for on two cores, warm: wall seconds, and GiB.
FIND_1MP, REMOVE_1MP, CHAIN_24MP, MEMORY_24MP = 2.0, 4.0, 15.0, 3.0


def picture_of(path: Path, megapixels: float) -> Tensor:
    """The photograph as (3, H, W) in 0..1, enlarged to so many megapixels with grain."""
    from fireedit_core.evaluation.masks import read_photo

    picture = read_photo(path)
    factor = (megapixels * 1e6 / (picture.shape[1] * picture.shape[2])) ** 0.5
    size = [round(side * factor) for side in picture.shape[1:]]
    made = torch.nn.functional.interpolate(picture[None], size, mode="bilinear", antialias=factor < 1)[0]
    grain = torch.Generator().manual_seed(0)
    for row in made.split(256, 1):
        row.add_(GRAIN * torch.randn(row.shape, generator=grain)).clamp_(0, 1)
    return made


def peak_gib() -> float:
    """Largest memory that this process has had, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def measure(path: Path, thing: str, megapixels: float, runs: int) -> dict[str, Any]:
    """Seconds of each stage, once per run: {"size", "regions", "wall": {stage: [...]}, "cpu": {stage: [...]}, "gib": peak}."""
    from fireedit_core.grounding import ground
    from fireedit_core.photo.quick_edit import quick_edit
    from fireedit_core.regions.loading import load_detector
    from fireedit_core.segmentation.grabcut import GrabCut
    from fireedit_core.segmentation.region_masks import region_masks

    picture, detector = picture_of(path, megapixels), load_detector(DETECTOR)
    wall: dict[str, list[float]] = {name: [] for name in (*FIRST, *EDITS)}
    cpu: dict[str, list[float]] = {name: [] for name in wall}

    def timed(name: str, run: Callable[[], Any], keep: bool) -> Any:
        begin, begin_cpu = time.perf_counter(), time.process_time()
        made = run()
        if keep:
            wall[name].append(time.perf_counter() - begin)
            cpu[name].append(time.process_time() - begin_cpu)
        return made

    count = 0
    for index in range(runs + 1):  # the first warms up
        warm = index > 0
        found = timed("detect", lambda: detector.detect(picture[None], THRESHOLD, OVERLAP, MOST)[0], warm)
        masked, _ = timed("masks", lambda: region_masks(picture, found, GrabCut()), warm)  # noqa: B023
        count = len(masked)
        for number, (name, words) in enumerate(EDITS.items()):
            say = words.format(thing)
            if number == 0:
                grounded = timed("ground", lambda: ground(picture, say, masked), warm)  # noqa: B023
            else:
                grounded = ground(picture, say, masked)
            timed(name, lambda: quick_edit(picture, grounded.mask, grounded.answer), warm)  # noqa: B023
    peak = peak_gib()
    return {"size": list(picture.shape[1:]), "regions": count, "wall": wall, "cpu": cpu, "gib": peak}


def page(measured: dict[float, dict[str, Any]], command: str, load: float) -> str:
    """docs/benchmark-photo.md."""
    texts = [
        "# Benchmark of the photo way",
        f"Written by `{command}` on {datetime.date.today().isoformat()}. {machine_line()}; load of the machine in the minute before: "
        f"{load:.1f}.",
        "Medians; a ratio is the median over the runs of a stage's CPU seconds to those of detection in the same run. Where the load is "
        "above the number of cores, wall seconds tell of the neighbours more than of this, and CPU seconds of more than one thread hold "
        "the waiting of one thread for another: measure with `--threads 1` there.",
    ]
    for megapixels, one in measured.items():
        wall, cpu = ({name: statistics.median(values) for name, values in one[kind].items()} for kind in ("wall", "cpu"))
        rows = []
        for name, values in one["cpu"].items():
            ratio = statistics.median(a / max(b, 1e-9) for a, b in zip(values, one["cpu"]["detect"], strict=True))
            rows.append([name, f"{wall[name]:.2f}", f"{cpu[name]:.2f}", f"{ratio:.1f}"])
        find = [sum(kind[name] for name in FIRST) for kind in (wall, cpu)]
        slowest = max(EDITS, key=cpu.__getitem__)
        rows.append(["detect + masks + ground", f"{find[0]:.2f}", f"{find[1]:.2f}", ""])
        whole = [f"{total + kind[slowest]:.2f}" for total, kind in zip(find, (wall, cpu), strict=True)]
        rows.append([f"whole chain with {slowest}, the slowest edit", *whole, ""])
        height, width = one["size"]
        texts += [
            f"## {megapixels:g} megapixels ({width} x {height}), {one['regions']} regions, {len(one['wall']['detect'])} runs",
            markdown_table(("stage", "wall s", "CPU s", "CPU, detection = 1"), rows),
            f"Peak of memory of the whole process, Python and torch with it: {one['gib']:.2f} GiB. {goals(megapixels, one)}".strip(),
        ]
    return "\n\n".join(texts) + "\n"


def goals(megapixels: float, one: dict[str, Any]) -> str:
    """What was asked for at this size, and whether it is met, in words."""
    wall = {name: statistics.median(values) for name, values in one["wall"].items()}
    find = sum(wall[name] for name in FIRST)
    if megapixels == 1:
        asked = [("detect, masks and ground", find, FIND_1MP, "s"), ("remove", wall["remove"], REMOVE_1MP, "s")]
    elif megapixels == 24:
        chain = find + max(wall[name] for name in EDITS)
        asked = [("the whole chain", chain, CHAIN_24MP, "s"), ("memory", one["gib"], MEMORY_24MP, "GiB")]
    else:
        return ""
    said = (f"{what} {got:.2f} of at most {most:g} {unit}, {'met' if got <= most else 'missed'}" for what, got, most, unit in asked)
    return f"Goals, on an idle machine of two cores: {'; '.join(said)}."


def main(arguments: list[str] | None = None) -> int:
    """Run, print, write; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m benchmarks photo", description=__doc__)
    parser.add_argument("--photo", type=Path, default=PHOTO)
    parser.add_argument("--thing", default="the person", help="what the edits of --photo mean (default %(default)s)")
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1, 24])
    parser.add_argument("--runs", type=int, default=5, help="measured runs per size, beside one to warm up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=REPO / "docs" / "benchmark-photo.md")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)  # measure in this process and print JSON
    options = parser.parse_args(arguments)
    if options.runs < 1 or options.threads < 1 or min(options.megapixels) <= 0:
        parser.error("--runs and --threads must be 1 or more, --megapixels more than 0")
    if options.inside:
        torch.set_num_threads(options.threads)
        sys.stdout.write(json.dumps(measure(options.photo, options.thing, options.megapixels[0], options.runs)))
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    torch.set_num_threads(options.threads)  # so that the page names them
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    measured = {}
    for megapixels in options.megapixels:
        call = [sys.executable, "-m", "benchmarks.photo", "--inside", "--megapixels", str(megapixels), "--runs", str(options.runs)]
        call += ["--threads", str(options.threads), "--photo", str(options.photo.resolve()), "--thing", options.thing]
        env = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}  # libraries with threads of their own keep to as many
        done = subprocess.run(call, cwd=REPO, env=env, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            log.error("the benchmark at %g megapixels failed", megapixels)
            return 1
        measured[megapixels] = json.loads(done.stdout)
    text = page(measured, " ".join(["python -m benchmarks photo", shlex.join(arguments)]).strip(), load)
    log.info("%s", text)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
