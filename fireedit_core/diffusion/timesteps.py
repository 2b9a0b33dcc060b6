# SPDX-License-Identifier: GPL-3.0-or-later
"""Between which timesteps the method acts. Loads no model library."""

from __future__ import annotations


def active_timesteps(start: float, end: float) -> tuple[float, float]:
    """The highest and lowest timestep between two shares (0..1) of the noise schedule; 0 is before all, 1 after all."""
    return (float("inf") if start <= 0 else (1 - start) * 999), (float("-inf") if end >= 1 else (1 - end) * 999)
