# SPDX-License-Identifier: GPL-3.0-or-later
"""From boxes to masks: one interface (`segmenter.Segmenter`), a file per family, crisp edges, and who keeps an overlap."""

from .segmenter import Segmenter

__all__ = ["Segmenter"]
