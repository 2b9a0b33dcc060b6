# SPDX-License-Identifier: GPL-3.0-or-later
"""Synthetic checkpoints in the layouts of the public ones, at any size.

The names come from the architecture notes (sections 1.5, 2.3, 4, 5, 6.1) and from the libraries' own `save_pretrained`,
never from the key maps under test.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from fireedit_core.checkpoints.sd15 import Sd15Config

Shapes = dict[str, tuple[int, ...]]

SMALL = Sd15Config(
    image_size=56, native_size=64, dino_size=32, dino_layers=4, dino_heads=2, clip_image_size=28, clip_size=32, clip_layers=2,
    clip_heads=2, text_layers=2, text_heads=2, text_vocabulary=100, hidden_size=64, language_layers=2, language_heads=4,
    language_ffn=96, vocabulary=320, unet_widths=(32, 64, 96, 96), unet_heads=2, context_size=32, vae_widths=(32, 32, 32, 32),
    detector_width=32, detector_heads=4, detector_ffn=64, detector_layers=2, detector_queries=10, region_rounds=2, region_groups=4,
    roi_size=3, position_size=16, img_tokens=4, grounding_size=16, qformer_layers=3, qformer_heads=2, tati_heads=2, time_channels=32,
    hvca_heads=2, dino_levels=(2, 4), clip_levels=(1,),
)  # fmt: skip


def random_state(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Random weights of a sensible size: matrices shrink with their inputs, norms stay near one."""
    made = {}
    for i, (key, shape) in enumerate(shapes.items()):
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed * 100_003 + i))
        made[key] = noise * math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.1 * noise + (1 if key.endswith("weight") else 0)
    return made


def sparse_file(path: Path, shapes: Shapes, dtype: str = "F16") -> Path:
    """A safetensors file of full size that takes no room: a header, and a hole where the numbers would be."""
    width = {"F16": 2, "F32": 4, "I64": 8}[dtype]
    header, end = {}, 0
    for key, shape in shapes.items():
        start, end = end, end + width * math.prod(shape)
        header[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path


def shapes_of(state: dict[str, Tensor]) -> Shapes:
    return {key: tuple(x.shape) for key, x in state.items()}


# --- Stable Diffusion 1 single files -------------------------------------------------------------------------------------

_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}  # fmt: skip
_OUTSIDE = {
    "conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip


def ldm_unet(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A diffusers UNet of four levels under the names of CompVis' latent diffusion, without prefix."""
    places = dict(_OUTSIDE)
    for level in range(4):
        for j in range(2):
            places[f"down_blocks.{level}.resnets.{j}"] = f"input_blocks.{3 * level + 1 + j}.0"
            places[f"down_blocks.{level}.attentions.{j}"] = f"input_blocks.{3 * level + 1 + j}.1"
        for j in range(3):
            places[f"up_blocks.{level}.resnets.{j}"] = f"output_blocks.{3 * level + j}.0"
            places[f"up_blocks.{level}.attentions.{j}"] = f"output_blocks.{3 * level + j}.1"
        places[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{3 * level + 3}.0.op"
        places[f"up_blocks.{level}.upsamplers.0.conv"] = f"output_blocks.{3 * level + 2}.{1 if level == 0 else 2}.conv"
    places |= {"mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1", "mid_block.resnets.1": "middle_block.2"}
    made = {}
    for key, x in state.items():
        place = next(p for p in sorted(places, key=len, reverse=True) if key.startswith(p + "."))
        leaf = key.removeprefix(place + ".")
        if ".resnets." in place:
            name, kind = leaf.split(".")
            leaf = f"{_RESNET[name]}.{kind}"
        made[f"{places[place]}.{leaf}"] = x
    return made


def ldm_vae(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A diffusers AutoencoderKL of four levels under the names of latent diffusion, without prefix; attention as 1x1 convolutions."""
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    made = {}
    for key, x in state.items():
        key = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        key = re.sub(r"down_blocks\.(\d)\.resnets\.", r"down.\1.block.", key)
        key = re.sub(r"down_blocks\.(\d)\.downsamplers\.0\.", r"down.\1.downsample.", key)
        key = re.sub(r"up_blocks\.(\d)\.resnets\.", lambda m: f"up.{3 - int(m[1])}.block.", key)
        key = re.sub(r"up_blocks\.(\d)\.upsamplers\.0\.", lambda m: f"up.{3 - int(m[1])}.upsample.", key)
        key = re.sub(r"mid_block\.resnets\.(\d)\.", lambda m: f"mid.block_{int(m[1]) + 1}.", key)
        if match := re.fullmatch(r"(.+)mid_block\.attentions\.0\.(.+)\.(weight|bias)", key):
            key = f"{match[1]}mid.attn_1.{attention[match[2]]}.{match[3]}"
            x = x[:, :, None, None] if x.ndim == 2 else x
        made[key] = x
    return made


def single_file(unet: dict, vae: dict, text: dict, ema: dict | None = None) -> dict[str, Any]:
    """A whole single file; `text` is below `text_model.`, `ema` another UNet state whose weights are the averaged ones."""
    made = {"model.diffusion_model." + k: x for k, x in ldm_unet(unet).items()}
    if ema is not None:
        flat = {"model_ema.diffusion_model" + k.replace(".", ""): x for k, x in ldm_unet(ema).items()}
        made |= flat | {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(22000)}
    made |= {"first_stage_model." + k: x for k, x in ldm_vae(vae).items()}
    made |= {"cond_stage_model.transformer.text_model." + k: x for k, x in text.items()}
    made["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    return made | {"betas": torch.zeros(1000), "alphas_cumprod": torch.zeros(1000)}


# --- the language model --------------------------------------------------------------------------------------------------


def llama(c: Sd15Config, rows: int | None = None) -> Shapes:
    """`LlamaForCausalLM` as vicuna publishes it."""
    d, f = c.hidden_size, c.language_ffn
    made = {"model.embed_tokens.weight": (rows or c.vocabulary, d)}
    for n in range(c.language_layers):
        layer = f"model.layers.{n}."
        made |= {layer + f"self_attn.{p}_proj.weight": (d, d) for p in "qkvo"}
        made |= {layer + f"mlp.{p}_proj.weight": (f, d) for p in ("gate", "up")}
        made |= {layer + "mlp.down_proj.weight": (d, f)}
        made |= {layer + f"{n}_layernorm.weight": (d,) for n in ("input", "post_attention")}
    return made | {"model.norm.weight": (d,), "lm_head.weight": (rows or c.vocabulary, d)}


def llava_names(kind: str, key: str) -> str:
    """A Llama's key in the layouts of LLaVA: hub files ("disk"), memory of transformers >= 4.52 ("memory"), the original ("original")."""
    if kind == "disk":
        return "language_model." + key
    if kind == "memory":
        return key.replace("model.", "model.language_model.", 1) if key.startswith("model.") else key
    return key


# --- Groma, architecture notes 1.5 ---------------------------------------------------------------------------------------


def _linear(name: str, out: int, into: int) -> Shapes:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def _norm(name: str, size: int) -> Shapes:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def dinov2(c: Sd15Config, positions: int) -> Shapes:
    d = c.dino_size
    made = {
        "embeddings.cls_token": (1, 1, d), "embeddings.mask_token": (1, d), "embeddings.position_embeddings": (1, positions, d),
        "embeddings.patch_embeddings.projection.weight": (d, 3, c.dino_patch, c.dino_patch),
        "embeddings.patch_embeddings.projection.bias": (d,),
    }  # fmt: skip
    for n in range(c.dino_layers):
        layer = f"encoder.layer.{n}."
        made |= _norm(layer + "norm1", d) | _norm(layer + "norm2", d)
        for name in ("attention.attention.query", "attention.attention.key", "attention.attention.value", "attention.output.dense"):
            made |= _linear(layer + name, d, d)
        made |= {layer + "layer_scale1.lambda1": (d,), layer + "layer_scale2.lambda1": (d,)}
        made |= _linear(layer + "mlp.fc1", 4 * d, d) | _linear(layer + "mlp.fc2", d, 4 * d)
    return made | _norm("layernorm", d)


def _deformable(name: str, d: int, heads: int) -> Shapes:
    points = 4
    return (
        _linear(name + ".sampling_offsets", heads * points * 2, d) | _linear(name + ".attention_weights", heads * points, d)
        | _linear(name + ".value_proj", d, d) | _linear(name + ".output_proj", d, d)
    )  # fmt: skip


def groma_perceiver(c: Sd15Config, positions: int) -> Shapes:
    """groma-det-pretrain: the detector without prefix."""
    d, f, h = c.detector_width, c.detector_ffn, c.detector_heads
    t = "ddetr_transformer."
    made = {f"vis_encoder.{k}": s for k, s in dinov2(c, positions).items()}
    made |= {"input_proj.0.0.weight": (d, c.dino_size, 1, 1), "input_proj.0.0.bias": (d,)} | _norm("input_proj.0.1", d)
    for n in range(c.detector_layers):
        layer = f"{t}encoder.layers.{n}."
        made |= _deformable(layer + "self_attn", d, h) | _norm(layer + "self_attn_layer_norm", d)
        made |= _linear(layer + "fc1", f, d) | _linear(layer + "fc2", d, f) | _norm(layer + "final_layer_norm", d)
        layer = f"{t}decoder.layers.{n}."
        for p in "qkv":
            made |= _linear(f"{layer}self_attn.{p}_proj", d, d)
        made |= _linear(layer + "self_attn.out_proj", d, d) | _norm(layer + "self_attn_layer_norm", d)
        made |= _deformable(layer + "encoder_attn", d, h) | _norm(layer + "encoder_attn_layer_norm", d)
        made |= _linear(layer + "fc1", f, d) | _linear(layer + "fc2", d, f) | _norm(layer + "final_layer_norm", d)
    made |= {t + "level_embed": (1, d), t + "query_position_embeddings.weight": (c.detector_queries, d)}
    made |= _linear(t + "enc_output", d, d) | _norm(t + "enc_output_norm", d)
    made |= _linear(t + "pos_trans", 2 * d, 2 * d) | _norm(t + "pos_trans_norm", 2 * d) | _linear(t + "class_embed_enc", 1, d)
    for n in range(c.detector_layers):
        made |= _linear(f"{t}class_embed_coco.{n}", 1, d) | _linear(f"{t}class_embed_sa1b.{n}", 1, d)
    for n in range(c.detector_layers + 1):
        for i, out in enumerate((d, d, 4)):
            made |= _linear(f"{t}bbox_embed.{n}.layers.{i}", out, d)
    return made


def groma_tied(shapes: Shapes) -> dict[str, str]:
    """The second names of the tied heads, below `decoder.`: second name -> name."""
    t = "ddetr_transformer."
    return {k.replace(t, t + "decoder.", 1): k for k in shapes if k.startswith((t + "bbox_embed", t + "class_embed"))}


def groma(c: Sd15Config, positions: int, llm: bool = True) -> Shapes:
    """groma-7b-pretrain or -finetune."""
    d, w = c.dino_size, c.hidden_size
    made = {"perceiver." + k: s for k, s in groma_perceiver(c, positions).items()}
    fuse, roi = "region_encoder.mlvl_fuse.", "region_encoder.roi_align."
    for level in range(3):
        made |= {f"{fuse}input_conv.{level}.weight": (d, d + 2, 1, 1), f"{fuse}input_conv.{level}.bias": (d,)}
        made |= {f"{roi}pconvs.{level}.weight": (d, d, 3, 3), f"{roi}pconvs.{level}.bias": (d,)}
    for n in range(c.region_rounds):
        made |= {f"{fuse}fuse_convs.{n}.conv.weight": (d, d, 3, 3)} | _norm(f"{fuse}fuse_convs.{n}.gn", d)
    made |= _linear(roi + "pos_embedd.0", c.position_size, 4) | _norm(roi + "pos_embedd.2", c.position_size)
    made |= _linear(roi + "pos_embedd.3", d, c.position_size) | _norm(roi + "pos_embedd.5", d)
    made |= _linear(roi + "flatten_linear", d, d * c.roi_size**2) | _linear(roi + "updims", w, d)
    made |= _linear("img_txt_bridge.0", w, 4 * d) | _linear("img_txt_bridge.2", w, w)
    if llm:
        made |= {"llm." + k: s for k, s in llama(c).items()}
        made |= {"new_input_embs.weight": (114, w), "extra_lm_head.weight": (114, w)}
    return made


# --- SmartEdit's Q-Former, IP-Adapter, ELLA ------------------------------------------------------------------------------


def smartedit(c: Sd15Config, words: int = 32035) -> Shapes:
    """checkpoint-15000_embeddings_qformer.bin: 133 tensors."""
    d = c.context_size
    made: Shapes = {"mm_projector.weight": (c.hidden_size, 1024), "mm_projector.bias": (c.hidden_size,)}
    made |= {"lm_head.weight": (words, c.hidden_size), "sd_query_tokens": (1, 77, d), "sd_qformer.embeddings.position_ids": (1, 512)}
    made |= _norm("sd_qformer.embeddings.LayerNorm", d)
    for n in range(c.qformer_layers):
        layer = f"sd_qformer.encoder.layer.{n}."
        for block, width in (("attention", d), ("crossattention", c.hidden_size)):
            if block == "crossattention" and n % 2:
                continue
            made |= _linear(f"{layer}{block}.self.query", d, d)
            made |= _linear(f"{layer}{block}.self.key", d, width) | _linear(f"{layer}{block}.self.value", d, width)
            made |= _linear(f"{layer}{block}.output.dense", d, d) | _norm(f"{layer}{block}.output.LayerNorm", d)
        made |= _linear(layer + "intermediate_query.dense", 4 * d, d) | _linear(layer + "output_query.dense", d, 4 * d)
        made |= _norm(layer + "output_query.LayerNorm", d)
    return made


IP_PLACES = {
    **{1 + 2 * i: f"down_blocks.{i // 2}.attentions.{i % 2}" for i in range(6)},
    **{13 + 2 * i: f"up_blocks.{1 + i // 3}.attentions.{i % 3}" for i in range(9)},
    31: "mid_block.attentions.0",
}


def ip_adapter(c: Sd15Config) -> Shapes:
    """ip-adapter_sd15: number -> width by the table of architecture notes 5."""
    a, b, e, _ = c.unet_widths
    widths = dict(zip(range(1, 12, 2), (a, a, b, b, e, e))) | dict(zip(range(13, 30, 2), (e, e, e, b, b, b, a, a, a))) | {31: e}
    made = _linear("image_proj.proj", 4 * c.context_size, 1024) | _norm("image_proj.norm", c.context_size)
    return made | {f"ip_adapter.{n}.to_{m}_ip.weight": (w, c.context_size) for n, w in widths.items() for m in "kv"}


def ella(c: Sd15Config) -> Shapes:
    """ella-sd1.5-tsc-t5xl: 6 blocks, 64 queries, T5-XL of width 2048."""
    d = c.context_size
    made = _linear("time_embedding.linear_1", d, c.time_channels) | _linear("time_embedding.linear_2", d, d)
    made |= {"connector.latents": (64, d)} | _linear("connector.time_aware_linear", d, d) | _linear("connector.proj_in", d, 2048)
    for n in range(6):
        block = f"connector.perceiver_blocks.{n}."
        made |= {block + "attn.in_proj_weight": (3 * d, d), block + "attn.in_proj_bias": (3 * d,)} | _linear(block + "attn.out_proj", d, d)
        made |= _linear(block + "mlp.c_fc", 4 * d, d) | _linear(block + "mlp.c_proj", d, 4 * d)
        for name in ("ln_1", "ln_2", "ln_ff"):
            made |= _linear(f"{block}{name}.linear", 2 * d, d)
    return made


def save(path: Path, state: dict[str, Tensor]) -> Path:
    """A safetensors file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: x.contiguous().clone() for k, x in state.items()}, str(path), {"format": "pt"})
    return path
