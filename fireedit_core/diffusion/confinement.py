# SPDX-License-Identifier: GPL-3.0-or-later
"""An edit confined to a region while it is sampled: outside, the predicted clean latent is the source's (design D15).

A sampler draws its way towards what is predicted. Where the prediction is pulled to the source in every step, the latent becomes the
source plus the noise of the step, as it would under a noise mask; so the model sees the kept part while it makes the rest. This needs
nothing of a model but its prediction of the clean latent (x0), and is the same for UNets and transformers, epsilon and flow.

Without a mask the region is found by looking: after a fifth of the steps |x0 - source| says where the model is about to change things.
The idea of reading a region off the difference of predictions is DiffEdit's (arXiv 2210.11427) and WYS's (arXiv 2308.08947); here it is
the guided prediction against the source, which needs no second branch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..blur import gaussian_blur

LOOK_AFTER = 0.2  # share of the steps after which the automatic mask is locked
LEAST_CONTRAST = 2.5  # how many times the mean change of the region must be that of the rest, else there is no region to see
LARGEST_AREA = 0.75  # of the picture: a change that covers more is one of the whole picture
_HALF_STEP = 0.5 / 255


class Confinement:
    """One run of sampling that is held to its source outside a mask.

    Args:
        source: clean latents (B or 1, C, ..., h, w) in the scale that is sampled.
        mask: (B or 1, h, w) in 0..1, 1 where the edit is; None looks where the model is about to change things, and locks that.
        steps: of the run. strength: 0..1, how far the prediction is pulled to the source outside.
        late_edges: cells between 0 and 1 in the mask belong to the source at first and join later, the fainter the later: a cell of value m
            after the share late_edges * (1 - m) of the steps, from then on with its share m. 0: all from the first step on.

    Attributes:
        mask: (B or 1, h, w), what was given or found; None before it was looked for.
        found: per picture whether an automatic mask shows a region; where it does not, the picture is left free. None with a given mask.
    """

    def __init__(self, source: Tensor, mask: Tensor | None, steps: int, strength: float = 1.0, late_edges: float = 0.5):
        self.source, self.mask, self.steps = source, mask, steps
        self.strength, self.late_edges = strength, late_edges
        self.found: list[bool] | None = None
        self.automatic = mask is None

    def confine(self, x0: Tensor, step: int, active: bool = True) -> Tensor:
        """The prediction x0 (B, C, ..., h, w) of step 0..steps-1, pulled to the source outside. The same tensor where nothing is held.

        Args:
            active: whether it is to be held in this step; the automatic mask is looked for all the same.
        """
        if self.source.device != x0.device or self.source.dtype != x0.dtype:
            self.source = self.source.to(x0)
        if self.mask is None and step >= look_step(self.steps):
            self.mask, self.found = region_of_change(x0, self.source)
        if self.mask is None or not active or not self.strength:
            return x0
        self.mask = self.mask.to(x0)
        held = self.strength * (1 - joined(self.mask, step / self.steps, self.late_edges))
        if not bool(held.any()):
            return x0
        # lerp gives both ends exactly: where nothing is held the prediction's bits, where all is held the source's
        return torch.lerp(x0, self.source.expand_as(x0), over_latents(held, x0).expand_as(x0))

    def outside(self, latents: Tensor) -> Tensor:
        """Where mask is exactly 0, as bool that broadcasts over latents (B, C, ..., h, w); nowhere before a mask was found."""
        if self.mask is None:
            return torch.zeros((), dtype=torch.bool, device=latents.device)
        return over_latents(self.mask.to(latents.device) == 0, latents)


def look_step(steps: int) -> int:
    """The step at which the automatic mask is locked: a fifth of the run, 0 for a run of one or two steps."""
    return min(math.floor(LOOK_AFTER * steps + 0.5), steps - 1)


def step_of(sigma: float, sigmas: Sequence[float]) -> int:
    """Index of the step that a prediction at noise `sigma` belongs to; `sigmas` fall from step to step, n + 1 for n steps.

    A sampler may look between two steps (second order), or at noise levels of its own; those belong to the step that they lie in.
    """
    later = sum(sigma <= s * (1 + 1e-4) for s in sigmas[1:-1])
    return min(later, max(len(sigmas) - 2, 0))


def joined(mask: Tensor, progress: float, late_edges: float) -> Tensor:
    """What of each cell belongs to the edit after the share `progress` of the steps: its mask value, or 0 before it joins."""
    return torch.where(progress >= late_edges * (1 - mask) - 1e-6, mask, 0)


def over_latents(cells: Tensor, latents: Tensor) -> Tensor:
    """(B, h, w) as a view that broadcasts over latents (B, C, h, w) or (B, C, T, h, w)."""
    return cells.reshape(cells.shape[0], *[1] * (latents.ndim - 3), *cells.shape[-2:])


def mask_to_cells(mask: Tensor, cell: int, cells: tuple[int, int]) -> Tensor:
    """A mask (B, H, W) of a picture on its latent's grid, (B, h, w): a cell counts as far as any of its pixels does.

    Values within half an 8-bit step of 0 and 1 are 0 and 1: a grounding's soft mask is nowhere quite black. What is left over at the
    edges is cut off on both sides, as the host does with the picture when it encodes it.

    Args:
        cell: pixels per latent cell and side. cells: (h, w).

    Raises:
        ValueError: if the mask is of another size; with both.
    """
    height, width = int(mask.shape[-2]), int(mask.shape[-1])
    if (height // cell, width // cell) != tuple(cells):
        raise ValueError(
            f"the mask has height {height} and width {width}, but the latent has {cells[0]} x {cells[1]} cells of {cell} px, a picture of "
            f"height {cells[0] * cell} and width {cells[1] * cell}."
        )
    top, left = height % cell // 2, width % cell // 2
    most = F.max_pool2d(mask[:, None, top : top + cells[0] * cell, left : left + cells[1] * cell].float(), cell)[:, 0]
    return torch.where(most < _HALF_STEP, 0, torch.where(most > 1 - _HALF_STEP, 1, most))


def region_of_change(x0: Tensor, source: Tensor) -> tuple[Tensor, list[bool]]:
    """Where a prediction (B, C, ..., h, w) is about to leave the source: (B, h, w) masks, and per picture whether a region is to be seen.

    Without one (nothing changes, or the whole picture does) the mask is 1 everywhere: better free than held in the wrong place.
    """
    change = relevance(x0, source)
    masks, found = [], []
    for one in change:
        mask = _region(one)
        found.append(mask is not None)
        masks.append(torch.ones_like(one) if mask is None else mask)
    return torch.stack(masks), found


def relevance(x0: Tensor, source: Tensor) -> Tensor:
    """|x0 - source|, (B, h, w): the mean over channels (and frames) of latents (B, C, ..., h, w), smoothed by a cell."""
    change = (x0 - source).abs().float().flatten(1, -3).mean(1)
    return gaussian_blur(change[:, None], 0.7)[:, 0]


def _region(change: Tensor) -> Tensor | None:
    """The region of a map of change (h, w): 1 on it and a cell around, a soft rim of one more; None where there is none."""
    if not bool(torch.isfinite(change).all()) or float(change.max()) <= 0:
        return None
    inside = change > otsu(change)
    if not bool(inside.any()) or bool(inside.all()) or change[inside].mean() < LEAST_CONTRAST * change[~inside].mean():
        return None
    grown = F.max_pool2d(inside.float()[None, None], 3, 1, 1)
    if float(grown.mean()) > LARGEST_AREA:
        return None
    rim = F.max_pool2d(grown, 3, 1, 1)
    return torch.maximum(grown, 0.5 * rim)[0, 0].to(change)


def otsu(values: Tensor, bins: int = 128) -> float:
    """The threshold that parts values into two groups with the least spread within them (Otsu 1979)."""
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return high
    counts = torch.histc(values.float().cpu(), bins, low, high).double()
    centres = low + (torch.arange(bins, dtype=torch.float64) + 0.5) * (high - low) / bins
    below = counts.cumsum(0)
    above = below[-1] - below
    mean_below = (counts * centres).cumsum(0) / below.clamp(min=1)
    total = (counts * centres).sum()
    mean_above = (total - (counts * centres).cumsum(0)) / above.clamp(min=1)
    between = below * above * (mean_below - mean_above) ** 2
    return low + (int(between.argmax()) + 1) * (high - low) / bins
