# SPDX-License-Identifier: GPL-3.0-or-later
"""IP-Adapter for Stable Diffusion 1.5: the K and V matrices of its second attention (architecture notes 5).

Their numbers are places in diffusers' list of attention processors: down, up, then middle blocks, self attention even and
cross attention odd. Its image projection reads another CLIP and is left; HVCA stands in its place.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .fit import Found, Part, SourceError, fit
from .weight_files import open_weights

if TYPE_CHECKING:
    from ..sd15 import Sd15Config

GET = "Get ip-adapter_sd15.safetensors or ip-adapter-plus_sd15.safetensors (h94/IP-Adapter, folder models)."


def read(path: Path, config: Sd15Config) -> Found:
    """The file -> `to_k` and `to_v` of `visual_attention`.

    Raises:
        SourceError: if it is no IP-Adapter, or one for another UNet.
    """
    tensors = open_weights(path)
    places = [name.removesuffix(".processor") for name in config.blank("unet").attn_processors]
    layer = {name: i for i, name in enumerate(config.blank("visual_attention").names)}
    part: Part = {}
    for key, x in tensors.items():
        group, _, rest = key.partition(".")
        number, _, matrix = rest.partition(".")
        if group != "ip_adapter":
            continue
        place = places[int(number)] if number.isdigit() and int(number) < len(places) else ""
        kind = matrix.removesuffix("_ip.weight")
        # a number or a matrix that has no place keeps its name, so that it is reported as not expected
        part[f"attentions.{layer[place]}.{kind}.weight" if place in layer and kind in ("to_k", "to_v") else key] = x
    if not part:
        some = ", ".join(sorted(tensors)[:3])
        raise SourceError(f"{path} is no IP-Adapter: expected ip_adapter.1.to_k_ip.weight and so on, came {some} ... {GET}")
    widths = sorted({x.shape[-1] for x in part.values()})
    advice = (
        f"Came: {len(part)} matrices that read width {widths}; expected: {2 * len(layer)} of width {config.context_size} "
        f"(Stable Diffusion 1.5, not XL). {GET}"
    )
    expected = {k: s for k, s in config.shapes("visual_attention").items() if k.endswith((".to_k.weight", ".to_v.weight"))}
    notes = {"visual_attention": ["W_k and W_v were trained on IP-Adapter's own image tokens: a start, to be trained on"]}
    return Found(path, tuple(tensors), {"visual_attention": fit(part, expected, path, "visual_attention", advice)}, notes)
