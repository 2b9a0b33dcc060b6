# SPDX-License-Identifier: GPL-3.0-or-later
"""The outlines of masks as short SVG paths: what a picker draws over a picture, in kilobytes where the masks are megabytes."""

from __future__ import annotations

import torch
from torch import Tensor

from ..opencv import opencv
from .record import Regions

MOST_CORNERS = 6_000  # of all outlines of a picture together: about fifty kilobytes
_MOST_EACH, _LEAST_EACH = 160, 24  # of one region
_SIDE = 256  # a mask is looked at in its box at up to so many pixels a side
_READ_SIDE = 1024
_SPECK = 0.004  # of the box: parts and holes below it are left out


def outlines(regions: Regions) -> list[str]:
    """One SVG path per region in whole pixels of the picture, to be filled by the even-odd rule; "" where a mask is black.

    [] for regions without masks. Outlines of many regions are coarser.

    Raises:
        ImportError: without OpenCV.
    """
    if regions.masks is None or not len(regions):
        return []
    corners = min(max(MOST_CORNERS // len(regions), _LEAST_EACH), _MOST_EACH)
    return [_path(mask, corners) for mask in regions.masks]


def _path(mask: Tensor, most: int) -> str:
    cv2 = opencv()
    step = max(max(mask.shape) // _READ_SIDE, 1)  # a picker shows a photo at a thousand pixels or so
    there = mask[::step, ::step] > 0.5
    rows, columns = there.any(1).nonzero().flatten(), there.any(0).nonzero().flatten()
    if not len(rows):
        return ""
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    shape = there[top:bottom, left:right].to(torch.uint8).cpu().numpy() * 255
    top, left, bottom, right = top * step, left * step, min(bottom * step, mask.shape[0]), min(right * step, mask.shape[1])
    shrink = min(1.0, _SIDE / max(shape.shape))
    # twice as large at least, since a contour runs through the middles of its pixels
    width, height = (max(round(side * shrink), 1) * 2 for side in (shape.shape[1], shape.shape[0]))
    small = cv2.resize(shape, (width, height), interpolation=cv2.INTER_AREA if shrink < 0.5 else cv2.INTER_NEAREST)
    small = cv2.copyMakeBorder((small > 127).astype("uint8"), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    found, _ = cv2.findContours(small, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    parts = sorted((part for part in found if len(part) > 2), key=cv2.contourArea, reverse=True)
    parts = [part for part in parts if cv2.contourArea(part) >= _SPECK * width * height] or parts[:1]
    tolerance = 1.0
    while True:
        drawn = [cv2.approxPolyDP(part, tolerance, True)[:, 0] for part in parts]
        if sum(map(len, drawn)) <= most or tolerance > 64:
            break
        tolerance *= 1.4
    path = []
    for part in drawn[:most]:
        points = (
            (left + round((x - 0.5) * (right - left) / width), top + round((y - 0.5) * (bottom - top) / height)) for x, y in part.tolist()
        )
        path.append("M" + " ".join(f"{x},{y}" for x, y in dict.fromkeys(points)) + "Z")
    if not path:  # a line or a point of a mask
        path = [f"M{left},{top} {right},{top} {right},{bottom} {left},{bottom}Z"]
    return "".join(path)
