# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m benchmarks.own_pairs``: what `./fireedit train FOLDER` teaches fireedit-tiny, and what it forgets; run again to go on.

fireedit-tiny has never drawn a ghost and has no word for it. Twenty pairs turn things into ghosts; after the run ghosts are asked for on
scenes that are not among the pairs, and the six old kinds of edit too. Beside the start stand two controls: the same run without the
start's own edits (`--replay 0`), and one over the same pictures before with pictures after that belong to others, which can teach no edit.
Error is the squared error inside the mask over the wanted squared change: 0 exact, 1 nothing done.
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import resource
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.edit import machine_line
from fireedit_core.data import EDIT_TYPES, RICH_WORLD, SceneGenerator, SceneSample, Sprites
from fireedit_core.data.world import article
from fireedit_core.data.writers.pairs import write_by_name
from fireedit_core.evaluation.metrics import score_edit
from fireedit_core.evaluation.scenes import (
    Scenes,
    Settings,
    autoencoder_floor,
    batches,
    edit_scenes,
    load_pipeline,
    to_arrays,
    to_tensor,
)
from fireedit_core.evaluation.summary import markdown_table
from host_setup.host_lookup import REPO

log = logging.getLogger("fireedit")

NEW = "ghost"  # is in no scene that fireedit-tiny was trained on, and no word of it
PAIRS = 20
SHOWN = 8  # scenes of the picture
HALF = 0.5  # an error below it is nearer to the target than to nothing done
START = "start"


@dataclass(frozen=True)
class Run:
    """What the table calls it, arguments of the command, whether pictures after belong to other pairs, share of the steps."""

    label: str
    arguments: tuple[str, ...] = ()
    others: bool = False
    share: float = 1.0


RUNS = {
    "trained": Run("trained"),
    "others": Run("trained, each picture after of another pair", others=True),
    # every second row is one of the pairs where the start's own edits ride along: as many looks at each pair as there
    "no-replay": Run("trained with `--replay 0`, half the steps", ("--replay", "0"), share=0.5),
}
LABELS = {START: "fireedit-tiny before"} | {name: one.label for name, one in RUNS.items()}


def ghosts(split: str, count: int) -> list[SceneSample]:
    """Scenes of a split in which a thing becomes a ghost of its size, the first that have room for it."""
    sprites = Sprites.for_world(RICH_WORLD)
    world = RICH_WORLD.only(remove=1.0)
    found: list[SceneSample] = []
    for sample in SceneGenerator(world, sprites, split, masks=False):
        changed = _with_ghost(sample, sprites, RICH_WORLD.templates["replace"][len(found) % len(RICH_WORLD.templates["replace"])])
        if changed is not None:
            found.append(changed)
        if len(found) == count:
            return found
    raise AssertionError("scenes do not end")


def _with_ghost(sample: SceneSample, sprites: Sprites, template: str) -> SceneSample | None:
    x0, y0, x1, y1 = sample.boxes[sample.target_index].astype(int)
    ghost = sprites.get(NEW, "", int(max(x1 - x0, y1 - y0)))
    x, y = (x0 + x1 - ghost.width) // 2, (y0 + y1 - ghost.height) // 2
    box = np.array([x, y, x + ghost.width, y + ghost.height])
    others = np.delete(sample.boxes, sample.target_index, axis=0)
    apart = (box[2] <= others[:, 0]) | (others[:, 2] <= box[0]) | (box[3] <= others[:, 1]) | (others[:, 3] <= box[1])
    height, width = sample.source.shape[:2]
    if x < 0 or y < 0 or box[2] > width or box[3] > height or not apart.all():
        return None
    target, mask = sample.target.copy(), sample.mask.copy()
    ghost.paste(target, x, y)
    mask[y : box[3], x : box[2]] |= ghost.footprint
    text = template.format(x=sample.referring, y=article(NEW))
    return replace(sample, target=target, mask=mask, instruction=text, edit_type="replace", edit_noun=NEW)


def write_pairs(folder: Path, others: bool) -> None:
    """The folder of pairs as a user has it; with `others` each picture after is that of the pair before it."""
    samples = ghosts("train", PAIRS)
    if others:
        moved = [*samples[1:], samples[0]]
        samples = [replace(sample, target=other.target) for sample, other in zip(samples, moved, strict=True)]
    write_by_name(folder, samples)


def train(room: Path, way: Run, steps: int, arguments: list[str]) -> float:
    """CPU seconds of a run over a folder of pairs in `room`, or of what was left of it."""
    if not (room / "pairs").is_dir():
        write_pairs(room / "pairs", way.others)
    command = [sys.executable, "-m", "fireedit_core.training.paper", str(room / "pairs"), "--out", str(room / "run"),
               "--steps", str(round(steps * way.share)), *arguments, *way.arguments]  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=REPO, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(bundle: Path, count: int, each: int, steps: int) -> dict[str, Any]:
    """Errors and strict successes of a bundle: {"new", "old", "kinds"}, and its edits of the first new scenes."""
    pipe, settings = load_pipeline(bundle, "cpu"), Settings(steps=steps)
    found: dict[str, Any] = {"kinds": {kind: [] for kind in EDIT_TYPES}}
    shown: list[np.ndarray] = []
    old: Iterator = Scenes(split="validation", each=each).draw(RICH_WORLD)
    for name, scenes in (("new", enumerate(ghosts("validation", count))), ("old", old)):
        scores = []
        for rows in batches(scenes, 16):
            samples = [sample for _, sample in rows]
            edits, regions = edit_scenes(pipe, samples, [i for i, _ in rows], 0, settings)
            plain = to_arrays(autoencoder_floor(pipe, to_tensor([s.source for s in samples])))
            edits = to_arrays(edits)
            shown += list(edits[: max(0, SHOWN - len(shown))])
            scores += [score_edit(s, e, r, 0, p) for s, e, r, p in zip(samples, edits, regions, plain, strict=True)]
        found[name] = {"errors": [s.relative_error for s in scores], "successes": sum(s.success for s in scores)}
        if name == "old":
            for score in scores:
                found["kinds"][score.edit_type].append(score.relative_error)
    found["shown"] = [(np.clip(edit, 0, 1) * 255).round().astype(np.uint8).tolist() for edit in shown]
    return found


def run(room: Path, names: Sequence[str], scenes: dict[str, int], steps: int, arguments: list[str]) -> dict[str, dict[str, Any]]:
    """The start and the runs of these names, and what they are worth; a file in `room` for each, and what is there is not done again.

    Args:
        scenes: arguments of `measure`.
    """
    found = {}
    for name in (START, *names):
        place = room / name
        file, asked = place / "found.json", [scenes] if name == START else [scenes, steps, arguments]
        one = json.loads(file.read_text()) if file.is_file() else {}
        if one.get("asked") != asked:
            place.mkdir(parents=True, exist_ok=True)
            bundle, seconds = REPO / "models" / "fireedit-tiny", 0.0
            if name != START:
                seconds = train(place, RUNS[name], steps, ["--feature_cache", str(room / "features"), *arguments])
                bundle = place / "run" / "bundle"
            one = measure(bundle, **scenes) | {"seconds": seconds, "asked": asked}
            file.write_text(json.dumps(one))
        found[name] = one
        log.info("%s: new %.3f, old %.3f", LABELS[name], *(statistics.median(one[kind]["errors"]) for kind in ("new", "old")))
    return found


def table(found: dict[str, dict[str, Any]]) -> str:
    """A row for each bundle."""
    start = statistics.median(found[START]["old"]["errors"])
    rows = []
    for name, one in found.items():
        new, old = one["new"], one["old"]
        count = len(new["errors"])
        rows.append([
            LABELS[name], f"{statistics.median(new['errors']):.3f}", f"{sum(e < HALF for e in new['errors'])} of {count}",
            str(new["successes"]), f"{statistics.median(old['errors']):.3f}", f"{statistics.median(old['errors']) / start:.2f}",
            f"{old['successes']} of {len(old['errors'])}", f"{one['seconds']:.0f}" if one["seconds"] else "-",
        ])  # fmt: skip
    head = [NEW + ": median error", f"below {HALF}", "strict successes", "old kinds: median error", "over the start's",
            "strict successes", "CPU s of the run"]  # fmt: skip
    return markdown_table(["bundle", *head], rows)


def kinds_table(found: dict[str, dict[str, Any]]) -> str:
    """The old kinds one by one, median errors."""
    rows = [[LABELS[name], *(f"{statistics.median(errors):.3f}" for errors in one["kinds"].values())] for name, one in found.items()]
    return markdown_table(["bundle", *EDIT_TYPES], rows)


def picture(found: dict[str, dict[str, Any]]) -> Image.Image:
    """Source, start, all runs, target of the first new scenes, not chosen; two scenes a row."""
    samples = ghosts("validation", SHOWN)
    rows = []
    for i, sample in enumerate(samples):
        edits = [np.array(one["shown"][i], np.uint8) for one in found.values()]
        rows.append(np.concatenate([sample.source, *edits, sample.target], axis=1))
    return Image.fromarray(np.concatenate([np.concatenate(rows[i : i + 2], axis=1) for i in range(0, SHOWN, 2)]))


def main(arguments: list[str] | None = None) -> int:
    """Train, measure, print, write."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m benchmarks.own_pairs", description=__doc__, allow_abbrev=False,
                                     epilog="What is not named here goes to every run, such as --lr 1e-3.")  # fmt: skip
    parser.add_argument("--scenes", type=int, default=32, help="new scenes that a ghost is asked for on")
    parser.add_argument("--each", type=int, default=6, help="scenes of each old kind")
    parser.add_argument("--edit-steps", type=int, default=6, help="sampling steps of the measured edits")
    parser.add_argument("--steps", type=int, default=120, help="of the run")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), help="some of the runs")
    parser.add_argument("--room", type=Path, default=REPO / ".cache" / "runs" / "own-pairs-measured")
    parser.add_argument("--picture", type=Path, help="PNG to write")
    parser.add_argument("--out", type=Path, help="Markdown to write")
    o, rest = parser.parse_known_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    scenes = {"count": o.scenes, "each": o.each, "steps": o.edit_steps}
    found = run(o.room, o.only, scenes, o.steps, rest)
    text = (
        f"Written by `python -m benchmarks.own_pairs {shlex.join(arguments)}` on {datetime.date.today()}; {machine_line()}.\n\n"
        f"{table(found)}\n\nThe old kinds one by one, median errors of {o.each} scenes each:\n\n{kinds_table(found)}\n"
    )
    log.info("%s", text)
    if o.out:
        o.out.write_text(text, encoding="utf-8")
    if o.picture:
        picture(found).save(o.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
