# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEditRegionsPreview and FireEditGroundingPreview: what was seen, drawn on the picture and shown on the node."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from fireedit_core.regions.drawing import draw_heat_map, draw_regions

from .detection import check_regions
from .errors import named
from .host.compat import CATEGORY, RARE, io, schema, ui
from .pictures import check_mask, size_of, to_core
from .types import RegionsType

REGIONS, GROUNDING = "FireEdit Regions Preview", "FireEdit Grounding Preview"


def _zoom():
    return io.Int.Input(
        "zoom", default=512, min=0, max=2048, step=64, **RARE,
        tooltip="Pictures whose long side is shorter than this many pixels are enlarged by a whole factor, so that the writing can be "
        "read. 0 keeps their size.",
    )  # fmt: skip


class FireEditRegionsPreview(io.ComfyNode):
    """IMAGE + REGIONS -> IMAGE with boxes, numbers and scores, shown on the node."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditRegionsPreview",
            display_name=REGIONS,
            category=f"{CATEGORY}/regions",
            description="Draws regions with numbers and scores on the picture, and tints where the edit will land.",
            search_aliases=["show boxes", "draw regions", "show regions"],
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="The picture that the regions belong to."),
                RegionsType.Input(
                    "regions",
                    tooltip="Detected regions, or the scored ones of FireEdit VLM Conditioning: there the score says how likely "
                    "the instruction means this region.",
                ),
                io.Mask.Input(
                    "mask", optional=True, tooltip="Tinted on the picture, e.g. grounding of FireEdit VLM Conditioning."
                ),
                _zoom(),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The picture with the regions drawn on it.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, image, regions, zoom, mask=None) -> io.NodeOutput:
        """Draw every picture of the batch; the same input gives the same pixels."""
        pictures = to_core(image, REGIONS)
        check_regions(regions, pictures, REGIONS)
        tints = [None] * len(regions) if mask is None else list(check_mask(mask, pictures, REGIONS))
        # two pixels are the least that an outline can be drawn on
        if min(size_of(pictures)) < 2:
            pictures = F.interpolate(pictures, scale_factor=2.0, mode="nearest")
            regions = [one.scaled_to(size_of(pictures)) for one in regions]
        with named(REGIONS):
            drawn = [draw_regions(p.cpu(), r, m, min_side=zoom) for p, r, m in zip(pictures, regions, tints)]
        return _shown(drawn, cls)


class FireEditGroundingPreview(io.ComfyNode):
    """IMAGE + MASK -> IMAGE with the mask as a heat map, shown on the node."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditGroundingPreview",
            display_name=GROUNDING,
            category=f"{CATEGORY}/regions",
            description="Where the edit will land, as a heat map over the picture: yellow is sure, blue is not.",
            search_aliases=["heat map", "attention map", "show mask"],
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="The picture that the mask belongs to."),
                io.Mask.Input("mask", tooltip="grounding of FireEdit VLM Conditioning, or any other soft mask of this picture."),
                io.Float.Input(
                    "opacity", default=0.7, min=0.0, max=1.0, step=0.05, **RARE,
                    tooltip="How strongly the colours cover the picture, which is grey underneath.",
                ),
                _zoom(),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The picture with the heat map and its scale.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, image, mask, opacity, zoom) -> io.NodeOutput:
        """Draw every picture of the batch; the same input gives the same pixels."""
        pictures = to_core(image, GROUNDING)
        heats = check_mask(mask, pictures, GROUNDING)
        with named(GROUNDING):
            drawn = [draw_heat_map(p.cpu(), h, opacity, min_side=zoom) for p, h in zip(pictures, heats, strict=True)]
        return _shown(drawn, cls)


def _shown(drawn: list, cls) -> io.NodeOutput:  # noqa: ANN001
    out = torch.stack([torch.from_numpy(picture.copy()) for picture in drawn]).float() / 255
    return io.NodeOutput(out, ui=ui.PreviewImage(out, cls=cls))
