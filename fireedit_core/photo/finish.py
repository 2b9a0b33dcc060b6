# SPDX-License-Identifier: GPL-3.0-or-later
"""An edited crop back into its photograph: aligned, its colours' drift taken back, pasted; all else is the photo's own (design D14)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..opencv import opencv
from .drift import Drift, colour_drift
from .frame import PhotoFrame
from .paste import Box, box_of, cut, paste
from .registration import Alignment, align, apply, unmoved

GROW, FEATHER = 6, 16  # px of the crop
_STRETCH = 0.08  # a crop that came back with another shape than this is no longer the same picture
_NEAR = 12.0  # px of the crop beyond the mask that are not trusted to show the photo
_CHANGED = 14 / 255  # difference from which on a place counts as edited where no mask tells
_SPECK = 0.0004  # of the crop: smaller things are noise
_CALM = 2.0  # px: grain does not count as a step
_ALL = 0.7  # of the crop that differs: then nothing in it is outside of the edit


class NothingDiffers(ValueError):
    """No mask came, and the edited picture shows what the photo does."""


@dataclass(frozen=True, eq=False)
class Finished:
    """A finished photograph.

    Attributes:
        image: (H, W, C) as the original, bit for bit wherever `mask` is 0. mask: (H, W) in 0..1, with what weight the edit was put in.
        alignment, drift: what was found.
        inside, outside: mean change where the mask is above 0, and the largest where it is 0, of 1.
        step: (mean, largest) false step per px along the seam, 0..1, where both should show the same thing.
        None where the seam is nowhere to be seen. notes: what else the user should know.
    """

    image: Tensor
    mask: Tensor
    alignment: Alignment
    drift: Drift
    inside: float
    outside: float
    step: tuple[float, float] | None
    notes: tuple[str, ...] = ()

    @property
    def report(self) -> str:
        """All of it in words, a line each."""
        seam = "no seam to be measured"
        if self.step is not None:
            seam = f"false step at the seam: {255 * self.step[0]:.1f} of 255 per px on average, {255 * self.step[1]:.1f} at most"
        change = f"change inside of the mask {255 * self.inside:.1f} of 255, outside {255 * self.outside:g}"
        return "\n".join([self.alignment.words, self.drift.words, seam, change, *self.notes])


def finish(
    original: Tensor, frame: PhotoFrame, edited: Tensor, mask: Tensor | None = None, aligned: bool = True, toned: bool = True,
    grow: float = GROW, feather: float = FEATHER, check: Callable[[], None] = lambda: None,
) -> Finished:  # fmt: skip
    """Put an edited crop back into the photograph that it was cut from.

    Args:
        original: (H, W, C) float in 0..1, the photo that the frame was made of; channels beyond three are kept. edited: (h, w, 3) in 0..1,
        what the model made of the crop; another size than the frame's grid is scaled back where the shape is about the same.
        mask: (H, W) of the photo or (h, w) of the frame's grid, in 0..1: where it was to change; None: found from what differs. Where
        both have one size it is the photo's.
        aligned: undo a motion that was found for sure. toned: undo a drift of colours.
        grow, feather: px of the crop by which the mask is made wider, and over which it then fades. check: called now and then; may raise.

    Raises:
        ValueError: in words, for another photo, an edited picture of another shape or photo, a mask of another size or that is empty, and
        for a grow or feather that is no number of 0 or more.
        NothingDiffers: (a ValueError) without a mask, where there is nothing to paste.
        ImportError: without OpenCV.
    """
    opencv()
    for name, value in (("grow", grow), ("feather", feather)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a number of px of 0 or more, got {value}.")
    frame.check(original)
    rgb = original[..., :3].expand(*original.shape[:2], 3)
    small, own = _mask_on_grid(mask, frame)
    notes = []
    if mask is not None and frame.grid == frame.size and not frame.whole:  # no frame of `frames_for`
        notes.append("photo and crop have one size: the mask was taken for the photo's")
    of_crop = frame.scale
    new, frame, stretched = _on_grid(edited, frame)
    larger = frame.scale / of_crop  # px of what came back for each of the crop
    grow, feather = grow * larger, feather * larger
    if small is not None and small.shape != frame.grid:
        small = opencv().resize(small, frame.grid[::-1], interpolation=opencv().INTER_LINEAR)
    before = frame.crop(rgb).cpu().numpy()
    check()
    found = align(new, before, None if small is None else _wider(small, grow), check) if aligned else unmoved(frame.grid, "switched off")
    if found.refused and found.compared:
        raise ValueError(
            f"The edited picture cannot be put in its place: {found.refused} Connect the edit of this very crop, or switch align off to "
            "paste it as it came."
        )
    if stretched and not found.compared:
        raise ValueError(f"{stretched} It cannot be aligned with the photo ({found.refused}), so it would be pasted out of place.")
    new = apply(new, found)
    check()
    drift = Drift(np.eye(3, 6), off="switched off")
    if toned:
        drift = colour_drift(new, before, np.ones(frame.grid, bool) if small is None else _wider(small, max(grow, _NEAR * larger)) == 0)
        new = drift.undo(new)
    check()
    notes += [stretched] if stretched else []
    if small is None:
        small, note = _changed(new, before)
        notes.append(note)
    if own is None:
        own = _undone(frame, small)
    lost = 1 - float(own.sum()) / max(float(mask.sum()), 1e-6) if mask is not None and tuple(mask.shape) == frame.size else 0.0
    if lost > 0.001:
        notes.append(f"{100 * lost:.0f} % of the mask lies beyond the crop, where nothing was edited")
    alpha, box = _alpha(own, frame, grow, feather)
    check()
    part, inner = _part(frame, box)
    pasted = part.undo(torch.from_numpy(np.ascontiguousarray(new[inner]))).movedim(-1, 0).to(original)
    weight = torch.from_numpy(alpha).to(original.device)
    colours = paste(rgb.movedim(-1, 0), pasted, weight, box)
    image = colours.movedim(0, -1) if original.shape[-1] != 4 else torch.cat([colours.movedim(0, -1), original[..., 3:]], -1)
    if original.shape[-1] == 4:
        hidden = float((cut(original[..., 3], box)[weight > 0] < 1).float().mean())
        if hidden > 0:
            notes.append(f"the photo is transparent on {max(1, round(100 * hidden))} % of what was edited, and stays so")
    whole = torch.zeros(frame.size, device=original.device)
    cut(whole, box).copy_(weight)
    change = (cut(colours, box) - cut(rgb.movedim(-1, 0), box)).cpu().numpy()
    inside = float(np.abs(change).mean(0)[alpha > 0].mean())
    outside = float(np.abs(change).max(0)[alpha == 0].max(initial=0.0))
    here = np.ascontiguousarray(own[box[0] - frame.box[1] : box[1] - frame.box[1], box[2] - frame.box[0] : box[3] - frame.box[0]])
    # where the edit fades, both show the photo
    seam = (alpha > 0) & (alpha < 1) & (_wider(here, 2) == 0)
    return Finished(image, whole, found, drift, inside, outside, seam_step(change, seam), tuple(notes))


def _on_grid(edited: Tensor, frame: PhotoFrame) -> tuple[np.ndarray, PhotoFrame, str]:
    """The edited picture (h, w, 3), the frame on its grid, and what was done about another size, in words.

    Raises:
        ValueError: for a picture of another shape, or with values that are not finite.
    """
    if edited.ndim != 3 or edited.shape[-1] not in (3, 4) or not edited.numel():
        raise ValueError(f"The edited picture must be (height, width, 3), got {tuple(edited.shape)}.")
    if not bool(torch.isfinite(edited).all()):
        raise ValueError("The edited picture has values that are not numbers (NaN or infinite); the sampler or the VAE has failed.")
    values = np.ascontiguousarray(edited[..., :3].detach().cpu().float().clamp(0, 1).numpy())
    size, grid = values.shape[:2], frame.grid
    if size == grid:
        return values, frame, ""
    came = f"It came back with height {size[0]} and width {size[1]} instead of {grid[0]} and {grid[1]}"
    if size[0] * grid[1] == size[1] * grid[0]:
        return values, frame.on_grid(size), ""
    ratio = (size[0] / grid[0]) / (size[1] / grid[1])
    if not 1 / (1 + _STRETCH) <= ratio <= 1 + _STRETCH:
        raise ValueError(
            f"The edited picture has another shape than the crop. {came}: it was cut or stretched by {100 * abs(ratio - 1):.0f} %. "
            "Give the edit model the crop's own size, which fits its grid."
        )
    cv2 = opencv()
    way = cv2.INTER_AREA if size[0] > grid[0] else cv2.INTER_CUBIC
    scaled = cv2.resize(values, grid[::-1], interpolation=way).clip(0, 1)
    return scaled, frame, f"{came}, another shape; it was scaled back and aligned."


def _mask_on_grid(mask: Tensor | None, frame: PhotoFrame) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The mask on the frame's grid, and on the frame's box of the photo where it came at the photo's size.

    Raises:
        ValueError: for another size, values that are not finite, or a mask that marks nothing of the crop.
    """
    if mask is None:
        return None, None
    size = tuple(mask.shape)
    if size not in (frame.size, frame.grid):
        raise ValueError(
            f"The mask has height {size[0]} and width {size[-1]}, but the photo has {frame.size[0]} and {frame.size[1]} and the crop "
            f"{frame.grid[0]} and {frame.grid[1]}. Connect a mask of either size."
        )
    if not bool(torch.isfinite(mask).all()):
        raise ValueError("The mask has values that are not numbers (NaN or infinite).")
    mask = mask.float().clamp(0, 1)
    if size == frame.size:
        x0, y0, x1, y1 = frame.box
        small, own = frame.crop_mask(mask).cpu().numpy(), mask[y0:y1, x0:x1].cpu().numpy()
    else:
        small, own = mask.cpu().numpy(), None
    if not small.any():
        raise ValueError("The mask is empty inside of the crop: it marks nothing that was edited.")
    return small, own


def _undone(frame: PhotoFrame, small: np.ndarray) -> np.ndarray:
    """A mask of the grid on the frame's box of the photo."""
    return frame.undo(torch.from_numpy(np.ascontiguousarray(small, dtype=np.float32))[..., None])[..., 0].numpy()


def _solid(mask: np.ndarray) -> np.ndarray:
    """What a mask marks for sure, uint8; a faint one is its own strongest part."""
    return (mask >= min(0.5, float(mask.max()) * 0.999)).astype(np.uint8)


def _wider(mask: np.ndarray, by: float) -> np.ndarray:
    """A mask wider by so many px, uint8."""
    return (opencv().distanceTransform(1 - _solid(mask), opencv().DIST_L2, 5) <= by).astype(np.uint8)


def _changed(new: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, str]:
    """A mask (h, w) of what differs, of an aligned and toned picture, and what to say of it."""
    cv2 = opencv()
    calm = cv2.GaussianBlur(new - before, (0, 0), 2.0)
    differs = (np.abs(calm).max(-1) > _CHANGED).astype(np.uint8)
    differs = cv2.morphologyEx(differs, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (15, 15)))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(differs)
    large = [i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= _SPECK * differs.size]
    made = np.isin(labels, large).astype(np.float32)
    share = float(made.mean())
    if share > _ALL:
        return np.ones_like(made), f"no mask came, and {100 * share:.0f} % of the crop has changed: all of it is pasted"
    if not large:
        raise NothingDiffers("No mask came, and the edited picture does not differ from the photo: there is nothing to paste.")
    return made, f"no mask came: it was found from what differs, {100 * share:.1f} % of the crop in {len(large)} part(s)"


def _alpha(own: np.ndarray, frame: PhotoFrame, grow: float, feather: float) -> tuple[np.ndarray, Box]:
    """With what weight (h, w) the edit is pasted into a box (top, bottom, left, right) of the photo.

    Args:
        own: (H, W) in 0..1, the mask on the frame's box.
    """
    cv2 = opencv()
    wide, soft = grow / frame.scale, feather / frame.scale
    x0, y0, x1, y1 = frame.box
    box = box_of(torch.from_numpy(own), math.ceil(wide + soft) + 1)
    mask = np.ascontiguousarray(own[box[0] : box[1], box[2] : box[3]])
    away = cv2.distanceTransform(1 - _solid(mask), cv2.DIST_L2, 5)
    alpha = np.maximum(mask, _ramp(1 - (away - wide) / soft) if soft > 0 else away <= wide).astype(np.float32)
    if soft > 0:  # the crop ends inside the photo: no hard edge there
        for axis, first, last, side, length in ((0, y0, y1, box[:2], frame.size[0]), (1, x0, x1, box[2:], frame.size[1])):
            at = np.arange(side[0], side[1], dtype=np.float32) + 0.5
            fade = np.ones_like(at)
            if first > 0:
                fade = np.minimum(fade, _ramp(at / soft))
            if last < length:
                fade = np.minimum(fade, _ramp((last - first - at) / soft))
            alpha *= fade[:, None] if axis == 0 else fade[None]
    return alpha, (box[0] + y0, box[1] + y0, box[2] + x0, box[3] + x0)


def _ramp(x: np.ndarray) -> np.ndarray:
    """A smooth step from 0 at 0 to 1 at 1."""
    x = x.clip(0, 1)
    return x * x * (3 - 2 * x)


def _part(frame: PhotoFrame, box: Box) -> tuple[PhotoFrame, tuple[slice, slice]]:
    """The frame of a box within it, and which part of the grid that needs: what is pasted is undone, and not a whole large photo."""
    top, bottom, left, right = box
    reach = math.ceil(2 * max(1.0, frame.scale)) + 2
    slices, sides = [], []
    for first, last, origin, padding, length in (
        (top, bottom, frame.box[1], frame.padding[1], frame.grid[0]), (left, right, frame.box[0], frame.padding[0], frame.grid[1]),
    ):  # fmt: skip
        begin, end = padding + (first - origin) * frame.scale, padding + (last - origin) * frame.scale
        low, high = max(0, math.floor(begin) - reach), min(length, math.ceil(end) + reach)
        slices.append(slice(low, high))
        sides.append((max(0.0, begin - low), max(0.0, high - end)))
    (above, below), (before, behind) = sides
    grid = (slices[0].stop - slices[0].start, slices[1].stop - slices[1].start)
    part = replace(frame, box=(left, top, right, bottom), grid=grid, padding=(before, above, behind, below))
    return part, (slices[0], slices[1])


def seam_step(change: np.ndarray, seam: np.ndarray) -> tuple[float, float] | None:
    """(mean, largest) slope per px of a change (3, h, w) along a seam (h, w) of bool, of its grain freed; None where there is no seam."""
    if seam.sum() < 16:
        return None
    cv2 = opencv()
    slopes = np.zeros(seam.shape, np.float32)
    for channel in change:
        calm = cv2.GaussianBlur(channel, (0, 0), _CALM)
        slopes = np.maximum(slopes, np.hypot(cv2.Scharr(calm, cv2.CV_32F, 1, 0), cv2.Scharr(calm, cv2.CV_32F, 0, 1)) / 32)
    return float(slopes[seam].mean()), float(slopes[seam].max())
