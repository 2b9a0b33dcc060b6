# SPDX-License-Identifier: GPL-3.0-or-later
"""The second, visual cross attention that brings v into the UNet beside the text condition (section 3.4, eq. 7).

The paper shares the query and output projections of the block's own cross attention (IP-Adapter's form). Here each layer
keeps its own W_q and W_o, started from the block's: the shared form is one point of this space, and a host can add the
term after the block's attention without replacing it, so that it composes with other patches (design D5). In training
`VisualCrossAttention.shared` holds to that point; a bundle keeps copies of the block's projections then.

Beyond the paper, each layer also tells the cells of the grounding mask that they are the ones to change: the *mark*. A UNet
that must find the place through attention alone wavers between look-alikes, and a sampler of many steps then settles on either.
What the mark says is the mean row of the text condition e_t, so that it passes through TATI; in bundles before 0.3 it was the
mean of v.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn


class VisualAttentionLayer(nn.Module):
    """W_o Attn(W_q h, W_k v, W_v v) + m W_m mean(c), all without bias, so that v = 0 and m = 0 contribute exactly 0.

    Shapes: h (B, tokens, channels), v (B, 16, visual_size), m (B, tokens, 1) in 0..1 -> (B, tokens, channels).

    Args:
        condition_size: width of the text condition, whose rows are c; None makes v itself c.
    """

    def __init__(self, channels: int, heads: int, visual_size: int, condition_size: int | None = None):
        super().__init__()
        self.heads = heads
        self.marks_condition = condition_size is not None
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(visual_size, channels, bias=False)
        self.to_v = nn.Linear(visual_size, channels, bias=False)
        self.to_out = nn.Linear(channels, channels, bias=False)
        self.to_mark = nn.Linear(condition_size or visual_size, channels, bias=False)
        for last in (self.to_out, self.to_mark):
            nn.init.zeros_(last.weight)  # the UNet starts unchanged

    def project(self, visual: Tensor) -> Projected:
        """Everything that depends on v alone: compute it once per run."""
        mark = None if self.marks_condition else self.to_mark(visual.mean(1, keepdim=True))
        return Projected(self.to_k(visual), self.to_v(visual), mark)

    def forward(
        self, hidden: Tensor, projected: Projected, where: Tensor | None = None, condition: Tensor | None = None,
        grid: tuple[int, int] | None = None, block: Attention | None = None,
    ) -> Tensor:  # fmt: skip
        """The visual term for normed hidden states (B, tokens, channels).

        Args:
            where: the grounding mask (B, 1, h, w) in 0..1 on the latent's grid or any other of its shape; None marks nothing.
            condition: the text condition e_t (B, 77, condition_size) as the UNet gets it; read only by layers that mark with it.
            grid: (h, w) of the tokens, where it is known; None takes it to be some halving of the mask's.
            block: the cross attention that this one stands beside, whose W_q and W_o are taken instead of the layer's own (eq. 7).

        Raises:
            ValueError: without a condition where the mark is made of it.
        """
        to_q = self.to_q if block is None else block.to_q
        split = lambda x: x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # noqa: E731
        # over 16 tokens plain products cost nothing, and on the CPU the fused attention's backward pass is far slower
        query, keys, values = split(to_q(hidden)), split(projected.keys), split(projected.values)
        weights = (query * query.shape[-1] ** -0.5 @ keys.transpose(-1, -2)).softmax(-1)
        seen = (weights.to(values.dtype) @ values).transpose(1, 2).flatten(2)
        out = self.to_out(seen) if block is None else _without_bias(block.to_out[0], seen)
        if where is None:
            return out
        mark = projected.mark
        if mark is None:
            if condition is None:
                raise ValueError("the mark of the grounding mask is made of the text condition, and none was given")
            mark = self.to_mark(condition.mean(1, keepdim=True).to(self.to_mark.weight.dtype))
        return out + mask_tokens(where, hidden.shape[1], grid).to(out) * mark


def _without_bias(layer: nn.Module, x: Tensor) -> Tensor:
    """W x of a linear layer; of one that has adapters, theirs with it."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, layer.weight)
    return layer(x) - layer.bias if layer.bias is not None else layer(x)


class Projected(NamedTuple):
    """What one layer makes of v: K and V (B, 16, channels), and the mark of cells that are to change (B, 1, channels), which is
    None where it is made of the text condition."""

    keys: Tensor
    values: Tensor
    mark: Tensor | None


def mask_tokens(where: Tensor, tokens: int, grid: tuple[int, int] | None = None) -> Tensor:
    """A mask (B, 1, h, w) on the latent's grid as (B, tokens, 1) for a UNet level, whose downsamplers halve and round up.

    Args:
        grid: (height, width) of the tokens, where it is known: patches that shrink the UNet's inside (Kohya's Deep Shrink) give
            levels that no halving gives.

    Raises:
        ValueError: if no number of halvings gives that many tokens.
    """
    if grid is not None and grid[0] * grid[1] == tokens:
        return F.adaptive_avg_pool2d(where, grid).flatten(2).transpose(1, 2)
    height, width = where.shape[-2:]
    while height * width > tokens and (height > 1 or width > 1):
        height, width = -(-height // 2), -(-width // 2)
    if height * width != tokens:
        raise ValueError(f"a mask of {tuple(where.shape[-2:])} cells does not fit attention over {tokens} tokens")
    return F.adaptive_avg_pool2d(where, (height, width)).flatten(2).transpose(1, 2)


class VisualCrossAttention(ModelMixin, ConfigMixin):
    """One `VisualAttentionLayer` per cross attention of a UNet.

    Args:
        layers: one dict {"name", "channels", "heads"} per layer, in the order of `unet.named_modules()`; the name is the
            diffusers path of the `attn2` it stands beside.
        visual_size: width of v.
        condition_size: width of the text condition, of which the mark is made; None, as in bundles before 0.3, makes it of v.

    Attributes:
        shared: each layer takes W_q and W_o of the attention that it stands beside, as eq. 7 has it; its own are not used.
    """

    shared = False

    @register_to_config
    def __init__(self, layers: Sequence[dict], visual_size: int = 768, condition_size: int | None = None):
        super().__init__()
        self.attentions = nn.ModuleList(
            VisualAttentionLayer(x["channels"], x["heads"], visual_size, condition_size) for x in layers
        )

    @classmethod
    def for_unet(cls, unet: nn.Module, visual_size: int, mark: str = "condition") -> VisualCrossAttention:
        """Layers for every `attn2` of a UNet2DConditionModel, W_q copied from it, W_k and W_v too where the widths agree.

        Args:
            mark: "condition" makes the mark of the grounding mask of e_t, "visual" of v.

        Raises:
            ValueError: for any other `mark`.
        """
        if mark not in ("condition", "visual"):
            raise ValueError(f"mark must be 'condition' or 'visual', got {mark!r}")
        blocks = dict(cross_attentions(unet))
        layers = [{"name": n, "channels": a.to_q.in_features, "heads": a.heads} for n, a in blocks.items()]
        made = cls(layers, visual_size, next(iter(blocks.values())).to_k.in_features if mark == "condition" else None)
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

    def project(self, visual: Tensor) -> list[Projected]:
        """What every layer makes of v (B, 16, visual_size)."""
        visual = visual.to(self.attentions[0].to_k.weight.dtype)
        return [layer.project(visual) for layer in self.attentions]


def cross_attentions(unet: nn.Module):
    """(path, module) of every text cross attention of a diffusers UNet, in module order."""
    for name, module in unet.named_modules():
        if name.endswith(".attn2"):
            yield name, module


class VisualAttnProcessor:
    """The block's own attention plus strength times the visual term.

    `base` computes the block's own attention; it is one of diffusers' processors.

    `visual` arrives through `cross_attention_kwargs`: one `Projected` per layer, or None for the plain UNet; `where` is the
    grounding mask (B, 1, h, w).
    """

    def __init__(self, layer: VisualAttentionLayer | None = None, index: int = -1, base: Callable | None = None, shared: bool = False):
        # held in a list so that the layer's weights are not registered a second time inside the UNet
        self._layer = [layer]
        self.index, self.shared = index, shared
        self.base = base or AttnProcessor2_0()

    def __call__(
        self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None,
        visual: list[Projected] | None = None, where: Tensor | None = None, visual_strength: float = 1.0,
    ) -> Tensor:  # fmt: skip
        out = self.base(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        layer = self._layer[0]
        if layer is None or visual is None or visual_strength == 0:
            return out
        term = layer(hidden_states, visual[self.index], where, encoder_hidden_states, block=attn if self.shared else None)
        return out + visual_strength * term.to(out.dtype)


def attach_visual_attention(unet: nn.Module, visual_attention: VisualCrossAttention, base: Callable | None = None) -> None:
    """Give every attention of a diffusers UNet the processor that understands `visual` and `where`.

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
        processors[key] = VisualAttnProcessor(visual_attention.attentions[i] if i >= 0 else None, i, base, visual_attention.shared)
    unet.set_attn_processor(processors)
