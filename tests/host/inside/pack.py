# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's modules and the pack as the host loads it; imported by the tests of this folder before anything of the host."""

from __future__ import annotations

import torch

from host_setup.inside_host import nodes  # noqa: F401  first: it makes the host and the pack importable

import comfy.latent_formats  # isort: skip
from diffusers import UNet2DConditionModel  # isort: skip
from fireedit_pack.nodes import conditioning  # noqa: E402
from fireedit_pack.nodes.host import guider  # noqa: E402


def run(model, conds, text=2.0, image=1.5, steps=3, rows=None, seed=3):
    made = guider.make_guider(model, *conds.args[:3], text, image)
    latent = torch.zeros_like(conds.args[3]["samples"][:rows])
    return guider.sample(made, latent, seed, steps, "euler", "simple", 1.0)


def plain(conds):
    """The same conditionings as a stranger would make them: no payload."""
    stripped = []
    for cond in conds.args[:3]:
        options = {k: v for k, v in cond[0][1].items() if k not in ("model_conds", conditioning.WORKING_SIZE)}
        stripped.append([[cond[0][0], options]])
    return type("Plain", (), {"args": (*stripped, conds.args[3])})()


def diffusers_unet(**changes):
    torch.manual_seed(0)
    settings = {
        "in_channels": 8, "out_channels": 4, "block_out_channels": (64, 96), "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), "cross_attention_dim": 48, "attention_head_dim": 4,
        "sample_size": 16,
    }  # fmt: skip
    return UNet2DConditionModel(**(settings | changes)).eval()


def latents(channels=4):
    made = comfy.latent_formats.LatentFormat()
    made.latent_channels = channels
    return made
