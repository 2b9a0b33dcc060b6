# SPDX-License-Identifier: GPL-3.0-or-later
"""Groma-shaped region detector: class-agnostic two-stage Deformable DETR on frozen DINOv2 features.

Own implementation after arXiv 2010.04159 (Deformable DETR) and 2404.13013 (Groma). Module names follow the public
Groma checkpoint, so that its weights fit by dropping the prefix "perceiver." (see `groma_state_dict`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from transformers import Dinov2Config, Dinov2Model

from .deformable_attention import DeformableAttention
from .detector import RegionDetector, select_regions
from .record import Regions

GROMA_BACKBONE: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": 518,
}
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
ANCHOR_SIDE = 0.05  # width and height of a first-stage anchor, as a fraction of the picture
COCO_SHARE, SA1B_SHARE = 0.4, 0.6  # Groma: score = coco ** 0.4 * sa1b ** 0.6


class DeformableDetrRegionDetector(RegionDetector):
    """Two-stage Deformable DETR over the mean of the last four DINOv2 layers (Groma, ddetr.py).

    Args:
        backbone_config: fields of transformers' Dinov2Config; None for DINOv2-large as in Groma. A backbone that is
            already in memory is shared by assigning it to `vis_encoder`.
        image_size: side that pictures are squashed to; a multiple of the patch size (Groma: 448).
        d_model, heads, points, ffn_dim, encoder_layers, decoder_layers, queries: sizes, Groma's values by default.

    The boxes follow Groma, not Hugging Face: reference points are not moved between decoder layers, and the last box is
    sigmoid(delta[-1] + delta[-2] + logit(reference)).
    """

    @register_to_config
    def __init__(
        self,
        backbone_config: dict[str, Any] | None = None,
        image_size: int = 448,
        d_model: int = 256,
        heads: int = 8,
        points: int = 4,
        ffn_dim: int = 1024,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        queries: int = 300,
    ) -> None:
        super().__init__()
        backbone = Dinov2Config(**(GROMA_BACKBONE if backbone_config is None else backbone_config))
        if image_size % backbone.patch_size:
            raise ValueError(
                f"DeformableDetrRegionDetector: image_size must be a multiple of the patch size {backbone.patch_size}, "
                f"got {image_size}."
            )
        if d_model % heads or d_model % 4:
            raise ValueError(f"DeformableDetrRegionDetector: d_model {d_model} must divide by 4 and by heads {heads}.")
        if decoder_layers < 2 or queries > (image_size // backbone.patch_size) ** 2:
            raise ValueError(
                "DeformableDetrRegionDetector: needs two decoder layers or more (the box sums the last two) and at "
                f"most as many queries as patches, got {decoder_layers} layers and {queries} queries."
            )
        self.vis_encoder = Dinov2Model(backbone)
        self.register_state_dict_post_hook(_public_names)
        self.register_load_state_dict_pre_hook(_installed_names)
        self.input_proj = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(backbone.hidden_size, d_model, 1), ChannelLayerNorm(d_model, eps=1e-6))]
        )
        self.ddetr_transformer = DeformableTransformer(
            d_model, heads, points, ffn_dim, encoder_layers, decoder_layers, queries
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """As `RegionDetector.from_pretrained`."""
        # The hooks that translate the backbone's names do not run when weights are put into a meta model one by one.
        kwargs["low_cpu_mem_usage"] = False
        kwargs.pop("device_map", None)
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, S, S) 0..1 at `image_size` -> the dict of `DeformableTransformer`."""
        mean, std = (images.new_tensor(value).view(1, 3, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_STD))
        states = self.vis_encoder((images - mean) / std, output_hidden_states=True).hidden_states
        return self.proposals([x[:, 1:] for x in states[-4:]])

    def proposals(self, states: Sequence[Tensor]) -> dict[str, Tensor]:
        """DINOv2's hidden states of the patches, each (B, h * w, C), of which the last four before the final norm are read."""
        features = torch.stack(tuple(states[-4:])).mean(dim=0)
        side = self.config.image_size // self.vis_encoder.config.patch_size
        return self.ddetr_transformer(self.input_proj[0](features.transpose(1, 2).unflatten(2, (side, side))))

    @torch.no_grad()
    def detect_in(
        self, states: Sequence[Tensor], size: tuple[int, int], score_threshold: float, iou_threshold: float, max_regions: int
    ) -> list[Regions]:
        """`detect` for who has run `vis_encoder` already on pictures of `size` = (height, width), squashed to `image_size`."""
        boxes, scores = self._in_pixels(self.proposals(states), size)
        return [
            select_regions(box, score, size, score_threshold, iou_threshold, max_regions)
            for box, score in zip(boxes.float().cpu(), scores.float().cpu(), strict=True)
        ]

    def predict_boxes(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `RegionDetector.predict_boxes`."""
        height, width = images.shape[-2:]
        side = self.config.image_size
        squashed = F.interpolate(
            images.float(), size=(side, side), mode="bicubic", align_corners=False, antialias=True
        ).clamp(0, 1)
        return self._in_pixels(self(squashed.to(images.dtype)), (height, width))

    @staticmethod
    def _in_pixels(output: dict[str, Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        height, width = size
        centre, extent = output["boxes"].float().split(2, dim=-1)
        corners = torch.cat([centre - extent / 2, centre + extent / 2], dim=-1)
        return corners * corners.new_tensor([width, height, width, height]), output["scores"].float()


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class DeformableTransformer(nn.Module):
    """Encoder, proposals, decoder and heads on one feature level (B, d_model, H, W)."""

    def __init__(
        self, d_model: int, heads: int, points: int, ffn: int, encoder_layers: int, decoder_layers: int, queries: int
    ) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(EncoderLayer(d_model, heads, points, ffn) for _ in range(encoder_layers))
        self.decoder = nn.Module()
        self.decoder.layers = nn.ModuleList(DecoderLayer(d_model, heads, points, ffn) for _ in range(decoder_layers))
        self.level_embed = nn.Parameter(torch.zeros(1, d_model))
        self.query_position_embeddings = nn.Embedding(queries, d_model)
        self.enc_output = nn.Linear(d_model, d_model)
        self.enc_output_norm = nn.LayerNorm(d_model)
        self.pos_trans = nn.Linear(2 * d_model, 2 * d_model)
        self.pos_trans_norm = nn.LayerNorm(2 * d_model)
        self.class_embed_enc = nn.Linear(d_model, 1)
        self.class_embed_coco = nn.ModuleList(nn.Linear(d_model, 1) for _ in range(decoder_layers))
        self.class_embed_sa1b = nn.ModuleList(nn.Linear(d_model, 1) for _ in range(decoder_layers))
        # One per decoder layer, and the last one for the first stage.
        self.bbox_embed = nn.ModuleList(BoxHead(d_model) for _ in range(decoder_layers + 1))
        for head in (self.class_embed_enc, *self.class_embed_coco, *self.class_embed_sa1b):
            nn.init.constant_(head.bias, -math.log(99.0))  # focal loss: start at a probability of 0.01

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """features (B, d_model, H, W) -> dict of

        boxes (B, Q, 4) cxcywh 0..1 and scores (B, Q) of the last layer;
        deltas (L, B, Q, 4) raw box heads, coco_logits and sa1b_logits (L, B, Q) of every decoder layer;
        references (B, Q, 4) cxcywh 0..1, the first-stage proposals that all layers look around;
        proposal_boxes (B, H*W, 4) and proposal_logits (B, H*W) of the first stage.
        """
        batch, _, height, width = features.shape
        shapes = [(height, width)]
        position = sine_positions(height, width, features.shape[1], features) + self.level_embed
        memory = features.flatten(2).transpose(1, 2)
        centres = cell_centres(height, width, features)
        grid = centres[None, :, None].expand(batch, -1, 1, 2)
        for layer in self.encoder.layers:
            memory = layer(memory, position, grid, shapes)

        anchors = torch.cat([centres, torch.full_like(centres, ANCHOR_SIDE)], dim=1)
        valid = ((anchors > 0.01) & (anchors < 0.99)).all(dim=1, keepdim=True)
        proposals = self.enc_output_norm(self.enc_output(memory * valid))
        proposal_logits = self.class_embed_enc(proposals)[..., 0]
        # Cells at the very edge are no anchors; sigmoid(inf) puts their box into the corner.
        anchor_logits = torch.logit(anchors.float()).masked_fill(~valid, torch.inf)
        proposal_boxes = (self.bbox_embed[-1](proposals).float() + anchor_logits).sigmoid()
        queries = self.query_position_embeddings.num_embeddings
        best = proposal_logits.topk(queries, dim=1).indices
        references = proposal_boxes.gather(1, best[..., None].expand(-1, -1, 4)).detach()

        embedded = self.pos_trans_norm(self.pos_trans(sine_boxes(references, features.shape[1]).to(memory.dtype)))
        query_position = embedded[..., : features.shape[1]]
        hidden = self.query_position_embeddings.weight[None].expand(batch, -1, -1)
        states = []
        for layer in self.decoder.layers:
            hidden = layer(hidden, query_position, references[:, :, None], memory, shapes)
            states.append(hidden)

        def heads(modules: Sequence[nn.Module]) -> Tensor:
            return torch.stack([module(state) for module, state in zip(modules, states, strict=False)]).float()

        deltas = heads(self.bbox_embed)  # the first-stage head at its end is left out by zip
        coco, sa1b = heads(self.class_embed_coco)[..., 0], heads(self.class_embed_sa1b)[..., 0]
        return {
            "boxes": final_boxes(deltas, references),
            "scores": coco[-1].sigmoid() ** COCO_SHARE * sa1b[-1].sigmoid() ** SA1B_SHARE,
            "deltas": deltas,
            "coco_logits": coco,
            "sa1b_logits": sa1b,
            "references": references,
            "proposal_boxes": proposal_boxes,
            "proposal_logits": proposal_logits.float(),
        }


def final_boxes(deltas: Tensor, references: Tensor) -> Tensor:
    """Groma's last box: layer l reports sigmoid(delta[l] + logit(ref0)), and the head adds delta[l] to report l - 1.

    deltas (L, B, Q, 4), references (B, Q, 4) cxcywh 0..1 -> (B, Q, 4) cxcywh 0..1. Clamped at 1e-5 as in the original.
    """
    report = (deltas[-2] + torch.logit(references, eps=1e-5)).sigmoid()
    return (deltas[-1] + torch.logit(report, eps=1e-5)).sigmoid()


class BoxHead(nn.Module):
    """Three-layer perceptron d -> d -> d -> 4, in logit space."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(d_model, d_model), nn.Linear(d_model, d_model), nn.Linear(d_model, 4)])
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[2](F.relu(self.layers[1](F.relu(self.layers[0](x)))))


class EncoderLayer(nn.Module):
    """Deformable self-attention and feed-forward, norms after the sums."""

    def __init__(self, d_model: int, heads: int, points: int, ffn: int) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(d_model, heads, points)
        self.self_attn_layer_norm = nn.LayerNorm(d_model)
        self.fc1 = nn.Linear(d_model, ffn)
        self.fc2 = nn.Linear(ffn, d_model)
        self.final_layer_norm = nn.LayerNorm(d_model)

    def forward(self, x: Tensor, position: Tensor, references: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
        x = self.self_attn_layer_norm(x + self.self_attn(x + position, references, x, shapes))
        return self.final_layer_norm(x + self.fc2(F.relu(self.fc1(x))))


class SelfAttention(nn.Module):
    """Plain attention among the queries; the position is added to query and key only."""

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(d_model, d_model)
        self.k_proj = nn.Linear(d_model, d_model)
        self.v_proj = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        place = x + position
        q, k, v = (
            layer(source).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer, source in ((self.q_proj, place), (self.k_proj, place), (self.v_proj, x))
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class DecoderLayer(nn.Module):
    """Self-attention among queries, deformable attention to the picture, feed-forward; norms after the sums."""

    def __init__(self, d_model: int, heads: int, points: int, ffn: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(d_model, heads)
        self.self_attn_layer_norm = nn.LayerNorm(d_model)
        self.encoder_attn = DeformableAttention(d_model, heads, points)
        self.encoder_attn_layer_norm = nn.LayerNorm(d_model)
        self.fc1 = nn.Linear(d_model, ffn)
        self.fc2 = nn.Linear(ffn, d_model)
        self.final_layer_norm = nn.LayerNorm(d_model)

    def forward(
        self, x: Tensor, position: Tensor, references: Tensor, memory: Tensor, shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        x = self.self_attn_layer_norm(x + self.self_attn(x, position))
        x = self.encoder_attn_layer_norm(x + self.encoder_attn(x + position, references, memory, shapes))
        return self.final_layer_norm(x + self.fc2(F.relu(self.fc1(x))))


def cell_centres(height: int, width: int, like: Tensor) -> Tensor:
    """(H*W, 2) centres x, y of the cells in 0..1, row by row."""
    y = (torch.arange(height, device=like.device) + 0.5) / height
    x = (torch.arange(width, device=like.device) + 0.5) / width
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).flatten(0, 1).to(like.dtype)


def _sine(value: Tensor, channels: int) -> Tensor:
    """(...) in 0..1 -> (..., channels), sine and cosine interleaved, temperature 10000, scale 2 pi."""
    index = torch.arange(channels, device=value.device)
    angle = value.float()[..., None] * (2 * math.pi) / 10000 ** (2 * (index // 2) / channels)
    return torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], dim=-1).flatten(-2)


def sine_positions(height: int, width: int, d_model: int, like: Tensor) -> Tensor:
    """(H*W, d_model) position of every cell: first half y, second half x."""
    centres = cell_centres(height, width, like.float())
    return torch.cat([_sine(centres[:, 1], d_model // 2), _sine(centres[:, 0], d_model // 2)], dim=-1).to(like.dtype)


def sine_boxes(boxes: Tensor, d_model: int) -> Tensor:
    """(B, Q, 4) cxcywh 0..1 -> (B, Q, 2 * d_model): half of d_model channels per coordinate, in the order given."""
    return _sine(boxes, d_model // 2).flatten(-2)


# transformers 5 renamed DINOv2's attention. On disk stand the public names, so that files last longer than releases.
_RENAMED = (
    ("attention.attention.query.", "attention.q_proj."),
    ("attention.attention.key.", "attention.k_proj."),
    ("attention.attention.value.", "attention.v_proj."),
    ("attention.output.dense.", "attention.o_proj."),
)


def _rename(state: dict[str, Tensor], prefix: str, pairs: Sequence[tuple[str, str]]) -> None:
    for key in [key for key in state if key.startswith(prefix + "vis_encoder.encoder.layer.")]:
        for old, new in pairs:
            if f".{old}" in key:
                state[key.replace(f".{old}", f".{new}")] = state.pop(key)


def _public_names(module: nn.Module, state: dict[str, Tensor], prefix: str, local_metadata: Any) -> None:
    _rename(state, prefix, [(new, old) for old, new in _RENAMED])


def _installed_names(module: nn.Module, state: dict[str, Tensor], prefix: str, *unused: Any) -> None:
    names = [name for name, _ in module.vis_encoder.named_parameters()]
    if any(".attention.q_proj." in name for name in names):
        _rename(state, prefix, _RENAMED)


def groma_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys of a Groma checkpoint (whole model, or its detector pre-training) -> keys of this detector.

    Drops the prefix "perceiver." and everything outside the detector. The heads appear twice there (tied, also under
    "decoder."), and safetensors may have kept either copy; the one that is present is taken.

    Raises:
        ValueError: if no detector weights are found.
    """
    found: dict[str, Tensor] = {}
    copies: dict[str, Tensor] = {}
    for key, value in state.items():
        name = key.removeprefix("perceiver.")
        if not name.startswith(("vis_encoder.", "input_proj.", "ddetr_transformer.")):
            continue
        head = name.removeprefix("ddetr_transformer.decoder.")
        if head != name and head.startswith(("bbox_embed.", "class_embed")):
            copies["ddetr_transformer." + head] = value
        else:
            found[name] = value
    if not found:
        raise ValueError(
            "No Groma detector in this checkpoint: expected keys under perceiver. (or vis_encoder., input_proj., "
            f"ddetr_transformer.), got {sorted(state)[:3]} ..."
        )
    return {**copies, **found}
