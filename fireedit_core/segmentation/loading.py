# SPDX-License-Identifier: GPL-3.0-or-later
"""A segmenter by name or on disk, whichever family it is of. Families are imported when one is met."""

from __future__ import annotations

from pathlib import Path

from .segmenter import Segmenter

GRABCUT = "grabcut"


def load_segmenter(path: str | Path) -> Segmenter:
    """`grabcut`, an `.onnx` file (ISNet and its kin), a `.pt` file of ultralytics, or a folder of transformers.

    Raises:
        ValueError: for a file or folder that is none of these, or not safe to load; the message says what mends it.
        ImportError: if its family needs a package that is not installed.
    """
    if str(path) == GRABCUT:
        from .grabcut import GrabCut

        return GrabCut()
    path = Path(path)
    if path.suffix == ".onnx":
        from .isnet import load_isnet

        return load_isnet(path)
    if path.suffix == ".pt":
        from .ultralytics_segmenter import load_ultralytics_segmenter

        return load_ultralytics_segmenter(path)
    if (path / "config.json").is_file():
        from .transformers_segmenter import load_transformers_segmenter

        return load_transformers_segmenter(path)
    raise ValueError(
        f"{path} is no segmenter: expected 'grabcut', an .onnx file, a .pt file of ultralytics that segments, or a folder of transformers "
        "with config.json and .safetensors."
    )
