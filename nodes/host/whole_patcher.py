# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups of plain torch modules under the host's memory management."""

from __future__ import annotations

from typing import Any

from comfy.model_patcher import ModelPatcher


class WholePatcher(ModelPatcher):
    """A group that is on the device as a whole or not at all.

    The host streams a model that does not fit in whole: layers that it built itself fetch their weights when they are called. Ours are
    plain torch modules, which cannot, so what stayed behind would meet the rest on another device ("found at least two devices").
    """

    def load(
        self, device_to: Any = None, lowvram_model_memory: int = 0, force_patch_weights: bool = False, full_load: bool = False, **more: Any
    ) -> Any:
        """Whatever room the host offers, all of it."""
        return super().load(device_to, lowvram_model_memory, force_patch_weights, full_load=True, **more)

    def partially_unload(self, *_: Any, **__: Any) -> int:
        """Nothing: the host then lets go of the whole group, or of another model."""
        return 0
