# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's own UNet with a bundle's weights (design D2)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import comfy.model_base
import comfy.model_management as management
import comfy.supported_models
import comfy.utils
import torch
from comfy.latent_formats import LatentFormat
from comfy.model_base import ModelType
from comfy.model_patcher import ModelPatcher
from torch import nn

from fireedit_core.checkpoints.index import BundleError

from . import compat

logger = logging.getLogger("fireedit")


class _Ratio(float):
    """A channel multiplier that gives whole channels: the host multiplies it with `model_channels` (96 -> 128, say)."""

    def __mul__(self, other: int) -> int:
        return round(float(self) * other)

    __rmul__ = __mul__


class BundleUNet(comfy.supported_models.SD15_instructpix2pix):
    """The host's description of a bundle's UNet: InstructPix2Pix's of Stable Diffusion 1.5, with other numbers."""

    unet_extra_config: dict[str, Any] = {}

    def __init__(self, unet_config: dict[str, Any], sampling: dict[str, Any], latents: LatentFormat):
        super().__init__(unet_config)
        self.latent_format = latents
        self.sampling_settings = sampling


class EditModel(comfy.model_base.SD15_instructpix2pix):
    """The host's model around that UNet, whose source latents keep to their rows."""

    def concat_cond(self, **kwargs: Any) -> torch.Tensor:
        """The source latents (B, C, h, w) of all rows of a latent batch, in the order in which the host repeats what else it is told.

        The host brings source latents to the batch by spreading them (A A B B) where a repeated latent and the instructions go round
        (A B A B), so a row would get one picture and another one's instruction.

        Raises:
            ValueError: for a latent batch that is no whole number of times the pictures.
        """
        source, rows = kwargs.get("concat_latent_image"), kwargs["noise"].shape[0]
        if source is not None and source.shape[0] != rows:
            if rows % source.shape[0]:
                raise ValueError(
                    f"FireEdit: the latent has {rows} rows, but the conditioning belongs to {source.shape[0]} pictures, and nothing says "
                    "which row is which. Take the pictures out of the batch before FireEdit VLM Conditioning (Image From Batch), or "
                    "repeat the latent a whole number of times."
                )
            kwargs["concat_latent_image"] = source.repeat(rows // source.shape[0], 1, 1, 1)
        return super().concat_cond(**kwargs)


def weight_dtype() -> torch.dtype:
    """Type in which the host wants the UNet's weights.

    Raises:
        BundleError: for one that cannot hold them.
    """
    dtype = management.unet_dtype(device=management.get_torch_device(), supported_dtypes=BundleUNet.supported_inference_dtypes)
    if dtype == torch.float8_e8m0fnu:
        raise BundleError(
            "ComfyUI was started with --fp8_e8m0fnu-unet, a type of powers of two without a sign, which cannot hold a UNet's weights. "
            "Start it without that flag, or with --fp8_e4m3fn-unet to save memory."
        )
    return dtype


def build(source: nn.Module, scheduler: Any, latents: LatentFormat, source_latent_scaled: bool) -> ModelPatcher:
    """A MODEL around the host's UNet, with the weights of a diffusers UNet2DConditionModel.

    Args:
        source: the diffusers UNet; its weights are moved, not copied. scheduler: says noise schedule and prediction type.
        source_latent_scaled: whether the concatenated source latent is in the scale of the denoised one (design D6).

    Raises:
        BundleError: for a UNet or schedule that the host's cannot express.
    """
    config = BundleUNet(unet_config(source), sampling_settings(scheduler.config), latents)
    dtype = weight_dtype()
    config.set_inference_dtype(
        dtype,
        management.unet_manual_cast(dtype, management.get_torch_device(), config.supported_inference_dtypes),
    )
    # cast here: layers of a host with dynamic VRAM (2026-04) take a state dict's tensors as they are
    weights = {name: value.to(dtype) for name, value in host_weights(source.state_dict(), config.unet_config).items()}
    prediction = scheduler.config.prediction_type
    kinds = {"epsilon": ModelType.EPS, "v_prediction": ModelType.V_PREDICTION, "sample": ModelType.EPS}
    if prediction not in kinds:
        raise BundleError(f"its scheduler's prediction type {prediction!r} is unknown; {sorted(kinds)} are known.")
    model = EditModel(config, kinds[prediction])
    if prediction == "sample":
        model.model_sampling = compat.x0_sampling(config)
    if source_latent_scaled:
        model.process_ip2p_image_in = latents.process_in
    offload = management.unet_offload_device()
    model = model.to(offload)
    model.load_model_weights(weights, "")
    return ModelPatcher(model, load_device=management.get_torch_device(), offload_device=offload)


def unet_config(source: nn.Module) -> dict[str, Any]:
    """The arguments of the host's UNetModel for a diffusers UNet2DConditionModel.

    Raises:
        BundleError: naming the setting that the host's UNet does not have.
    """
    c = source.config
    _check_fixed(c)
    levels = len(c.block_out_channels)
    widths = list(c.block_out_channels)
    layers = _per_level(c.layers_per_block, levels)
    depth = _per_level(c.transformer_layers_per_block, levels)
    attention = [name == "CrossAttnDownBlock2D" for name in c.down_block_types]
    depths = [d if a else 0 for d, a in zip(depth, attention, strict=True)]
    # diffusers calls the number of heads attention_head_dim (its issue 2011)
    heads = _per_level(c.num_attention_heads or c.attention_head_dim, levels)
    if len(set(heads)) == 1:
        head = {"num_heads": heads[0], "num_head_channels": -1}
    elif len({w / h for w, h in zip(widths, heads, strict=True)}) == 1:
        head = {"num_heads": -1, "num_head_channels": widths[0] // heads[0]}
    else:
        raise BundleError(f"its UNet has heads {heads} on widths {widths}; ComfyUI needs one number of heads, or one head width.")
    return {
        "image_size": 32,
        "in_channels": c.in_channels,
        "out_channels": c.out_channels,
        "model_channels": widths[0],
        "channel_mult": [_Ratio(w / widths[0]) for w in widths],
        "num_res_blocks": layers,
        "transformer_depth": [d for d, n in zip(depths, layers, strict=True) for _ in range(n)],
        "transformer_depth_output": [d for d, n in zip(depths, layers, strict=True) for _ in range(n + 1)],
        "transformer_depth_middle": depth[-1],
        "context_dim": c.cross_attention_dim,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": bool(c.use_linear_projection),
        "legacy": False,
        "adm_in_channels": None,
        "use_temporal_attention": False,
        **head,
    }


def host_weights(state: dict[str, torch.Tensor], config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """A diffusers UNet's state dict under the host's names.

    Raises:
        BundleError: if a weight has no place in the host's UNet, or the other way round.
    """
    names = comfy.utils.unet_to_diffusers(config)
    unknown = [key for key in state if key not in names]
    if unknown:
        raise BundleError(f"its UNet's weight {unknown[0]} has no place in ComfyUI's UNet; the architecture is not supported.")
    return {names[key]: value for key, value in state.items()}


def sampling_settings(c: Mapping[str, Any]) -> dict[str, Any]:
    """The host's noise schedule for the config of a diffusers scheduler."""
    # the host's "linear" is linear in the square root, diffusers' "scaled_linear"
    kinds = {"scaled_linear": "linear", "linear": "sqrt_linear"}
    if c.get("beta_schedule") not in kinds:
        raise BundleError(f"its scheduler's beta_schedule {c.get('beta_schedule')!r} is not supported; {sorted(kinds)} are.")
    return {
        "beta_schedule": kinds[c["beta_schedule"]],
        "linear_start": c["beta_start"],
        "linear_end": c["beta_end"],
        "timesteps": c["num_train_timesteps"],
        "zsnr": bool(c.get("rescale_betas_zero_snr", False)),
    }


def _per_level(value: Any, levels: int) -> list[int]:
    return list(value) if isinstance(value, (list, tuple)) else [value] * levels


def _check_fixed(c: Any) -> None:
    """Settings that the host's UNet has built in."""
    fixed = {
        "norm_num_groups": 32, "act_fn": "silu", "conv_in_kernel": 3, "conv_out_kernel": 3, "flip_sin_to_cos": True,
        "freq_shift": 0, "mid_block_type": "UNetMidBlock2DCrossAttn", "addition_embed_type": None, "class_embed_type": None,
        "resnet_time_scale_shift": "default", "downsample_padding": 1, "mid_block_scale_factor": 1,
        "only_cross_attention": False, "dual_cross_attention": False,
    }  # fmt: skip
    for name, wanted in fixed.items():
        if c.get(name, wanted) != wanted:
            raise BundleError(f"its UNet's {name} is {c[name]!r}; ComfyUI's UNet has {wanted!r}.")
    wanted = {"CrossAttnDownBlock2D": "CrossAttnUpBlock2D", "DownBlock2D": "UpBlock2D"}
    mirrored = [wanted.get(name) for name in reversed(c.down_block_types)]
    if mirrored != list(c.up_block_types):
        raise BundleError(f"its UNet's blocks {c.down_block_types} / {c.up_block_types} are not supported by ComfyUI's UNet.")
