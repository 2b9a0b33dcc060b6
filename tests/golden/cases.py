# SPDX-License-Identifier: GPL-3.0-or-later
"""What the embedded bundle makes of a few pictures, written down as numbers: `expected.json`.

A test that compares two paths sees no fault that both share. So every way into the method (pipeline, nodes, /prompt, command line, bulk,
Multi Turn) is compared with the same written values: coarse means of picture and mask, their range, the best scores and boxes.

New weights, or a change that is meant to change pictures: `make golden` prints the differences and writes the file anew. It does not
run inside a test.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from fireedit_core.diffusion.pipeline import FireEditPipeline

HERE = Path(__file__).resolve().parent
EXPECTED = HERE / "expected.json"
BUNDLE = HERE.parents[1] / "models" / "fireedit-tiny"
GRID = 8  # cells along each side, of which the means are written down
# On 0..1: half a grey level of 255, which saving as PNG costs at most. Two machines differ by 1e-5.
TOLERANCE = 2e-3


def scene(name: str) -> Image.Image:
    """A picture of the tests: cats (128 x 128), ball (100 rows, 128 columns, no multiple of 8), tall (162 rows, 100 columns)."""
    if name == "ball":
        return Image.open(HERE / "ball.png").crop((0, 10, 128, 110))
    cats = Image.open(HERE / "cats.png")
    return cats if name == "cats" else cats.crop((40, 0, 128, 128)).resize((100, 162), Image.Resampling.BICUBIC)


@dataclass(frozen=True)
class Case:
    """One edit of one picture. No value is a default of a node, so that a lost one shows.

    Attributes:
        box: (left, top, right, bottom) in pixels of a mask of one's own. nodes: options that only the nodes have.
    """

    scene: str
    instruction: str
    seed: int
    steps: int = 3
    text_guidance: float = 2.5
    image_guidance: float = 1.4
    keep_outside: str = "exact"
    strengths: tuple[float, float] = (1.0, 1.0)
    window: tuple[float, float] = (0.0, 1.0)
    working_size: int | None = None
    box: tuple[int, int, int, int] | None = None
    nodes: dict[str, Any] = field(default_factory=dict)

    @property
    def mask(self) -> torch.Tensor | None:
        """(1, H, W), 1 in `box`."""
        if self.box is None:
            return None
        width, height = scene(self.scene).size
        mask = torch.zeros(1, height, width)
        mask[:, self.box[1] : self.box[3], self.box[0] : self.box[2]] = 1
        return mask


# The rows of one list: what is the same for all is so on the command line too.
ROWS = {
    "row 0": Case("cats", "get rid of the orange cat", seed=11),
    "row 1": Case("ball", "make the camera red", seed=5),
    "row 2": Case("cats", "remove the yellow cat", seed=2**63 + 3),
}
# Each turn starts from what the one before has left, with the next seed.
TURNS = {
    "turn 1": Case("cats", "remove the teapot", seed=40),
    "turn 2": Case("cats", "make the orange cat blue", seed=41),
}
CASES = {
    "free": Case("ball", "set the background to wall", seed=3, steps=4, text_guidance=1.0, image_guidance=1.0, keep_outside="off"),
    "strengths": Case("tall", "remove the yellow cat", 8, keep_outside="off", strengths=(0.5, 0.7), window=(0.1, 0.65)),
    "own size": Case("tall", "make the orange cat green", 9, steps=2, working_size=96),
    "own mask": Case("ball", "remove the donut", seed=6, box=(16, 60, 70, 96)),
    "stock": Case("cats", "make the teapot purple", seed=2, keep_outside="off"),
    **ROWS,
}
NODES_ONLY = {
    "partial": Case("ball", "remove the donut", 7, keep_outside="off", nodes={"denoise": 0.5}),
    "soft": Case("cats", "get rid of the orange cat", 11, keep_outside="soft"),
}


@functools.cache
def pipeline() -> FireEditPipeline:
    """The embedded bundle."""
    pipe = FireEditPipeline.from_pretrained(BUNDLE)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def by_pipeline(case: Case, image: torch.Tensor | None = None) -> tuple[np.ndarray, np.ndarray, list]:
    """Picture (H, W, 3), mask (H, W) and regions of an edit; `image` (1, 3, H, W) in place of the scene."""
    out = pipeline()(
        scene(case.scene) if image is None else image, case.instruction, num_inference_steps=case.steps, text_guidance=case.text_guidance,
        image_guidance=case.image_guidance, tati_strength=case.strengths[0], hvca_strength=case.strengths[1],
        start_percent=case.window[0], end_percent=case.window[1], working_size=case.working_size, keep_outside=case.keep_outside,
        mask=case.mask, generator=torch.Generator().manual_seed(case.seed), output_type="pt",
    )  # fmt: skip
    return out.images[0].permute(1, 2, 0).numpy(), out.mask[0].numpy(), out.regions[0]


def turns_by_pipeline() -> dict[str, tuple]:
    """The turns of TURNS one after the other."""
    made, image = {}, None
    for name, case in TURNS.items():
        made[name] = by_pipeline(case, image)
        image = torch.from_numpy(made[name][0]).permute(2, 0, 1)[None]
    return made


def coarse(values: np.ndarray) -> np.ndarray:
    """Means over a grid of GRID x GRID of a picture (H, W, 3) or mask (H, W) in 0..1 (or uint8)."""
    values = values / 255 if values.dtype == np.uint8 else values
    planes = torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float64)
    planes = planes[None, None] if planes.ndim == 2 else planes.permute(2, 0, 1)[None]
    return F.adaptive_avg_pool2d(planes, GRID)[0].numpy()


def described(picture: np.ndarray, mask: np.ndarray | None = None, regions: Any = None) -> dict[str, Any]:
    """The numbers of `expected.json`."""
    unit = picture / 255 if picture.dtype == np.uint8 else picture
    found = {"size": list(picture.shape[:2]), "range": [float(unit.min()), float(unit.max())], "picture": coarse(picture)}
    if mask is not None:
        found["mask"] = coarse(mask)
    if regions is not None:
        found |= {"scores": regions.scores[:3].numpy(), "boxes": regions.boxes[:2].numpy() / max(picture.shape[:2])}
    return found


def differences(found: dict[str, Any], expected: dict[str, Any], tolerance: float = TOLERANCE) -> list[str]:
    """What differs, in words; empty if nothing does."""
    said = []
    for key, value in found.items():
        if key not in expected:
            said.append(f"{key} is new")
            continue
        now, then = np.asarray(value, dtype=float), np.asarray(expected[key], dtype=float)
        if now.shape != then.shape:
            said.append(f"{key} has shape {now.shape}, expected {then.shape}")
        elif now.size and (off := np.abs(now - then).max()) > tolerance:
            where = np.unravel_index(np.abs(now - then).argmax(), now.shape)
            said.append(f"{key} differs by up to {off:.4f}, at {tuple(map(int, where))}: {now[where]:.4f}, expected {then[where]:.4f}")
    return said


def check(name: str, picture: np.ndarray, mask: np.ndarray | None = None, regions: Any = None, tolerance: float = TOLERANCE) -> None:
    """Fail where a result is not what is written down for the case.

    Args:
        picture: (H, W, 3) in 0..1, or uint8. mask: the same, (H, W). regions: with the scores of the instruction.
    """
    said = differences(described(picture, mask, regions), json.loads(EXPECTED.read_text(encoding="utf-8"))[name], tolerance)
    if said:
        raise AssertionError(f"{name}: " + "; ".join(said) + " (meant? see tests/golden/cases.py)")
