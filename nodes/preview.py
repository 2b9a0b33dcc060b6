# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEditRegionsPreview."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from fireedit_core.regions.drawing import draw_regions

from .detection import check_regions
from .errors import named
from .host.compat import CATEGORY, io, schema, ui
from .pictures import check_mask, size_of, to_core
from .types import RegionsType

NAME = "FireEdit Regions Preview"


class FireEditRegionsPreview(io.ComfyNode):
    """IMAGE + REGIONS -> IMAGE with boxes, numbers and scores, shown on the node."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditRegionsPreview",
            display_name=NAME,
            category=f"{CATEGORY}/regions",
            description="Draws regions with numbers and scores on the picture, and tints where the edit will land.",
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
                io.Int.Input(
                    "zoom", default=512, min=0, max=2048, step=64,
                    tooltip="Pictures whose long side is shorter than this many pixels are enlarged by a whole factor, so that "
                    "the writing can be read. 0 keeps their size.",
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The picture with the regions drawn on it.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, image, regions, zoom, mask=None) -> io.NodeOutput:
        """Draw every picture of the batch; the same input gives the same pixels."""
        pictures = to_core(image, NAME)
        check_regions(regions, pictures, NAME)
        tints = [None] * len(regions) if mask is None else list(check_mask(mask, pictures, NAME))
        # two pixels are the least that an outline can be drawn on
        if min(size_of(pictures)) < 2:
            pictures = F.interpolate(pictures, scale_factor=2.0, mode="nearest")
            regions = [one.scaled_to(size_of(pictures)) for one in regions]
        with named(NAME):
            drawn = [draw_regions(p.cpu(), r, m, min_side=zoom) for p, r, m in zip(pictures, regions, tints)]
        out = torch.stack([torch.from_numpy(d.copy()) for d in drawn]).float() / 255
        return io.NodeOutput(out, ui=ui.PreviewImage(out, cls=cls))
