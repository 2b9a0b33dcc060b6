# SPDX-License-Identifier: GPL-3.0-or-later
"""Groma checkpoints: detector, region encoder, adapter, DINOv2 and, if wanted, the language model (architecture notes 1.5).

groma-det-pretrain holds the detector alone, without the prefix `perceiver.`. Quirk A (boxes) is built into the detector,
quirks B and C (region pooling) are `roi_mode="groma_compat"` of the region encoder; the weights need all three.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import LlamaConfig

from ...regions.deformable_detr import groma_state_dict
from .fit import Found, Part, SourceError, fit, layer_count, under
from .language_model import EMBEDDING, HEAD, fit_llama, llama_config, llama_tensors, read_json
from .lazy_tensor import derived
from .vision_towers import fit_dinov2
from .weight_files import open_weights

if TYPE_CHECKING:
    from ..sd15 import Sd15Config

GET = "Get FoundationVision/groma-7b-pretrain (or groma-7b-finetune, groma-det-pretrain)."
DRIFT = 0.005  # rounding to bfloat16 moves a weight matrix by 0.001 of its norm


def read(path: Path, config: Sd15Config) -> Found:
    """A Groma folder -> whatever it holds of `detector`, `dinov2`, `region_encoder` and `adapter`.

    Raises:
        SourceError: if it holds none of them, or one of another shape.
    """
    tensors = open_weights(path)
    found = Found(path, tuple(tensors))
    if any(k.removeprefix("perceiver.").startswith("ddetr_transformer.") for k in tensors):
        part = groma_state_dict(tensors)
        backbone = fit_dinov2(under(part, "vis_encoder."), path, config)
        part |= {"vis_encoder." + k: x for k, x in backbone.items()}
        found.parts["detector"] = fit(part, config.shapes("detector"), path, "detector", f"Expected: {_detector(config)}. {GET}")
        found.parts["dinov2"] = backbone
    if region := under(tensors, "region_encoder."):
        advice = f"Expected: a region encoder from width {config.dino_size} to {config.hidden_size}. {GET}"
        found.parts["region_encoder"] = fit(region, config.shapes("region_encoder"), path, "region_encoder", advice)
    if bridge := under(tensors, "img_txt_bridge."):
        advice = f"Expected: two linear layers from 4 x {config.dino_size} to {config.hidden_size}. {GET}"
        bridge = {"bridge." + k: x for k, x in bridge.items()}
        found.parts["adapter"] = fit(bridge, config.shapes("adapter"), path, "adapter", advice)
    if not found.parts:
        some = ", ".join(sorted(tensors)[:3])
        raise SourceError(
            f"{path} is no Groma checkpoint: expected keys under perceiver., region_encoder. or img_txt_bridge., came {some} ... {GET}"
        )
    return found


def own_llama(path: Path) -> Part:
    """The language model inside a Groma checkpoint, unchecked; empty if it has none."""
    return llama_tensors({k: x for k, x in open_weights(path).items() if k.startswith("llm.")})


def read_language_model(path: Path, config: Sd15Config) -> tuple[Part, LlamaConfig]:
    """Groma's own language model and its config, for a folder that has one.

    The rows of its 114 new words (`new_input_embs`, `extra_lm_head`) are put behind the base rows, where its tokenizer's ids
    point.

    Raises:
        SourceError: for a folder without config.json, or a language model of another size.
    """
    if not (path / "config.json").is_file():
        raise SourceError(f"{path} has no config.json, which says how its language model computes; take the whole folder. {GET}")
    tensors, part = open_weights(path), own_llama(path)
    for key, extra in ((EMBEDDING, "new_input_embs.weight"), (HEAD, "extra_lm_head.weight")):
        if key in part and extra in tensors:
            part[key] = derived([part[key], tensors[extra]], lambda base, new: torch.cat([base, new.to(base.dtype)]))
    made = llama_config(read_json(path / "config.json"), part)
    return fit_llama(part, made, path, config), made


def drift(own: Part, other: Part) -> float:
    """How far Groma's language model has moved from another, as a share of the norm of one matrix in the middle.

    The only numbers that a dry run reads.
    """
    key = f"model.layers.{layer_count(other, 'model.layers.') // 2}.self_attn.q_proj.weight"
    if key not in own or own[key].shape != other[key].shape:
        return 1.0
    a, b = own[key].load().float(), other[key].load().float()
    return float((a - b).norm() / b.norm().clamp(min=1e-12))


def _detector(config: Sd15Config) -> str:
    return (
        f"a Deformable DETR of width {config.detector_width}, {config.detector_layers} + {config.detector_layers} layers and "
        f"{config.detector_queries} queries on one level of DINOv2"
    )
