# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEditRegionsFilter and FireEditRegionsMerge."""

from __future__ import annotations

import math
import re

from fireedit_core.regions.selection import RegionFilter, merge_regions, parse_indices

from .errors import FireEditNodeError, named
from .host import progress
from .host.compat import CATEGORY, RARE, io, schema
from .pictures import batch_text
from .region_dialects import describe
from .types import RegionsType

FILTER, MERGE = "FireEdit Regions Filter", "FireEdit Regions Merge"


class FireEditRegionsFilter(io.ComfyNode):
    """REGIONS -> those that fit, and the rest."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditRegionsFilter",
            display_name=FILTER,
            category=f"{CATEGORY}/regions",
            description="Keeps the regions that fit everything that is set here; what does not fit comes out of rest.",
            search_aliases=["select regions", "top k", "filter boxes"],
            inputs=[
                RegionsType.Input("regions", tooltip="Regions of one picture or of a batch."),
                io.String.Input("labels", default="", tooltip="Only regions of these names, separated by commas. Empty: any name."),
                io.Float.Input("min_score", default=0.0, min=0.0, max=1.0, step=0.01, tooltip="Only regions at least this sure."),
                io.Float.Input(
                    "min_area", default=0.0, min=0.0, max=1.0, step=0.001, round=0.0001, **RARE,
                    tooltip="Only regions that cover at least this share of the picture. 0.01 is a hundredth.",
                ),
                io.Float.Input(
                    "max_area", default=1.0, min=0.0, max=1.0, step=0.001, round=0.0001, **RARE,
                    tooltip="Only regions that cover at most this share of the picture.",
                ),
                io.String.Input(
                    "numbers", default="", tooltip="Only the regions of these numbers, as FireEdit Regions Preview writes them: 0, 2, "
                    "5-7. Empty: all.",
                ),
                io.Int.Input("top", default=0, min=0, max=300, tooltip="At most this many, best score first. 0: all."),
            ],
            outputs=[
                RegionsType.Output(display_name="regions", tooltip="The regions that fit. May be empty."),
                RegionsType.Output(display_name="rest", tooltip="All others."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, numbers=None):
        """A text that holds no numbers is refused before anything runs."""
        try:
            parse_indices(numbers or "")
        except ValueError as error:
            return f"{FILTER}: numbers: {error}"
        return True

    @classmethod
    def execute(cls, regions, labels, min_score, min_area, max_area, numbers, top) -> io.NodeOutput:
        """Picture by picture."""
        if min_area > max_area:
            raise FireEditNodeError(FILTER, f"min_area {min_area:g} is larger than max_area {max_area:g}. Swap them.")
        names = tuple(n.strip() for n in re.split(r"[,;\n，、；]", labels) if n.strip())
        with named(FILTER):
            least = min_score if min_score > 0 else -math.inf  # scores that other packs give may lie outside of 0..1
            chosen = RegionFilter(names, least, math.inf, min_area, max_area, parse_indices(numbers), top)
            pairs = [chosen.split(one) for one in regions]
        kept = [stays for stays, _ in pairs]
        return io.NodeOutput(kept, [rest for _, rest in pairs], ui=progress.report(describe(kept)))


class FireEditRegionsMerge(io.ComfyNode):
    """REGIONS + REGIONS -> REGIONS."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditRegionsMerge",
            display_name=MERGE,
            category=f"{CATEGORY}/regions",
            description="Joins the regions of two detections of the same picture, best score first.",
            search_aliases=["join regions", "combine regions"],
            inputs=[
                RegionsType.Input("regions_a", tooltip="Regions of one picture or of a batch."),
                RegionsType.Input("regions_b", tooltip="More regions of the same pictures."),
                io.Float.Input(
                    "iou_threshold", default=0.6, min=0.0, max=1.0, step=0.01, **RARE,
                    tooltip="Of two regions that overlap by more than this share, only the better stays. 1 keeps all.",
                ),
            ],
            outputs=[RegionsType.Output(display_name="regions", tooltip="All of both, best score first.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, regions_a, regions_b, iou_threshold) -> io.NodeOutput:
        """Picture by picture."""
        if len(regions_a) != len(regions_b):
            raise FireEditNodeError(
                MERGE, f"regions_a belong to {batch_text(len(regions_a))}, regions_b to {batch_text(len(regions_b))}. Connect regions of "
                "the same pictures.",
            )  # fmt: skip
        with named(MERGE):
            joined = [merge_regions(pair, iou_threshold) for pair in zip(regions_a, regions_b, strict=True)]
        return io.NodeOutput(joined, ui=progress.report(describe(joined)))
