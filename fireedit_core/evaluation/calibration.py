# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the judge to be trusted? What it says about answers that are known to be right, and about some known to be wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from tqdm import tqdm

from ..blur import gaussian_blur
from ..data import EDIT_TYPES, WORLD, SceneSample, World
from ..diffusion.pipeline import FireEditPipeline
from .judge import SceneJudge, judge_edit
from .scenes import Scenes, autoencoder_floor, batches, to_arrays, to_tensor
from .summary import markdown_table

HAZE = 3.0  # blur of the edited area in pixels: colours and place are right, and no thing is left


def haze(sample: SceneSample, _: np.ndarray) -> np.ndarray:
    """The target, its edited area blurred to haze: what is there, or where something is to go, what was there."""
    target = sample.target / 255.0
    thing = sample.source / 255.0 if sample.edit_type == "remove" else target
    soft = gaussian_blur(torch.from_numpy(thing).permute(2, 0, 1)[None], HAZE, "reflect")[0].permute(1, 2, 0).numpy()
    return np.where(sample.mask[..., None], soft, target)


def ghost(sample: SceneSample, _: np.ndarray) -> np.ndarray:
    """Half source, half target inside the mask: the edit stopped half-way."""
    return np.where(sample.mask[..., None], 0.5 * sample.source / 255.0 + 0.5 * sample.target / 255.0, sample.target / 255.0)


def flat(sample: SceneSample, _: np.ndarray) -> np.ndarray:
    """The edited area in the mean colour of the right answer."""
    target = sample.target / 255.0
    return np.where(sample.mask[..., None], target[sample.mask].mean(0), target)


# What is judged, and whether it ought to pass.
ANSWERS: dict[str, tuple[bool, Callable[[SceneSample, np.ndarray], np.ndarray]]] = {
    "the target": (True, lambda sample, decoded: sample.target),
    "the target through the autoencoder": (True, lambda sample, decoded: decoded),
    "the untouched source": (False, lambda sample, decoded: sample.source),
    "half-way between source and target": (False, ghost),
    f"the edited area blurred by {HAZE:g} px": (False, haze),
    "the edited area in its mean colour": (False, flat),
}


def calibrate(
    judge: SceneJudge, scenes: Scenes, pipe: FireEditPipeline, batch: int = 16, world: World = WORLD
) -> dict[str, dict[str, list[bool]]]:
    """Verdicts (success) on ANSWERS: answer -> edit type -> one per scene."""
    said: dict[str, dict[str, list[bool]]] = {answer: {} for answer in ANSWERS}
    for rows in tqdm(batches(scenes.draw(world), batch), total=-(-len(scenes) // batch), unit="batch", desc="judge"):
        samples = [sample for _, sample in rows]
        decoded = to_arrays(autoencoder_floor(pipe, to_tensor([s.target for s in samples])))
        for sample, floor in zip(samples, decoded, strict=True):
            for answer, (_, make) in ANSWERS.items():
                verdict = judge_edit(judge, sample, make(sample, floor))
                said[answer].setdefault(sample.edit_type, []).append(verdict.success)
    return said


def report(said: dict[str, dict[str, list[bool]]]) -> str:
    """The share that passes, as a Markdown table."""
    rows = []
    for answer, by_type in said.items():
        cells = [f"{100 * np.mean(by_type[k]):.1f} %" if k in by_type else "-" for k in EDIT_TYPES]
        everything = [v for values in by_type.values() for v in values]
        rows.append([answer, "yes" if ANSWERS[answer][0] else "no", f"{100 * np.mean(everything):.1f} %", *cells])
    return markdown_table(("answer", "ought to pass", "passes", *EDIT_TYPES), rows)
