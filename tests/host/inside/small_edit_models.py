# SPDX-License-Identifier: GPL-3.0-or-later
"""Edit models of the true classes, small and with random weights, built through the host's own classes; with a picture for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tests.host.inside.pack import nodes  # noqa: F401  first: it makes the host importable

import comfy.supported_models  # isort: skip
from comfy.ldm.flux.model import FluxParams  # isort: skip
from comfy.model_patcher import ModelPatcher  # isort: skip
from fireedit_pack.nodes.host import compat  # isort: skip

CELLS = (8, 12)


@dataclass(frozen=True)
class EditModel:
    """A MODEL with what it is told of one picture, or of several.

    Attributes:
        source: unscaled latents (B, C, ..., h, w) of the picture, as the conditioning carries them. cell: pixels per latent cell.
    """

    model: ModelPatcher
    positive: list
    negative: list
    source: Tensor
    cell: int

    @property
    def empty(self) -> Tensor:
        return torch.zeros_like(self.source)

    def mask(self, rows: int = 1) -> Tensor:
        """Masks (rows, H, W) at the picture's size; black but for a rectangle, in each row another one."""
        height, width = (n * self.cell for n in CELLS)
        made = torch.zeros(rows, height, width)
        for row in range(rows):
            left = width // 4 * (1 + row)
            made[row, height // 4 : height // 2, left : left + width // 4] = 1
        return made

    def inside(self, rows: int = 1) -> Tensor:
        """Where `mask` reaches a cell, (rows, h, w) bool."""
        return torch.nn.functional.max_pool2d(self.mask(rows)[:, None], self.cell)[:, 0] > 0


def _build(config_class: type, config: dict[str, Any]) -> ModelPatcher:
    """The host's model of that configuration, with random weights of moderate size."""
    known = config_class(dict(config))
    known.set_inference_dtype(torch.float32, None)
    model = known.get_model({}, "")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.diffusion_model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise * nn.init._calculate_fan_in_and_fan_out(parameter)[0] ** -0.5)
            else:  # of one dimension are biases and what normalisations multiply with
                parameter.copy_(0.1 * noise if name.endswith("bias") else 1 + 0.1 * noise)
    return ModelPatcher(model.eval().float(), load_device=torch.device("cpu"), offload_device=torch.device("cpu"))


def _latents(*shape: int) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(5))


def _text(tokens: int, width: int, seed: int) -> Tensor:
    return torch.randn(1, tokens, width, generator=torch.Generator().manual_seed(seed))


def _referring(model: ModelPatcher, width: int, source: Tensor, cell: int, **options: Any) -> EditModel:
    """As Reference Latent leaves the conditionings of Kontext, Flux.2, Qwen-Image-Edit and OmniGen2."""
    make = lambda seed: [[_text(6, width, seed), {"reference_latents": [source]} | options]]  # noqa: E731
    return EditModel(model, make(1), make(2), source, cell)


def pix2pix(rows: int = 1) -> EditModel:
    """InstructPix2Pix of Stable Diffusion 1.5."""
    config = {
        "image_size": 32, "in_channels": 8, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1], "channel_mult": [1],
        "transformer_depth": [1], "transformer_depth_output": [1, 1], "transformer_depth_middle": 1, "context_dim": 24,
        "use_spatial_transformer": True, "use_linear_in_transformer": False, "legacy": False, "num_heads": 2, "num_head_channels": -1,
        "adm_in_channels": None, "use_temporal_attention": False, "use_checkpoint": False,
    }  # fmt: skip
    model = _build(comfy.supported_models.SD15_instructpix2pix, config)
    source = _latents(rows, 4, *CELLS)
    make = lambda seed: [[_text(7, 24, seed), {"concat_latent_image": source}]]  # noqa: E731
    return EditModel(model, make(1), make(2), source, 8)


def kontext(rows: int = 1) -> EditModel:
    """Flux, with a reference latent as Kontext has it."""
    config = {
        "image_model": "flux", "guidance_embed": True, "in_channels": 16, "out_channels": 16, "vec_in_dim": 12, "context_in_dim": 20,
        "hidden_size": 32, "mlp_ratio": 2.0, "num_heads": 2, "depth": 1, "depth_single_blocks": 1, "axes_dim": [4, 6, 6], "theta": 10000,
        "patch_size": 2, "qkv_bias": True, **compat.known(FluxParams, txt_ids_dims=[]),
    }  # fmt: skip
    pooled = torch.randn(1, 12, generator=torch.Generator().manual_seed(9))
    return _referring(_build(comfy.supported_models.Flux, config), 20, _latents(rows, 16, *CELLS), 8, pooled_output=pooled)


def flux2(rows: int = 1) -> EditModel:
    """Flux.2: 128 channels, cells of 16 px."""
    config = {
        "image_model": "flux2", "guidance_embed": True, "in_channels": 128, "out_channels": 128, "vec_in_dim": None, "context_in_dim": 20,
        "hidden_size": 32, "mlp_ratio": 3.0, "num_heads": 2, "depth": 1, "depth_single_blocks": 1, "axes_dim": [4, 4, 4, 4], "theta": 2000,
        "patch_size": 1, "qkv_bias": False, "global_modulation": True, "mlp_silu_act": True, "ops_bias": False,
        "default_ref_method": "index", "ref_index_scale": 10.0, **compat.known(FluxParams, txt_ids_dims=[3]),
    }  # fmt: skip
    return _referring(_build(comfy.supported_models.Flux2, config), 20, _latents(rows, 128, *CELLS), 16, pooled_output=None)


def qwen_image(rows: int = 1) -> EditModel:
    """Qwen-Image-Edit: latents with a dimension for frames."""
    config = {
        "image_model": "qwen_image", "in_channels": 64, "num_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2,
        "joint_attention_dim": 20, "axes_dims_rope": (4, 6, 6),
    }  # fmt: skip
    return _referring(_build(comfy.supported_models.QwenImage, config), 20, _latents(rows, 16, 1, *CELLS), 8)


def omnigen2(rows: int = 1) -> EditModel:
    """OmniGen2, whose x0 is of a model that predicts the other way round."""
    config = {
        "image_model": "omnigen2", "axes_dim_rope": [4, 6, 6], "axes_lens": [64, 64, 64], "ffn_dim_multiplier": None, "hidden_size": 32,
        "in_channels": 16, "multiple_of": 16, "norm_eps": 1e-05, "num_attention_heads": 2, "num_kv_heads": 1, "num_layers": 1,
        "num_refiner_layers": 1, "out_channels": None, "patch_size": 2, "text_feat_dim": 20, "timestep_scale": 1000.0,
    }  # fmt: skip
    model = _build(comfy.supported_models.Omnigen2, config)
    return _referring(model, 20, _latents(rows, 16, *CELLS), 8, attention_mask=torch.ones(1, 6, dtype=torch.long))


MODELS: dict[str, Callable[..., EditModel]] = {
    "SD1.5-IP2P": pix2pix, "Flux-Kontext": kontext, "Flux2": flux2, "Qwen-Image": qwen_image, "OmniGen2": omnigen2,
}  # fmt: skip
