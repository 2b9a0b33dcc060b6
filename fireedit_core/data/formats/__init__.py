# SPDX-License-Identifier: GPL-3.0-or-later
"""Readers for public datasets in the layout in which they are published, a file per family; each gives `EditSample`s."""

from .reader import BrokenRow, DatasetError, Reader

__all__ = ["BrokenRow", "DatasetError", "Reader"]
