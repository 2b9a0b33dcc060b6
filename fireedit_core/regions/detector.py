# SPDX-License-Identifier: GPL-3.0-or-later
"""The one interface that every region detector of the pack fulfils (design D9): `detect`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .record import OBJECT_LABEL, Regions
from .suppression import non_maximum_suppression


class Detector(Protocol):
    """What nodes and pipelines ask of a detector, whichever family it is of.

    Attributes:
        reads_prompt: whether it looks for the things that a prompt names; the others find what they were trained on.
        own_threshold: score from which on its regions are to be believed, as its makers use it; scores of one family are not another's.
    """

    reads_prompt: bool
    own_threshold: float

    def detect(
        self, images: Tensor, score_threshold: float, iou_threshold: float, max_regions: int, prompt: str = ""
    ) -> list[Regions]:
        """One `Regions` per picture of images (B, 3, H, W) in 0..1, best score first, on the CPU."""
        ...


@dataclass
class Proposals:
    """What a labelled detector finds in one picture of H x W, in any order.

    Attributes:
        boxes: (n, 4) xyxy in pixels. scores: (n,) 0..1. labels: n names. masks: gives (m, H, W) in 0..1 of those at m indices, or None;
            of a large photo each is a hundred megabytes, so that they are made only of what is kept.
    """

    boxes: Tensor
    scores: Tensor
    labels: Sequence[str]
    masks: Callable[[Tensor], Tensor] | None = None


class LabelledDetector(nn.Module):
    """A detector that names what it finds. A backend implements `propose` only; it never moves itself.

    Attributes:
        second_opinions: whether boxes of different names may lie on each other: for a small network, whose second guess ("cat .40" under
            "person .59") is what an instruction may name.
    """

    reads_prompt = False
    own_threshold = 0.3
    second_opinions = False

    def propose(self, image: Tensor, score_threshold: float, iou_threshold: float, prompt: str = "") -> Proposals:
        """What is in one picture (1, 3, H, W) in 0..1; what lies below the threshold may already be left out."""
        raise NotImplementedError(f"{type(self).__name__} must implement propose.")

    @torch.no_grad()
    def detect(
        self, images: Tensor, score_threshold: float = 0.3, iou_threshold: float = 0.6, max_regions: int = 100, prompt: str = ""
    ) -> list[Regions]:
        """As `Detector.detect`, with labels and, where the family has them, masks.

        Args:
            prompt: for detectors that read one: things to look for, separated by commas or full stops.

        Raises:
            ValueError: if `images` has another shape, or a prompt is needed and empty.
        """
        check_pictures(images, self)
        if self.reads_prompt and not prompt.strip():
            raise ValueError("this detector looks for what its prompt names: write one, for example 'cat, dog'.")
        if images.shape[0] == 0:
            return []
        size = (int(images.shape[2]), int(images.shape[3]))
        first = next(self.parameters())
        found = []
        for image in images.to(first.device, first.dtype).clamp(0, 1).split(1):
            made = self.propose(image, score_threshold, iou_threshold, prompt)
            found.append(
                select_regions(
                    made.boxes.float().cpu(), made.scores.float().cpu(), size, score_threshold, iou_threshold, max_regions,
                    made.labels, made.masks, self.second_opinions,
                )
            )  # fmt: skip
        return found


def detect_each(
    detector: Detector, images: Tensor, score_threshold: float, iou_threshold: float, max_regions: int, prompt: str = "",
    progress: Callable[[int], None] | None = None,
) -> list[Regions]:  # fmt: skip
    """`detector.detect` picture by picture, so that `progress(done)` can show how far it is, and stop it by an exception."""
    found: list[Regions] = []
    for image in images.split(1):
        found += detector.detect(image, score_threshold, iou_threshold, max_regions, prompt)
        if progress is not None:
            progress(len(found))
    return found


def check_pictures(images: Tensor, detector: object) -> None:
    """ValueError unless images are float (B, 3, H, W)."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(
            f"{type(detector).__name__}.detect expects RGB pictures as float (B, 3, H, W) in 0..1, "
            f"got {tuple(images.shape)} of {images.dtype}."
        )


def select_regions(
    boxes: Tensor,
    scores: Tensor,
    size: tuple[int, int],
    score_threshold: float,
    iou_threshold: float,
    max_regions: int,
    labels: Sequence[str] | None = None,
    masks: Callable[[Tensor], Tensor] | None = None,
    per_label: bool = False,
) -> Regions:
    """Score filter, clip to the picture, NMS (among all, or `per_label` among those of one name), best `max_regions`, best first.

    boxes (N, 4) xyxy in pixels of `size` = (height, width), scores (N,), labels of N names, masks: gives (m, height, width)
    of those at m indices.
    """
    height, width = size
    clipped = torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))
    keep = (scores > score_threshold) & torch.isfinite(boxes).all(dim=1)
    keep &= ((clipped[:, 2:] - clipped[:, :2]) > 0).all(dim=1)
    indices = keep.nonzero().flatten()
    places = clipped[indices]
    if per_label and labels is not None:  # boxes of different names are moved apart, so that they do not meet
        kinds = {name: number for number, name in enumerate(dict.fromkeys(labels))}
        places = places + places.new_tensor([2.0 * max(size) * kinds[labels[i]] for i in indices.tolist()]).reshape(-1, 1)
    indices = indices[non_maximum_suppression(places, scores[indices], iou_threshold)[:max_regions]]
    names = (OBJECT_LABEL,) * len(indices) if labels is None else tuple(labels[i] for i in indices.tolist())
    return Regions(clipped[indices], scores[indices], names, size, None if masks is None else masks(indices).float().cpu())


def letterbox(images: Tensor, side: int, fill: float = 0.5) -> Tensor:
    """Fit pictures (B, 3, H, W) into the middle of a square (B, 3, side, side) without changing their aspect."""
    height, width, left, top = _fit((images.shape[-2], images.shape[-1]), side)
    if (height, width) != tuple(images.shape[-2:]):
        resized = F.interpolate(
            images.float(), size=(height, width), mode="bilinear", align_corners=False, antialias=True
        )
        images = resized.to(images.dtype)
    return F.pad(images, (left, side - width - left, top, side - height - top), value=fill)


def letterbox_boxes(boxes: Tensor, size: tuple[int, int], side: int) -> Tensor:
    """Boxes (..., 4) xyxy in pixels of a picture of `size` = (height, width) -> the square of `letterbox`."""
    height, width, left, top = _fit(size, side)
    return boxes * boxes.new_tensor([width / size[1], height / size[0]] * 2) + boxes.new_tensor([left, top, left, top])


def undo_letterbox(boxes: Tensor, size: tuple[int, int], side: int) -> Tensor:
    """Boxes (..., 4) xyxy in the square of `letterbox` -> pixels of the picture of `size` = (height, width)."""
    height, width, left, top = _fit(size, side)
    ratio = boxes.new_tensor([size[1] / width, size[0] / height] * 2)
    return (boxes - boxes.new_tensor([left, top, left, top])) * ratio


def _fit(size: tuple[int, int], side: int) -> tuple[int, int, int, int]:
    """Height, width, left and top of a picture of `size` = (height, width) inside a square of `side`."""
    scale = side / max(size)
    height, width = (max(round(length * scale), 1) for length in size)
    return height, width, (side - width) // 2, (side - height) // 2
