# SPDX-License-Identifier: GPL-3.0-or-later
"""Photographs at their own size: edits without a generative model, inside a mask and nowhere else (design D14)."""
