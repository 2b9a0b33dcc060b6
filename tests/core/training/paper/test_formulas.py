# SPDX-License-Identifier: GPL-3.0-or-later
"""What the UNet is told in the full-size trainer, over one that only listens."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

from fireedit_core.checkpoints.bundle import load_components
from fireedit_core.training.paper.losses import row_noise
from fireedit_core.training.paper.model import EditModel
from fireedit_core.vlm import encode_vision

FACTOR = 0.3  # of the source latents, as InstructPix2Pix has it


class Listener(nn.Module):
    """A UNet that says half of the noisy latent."""

    def forward(self, x, times, context, cross_attention_kwargs):
        self.told = (x, times, context, cross_attention_kwargs)
        return SimpleNamespace(sample=0.5 * x[:, : x.shape[1] // 2])


@torch.no_grad()
def test_what_is_dropped_and_what_is_not(config, bundle):
    c = load_components(bundle)
    model, unet = EditModel(c, config(dropout=0.25), FACTOR), Listener()
    model.parts["unet"] = unet
    torch.manual_seed(0)
    clean, latents = torch.randn(12, 16, 8, 8), torch.randn(12, 16, 8, 8)
    vision = encode_vision(c["dinov2"], c["clip_vision"], torch.rand(12, 3, 64, 64))
    e, where, seeds = torch.randn(12, 77, c["tati"].config.hidden_size), torch.rand(12, 1, 8, 8), torch.arange(100, 112)
    c["tati"].null_embedding.normal_()
    edit = SimpleNamespace(target=clean, seeds=seeds, features=SimpleNamespace(vision=vision, latents=latents))
    loss, _ = model._diffusion(edit, e, where)

    noise, times, text, picture = row_noise(seeds, (16, 8, 8), 1000, 0.25)
    assert {(bool(t), bool(p)) for t, p in zip(text, picture)} == {(False, False), (True, False), (True, True), (False, True)}
    a = c["scheduler"].alphas_cumprod[times].view(-1, 1, 1, 1)
    noisy = a.sqrt() * clean + (1 - a).sqrt() * noise
    x, t, context, beside = unet.told
    null = c["tati"].null_embedding.expand_as(e)
    timed = c["tati"](e, times)
    assert torch.allclose(x[:, :16], noisy, atol=1e-5) and torch.equal(t, times)
    v = c["hvca"](torch.where(text[:, None, None], null, e), vision)
    for row in range(12):
        assert torch.allclose(x[row, 16:], FACTOR * latents[row] * float(not picture[row]))
        assert torch.allclose(context[row], null[row] if text[row] else timed[row], atol=1e-5)
        assert torch.equal(beside["where"][row], where[row] * float(not text[row]))
    visual = c["visual_attention"].project(v * (~picture)[:, None, None])
    assert all(torch.allclose(got.keys, want.keys, atol=1e-5) for got, want in zip(beside["visual"], visual, strict=True))
    kind = c["scheduler"].config.prediction_type
    wanted = {"sample": clean, "epsilon": noise, "v_prediction": a.sqrt() * noise - (1 - a).sqrt() * clean}[kind]
    if not model.config.snr_gamma:
        assert torch.allclose(loss, (0.5 * noisy - wanted).square().mean(), rtol=1e-5)
