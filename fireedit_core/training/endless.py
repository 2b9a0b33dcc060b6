# SPDX-License-Identifier: GPL-3.0-or-later
"""The trainer that never sleeps: fireedit-tiny goes on learning in the background of everything else.

    make trainer           start it, or go on (nice 19, in the background)
    make trainer-status    looks so far, looks per second, the last validation, power between rows, gradient norm
    make trainer-stop      save and stop; `make trainer` goes on with the very next step

All state lies below one folder. It may be killed at any moment: what is lost is what came after the last save, and the steps that
are run again come out the same. A *look* is one noisy latent that the UNet has learnt from; a pair gives two in every pass.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed

from ..checkpoints.bundle import bundle_options, load_components, read_index
from ..data import RICH_WORLD, World
from ..diffusion.rows import collapsed
from .build import plain_attention, write_bundle
from .diffusion import diffusion_stage
from .edit_cache import EditCache, RollingCache
from .lock import AlreadyRunning, alone, running
from .loop import StageConfig, TrainingStage
from .pieces import PARTS, RECORD, read_pieces, write_pieces
from .tiny import TinyConfig, renewed
from .validation import costs, module_table, one_step_errors

logger = logging.getLogger("fireedit")

LOOKS_PER_PAIR = 2
# Shares of the edit types: more of what is not mastered yet.
MIXTURE = {"remove": 0.1, "replace": 0.24, "recolour": 0.24, "add": 0.22, "resize": 0.13, "background": 0.07}
NAME = "diffusion"
YOUNG = {"tati": 2.0, "hvca": 2.0, "visual_attention": 2.0}  # learning rates of what is fresh where the rest is not


@dataclass(frozen=True)
class EndlessConfig:
    """Numbers of the run; those that a resumed run must share with the one before are checked.

    Attributes:
        folder: of all state. start: bundle that a new run goes on from; the parts that are not trained come from it always.
        pairs, width: pairs of one cache, and how many caches there are at a time in the long run (`RollingCache`).
        validation: scenes. validate_minutes: of training between two validations. save_minutes: the most that a kill loses.
        head_steps: in which the fresh read-outs learn what e says already, before the first step.
        cooldown: steps over which the learning rate falls to zero, after which the run ends; 0 goes on for ever.
        pieces: weights that a new run goes on from in place of the bundle's, where there are such (`pieces.py`).
        last_step: end here at the full learning rate; None goes on for ever.
    """

    folder: Path = Path(".cache/runs/tiny")
    start: Path = Path("models/fireedit-tiny")
    pieces: Path = Path("models/fireedit-tiny-next")
    batch: int = 24
    lr: float = 3e-4
    warmup: int = 200
    ema_decay: float = 0.9998
    pairs: int = 1536
    width: int = 12
    validation: int = 384
    validate_minutes: float = 60.0
    save_minutes: float = 3.0
    low_pass: float = 0.15
    edit_weight: float = 5.0
    seed: int = 0
    compiled: bool = True
    head_steps: int = 150
    cooldown: int = 0
    last_step: int | None = None
    world: World = RICH_WORLD
    sizes: TinyConfig | None = None

    @property
    def fixed(self) -> dict[str, Any]:
        """What a state belongs to."""
        names = ("batch", "pairs", "width", "low_pass", "edit_weight", "seed")
        return {name: getattr(self, name) for name in names} | {"world": self.world.only(**MIXTURE).fingerprint()}


def run(config: EndlessConfig) -> TrainingStage:
    """Train until a signal comes (SIGTERM and Ctrl-C save first), or until the cooldown is over.

    Raises:
        AlreadyRunning: if another process trains in the folder.
        ValueError: for a folder whose run had other numbers.
    """
    config.folder.mkdir(parents=True, exist_ok=True)
    with alone(config.folder):
        _check_same_run(config)
        components = renewed(load_components(config.start), config.sizes, config.seed)
        looks_before = _looks_before(config, components)
        _write_run(config, looks_before)
        plain_attention(components)
        world = config.world.only(**MIXTURE)
        if config.compiled:
            components["vae"].encoder.compile(dynamic=False)
        # pairs that these weights cannot have seen, on whatever machine they learnt before
        unseen = looks_before // (LOOKS_PER_PAIR * config.pairs)
        cache = RollingCache(components, world, config.folder / "cache", config.pairs, config.width, first=unseen)
        validation = EditCache(
            components, config.world, config.folder / "validation", config.validation, seed=1, split="validation", weights=cache.weights
        )  # fmt: skip
        last = {"validated": _last_validation(config.folder)}

        def on_save(stage: TrainingStage) -> None:
            record = _record(stage, looks_before)
            _append(config.folder / "history.jsonl", record)
            if stage.progress.finished or stage.progress.seconds - last["validated"] >= config.validate_minutes * 60:
                last["validated"] = stage.progress.seconds
                _validate(stage, validation, components, config, record)

        set_seed(config.seed)  # the read-outs start from random weights, the same in every run
        stage = diffusion_stage(
            components, cache.get, config.folder, _stage_config(config), on_save, NAME, world=world, low_pass=config.low_pass,
            edit_weight=config.edit_weight, compiled=config.compiled, scales=YOUNG,
        )  # fmt: skip
        if stage.progress.step == 0:
            # the read-outs are fresh, and what e says already is learnt in seconds
            few = min(64, config.pairs)
            begin = lambda number: number % (config.pairs // few) * few  # noqa: E731  within the first cache
            batches = lambda number: cache.get(range(begin(number), begin(number) + few), stage.accelerator.device)  # noqa: E731
            stage.raw.fit_heads(batches, config.head_steps)
            on_save(stage)  # where it began
        begun = stage.progress.step

        def asked_to_stop(*_: Any) -> None:
            if stage.progress.step == begun:
                sys.exit(0)  # while the first pairs are made there is nothing to save
            stage.stop()

        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, asked_to_stop)
        stage.run()
    return stage


def _stage_config(config: EndlessConfig) -> StageConfig:
    made = StageConfig(
        math.inf, config.batch, config.lr, warmup=config.warmup, cooldown=0.0, ema_decay=config.ema_decay,
        save_minutes=config.save_minutes, seed=config.seed, max_steps=config.last_step, fused=True,
    )  # fmt: skip
    if not config.cooldown:
        return made
    progress = _progress(config.folder)
    steps = (progress.get("decay_from") or progress.get("step", 0)) + config.cooldown
    return replace(made, max_steps=steps, cooldown=config.cooldown / steps)


def _validate(
    stage: TrainingStage, cache: EditCache, components: dict[str, Any], config: EndlessConfig, record: dict[str, Any]
) -> None:
    """Measure the averaged weights, which are in place; keep them as a bundle where they are the best so far."""
    model = stage.raw
    found = one_step_errors(model, cache)
    # where the run begins only what is to be beaten: the controls take minutes, and fresh machines are frequent
    table = module_table(model, cache, timesteps=(999, 500, 50)) if record["step"] else {}
    score = found["score"]
    best = min((row["score"] for row in read_records(config.folder / "validation.jsonl")), default=math.inf)
    record = record | {"score": score, "validation": found, "costs": costs(table), "scenes": cache.count}
    _append(config.folder / "validation.jsonl", record)
    logger.info("validation at %.2fM looks: %.4f inside (best so far %.4f)", record["looks"] / 1e6, score, best)
    for line in collapsed(found["power"]):
        logger.warning("validation: %s", line)
    if score < best:
        more = {"looks": record["looks"], "validation": found}
        own = bundle_options(read_index(config.start))  # the autoencoder is the start's, and so is what was measured of it
        write_bundle(components, config.folder, config.folder / "best", config.world, more, own)


def _record(stage: TrainingStage, looks_before: int) -> dict[str, Any]:
    p = stage.progress
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S"), "step": p.step, "seconds": round(p.seconds, 1), "skipped": p.skipped,
        "looks": looks_before + p.step * stage.config.batch * LOOKS_PER_PAIR, "metrics": p.metrics,
    }  # fmt: skip


def looks_of(bundle: Path) -> int:
    """How many looks a bundle's weights have had, by its training record; 0 if it does not say."""
    record = bundle / "training.json"
    return int(json.loads(record.read_text()).get("looks", 0)) if record.is_file() else 0


def _append(path: Path, record: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a file of JSON lines; a last line that a kill cut off is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def _last_validation(folder: Path) -> float:
    rows = read_records(folder / "validation.jsonl")
    return rows[-1]["seconds"] if rows else -math.inf


def _progress(folder: Path) -> dict[str, Any]:
    path = folder / NAME / "state" / "progress.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def _check_same_run(config: EndlessConfig) -> None:
    before = _run_record(config.folder)
    if _progress(config.folder) and before:
        now = config.fixed
        changed = sorted(name for name in now if now[name] != before.get(name))
        if changed:
            raise ValueError(f"{config.folder} holds a run with another {', '.join(changed)}: give another --folder, or the same numbers")


def _run_record(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def _write_run(config: EndlessConfig, looks_before: int) -> None:
    (config.folder / "run.json").write_text(json.dumps(config.fixed | {"looks_before": looks_before}, indent=2) + "\n")


def _looks_before(config: EndlessConfig, components: dict[str, Any]) -> int:
    """Looks of the weights that the run in the folder began with. A new run takes the pieces' weights here, where there are such.

    Remembered by the run: pieces that were kept from it lie in the repository when it goes on, and must not count twice.
    """
    if _progress(config.folder):
        return _run_record(config.folder).get("looks_before", looks_of(config.start))
    if (config.pieces / RECORD).is_file():
        return read_pieces(config.pieces, components)["looks"]
    return looks_of(config.start)


def status(folder: Path) -> str:
    """One line for a person who passes by."""
    history, validations = read_records(folder / "history.jsonl"), read_records(folder / "validation.jsonl")
    if not history:
        return f"nothing was trained in {folder} yet"
    now, process = history[-1], running(folder)
    rows = [row for row in history if row["seconds"] < now["seconds"]][-10:]
    speed = "-"
    if rows:
        speed = f"{(now['looks'] - rows[0]['looks']) / (now['seconds'] - rows[0]['seconds']):.0f} looks/s"
    parts = [
        f"running (process {process})" if process else "stopped", f"{now['looks'] / 1e6:.3f}M looks", speed,
        f"fvu {now['metrics'].get('fvu', math.nan):.4f}", f"grad norm {now['metrics'].get('grad norm', math.nan):.2f}",
        f"{now['skipped']} steps skipped",
    ]  # fmt: skip
    if validations:
        last = validations[-1]
        power = last["validation"]["power"]
        hour = [row for row in validations if row["seconds"] <= last["seconds"] - 3600]
        change = f" ({last['score'] - hour[-1]['score']:+.4f} in an hour)" if hour else ""
        parts += [
            f"validation {last['score']:.4f} inside{change}, {last['validation']['outside']['999']:.4f} outside",
            "power between rows: " + ", ".join(f"{name} {value:.3f}" for name, value in power.items()),
        ]
    return " | ".join(parts)


def stop(folder: Path, patience: float = 120.0) -> str:
    """Ask the trainer to save and end, and wait until it has."""
    process = running(folder)
    if process is None:
        return "nothing trains there"
    os.kill(process, signal.SIGTERM)
    until = time.monotonic() + patience
    while running(folder) is not None:
        if time.monotonic() > until:
            return f"process {process} has not ended within {patience:.0f} s"
        time.sleep(0.2)
    return f"process {process} has saved and stopped"


def curve(folder: Path, data: Path, out: Path) -> int:
    """Add the folder's validations to `data` (JSON lines, kept in the repository) and plot all of them over looks.

    Returns:
        How many points there are.
    """
    rows = {(row["looks"], row["time"]): row for row in (*read_records(data), *read_records(folder / "validation.jsonl"))}
    points = [rows[key] for key in sorted(rows)]
    data.parent.mkdir(parents=True, exist_ok=True)
    data.write_text("".join(json.dumps(row) + "\n" for row in points))
    if points:
        _plot(points, out)
    return len(points)


def keep(folder: Path, out: Path) -> dict[str, Any]:
    """Write the weights of the best validation so far as pieces, for a run on another machine to go on from; returns their record.

    Raises:
        OSError: where no validation has been yet.
    """
    best = folder / "best"
    record = json.loads((best / "training.json").read_text())
    components = load_components(best, names=PARTS)
    out.mkdir(parents=True, exist_ok=True)
    write_pieces(out, components, {"looks": record["looks"], "validation": record["validation"]})
    return record


def _plot(points: list[dict[str, Any]], out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(13, 3.6), constrained_layout=True)
    looks = [row["looks"] / 1e6 for row in points]
    for t in points[-1]["validation"]["inside"]:
        left.plot(looks, [row["validation"]["inside"][t] for row in points], ".-", label=f"t = {t}")
    left.set_title("error inside the edit, one step")
    for kind in points[-1]["validation"]["kinds"]:
        middle.plot(looks, [row["validation"]["kinds"].get(kind) for row in points], ".-", label=kind)
    middle.set_title("by kind of edit, t = 999")
    for name in points[-1]["validation"]["power"]:
        right.plot(looks, [row["validation"]["power"].get(name, math.nan) for row in points], ".-", label=name)  # older ones lack some
    right.set_title("share of power between rows")
    right.set_ylim(0, 1)
    for axis in (left, middle, right):
        axis.set_xlabel("million looks")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(out, dpi=110)
    pyplot.close(figure)


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    main = argparse.ArgumentParser(prog="python -m fireedit_core.training.endless", description=__doc__.split("\n")[0])
    main.add_argument("command", choices=("run", "status", "stop", "curve", "keep"))
    main.add_argument("--folder", type=Path, default=EndlessConfig.folder, help="all state (default %(default)s)")
    main.add_argument("--start", type=Path, default=EndlessConfig.start, help="bundle that a new run goes on from")
    main.add_argument("--pieces", type=Path, default=EndlessConfig.pieces, help="weights that a new run goes on from (keep writes them)")
    main.add_argument("--cooldown", type=int, default=0, help="let the learning rate fall to zero over so many steps, then end")
    main.add_argument("--validate-minutes", type=float, default=EndlessConfig.validate_minutes)
    main.add_argument("--no-compile", action="store_true", help="without torch.compile, which needs a C++ compiler")
    main.add_argument("--out", type=Path, default=Path("docs"), help="folder of training-tiny.jsonl and .png (curve)")
    return main


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    o = parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stdout)
    logger.setLevel(logging.INFO)
    if o.command == "status":
        logger.info(status(o.folder))
    elif o.command == "stop":
        logger.info(stop(o.folder))
    elif o.command == "curve":
        count = curve(o.folder, o.out / "training-tiny.jsonl", o.out / "training-tiny.png")
        logger.info("%d validations in %s", count, o.out / "training-tiny.jsonl")
    elif o.command == "keep":
        record = keep(o.folder, o.pieces)
        logger.info("wrote the weights of %.3fM looks to %s", record["looks"] / 1e6, o.pieces)
    else:
        config = EndlessConfig(
            folder=o.folder, start=o.start, pieces=o.pieces, validate_minutes=o.validate_minutes, compiled=not o.no_compile,
            cooldown=o.cooldown,
        )  # fmt: skip
        try:
            run(config)
        except (AlreadyRunning, ValueError, OSError) as error:
            logger.error("%s", error)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
