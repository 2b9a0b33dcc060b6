# SPDX-License-Identifier: GPL-3.0-or-later
"""Designs of the trained modules side by side: the same start, pairs, noise and number of looks, fresh modules for each.

    python -m fireedit_core.training.designs --looks 24000 --seeds 0 1            all of them; docs/designs.md
    python -m fireedit_core.training.designs --looks 24000 --seeds 0 1 --only "v1's design" "v2"

What was measured is not measured again (the records lie beside the page, docs/designs.jsonl), and a run that was killed goes on. Beside
each design stands what it is a control of.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import math
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..checkpoints.bundle import load_components
from ..data import RICH_WORLD, World
from ..diffusion.hvca import HVCA
from ..diffusion.tati import TATI
from ..diffusion.visual_attention import VisualCrossAttention
from ..evaluation.summary import markdown_table
from .build import plain_attention
from .controls import ConstantTime, ConstantTokens, RowsApart
from .diffusion import diffusion_stage
from .edit_cache import EditCache, fingerprint
from .endless import LOOKS_PER_PAIR, MIXTURE, read_records
from .loop import StageConfig
from .tiny import TinyConfig, tiny_components
from .validation import COARSE, costs, module_table, one_step_errors

logger = logging.getLogger("fireedit")


@dataclass(frozen=True)
class Design:
    """What differs between two runs.

    Attributes:
        query_std, own_rows, centred, mark: of TATI, HVCA and the visual attention. language: whether the loss reaches the language side.
        low_pass: how often the UNet sees the source coarsely only. tati, hvca: the classes; `controls.py` has stand-ins.
        finer: HVCA reads every other level of both towers instead of the upper ones.
        qformer: a class that takes the weights of the start's Q-Former; None leaves it as it is.
    """

    name: str
    query_std: float = 1.0
    own_rows: bool = True
    centred: bool = True
    mark: str = "condition"
    language: bool = True
    low_pass: float = 0.15
    tati: type = TATI
    hvca: type = HVCA
    finer: bool = False
    qformer: type | None = None


V2 = Design("v2")
DESIGNS = (
    Design("v1's design", 192**-0.5, own_rows=False, centred=False, mark="visual", language=False, low_pass=0.0),
    V2,
    dataclasses.replace(V2, name="v2, language side as it is", language=False),
    dataclasses.replace(V2, name="v2, source never coarse", low_pass=0.0),
    dataclasses.replace(V2, name="v2, HVCA with finer levels", finer=True),
    dataclasses.replace(V2, name="v2, rows of e apart", qformer=RowsApart),
    dataclasses.replace(V2, name="v2, TATI told 500 always (control)", tati=ConstantTime),
    dataclasses.replace(V2, name="v2, constant tokens for HVCA's (control)", hvca=ConstantTokens),
)


@dataclass(frozen=True)
class Comparison:
    """What all designs share.

    Attributes:
        folder: of the cached pairs and the runs. results: the file of records; None keeps it in the folder.
        looks: of each run. pairs: in the cache. scenes: of the validation. head_steps: see `EndlessConfig`.
        sizes: of the fresh modules; None is those of fireedit-tiny.
    """

    folder: Path
    start: Path = Path("models/fireedit-tiny")
    looks: int = 24_000
    batch: int = 24
    lr: float = 4e-4
    pairs: int = 6_000
    scenes: int = 384
    head_steps: int = 120
    world: World = RICH_WORLD
    sizes: TinyConfig | None = None
    results: Path | None = None

    @property
    def records(self) -> Path:
        return self.results or self.folder / "results.jsonl"

    @property
    def steps(self) -> int:
        return max(1, self.looks // (self.batch * LOOKS_PER_PAIR))


def components_of(design: Design, seed: int, start: Path, sizes: TinyConfig | None = None) -> dict[str, Any]:
    """The start's components with fresh TATI, HVCA and visual attention of a design; the null embedding stays."""
    c = load_components(start)
    for part in c.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    plain_attention(c)
    fresh = tiny_components((), sizes, seed)
    torch.manual_seed(seed)
    settings = {"own_rows": design.own_rows, "query_std": design.query_std}
    tati = design.tati(**{**fresh["tati"].config, **settings})
    tati.null_embedding.data.copy_(c["tati"].null_embedding)
    if design.qformer:
        started = c["qformer"]
        c["qformer"] = design.qformer(**started.config).eval()
        c["qformer"].load_state_dict(started.state_dict())
    settings = {"query_std": design.query_std, "centred": design.centred}
    if design.finer:
        settings |= dict(zip(("dino_levels", "clip_levels"), all_levels(c)))
    hvca = design.hvca(**{**fresh["hvca"].config, **settings})
    visual = VisualCrossAttention.for_unet(c["unet"], hvca.config.hidden_size, mark=design.mark)
    return c | {"tati": tati, "hvca": hvca, "visual_attention": visual}


def all_levels(components: dict[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Every level of (DINOv2, CLIP) that has seen a layer."""
    return tuple(tuple(range(1, components[name].config.num_hidden_layers + 1)) for name in ("dinov2", "clip_vision"))


def run(design: Design, seed: int, shared: Comparison) -> dict[str, Any]:
    """Train one design and measure it; returns its record, which is added to those of `shared`."""
    results = shared.records
    for row in read_records(results):
        if (row["design"], row["seed"], row["looks"]) == (design.name, seed, shared.looks):
            return row
    c = components_of(design, seed, shared.start, shared.sizes)
    world, weights, levels = shared.world.only(**MIXTURE), fingerprint(c), all_levels(c)
    train = EditCache(c, world, shared.folder / "train", shared.pairs, levels=levels, weights=weights)
    held = EditCache(
        c, shared.world, shared.folder / "validation", shared.scenes, seed=1, split="validation", levels=levels, weights=weights
    )  # fmt: skip
    order = torch.randperm(train.count, generator=torch.Generator().manual_seed(seed))
    rows = lambda numbers, device: train.get(order[torch.tensor(list(numbers)) % train.count], device)  # noqa: E731
    config = StageConfig(
        math.inf, shared.batch, shared.lr, warmup=min(20, shared.steps), cooldown=0.4, ema_decay=0, seed=seed, max_steps=shared.steps,
        fused=True,
    )  # fmt: skip
    name = f"{design.name}-{seed}-{shared.looks}".replace(" ", "-").replace("'", "")
    stage = diffusion_stage(
        c, rows, shared.folder / "runs", config, name=name, world=shared.world if design.language else None, low_pass=design.low_pass,
        edit_weight=5.0,
    )  # fmt: skip
    if design.language and stage.progress.step == 0:
        few = min(64, train.count)
        stage.raw.fit_heads(lambda i: rows(range(i * few, i * few + few), stage.accelerator.device), shared.head_steps)
    stage.run()
    stage.raw.eval()
    table = module_table(stage.raw, held, (999, 500, 50))
    record = {
        "design": design.name, "seed": seed, "looks": shared.looks, "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "seconds": round(stage.progress.seconds, 1), "validation": one_step_errors(stage.raw, held),
        "costs": costs(table),
        "grad norm": stage.progress.metrics.get("grad norm"),
    }  # fmt: skip
    with results.open("a") as file:
        file.write(json.dumps(record) + "\n")
    logger.info("%s, seed %d: score %.4f", design.name, seed, record["validation"]["score"])
    return record


def page(records: Sequence[dict[str, Any]], command: str) -> str:
    """Everything that was measured as Markdown: a table per number of looks, one column per seed where a figure has several."""
    text = ["# Designs of the trained modules", f"Written by `{command}`. Errors of one step on held-out scenes: inside the edit over the "
            "wanted change; score is their mean over timesteps and kinds of edit. Values of the seeds stand behind each other. Costs: the "
            "most that the control adds to the error inside or outside at t = 999, 500 or 50."]  # fmt: skip
    for looks in sorted({row["looks"] for row in records}):
        head = (
            "design", "score", "inside, t = 999", "outside", "power TATI / HVCA", "another picture", "the same, source coarse",
            "TATI told 500", "another e", "e's mean row",
        )  # fmt: skip
        lines = []
        for name in dict.fromkeys(row["design"] for row in records if row["looks"] == looks):
            of = sorted((row for row in records if row["design"] == name and row["looks"] == looks), key=lambda row: row["seed"])
            each = lambda figure: ", ".join(map(figure, of))  # noqa: B023, E731
            worst = lambda control: each(lambda row: cost(row, control))  # noqa: B023, E731
            lines.append([
                name, each(lambda row: f"{row['validation']['score']:.4f}"), each(lambda row: f"{at(row, 'inside'):.4f}"),
                each(lambda row: f"{at(row, 'outside'):.4f}"), each(powers),
                worst("HVCA of another picture"), worst(f"{COARSE}, HVCA of another picture"), worst("TATI told 500"),
                worst("e of another scene"), worst("e = its mean row"),
            ])  # fmt: skip
        text += [f"## {looks:,} looks", markdown_table(head, lines)]
    return "\n\n".join(text) + "\n"


def cost(row: dict[str, Any], control: str) -> str:
    """The most that a control costs; "-" where it was not measured."""
    return f"{100 * max(row['costs'][control].values()):+.1f} %" if control in row["costs"] else "-"


def powers(row: dict[str, Any]) -> str:
    """Share of power between rows, of TATI and HVCA."""
    return " / ".join(f"{row['validation']['power'].get(part, 0):.3f}" for part in ("tati", "hvca"))


def at(row: dict[str, Any], place: str, timestep: int = 999) -> float:
    """An error of a record, whose timesteps are words once it has been written and read."""
    values = row["validation"][place]
    return values[timestep] if timestep in values else values[str(timestep)]


def main(arguments: list[str] | None = None) -> int:
    """Run what was not run yet and write the page; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fireedit_core.training.designs", description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path(".cache/runs/designs"))
    parser.add_argument("--looks", type=int, default=Comparison.looks)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", choices=[design.name for design in DESIGNS], help="names of designs")
    parser.add_argument("--out", type=Path, default=Path("docs/designs.md"))
    o = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stdout)
    logger.setLevel(logging.INFO)
    o.out.parent.mkdir(parents=True, exist_ok=True)
    shared = Comparison(o.folder, looks=o.looks, results=o.out.with_suffix(".jsonl"))
    for seed in o.seeds:
        for design in DESIGNS:
            if not o.only or design.name in o.only:
                run(design, seed, shared)
    command = shlex.join(["python", "-m", "fireedit_core.training.designs", *(sys.argv[1:] if arguments is None else arguments)])
    o.out.write_text(page(read_records(shared.records), command))
    return 0


if __name__ == "__main__":
    sys.exit(main())
