# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes as tensors: what the training stages draw per step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data import EDIT_TYPES, SceneSample, World
from ..data.referring import RICH_WAYS
from .loop import to_tensor

DETAILS = ("bigger", "smaller", "left", "right", "above", "below")
WAYS = ("noun", "left", "right", "top", "bottom", "big", "small", "colour", *RICH_WAYS)


@dataclass
class SceneLabels:
    """Class indices of a batch; -1 where a field says nothing. n is the padded number of regions.

    Attributes:
        nouns, colours: (B, n) of the regions. target: (B,) index of the region that is meant, n_total for "none of them".
        edit, noun, new_noun, colour, background, detail: (B,) of the instruction.
        way, said_colour: (B,) how the object is referred to, and the colour it is called by.
        edit_box: (B, 4) xyxy in 0..1.
    """

    nouns: Tensor
    colours: Tensor
    target: Tensor
    edit: Tensor
    noun: Tensor
    new_noun: Tensor
    colour: Tensor
    background: Tensor
    detail: Tensor
    way: Tensor
    said_colour: Tensor
    edit_box: Tensor


@dataclass
class SceneBatch:
    """Pictures, regions and labels of B scenes.

    Attributes:
        source, target: (B, 3, H, W) in 0..1. edit_mask: (B, H, W) in 0..1. boxes: (B, n, 4) cxcywh in 0..1, shuffled and
        jittered as a detector would. region_mask: (B, n) bool.
    """

    source: Tensor
    target: Tensor
    edit_mask: Tensor
    boxes: Tensor
    region_mask: Tensor
    instructions: list[str]
    labels: SceneLabels


def collate(samples: list[SceneSample], world: World, jitter: float = 0.04, shuffle: bool = True) -> SceneBatch:
    """Tensors of a list of samples.

    Args:
        jitter: standard deviation of box edges, relative to the box's size; a detector is never exact.
        shuffle: random order of regions (torch's default generator), so that position in the list means nothing.
    """
    nouns = {n: i for i, n in enumerate(world.classes)}
    palette = {c: i + 1 for i, c in enumerate(world.palette)} | {"": 0}
    backgrounds = {b: i for i, b in enumerate(world.backgrounds)}
    size = samples[0].source.shape[0]
    width = max(len(s.boxes) for s in samples)
    rows: dict[str, list] = {"boxes": [], "mask": [], "nouns": [], "colours": [], "target": []}
    for s in samples:
        count = len(s.boxes)
        order = torch.randperm(count) if shuffle else torch.arange(count)
        boxes = torch.from_numpy(s.boxes).float()[order] / size
        extent = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        boxes = (boxes + jitter * extent * torch.randn_like(boxes)).clamp(0, 1)
        corner, far = boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2] + 0.02)
        pad = width - count
        rows["boxes"].append(F.pad(torch.cat([(corner + far) / 2, far - corner], dim=1), (0, 0, 0, pad)))
        rows["mask"].append(torch.arange(width) < count)
        rows["nouns"].append([nouns.get(s.labels[i], -1) for i in order] + [-1] * pad)
        rows["colours"].append([palette[s.colours[i]] for i in order] + [-1] * pad)
        rows["target"].append(int((order == s.target_index).nonzero()[0, 0]) if s.target_index >= 0 else width)
    pick = lambda f: torch.tensor([f(s) for s in samples])  # noqa: E731
    labels = SceneLabels(
        torch.tensor(rows["nouns"]), torch.tensor(rows["colours"]), torch.tensor(rows["target"]),
        pick(lambda s: EDIT_TYPES.index(s.edit_type)),
        pick(lambda s: nouns.get(s.labels[s.target_index], -1) if s.target_index >= 0 else -1),
        pick(lambda s: nouns.get(s.edit_noun, -1)),
        pick(lambda s: palette[s.edit_colour] if s.edit_colour else -1),
        pick(lambda s: backgrounds.get(s.edit_background, -1)),
        pick(lambda s: DETAILS.index(s.meta["detail"]) if s.meta.get("detail") in DETAILS else -1),
        pick(lambda s: WAYS.index(s.meta["referred_by"]) if s.meta.get("referred_by") in WAYS else -1),
        pick(lambda s: palette[s.colours[s.target_index]] if s.meta.get("referred_by") == "colour" else -1),
        torch.stack([torch.as_tensor(s.edit_box).float() for s in samples]) / size,
    )  # fmt: skip
    return SceneBatch(
        to_tensor(s.source for s in samples), to_tensor(s.target for s in samples),
        torch.stack([torch.from_numpy(s.mask) for s in samples]).float(),
        torch.stack(rows["boxes"]), torch.stack(rows["mask"]), [s.instruction for s in samples], labels,
    )  # fmt: skip


def without_regions(batch: SceneBatch) -> SceneBatch:
    """The batch as a model without a detector sees it: one region, the whole picture, and none that can be pointed at."""
    count = len(batch.source)
    device = batch.boxes.device
    nobody = torch.full((count, 1), -1, device=device)
    labels = replace(batch.labels, nouns=nobody, colours=nobody, target=torch.ones(count, dtype=torch.long, device=device))
    whole = torch.tensor([0.5, 0.5, 1.0, 1.0], device=device).expand(count, 1, 4)
    return replace(batch, boxes=whole, region_mask=torch.ones(count, 1, dtype=torch.bool, device=device), labels=labels)
