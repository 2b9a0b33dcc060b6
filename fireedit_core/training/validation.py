# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a model is after so many looks: one-step errors in latents on scenes that training never draws, and what each module
does to them. A sampler needs minutes for what this shows in seconds; it does not replace the held-out run of the card."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..data import EDIT_TYPES
from ..precision import autocast
from .diffusion import Conditions, DiffusionModel, errors, low_passed
from .edit_cache import CachedBatch, EditCache

TIMESTEPS = (999, 750, 500, 250, 50)

Change = Callable[[DiffusionModel, CachedBatch, Conditions], Conditions]


def _project(model: DiffusionModel, given: Conditions, tokens: Tensor) -> Conditions:
    return replace(given, tokens=tokens, visual=model.parts["visual_attention"].project(tokens))


def _other_picture(model: DiffusionModel, batch: CachedBatch, given: Conditions) -> Conditions:
    features = batch.features
    roll = lambda levels: tuple(x.roll(1, 0) for x in levels)  # noqa: E731
    features = replace(features, dino=roll(features.dino), clip=roll(features.clip))
    return _project(model, given, model.parts["hvca"](given.edit_embedding, features))


def _coarse(_: DiffusionModel, batch: CachedBatch, given: Conditions) -> Conditions:
    return replace(given, source=low_passed(batch.source))


PLAIN, COARSE = "as it is", "source coarse"
# What is done to a module, each a control of what it is worth. HVCA's leave the mark as it is. With a coarse source the detail of what
# stays can come through HVCA alone: what it has learnt shows there, where the UNet cannot read it off the latent.
SWAPS: dict[str, Change] = {
    "HVCA of another picture": _other_picture,
    "v of another scene": lambda model, _, given: _project(model, given, given.tokens.roll(1, 0)),
    "v = mean of all scenes": lambda model, _, given: _project(model, given, given.tokens.mean(0, keepdim=True).expand_as(given.tokens)),
    "v = 0": lambda model, _, given: _project(model, given, torch.zeros_like(given.tokens)),
    "no mark": lambda _model, _, given: replace(given, where=torch.zeros_like(given.where)),
    "e of another scene": lambda _model, _, given: replace(given, edit_embedding=given.edit_embedding.roll(1, 0)),
    "e = its mean row": lambda _model, _, given: replace(
        given, edit_embedding=given.edit_embedding.mean(1, keepdim=True).expand_as(given.edit_embedding)
    ),
    COARSE: _coarse,
    f"{COARSE}, HVCA of another picture": lambda model, batch, given: _other_picture(model, batch, _coarse(model, batch, given)),
    f"{COARSE}, v = 0": lambda model, batch, given: _project(model, _coarse(model, batch, given), torch.zeros_like(given.tokens)),
}
TOLD = (999, 500, 0)  # timesteps that TATI is told at all times


@torch.no_grad()
def one_step_errors(
    model: DiffusionModel, cache: EditCache, timesteps: Sequence[int] = TIMESTEPS, swap: Change | None = None, told: int | None = None,
    tati: bool = True, batch: int = 64, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Errors of the clean latent that the model sees in the noised target, with noise that depends on (seed, timestep) alone.

    Args:
        swap: one of `SWAPS`. told: the timestep that TATI is told instead of the true one. tati: False leaves TATI out.

    Returns:
        "inside": {timestep: squared error inside the edits over the wanted change}, "outside": {timestep: mean squared error
        outside}, "kinds": {edit type: inside at the first timestep}, "score": mean of inside over timesteps and edit types, so
        that changes of background, which are large, do not decide alone; "power": {"e", "tati", "hvca", "hvca pictures"}, and "mask":
        how well the grounding mask covers the edit (intersection over union).
    """
    device = next(model.parameters()).device
    model.eval()
    inside: dict[int, list[Tensor]] = {t: [] for t in timesteps}
    outside: dict[int, list[Tensor]] = {t: [] for t in timesteps}
    kinds, power, overlap = [], [], []
    noises = {t: torch.Generator().manual_seed(seed * 1_000_003 + t) for t in timesteps}
    for first in range(0, cache.count, batch):
        rows = cache.get(torch.arange(first, min(first + batch, cache.count)), device)
        with autocast(device):
            e, where, _ = model.read(rows)
            given = model.conditions(rows, e, where)
            if swap is not None:
                given = swap(model, rows, given)
            for t in timesteps:
                noise = torch.randn(rows.target.shape, generator=noises[t]).to(device)
                times = torch.full((len(noise),), t, device=device)
                told_times = times if told is None else torch.full_like(times, told)
                context = model.condition_at(given, told_times) if tati else given.edit_embedding
                _, answer, _ = model.denoise(given, rows.target, noise, times, context)
                one, other = errors(answer, rows.source, rows.target, rows.mask)
                inside[t].append(one)
                outside[t].append(other)
        kinds.append(rows.labels.edit)
        power.append(model.power(given, context))  # of TATI at the last timestep
        soft = where > 0.5
        overlap.append((soft & (rows.mask > 0.5)).flatten(1).sum(1) / (soft | (rows.mask > 0.5)).flatten(1).sum(1).clamp(min=1))
    model.train()
    all_kinds = torch.cat(kinds)
    ratio = lambda rows: float(rows[:, 0].sum() / rows[:, 1].sum())  # noqa: E731
    joined = {t: torch.cat(rows) for t, rows in inside.items()}
    seen = {name: all_kinds == i for i, name in enumerate(EDIT_TYPES) if bool((all_kinds == i).any())}
    by_kind = {t: {name: ratio(rows[of]) for name, of in seen.items()} for t, rows in joined.items()}
    return {
        "inside": {t: ratio(rows) for t, rows in joined.items()},
        "outside": {t: float(torch.cat(rows).mean()) for t, rows in outside.items()},
        "kinds": by_kind[timesteps[0]],
        "score": sum(sum(row.values()) / len(row) for row in by_kind.values()) / len(by_kind),
        "power": {k.removeprefix("power "): sum(p[k] for p in power) / len(power) for k in power[0]},
        "mask": float(torch.cat(overlap).mean()),
    }


def module_table(model: DiffusionModel, cache: EditCache, timesteps: Sequence[int] = TIMESTEPS, **options: Any) -> dict[str, dict]:
    """`one_step_errors` as the model is, and with each module replaced by a control; the mean over all scenes of each.

    The keys: "as it is", "TATI off", "TATI told <t>", and those of `SWAPS`.
    """
    run = lambda **more: one_step_errors(model, cache, timesteps, **options, **more)  # noqa: E731
    table = {PLAIN: run(), "TATI off": run(tati=False)}
    table |= {f"TATI told {t}": run(told=t) for t in TOLD}
    if model.use_hvca:
        table |= {name: run(swap=change) for name, change in SWAPS.items()}
    return table


def costs(table: Mapping[str, dict]) -> dict[str, dict[str, float]]:
    """`cost` of every control in a table of `module_table`."""
    return {control: cost(table, control) for control in table if control != PLAIN}


def base_of(control: str) -> str:
    """What a control is compared with: the model as it is, or with a coarse source too."""
    return COARSE if control.startswith(f"{COARSE}, ") else PLAIN


def cost(table: Mapping[str, dict], control: str) -> dict[str, float]:
    """The most that a control costs at any timestep, relative to `base_of` it: {"inside", "outside"}, 0.03 is 3 %."""
    plain, other = table[base_of(control)], table[control]
    return {
        place: max(other[place][t] / plain[place][t] - 1 for t in plain[place]) for place in ("inside", "outside")
    }  # fmt: skip
