# SPDX-License-Identifier: GPL-3.0-or-later
"""Measuring edits: metrics on exact pairs, the held-out run, sheets, the sweep of sampler settings, the model card."""
