# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the rows of a condition differ: what a cross attention can tell apart, and what it cannot.

A vector that is added to all rows alike moves no softmax. A resampler whose rows have become one carries one vector, however
many rows it has, and no total shows it. So the share of power between the rows is measured wherever a resampler is trained,
and a released bundle must have some (`FLOORS`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

# Least share of power between rows below which a bundle is not called released. What is measured is what a module gives to
# the UNet: TATI's change of e (its output where it replaces e), and HVCA's v.
FLOORS = {"tati": 0.05, "hvca": 0.2}


def power_between_rows(rows: Tensor) -> float:
    """Share 0..1 of the power of `rows` (B, N, D) that is not in their mean row: 0 if all rows of a picture are one, near 1 if
    they have nothing in common. Not a number where there is no power at all."""
    return _power_beside_mean(rows, 1)


def power_between_pictures(rows: Tensor) -> float:
    """Share 0..1 of the power of `rows` (B, N, D) that is not in their mean over the pictures: 0 for rows that are the same whatever is
    seen and asked. Rows may differ from each other and still be constants, which `power_between_rows` does not show."""
    return _power_beside_mean(rows, 0)


def _power_beside_mean(x: Tensor, dim: int) -> float:
    """Share 0..1 of the power of `x` that is not in its mean over `dim`."""
    x = x.detach().float()
    total = x.square().sum()
    return float((x - x.mean(dim=dim, keepdim=True)).square().sum() / total) if total > 0 else float("nan")


def collapsed(power: Mapping[str, float]) -> list[str]:
    """A sentence for each module of `FLOORS` whose rows have become one; empty if none has."""
    return [
        f"{name} has {power.get(name, float('nan')):.4f} of its power between rows, the floor is {floor}"
        for name, floor in FLOORS.items()
        if not power.get(name, float("nan")) >= floor
    ]


@torch.no_grad()
def tati_change(tati: torch.nn.Module, embedding: Tensor, timestep: Tensor) -> Tensor:
    """What `tati` adds to e (B, N, D) at the timesteps (B,), or puts in its place where it has no residual form."""
    return given_by_tati(tati, embedding, tati(embedding, timestep))


def given_by_tati(tati: torch.nn.Module, embedding: Tensor, condition: Tensor) -> Tensor:
    """What of `condition`, TATI's output for e = `embedding` (B, N, D), is TATI's own: the change, or all of it without residual form."""
    return condition - embedding if tati.config.residual else condition
