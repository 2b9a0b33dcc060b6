# SPDX-License-Identifier: GPL-3.0-or-later
"""The second, visual cross attention that brings v into the UNet beside the text condition (section 3.4, eq. 7).

The paper shares the query and output projections of the block's own cross attention (IP-Adapter's form). Here each layer
keeps its own W_q and W_o, started from the block's: the shared form is one point of this space, and a host can add the
term after the block's attention without replacing it, so that it composes with other patches (design D5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor, nn


class VisualAttentionLayer(nn.Module):
    """W_o Attn(W_q h, W_k v, W_v v), all without bias, so that v = 0 contributes exactly 0.

    Shapes: h (B, tokens, channels), v (B, 16, visual_size) -> (B, tokens, channels).
    """

    def __init__(self, channels: int, heads: int, visual_size: int):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(visual_size, channels, bias=False)
        self.to_v = nn.Linear(visual_size, channels, bias=False)
        self.to_out = nn.Linear(channels, channels, bias=False)
        nn.init.zeros_(self.to_out.weight)  # the UNet starts unchanged

    def keys_values(self, visual: Tensor) -> tuple[Tensor, Tensor]:
        """K and V, each (B, 16, channels). They depend on v alone: compute them once per run."""
        return self.to_k(visual), self.to_v(visual)

    def forward(self, hidden: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """The visual term for normed hidden states (B, tokens, channels), with K and V of `keys_values`."""
        split = lambda x: x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # noqa: E731
        out = F.scaled_dot_product_attention(split(self.to_q(hidden)), split(keys), split(values))
        return self.to_out(out.transpose(1, 2).flatten(2))


class VisualCrossAttention(ModelMixin, ConfigMixin):
    """One `VisualAttentionLayer` per cross attention of a UNet.

    Args:
        layers: one dict {"name", "channels", "heads"} per layer, in the order of `unet.named_modules()`; the name is the
            diffusers path of the `attn2` it stands beside.
        visual_size: width of v.
    """

    @register_to_config
    def __init__(self, layers: Sequence[dict], visual_size: int = 768):
        super().__init__()
        self.attentions = nn.ModuleList(VisualAttentionLayer(x["channels"], x["heads"], visual_size) for x in layers)

    @classmethod
    def for_unet(cls, unet: nn.Module, visual_size: int) -> VisualCrossAttention:
        """Layers for every `attn2` of a UNet2DConditionModel, W_q copied from it, W_k and W_v too where the widths agree."""
        blocks = dict(cross_attentions(unet))
        layers = [{"name": n, "channels": a.to_q.in_features, "heads": a.heads} for n, a in blocks.items()]
        made = cls(layers, visual_size)
        with torch.no_grad():
            for layer, attention in zip(made.attentions, blocks.values(), strict=True):
                layer.to_q.weight.copy_(attention.to_q.weight)
                if attention.to_k.in_features == visual_size:
                    layer.to_k.weight.copy_(attention.to_k.weight)
                    layer.to_v.weight.copy_(attention.to_v.weight)
        return made

    @property
    def names(self) -> list[str]:
        """The diffusers paths of the layers, in order."""
        return [layer["name"] for layer in self.config.layers]

    def keys_values(self, visual: Tensor) -> list[tuple[Tensor, Tensor]]:
        """K and V of every layer for v (B, 16, visual_size)."""
        visual = visual.to(self.attentions[0].to_k.weight.dtype)
        return [layer.keys_values(visual) for layer in self.attentions]


def cross_attentions(unet: nn.Module):
    """(path, module) of every text cross attention of a diffusers UNet, in module order."""
    for name, module in unet.named_modules():
        if name.endswith(".attn2"):
            yield name, module


class VisualAttnProcessor:
    """The block's own attention plus strength times the visual term.

    `base` computes the block's own attention; it is one of diffusers' processors.

    `visual_kv` arrives through `cross_attention_kwargs`: a list of (K, V) per layer, or None for the plain UNet.
    """

    def __init__(self, layer: VisualAttentionLayer | None = None, index: int = -1, base: Callable | None = None):
        # held in a list so that the layer's weights are not registered a second time inside the UNet
        self._layer = [layer]
        self.index = index
        self.base = base or AttnProcessor2_0()

    def __call__(
        self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None, visual_kv=None,
        visual_strength: float = 1.0,
    ) -> Tensor:  # fmt: skip
        out = self.base(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        layer = self._layer[0]
        if layer is None or visual_kv is None or visual_strength == 0:
            return out
        keys, values = visual_kv[self.index]
        return out + visual_strength * layer(hidden_states, keys, values).to(out.dtype)


def attach_visual_attention(unet: nn.Module, visual_attention: VisualCrossAttention, base: Callable | None = None) -> None:
    """Give every attention of a diffusers UNet the processor that understands `visual_kv`.

    Args:
        base: diffusers processor for the block's own attention; None is `AttnProcessor2_0`.
    """
    index = {name: i for i, name in enumerate(visual_attention.names)}
    missing = [name for name, _ in cross_attentions(unet) if name not in index]
    if missing:
        raise ValueError(f"visual attention has no layer for {missing[0]}; it was made for another UNet")
    processors = {}
    for key in unet.attn_processors:
        name = key.removesuffix(".processor")
        i = index.get(name, -1)
        processors[key] = VisualAttnProcessor(visual_attention.attentions[i] if i >= 0 else None, i, base)
    unet.set_attn_processor(processors)
