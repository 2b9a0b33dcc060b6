# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands `generate` and `score` of `python -m fireedit_core.evaluation`."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ...data.formats.emu_edit import COUNTS
from ..scenes import default_device
from ..similarity import MetricWeights
from . import generate as generation
from . import report, score, sheet
from .benchmark import Benchmark
from .emu_edit import EmuEditTest
from .magicbrush import MULTI, SINGLE, MagicBrush
from .pie_bench import PieBenchTest
from .profiles import PROFILES, Profile, profile_of
from .reasonedit import ReasonEditTest
from .refedit_bench import RefEditBenchTest
from .sampling import OWN, SAMPLINGS

log = logging.getLogger("fireedit")

BENCHMARKS = (MagicBrush.name, EmuEditTest.name, PieBenchTest.name, RefEditBenchTest.name, ReasonEditTest.name)


def add_commands(commands: argparse._SubParsersAction, bundle: str) -> None:
    """Add both; `bundle` is the default of --bundle."""
    make = commands.add_parser("generate", help="make the edits of a public benchmark; run again to go on (docs/benchmarks.md)")
    _data_options(make)
    make.add_argument("--bundle", default=bundle)
    make.add_argument("--detector", type=Path, help="folder of a detector that finds the regions; default: the bundle's own")
    make.add_argument("--out", type=Path, required=True, help="folder for pictures/ and generation.json")
    make.add_argument("--seed", type=int, default=0, help="the noise of an edit depends on it and the edit's name alone")
    make.add_argument("--sampling", choices=tuple(SAMPLINGS), default=OWN, help="of the bundle, or of a benchmark's authors (docs)")
    make.add_argument("--steps", type=int, help="default: the sampling's")
    make.add_argument("--text-guidance", type=float, help="default: the sampling's")
    make.add_argument("--image-guidance", type=float, help="default: the sampling's")
    make.add_argument("--working-size", type=int, help="long side in pixels, 0: the picture's own; default: the bundle's")
    make.add_argument("--keep-outside", choices=("off", "exact"), default="off", help="exact pastes the source back around the edit")
    make.add_argument("--batch", type=int, default=1, help="pictures of one size edited together")

    judge = commands.add_parser("score", help="score a folder of edits of a public benchmark, ours or anybody's (docs/benchmarks.md)")
    _data_options(judge)
    judge.add_argument("--generated", type=Path, required=True, help="folder of edits in the benchmark's naming, or the --out of generate")
    judge.add_argument("--metric-weights", type=Path, help="folder of CLIP, DINO and LPIPS weights; without them only pixels are compared")
    judge.add_argument("--out", type=Path, required=True, help="folder for result.json, result.md, result.png and sheet.html")
    judge.add_argument("--profile", choices=tuple(PROFILES), help="default: the benchmark's first")
    judge.add_argument("--name", default="", help="of the editor, for the tables")
    judge.add_argument("--judge-scores", type=Path, help="JSON {edit: {name: number}} of a judge, shown beside the metrics")
    judge.add_argument("--sheet", type=int, default=60, help="edits shown in sheet.html of each table, 0 for all (default 60)")


def _data_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("benchmark", choices=BENCHMARKS)
    command.add_argument("--data", type=Path, required=True, help="the benchmark as its authors hand it out")
    command.add_argument("--mode", choices=(SINGLE, MULTI), help="magicbrush: single turns or chains of turns; default: both")
    command.add_argument("--split", choices=tuple(COUNTS), help="emu: of the set, by its number of rows; default: test")
    command.add_argument("--limit", type=int, default=0, help="only the first N pictures (magicbrush: sessions)")
    command.add_argument("--cache", type=Path, help="where `datasets` keeps its tables; default: its own place")
    command.add_argument("--device", help="cpu, cuda, ...; default: an accelerator when there is one")


def run(o: argparse.Namespace) -> int:
    """Run the command that the options name; 1 if some edits could not be made."""
    if o.limit < 0:
        raise ValueError("--limit must be 0 or more")
    if o.mode and o.benchmark != MagicBrush.name:
        raise ValueError(f"--mode is for {MagicBrush.name}; {o.benchmark} has one way only")
    if o.split and o.benchmark != EmuEditTest.name:
        raise ValueError(f"--split is for {EmuEditTest.name}; of {o.benchmark} --data says which split it is")
    o.split = o.split or "test"
    views = (o.mode,) if o.mode else ()
    if o.command == "generate":
        settings = generation.Settings(o.seed, o.steps, o.text_guidance, o.image_guidance, o.working_size, o.keep_outside, o.sampling)
        facts = {"split": o.split} if o.benchmark == EmuEditTest.name else {}
        made = generation.generate(open_benchmark(o), o.bundle, o.out, settings, views, o.limit, o.batch, o.device, facts, o.detector)
        log.info("%s: %s", o.out / generation.PICTURES, made)
        for key, why in made.failed.items():
            log.info("  %s: %s", key, why)
        return 1 if made.failed else 0
    profile = profile_of(o.benchmark, o.profile)
    benchmark = open_benchmark(o, profile)
    judged = score.judge_scores(o.judge_scores) if o.judge_scores else None
    weights = MetricWeights(o.metric_weights, default_device(o.device))
    result = score.score(benchmark, profile, o.generated, weights, views, o.limit, judged) | {"name": o.name}
    files = [*report.write(result, o.out), sheet.write_sheet(o.out / "sheet.html", result, benchmark, o.sheet)]
    log.info("%s\n\nwrote %s", report.markdown(result), ", ".join(map(str, files)))
    return 0


def open_benchmark(o: argparse.Namespace, profile: Profile | None = None) -> Benchmark:
    """The benchmark on disk, with the rows that the profile leaves. Raises DatasetError if it is not there."""
    if o.benchmark == MagicBrush.name:
        return MagicBrush(o.data)
    if o.benchmark == PieBenchTest.name:
        return PieBenchTest(o.data)
    if o.benchmark == ReasonEditTest.name:
        return ReasonEditTest(o.data)
    if o.benchmark == RefEditBenchTest.name:
        return RefEditBenchTest(o.data, o.cache)
    return EmuEditTest(o.data, o.split, profile, o.cache)
