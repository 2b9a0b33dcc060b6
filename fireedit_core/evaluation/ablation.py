# SPDX-License-Identifier: GPL-3.0-or-later
"""What each module is worth: base, +region tokens, +TATI, +HVCA, trained alike with several seeds and measured alike."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..data import WORLD, World
from ..training.ablation import VARIANTS, Budget, train_variant
from . import summary
from .judge import SceneJudge
from .scenes import Scenes, Settings, evaluate

logger = logging.getLogger("fireedit")

# What the table shows: (field of a score, heading, digits, whether more is better).
FIELDS = (
    ("l1", "L1", 4, False), ("psnr", "PSNR inside, dB", 2, True), ("judged", "success by the judge", 3, True),
    ("success", "strict success", 3, True), ("relative_error", "relative error inside", 3, False),
    ("outside_change", "outside change", 4, False),
)  # fmt: skip
PAPER_L1 = (0.0897, 0.0574)  # of base and full model, Emu Edit test (arXiv 2503.19839, table 3)


def run(
    folder: Path | str, start: Path | str, seeds: Sequence[int], budget: Budget, scenes: Scenes, judge: SceneJudge | None,
    settings: Settings | None = None, world: World = WORLD,
) -> dict[str, Any]:  # fmt: skip
    """Train and measure every variant with every seed; what is there already is not done again.

    Returns:
        {"budget", "scenes", "seeds", "variants": {name: {seed: {field: one value per scene}}}}, also written to
        `<folder>/ablation.json` after each model.
    """
    folder = Path(folder)
    record = folder / "ablation.json"
    setting = {"budget": asdict(budget), "scenes": json.loads(json.dumps(asdict(scenes))), "world": world.fingerprint()}
    result = json.loads(record.read_text()) if record.is_file() else setting | {"variants": {}}
    stale = [key for key, value in setting.items() if result.get(key) != value]
    if stale:
        raise ValueError(f"{record} was made with another {', '.join(stale)}; give another --folder or delete it")
    for seed in seeds:
        for variant in VARIANTS:
            known = result["variants"].setdefault(variant.name, {})
            if str(seed) in known:
                continue
            pipe = train_variant(variant, seed, folder, start, budget, world)
            own = Settings(
                *((settings.steps, settings.text_guidance, settings.image_guidance) if settings else ()),
                tati_strength=float(variant.tati), hvca_strength=float(variant.regions), regions=variant.regions,
            )  # fmt: skip
            measured = evaluate(pipe, scenes, own, world=world, baselines=False, judge=judge)["scenes"]
            for score in measured:
                score["judged"] = (score["judged"] or {}).get("success")
            known[str(seed)] = {f: [s[f] for s in measured] for f, *_ in FIELDS if measured[0][f] is not None}
            record.parent.mkdir(parents=True, exist_ok=True)
            record.write_text(json.dumps(result))
            logger.info("%s, seed %d: L1 %.4f", variant.name, seed, np.mean(known[str(seed)]["l1"]))
    return result


def table(result: dict[str, Any]) -> str:
    """Means over seeds with 95 % bootstrap intervals over scenes, and what a change of seed does, as Markdown."""
    fields = [f for f in FIELDS if all(f[0] in by for runs in result["variants"].values() for by in runs.values())]
    rows, base = [], None
    for name, runs in result["variants"].items():
        cells = [name, str(len(runs))]
        for field, _, digits, _ in fields:
            cells.append(summary.number(summary.estimate(scene_means(runs, field)), digits))
        by_seed = [float(np.mean(run["l1"])) for run in runs.values()]
        base = base if base is not None else np.mean(by_seed)
        cells += [", ".join(f"{v:.4f}" for v in by_seed), f"{100 * (np.mean(by_seed) / base - 1):+.0f} %"]
        rows.append(cells)
    head = ["model", "seeds", *(heading for _, heading, *_ in fields), "L1 of each seed", "L1 against base"]
    return summary.markdown_table(head, rows)


def steps_table(result: dict[str, Any]) -> str:
    """What each module changes in L1 against the model before it: paired over scenes, Markdown."""
    names, rows = list(result["variants"]), []
    for before, after in zip(names, names[1:]):
        old, new = result["variants"][before], result["variants"][after]
        changes = [np.subtract(new[seed]["l1"], old[seed]["l1"]) for seed in new if seed in old]
        better = sum(change.mean() < 0 for change in changes)
        rows.append([after, summary.number(summary.estimate(np.mean(changes, axis=0)), 4), f"{better} of {len(changes)}"])
    return summary.markdown_table(["module", "change of L1", "seeds in which it helps"], rows)


def scene_means(runs: dict[str, dict[str, list]], field: str) -> np.ndarray:
    """One value per scene: the mean over seeds."""
    return np.mean([np.asarray(run[field], float) for run in runs.values()], axis=0)


def plot(result: dict[str, Any], path: Path | str) -> None:
    """L1 and success of the four models, a dot per seed, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [f for f in FIELDS if f[0] in ("l1", "judged", "outside_change")]
    figure, axes = pyplot.subplots(1, len(shown), figsize=(4 * len(shown), 3.2), constrained_layout=True)
    names = list(result["variants"])
    for axis, (field, heading, _, more) in zip(axes, shown, strict=True):
        for x, name in enumerate(names):
            runs = result["variants"][name]
            if any(field not in run for run in runs.values()):
                continue
            values = scene_means(runs, field)
            low, high = summary.bootstrap(values)
            axis.errorbar(x, values.mean(), [[values.mean() - low], [high - values.mean()]], fmt="_", color="#3a60aa", capsize=4, ms=14)
            dots = [np.mean(run[field]) for run in runs.values()]
            axis.plot([x] * len(dots), dots, ".", color="#d6623a")
        axis.set_xticks(range(len(names)), names, rotation=20)
        axis.set_title(f"{heading} ({'more' if more else 'less'} is better)", fontsize=10)
        axis.grid(axis="y", alpha=0.3)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def report(result: dict[str, Any], command: str) -> str:
    """docs/ablation.md."""
    budget = result["budget"]
    runs = list(result["variants"].values())
    fall = 1 - np.mean([np.mean(r["l1"]) for r in runs[-1].values()]) / np.mean([np.mean(r["l1"]) for r in runs[0].values()])
    count = len(next(iter(runs[0].values()))["l1"])
    return "\n\n".join([
        "# What each module is worth",
        f"Written by `{command}`. Four models, each with one module more than the one before:",
        "- **base**: the language model sees image tokens alone; its edit embedding e is all that the UNet is told.\n"
        "- **+ region tokens**: it sees every region as a token and points at one; the mask of where it points (the grounding mask, "
        "beyond the paper) marks the UNet's cells, with the mean of e as what is to be done there.\n"
        "- **+ TATI**: e goes through time-aware target injection.\n"
        "- **+ HVCA**: visual tokens, from CLIP and DINOv2 by the instruction, take the place of that mean and are attended to.",
        "All start from the same aligned language model, autoencoder and detector, and go on aligning it with region tokens or without "
        f"them for {budget['align_steps']} steps of 48 scenes. All go on from the same editor: the UNet of fireedit-tiny after "
        f"{budget['first_steps']} steps as a base model, so that it can paint but has unlearnt the modules (the paper's go on from "
        f"InstructPix2Pix). Each trains {budget['edit_steps']} steps of 24 pairs more, every pair seen twice. TATI, HVCA and the visual "
        f"attention start from random weights. A seed decides those weights, the order of the {budget['pairs']} pairs and all noise. "
        f"Measured on {count} held-out scenes. Means over seeds; 95 % bootstrap intervals over scenes.",
        table(result),
        f"From base to full, L1 falls by {100 * fall:.0f} %; in the paper, on other data, by "
        f"{100 * (1 - PAPER_L1[1] / PAPER_L1[0]):.0f} % ({PAPER_L1[0]} to {PAPER_L1[1]}).",
        "**Each module against the model before it**, on the same scenes: the difference in L1, and how many of the seeds it is better in.",
        steps_table(result),
        "![L1, success and outside change of the four models](ablation.png)",
    ]) + "\n"  # fmt: skip
