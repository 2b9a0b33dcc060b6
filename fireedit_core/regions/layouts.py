# SPDX-License-Identifier: GPL-3.0-or-later
"""What four numbers of a box mean, and what they look like when they cannot mean that."""

from __future__ import annotations

from collections.abc import Sequence

BBOX_LAYOUTS = ("xywh", "xyxy")
_GRID = 1000.0  # of VLMs and of the core's drawn elements: 0..1000 whatever the picture's size
_SLACK = 0.02  # of a side: detectors round, and boxes may stick out a little


def check_layout(layout: str) -> None:
    """Raises ValueError for a layout that is none of `BBOX_LAYOUTS`."""
    if layout not in BBOX_LAYOUTS:
        raise ValueError(f"BBOX layout must be one of {BBOX_LAYOUTS}, got {layout!r}.")


def to_xyxy(box: Sequence[float], layout: str) -> list[float]:
    """Four numbers as x1, y1, x2, y2. Raises ValueError where they cannot be a box of this layout."""
    x1, y1, a, b = box
    if layout == "xywh":
        if a < 0 or b < 0:
            raise ValueError(f"BBOX: width and height must not be negative (xywh), got {list(box)!r}.")
        return [x1, y1, x1 + a, y1 + b]
    if a < x1 or b < y1:
        raise ValueError(f"BBOX: {list(box)!r} is no x1, y1, x2, y2; if it is x, y, width, height, choose layout xywh.")
    return [x1, y1, a, b]


def check_fits(boxes: Sequence[Sequence[float]], image_size: tuple[int, int], layout: str) -> None:
    """Refuse boxes that cannot lie in the picture as they are read, and say what they look like instead.

    Nobody draws boxes of no size, or outside the picture: such numbers are nearly always of another dialect, and an edit of what
    they point at changes nothing.

    Args:
        boxes: all boxes of one picture, four numbers each, as they came. image_size: (height, width).

    Raises:
        ValueError: for the first box that does not fit, with all numbers, the picture's size and the mend.
    """
    height, width = image_size
    boxes = [list(map(float, box)) for box in boxes]
    if not boxes:
        return
    size = f"the picture is {width} x {height}"
    if all(0 <= v <= 1 for box in boxes for v in box) and max(height, width) > 2 and any(v > 0 for box in boxes for v in box):
        raise ValueError(
            f"BBOX: {_short(boxes[0])} looks like shares of the picture (0..1), and {size} pixels. Multiply them by its width and height."
        )
    for box in boxes:
        x1, y1, x2, y2 = to_xyxy(box, layout)
        if x2 <= x1 or y2 <= y1:
            raise ValueError(f"BBOX: {_short(box)} has no size ({layout}). Leave it out, or choose the other layout.")
        inside = x1 >= -_SLACK * width and y1 >= -_SLACK * height and x2 <= (1 + _SLACK) * width and y2 <= (1 + _SLACK) * height
        if inside:
            continue
        if layout == "xywh" and all(_fits(other, image_size) for other in boxes):
            raise ValueError(
                f"BBOX: {_short(box)} as x, y, width, height reaches to {x2:g}, {y2:g}, but {size}; as x1, y1, x2, y2 all boxes fit. "
                "Choose layout xyxy."
            )
        if _looks_like_grid(boxes, image_size, layout):
            raise ValueError(
                f"BBOX: {_short(box)} reaches outside ({size}) and looks like coordinates of 0..1000, as language models give them. "
                "Multiply them by the picture's width and height over 1000."
            )
        if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
            raise ValueError(f"BBOX: {_short(box)} ({layout}) lies outside, {size}. Boxes are pixels of this very picture.")


def _fits(box: Sequence[float], image_size: tuple[int, int]) -> bool:
    """Whether four numbers are x1, y1, x2, y2 of a box inside the picture."""
    x1, y1, x2, y2 = box
    height, width = image_size
    return 0 <= x1 < x2 <= (1 + _SLACK) * width and 0 <= y1 < y2 <= (1 + _SLACK) * height


def _looks_like_grid(boxes: Sequence[Sequence[float]], image_size: tuple[int, int], layout: str) -> bool:
    """Whether boxes reach far beyond the picture, but stay on a grid of 1000 and use a good part of it."""
    height, width = image_size
    ends = [to_xyxy(box, layout) for box in boxes]
    on_grid = all(0 <= min(box) and max(box) <= _GRID for box in (*boxes, *ends))
    beyond = any(x2 > 1.2 * width or y2 > 1.2 * height for _, _, x2, y2 in ends)
    return on_grid and beyond and max(map(max, boxes)) > _GRID / 5


def _short(box: Sequence[float]) -> str:
    return f"({', '.join(f'{v:g}' for v in box)})"
