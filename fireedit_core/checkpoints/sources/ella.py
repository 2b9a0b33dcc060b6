# SPDX-License-Identifier: GPL-3.0-or-later
"""ELLA's timestep-aware connector for Stable Diffusion 1.5: time embedding and the first resampler blocks start TATI.

Architecture notes 6.1 and 8. Its 64 queries do not fit 77, and its input projection reads T5; both are left.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .fit import Found, SourceError, fit, layer_count
from .weight_files import open_weights

if TYPE_CHECKING:
    from ..sd15 import Sd15Config

GET = "Get ella-sd1.5-tsc-t5xl.safetensors (QQGYLab/ELLA)."
BLOCKS = "connector.perceiver_blocks."
OURS = ("latents", "null_embedding", "gate")  # of TATI; ELLA has nothing that fits


def read(path: Path, config: Sd15Config) -> Found:
    """The file -> all of `tati` but its queries and its null embedding.

    Raises:
        SourceError: if it is no ELLA connector, or one of another width.
    """
    tensors = open_weights(path)
    expected = {k: s for k, s in config.shapes("tati").items() if k not in OURS}
    count = layer_count(expected, "blocks.")
    part = {}
    for key, x in tensors.items():
        number, _, rest = key.removeprefix(BLOCKS).partition(".")
        if key.startswith("time_embedding."):
            part[key] = x
        elif key.startswith("connector.time_aware_linear."):
            part[key.removeprefix("connector.")] = x
        elif key.startswith(BLOCKS) and number.isdigit() and int(number) < count:
            part[f"blocks.{number}.{rest}"] = x
    if not part:
        some = ", ".join(sorted(tensors)[:3])
        raise SourceError(f"{path} is no ELLA connector: expected {BLOCKS}* and time_embedding.*, came {some} ... {GET}")
    width = tensors["connector.latents"].shape[-1] if "connector.latents" in tensors else "unknown"
    advice = f"Came: a connector of width {width} with {layer_count(tensors, BLOCKS)} blocks; expected: width {config.context_size}. {GET}"
    notes = {"tati": [f"blocks 0..{count - 1} of ELLA, which read T5: a start, to be trained on"]}
    return Found(path, tuple(tensors), {"tati": fit(part, expected, path, "tati", advice)}, notes)
