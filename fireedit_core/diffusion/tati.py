# SPDX-License-Identifier: GPL-3.0-or-later
"""TATI, time-aware target injection: the edit embedding and the timestep become the UNet's condition (section 3.3, eq. 5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import Tensor, nn


class AdaLayerNorm(nn.Module):
    """LayerNorm whose shift and scale come from the time embedding; starts as a plain LayerNorm (zero-initialised)."""

    def __init__(self, dim: int):
        super().__init__()
        self.linear = nn.Linear(dim, 2 * dim)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        shift, scale = self.linear(F.silu(time)).chunk(2, dim=-1)
        return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class TATIBlock(nn.Module):
    """One resampler unit (ELLA's shape): latents attend to [latents, e], then a feed-forward, each behind an AdaLN."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.ln_1, self.ln_2, self.ln_ff = AdaLayerNorm(dim), AdaLayerNorm(dim), AdaLayerNorm(dim)
        self.attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(dim, 4 * dim), "c_proj": nn.Linear(4 * dim, dim)})

    def forward(self, latents: Tensor, context: Tensor, time: Tensor) -> Tensor:
        query = self.ln_1(latents, time)
        keys = torch.cat([query, self.ln_2(context, time)], dim=1)
        # on the CPU the fused attention's backward pass takes twice as long as plain products, which asking for weights chooses
        plain = torch.is_grad_enabled() and latents.device.type == "cpu"
        latents = latents + self.attn(query, keys, keys, need_weights=plain)[0]
        hidden = F.relu(self.mlp["c_fc"](self.ln_ff(latents, time))).square()
        return latents + self.mlp["c_proj"](hidden)


class TATI(ModelMixin, ConfigMixin):
    """Two time-conditioned resampler units over 77 learned queries.

    Shapes: e (B, 77, D) and timesteps (B,) in 0..999 -> condition e_t (B, 77, D), one per picture and step.

    Args:
        hidden_size: D, the UNet's cross attention width. time_channels: width of the sinusoid.
        residual: add the result to e through a learned per-channel gate instead of replacing e. Not in the paper; it
            lets a small model start from e itself. The paper's form is False.
        own_rows: the queries start from the rows of e with the learned ones added, so that row i is about row i of e from
            the first step on. Not in the paper; its form is False.
        query_std: standard deviation of the learned queries at the start. Small queries (ELLA's hidden_size ** -0.5) drown
            in what is added to all of them, the rows become one and stay so: see `rows.power_between_rows`.

    The text-dropped condition of classifier-free guidance, `null_embedding` (1, 77, D), lives here because it takes the
    place of TATI's output (design D6): CLIP("") at SD1.5 scale, learned in a model trained from scratch.
    """

    @register_to_config
    def __init__(
        self,
        hidden_size: int = 768,
        num_queries: int = 77,
        num_layers: int = 2,
        num_heads: int = 8,
        time_channels: int = 320,
        residual: bool = False,
        own_rows: bool = False,
        query_std: float = 1.0,
    ):
        super().__init__()
        self.time_proj = Timesteps(time_channels, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(time_channels, hidden_size)
        self.time_aware_linear = nn.Linear(hidden_size, hidden_size)
        self.latents = nn.Parameter(torch.randn(num_queries, hidden_size) * query_std)
        self.blocks = nn.ModuleList(TATIBlock(hidden_size, num_heads) for _ in range(num_layers))
        self.gate = nn.Parameter(torch.full((hidden_size,), 0.1)) if residual else None
        self.null_embedding = nn.Parameter(torch.zeros(1, num_queries, hidden_size))

    def forward(self, context: Tensor, timestep: Tensor) -> Tensor:
        """The condition e_t (B, 77, D).

        Args:
            context: e, (B, 77, D). timestep: (B,) in 0..999, integer or not; the true one that the UNet receives.
        """
        time = self.time_embedding(self.time_proj(timestep.reshape(-1)).to(context.dtype))[:, None]
        latents = self.latents.to(context.dtype) + self.time_aware_linear(F.silu(time))
        if self.config.own_rows:
            latents = latents + context
        for block in self.blocks:
            latents = block(latents, context, time)
        return latents if self.gate is None else context + self.gate.to(latents.dtype) * latents

    def inject(self, context: Tensor, timestep: Tensor, gate: Tensor, strength: float = 1.0) -> Tensor:
        """TATI on the rows whose gate is 1; rows with gate 0 (null conditions) come back untouched, bit for bit.

        A context of several times 77 rows is several conditions one after the other (concatenated, or repeated by the host to go with
        one that is), each read by itself; rows beyond that are not ours and stay as they are.

        Args:
            context: (B, n, D) with n >= 77. timestep: (B,). gate: (B,), 0 or 1. strength: 0 keeps e, 1 is the trained condition.
        """
        rows = gate.reshape(-1) > 0.5
        if strength == 0 or not bool(rows.any()):
            return context
        out = context.clone()
        size, when = self.config.num_queries, timestep.reshape(-1).expand(context.shape[0])[rows]
        for first in range(0, context.shape[1] - size + 1, size):
            chosen = context[rows, first : first + size]
            changed = self(chosen, when)
            out[rows, first : first + size] = (changed if strength == 1 else chosen + strength * (changed - chosen)).to(out.dtype)
        return out
