# SPDX-License-Identifier: GPL-3.0-or-later
"""Regions: the record, the detectors that propose it, conversions to what other packs use, and drawing."""

from .detector import RegionDetector, load_region_detector
from .record import Regions

__all__ = ["RegionDetector", "Regions", "load_region_detector"]
