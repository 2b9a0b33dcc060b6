# SPDX-License-Identifier: GPL-3.0-or-later
"""Which number format a device is quick in.

Half the bits are twice the speed only where the device has instructions for them: a CPU with AVX2 alone emulates bfloat16, and a
matrix product takes forty times as long there as in float32.
"""

from __future__ import annotations

import torch


def quick_in_bfloat16(device: torch.device | str = "cpu") -> bool:
    """Whether a device computes in bfloat16 at least as fast as in float32."""
    if torch.device(device).type != "cpu":
        return True
    # oneDNN's own question: AVX-512 with its byte and word instructions, AVX-NE-CONVERT, or its like on ARM
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def autocast(device: torch.device | str) -> torch.autocast:
    """Mixed precision in bfloat16 where the device is quick in it; elsewhere a context that changes nothing."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=quick_in_bfloat16(device))


def quick_precision(device: torch.device | str) -> str:
    """The same as accelerate names it: "bf16" or "no"."""
    return "bf16" if quick_in_bfloat16(device) else "no"
