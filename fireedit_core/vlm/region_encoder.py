# SPDX-License-Identifier: GPL-3.0-or-later
"""Region encoder R: one token per detected box from multi-level ROIAlign (paper eq. 2, P = R(D(x)); Groma's shape)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn


class _FuseConv(nn.Module):
    """3x3 convolution, GroupNorm, ReLU, shared by all levels of one fusion round."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.gn = nn.GroupNorm(groups, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.gn(self.conv(x)))


class _MultiLevelFuse(nn.Module):
    """Adds coordinates to each level, then lets neighbouring levels exchange half of their channels, round by round."""

    def __init__(self, channels: int, levels: int, rounds: int, groups: int):
        super().__init__()
        self.input_conv = nn.ModuleList(nn.Conv2d(channels + 2, channels, 1) for _ in range(levels))
        self.fuse_convs = nn.ModuleList(_FuseConv(channels, groups) for _ in range(rounds))

    @staticmethod
    def _with_coordinates(x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        xs = torch.linspace(-1, 1, w, device=x.device, dtype=x.dtype).view(1, 1, 1, w).expand(b, 1, h, w)
        ys = torch.linspace(-1, 1, h, device=x.device, dtype=x.dtype).view(1, 1, h, 1).expand(b, 1, h, w)
        return torch.cat([x, xs, ys], dim=1)

    @staticmethod
    def _shuffle(levels: list[Tensor]) -> list[Tensor]:
        # Groma's order: first half of the own channels, last quarter of the next level, third quarter of the previous.
        half = levels[0].shape[1] // 2
        quarter = half // 2
        out = []
        for index, x in enumerate(levels):
            after = levels[min(index + 1, len(levels) - 1)][:, half + quarter :]
            before = levels[max(index - 1, 0)][:, half : half + quarter]
            parts = [x[:, :half], _resize(after, x.shape[-2:]), _resize(before, x.shape[-2:])]
            out.append(torch.cat(parts, dim=1))
        return out

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        levels = [conv(self._with_coordinates(x)) for conv, x in zip(self.input_conv, levels, strict=True)]
        for conv in self.fuse_convs:
            levels = [conv(x) for x in self._shuffle(levels)]
        return levels


class _RoiAlign(nn.Module):
    """Pools each box from every level, adds its position embedding and maps it to the language model's width."""

    def __init__(self, channels: int, levels: int, roi_size: int, position_size: int, hidden_size: int):
        super().__init__()
        self.pconvs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(levels))
        self.pos_embedd = nn.Sequential(
            nn.Linear(4, position_size), nn.ReLU(), nn.LayerNorm(position_size),
            nn.Linear(position_size, channels), nn.ReLU(), nn.LayerNorm(channels),
        )  # fmt: skip
        self.flatten_linear = nn.Linear(channels * roi_size * roi_size, channels)
        self.updims = nn.Linear(channels, hidden_size)


class RegionEncoder(ModelMixin, ConfigMixin):
    """One token per region: (B, h*w, C) DINOv2 levels and (B, n, 4) boxes -> region tokens (B, n, hidden_size).

    The levels are the last `len(level_scales)` pre-norm hidden states of DINOv2, each enlarged by its scale.
    Keys follow Groma's `region_encoder.*` (architecture notes 1.3, 1.5), so its public weights load by prefix.

    `roi_mode` "exact" pools the box where it is. "groma_compat" repeats two quirks that the public Groma weights were
    trained with: cxcywh boxes read as x1y1x2y2, and strides half of what the maps need (at 448 pixels).
    """

    @register_to_config
    def __init__(
        self,
        vision_size: int = 1024,
        hidden_size: int = 4096,
        level_scales: tuple[int, ...] = (4, 2, 1),
        fuse_rounds: int = 5,
        fuse_groups: int = 64,
        roi_size: int = 14,
        position_size: int = 256,
        roi_mode: Literal["exact", "groma_compat"] = "exact",
    ):
        super().__init__()
        if roi_mode not in ("exact", "groma_compat"):
            raise ValueError(f"roi_mode must be 'exact' or 'groma_compat', got {roi_mode!r}")
        self.mlvl_fuse = _MultiLevelFuse(vision_size, len(level_scales), fuse_rounds, fuse_groups)
        self.roi_align = _RoiAlign(vision_size, len(level_scales), roi_size, position_size, hidden_size)

    def forward(self, dino_levels: tuple[Tensor, ...], grid: tuple[int, int], boxes: Tensor, mask: Tensor) -> Tensor:
        """Region tokens (B, n, hidden_size); rows where `mask` is False are zero.

        Args:
            dino_levels: hidden states of DINOv2 (any number; the last ones are used), each (B, h*w, C).
            grid: (h, w) of the patch grid.
            boxes: (B, n, 4) cxcywh, normalised to 0..1.
            mask: (B, n) bool, True where there is a region.
        """
        maps = self.fused(dino_levels, grid)
        picture, index = mask.nonzero(as_tuple=True)
        tokens = self.encode(maps, grid, picture, boxes[picture, index])
        out = tokens.new_zeros(*mask.shape, tokens.shape[-1])
        return out.index_put((picture, index), tokens)

    def fused(self, dino_levels: tuple[Tensor, ...], grid: tuple[int, int]) -> list[Tensor]:
        """Feature maps (B, C, h * scale, w * scale), one per level: what all regions of a picture are cut from."""
        scales = self.config.level_scales
        maps = [x.transpose(1, 2).unflatten(2, grid) for x in dino_levels[-len(scales) :]]
        return self.mlvl_fuse([_resize(x, (grid[0] * s, grid[1] * s)) for x, s in zip(maps, scales, strict=True)])

    def encode(self, maps: list[Tensor], grid: tuple[int, int], picture: Tensor, boxes: Tensor) -> Tensor:
        """Tokens (n, hidden_size) of boxes (n, 4) as in `forward`, the i-th of picture number `picture[i]`."""
        from torchvision.ops import roi_align  # deferred: torchvision is slow to import and absent on some machines

        size, head = self.config.roi_size, self.roi_align
        pooled = 0
        for x, scale, conv in zip(maps, self.config.level_scales, head.pconvs, strict=True):
            height, width = x.shape[-2:]
            if self.config.roi_mode == "exact":
                half = boxes[:, 2:] / 2
                corners = torch.cat([boxes[:, :2] - half, boxes[:, :2] + half], dim=1)
                rois = corners * corners.new_tensor([width, height, width, height])
            else:
                # strides 14/8, 14/4, 14/2 where the maps need 14/4, 14/2, 14: coordinates come out twice too large
                rois = boxes * boxes.new_tensor([grid[1], grid[0]] * 2) * (2 * scale)
            rois = torch.cat([picture[:, None].to(rois), rois], dim=1).float()
            # float32 even under autocast: half precision coordinates shift the samples
            crop = roi_align(x.float(), rois, size, spatial_scale=1.0, sampling_ratio=2, aligned=True).to(x.dtype)
            pooled = pooled + conv(crop)
        flat = head.flatten_linear(F.relu(pooled).flatten(1))
        return head.updims(flat + head.pos_embedd(boxes.to(flat.dtype)))


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x.float(), size, mode="bilinear", align_corners=True).to(x.dtype)
