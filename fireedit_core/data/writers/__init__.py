# SPDX-License-Identifier: GPL-3.0-or-later
"""Synthetic scenes written in the layouts of public datasets, a file per family as in formats/: to try training and tests without them."""
