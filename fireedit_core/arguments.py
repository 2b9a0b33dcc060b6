# SPDX-License-Identifier: GPL-3.0-or-later
"""What several command lines read alike. Loads no model library."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """A whole number of 1 or more, as a type of argparse's: none of a thing is no sheet, and batches of none are one batch of all."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {text}")
    return value
