# SPDX-License-Identifier: GPL-3.0-or-later
"""`fireedit-sd15`, the full-size configuration: Vicuna-7B, DINOv2-L, CLIP-L, Groma's shapes, SmartEdit's Q-Former, IP2P's UNet.

Numbers of the architecture notes 9.1. Every component can be built on the meta device in no time, which is how sources are
checked, and with smaller numbers for real, which is how tests run the same code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlamaForCausalLM,
)

from ..diffusion.hvca import HVCA
from ..diffusion.tati import TATI
from ..diffusion.visual_attention import VisualCrossAttention
from ..regions.deformable_detr import DeformableDetrRegionDetector
from ..vlm import EditQFormer, GroundingHead, ImgTokens, RegionEncoder, VisionAdapter
from .public_names import published

RoiMode = Literal["groma_compat", "exact"]
LORA_SETTINGS = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.05, "target_modules": ["q_proj", "v_proj"]}
SCHEDULER = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "epsilon",
    "num_train_timesteps": 1000, "timestep_spacing": "linspace", "steps_offset": 1,
}  # fmt: skip
# InstructPix2Pix: the source latent is not scaled; guidance of its edit_cli.py
SAMPLING = {"source_latent_scaled": False, "text_guidance": 7.5, "image_guidance": 1.5, "steps": 50}
CLASSES: dict[str, type] = {
    "vae": AutoencoderKL, "unet": UNet2DConditionModel, "language_model": LlamaForCausalLM, "dinov2": Dinov2Model,
    "clip_vision": CLIPVisionModel, "detector": DeformableDetrRegionDetector, "region_encoder": RegionEncoder,
    "adapter": VisionAdapter, "img_tokens": ImgTokens, "grounding": GroundingHead, "qformer": EditQFormer, "tati": TATI,
    "hvca": HVCA, "visual_attention": VisualCrossAttention,
}  # fmt: skip


@dataclass(frozen=True)
class Sd15Config:
    """Sizes of a full FireEdit; the defaults are `fireedit-sd15`, tests use smaller ones.

    Attributes:
        image_size: pixels of the picture that DINOv2, detector and language model see (Groma). native_size: the UNet's long side.
        context_size: D, width of e, v, CLIP's text tower and the UNet's cross attention. hidden_size: of the language model.
        queries: rows of e. vocabulary: words of the language model without [IMG] tokens; a source may have more.
        tati_residual: see `TATI`; the paper's form is False.
    """

    image_size: int = 448
    native_size: int = 512
    dino_size: int = 1024
    dino_layers: int = 24
    dino_heads: int = 16
    dino_patch: int = 14
    clip_image_size: int = 224
    clip_size: int = 1024
    clip_layers: int = 24
    clip_heads: int = 16
    clip_patch: int = 14
    text_layers: int = 12
    text_heads: int = 12
    text_vocabulary: int = 49408
    hidden_size: int = 4096
    language_layers: int = 32
    language_heads: int = 32
    language_ffn: int = 11008
    vocabulary: int = 32000
    unet_widths: tuple[int, ...] = (320, 640, 1280, 1280)
    unet_heads: int = 8
    latent_channels: int = 4
    context_size: int = 768
    vae_widths: tuple[int, ...] = (128, 256, 512, 512)
    detector_width: int = 256
    detector_heads: int = 8
    detector_ffn: int = 1024
    detector_layers: int = 6
    detector_queries: int = 300
    region_rounds: int = 5
    region_groups: int = 64
    roi_size: int = 14
    position_size: int = 256
    img_tokens: int = 32
    grounding_size: int = 256
    queries: int = 77
    qformer_layers: int = 6
    qformer_heads: int = 12
    tati_heads: int = 8
    tati_residual: bool = False
    time_channels: int = 320
    hvca_heads: int = 12
    dino_levels: tuple[int, ...] = (6, 12, 18, 24)
    clip_levels: tuple[int, ...] = (6, 12, 18, 23)

    def settings(self, name: str, roi_mode: RoiMode = "exact") -> dict[str, Any]:
        """The configuration of one component, by the argument names of its own config; none for `visual_attention`."""
        width = self.context_size
        dino = {
            "hidden_size": self.dino_size, "num_hidden_layers": self.dino_layers, "num_attention_heads": self.dino_heads,
            "patch_size": self.dino_patch, "image_size": self.image_size,
        }  # fmt: skip
        return {
            "vae": {
                "block_out_channels": self.vae_widths, "layers_per_block": 2, "latent_channels": self.latent_channels,
                "down_block_types": ("DownEncoderBlock2D",) * len(self.vae_widths), "sample_size": self.native_size,
                "up_block_types": ("UpDecoderBlock2D",) * len(self.vae_widths), "scaling_factor": 0.18215,
            },
            "unet": {
                "sample_size": self.native_size // 8, "in_channels": 2 * self.latent_channels, "out_channels": self.latent_channels,
                "block_out_channels": self.unet_widths, "layers_per_block": 2, "cross_attention_dim": width,
                "attention_head_dim": self.unet_heads,  # which is the number of heads (diffusers issue 2011)
            },
            "language_model": {
                "vocab_size": self.vocabulary, "hidden_size": self.hidden_size, "intermediate_size": self.language_ffn,
                "num_hidden_layers": self.language_layers, "num_attention_heads": self.language_heads,
                "num_key_value_heads": self.language_heads, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
                "tie_word_embeddings": False,
            },
            "dinov2": dino,
            "clip_vision": {
                "hidden_size": self.clip_size, "intermediate_size": 4 * self.clip_size, "num_hidden_layers": self.clip_layers,
                "num_attention_heads": self.clip_heads, "patch_size": self.clip_patch, "image_size": self.clip_image_size,
                "projection_dim": width,
            },
            "detector": {
                "backbone_config": dino, "image_size": self.image_size, "d_model": self.detector_width, "heads": self.detector_heads,
                "ffn_dim": self.detector_ffn, "encoder_layers": self.detector_layers, "decoder_layers": self.detector_layers,
                "queries": self.detector_queries,
            },
            "region_encoder": {
                "vision_size": self.dino_size, "hidden_size": self.hidden_size, "fuse_rounds": self.region_rounds,
                "fuse_groups": self.region_groups, "roi_size": self.roi_size, "position_size": self.position_size,
                "roi_mode": roi_mode,
            },
            "adapter": {"vision_size": self.dino_size, "hidden_size": self.hidden_size},
            "img_tokens": {"num_tokens": self.img_tokens, "hidden_size": self.hidden_size},
            "grounding": {"hidden_size": self.hidden_size, "inner_size": self.grounding_size},
            "qformer": {
                "num_queries": self.queries, "hidden_size": width, "num_layers": self.qformer_layers,
                "num_heads": self.qformer_heads, "intermediate_size": 4 * width, "encoder_size": self.hidden_size,
            },
            "tati": {
                "hidden_size": width, "num_queries": self.queries, "num_heads": self.tati_heads,
                "time_channels": self.time_channels, "residual": self.tati_residual,
            },
            "hvca": {
                "hidden_size": width, "num_heads": self.hvca_heads, "dino_size": self.dino_size, "clip_size": self.clip_size,
                "dino_levels": self.dino_levels, "clip_levels": self.clip_levels,
            },
        }[name]  # fmt: skip

    def build(self, name: str, roi_mode: RoiMode = "exact") -> nn.Module:
        """One fresh component, on the current default device."""
        if name == "visual_attention":
            return VisualCrossAttention.for_unet(self.build("unet"), self.context_size)
        kind, settings = CLASSES[name], self.settings(name, roi_mode)
        configs = {"language_model": LlamaConfig, "dinov2": Dinov2Config, "clip_vision": CLIPVisionConfig}
        return kind(configs[name](**settings)) if name in configs else kind(**settings)

    @lru_cache(maxsize=64)  # noqa: B019  (a frozen value, and a handful of them in a process)
    def blank(self, name: str, roi_mode: RoiMode = "exact") -> nn.Module:
        """One component on the meta device: all shapes, no memory."""
        with torch.device("meta"):
            return self.build(name, roi_mode)

    def shapes(self, name: str) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every tensor that a component has on disk, whichever release of transformers is installed."""
        return {k: tuple(x.shape) for k, x in published(name, self.blank(name).state_dict()).items()}

    def text_tower(self) -> CLIPTextModel:
        """The text tower of CLIP-L, which is Stable Diffusion 1's; fresh, on the current default device."""
        return CLIPTextModel(
            CLIPTextConfig(
                vocab_size=self.text_vocabulary, hidden_size=self.context_size, intermediate_size=4 * self.context_size,
                num_hidden_layers=self.text_layers, num_attention_heads=self.text_heads, max_position_embeddings=self.queries,
                projection_dim=self.context_size, bos_token_id=self.text_vocabulary - 2, eos_token_id=self.text_vocabulary - 1,
            )
        )  # fmt: skip

    def text_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name below `text_model.` -> shape of every tensor of the text tower."""
        with torch.device("meta"):
            state = self.text_tower().state_dict()
        return {k.removeprefix("text_model."): tuple(x.shape) for k, x in state.items()}


SD15 = Sd15Config()
# For a bundle that is only to edit as its InstructPix2Pix does: UNet, autoencoder and text tower as ever, and what is left out until it is
# trained so small that it costs nothing. It cannot be trained into a `fireedit-sd15`.
FOR_EDITING = replace(
    SD15, image_size=56, dino_size=32, dino_layers=2, dino_heads=2, clip_image_size=28, clip_size=32, clip_layers=2, clip_heads=2,
    hidden_size=64, language_layers=1, language_heads=4, language_ffn=96, vocabulary=320, detector_width=32, detector_heads=4,
    detector_ffn=64, detector_layers=2, detector_queries=10, region_rounds=1, region_groups=4, roi_size=3, position_size=16, img_tokens=4,
    grounding_size=16, qformer_layers=1, dino_levels=(1, 2), clip_levels=(1,),
)  # fmt: skip
