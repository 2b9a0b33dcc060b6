# SPDX-License-Identifier: GPL-3.0-or-later
"""Detectors of the pack's own training: class-agnostic, saved as diffusers saves models. A file of its own, since diffusers takes seconds
to import and the detector for photographs does without."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import ConfigMixin, ModelMixin
from torch import Tensor

from ..checkpoints.weights import check_weights
from .detector import check_pictures, select_regions
from .record import Regions


class RegionDetector(ModelMixin, ConfigMixin):
    """Proposes class-agnostic regions of pictures of any size. A backend implements `predict_boxes` only.

    The detector runs on the device and in the dtype that its owner gave it; it never moves itself.
    """

    reads_prompt = False
    own_threshold = 0.15  # of Groma

    def predict_boxes(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Raw proposals: images (B, 3, H, W) 0..1 -> boxes (B, N, 4) xyxy in pixels of H, W; scores (B, N) 0..1."""
        raise NotImplementedError(f"{type(self).__name__} must implement predict_boxes.")

    @torch.no_grad()
    def detect(
        self,
        images: Tensor,
        score_threshold: float = 0.15,
        iou_threshold: float = 0.6,
        max_regions: int = 100,
        prompt: str = "",
    ) -> list[Regions]:
        """Detect regions, class-agnostic. Thresholds as in Groma (groma.py): score > 0.15, NMS IoU 0.6, at most 100.

        Args:
            images: (B, 3, H, W) RGB, 0..1, any H and W.
            score_threshold: keep regions whose score is above this.
            iou_threshold: of two regions that overlap more than this, only the better stays.
            max_regions: at most this many per picture. prompt: means nothing here.

        Returns:
            One `Regions` per picture, best score first (the order is never random), in pixels of the given picture.
            It may be empty. Boxes and scores are float32 on the CPU.

        Raises:
            ValueError: if `images` has another shape.
        """
        check_pictures(images, self)
        size = (images.shape[2], images.shape[3])
        if images.shape[0] == 0:
            return []
        was_training = self.training
        self.eval()
        try:
            boxes, scores = self.predict_boxes(images.to(self.device, self.dtype).clamp(0, 1))
        finally:
            self.train(was_training)
        boxes, scores = boxes.float().cpu(), scores.float().cpu()
        return [
            select_regions(box, score, size, score_threshold, iou_threshold, max_regions)
            for box, score in zip(boxes, scores, strict=True)
        ]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """As in diffusers, but from safetensors only: nothing is ever unpickled (design D1)."""
        folder = Path(pretrained_model_name_or_path)
        if kwargs.get("subfolder"):
            folder = folder / kwargs["subfolder"]
        if folder.is_dir():
            check_weights(folder)
        kwargs["use_safetensors"] = True
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)
