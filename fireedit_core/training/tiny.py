# SPDX-License-Identifier: GPL-3.0-or-later
"""The architecture of fireedit-tiny: the full method with small numbers, all components fresh (design D11)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from ..diffusion.hvca import HVCA
from ..diffusion.initialisation import identity_init_
from ..diffusion.tati import TATI
from ..diffusion.visual_attention import VisualCrossAttention
from ..vlm import EditQFormer, GroundingHead, ImgTokens, RegionEncoder, VisionAdapter


@dataclass(frozen=True)
class TinyConfig:
    """Sizes of a small FireEdit. The defaults are fireedit-tiny; tests use smaller ones.

    Attributes:
        image_size: pixels of the training scenes and of both vision towers.
        context_size: D, width of e, v and the UNet's cross attention. hidden_size: width of the language model.
        attention_levels: which UNet levels have cross attention, from the finest.
    """

    image_size: int = 128
    latent_channels: int = 16
    unet_widths: tuple[int, ...] = (96, 128, 192)
    attention_levels: tuple[bool, ...] = (False, True, True)
    unet_heads: int = 4
    context_size: int = 192
    hidden_size: int = 192
    language_layers: int = 4
    img_tokens: int = 8
    dino_size: int = 128
    dino_layers: int = 4
    dino_patch: int = 8
    clip_size: int = 96
    clip_layers: int = 3
    clip_patch: int = 16
    qformer_layers: int = 3
    heads: int = 4


def word_tokenizer(words: Sequence[str], known: Sequence[str] = ("[PAD]", "[UNK]")) -> PreTrainedTokenizerFast:
    """A word-level tokenizer over `words` that drops case and punctuation; any other word becomes [UNK].

    Args:
        known: the vocabulary of a trained language model in the order of its ids, which it keeps; new words follow.
    """
    vocabulary = {w: i for i, w in enumerate([*known, *sorted(set(words) - set(known))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace(Regex(r"[^\w\s]"), " "), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")


def tiny_components(
    words: Sequence[str], config: TinyConfig | None = None, seed: int = 0, known: Sequence[str] = ("[PAD]", "[UNK]")
) -> dict[str, Any]:
    """Fresh components of a small bundle, all but `vae` and `detector`, which have trainers of their own.

    Args:
        words: vocabulary of the instructions. seed: of the random weights. known: see `word_tokenizer`.
    """
    c = config or TinyConfig()
    torch.manual_seed(seed)
    tokenizer = word_tokenizer(words, known)
    language_model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=-(-len(tokenizer) // 64) * 64,
            hidden_size=c.hidden_size,
            intermediate_size=c.hidden_size * 8 // 3 // 32 * 32,
            num_hidden_layers=c.language_layers,
            num_attention_heads=c.heads,
            num_key_value_heads=c.heads,
            max_position_embeddings=1024,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
            eos_token_id=None,
            tie_word_embeddings=False,
        )
    )
    dinov2 = Dinov2Model(
        Dinov2Config(
            hidden_size=c.dino_size, num_hidden_layers=c.dino_layers, num_attention_heads=c.heads, mlp_ratio=2,
            image_size=c.image_size, patch_size=c.dino_patch,
        )
    )  # fmt: skip
    clip_vision = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=c.clip_size, intermediate_size=2 * c.clip_size, num_hidden_layers=c.clip_layers,
            num_attention_heads=c.heads, image_size=c.image_size, patch_size=c.clip_patch, projection_dim=c.clip_size,
        )
    )  # fmt: skip
    down = tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in c.attention_levels)
    up = tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(c.attention_levels))
    unet = UNet2DConditionModel(
        sample_size=c.image_size // 8,
        in_channels=2 * c.latent_channels,
        out_channels=c.latent_channels,
        block_out_channels=c.unet_widths,
        layers_per_block=1,
        down_block_types=down,
        up_block_types=up,
        cross_attention_dim=c.context_size,
        attention_head_dim=c.unet_heads,
    )
    identity_init_(unet)
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="sample",
        timestep_spacing="trailing",
    )
    img_tokens = ImgTokens(c.img_tokens, c.hidden_size, max_text_tokens=32)
    img_tokens.init_from_mean(language_model.get_input_embeddings().weight)
    return {
        "unet": unet,
        "scheduler": scheduler,
        "tokenizer": tokenizer,
        "language_model": language_model,
        "dinov2": dinov2,
        "clip_vision": clip_vision,
        "region_encoder": RegionEncoder(
            c.dino_size, c.hidden_size, level_scales=(1, 1, 1), fuse_rounds=1, fuse_groups=16, roi_size=5, position_size=64
        ),
        "adapter": VisionAdapter(c.dino_size, c.hidden_size),
        "img_tokens": img_tokens,
        "grounding": GroundingHead(c.hidden_size, c.hidden_size, cells_per_token=4),
        "qformer": EditQFormer(
            num_queries=77, hidden_size=c.context_size, num_layers=c.qformer_layers, num_heads=c.heads,
            intermediate_size=3 * c.context_size, encoder_size=c.hidden_size, dropout=0.0,
        ),
        "tati": TATI(c.context_size, num_heads=c.heads, time_channels=128, residual=True, own_rows=True),
        "hvca": HVCA(
            c.context_size, num_heads=c.heads, dino_size=c.dino_size, clip_size=c.clip_size,
            dino_levels=(c.dino_layers // 2, c.dino_layers), clip_levels=(c.clip_layers - 1,), centred=True,
        ),
        "visual_attention": VisualCrossAttention.for_unet(unet, c.context_size),
    }  # fmt: skip


def renewed(components: dict[str, Any], config: TinyConfig | None = None, seed: int = 0) -> dict[str, Any]:
    """Components of a bundle with TATI, HVCA and visual attention of today's design.

    Those of a bundle before 0.3 had collapsed (`diffusion.rows`) and are replaced by fresh ones; the null embedding stays. A bundle
    of today's design comes back as it is.
    """
    if components["visual_attention"].config.condition_size is not None:
        return components
    fresh = tiny_components((), config, seed)
    fresh["tati"].null_embedding.data.copy_(components["tati"].null_embedding)
    width = fresh["hvca"].config.hidden_size
    torch.manual_seed(seed)
    visual = VisualCrossAttention.for_unet(components["unet"], width)
    return components | {"tati": fresh["tati"].eval(), "hvca": fresh["hvca"].eval(), "visual_attention": visual.eval()}
