# SPDX-License-Identifier: GPL-3.0-or-later
"""Language models that see, which users have: folders of transformers, and the text encoder that an edit model has brought along."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.model_management as management
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher

from fireedit_core.checkpoints.weights import stored_dtype
from fireedit_core.grounding.loading import sees_and_speaks
from fireedit_core.precision import quick_in_bfloat16

from . import model_folders
from .models import make_patcher, module_dtype, use
from .streaming_patcher import StreamingPatcher, stream_linear_layers

if TYPE_CHECKING:
    from fireedit_core.grounding.chat import ChatModel
    from fireedit_core.grounding.florence import FlorenceModel

logger = logging.getLogger("fireedit")

ENCODER = "encoder of clip"  # the choice that takes what is connected to clip

# Name of a folder in a graph -> the host's key for it, and where it lies by default. LLM is where packs for Florence-2 and Qwen-VL put
# theirs.
FOLDERS = {
    "grounders": ("fireedit_grounders", os.path.join("fireedit", "grounders")),
    "LLM": ("LLM", "LLM"),
    "VLM": ("VLM", "VLM"),
}
_WORK = 1_500_000_000  # bytes, a guess: two megapixels in a vision tower, and what some 3,000 tokens leave in a language model's memory
ROOM = 0.8  # of the free memory that a model may take whole
_DEPTH = 2  # folders below a root that are searched: LLM/Qwen-VL/Qwen2.5-VL-3B-Instruct


def register_folders() -> None:
    """Make the folders known to the host. Appends, so entries of extra_model_paths.yaml and other packs stay."""
    model_folders.register(FOLDERS)


def list_grounders() -> list[str]:
    """`ENCODER`, then names as 'LLM/Florence-2-base' and 'grounders/Qwen3-VL-4B-Instruct', sorted."""
    return [ENCODER, *sorted(set(map(model_folders.name_of, _found())))]


def find_grounder(name: str) -> Path | str:
    """The folder of a grounder; `ENCODER` itself. Backslashes of a graph saved on Windows are understood.

    Raises:
        ValueError: for a name that is not below the folders; the message lists what there is.
    """
    if name == ENCODER:
        return ENCODER
    if (path := model_folders.path_of(name, _found())) is not None:
        return path
    raise ValueError(
        f"there is no grounder {name!r}. Found: {', '.join(list_grounders())}. Put a folder of transformers (config.json, .safetensors and "
        "the processor's files; Qwen2.5-VL, Qwen3-VL, SmolVLM2, LLaVA, Florence-2 ...) into "
        f"{Path(folder_paths.models_dir) / FOLDERS['grounders'][1]}, press R to refresh, and choose it."
    )


class LoadedGrounder:
    """What travels on a FIREEDIT_GROUNDER wire: a model that grounds, and what the host has to bring to the device for it."""

    def __init__(self, name: str, model: ChatModel | FlorenceModel | Any, patchers: tuple[ModelPatcher, ...]):
        self.name, self.model, self.patchers = name, model, patchers

    def __repr__(self) -> str:
        return f"LoadedGrounder({self.name!r})"

    def __deepcopy__(self, memo: dict) -> LoadedGrounder:
        return self

    def use(self) -> None:
        """Have the host bring it to the device."""
        if self.patchers:
            use(*self.patchers, memory=_WORK)


def load(name: str, clip: Any = None) -> LoadedGrounder:
    """Load a grounder by its name, on the host's offload device. clip: the host's CLIP, for `ENCODER`.

    Raises:
        ValueError, ImportError: see `fireedit_core.grounding.loading.load_grounder` and `text_encoder.grounder_of`.
    """
    found = find_grounder(name)
    if found == ENCODER:
        if clip is None:
            raise ValueError(
                f"{ENCODER} needs the text encoder: connect clip of the loader that your edit model uses, or choose a folder."
            )
        from .text_encoder import grounder_of

        return LoadedGrounder(ENCODER, *grounder_of(clip))
    from fireedit_core.grounding.loading import load_grounder

    dtype, stored = module_dtype(), stored_dtype(found)
    if stored == torch.bfloat16 and dtype == torch.float32 and management.cpu_mode():
        dtype = _dtype_on_cpu(found)
    elif stored == torch.bfloat16 and dtype == torch.float16:
        dtype = torch.float32  # what was trained in bfloat16 may leave the range of float16, and then speaks in "!!!!"
    model = load_grounder(found, dtype)
    stream_linear_layers(model.network)
    return LoadedGrounder(name, model, (make_patcher("FireEditGrounder", model, kind=StreamingPatcher),))


def _dtype_on_cpu(folder: Path) -> torch.dtype:
    """Where the CPU is quick in bfloat16, the type that the folder has; elsewhere float32, as far as twice the memory is there."""
    if quick_in_bfloat16("cpu"):
        return torch.bfloat16
    needed = 2 * sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if needed < ROOM * management.get_free_memory(torch.device("cpu")):
        return torch.float32
    logger.warning(
        "%s stays in bfloat16, which this CPU only emulates, some forty times slower: in float32 it needs %.1f GB of free memory.",
        folder.name, needed / ROOM / 1e9,
    )  # fmt: skip
    return torch.bfloat16


def _found() -> Iterator[model_folders.Found]:
    """(group, root, folder) of everything that looks like a language model that sees."""
    for group, (key, _) in FOLDERS.items():
        for root in model_folders.roots(key):
            for depth in range(1, _DEPTH + 1):
                for config in sorted(root.glob("/".join(["*"] * depth) + "/config.json")):
                    if _is_one(config):
                        yield group, root, config.parent


def _is_one(config: Path) -> bool:
    try:
        return sees_and_speaks(json.loads(config.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return False
