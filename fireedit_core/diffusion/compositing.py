# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes in and out, and the guarantee that nothing moves outside the edit (design D8)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..blur import gaussian_blur


@dataclass(frozen=True)
class WorkingSize:
    """How a picture of `size` is brought to the size that the model works at.

    Attributes:
        size: (height, width) of the picture. inner: the same after resizing. padded: after padding to whole latent cells.
    """

    size: tuple[int, int]
    inner: tuple[int, int]
    padded: tuple[int, int]

    @classmethod
    def plan(cls, size: tuple[int, int], working_size: int = 0, multiple: int = 8) -> WorkingSize:
        """Long side `working_size` pixels where the picture is larger or smaller than that; 0 keeps the picture's own.

        Args:
            multiple: pixels per latent cell. Resized sides become whole multiples of it; otherwise the picture is padded.
        """
        height, width = size
        inner = (height, width)
        if working_size and max(size) != working_size:
            scale = working_size / max(size)
            inner = tuple(max(multiple, round(side * scale / multiple) * multiple) for side in size)
        padded = tuple(-(-side // multiple) * multiple for side in inner)
        return cls((height, width), inner, padded)

    def shrink(self, images: Tensor) -> Tensor:
        """Pictures (B, C, H, W) in 0..1 at the padded working size; edges are repeated into the padding."""
        if images.shape[-2:] != self.inner:
            images = F.interpolate(images, self.inner, mode="bicubic", antialias=True).clamp(0, 1)
        pad = (0, self.padded[1] - self.inner[1], 0, self.padded[0] - self.inner[0])
        return F.pad(images, pad, mode="replicate") if any(pad) else images

    def mask_on_latents(self, mask: Tensor) -> Tensor:
        """Share of each latent cell at the working size that a mask (B, H, W) of the picture covers, (B, 1, h, w)."""
        return mask_on_latents(self.shrink(mask[:, None])[:, 0])

    def hold_mask(self, mask: Tensor) -> Tensor:
        """Where sampling may change latents, (B, 1, h, w): the most that a mask (B, H, W) of the picture reaches in each cell.

        The share of a cell would weaken the edit along its own border.
        """
        return F.max_pool2d(self.shrink(mask[:, None]), 8)

    def restore(self, edited: Tensor, source: Tensor, mask: Tensor) -> Tensor:
        """The edit (B, C, *padded) at the picture's own size (B, C, H, W).

        Where the sizes differ, only the change is enlarged outside the mask, so that the source keeps its detail there.

        Args:
            source: (B, C, H, W). mask: (B, H, W) soft mask of the edit.
        """
        edited = edited[..., : self.inner[0], : self.inner[1]]
        if self.inner == self.size:
            return edited
        enlarge = lambda x: F.interpolate(x, self.size, mode="bicubic", antialias=True)  # noqa: E731
        small = F.interpolate(source, self.inner, mode="bicubic", antialias=True).clamp(0, 1)
        mask = mask[:, None]
        return (mask * enlarge(edited) + (1 - mask) * (source + enlarge(edited - small))).clamp(0, 1)


def mask_on_latents(mask: Tensor, cell: int = 8) -> Tensor:
    """Share of each latent cell that a mask (B, H, W) covers, (B, 1, h, w); H and W are whole multiples of `cell` pixels."""
    return F.avg_pool2d(mask[:, None].float(), cell)


def edit_mask(soft: Tensor, threshold: float = 0.5, grow: int = 3, feather: int = 4) -> Tensor:
    """A compositing mask from a soft grounding mask: exactly 1 on the edit, exactly 0 beyond grow + feather pixels.

    Args:
        soft: (B, H, W) in 0..1. threshold: what counts as edited.
        grow: pixels added around the edit at full strength. feather: width in pixels of the ramp after that.
    """
    hard = (soft > threshold).float()[:, None]
    dilate = lambda x, r: F.max_pool2d(x, 2 * r + 1, 1, r) if r else x  # noqa: E731
    core = dilate(hard, grow)
    if not feather:
        return core[:, 0]
    ramp = F.avg_pool2d(
        F.pad(dilate(core, feather // 2), (feather // 2,) * 4, mode="replicate"), 2 * (feather // 2) + 1, 1
    )
    # the average of a half-feather dilation is 0 beyond one feather; the core itself stays at 1
    return torch.maximum(core, ramp)[:, 0]


def match_surroundings(source: Tensor, edited: Tensor, mask: Tensor, cells: int = 32, reach: float = 2.0) -> Tensor:
    """`edited` without the tint that it has around the mask, where it ought to equal the source.

    Autoencoder and model shift colours a little and smoothly. Where the edit is put back into the source, that shift shows
    as a patch; it is measured beside the mask, smoothed, and taken off inside too. Real changes beside the mask, larger
    than 0.15, do not count, and far from all that is known nothing is shifted.

    Args:
        source, edited: (B, C, H, W) in 0..1. mask: (B, H, W) in 0..1. cells: along the long side; the shift has no finer detail.
        reach: standard deviation of the smoothing, in cells.
    """
    off = (source - edited).float()
    known = (mask[:, None] == 0) & (off.abs().amax(1, keepdim=True) < 0.15)
    off, known = torch.where(known, off, 0), known.float()
    height, width = off.shape[-2:]
    cell = max(1, -(-max(height, width) // cells))
    grid = (-(-height // cell), -(-width // cell))
    off, known = F.adaptive_avg_pool2d(off, grid), F.adaptive_avg_pool2d(known, grid)
    shift = torch.zeros_like(off)
    for sigma in (3 * reach, reach):  # the wider view fills in where the nearer one sees too little
        weight = gaussian_blur(known, sigma, "constant")
        trust = (weight / 0.05).clamp(max=1)
        shift = trust * gaussian_blur(off, sigma, "constant") / weight.clamp(min=1e-6) + (1 - trust) * shift
    shift = F.interpolate(shift, (height, width), mode="bilinear", align_corners=False)
    return (edited + shift.to(edited)).clamp(0, 1)


def composite(source: Tensor, edited: Tensor, mask: Tensor) -> Tensor:
    """`edited`, its tone matched, inside the mask and `source` outside, blended on the ramp; at mask 0 the source bit for bit.

    Shapes: source and edited (B, C, H, W), mask (B, H, W) in 0..1.
    """
    edited = match_surroundings(source, edited, mask)
    mask = mask[:, None].to(source)
    mixed = source + mask * (edited - source)
    return torch.where(mask == 0, source, mixed)


def next_source(original: Tensor, edited: Tensor, mask: Tensor, touched: Tensor) -> tuple[Tensor, Tensor]:
    """What the next of several edits starts from, and the mask of all that was edited so far.

    What no edit was meant to touch comes from the original again, so that the autoencoder's losses do not add up there.

    Args:
        original: the picture before the first edit, (B, C, H, W) in 0..1. edited: the result of the latest edit.
        mask: (B, H, W), `edit_mask` of the latest edit. touched: the same of all edits before it, zeros at first.
    """
    touched = torch.maximum(touched, mask)
    return composite(original, edited, touched), touched


@dataclass(frozen=True)
class Change:
    """Mean absolute change on 0..1 inside and outside the edit, and the share of pixels that counts as inside."""

    inside: float
    outside: float
    area: float


def measure_change(source: Tensor, edited: Tensor, mask: Tensor) -> Change:
    """Measured change of pictures (B, C, H, W) in 0..1; pixels with mask (B, H, W) > 0 are inside."""
    difference = (edited.float() - source.float()).abs().mean(1)
    inside = (mask > 0).to(difference)
    outside = 1 - inside
    mean = lambda weight: float((difference * weight).sum() / weight.sum().clamp(min=1))  # noqa: E731
    return Change(mean(inside), mean(outside), float(inside.mean()))
