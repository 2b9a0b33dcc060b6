# SPDX-License-Identifier: GPL-3.0-or-later
"""What a bundle says about itself: `model_index.json`. Loads no model library, so that bundles can be listed in no time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

INDEX = "model_index.json"
CONVERTED = "convert.json"  # in a bundle: the report of `fireedit convert`
COMPONENTS = (
    "vae", "unet", "scheduler", "tokenizer", "language_model", "dinov2", "clip_vision", "detector", "region_encoder",
    "adapter", "img_tokens", "grounding", "qformer", "tati", "hvca", "visual_attention",
)  # fmt: skip
EXTRAS = ("text_encoder", "text_tokenizer")  # CLIP's, only where it reads the instruction in place of an untrained Q-Former
UNTRAINED = ("detector", "grounding", "qformer", "tati", "hvca")  # what `untrained` may name
WITHOUT = ("regions", "meant_region", "grounding")  # what `without` may name, see `FireEditor`
OPTIONS = {
    "native_size": 512,
    "source_latent_scaled": False,
    "text_guidance": 7.5,
    "image_guidance": 1.5,
    "steps": 20,
    "reconstruction_limit": 0.0,
    "untrained": (),
    "without": (),
}


def needs_language(untrained: Iterable[str]) -> bool:
    """Whether an edit asks the language model of a bundle with these parts untrained: both that read it must be left out if not."""
    return not {"qformer", "hvca"} <= set(untrained)


class BundleError(ValueError):
    """A bundle that cannot be loaded; the message says what is wrong with which file and what mends it."""


def read_index(folder: Path | str) -> dict[str, Any]:
    """The parsed `model_index.json` of a bundle folder.

    Raises:
        BundleError: if the folder or the file is missing, or is no FireEdit bundle.
    """
    folder = Path(folder)
    path = folder / INDEX
    if not folder.is_dir():
        raise BundleError(f"no FireEdit bundle at {folder}: the folder does not exist.")
    if not path.is_file():
        raise BundleError(f"{folder} is no FireEdit bundle: it has no {INDEX}.")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(f"{path} is not readable JSON ({error}); copy the bundle again.") from error
    found = index.get("_class_name") if isinstance(index, dict) else index
    if found != "FireEditPipeline":
        raise BundleError(f"{folder} holds a {found!r}, not a FireEditPipeline.")
    missing = [name for name in COMPONENTS if name not in index]
    if missing:
        raise BundleError(f"{path} lists no {', '.join(missing)}; the bundle is incomplete.")
    return index


def parts_of(index: dict[str, Any]) -> tuple[str, ...]:
    """Names of all components that a bundle holds."""
    return COMPONENTS + tuple(name for name in EXTRAS if name in index)


def bundle_options(index: dict[str, Any]) -> dict[str, Any]:
    """The bundle's own numbers: native picture size, guidance scales, steps, how the source latent is scaled, by how much its
    autoencoder misses pictures of its own world at most (0: not measured; see `diffusion/reconstruction.py`), which of
    `UNTRAINED` are not trained yet and left out, and which of `WITHOUT` it was trained without (see `FireEditor`).

    Raises:
        BundleError: for a value of another kind, and where what is left out is unknown, or nothing is there to take its place.
    """
    options = {key: index.get(key, default) for key, default in OPTIONS.items()}
    for key, default in OPTIONS.items():
        wanted, right = _kind_of(default)
        if not right(options[key]):
            raise BundleError(f"its {INDEX} has {key} {options[key]!r}, where {wanted} belongs; mend that line, or copy the bundle again.")
    untrained = options["untrained"]
    if not isinstance(untrained, (list, tuple)) or not all(name in UNTRAINED for name in untrained):
        raise BundleError(f"its {INDEX} names as untrained {untrained!r}; known are {', '.join(UNTRAINED)}.")
    if "qformer" in untrained and not set(EXTRAS) <= set(index):
        raise BundleError(f"its {INDEX} says that the Q-Former is untrained, but lacks {' and '.join(EXTRAS)} to read in its place.")
    without = options["without"]
    if not isinstance(without, (list, tuple)) or not all(name in WITHOUT for name in without):
        raise BundleError(f"its {INDEX} says that it was trained without {without!r}; known are {', '.join(WITHOUT)}.")
    return options | {"untrained": tuple(untrained), "without": tuple(without)}


def _kind_of(default: Any) -> tuple[str, Callable[[Any], bool]]:
    """What an option must be, in words and as a check, by its default. A text like "false" would count as true."""
    number = lambda x: isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)  # noqa: E731
    if isinstance(default, bool):
        return "true or false", lambda x: isinstance(x, bool)
    if isinstance(default, int):
        return "a whole number of 1 or more", lambda x: isinstance(x, int) and number(x) and x >= 1
    if isinstance(default, float):
        return "a number of 0 or more", lambda x: number(x) and x >= 0
    return "a list", lambda x: True  # looked at below, name by name
