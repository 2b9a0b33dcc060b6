# SPDX-License-Identifier: GPL-3.0-or-later
"""Where bundles are found, and their components as models that the host's memory management owns."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import folder_paths
import torch

PACK_MODELS = Path(__file__).resolve().parents[2] / "models"


def bundle_folders() -> dict[str, Path]:
    """Every bundle by name: models/fireedit of the host (and of extra_model_paths.yaml) first, then the pack's own models/."""
    known = folder_paths.folder_names_and_paths.get("fireedit", ([], set()))[0]
    roots = [*known, Path(folder_paths.models_dir) / "fireedit", PACK_MODELS]
    found: dict[str, Path] = {}
    for root in map(Path, roots):
        if root.is_dir():
            for folder in sorted(p for p in root.iterdir() if p.is_dir()):
                found.setdefault(folder.name, folder)
    return found


class Held(torch.nn.Module):
    """A diffusers model behind a plain module: the host writes `model.device`, which ModelMixin defines as read-only."""

    def __init__(self, inner: torch.nn.Module):
        super().__init__()
        self.inner = inner


@lru_cache(maxsize=2)
def detector_patcher(folder: Path) -> comfy.model_patcher.ModelPatcher:
    """The detector of a bundle, loaded once on the CPU; the host moves it to the GPU and back."""
    from fireedit_core.regions import load_region_detector

    return comfy.model_patcher.ModelPatcher(
        Held(load_region_detector(folder / "detector").eval()),
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )
