# SPDX-License-Identifier: GPL-3.0-or-later
"""The names that weights have on disk, whichever release of transformers has them in memory."""

from __future__ import annotations

import re

from torch import Tensor

# transformers 5 has other names in memory; on disk stand the published ones
_DINO = {"q_proj": "attention.query", "k_proj": "attention.key", "v_proj": "attention.value", "o_proj": "output.dense"}


def public_dino_name(key: str) -> str:
    """The published name of a `Dinov2Model` key of any release, also below a prefix."""
    return re.sub(r"(\.attention)\.([qkvo]_proj)\.", lambda m: f"{m[1]}.{_DINO[m[2]]}.", key)


def public_clip_name(key: str) -> str:
    """The published name of a `CLIPVisionModel` key of any release."""
    return key if key.startswith("vision_model.") else "vision_model." + key


def published(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A component's state dict under the names that stand on disk."""
    rename = {"dinov2": public_dino_name, "clip_vision": public_clip_name}.get(name, lambda key: key)
    return {rename(key): x for key, x in state.items()}
