# SPDX-License-Identifier: GPL-3.0-or-later
"""What a better condition could be worth to a UNet as it is: offsets of e or v, optimised for each scene against its own target.

No module can give more through that place than its oracle. So an oracle tells a module that does too little from a place where
there is nothing to win: if the best e for each timestep is hardly better than the best e for all of them, then time in the
condition is worth nothing to this UNet, however TATI is trained.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.bundle import load_components
from ..data import WORLD, World
from ..precision import autocast
from ..training.diffusion import DiffusionModel, attach_for_training, errors
from ..training.edit_cache import CachedBatch, EditCache
from ..training.validation import PLAIN, TIMESTEPS, base_of, module_table
from . import summary

# name -> (which condition is optimised, whether each timestep has an offset of its own)
ORACLES = {
    "best e_t, one for all t": ("condition", False),
    "best e_t, one for each t": ("condition", True),
    "best v": ("visual", False),
}


def optimised(
    model: DiffusionModel, batch: CachedBatch, place: str, own_time: bool, timesteps: Sequence[int] = TIMESTEPS, steps: int = 60,
    lr: float = 0.03, seed: int = 0,
) -> dict[int, Tensor]:  # fmt: skip
    """Errors of each scene with its own best offset, on noises that the offset was not optimised with.

    Args:
        place: "condition" offsets e_t (B, 77, D), "visual" offsets v (B, 16, D). own_time: an offset for each timestep.

    Returns:
        timestep -> (B, 2), see `errors`.
    """
    with torch.no_grad():
        e, where, _ = model.read(batch)
        given = model.conditions(batch, e, where)
    shape = e.shape if place == "condition" else given.tokens.shape
    offsets = {t: torch.zeros(shape, requires_grad=True) for t in (timesteps if own_time else [None])}
    optimizer = torch.optim.Adam(offsets.values(), lr=lr)
    generator = torch.Generator().manual_seed(seed)

    def answer(t: int) -> Tensor:
        offset = offsets[t if own_time else None]
        told, times = given, torch.full((len(e),), t)
        if place == "visual":
            told = replace(given, visual=model.parts["visual_attention"].project(given.tokens + offset))
        with torch.no_grad():
            context = model.condition_at(given, times)
        if place == "condition":
            context = context + offset
        noise = torch.randn(batch.target.shape, generator=generator)
        with autocast("cpu"):
            return model.denoise(told, batch.target, noise, times, context)[1]

    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps)
        for t in timesteps:
            inside, _ = errors(answer(t), batch.source, batch.target, batch.mask)
            one = (inside[:, 0] / inside[:, 1].clamp(min=1e-6)).sum()
            one.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        return {t: errors(answer(t), batch.source, batch.target, batch.mask)[0] for t in timesteps}


def study(
    bundle: Path | str, count: int = 48, steps: int = 60, world: World = WORLD, folder: Path | None = None, batch: int = 48,
    timesteps: Sequence[int] = TIMESTEPS,
) -> dict[str, Any]:  # fmt: skip
    """The table of modules (`module_table`) and of oracles on validation scenes.

    Args:
        folder: for the features of the scenes; None makes them for this call. timesteps: that are looked at.
    """
    components = load_components(bundle)
    for part in components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    attach_for_training(components)
    model = DiffusionModel(components).eval()
    with tempfile.TemporaryDirectory() as room:
        cache = EditCache(components, world, folder or room, count, seed=1, split="validation")
        modules = module_table(model, cache, timesteps)
        found: dict[str, dict[int, float]] = {}
        for name, (place, own_time) in ORACLES.items():
            parts: dict[int, list[Tensor]] = {t: [] for t in timesteps}
            for first in range(0, count, batch):
                rows = cache.get(torch.arange(first, min(first + batch, count)), torch.device("cpu"))
                for t, inside in optimised(model, rows, place, own_time, timesteps, steps).items():
                    parts[t].append(inside)
            joined = {t: torch.cat(rows).sum(0) for t, rows in parts.items()}
            found[name] = {t: float(x[0] / x[1]) for t, x in joined.items()}
    return {"count": count, "steps": steps, "modules": modules, "oracles": found}


def report(result: dict[str, Any], command: str) -> str:
    """The study as Markdown."""
    times = list(result["modules"][PLAIN]["inside"])
    plain = result["modules"][PLAIN]
    change = lambda value, base: f"{100 * (value / base - 1):+.1f} %"  # noqa: E731
    rows = [[PLAIN, *(f"{plain['inside'][t]:.4f}" for t in times), f"{plain['outside'][times[0]]:.4f}"]]
    for name, one in result["modules"].items():
        if name != PLAIN:
            base = result["modules"][base_of(name)]
            outside = change(one["outside"][times[0]], base["outside"][times[0]])
            rows.append([name, *(change(one["inside"][t], base["inside"][t]) for t in times), outside])
    oracles = [[name, *(change(one[t], plain["inside"][t]) for t in times)] for name, one in result["oracles"].items()]
    power = ", ".join(f"{name} {value:.3f}" for name, value in plain["power"].items())
    constant, timed = (result["oracles"][name] for name in list(ORACLES)[:2])
    worth = max(1 - timed[t] / constant[t] for t in times)
    return "\n\n".join([
        "# What each module does, and what there is to win",
        f"Written by `{command}` on {result['count']} validation scenes: squared error of the clean latent that the model sees in "
        "one step from noise t, inside the edit, over the wanted change there; in the last column the mean squared error outside at the "
        "first t. With a coarse source (means of 4 x 4 cells) detail can come through HVCA alone; the rows after it are compared with it.",
        f"Share of power between rows: {power}.",
        summary.markdown_table(("told", *(f"t = {t}" for t in times), "outside"), rows),
        f"**Oracles**: offsets optimised for each scene in {result['steps']} steps, scored on other noises. The best condition for "
        f"each timestep is at most {100 * worth:.1f} % better than the best one for all of them: that is what time in the condition can "
        "be worth to this UNet, which is told the time itself and sees it in the noise.",
        summary.markdown_table(("oracle", *(f"t = {t}" for t in times)), oracles),
    ]) + "\n"  # fmt: skip
