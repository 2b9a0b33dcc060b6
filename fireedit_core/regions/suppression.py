# SPDX-License-Identifier: GPL-3.0-or-later
"""Of boxes that overlap, the best one."""

from __future__ import annotations

import torch
from torch import Tensor

SAME_THING = 0.75  # IoU from which two boxes of different names are two opinions about one thing


def non_maximum_suppression(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices of the kept boxes, best score first. boxes (N, 4) xyxy, scores (N,). Class-agnostic."""
    if boxes.shape[0] == 0:
        return torch.zeros(0, dtype=torch.long, device=boxes.device)
    try:
        from torchvision.ops import nms
    except (ImportError, RuntimeError):  # RuntimeError: a torchvision built for another torch
        return _greedy_nms(boxes, scores, iou_threshold)
    # Sorting first (stable) makes ties deterministic; nms itself sorts without that promise.
    order = torch.argsort(scores, descending=True, stable=True)
    kept = nms(boxes[order].float(), torch.linspace(1, 0, len(order), device=boxes.device), iou_threshold)
    return order[kept]


def _greedy_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    order = torch.argsort(scores, descending=True, stable=True)
    overlap = box_iou(boxes[order], boxes[order]) > iou_threshold
    alive = torch.ones(len(order), dtype=torch.bool, device=boxes.device)
    for i in range(len(order)):
        if alive[i]:
            alive[i + 1 :] &= ~overlap[i, i + 1 :]
    return order[alive]


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Pairwise intersection over union of xyxy boxes (N, 4) and (M, 4) -> (N, M)."""
    area_a = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(dim=1)
    area_b = (b[:, 2:] - b[:, :2]).clamp(min=0).prod(dim=1)
    top_left = torch.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (bottom_right - top_left).clamp(min=0).prod(dim=2)
    return shared / (area_a[:, None] + area_b[None] - shared).clamp(min=1e-9)
