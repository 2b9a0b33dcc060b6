# SPDX-License-Identifier: GPL-3.0-or-later
"""Small segmenters of the true classes, saved as their libraries save them, and ONNX files written byte by byte."""

from __future__ import annotations

import struct

import torch
import transformers

SIDE = 64


def sam_hq(folder):
    """A SAM-HQ of 64 pixels."""
    vision = transformers.SamHQVisionConfig(
        hidden_size=16, output_channels=16, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=8, window_size=4,
        global_attn_indexes=[1], mlp_dim=16, num_pos_feats=8, initializer_range=0.02,
    )  # fmt: skip
    prompt = transformers.SamHQPromptEncoderConfig(hidden_size=16, image_size=SIDE, patch_size=8, mask_input_channels=4)
    decoder = transformers.SamHQMaskDecoderConfig(
        hidden_size=16, mlp_dim=16, num_attention_heads=2, iou_head_hidden_dim=16, num_hidden_layers=2, vit_dim=16
    )
    config = transformers.SamHQConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    _save(transformers.SamHQModel(config), folder)
    images = transformers.SamImageProcessor(
        size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE}, mask_size={"longest_edge": 32}
    )
    transformers.SamHQProcessor(images).save_pretrained(folder)


def sam2(folder):
    """A SAM 2 of 64 pixels."""
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=8, image_size=[SIDE, SIDE], blocks_per_stage=[1, 1, 2, 1], embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2], window_size_per_stage=[4, 4, 4, 2], global_attention_blocks=[3],
        window_positional_embedding_background_size=[4, 4],
    )  # fmt: skip
    vision = transformers.Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=[64, 32, 16, 8], backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=32,
    )  # fmt: skip
    prompt = transformers.Sam2PromptEncoderConfig(hidden_size=32, image_size=SIDE, patch_size=16, mask_input_channels=4)
    decoder = transformers.Sam2MaskDecoderConfig(hidden_size=32, mlp_dim=16, num_attention_heads=2, iou_head_hidden_dim=16)
    config = transformers.Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    _save(transformers.Sam2Model(config), folder)
    _sam2_processor(folder)


def edgetam(folder):
    """An EdgeTAM of 64 pixels around the smallest backbone of timm that has four stages."""
    backbone = transformers.TimmWrapperConfig(
        architecture="resnet10t", model_args={"in_chans": 3, "features_only": True, "out_indices": [1, 2, 3, 4]}
    )
    vision = transformers.EdgeTamVisionConfig(
        backbone_config=backbone, backbone_channel_list=[512, 256, 128, 64], backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=32,
    )  # fmt: skip
    prompt = transformers.EdgeTamPromptEncoderConfig(hidden_size=32, image_size=SIDE, patch_size=16, mask_input_channels=4)
    decoder = transformers.EdgeTamMaskDecoderConfig(hidden_size=32, mlp_dim=16, num_attention_heads=2, iou_head_hidden_dim=16)
    config = transformers.EdgeTamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    _save(transformers.EdgeTamModel(config), folder)
    _sam2_processor(folder)


def _save(network, folder):
    with torch.no_grad():
        for parameter in network.parameters():  # fresh ones are so even that every mask is flat
            if parameter.ndim > 1:
                parameter.add_(0.05 * torch.randn_like(parameter))
    network.save_pretrained(folder)


def _sam2_processor(folder):
    square = {"height": SIDE, "width": SIDE}
    kind = getattr(transformers, "Sam2ImageProcessorFast", None) or transformers.Sam2ImageProcessor
    transformers.Sam2Processor(kind(size=square, mask_size={"height": 16, "width": 16})).save_pretrained(folder)


# ONNX is a protocol buffer: fields of (number, kind), lengths and bytes. Enough of it for one small graph stands here, so that no test
# needs the package onnx.


def write_onnx(path, side: int = 16, channels: int = 3, outputs: int = 1) -> None:
    """A file as ISNet's: picture (1, 3, side, side) -> alpha (1, 1, side, side): the sigmoid of 20 x the mean of the channels."""
    weight = b"".join(_int(1, n) for n in (1, channels, 1, 1))
    weight += _int(2, 1) + _bytes(8, b"w") + _bytes(9, struct.pack(f"<{channels}f", *[20 / channels] * channels))
    nodes = _node("Conv", ["input", "w"], ["sum"]) + _node("Sigmoid", ["sum"], ["output"])
    graph = nodes + _bytes(2, b"g") + _bytes(5, weight)
    graph += _bytes(11, _value("input", (1, channels, side, side)))
    graph += b"".join(_bytes(12, _value(name, (1, 1, side, side))) for name in ("output", "sum")[:outputs])
    path.write_bytes(_int(1, 8) + _bytes(7, graph) + _bytes(8, _bytes(1, b"") + _int(2, 13)))


def _node(kind, inputs, outputs):
    names = b"".join(_bytes(1, n.encode()) for n in inputs) + b"".join(_bytes(2, n.encode()) for n in outputs)
    return _bytes(1, names + _bytes(4, kind.encode()))


def _value(name, shape):
    dims = b"".join(_bytes(1, _int(1, n)) for n in shape)
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, _int(1, 1) + _bytes(2, dims)))


def _varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def _int(field, value):
    return _varint(field << 3) + _varint(value)


def _bytes(field, value):
    return _varint(field << 3 | 2) + _varint(len(value)) + value
