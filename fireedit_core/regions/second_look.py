# SPDX-License-Identifier: GPL-3.0-or-later
"""A second look at what a small detector found: a classifier of crops says what the thing in each box is.

A network of 3.8 M parameters that boxes and names at once is better at the first: it calls two dogs a cat, a nuthatch a giraffe, a clock
scissors. The classifier knows 120 breeds of dogs and no boxes. So the boxes are the detector's; the names are what both agree on, and
where the detector is not sure and the classifier is, the classifier's. Where in the box it sees what it names (class activation mapping,
arXiv 1512.04150) tells a box that is far too large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .detector import Proposals
from .efficientnet import CLASSES, EfficientNetLite0, prepare

EAGER = 0.57  # share of the threshold from which boxes are looked at again
_MOST = 24  # boxes of a picture that are looked at, the surest
_ENOUGH = 672  # px of the shorter side of a crop, three times what the classifier sees: of more, every second or third pixel will do
_AROUND = 0.1  # of the longer side of a box, on each side: a thing is also told by what it stands on
_EVEN = 0.12  # share for a name from which the classifier speaks for it
_WEIGHT = 0.45  # of the classifier's log odds beside the detector's
_HEARD, _SURER = 0.5, 0.15  # another name counts from this share on, and this far above the detector's score
_ALONE = 0.7  # another name counts from this share on where the detector alone would not have shown the box
_SETTLED = 0.6  # a detector that is as sure as this is not contradicted
_DENIED = 0.15  # above this share for its own name a thing keeps it
_WARM = 0.4  # of the strongest evidence: from there on a cell of the map belongs to the thing
_LOOSE = 0.3  # share of a box with all the evidence below which it is shrunk to that; boxes that fit have .39 and more
_PART = 0.5  # share of the smaller of two boxes of one name from which the fainter is a part of the other, or its surroundings


@dataclass(frozen=True, eq=False)
class _Judged:
    box: Tensor  # (4,) xyxy in pixels
    score: float
    name: str
    faint: bool = False  # whether the detector alone would not have shown it


@dataclass(frozen=True, eq=False)
class Sight:
    """What is seen in a box.

    Attributes:
        shares: (names,), how much of it has each name, on the CPU. classes: (1000,), of ImageNet's. features: (1280, 7, 7), of its window.
    """

    shares: Tensor
    classes: Tensor
    features: Tensor


class SecondLook(nn.Module):
    """Names and scores of boxes, judged again.

    Args:
        names: for each class of ImageNet the everyday name that people have for it; "" for what has none here.
        living: which of the names, and of the detector's, are animals. An animal is never renamed to a thing, nor a thing to an animal: a
            couch on which a cat lies looks like a cat to a classifier. Persons are never renamed, for the same reason.

    Raises:
        ValueError: for another number of names.
    """

    def __init__(self, names: Sequence[str], living: Sequence[str]):
        super().__init__()
        if len(names) != CLASSES:
            raise ValueError(f"a name, or an empty one, is needed for each of ImageNet's {CLASSES} classes, got {len(names)}.")
        self.names = tuple(dict.fromkeys(name for name in names if name))
        self._numbers = {name: number for number, name in enumerate(self.names)}
        self.living = frozenset(living)
        self.network = EfficientNetLite0().eval().requires_grad_(False)
        columns = torch.tensor([self._numbers.get(name, len(self.names)) for name in names])  # the last takes what has no name
        self.register_buffer("columns", columns, persistent=False)

    @torch.no_grad()
    def look(self, image: Tensor, boxes: Tensor) -> list[Sight]:
        """What is seen in each of boxes (n, 4), xyxy in pixels of image (1, 3, H, W) in 0..1."""
        if not len(boxes):
            return []
        features = self.network.features(torch.cat([prepare(crop(image, box)) for box in boxes.tolist()]))
        classes = self.network.classifier(features.mean(dim=(2, 3))).float().softmax(dim=1)
        shares = classes.new_zeros(len(boxes), len(self.names) + 1).index_add_(1, self.columns, classes)[:, :-1].cpu()
        return [Sight(*seen) for seen in zip(shares, classes, features, strict=True)]

    def evidence(self, sight: Sight, name: str) -> Tensor:
        """(7, 7), how much each part of a box's window speaks for a name, of any scale: class activation maps of its classes, summed."""
        linear, own = self.network.classifier, (self.columns == self._numbers[name]).nonzero().flatten()
        weight = (sight.classes[own, None].to(linear.weight) * (linear.weight[own] - linear.weight.mean(dim=0))).sum(dim=0)
        return (weight[:, None, None] * sight.features).sum(dim=0).float().cpu()

    def forward(self, image: Tensor, found: Proposals, threshold: float) -> Proposals:
        """What was found in image (1, 3, H, W), named and scored anew; what falls below the threshold is left out.

        Args:
            found: from `EAGER` times the threshold on, on the CPU; of boxes of one name that lie on each other only the surest.
        """
        order = torch.argsort(found.scores, descending=True, stable=True).tolist()
        sights = self.look(image, found.boxes[order[:_MOST]])
        judged = []
        for number, i in enumerate(order):
            box, score, name = found.boxes[i], float(found.scores[i]), found.labels[i]
            faint = score <= threshold
            if number < _MOST:
                sight = sights[number]
                score, name = self._judge(score, name, sight.shares, _ALONE if faint else _HEARD)
                if self._share(sight.shares, name) >= _EVEN:
                    box = fitted(box, self.evidence(sight, name), (image.shape[-2], image.shape[-1]))
            if score > threshold:
                judged.append(_Judged(box, score, name, faint))
        kept = [one for one in judged if not one.faint]
        for one in sorted((one for one in judged if one.faint), key=lambda one: -one.score):
            if all(one.name != other.name or _shared(one.box, other.box) < _PART for other in kept):
                kept.append(one)
        boxes = torch.stack([one.box for one in kept]) if kept else torch.zeros(0, 4)
        return Proposals(boxes, torch.tensor([one.score for one in kept]), [one.name for one in kept])

    def _judge(self, score: float, label: str, seen: Tensor, heard: float) -> tuple[float, str]:
        """Score and name of a box, of what the detector and the classifier (names,) make of it; another name needs the share `heard`."""
        own, name = self._share(seen, label), self.names[int(seen.argmax())]
        share = self._share(seen, name)
        kin = label != "person" and (label in self.living) == (name in self.living)
        if kin and score < _SETTLED and own < _DENIED and share >= max(heard, score + _SURER):
            return together(score, share), name
        return together(score, own), label

    def _share(self, seen: Tensor, name: str) -> float:
        """Of what is seen (names,), how much has a name; 0 for one that the classifier does not have."""
        return float(seen[self._numbers[name]]) if name in self._numbers else 0.0


def together(score: float, share: float) -> float:
    """A detector's score, raised by what a classifier sees for the same name: log odds are added. It never falls."""
    odds = max(0.0, _logit(share) - _logit(_EVEN))
    return score if odds == 0 else 1 / (1 + math.exp(-_logit(score) - _WEIGHT * odds))


def window(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is looked at for a box (xyxy in pixels of a picture of `size` = (height, width)).

    A square with the box in its middle and what is around it, as far as the picture reaches.
    """
    x1, y1, x2, y2 = box
    half = max(x2 - x1, y2 - y1) * (0.5 + _AROUND)
    left, right = _range((x1 + x2) / 2, half, size[1])
    top, bottom = _range((y1 + y2) / 2, half, size[0])
    return left, top, right, bottom


def crop(image: Tensor, box: Sequence[float]) -> Tensor:
    """The `window` of a box in image (1, 3, H, W).

    Of large ones only some pixels are read: what 24 megapixels hold would take longer to shrink than to look at.
    """
    left, top, right, bottom = window(box, (image.shape[-2], image.shape[-1]))
    step = max(1, min(right - left, bottom - top) // _ENOUGH)
    return image[..., top:bottom:step, left:right:step]


def fitted(box: Tensor, evidence: Tensor, size: tuple[int, int]) -> Tensor:
    """A box (4,), or where the evidence (7, 7) over its window fills but a small part of it, that part."""
    if float(evidence.max()) <= 0:
        return box
    left, top, right, bottom = window(box.tolist(), size)
    rows, columns = (evidence >= _WARM * evidence.max()).nonzero(as_tuple=True)
    wide, high = (right - left) / evidence.shape[1], (bottom - top) / evidence.shape[0]
    warm = box.new_tensor([
        left + float(columns.min()) * wide, top + float(rows.min()) * high,
        left + float(columns.max() + 1) * wide, top + float(rows.max() + 1) * high,
    ])  # fmt: skip
    part = torch.cat([torch.maximum(warm[:2], box[:2]), torch.minimum(warm[2:], box[2:])])
    sides = part[2:] - part[:2]
    inside = bool((sides >= 1).all()) and float(sides.prod()) < _LOOSE * float((box[2:] - box[:2]).prod())
    return part if inside else box


def _range(middle: float, half: float, length: int) -> tuple[int, int]:
    """First pixel and the one behind the last, at least one apart, within 0..length."""
    first = min(max(math.floor(middle - half), 0), length - 1)
    return first, max(min(math.ceil(middle + half), length), first + 1)


def _shared(a: Tensor, b: Tensor) -> float:
    """The intersection of two boxes over the area of the smaller."""
    inside = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0).prod()
    return float(inside / torch.minimum((a[2:] - a[:2]).prod(), (b[2:] - b[:2]).prod()).clamp(min=1e-9))


def _logit(share: float) -> float:
    share = min(max(share, 1e-4), 1 - 1e-4)
    return math.log(share / (1 - share))
