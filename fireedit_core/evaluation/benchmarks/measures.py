# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics, a function per kind: what one edit of one case is worth. The profiles say which kind with which network."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..similarity import MetricWeights, cosine, structure_distance
from .benchmark import Case
from .profiles import Metric

LPIPS_LEAST = 32  # pixels: below that nothing is left after the trunk's strides


class Unmeasured(Exception):
    """A number that this case has not; the message says why, in few words."""


@dataclass
class Comparison:
    """An edit beside what it is compared with.

    Args:
        edit: as the metrics see it. kept: features of pictures of this case that are known already, shared by its comparisons.
    """

    edit: Image.Image
    case: Case
    weights: MetricWeights
    kept: dict[tuple[str, int], Tensor] = field(default_factory=dict)

    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Edit and reference (H, W, 3) float32 on 0..1 at the reference's size."""
        size = self.case.reference.size
        edit = self.edit if self.edit.size == size else self.edit.resize(size, Image.Resampling.BICUBIC)
        return unit(edit), unit(self.case.reference)

    def background(self) -> tuple[np.ndarray, np.ndarray]:
        """The same, black where the mask is. Raises Unmeasured where the mask leaves nothing."""
        mask = self._mask()
        outside = ~mask if mask.dtype == bool else 1 - mask
        if not outside.any():
            raise Unmeasured("the mask leaves no background")
        edit, reference = self.pixels()
        return edit * outside[..., None], reference * outside[..., None]

    def edited_part(self) -> Image.Image:
        """The edit, black outside the mask."""
        mask = self._mask()
        if not mask.any():
            raise Unmeasured("the mask is empty")
        return Image.fromarray(np.asarray(self.edit) * mask[..., None].astype(np.uint8))

    def crop(self) -> Image.Image:
        """The edit inside the box around the mask, without its last row and column, as PIL's crop takes a box."""
        rows, columns = np.nonzero(self._mask())
        if not len(rows):
            raise Unmeasured("the mask is empty")
        box = columns.min(), rows.min(), columns.max(), rows.max()
        if box[0] == box[2] or box[1] == box[3]:
            raise Unmeasured("the mask is a line")
        return self.edit.crop(tuple(map(int, box)))

    def clip(self, name: str, image: Image.Image) -> Tensor:
        """The CLIP embedding of a picture of this case."""
        return self._once(name, image, lambda: self.weights.clip(name).picture(image))

    def dino(self, name: str, image: Image.Image) -> Tensor:
        """The DINO embedding of a picture of this case."""
        return self._once(name, image, lambda: self.weights.dino(name).picture(image))

    def text(self, name: str, text: str) -> Tensor:
        """The CLIP embedding of a caption. Raises Unmeasured for none."""
        if not text.strip():
            raise Unmeasured("no caption")
        return self.weights.clip(name).text(text)

    def _mask(self) -> np.ndarray:
        if self.case.mask is None:
            raise Unmeasured("no mask")
        return self.case.mask

    def _once(self, name: str, image: Image.Image, make: Callable[[], Tensor]) -> Tensor:
        key = (name, id(image))  # the case keeps its pictures alive as long as `kept`
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]


def unit(image: Image.Image) -> np.ndarray:
    """(H, W, 3) float32 on 0..1."""
    return np.asarray(image, np.float32) / 255


def _l1(c: Comparison, metric: Metric) -> float:
    edit, reference = c.pixels()
    return float(np.abs(edit - reference).mean(dtype=np.float64))


def _l2(c: Comparison, metric: Metric) -> float:
    edit, reference = c.pixels()
    return float(np.square(edit - reference).mean(dtype=np.float64))


def _clip_picture(c: Comparison, metric: Metric) -> float:
    return cosine(c.clip(metric.weights, c.edit), c.clip(metric.weights, c.case.reference))


def _clip_text(c: Comparison, metric: Metric) -> float:
    return cosine(c.clip(metric.weights, c.edit), c.text(metric.weights, c.case.caption))


def _clip_direction(c: Comparison, metric: Metric) -> float:
    before, after = (" ".join(text.lower().split()) for text in (c.case.source_caption, c.case.target_caption))
    if before == after:  # as CLIP reads them; the direction would be 0 / 0
        raise Unmeasured("no caption" if not before else "identical captions")
    said = c.text(metric.weights, c.case.target_caption) - c.text(metric.weights, c.case.source_caption)
    return cosine(c.clip(metric.weights, c.edit) - c.clip(metric.weights, c.case.source), said)


def _dino(c: Comparison, metric: Metric) -> float:
    return cosine(c.dino(metric.weights, c.edit), c.dino(metric.weights, c.case.reference))


def _lpips(c: Comparison, metric: Metric) -> float:
    return _lpips_of(c, metric, c.pixels())


def _lpips_background(c: Comparison, metric: Metric) -> float:
    return _lpips_of(c, metric, c.background())


def _lpips_of(c: Comparison, metric: Metric, pair: tuple[np.ndarray, np.ndarray]) -> float:
    if min(pair[0].shape[:2]) < LPIPS_LEAST:
        raise Unmeasured("too small for LPIPS")
    return c.weights.lpips(metric.weights)(*pair)


def _mse_background(c: Comparison, metric: Metric) -> float:
    edit, reference = c.background()
    return float(np.square(edit - reference).mean(dtype=np.float64))


def _psnr_background(c: Comparison, metric: Metric) -> float:
    error = _mse_background(c, metric)
    return -10 * math.log10(error) if error else math.inf


def _ssim_background(c: Comparison, metric: Metric) -> float:
    from torchmetrics.functional.image import structural_similarity_index_measure

    pair = (torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)[None] for x in c.background())
    return float(structural_similarity_index_measure(*pair, data_range=1.0))


def _structure_distance(c: Comparison, metric: Metric) -> float:
    return structure_distance(c.weights.dino(metric.weights), c.edit, c.case.source)


def _structure_distance_sharp(c: Comparison, metric: Metric) -> float:
    return structure_distance(c.weights.dino(metric.weights), c.edit, c.case.source, antialias=False)


def _clip_score(c: Comparison, metric: Metric) -> float:
    return max(100 * _clip_text(c, metric), 0.0)


def _clip_score_edited(c: Comparison, metric: Metric) -> float:
    text, part = c.text(metric.weights, c.case.caption), c.edited_part()
    return max(100 * cosine(c.weights.clip(metric.weights).picture(part), text), 0.0)


def _clip_score_crop(c: Comparison, metric: Metric) -> float:
    return max(100 * cosine(c.weights.clip(metric.weights).picture(c.crop()), c.text(metric.weights, c.case.caption)), 0.0)


KINDS: dict[str, Callable[[Comparison, Metric], float]] = {
    "l1": _l1, "l2": _l2, "clip_picture": _clip_picture, "clip_text": _clip_text, "clip_direction": _clip_direction, "dino": _dino,
    "lpips": _lpips, "lpips_background": _lpips_background, "mse_background": _mse_background, "psnr_background": _psnr_background,
    "ssim_background": _ssim_background, "structure_distance": _structure_distance,
    "structure_distance_sharp": _structure_distance_sharp, "clip_score": _clip_score,
    "clip_score_edited": _clip_score_edited, "clip_score_crop": _clip_score_crop,
}  # fmt: skip


def measure(comparison: Comparison, metric: Metric) -> float:
    """The number; infinite for the PSNR of what is unchanged. Raises Unmeasured where this case has none."""
    return KINDS[metric.kind](comparison, metric)


def hindrance(metric: Metric, weights: MetricWeights) -> str | None:
    """Why a metric cannot be computed at all, in a sentence that says what to put where; None if it can."""
    if metric.kind == "ssim_background" and importlib.util.find_spec("torchmetrics") is None:
        return "needs the package torchmetrics (pip install torchmetrics)"
    return weights.missing(metric.weights) if metric.weights else None
