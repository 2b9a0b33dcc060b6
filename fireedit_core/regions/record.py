# SPDX-License-Identifier: GPL-3.0-or-later
"""The `Regions` record: what a detector proposes for one picture (design D7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

WHOLE_IMAGE_LABEL = "image"
OBJECT_LABEL = "object"  # of regions that nobody named


@dataclass(frozen=True, eq=False)
class Regions:
    """Regions of one picture. Immutable; a batch of pictures carries one `Regions` per picture in a list.

    Args:
        boxes: (n, 4) float32, corners x1, y1, x2, y2 in pixels of a picture of `image_size`; x2 >= x1, y2 >= y1.
        scores: (n,) float32 confidence, usually 0..1.
        labels: n names; class-agnostic detectors write "object".
        image_size: (height, width) of the picture that the boxes belong to.
        masks: optional (n, height, width) float 0..1.
        picture: `thumbnail.fingerprint` of the picture that they were found on; "" where nobody wrote it down.
        boxed: for each mask whether it is no more than its region's box, which stands in where others have masks; () where none is. A
            rectangle that was painted is not. Always n values where there are masks.

    Raises:
        ValueError: if shapes disagree or coordinates are not finite or inverted.
    """

    boxes: Tensor
    scores: Tensor
    labels: tuple[str, ...]
    image_size: tuple[int, int]
    masks: Tensor | None = None
    picture: str = ""
    boxed: Sequence[bool] = ()

    def __post_init__(self) -> None:
        try:
            height, width = (int(side) for side in self.image_size)
        except (TypeError, ValueError):
            raise ValueError(f"Regions: image_size must be (height, width), got {self.image_size!r}.") from None
        if height < 1 or width < 1:
            raise ValueError(f"Regions: image_size must be positive (height, width), got {self.image_size!r}.")
        boxes = torch.as_tensor(self.boxes, dtype=torch.float32)
        scores = torch.as_tensor(self.scores, dtype=torch.float32)
        if boxes.ndim == 1 and boxes.numel() == 0:
            boxes = boxes.reshape(0, 4)
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise ValueError(f"Regions: boxes must have shape (n, 4) = x1, y1, x2, y2, got {tuple(boxes.shape)}.")
        count = boxes.shape[0]
        if scores.shape != (count,):
            raise ValueError(f"Regions: {count} boxes need scores of shape ({count},), got {tuple(scores.shape)}.")
        if isinstance(self.labels, str) or len(self.labels) != count:
            raise ValueError(f"Regions: {count} boxes need {count} labels, got {self.labels!r}.")
        if not torch.isfinite(boxes).all() or not torch.isfinite(scores).all():
            raise ValueError("Regions: boxes and scores must be finite numbers.")
        if (boxes[:, 2:] < boxes[:, :2]).any():
            raise ValueError(
                "Regions: boxes must be x1, y1, x2, y2 with x2 >= x1 and y2 >= y1; for x, y, width, height "
                "choose the xywh layout when converting."
            )
        if self.masks is not None and tuple(self.masks.shape) != (count, height, width):
            raise ValueError(
                f"Regions: masks must have shape ({count}, {height}, {width}) = (n, height, width), "
                f"got {tuple(self.masks.shape)}."
            )
        boxed = () if self.masks is None else tuple(map(bool, self.boxed)) or (False,) * count
        if self.masks is not None and len(boxed) != count:
            raise ValueError(f"Regions: {count} masks need {count} values of boxed, got {len(boxed)}.")
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "labels", tuple(_printable(str(label)) for label in self.labels))
        object.__setattr__(self, "image_size", (height, width))
        object.__setattr__(self, "boxed", boxed)

    def __len__(self) -> int:
        return self.boxes.shape[0]

    def __repr__(self) -> str:
        height, width = self.image_size
        masks = "" if self.masks is None else ", with masks"
        return f"Regions({len(self)} in a picture of height {height}, width {width}{masks})"

    @classmethod
    def empty(cls, size: tuple[int, int]) -> Regions:
        """No region, in a picture of `size` = (height, width)."""
        return cls(torch.zeros(0, 4), torch.zeros(0), (), size)

    @classmethod
    def whole_image(cls, size: tuple[int, int]) -> Regions:
        """One region that covers the picture: what the VLM sees when nothing was detected (design D7)."""
        height, width = size
        return cls(torch.tensor([[0.0, 0.0, width, height]]), torch.ones(1), (WHOLE_IMAGE_LABEL,), size)

    def select(self, indices: Tensor | Sequence[int]) -> Regions:
        """The regions at `indices` (integers, or a boolean mask of length n), in that order."""
        index = torch.as_tensor(indices, device=self.boxes.device)
        if index.dtype == torch.bool:
            if index.shape != (len(self),):
                raise ValueError(f"Regions.select: a boolean mask needs length {len(self)}, got {tuple(index.shape)}.")
            index = index.nonzero().flatten()
        index = index.long().flatten()
        if index.numel() and (index.min() < -len(self) or index.max() >= len(self)):
            raise ValueError(f"Regions.select: index out of range for {len(self)} regions, got {index.tolist()}.")
        return replace(
            self,
            boxes=self.boxes[index],
            scores=self.scores[index.to(self.scores.device)],
            labels=tuple(self.labels[i] for i in index.tolist()),
            masks=None if self.masks is None else self.masks[index.to(self.masks.device)],
            boxed=() if self.masks is None else [self.boxed[i] for i in index.tolist()],
        )

    def sorted_by_score(self) -> Regions:
        """Highest score first; equal scores keep their order, so the result is always the same."""
        return self.select(torch.argsort(self.scores, descending=True, stable=True))

    def top(self, count: int) -> Regions:
        """The `count` regions of highest score, best first."""
        return self.select(torch.argsort(self.scores, descending=True, stable=True)[: max(int(count), 0)])

    def with_scores(self, scores: Tensor | Sequence[float]) -> Regions:
        """The same regions with other scores (n,)."""
        return replace(self, scores=torch.as_tensor(scores, dtype=torch.float32))

    def scaled_to(self, size: tuple[int, int]) -> Regions:
        """The same regions on the picture resized to `size` = (height, width), each axis by its own ratio."""
        if tuple(size) == self.image_size:
            return self
        height, width = (int(side) for side in size)
        ratio = self.boxes.new_tensor([width / self.image_size[1], height / self.image_size[0]] * 2)
        masks = self.masks
        if masks is not None:
            masks = torch.nn.functional.interpolate(
                masks.float()[None], size=(height, width), mode="bilinear", align_corners=False, antialias=True
            )[0].clamp(0, 1)
        return replace(self, boxes=self.boxes * ratio, image_size=(height, width), masks=masks, picture="")

    def clipped(self) -> Regions:
        """Boxes cut to the picture; regions that lie wholly outside (no area left) are dropped."""
        height, width = self.image_size
        limit = self.boxes.new_tensor([width, height, width, height])
        boxes = torch.minimum(self.boxes.clamp(min=0), limit)
        keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        return replace(self, boxes=boxes).select(keep)

    def normalised(self) -> Tensor:
        """(n, 4) boxes as centre x, centre y, width, height in fractions 0..1 of the picture."""
        height, width = self.image_size
        corners = self.boxes / self.boxes.new_tensor([width, height, width, height])
        return torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], dim=1)

    def check_image(self, size: tuple[int, int]) -> None:
        """Raise ValueError unless the regions belong to a picture of `size` = (height, width)."""
        if tuple(size) != self.image_size:
            raise ValueError(
                f"These regions belong to a picture of height {self.image_size[0]} and width {self.image_size[1]}, but "
                f"the picture here has height {size[0]} and width {size[1]}. Detect regions on this picture, or scale "
                "the regions to it."
            )

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dict. Masks are stored at threshold 0.5 as run lengths over rows, starting with zeros."""
        result: dict[str, Any] = {
            "image_size": list(self.image_size),
            "boxes": self.boxes.tolist(),
            "scores": self.scores.tolist(),
            "labels": list(self.labels),
        }
        if self.masks is not None:
            result["masks"] = [_run_lengths(mask) for mask in self.masks]
        if any(self.boxed):
            result["boxed"] = list(self.boxed)
        return result

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Regions:
        """Inverse of `to_dict`. `scores` (1.0), `labels` ("object") and `boxed` (false) may be left out.

        Raises:
            ValueError: if `image_size` or `boxes` is missing or malformed.
        """
        if not isinstance(value, Mapping) or "boxes" not in value or "image_size" not in value:
            found = sorted(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
            raise ValueError(f"Regions need the keys 'image_size' ([height, width]) and 'boxes', got {found}.")
        boxed = value.get("boxed", ())
        if not isinstance(boxed, (list, tuple)) or not all(isinstance(one, bool) for one in boxed):
            raise ValueError(f"Regions: boxed must be a list of true and false, got {str(boxed)[:60]}.")
        try:
            boxes = torch.tensor(value["boxes"], dtype=torch.float32).reshape(-1, 4)
            scores = torch.tensor(value.get("scores", [1.0] * len(boxes)), dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise ValueError(f"Regions: boxes must be a list of [x1, y1, x2, y2] numbers ({error}).") from error
        try:
            size, masks = value["image_size"], None
            if value.get("masks") is not None:
                height, width = size
                rows = [_from_run_lengths(runs, height, width) for runs in value["masks"]]
                masks = torch.stack(rows) if rows else torch.zeros(0, height, width)
            return cls(boxes, scores, tuple(value.get("labels", ["object"] * len(boxes))), size, masks, boxed=boxed)
        except (TypeError, RuntimeError, OverflowError) as error:
            raise ValueError(
                f"Regions: image_size must be [height, width], labels a list of names, masks lists of run lengths ({error})."
            ) from error


_LONGEST_LABEL = 200  # letters: a name, not a text


def _printable(label: str) -> str:
    """A label in one line, without characters that break a terminal, a file or JSON on its way."""
    label = label[:_LONGEST_LABEL]
    return label if label.isprintable() else " ".join("".join(c if c.isprintable() else " " for c in label).split()) or OBJECT_LABEL


def _run_lengths(mask: Tensor) -> list[int]:
    flat = (mask.flatten() > 0.5).to(torch.int8).cpu()
    changes = (torch.nonzero(flat[1:] != flat[:-1]).flatten() + 1).tolist()
    edges = [0, *([0] if flat[0] else []), *changes, flat.numel()]
    return [end - start for start, end in zip(edges[:-1], edges[1:], strict=True)]


def _from_run_lengths(runs: Sequence[int], height: int, width: int) -> Tensor:
    if not all(isinstance(run, int) for run in runs):
        raise ValueError("Regions: mask run lengths must be whole numbers.")
    counts = torch.tensor(list(runs), dtype=torch.long)
    if counts.sum() != height * width or (counts < 0).any():
        raise ValueError(f"Regions: mask run lengths must add up to {height} x {width}, got {int(counts.sum())}.")
    values = torch.arange(len(counts)) % 2
    return values.repeat_interleave(counts).reshape(height, width).float()
