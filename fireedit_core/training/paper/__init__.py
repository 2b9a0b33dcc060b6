# SPDX-License-Identifier: GPL-3.0-or-later
"""Training as the paper has it: three stages on real datasets, on one or many machines.

    python -m fireedit_core.training.paper fireedit_core/training/paper/configs/tiny_all.yaml [--steps 100 ...] [--dry-run]

`fireedit_core.training` itself makes the embedded default from synthetic scenes; what the two share is the loop.
"""
