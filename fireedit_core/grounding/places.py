# SPDX-License-Identifier: GPL-3.0-or-later
"""How well boxes lie in a picture and to each other as words say it: "left", "between", "on", "in front of", "next to"."""

from __future__ import annotations

from torch import Tensor

SIDES = {"left": (0, False), "right": (0, True), "top": (1, False), "bottom": (1, True)}  # axis, and whether its far end is meant


def towards(side: str, centre: Tensor, size: tuple[int, int]) -> float:
    """How far from the middle a centre (x, y) lies towards one of `SIDES`, as a share of a picture of (height, width): -0.5 to 0.5."""
    axis, towards_end = SIDES[side]
    place = float(centre[axis]) / size[1 - axis]
    return place - 0.5 if towards_end else 0.5 - place


def between(centre: Tensor, others: Tensor) -> float:
    """How well a centre (x, y) lies between others (n, 2), 0..1: of two or more, from the left to the right one."""
    if len(others) < 2:
        return 0.0
    return 1.0 if float(others[:, 0].min()) < float(centre[0]) < float(others[:, 0].max()) else 0.05


def lies(relation: str, box: Tensor, other: Tensor) -> float:
    """How well a box lies to another as a relation says, 0..1.

    Args:
        relation: of `phrases.Phrase.relations`. box, other: (4,) x1, y1, x2, y2 in pixels.
    """
    x1, y1, x2, y2 = box.tolist()
    a1, b1, a2, b2 = other.tolist()
    width, height = max(x2 - x1, 1.0), max(y2 - y1, 1.0)
    shared_x, shared_y = max(0.0, min(x2, a2) - max(x1, a1)), max(0.0, min(y2, b2) - max(y1, b1))
    gap = (max(0.0, max(x1, a1) - min(x2, a2)) ** 2 + max(0.0, max(y1, b1) - min(y2, b2)) ** 2) ** 0.5
    scale = (width * height) ** 0.5 + max((a2 - a1) * (b2 - b1), 1.0) ** 0.5
    near = 2 ** -(gap / (0.15 * scale))
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
        return max(holds, 0.5 * near if gap < 0.1 * scale else 0.0)
    if relation == "of":
        return max(inside, holds, 0.3 * near)
    # next to: near, and not one upon the other
    return near * (1.0 - 0.5 * max(inside, holds))
