# SPDX-License-Identifier: GPL-3.0-or-later
"""The objectives, each as one number per row and then the mean over all rows, so that processes can share a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.training_utils import compute_snr
from torch import Tensor

from ...vlm import Grounding

POINTED = 0.3  # least intersection over union of a region with the mask's box to be the one that is meant
WHOLE = 0.6  # share of the picture from which on a mask means all of it


def row_noise(seeds: Tensor, shape: Sequence[int], steps: int, dropout: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(noise (B, *shape), timesteps (B,), text dropped (B,), picture dropped (B,)) of rows, each from its own seed.

    Text alone, both and the picture alone are dropped with probability `dropout` each (InstructPix2Pix, arXiv 2211.09800, 3.2.1).
    """
    noise, times, drops = [], [], []
    for seed in seeds.tolist():
        generator = torch.Generator().manual_seed(seed % 2**63)
        noise.append(torch.randn(tuple(shape), generator=generator))
        times.append(torch.randint(steps, (), generator=generator))
        drops.append(torch.rand((), generator=generator))
    u = torch.stack(drops)
    return torch.stack(noise), torch.stack(times), u < 2 * dropout, (u >= dropout) & (u < 3 * dropout)


def min_snr_weight(scheduler, timesteps: Tensor, gamma: float) -> Tensor:  # noqa: ANN001
    """Weight (B,) of the squared error of what the scheduler's network predicts (arXiv 2303.09556); ones for gamma 0."""
    if gamma <= 0:
        return torch.ones(timesteps.shape, device=timesteps.device)
    snr = compute_snr(scheduler, timesteps)
    clipped = snr.clamp(max=gamma)
    kind = scheduler.config.prediction_type
    return {"sample": clipped, "epsilon": clipped / snr, "v_prediction": clipped / (snr + 1)}[kind]


def wanted_prediction(kind: str, clean: Tensor, noise: Tensor, signal: Tensor, sigma: Tensor) -> Tensor:
    """What the network should say at `signal` * clean + `sigma` * noise.

    Raises:
        ValueError: for a prediction type that is none of diffusers' three.
    """
    if kind not in ("sample", "epsilon", "v_prediction"):
        raise ValueError(f"the bundle's scheduler has the prediction type {kind!r}; known are sample, epsilon and v_prediction")
    return {"sample": clean, "epsilon": noise, "v_prediction": signal * noise - sigma * clean}[kind]


def meant_regions(boxes: Tensor, region_mask: Tensor, mask: Tensor, has_mask: Tensor, unchanged: Tensor) -> Tensor:
    """Which region each row is about, (B,): its index, n for none of them, -1 where nobody knows.

    It is the one that overlaps the box around the mask most, if it does so well enough. A mask over most of the picture, and a row whose
    right answer is to change nothing, mean none.

    Args:
        boxes: (B, n, 4) cxcywh in 0..1. region_mask: (B, n) bool. mask: (B, H, W) bool. has_mask, unchanged: (B,) bool.
    """
    from torchvision.ops import box_convert, box_iou  # deferred, see region_encoder

    height, width = mask.shape[-2:]
    found = torch.full((len(mask),), -1, dtype=torch.long, device=boxes.device)
    found[unchanged] = boxes.shape[1]
    for row in (has_mask & ~unchanged & mask.flatten(1).any(1)).nonzero()[:, 0].tolist():
        if mask[row].float().mean() >= WHOLE:
            found[row] = boxes.shape[1]
            continue
        if not boxes.shape[1]:  # of a model without region tokens
            continue
        rows, columns = mask[row].any(1).nonzero()[:, 0], mask[row].any(0).nonzero()[:, 0]
        box = torch.stack([columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height])
        overlap = box_iou(box_convert(boxes[row].float(), "cxcywh", "xyxy"), box[None].to(boxes))[:, 0]
        overlap = overlap.masked_fill(~region_mask[row], -1)
        if float(overlap.max()) >= POINTED:
            found[row] = int(overlap.argmax())
    return found


def grounding_loss(grounding: Grounding, meant: Tensor, mask: Tensor, has_mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Pointing (cross entropy) where it is known who is meant, painting (BCE and dice) where there is a mask; how often it is right, which
    is not a number where nobody knows who is meant.

    Args:
        meant: (B,) of `meant_regions`. mask: (B, H, W) bool. has_mask: (B,) bool.
    """
    known = meant >= 0
    point = F.cross_entropy(grounding.region_logits.float(), meant.clamp(min=0), reduction="none")
    logits = grounding.mask_logits.float()
    wanted = F.adaptive_avg_pool2d(mask.float()[:, None], logits.shape[-2:])[:, 0]
    soft = logits.sigmoid()
    dice = 1 - (2 * (soft * wanted).sum((1, 2)) + 1) / (soft.sum((1, 2)) + wanted.sum((1, 2)) + 1)
    paint = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean((1, 2)) + dice
    # torch.where and not a product: what is not known may be infinite
    zero = torch.zeros_like(paint)
    loss = (torch.where(known, point, zero) + torch.where(has_mask, paint, zero)).mean()
    right = (grounding.region_logits.argmax(-1) == meant)[known].float()
    return loss, {"point": right.mean()}
