# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's modules and the pack as the host loads it; imported by the tests of this folder before anything of the host."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import torch

REPO = Path(__file__).resolve().parents[3]
sys.path.append(os.environ["FIREEDIT_HOST"])  # at the end: it has folders named like ours

import comfy.cli_args  # noqa: E402

comfy.cli_args.args.cpu = True

import comfy.latent_formats  # noqa: E402
from diffusers import UNet2DConditionModel  # noqa: E402


def _import_pack():
    spec = importlib.util.spec_from_file_location(
        "fireedit_pack", REPO / "__init__.py", submodule_search_locations=[str(REPO)]
    )
    pack = importlib.util.module_from_spec(spec)
    sys.modules["fireedit_pack"] = pack
    spec.loader.exec_module(pack)
    pack._load_core()
    return importlib.import_module("fireedit_pack.nodes")


nodes = _import_pack()
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
