# SPDX-License-Identifier: GPL-3.0-or-later
"""Painted backgrounds: smooth, clearly different from each other, the same every time up to a mild jitter."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Painter = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


def _gradient(v: np.ndarray, *stops: tuple[int, int, int]) -> np.ndarray:
    places = np.linspace(0.0, 1.0, len(stops))
    table = np.asarray(stops, np.float32)
    return np.stack([np.interp(v, places, table[:, c]) for c in range(3)], axis=-1)


def _flat(u: np.ndarray, colour: tuple[int, int, int], light: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.asarray(colour, np.float32), (*u.shape, 3)) + light[..., None]


def _wave(u: np.ndarray, v: np.ndarray, fx: float, fy: float, phase: float) -> np.ndarray:
    return np.sin(2 * math.pi * (fx * u + fy * v) + phase)


def _sky(u, v, phase):
    return _gradient(v + 0.06 * math.sin(phase), (58, 138, 232), (120, 185, 245), (196, 228, 250))


def _grass(u, v, phase):
    blades = 7 * _wave(u, v, 9, 2, phase) * _wave(u, v, 1, 7, 2 * phase) + 5 * _wave(u, v, 3, -4, phase)
    return _flat(u, (88, 164, 62), blades - 16 * v)


def _sand(u, v, phase):
    ripple = _wave(u + 0.03 * _wave(u, v, 0.0, 2, phase), v, 0.8, 8, phase + 1.5 * np.sin(5 * u))
    return _flat(u, (230, 202, 142), 7 * ripple - 6 * v)


_STARS = ((0.1, 0.12), (0.33, 0.3), (0.52, 0.08), (0.72, 0.22), (0.9, 0.1), (0.2, 0.52), (0.62, 0.48), (0.88, 0.55))


def _night(u, v, phase):
    image = _gradient(v, (9, 12, 42), (22, 26, 74), (44, 42, 104))
    # The stars never move: one that an object hides can be learned.
    for x, y in _STARS:
        image = image + 190 * np.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * 0.0065**2))[..., None]
    return image


def _snow(u, v, phase):
    drift = _wave(u, v, 0.7, 2.2, phase) + 0.5 * _wave(u, v, 1.6, -1.1, phase)
    return np.asarray((232, 239, 248), np.float32) + drift[..., None] * np.asarray((7, 5, 3), np.float32)


def _wall(u, v, phase):
    shift = phase / (2 * math.pi)
    row = (v + shift / 4) * 8
    column = (u + shift / 2) * 4 + 0.5 * (np.floor(row) % 2)
    # distance to the nearest joint, in parts of a brick row
    joint = np.minimum(np.abs(row - np.round(row)), 2 * np.abs(column - np.round(column)))
    mortar = np.clip(1 - joint / 0.16, 0, 1)[..., None]
    return (1 - mortar) * np.asarray((172, 84, 70), np.float32) + mortar * np.asarray((206, 170, 156), np.float32)


def _wood(u, v, phase):
    plank = (v + phase / (8 * math.pi)) * 4
    which = np.floor(plank)
    seam = np.exp(-(((plank - np.round(plank)) / 0.05) ** 2))
    grain = _wave(u, v, 1.5, 14, phase + 2.1 * which + 1.2 * np.sin(2 * math.pi * u + which))
    return _flat(u, (146, 100, 60), 7 * grain + 8 * np.sin(2.4 * which) - 55 * seam)


def _sunset(u, v, phase):
    return _gradient(v + 0.06 * math.sin(phase), (92, 46, 132), (206, 84, 120), (250, 140, 74), (255, 204, 112))


PAINTERS: dict[str, Painter] = {
    "sky": _sky,
    "grass": _grass,
    "sand": _sand,
    "night": _night,
    "snow": _snow,
    "wall": _wall,
    "wood": _wood,
    "sunset": _sunset,
}


def paint(name: str, size: int, variant: int = 0) -> np.ndarray:
    """One background as (size, size, 3) uint8.

    Variant 0 is the canonical look, which is what a background edit produces; each other number is one fixed jitter of
    brightness (5 %) and phase.
    """
    if name not in PAINTERS:
        raise ValueError(f"unknown background {name!r}; expected one of {sorted(PAINTERS)}.")
    v, u = np.meshgrid((np.arange(size) + 0.5) / size, (np.arange(size) + 0.5) / size, indexing="ij")
    # Golden-ratio steps spread any number of variants evenly without a random generator.
    phase = 2 * math.pi * ((variant * 0.6180339887) % 1.0)
    gain = 1.0 + (0.0 if variant == 0 else 0.1 * (((variant * 0.7548776662) % 1.0) - 0.5))
    return np.clip(np.round(PAINTERS[name](u, v, phase) * gain), 0, 255).astype(np.uint8)
