# SPDX-License-Identifier: GPL-3.0-or-later
"""Photographs as an edit model gives them back: moved, recoloured, softened, with something else in one place; the motion is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..opencv import opencv
from .photographs import picture_files

# All that are photographs in these packages of Debian (see GET); none was chosen by its result.
_FOLDER = Path("/usr/share/backgrounds")
_LOMIRI = (
    "Bridge_by_Sander_Klootwijk", "Dragonfly_by_Bolly", "Kleiber_by_Lukas_Baubkus", "Picture_0B_by_freespace", "Picture_1A_by_freespace",
    "Wine_by_Jakkub_Mede", "aitzgorri_by_Aitzol_Berasategi", "free_by_Peter_Nerlich", "friends_by_Aitzol_Berasategi",
    "greentock_by_Peter_Nerlich", "life_by_Aitzol_Berasategi", "picosdeeuropa_by_Aitzol_Berasategi", "seeding_by_Clements_Engelhardt",
    "sunset_by_Aitzol_Berasategi",
)  # fmt: skip
GET = "apt-get install mate-backgrounds lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 (Debian), or name folders of your own with --photos"

FAMILIES = {
    "shift and zoom": "up to 12 px and 2 %",
    "anisotropic": "up to 8 px; 1.5 % zoom, 1 % more along one axis, 0.2 degrees",
    "soft, noisy, recoloured": "up to 10 px, 2 %; blur of 0.8 to 1.5 px, noise of 6 of 255, a colour matrix of 8 %",
    "5 %, 40 px": "5 % zoom, 40 px",
    "smooth tone gradients": "up to 10 px, 2 %; brightness 25 % across, 10 % in waves",
}
BENT = "bent"  # 1.5 %, 8 px, and waves of 1 to 3 px that no affine motion follows


@dataclass(frozen=True, eq=False)
class Motion:
    """A motion of a picture of `size` = (height, width): places of the original move by `matrix` (2, 3), then by waves of `bend` px."""

    size: tuple[int, int]
    matrix: np.ndarray
    bend: float = 0.0
    phases: tuple[float, float] = (0.0, 0.0)

    def source(self, places: np.ndarray) -> np.ndarray:
        """Where places (..., 2) of the moved picture come from."""
        back = np.linalg.inv(self.matrix[:, :2])
        return (places - self.matrix[:, 2]) @ back.T + self._waves(places)

    def target(self, places: np.ndarray) -> np.ndarray:
        """Where places (..., 2) of the original go."""
        made = places @ self.matrix[:, :2].T + self.matrix[:, 2]
        for _ in range(40 if self.bend else 0):
            made = made - (self.source(made) - places)
        return made

    def applied(self, picture: np.ndarray) -> np.ndarray:
        """The moved picture (H, W) or (H, W, C)."""
        x, y = np.moveaxis(self.source(places_of(self.size)).astype(np.float32), -1, 0)
        cv2 = opencv()
        return cv2.remap(picture, np.ascontiguousarray(x), np.ascontiguousarray(y), cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT_101)

    def _waves(self, places: np.ndarray) -> np.ndarray | float:
        if not self.bend:
            return 0.0
        x, y = places[..., 0] / self.size[1], places[..., 1] / self.size[0]
        waves = [0.7 * y + 0.35 * x, 0.7 * x - 0.3 * y]
        return self.bend * np.stack([np.sin(2 * np.pi * wave + phase) for wave, phase in zip(waves, self.phases, strict=True)], -1)


@dataclass(frozen=True, eq=False)
class Case:
    """What a model might have made of a photo (H, W, 3) in 0..1: `edited`, the `mask` (H, W) of its edit in the photo, the motion."""

    photo: np.ndarray
    edited: np.ndarray
    mask: np.ndarray
    motion: Motion


def photographs(places: Sequence[Path] = ()) -> list[Path]:
    """The files of the photographs, or of those in the folders that are named.

    Raises:
        ValueError: where there are fewer than four, with what to install, and as `picture_files`.
    """
    if places:
        found = picture_files(places)
    else:
        found = [f for name in _LOMIRI if (f := _FOLDER / f"{name}.jpg").is_file()] + sorted((_FOLDER / "mate/nature").glob("*.jpg"))
    if len(found) < 4:
        raise ValueError(f"{len(found)} photographs were found, at least 4 are needed. {GET}.")
    return found


def read(path: Path, megapixels: float) -> np.ndarray:
    """(H, W, 3) float32 in 0..1, on the 8-bit grid, of at most so many megapixels."""
    cv2 = opencv()
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError(f"{path} is no picture that OpenCV reads.")
    scale = min(1.0, (megapixels * 1e6 / (picture.shape[0] * picture.shape[1])) ** 0.5)
    size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    return cv2.cvtColor(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB).astype(np.float32) / 255


def places_of(size: tuple[int, int]) -> np.ndarray:
    """(h, w, 2): x and y of every pixel."""
    return np.stack(np.meshgrid(np.arange(size[1], dtype=np.float64), np.arange(size[0], dtype=np.float64)), -1)


def case(photo: np.ndarray, other: np.ndarray, family: str, noise: np.random.Generator) -> Case:
    """One case of a family; the edit is a piece of another photo, in an ellipse."""
    size = photo.shape[:2]
    motion = random_motion(size, family, noise)
    true, mask = with_edit(photo, other, noise)
    return Case(photo, seen_by_model(motion.applied(true), family, noise), mask, motion)


def random_motion(size: tuple[int, int], family: str, noise: np.random.Generator) -> Motion:
    """A motion of the family."""
    zoom, across, turn, shift, bend = noise.uniform(-0.02, 0.02), 0.0, 0.0, noise.uniform(-10, 10, 2), 0.0
    if family == "shift and zoom":
        shift = noise.uniform(-12, 12, 2)
    elif family == "anisotropic":
        zoom, across, turn, shift = noise.uniform(-0.015, 0.015), noise.uniform(-0.01, 0.01), noise.uniform(-0.0035, 0.0035), shift * 0.8
    elif family == "5 %, 40 px":
        angle = noise.uniform(0, 2 * np.pi)
        zoom, shift = 0.05 * noise.choice([-1, 1]), 40 * np.array([np.cos(angle), np.sin(angle)])
    elif family == BENT:
        zoom, shift, bend = zoom * 0.75, shift * 0.8, noise.uniform(1, 3)
    linear = np.array([[1 + zoom + across, -turn], [turn, 1 + zoom - across]])
    middle = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    return Motion(size, np.column_stack([linear, middle + shift - linear @ middle]), bend, tuple(noise.uniform(0, 2 * np.pi, 2)))


def with_edit(photo: np.ndarray, other: np.ndarray, noise: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The photo with a piece of another one in an ellipse, and the mask (H, W) of it."""
    cv2 = opencv()
    height, width = photo.shape[:2]
    middle, radius = noise.uniform(0.3, 0.7, 2) * (width, height), noise.uniform(0.1, 0.22, 2) * (width, height)
    away = np.linalg.norm((places_of((height, width)) - middle) / radius, axis=-1)
    weight = ((1 - away) * 20).clip(0, 1).astype(np.float32)[..., None]
    return photo + weight * (cv2.resize(other, (width, height)) - photo), (away < 1).astype(np.float32)


def seen_by_model(picture: np.ndarray, family: str, noise: np.random.Generator) -> np.ndarray:
    """The picture with what the family does to colours and sharpness, on the 8-bit grid."""
    height, width = picture.shape[:2]
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, width), np.linspace(-0.5, 0.5, height))
    if family == "soft, noisy, recoloured":
        picture = opencv().GaussianBlur(picture, (0, 0), noise.uniform(0.8, 1.5))
        picture = picture @ (np.eye(3) + noise.uniform(-0.08, 0.08, (3, 3))).T + noise.uniform(-0.05, 0.05, 3)
        picture = picture + noise.normal(0, 6 / 255, picture.shape)
    elif family == "smooth tone gradients":
        angle = noise.uniform(0, 2 * np.pi)
        light = 1 + 0.25 * (np.cos(angle) * x + np.sin(angle) * y) + 0.1 * np.sin(2 * np.pi * x + angle)
        picture = picture * light[..., None] + 0.08 * y[..., None]
    return ((picture.clip(0, 1) * 255).round() / 255).astype(np.float32)
