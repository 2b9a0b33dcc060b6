# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEditRegionMasks and FireEditSegmenterLoader: boxes become masks at the photo's own size."""

from __future__ import annotations

import logging
from dataclasses import replace

import comfy.utils
import torch

from fireedit_core.regions.record import Regions

from .detection import check_regions
from .errors import FireEditNodeError, named
from .host import model_folders, models, progress, segmenters
from .host.compat import CATEGORY, RARE, io, schema
from .pictures import counted, size_of, to_core
from .types import RegionsType, SegmenterType

logger = logging.getLogger("fireedit")

MASKS, SEGMENTER = "FireEdit Region Masks", "FireEdit Segmenter Loader"


class FireEditSegmenterLoader(io.ComfyNode):
    """A segmenter that the user has -> FIREEDIT_SEGMENTER."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditSegmenterLoader",
            display_name=SEGMENTER,
            category=f"{CATEGORY}/regions",
            description="Loads what cuts things out for FireEdit Region Masks: an ONNX file of ISNet or a folder of transformers (SAM, "
            "SAM 2, SAM-HQ, EdgeTAM) in models/fireedit/segmenters, or a segmentation file of ultralytics. grabcut needs no file.",
            search_aliases=["sam2", "segment anything", "isnet", "background removal", "rembg", "grabcut"],
            inputs=[
                io.Combo.Input(
                    "segmenter",
                    options=segmenters.list_segmenters(),
                    tooltip="grabcut is always there and rough. segmenters are .onnx files and folders below models/fireedit/segmenters, "
                    "segm are ultralytics files, background_removal is the host's own folder where it has one.",
                )
            ],
            outputs=[SegmenterType.Output(display_name="segmenter", tooltip="For the segmenter input of FireEdit Region Masks.")],
        )

    @classmethod
    def validate_inputs(cls, segmenter=None):
        """Refuse an unknown name before anything runs. A name that comes over a wire is only known when it runs."""
        if segmenter is None:
            return True
        try:
            segmenters.find_segmenter(segmenter)
        except ValueError as error:
            return f"{SEGMENTER}: {error}"
        return True

    @classmethod
    def fingerprint_inputs(cls, segmenter=None):
        """A segmenter that was replaced on disk is loaded again."""
        try:
            found = segmenters.find_segmenter(segmenter) if segmenter else segmenter
        except ValueError:
            return segmenter
        return found if found is None or isinstance(found, str) else model_folders.state_of(found)

    @classmethod
    def execute(cls, segmenter) -> io.NodeOutput:
        """Load on the host's offload device; it moves when it is needed."""
        try:
            return io.NodeOutput(segmenters.load(segmenter))
        except (ValueError, ImportError) as error:
            raise FireEditNodeError(SEGMENTER, f"the segmenter {segmenter!r} cannot be loaded: {error}") from error


class FireEditRegionMasks(io.ComfyNode):
    """IMAGE + REGIONS -> REGIONS with masks."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditRegionMasks",
            display_name=MASKS,
            category=f"{CATEGORY}/regions",
            description="Cuts the thing in every box out, at the photo's own size and with a crisp edge. Where two things overlap, the one "
            "in front keeps the place. The report says who made each mask and how good it looks.",
            search_aliases=["boxes to masks", "segment", "cut out", "sam", "matting"],
            inputs=[
                io.Image.Input("image", tooltip="The picture that the regions were detected on, or a batch; of any size."),
                RegionsType.Input(
                    "regions",
                    tooltip="Regions of this picture, from FireEdit Region Detect. Masks that they have already are kept and sharpened, "
                    "unless a segmenter is connected.",
                ),
                io.Int.Input(
                    "max_regions", default=32, min=1, max=300, **RARE,
                    tooltip="At most so many regions per picture get a mask and are given on, best score first. Masks of large photos take "
                    "memory (96 MB each at 24 megapixels); never more than a gigabyte of them is made per picture.",
                ),
                SegmenterType.Input(
                    "segmenter", optional=True,
                    tooltip="What cuts out, from FireEdit Segmenter Loader. Nothing connected: grabcut, which also helps out where this "
                    "finds nothing.",
                ),
            ],
            outputs=[
                RegionsType.Output(display_name="regions", tooltip="The regions with their masks."),
                io.Mask.Output(display_name="mask", tooltip="All masks of a picture together."),
                io.String.Output(display_name="report", tooltip="Who made each mask, its quality from 0 to 1, and which to look at."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, image, regions, max_regions, segmenter=None) -> io.NodeOutput:
        """Region by region, so that progress and cancel work within a photo."""
        from fireedit_core.segmentation.grabcut import GrabCut
        from fireedit_core.segmentation.region_masks import most_masks, region_masks

        pictures = to_core(image, MASKS)
        check_regions(regions, pictures, MASKS)
        grabcut = GrabCut()
        chosen = grabcut if segmenter is None else segmenter.segmenter
        helpers = () if chosen.family == grabcut.family else (grabcut,)
        if segmenter is not None and segmenter.patcher is not None:
            models.use(segmenter.patcher)
        limit = min(max_regions, most_masks(size_of(pictures)))
        total = sum(min(len(one), limit) for one in regions)
        bar = comfy.utils.ProgressBar(max(total, 1))
        made, texts, before = [], [], 0
        for index, (picture, one) in enumerate(zip(pictures, regions, strict=True)):

            def step(done: int, before: int = before) -> None:
                bar.update_absolute(before + done)
                progress.say(f"cutting out, {before + done} of {counted(total, 'region')}")
                models.check_interrupted()

            models.check_interrupted()
            with named(MASKS):
                try:
                    bare = one if segmenter is None else replace(one, masks=None)
                    masked, reports = region_masks(picture, bare, chosen, helpers, max_regions, step)
                except ImportError as error:
                    raise FireEditNodeError(MASKS, str(error)) from error
            made.append(masked)
            before += len(masked)
            texts.append(_describe(index, len(regions), one, masked, reports, max_regions))
        text = "\n".join(texts)
        if any("doubtful" in line or "only the" in line for line in texts):
            logger.warning("%s: %s", MASKS, text)
        union = torch.stack([_union(one) for one in made])
        return io.NodeOutput(made, models.intermediate(union), text, ui=progress.report(text))


def _describe(index: int, count: int, before: Regions, after: Regions, reports: tuple, max_regions: int) -> str:
    name = "" if count == 1 else f"picture {index + 1}: "
    if not len(before):
        return f"{name}no region came, so there is nothing to cut out; the mask is black."
    lines = [f"{name}{counted(len(after), 'mask')}"]
    if len(after) < len(before):
        why = (
            "as max_regions asks" if len(after) == max_regions
            else f"because masks of {after.image_size[1]} x {after.image_size[0]} pixels for all would take more than a gigabyte; filter "
            "the regions first to choose which"
        )  # fmt: skip
        lines.append(f"only the {len(after)} best of {counted(len(before), 'region')} are given on, {why}")
    return "\n".join([*lines, *(f"{i}. {report}" for i, report in enumerate(reports))])


def _union(regions: Regions) -> torch.Tensor:
    """One mask (H, W) of all; black where there is no region."""
    if not len(regions):
        return torch.zeros(regions.image_size)
    union = regions.masks[0].clone()
    for mask in regions.masks[1:]:
        torch.maximum(union, mask, out=union)
    return union
