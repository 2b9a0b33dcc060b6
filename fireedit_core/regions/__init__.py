# SPDX-License-Identifier: GPL-3.0-or-later
"""Regions: the record, the detectors that propose it, conversions to what other packs use, and drawing."""

from .record import Regions

__all__ = ["Regions"]
