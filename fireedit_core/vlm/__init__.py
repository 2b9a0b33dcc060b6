# SPDX-License-Identifier: GPL-3.0-or-later
"""The region-aware vision language model and what surrounds it."""

from .adapter import VisionAdapter
from .clip_reader import ClipReader
from .grounding import Grounding, GroundingHead
from .img_tokens import ImgTokens
from .qformer import EditQFormer
from .region_encoder import RegionEncoder
from .region_vlm import RegionAwareVLM, VLMStates
from .vision import VisionFeatures, encode_vision

__all__ = [
    "ClipReader",
    "EditQFormer",
    "Grounding",
    "GroundingHead",
    "ImgTokens",
    "RegionAwareVLM",
    "RegionEncoder",
    "VLMStates",
    "VisionAdapter",
    "VisionFeatures",
    "encode_vision",
]
