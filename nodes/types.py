# SPDX-License-Identifier: GPL-3.0-or-later
"""The socket types of the pack and the numbers that several nodes share."""

from __future__ import annotations

from .host.compat import io

FireEditType = io.Custom("FIREEDIT")  # nodes.host.models.FireEditModels
RegionsType = io.Custom("REGIONS")  # list[fireedit_core.regions.record.Regions], one per picture
DetectorType = io.Custom("FIREEDIT_DETECTOR")  # nodes.host.detectors.LoadedDetector
SegmenterType = io.Custom("FIREEDIT_SEGMENTER")  # nodes.host.segmenters.LoadedSegmenter
GrounderType = io.Custom("FIREEDIT_GROUNDER")  # nodes.host.grounders.LoadedGrounder
BoundingBoxType = io.Custom("BOUNDING_BOX")  # of later hosts: dicts with x, y, width, height
ElementsType = io.Custom("ARRAY")  # of later hosts: what Create Bounding Boxes has drawn, dicts with bbox in 0..1000 and desc
PhotoFrameType = io.Custom("PHOTO_FRAME")  # list[fireedit_core.photo.frame.PhotoFrame], one per picture
RegionTokensType = io.Custom("REGION_TOKENS")  # fireedit_core.editor.RegionTokens

# Defaults of the sampling widgets. A bundle's own numbers stand in its model_index.json and its card.
TEXT_GUIDANCE = 1.0
IMAGE_GUIDANCE = 1.0
STEPS = 20

FIREEDIT_TOOLTIP = "The models of a FireEdit bundle around the UNet, from FireEdit Loader."
POSITIVE_TOOLTIP = "The positive output of FireEdit VLM Conditioning: instruction and picture."
IMAGE_ONLY_TOOLTIP = "The image_only output of FireEdit VLM Conditioning: the picture without the instruction."
NEGATIVE_TOOLTIP = "The negative output of FireEdit VLM Conditioning: neither instruction nor picture."
TEXT_GUIDANCE_TOOLTIP = (
    "How strongly the instruction is followed. 1 is plain, larger exaggerates the edit; 0 ignores the instruction."
)
IMAGE_GUIDANCE_TOOLTIP = (
    "How strongly the result is held to the source picture. 1 is plain (and saves a third of the work), larger holds harder."
)
