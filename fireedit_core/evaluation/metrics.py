# SPDX-License-Identifier: GPL-3.0-or-later
"""What one edit is worth, measured against the exact target of a synthetic pair.

A classifier that says "the object is gone" is too kind a judge: it takes a smudge for a success. Here an edit counts only
when the pixels inside the edited mask come close to the target's and every other object stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch

from ..data import SceneSample
from ..regions.record import Regions
from ..regions.suppression import box_iou
from .judge import SceneJudge, judge_edit, psnr_of, unit

# Fixed before anything was measured (issue 2); they are not to be moved to make a model look better.
SUCCESS_ERROR = 0.10  # strict success: squared error inside the mask below this share of the wanted squared change
INTACT_CHANGE = 0.05  # a bystander is intact up to this mean absolute change on 0..1 inside its box, see `score_edit`
OUTSIDE_MARGIN = 2  # pixels around the mask that count neither as inside nor as outside
GROUNDING_IOU = 0.5  # the top region hits when it overlaps the referred object's box by at least this
NO_REGION_SCORE = 0.5  # a background edit is grounded when all regions together score below this

GROUNDING_GROUPS = ("single", "twins", "none")


@dataclass
class EditScore:
    """Scores of one edited picture. Errors and changes are of pixels on 0..1.

    Attributes:
        relative_error: summed squared error against the target inside the mask over the summed squared change that was
            wanted there; 1 = as far off as the untouched source, 0 = perfect.
        outside_change: mean |edit - source| outside the mask grown by OUTSIDE_MARGIN.
        bystanders_intact: every object that is not edited changed by at most INTACT_CHANGE on average.
        success: relative_error < SUCCESS_ERROR and bystanders_intact.
        grounding: "single", "twins" (another object shares the noun) or "none" (no object is meant).
        grounded: whether the grounding hit; None where it was not judged. sure: the score (0..1) of the top region.
        psnr, psnr_outside: against the target, in dB, inside the mask, and outside of it grown by OUTSIDE_MARGIN (None where
            nothing is outside). l1, l2: mean absolute and squared error over the whole picture. lpips: LPIPS to the target
            over the whole picture; None where its weights are not there.
        judged: what the judge says (`judge.Verdict`): {"success", "right", "close", "same"}; None without a judge.
    """

    index: int
    edit_type: str
    relative_error: float
    outside_change: float
    bystanders_intact: bool
    success: bool
    grounding: str
    grounded: bool | None = None
    sure: float | None = None
    psnr: float | None = None
    psnr_outside: float | None = None
    l1: float | None = None
    l2: float | None = None
    lpips: float | None = None
    judged: dict[str, bool] | None = None

    def to_dict(self) -> dict:
        """JSON-able values."""
        return asdict(self)


def score_edit(
    sample: SceneSample, edit: np.ndarray, regions: Regions | None = None, index: int = 0, unedited: np.ndarray | None = None,
    judge: SceneJudge | None = None, lpips: Callable[[np.ndarray, np.ndarray], float] | None = None,
) -> EditScore:  # fmt: skip
    """Score an edited picture (H, W, 3), uint8 or float on 0..1, against its pair.

    Args:
        unedited: the source after the autoencoder alone. Bystanders are compared with it, so that "intact" says what the
            edit did to them and not what the autoencoder does to every picture; its own loss is in `outside_change`,
            which always compares with the source. None compares bystanders with the source too.
        regions: what the editor meant, scores as probabilities; None leaves the grounding unjudged.
        judge: looks at the objects of the edit; None leaves `judged` out.
        lpips: distance of two pictures (H, W, 3) on 0..1, e.g. `similarity.Lpips`; None leaves `lpips` out.

    Raises:
        ValueError: if the edit has another shape than the source.
    """
    if edit.shape != sample.source.shape:
        raise ValueError(f"the edit of {sample.id} must have shape {sample.source.shape}, got {edit.shape}")
    source, target, edit = (unit(x) for x in (sample.source, sample.target, edit))
    error = relative_error(source, target, edit, sample.mask)
    outside = ~dilate(sample.mask, OUTSIDE_MARGIN)
    intact = bystanders_intact(sample, np.abs(edit - (source if unedited is None else unit(unedited))).mean(-1))
    return EditScore(
        index=index,
        edit_type=sample.edit_type,
        relative_error=error,
        outside_change=outside_change(source, edit, sample.mask),
        bystanders_intact=intact,
        success=error < SUCCESS_ERROR and intact,
        grounding=grounding_group(sample),
        grounded=None if regions is None else grounding_hit(sample, regions),
        sure=None if regions is None else float(regions.scores.max()) if len(regions) else 0.0,
        psnr=psnr_of(edit, target, sample.mask),
        psnr_outside=psnr_of(edit, target, outside) if outside.any() else None,
        l1=float(np.abs(edit - target).mean()),
        l2=float(np.square(edit - target).mean()),
        lpips=None if lpips is None else lpips(edit, target),
        judged=None if judge is None else judge_edit(judge, sample, edit).to_dict(),
    )


def relative_error(source: np.ndarray, target: np.ndarray, edit: np.ndarray, mask: np.ndarray) -> float:
    """Squared error of the edit over the squared change that was wanted, inside mask (H, W) bool; pictures on 0..1."""
    wanted = float(((target - source)[mask] ** 2).sum())
    return float(((edit - target)[mask] ** 2).sum()) / max(wanted, 1e-12)


def outside_change(source: np.ndarray, edit: np.ndarray, mask: np.ndarray) -> float:
    """Mean |edit - source| outside mask (H, W) bool grown by OUTSIDE_MARGIN pixels; 0 where nothing is outside."""
    outside = ~dilate(mask, OUTSIDE_MARGIN)
    return float(np.abs(edit - source)[outside].mean()) if outside.any() else 0.0


def bystanders(sample: SceneSample) -> list[int]:
    """Indices of the objects that the edit leaves alone: all for a background and for an added object."""
    spared = sample.target_index if sample.edit_type not in ("background", "add") else -1
    return [i for i in range(len(sample.boxes)) if i != spared]


def bystanders_intact(sample: SceneSample, change: np.ndarray) -> bool:
    """Whether the mean of change (H, W) inside each bystander's box, without the edit mask, is at most INTACT_CHANGE."""
    for i in bystanders(sample):
        x0, y0, x1, y1 = sample.boxes[i].astype(int)
        own = change[y0:y1, x0:x1][~sample.mask[y0:y1, x0:x1]]
        if own.size and own.mean() > INTACT_CHANGE:
            return False
    return True


def grounding_group(sample: SceneSample) -> str:
    """One of GROUNDING_GROUPS."""
    if sample.target_index < 0:
        return "none"
    return "twins" if sample.twins else "single"


def grounding_hit(sample: SceneSample, regions: Regions) -> bool:
    """Top-1: the best-scored region lies on the referred object; where none is referred to, no region is preferred."""
    if sample.target_index < 0:
        return float(regions.scores.sum()) < NO_REGION_SCORE
    if not len(regions):
        return False
    wanted = torch.from_numpy(sample.boxes[sample.target_index]).float()[None]
    return float(box_iou(regions.top(1).boxes, wanted)) >= GROUNDING_IOU


def dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    """mask (H, W) bool grown by a square of `radius` pixels to each side."""
    grown = np.pad(mask, radius)
    height, width = mask.shape
    rows = np.zeros((height, width + 2 * radius), bool)
    for dy in range(2 * radius + 1):
        rows |= grown[dy : dy + height]
    out = np.zeros_like(mask)
    for dx in range(2 * radius + 1):
        out |= rows[:, dx : dx + width]
    return out
