# SPDX-License-Identifier: GPL-3.0-or-later
"""What TATI does: how its condition changes over the timesteps, and what edits gain by its strength and its window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data import WORLD, World
from ..diffusion.pipeline import FireEditPipeline
from ..diffusion.tati import TATI
from . import summary
from .judge import SceneJudge
from .scenes import Scenes, Settings, evaluate, to_tensor

STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0)
WINDOWS = ((0.0, 1.0), (0.0, 0.5), (0.5, 1.0), (0.0, 0.1), (0.1, 1.0))
FIXED_TIMES = (999, 500, 0)
GRID = 25  # timesteps at which the condition is looked at


@torch.no_grad()
def condition_over_time(pipe: FireEditPipeline, embeddings: Tensor) -> dict[str, np.ndarray]:
    """What TATI makes of e (N, 77, D) at GRID timesteps from pure noise to none.

    Returns:
        "timesteps" (GRID,); "share" (GRID, N): norm of the change over the norm of e; "kept" (GRID, N): cosine of e and the
        condition; "alike" (GRID, GRID): mean cosine of the changes at two timesteps.
    """
    timesteps = torch.linspace(999, 0, GRID).round()
    flat = embeddings.flatten(1)
    conditions = torch.stack([pipe.tati(embeddings, t.expand(len(embeddings))).flatten(1) for t in timesteps])
    change = conditions - flat
    unit = torch.nn.functional.normalize(change, dim=-1)
    return {
        "timesteps": timesteps.numpy(),
        "share": (change.norm(dim=-1) / flat.norm(dim=-1)).numpy(),
        "kept": torch.nn.functional.cosine_similarity(conditions, flat[None], dim=-1).numpy(),
        "alike": torch.einsum("and,bnd->nab", unit, unit).mean(0).numpy(),
    }


@torch.no_grad()
def embeddings_of(pipe: FireEditPipeline, scenes: Scenes, count: int = 32, world: World = WORLD) -> Tensor:
    """e (N, 77, D) of the first scenes."""
    samples = [sample for _, sample in zip(range(count), (s for _, s in scenes.draw(world)), strict=False)]
    source = to_tensor([s.source for s in samples]).to(pipe.device)
    tokens = pipe.editor.tokenize(source, pipe.editor.detect(source))
    return pipe.editor.condition(tokens, [s.instruction for s in samples]).edit_embedding.float().cpu()


@contextmanager
def fixed_time(tati: TATI, timestep: int) -> Iterator[None]:
    """TATI believes that it is always `timestep` (0..999); the UNet still sees the true one."""
    hook = tati.register_forward_pre_hook(lambda _, given: (given[0], torch.full_like(given[1], timestep)))
    try:
        yield
    finally:
        hook.remove()


def measure(
    pipe: FireEditPipeline, scenes: Scenes, judge: SceneJudge | None, settings: Sequence[Settings], batch: int = 16,
    world: World = WORLD,
) -> list[dict[str, Any]]:  # fmt: skip
    """The overall row of each setting, all on the same scenes and noise."""
    runs = (evaluate(pipe, scenes, one, batch, world, baselines=False, judge=judge) for one in settings)
    return [run["tables"]["edit"][summary.OVERALL] for run in runs]


def study(
    pipe: FireEditPipeline, scenes: Scenes, judge: SceneJudge | None, folder: Path | str, steps: int = 20, batch: int = 16,
    command: str = "", world: World = WORLD,
) -> str:  # fmt: skip
    """Write `tati.md`, `tati_condition.png` and `tati_strength.png` into a folder; returns the text."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    over_time = condition_over_time(pipe, embeddings_of(pipe, scenes, world=world))
    plain = Settings(steps=steps)
    by_strength = measure(pipe, scenes, judge, [replace(plain, tati_strength=s) for s in STRENGTHS], batch, world)
    by_window = measure(pipe, scenes, judge, [replace(plain, start_percent=a, end_percent=b) for a, b in WINDOWS], batch, world)
    by_time = []
    for timestep in FIXED_TIMES:
        with fixed_time(pipe.tati, timestep):
            by_time += measure(pipe, scenes, judge, [plain], batch, world)
    modules = {
        "TATI and HVCA": plain, "HVCA alone": replace(plain, tati_strength=0.0), "TATI alone": replace(plain, hvca_strength=0.0),
        "neither": replace(plain, tati_strength=0.0, hvca_strength=0.0),
    }  # fmt: skip
    by_module = measure(pipe, scenes, judge, list(modules.values()), batch, world)
    plot_condition(over_time, folder / "tati_condition.png")
    plot_strength(by_strength, folder / "tati_strength.png")
    head = ("success by the judge", "strict success", "relative error", "L1", "outside change")
    row = lambda name, r: [  # noqa: E731
        name, summary.share(r["judged"]["success"]), summary.share(r["success"]), summary.number(r["relative_error"]),
        summary.number(r["l1"], 4), summary.number(r["outside_change"], 4),
    ]  # fmt: skip
    share, kept, t = over_time["share"], over_time["kept"], over_time["timesteps"]
    text = "\n\n".join([
        "# What TATI does",
        f"Written by `{command}` on {len(scenes)} held-out scenes at {steps} steps.",
        f"**The condition.** At pure noise (t = {t[0]:.0f}) TATI changes e by {100 * share[0].mean():.1f} % of its norm (cosine with "
        f"e {kept[0].mean():.3f}), half-way by {100 * share[GRID // 2].mean():.1f} % ({kept[GRID // 2].mean():.3f}), at no noise by "
        f"{100 * share[-1].mean():.1f} % ({kept[-1].mean():.3f}). The change at pure noise and the one at no noise have a cosine of "
        f"{over_time['alike'][0, -1]:.3f}.",
        "![norm and similarity of the condition over the timesteps](tati_condition.png)",
        "**Strength** (0 leaves TATI out, 1 is as trained; HVCA stays):",
        summary.markdown_table(("TATI strength", *head), [row(f"{s:g}", r) for s, r in zip(STRENGTHS, by_strength, strict=True)]),
        "![success, error and outside change by strength](tati_strength.png)",
        "**Time alone.** TATI is told the same timestep at every step, while the UNet still sees the true one. What is lost against "
        "strength 1 above is what its knowing the time is worth to these weights:",
        summary.markdown_table(("TATI believes in t", *head), [row(str(t), r) for t, r in zip(FIXED_TIMES, by_time, strict=True)]),
        "**Beside HVCA** (the mark of the grounding mask goes with it):",
        summary.markdown_table(("at work", *head), [row(name, r) for name, r in zip(modules, by_module, strict=True)]),
        "**Window** (`start_percent` to `end_percent` of FireEdit Apply; outside it neither TATI nor HVCA acts):",
        summary.markdown_table(
            ("window", *head), [row(f"{a:g} to {b:g}", r) for (a, b), r in zip(WINDOWS, by_window, strict=True)]
        ),
    ]) + "\n"  # fmt: skip
    (folder / "tati.md").write_text(text)
    return text


def plot_condition(over_time: dict[str, np.ndarray], path: Path) -> None:
    """Norm of the change and cosine with e over the timesteps, and how alike the changes are."""
    figure, (left, right) = _figure(2)
    t = over_time["timesteps"]
    for values, label, colour in (
        (over_time["share"], "norm of the change / norm of e", "#d6623a"),
        (over_time["kept"], "cosine with e", "#3a60aa"),
    ):
        left.plot(t, values.mean(1), color=colour, label=label)
        left.fill_between(t, *np.quantile(values, (0.1, 0.9), axis=1), color=colour, alpha=0.2)
    left.set(xlabel="timestep (999 = pure noise)", xlim=(999, 0))
    left.legend(fontsize=8)
    left.grid(alpha=0.3)
    image = right.imshow(over_time["alike"], extent=(999, 0, 0, 999), cmap="cividis", vmax=1)
    right.set(title="cosine of the changes at two timesteps", xlabel="timestep", ylabel="timestep")
    right.title.set_fontsize(10)
    figure.colorbar(image, ax=right)
    figure.savefig(path, dpi=110)


def plot_strength(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Success, error and outside change by strength, with their intervals."""
    picks = (("judged", "success by the judge"), ("relative_error", "relative error inside"), ("outside_change", "outside change"))
    figure, axes = _figure(len(picks))
    for axis, (field, title) in zip(axes, picks, strict=True):
        values = [(r[field]["success"] if field == "judged" else r[field]) for r in rows]
        if any(v["mean"] is None for v in values):
            continue
        axis.plot(STRENGTHS, [v["mean"] for v in values], ".-", color="#3a60aa")
        axis.fill_between(STRENGTHS, *zip(*(v["interval"] for v in values)), color="#3a60aa", alpha=0.2)
        axis.set(xlabel="TATI strength")
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def _figure(columns: int):  # noqa: ANN202
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(1, columns, figsize=(4.4 * columns, 3.4), constrained_layout=True)
