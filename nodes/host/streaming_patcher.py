# SPDX-License-Identifier: GPL-3.0-or-later
"""A language model that need not fit on the card: its linear layers fetch their weights when called, as the host's own models do."""

from __future__ import annotations

from collections import Counter
from typing import Any

import comfy.ops
from comfy.model_management import module_size
from comfy.model_patcher import ModelPatcher
from torch import nn


class StreamingPatcher(ModelPatcher):
    """A group in which the host's linear layers (`stream_linear_layers`) are loaded as far as there is room, and all the rest whole.

    The rest are plain torch modules, which cannot fetch what stayed behind: embeddings, norms, parameters of modules with children.
    """

    def _load_list(self, *args: Any, **names: Any) -> list[tuple]:
        """Of what the host would load piece by piece, the layers that can do without."""
        return [entry for entry in super()._load_list(*args, **names) if hasattr(entry[-2], "comfy_cast_weights")]

    def load(
        self, device_to: Any = None, lowvram_model_memory: int = 0, force_patch_weights: bool = False, full_load: bool = False, **more: Any
    ) -> Any:
        """The rest first, and as many layers as fit beside it."""
        rest = [module for module in self.model.modules() if not hasattr(module, "comfy_cast_weights")]
        size = self.model_size() - sum(module_size(m) for m in self.model.modules() if hasattr(m, "comfy_cast_weights"))
        result = super().load(device_to, lowvram_model_memory - size, force_patch_weights, full_load=full_load, **more)
        if not full_load:  # else the host has sent everything
            for module in rest:
                module._apply(lambda x: x.to(device_to), recurse=False)
            self.model.model_loaded_weight_memory += size
        return result


def stream_linear_layers(module: nn.Module) -> None:
    """Put the host's linear layers in the places of torch's, with the same weights. They compute the same.

    A layer whose weight belongs to another module too (a vocabulary head that is tied to the embedding) stays: its weight is needed there
    on the device.
    """
    uses = Counter(id(parameter) for _, parameter in module.named_parameters(remove_duplicate=False))
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and uses[id(child.weight)] == 1:
                made = comfy.ops.disable_weight_init.Linear(
                    child.in_features, child.out_features, bias=child.bias is not None, device="meta", dtype=child.weight.dtype
                )
                made.weight, made.bias = child.weight, child.bias
                setattr(parent, name, made.train(child.training))
