# SPDX-License-Identifier: GPL-3.0-or-later
"""How well boxes lie in a picture and to each other as words say it: "left", "between", "on", "in front of", "next to"."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# what a box x1, y1, x2, y2 has less of, the sooner it comes in a row
ORDERS: dict[str, Callable[[float, float, float, float], float]] = {
    "left": lambda x1, y1, x2, y2: x1 + x2, "right": lambda x1, y1, x2, y2: -x1 - x2,
    "top": lambda x1, y1, x2, y2: y1 + y2, "bottom": lambda x1, y1, x2, y2: -y1 - y2,
    "front": lambda x1, y1, x2, y2: -y2, "back": lambda x1, y1, x2, y2: y2,
    "big": lambda x1, y1, x2, y2: -(x2 - x1) * (y2 - y1), "small": lambda x1, y1, x2, y2: (x2 - x1) * (y2 - y1),
    "tall": lambda x1, y1, x2, y2: y1 - y2, "short": lambda x1, y1, x2, y2: y2 - y1,
    "wide": lambda x1, y1, x2, y2: x1 - x2, "narrow": lambda x1, y1, x2, y2: x2 - x1,
}  # fmt: skip
SIDES = {"left": (0, False), "right": (0, True), "top": (1, False), "bottom": (1, True)}  # axis, and whether its far end is meant


def towards(side: str, centre: Tensor, size: tuple[int, int]) -> float:
    """How far from the middle a centre (x, y) lies towards one of `SIDES`, as a share of a picture of (height, width): -0.5 to 0.5."""
    axis, towards_end = SIDES[side]
    place = float(centre[axis]) / size[1 - axis]
    return place - 0.5 if towards_end else 0.5 - place


def ranked(values: Sequence[float], largest_first: bool, step: float) -> Tensor:
    """`step` to the power of each value's rank; equal values have one rank."""
    ordered = sorted(set(values), reverse=largest_first)
    return torch.tensor([step ** ordered.index(value) for value in values])


def gap(box: Tensor, other: Tensor) -> float:
    """Pixels between the edges of two boxes; 0 where they touch."""
    apart = [max(0.0, float(max(box[axis], other[axis]) - min(box[axis + 2], other[axis + 2]))) for axis in (0, 1)]
    return (apart[0] ** 2 + apart[1] ** 2) ** 0.5


def from_middle(boxes: Tensor) -> list[float] | None:
    """How many places each of the boxes (n, 4) stands from the middle of their row; None for what is no row with a middle."""
    sizes = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1).prod(1)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    spread = (centres.amax(0) - centres.amin(0)).tolist()
    # three or five of a size, in line
    if len(boxes) < 3 or len(boxes) % 2 == 0 or float(sizes.min()) < 0.25 * float(sizes.max()) or min(spread) > 0.5 * max(spread):
        return None
    ranks = centres[:, 0 if spread[0] >= spread[1] else 1].argsort().argsort()
    return (ranks - len(boxes) // 2).abs().tolist()


def between(centre: Tensor, others: Tensor) -> float:
    """How well a centre (x, y) lies between others (n, 2), 0..1: of two or more, on the line of those that lie furthest apart."""
    if len(others) < 2:
        return 0.0
    apart = (others[:, None] - others).norm(dim=-1)
    first, last = divmod(int(apart.argmax()), len(others))
    length = float(apart[first, last])
    (x, y), (dx, dy) = (centre - others[first]).tolist(), (others[last] - others[first]).tolist()
    if not 0 < x * dx + y * dy < length**2:
        return 0.05
    off = abs(x * dy - y * dx) / length**2  # from the line, of its length
    return max(0.1, 1 / (1 + 8 * off**2))


def lies(relation: str, box: Tensor, other: Tensor) -> float:
    """How well a box lies to another as a relation says, 0..1.

    Args:
        relation: of `phrases.Phrase.relations`. box, other: (4,) x1, y1, x2, y2 in pixels.
    """
    x1, y1, x2, y2 = box.tolist()
    a1, b1, a2, b2 = other.tolist()
    width, height = max(x2 - x1, 1.0), max(y2 - y1, 1.0)
    shared_x, shared_y = max(0.0, min(x2, a2) - max(x1, a1)), max(0.0, min(y2, b2) - max(y1, b1))
    apart = gap(box, other)
    scale = (width * height) ** 0.5 + max((a2 - a1) * (b2 - b1), 1.0) ** 0.5
    near = 2 ** -(apart / (0.15 * scale))
    inside = shared_x * shared_y / (width * height)
    holds = shared_x * shared_y / max((a2 - a1) * (b2 - b1), 1.0)
    middle, other_middle = ((x1 + x2) / 2, (y1 + y2) / 2), ((a1 + a2) / 2, (b1 + b2) / 2)
    beside = {
        "left of": middle[0] < other_middle[0], "right of": middle[0] > other_middle[0],
        "above": middle[1] < other_middle[1], "below": middle[1] > other_middle[1],
    }  # fmt: skip
    if relation in beside:
        return (1.0 if beside[relation] else 0.02) * (0.3 + 0.7 * near)
    in_line = 0.1 + 0.9 * min(1.0, 1.25 * shared_x / min(width, max(a2 - a1, 1.0)))
    if relation == "in front of":  # what is nearer stands lower in the picture
        return (1.0 if y2 > b2 - 0.02 * height else 0.1) * in_line * near
    if relation == "behind":
        return (1.0 if y2 < b2 + 0.02 * height else 0.1) * in_line * near
    if relation == "on":
        stands = b1 - 0.15 * height <= y2 <= b2 + 0.15 * height and shared_x > 0.5 * min(width, max(a2 - a1, 1.0))
        return max(1.0 if stands else 0.0, inside if y2 <= b2 else 0.5 * inside)
    if relation == "in":
        return inside
    if relation == "with":
        return max(holds, 0.5 * near if apart < 0.1 * scale else 0.0)
    if relation == "from":  # "the cup from the table" stands on it, "the door from the car" is a part
        return max(lies("on", box, other), lies("of", box, other))
    if relation == "of":
        return max(inside, holds, 0.3 * near)
    # next to: near, and not one upon the other
    return near * (1.0 - 0.5 * max(inside, holds))
