# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m fireedit_core.evaluation COMMAND``: scenes, turns, sheet, sweep, judge, ablation, tati, attention, confine, world,
demo-pictures, card, masks, grounding, registration, finish, generate, score.

Each explains itself with --help.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

from transformers.utils import logging as transformers_logging

from ..arguments import positive
from ..checkpoints.bundle import BundleError
from ..data import EDIT_TYPES, RICH_WORLD, SPLITS, WORLDS
from ..data.npm_package import PackageError
from ..training.ablation import Budget
from . import (
    ablation,
    attention,
    calibration,
    card,
    confine,
    familiarity,
    finishing,
    grounding,
    masks,
    motions,
    oracle,
    own_card,
    pictures,
    registration,
    tati,
    turns,
)
from . import scenes as runs
from . import sweep as sweeps
from .benchmarks import commands as benchmarks
from .benchmarks.profiles import ALEX
from .judge import load_judge
from .scenes import Scenes, Settings
from .similarity import MetricWeights

log = logging.getLogger("fireedit")

BUNDLE = "models/fireedit-tiny"


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    main = argparse.ArgumentParser(prog="python -m fireedit_core.evaluation", description=__doc__)
    commands = main.add_subparsers(dest="command", required=True)

    scenes = commands.add_parser("scenes", help="edit held-out scenes and print the measured table")
    _scene_options(scenes, 500, "heldout")
    _sampling_options(scenes)
    scenes.add_argument("--out", type=Path, help="folder for result.json and result.md")
    scenes.add_argument("--name", default="result", help="name of the files in --out")
    scenes.add_argument("--markdown", action="store_true", help="print Markdown tables")
    scenes.add_argument("--no-judge", action="store_true", help="leave the judge's columns out")
    scenes.add_argument("--metric-weights", type=Path, help="folder with lpips/alexnet.safetensors (docs/benchmarks.md), for LPIPS")

    series = commands.add_parser("turns", help="several edits one after the other: success and drift turn by turn")
    _scene_options(series, 100, "heldout", without=("each",))
    _sampling_options(series, regions=False)
    series.add_argument("--turns", type=positive, default=4)
    series.add_argument("--out", type=Path, help="Markdown to write")

    judge = commands.add_parser("judge", help="how sure the judge is: what passes on targets, and what fails on haze")
    _scene_options(judge, 500, "heldout")
    judge.add_argument("--out", type=Path, help="Markdown to write")

    sheet = commands.add_parser("sheet", help="source | edit | target of the first scenes, not chosen")
    _scene_options(sheet, 64, "heldout")
    _sampling_options(sheet)
    sheet.add_argument("--out", type=Path, required=True, help="PNG to write")
    sheet.add_argument("--columns", type=positive, default=4)
    sheet.add_argument("--zoom", type=positive, default=1)

    sweep = commands.add_parser("sweep", help="steps x guidance on validation scenes, to choose the defaults")
    _scene_options(sweep, 48, "validation")
    sweep.add_argument("--steps", type=int, nargs="+", default=[4, 8, 20])
    sweep.add_argument("--text-guidance", type=float, nargs="+", default=[1.0, 1.5, 2.5])
    sweep.add_argument("--image-guidance", type=float, nargs="+", default=[1.0, 1.5])
    sweep.add_argument("--out", type=Path, help="JSON to write")
    sweep.add_argument("--markdown", action="store_true", help="print Markdown tables")

    ablation = commands.add_parser("ablation", help="train and measure base, +region tokens, +TATI, +HVCA; run again to go on")
    _scene_options(ablation, 300, "heldout", without=("batch", "device"))
    ablation.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    ablation.add_argument("--align-steps", type=int, default=Budget.align_steps)
    ablation.add_argument("--first-steps", type=int, default=Budget.first_steps, help="of the editor that all models go on from")
    ablation.add_argument("--edit-steps", type=int, default=Budget.edit_steps)
    ablation.add_argument("--pairs", type=int, default=Budget.pairs, help="cached training pairs")
    ablation.add_argument("--folder", type=Path, default=Path(".cache/runs/ablation"), help="states, weights and ablation.json")
    ablation.add_argument("--out", type=Path, default=Path("docs"), help="folder for ablation.md and ablation.png")

    study = commands.add_parser("tati", help="what TATI does: its condition over the timesteps, and edits by strength and window")
    _scene_options(study, 96, "heldout")
    study.add_argument("--steps", type=int, default=20)
    study.add_argument("--oracle", action="store_true", help="instead: what each module does in one step, and the best e and v there are")
    study.add_argument("--oracle-steps", type=positive, default=60, help="of optimising each offset")
    study.add_argument("--out", type=Path, default=Path("docs"), help="folder for tati.md and its plots, or for modules.md")

    looks = commands.add_parser("attention", help="a picture of what each of HVCA's tokens looks at")
    _scene_options(looks, 4, "heldout", without=("batch",))
    looks.add_argument("--out", type=Path, default=Path("docs/hvca-attention.png"), help="PNG to write")

    held = commands.add_parser("confine", help="what confining an edit while it is sampled changes, by mask, with controls")
    _scene_options(held, 240, "heldout")
    _sampling_options(held, regions=False)
    held.add_argument("--late-edges", type=float, default=0.5, help="see FireEdit Confine")
    held.add_argument("--out", type=Path, default=Path("docs/confine.md"), help="Markdown to write")

    known = commands.add_parser("world", help="from what error of its autoencoder on a bundle says that a picture is not of its world")
    _scene_options(known, 600, "heldout", without=("batch",))
    known.add_argument("--photos", type=Path, nargs="+", required=True, help="photographs, or folders of them")
    known.add_argument("--out", type=Path, default=Path("docs/world.md"), help="Markdown to write")
    known.add_argument("--keep", action="store_true", help="write the limit into the bundle's model_index.json")

    demo = commands.add_parser("demo-pictures", help="write the demo's pictures: the first held-out scene of each type")
    demo.add_argument("kinds", nargs="+", choices=EDIT_TYPES, help="the mastered edit types")
    demo.add_argument("--split", choices=SPLITS, default="heldout")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--out", type=Path, default=Path("web/examples"))

    cards = commands.add_parser("card", help="write the bundle's README.md from results")
    cards.add_argument("--bundle", default=BUNDLE)
    what = cards.add_mutually_exclusive_group(required=True)
    what.add_argument("--result", type=Path, nargs="+", help="result.json files of `scenes`, for a bundle of the synthetic world")
    what.add_argument("--score", type=Path, nargs="+", help="result.json files of `score`, for a bundle that you trained on datasets")
    cards.add_argument("--licence", default="", help="with --score: under which you share it; docs/make-your-own.md says what binds you")
    cards.add_argument("--training", type=Path, help="training record; default: training.json in the bundle")

    cards.add_argument("--ablation", type=Path, help="ablation.json of `ablation`, for the table of modules")

    cuts = commands.add_parser("masks", help="masks from boxes against masks that were drawn by hand: IoU for each, and the median")
    cuts.add_argument("--drawn", type=Path, default=masks.DRAWN, help="JSON of polygons (default %(default)s)")
    cuts.add_argument("--isnet", type=Path, help="an ONNX file of ISNet, to be measured too")

    words = commands.add_parser("grounding", help="how often words mean the right region: the table of instruction-picture pairs")
    words.add_argument("--table", type=Path, default=grounding.DEFAULT_FOLDER, help="folder with pairs.json and photographs.json")
    words.add_argument("--detector", type=Path, help="folder of a detector, for its own regions instead of those written in the table")
    words.add_argument("--threshold", type=float, default=0.4, help="regions of a lower score are dropped (with --detector)")
    half = words.add_mutually_exclusive_group()
    half.add_argument("--aside", dest="half", action="store_const", const=True, help="only the half that was left aside")
    half.add_argument("--tuned", dest="half", action="store_const", const=False, help="only the other half")
    words.add_argument("--out", type=Path, help="text to write")

    for name, text in (
        ("registration", "how exactly the motion of an edited photograph is found: five families of warps, other ways beside"),
        ("finish", "edited photographs pasted back: error inside, seam, outside; other ways beside"),
    ):
        photos = commands.add_parser(name, help=text)
        photos.add_argument("--photos", type=Path, nargs="+", default=[], help=f"photographs, or folders of them; default: {motions.GET}")
        photos.add_argument("--each", type=positive, default=2, help="cases per photograph, and per family")
        photos.add_argument("--megapixels", type=float, default=0.5, help="that the model sees (default %(default)s)")
        photos.add_argument("--out", type=Path, default=Path(f"docs/photos-{name}.md"), help="Markdown to write")

    benchmarks.add_commands(commands, BUNDLE)
    return main


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(k.strip() for k in text.split(",") if k.strip())
    unknown = [k for k in kinds if k not in EDIT_TYPES]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown edit types {unknown}; choose from {','.join(EDIT_TYPES)}")
    return kinds


def _scene_options(command: argparse.ArgumentParser, count: int, split: str, without: tuple[str, ...] = ()) -> None:
    """Which scenes of which world. `without`: names of options that would have no effect in this command, which it does not have."""
    command.set_defaults(**{"each": 0, "batch": 16, "device": None})
    command.add_argument("--bundle", default=BUNDLE)
    command.add_argument("--count", type=int, default=count, help=f"scenes 0..N-1 of the mixture (default {count})")
    if "each" not in without:
        command.add_argument("--each", type=int, help="instead: N scenes of every edit type")
    command.add_argument("--kinds", type=_kinds, default=(), help="only these edit types, separated by commas")
    command.add_argument("--split", choices=SPLITS, default=split)
    command.add_argument("--world", choices=WORLDS, default=RICH_WORLD.name, help="narrow-v0 has fewer ways to speak (default %(default)s)")
    command.add_argument("--unseen", action="store_true", help="held-out remove edits are about objects that training never saw")
    command.add_argument("--seed", type=int, default=0)
    if "batch" not in without:
        command.add_argument("--batch", type=positive, help="pictures per call")
    if "device" not in without:
        command.add_argument("--device", help="cpu, cuda, ...; default: an accelerator when there is one")


def _sampling_options(command: argparse.ArgumentParser, regions: bool = True) -> None:
    """How scenes are edited. `regions`: whether the command can leave them out."""
    command.add_argument("--steps", type=int, help="default: the bundle's")
    command.add_argument("--text-guidance", type=float, help="default: the bundle's")
    command.add_argument("--image-guidance", type=float, help="default: the bundle's")
    command.add_argument("--tati-strength", type=float, default=1.0, help="0 leaves TATI out")
    command.add_argument("--hvca-strength", type=float, default=1.0, help="0 leaves HVCA out")
    command.set_defaults(no_regions=False)
    if regions:
        command.add_argument("--no-regions", action="store_true", help="nothing is detected: the model gets no region tokens")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    o = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    transformers_logging.disable_progress_bar()  # one bar per loaded part would bury ours
    try:
        return _run(o, arguments)
    except (BundleError, PackageError, ValueError, OSError) as error:
        log.error("%s", error)
        return 1


def _run(o: argparse.Namespace, arguments: list[str]) -> int:
    if o.command in ("generate", "score"):
        return benchmarks.run(o)
    if o.command == "masks":
        log.info("%s", masks.run(o.drawn, o.isnet))
        return 0
    if o.command == "grounding":
        detect = grounding.detector_of(o.detector, o.threshold) if o.detector else None
        verdicts = grounding.judge_table(o.table, detect, o.half)
        _show(card.command_line(arguments) + "\n\n" + grounding.report(verdicts), o.out)
        return 0
    if o.command == "registration":
        text = registration.run(o.photos, o.each, o.megapixels, log.info)
        _show(f"# Registration, measured\n\n{card.command_line(arguments)}\n\n{text}", o.out)
        return 0
    if o.command == "finish":
        text = finishing.run(o.photos, o.each, o.megapixels, o.out, log.info)
        _show(f"# Photo Finish, measured\n\n{card.command_line(arguments)}\n\n{text}", o.out)
        return 0
    if o.command == "card":
        _check_card(o)
    if o.command == "card" and o.score:
        log.info("wrote %s", own_card.write_own_card(o.bundle, o.score, o.licence))
        return 0
    if o.command == "card":
        log.info("wrote %s", card.write_card(o.bundle, o.result, o.training, o.ablation))
        return 0
    if o.command == "demo-pictures":
        for record in pictures.write_demo_pictures(o.out, o.kinds, o.split, o.seed):
            log.info("%(image)s: scene %(seed_index)d, %(instruction)r", record)
        return 0
    scenes = Scenes(o.count, o.split, o.seed, o.kinds, o.each)
    world = replace(WORLDS[o.world], unseen_targets=o.unseen)
    if o.command == "tati" and o.oracle:
        _check_oracle(o)
        found = oracle.study(o.bundle, o.count, o.oracle_steps, world)
        _show(oracle.report(found, card.command_line(arguments)), o.out / "modules.md")
        return 0
    if o.command == "ablation":
        budget = Budget(o.align_steps, o.first_steps, o.edit_steps, o.pairs)
        found = ablation.run(o.folder, o.bundle, o.seeds, budget, scenes, load_judge(), world=world)
        ablation.plot(found, o.out / "ablation.png")
        (o.out / "ablation.md").write_text(ablation.report(found, card.command_line(arguments)))
        log.info("%s", ablation.table(found))
        return 0
    pipe = runs.load_pipeline(o.bundle, o.device)
    if o.command == "judge":
        found = calibration.calibrate(load_judge(), scenes, pipe, o.batch, world)
        _show(card.command_line(arguments) + "\n\n" + calibration.report(found), o.out)
        return 0
    if o.command == "tati":
        text = tati.study(pipe, scenes, load_judge(), o.out, o.steps, o.batch, card.command_line(arguments), world)
        log.info("%s", text)
        return 0
    if o.command == "world":
        found = familiarity.study(pipe, scenes, familiarity.photographs(o.photos), world)
        if o.keep:
            familiarity.keep(o.bundle, found.limit)
        _show(familiarity.report(found, card.command_line(arguments)), o.out)
        return 0
    if o.command == "attention":
        o.out.parent.mkdir(parents=True, exist_ok=True)
        attention.picture(pipe, scenes, world).save(o.out)
        log.info("wrote %s", o.out)
        return 0
    if o.command == "sweep":
        rows = sweeps.sweep(pipe, scenes, o.steps, o.text_guidance, o.image_guidance, o.batch, world)
        log.info("%d scenes of %s\n\n%s", len(scenes), o.split, sweeps.sweep_report(rows, o.markdown))
        if o.out:
            o.out.parent.mkdir(parents=True, exist_ok=True)
            o.out.write_text(json.dumps(rows, indent=1) + "\n")
        return 0
    settings = Settings(o.steps, o.text_guidance, o.image_guidance, o.tati_strength, o.hvca_strength, regions=not o.no_regions)
    if o.command == "sheet":
        picture = pictures.sheet(pipe, scenes, settings, o.batch, o.columns, o.zoom, world)
        o.out.parent.mkdir(parents=True, exist_ok=True)
        picture.save(o.out)
        log.info("wrote %s", o.out)
        return 0
    if o.command == "confine":
        scenes = replace(scenes, kinds=scenes.kinds or confine.KINDS)
        o.out.parent.mkdir(parents=True, exist_ok=True)
        write = lambda found: o.out.write_text(confine.report(found, card.command_line(arguments)))  # noqa: E731
        confine.evaluate(pipe, scenes, load_judge(), settings, o.late_edges, o.batch, world, look=write)
        log.info("%s", o.out.read_text())
        return 0
    if o.command == "turns":
        measured = turns.evaluate_turns(pipe, scenes, o.turns, settings, o.batch, world, load_judge())
        _show(card.command_line(arguments) + "\n\n" + turns.report(measured), o.out)
        return 0
    lpips = MetricWeights(o.metric_weights, pipe.device).lpips(ALEX) if o.metric_weights else None
    result = runs.evaluate(pipe, scenes, settings, o.batch, world, judge=None if o.no_judge else load_judge(), lpips=lpips)
    result["command"] = card.command_line(arguments)
    result["power"] = runs.power_of(pipe, scenes, world)
    result["bundle"] = {"name": Path(o.bundle).name, "fingerprint": runs.bundle_fingerprint(o.bundle)}
    log.info("%s", runs.report(result, o.markdown))
    if o.out:
        log.info("\nwrote %s", runs.save_result(result, o.out, o.name))
    return 0


def _check_card(o: argparse.Namespace) -> None:
    """Raises ValueError for options that this kind of card has no use for: it would say something else than was asked for."""
    if o.score and (o.training or o.ablation):
        raise ValueError("card --score reads training.json of the bundle and has no table of modules: leave out --training and --ablation")
    if o.result and o.licence:
        raise ValueError("--licence goes with --score: a bundle of the synthetic world, as --result measures it, is under GPL-3.0")


def _check_oracle(o: argparse.Namespace) -> None:
    """Raises ValueError for options that choose scenes or sampling: the oracles look at validation scenes of their own."""
    plain = parser().parse_args(["tati"])
    idle = [name for name in ("split", "seed", "kinds", "each", "batch", "device", "steps") if getattr(o, name) != getattr(plain, name)]
    if idle:
        named = ", ".join(f"--{name}" for name in idle)
        raise ValueError(f"tati --oracle looks at --count validation scenes on the CPU: leave out {named}")


def _show(text: str, out: Path | None) -> None:
    """Print a report, and write it where that is asked for."""
    log.info("%s", text)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
