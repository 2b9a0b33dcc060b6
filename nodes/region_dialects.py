# SPDX-License-Identifier: GPL-3.0-or-later
"""REGIONS from and to what other packs speak: MASK, SEGS, BBOX and BOUNDING_BOX (design D7)."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fireedit_core.regions import dialects
from fireedit_core.regions.record import Regions
from fireedit_core.thumbnail import fingerprint

from .detection import check_regions
from .errors import FireEditNodeError, check_choice, named
from .host import models, progress
from .host.compat import CATEGORY, io, schema
from .pictures import batch_text, check_mask, counted, is_blank, size_of, to_core
from .types import BoundingBoxType, ElementsType, RegionsType

logger = logging.getLogger("fireedit")

FROM_MASK, FROM_SEGS, FROM_BBOX = "FireEdit Regions from Mask", "FireEdit Regions from SEGS", "FireEdit Regions from BBOX"
TO_MASK, TO_SEGS, TO_BBOX = "FireEdit Regions to Mask", "FireEdit Regions to SEGS", "FireEdit Regions to BBOX"
_GROUP = f"{CATEGORY}/regions/convert"
_MASKS = ("one per picture", "one per region")
_REGIONS_TOOLTIP = "Regions of one picture or of a batch."
_STRETCHED = (
    "the SEGS are of a picture of height {} and width {}, and were stretched to {} and {}: if this picture was not, connect the one that "
    "they were made of"
)
_RECTANGLES = "{}, as detectors of boxes give them: they count as boxes, and FireEdit Region Masks cuts out what is in them"
_AUTO, _ALL = "auto", "all for every picture"
_TAKEN = f"{{}} boxes came for as many pictures: one was taken for each. If every picture has all of them, set batch to {_ALL}"
_MADE_TOOLTIP = "Regions for FireEdit Region Tokenize, one set per picture, best score first."


class FireEditRegionsFromMask(io.ComfyNode):
    """MASK -> REGIONS: every connected part is a region."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditRegionsFromMask",
            display_name=FROM_MASK,
            category=_GROUP,
            description="Every connected part of a mask becomes a region, the largest first. Paint a mask, and the language model "
            "reads what you painted over.",
            search_aliases=["mask to regions", "mask to boxes"],
            inputs=[
                io.Mask.Input("mask", tooltip="A mask, or a batch of masks: one per picture."),
                io.Float.Input(
                    "threshold", default=0.5, min=0.0, max=1.0, step=0.01, tooltip="What is brighter than this counts as painted."
                ),
                io.Int.Input("min_area", default=16, min=1, max=1_000_000, tooltip="Parts of fewer pixels are left out."),
                io.String.Input("label", default="object", tooltip="The name that the regions get."),
                io.Image.Input(
                    "image", optional=True,
                    tooltip="The picture that the mask belongs to. Needed where there may be none: Load Image gives a small black mask "
                    "for a picture without transparency, which then counts as no region.",
                ),
            ],
            outputs=[RegionsType.Output(display_name="regions", tooltip=_MADE_TOOLTIP)],
        )

    @classmethod
    def execute(cls, mask, threshold, min_area, label, image=None) -> io.NodeOutput:
        """One set of regions per mask; with a picture, per picture."""
        blank = is_blank(mask, FROM_MASK)
        if image is not None:
            pictures = to_core(image, FROM_MASK)
            mask = torch.zeros_like(pictures[:, 0]) if blank else check_mask(mask, pictures, FROM_MASK)
        with named(FROM_MASK):
            made, cut = [], []
            for one in mask if mask.ndim == 3 else mask[None]:
                models.check_interrupted()
                made += dialects.from_mask(one, threshold, min_area, label.strip() or "object", lambda *n: cut.append(n))
        if image is not None:
            made = _found_on(made, pictures)
        said = [f"the mask has {found} parts; the {kept} largest are kept. Raise min_area to leave specks out" for found, kept in cut]
        for line in said:
            logger.warning("%s: %s", FROM_MASK, line)
        return io.NodeOutput(made, ui=progress.report("\n".join([describe(made), *said])))


class FireEditRegionsFromSEGS(io.ComfyNode):
    """SEGS + IMAGE -> REGIONS."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditRegionsFromSEGS",
            display_name=FROM_SEGS,
            category=_GROUP,
            description="SEGS of the Impact Pack and its kin as regions, with their masks, labels and confidence.",
            search_aliases=["segs to regions", "impact pack"],
            is_input_list=True,
            inputs=[
                io.SEGS.Input(
                    "segs", tooltip="SEGS of this picture; for a batch a list, one per picture, or one SEGS with a mask per picture."
                ),
                io.Image.Input("image", tooltip="The picture that the SEGS belong to; they are scaled to its size."),
            ],
            outputs=[RegionsType.Output(display_name="regions", tooltip=_MADE_TOOLTIP)],
        )

    @classmethod
    def execute(cls, segs, image) -> io.NodeOutput:
        """Lists come, because a batch has a SEGS per picture."""
        pictures = _pictures(image, FROM_SEGS)
        each = _one_each(segs, pictures.shape[0], "SEGS", FROM_SEGS)
        with named(FROM_SEGS):
            count = len(each)
            # one SEGS for a batch may have a mask for each picture; SEGS of one picture have one of their own
            made = [dialects.from_segs(value, size_of(pictures), *((i, count) if len(segs) == 1 else ())) for i, value in enumerate(each)]
        other = [(int(h), int(w)) for (h, w), _ in each if not dialects.same_shape((int(h), int(w)), size_of(pictures))]
        said = [_STRETCHED.format(*other[0], *size_of(pictures))] if other else []
        said += _odd_scores(made)
        for line in said:
            logger.warning("%s: %s", FROM_SEGS, line)
        if count := sum(map(sum, (one.boxed for one in made))):
            said.append(_RECTANGLES.format("1 SEG is a filled rectangle" if count == 1 else f"{count} SEGS are filled rectangles"))
        return io.NodeOutput(_found_on(made, pictures), ui=progress.report("\n".join([describe(made), *said])))


class FireEditRegionsFromBBox(io.ComfyNode):
    """BBOX or BOUNDING_BOX + IMAGE -> REGIONS."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditRegionsFromBBox",
            display_name=FROM_BBOX,
            category=_GROUP,
            description="Boxes of other packs as regions. Packs disagree on what four numbers mean: choose the layout.",
            search_aliases=["bbox to regions", "bounding box", "florence2"],
            is_input_list=True,
            inputs=[
                io.MultiType.Input(
                    "bbox", [io.BBOX, BoundingBoxType, ElementsType],
                    tooltip="Boxes of this picture: a BBOX of any pack, or the core's BOUNDING_BOX. For a batch, a list per picture.",
                ),
                io.Image.Input("image", tooltip="The picture that the boxes belong to."),
                io.Combo.Input(
                    "layout", options=list(dialects.BBOX_LAYOUTS), default="xywh",
                    tooltip="xywh: left, top, width, height (KJNodes). xyxy: left, top, right, bottom (Florence2). BOUNDING_BOX "
                    "names its numbers and needs no choice.",
                ),
                io.Combo.Input(
                    "batch", options=[_AUTO, _ALL], default=_AUTO, optional=True,
                    tooltip="Of a flat list of as many boxes as there are pictures. auto: one for each picture (KJNodes), which the node "
                    "says. all for every picture: each picture has all of them, as it has those of a list of any other length.",
                ),
            ],
            outputs=[RegionsType.Output(display_name="regions", tooltip=_MADE_TOOLTIP)],
        )  # fmt: skip

    @classmethod
    def execute(cls, bbox, image, layout, batch=(_AUTO,)) -> io.NodeOutput:
        """Lists come, because a batch may have its boxes as one list per picture."""
        pictures, layout, auto = _pictures(image, FROM_BBOX), layout[0], batch[0] == _AUTO
        count = pictures.shape[0]
        check_choice(FROM_BBOX, "batch", batch[0], (_AUTO, _ALL))
        with named(FROM_BBOX):
            each = dialects.split_by_picture(bbox[0], count, auto) if len(bbox) == 1 else _one_each(bbox, count, "BBOX", FROM_BBOX)
            made = [dialects.from_bboxes(value, size_of(pictures), layout) for value in each]
        said = [_TAKEN.format(count)] if auto and len(bbox) == 1 and dialects.is_one_each(bbox[0], count) else []
        odd = _odd_scores(made)
        for line in odd:
            logger.warning("%s: %s", FROM_BBOX, line)
        said += odd
        return io.NodeOutput(_found_on(made, pictures), ui=progress.report("\n".join([describe(made), *said])))


class FireEditRegionsToMask(io.ComfyNode):
    """REGIONS -> MASK."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditRegionsToMask",
            display_name=TO_MASK,
            category=_GROUP,
            description="Regions as a mask: their own masks where they have some, else their boxes. For inpainting, compositing, or "
            "the mask input of FireEdit VLM Conditioning.",
            search_aliases=["regions to mask", "boxes to mask"],
            inputs=[
                RegionsType.Input("regions", tooltip=_REGIONS_TOOLTIP),
                io.Combo.Input(
                    "masks", options=list(_MASKS), default=_MASKS[0],
                    tooltip="One mask with all regions of a picture, or a batch with a mask for each region.",
                ),
                io.Int.Input("feather", default=0, min=0, max=512, tooltip="Pixels over which the mask fades outwards."),
            ],
            outputs=[io.Mask.Output(display_name="mask", tooltip="Masks at the picture's size.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, regions, masks, feather) -> io.NodeOutput:
        """A picture without regions gives an empty mask, so that a batch stays whole."""
        check_choice(TO_MASK, "masks", masks, _MASKS)
        sets = regions if masks == _MASKS[0] else [one.select([i]) for one in regions for i in range(len(one))]
        made = [dialects.to_mask(one, feather) for one in sets or regions[:1]]
        return io.NodeOutput(models.intermediate(torch.stack(made)))


class FireEditRegionsToSEGS(io.ComfyNode):
    """REGIONS -> SEGS, one per picture."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditRegionsToSEGS",
            display_name=TO_SEGS,
            category=_GROUP,
            description="Regions as SEGS for the detailers of the Impact Pack. A batch gives a list, one SEGS per picture.",
            search_aliases=["regions to segs", "impact pack", "detailer"],
            inputs=[
                RegionsType.Input("regions", tooltip=_REGIONS_TOOLTIP),
                io.Float.Input(
                    "crop_factor", default=3.0, min=1.0, max=100.0, step=0.1,
                    tooltip="How much larger than the box the crop is that a detailer works on.",
                ),
                io.Image.Input("image", optional=True, tooltip="The picture; its crops are put into the SEGS."),
            ],
            outputs=[io.SEGS.Output(display_name="segs", tooltip="SEGS, one per picture.", is_output_list=True)],
        )  # fmt: skip

    @classmethod
    def execute(cls, regions, crop_factor, image=None) -> io.NodeOutput:
        """Every picture by itself: a SEGS knows one picture only."""
        rows: list[Any] = [None] * len(regions)
        if image is not None:
            pictures = to_core(image, TO_SEGS)
            check_regions(regions, pictures, TO_SEGS)
            rows = list(pictures.movedim(1, -1).split(1))
        return io.NodeOutput([dialects.to_segs(one, row, crop_factor) for one, row in zip(regions, rows, strict=True)])


class FireEditRegionsToBBox(io.ComfyNode):
    """REGIONS -> BBOX and BOUNDING_BOX, one per picture."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditRegionsToBBox",
            display_name=TO_BBOX,
            category=_GROUP,
            description="Regions as boxes for other packs. bbox gives a list, one entry per picture; bounding_box is the core's own: one "
            "value with a list per picture; box is the best region of the first picture alone, for Image Crop.",
            search_aliases=["regions to bbox", "bounding box"],
            inputs=[
                RegionsType.Input("regions", tooltip=_REGIONS_TOOLTIP),
                io.Combo.Input(
                    "layout", options=list(dialects.BBOX_LAYOUTS), default="xywh",
                    tooltip="Of bbox. xywh: left, top, width, height (KJNodes). xyxy: left, top, right, bottom (Florence2).",
                ),
            ],
            outputs=[
                io.BBOX.Output(display_name="bbox", tooltip="Whole-pixel boxes in the chosen layout.", is_output_list=True),
                BoundingBoxType.Output(
                    display_name="bounding_box",
                    tooltip="The core's boxes, a list per picture, with x, y, width, height, label and score.",
                ),
                BoundingBoxType.Output(
                    display_name="box",
                    tooltip="The best region of the first picture as one box, for nodes that take a single one; the whole picture where "
                    "there is no region.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, regions, layout) -> io.NodeOutput:
        """All dialects at once. The core's BOUNDING_BOX is one value for a batch (`list[list[dict]]`), never an output list."""
        boxes = [dialects.to_bounding_boxes(one) for one in regions]
        first = regions[0]
        # by score: what a user drew or picked stands behind what was found, or in the order of the picks
        (best,) = dialects.to_bounding_boxes(first.top(1) if len(first) else Regions.whole_image(first.image_size))
        said = {} if len(first) else {"ui": progress.report("no region in the first picture: box is the whole picture")}
        return io.NodeOutput([dialects.to_bboxes(one, layout) for one in regions], boxes, best, **said)


def _pictures(images: list[Tensor], node: str) -> Tensor:
    """Pictures (B, 3, H, W) of a list of IMAGEs."""
    rows = [to_core(image, node) for image in images]
    sizes = {size_of(row) for row in rows}
    if len(sizes) > 1:
        raise FireEditNodeError(node, f"pictures of one batch must have one size, got {sorted(sizes)}. Resize them first.")
    return torch.cat(rows)


def _found_on(regions: list[Regions], pictures: Tensor) -> list[Regions]:
    """The regions, which know their picture from now on: on another one they are refused."""
    return [replace(one, picture=fingerprint(picture)) for one, picture in zip(regions, pictures, strict=True)]


def _odd_scores(regions: list[Regions]) -> list[str]:
    """What is to be said of scores that are no probabilities: thresholds of other nodes are."""
    scores = torch.cat([one.scores for one in regions])
    if not scores.numel() or float(scores.min()) >= 0 and float(scores.max()) <= 1:
        return []
    return [
        f"the scores run from {float(scores.min()):g} to {float(scores.max()):g} instead of within 0..1. They are kept as they are; nodes "
        "that go by 0.5 take all that lie above it"
    ]


def _one_each(values: list, count: int, what: str, node: str) -> list:
    """As many values as pictures; a single one serves all."""
    if len(values) not in (1, count):
        raise FireEditNodeError(node, f"{batch_text(count)} came, but {len(values)} {what}. Connect one for all, or one per picture.")
    return values * count if len(values) == 1 else values


def describe(regions: list[Regions]) -> str:
    """'3 regions', or one line per picture."""
    lines = [counted(len(one), "region") for one in regions]
    return lines[0] if len(lines) == 1 else "\n".join(f"picture {i + 1}: {line}" for i, line in enumerate(lines))
