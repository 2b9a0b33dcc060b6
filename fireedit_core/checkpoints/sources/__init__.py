# SPDX-License-Identifier: GPL-3.0-or-later
"""The public checkpoints that a bundle can be assembled from: one file per source, with its key map and what it refuses."""
