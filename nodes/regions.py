# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that find regions and show them."""

from __future__ import annotations

import logging

import comfy.model_management
import comfy.utils
import numpy as np
import torch
from comfy_api.v0_0_2 import io, ui

from .host.detectors import bundle_folders, detector_patcher

logger = logging.getLogger("fireedit")

Regions = io.Custom("REGIONS")


class FireEditRegionDetect(io.ComfyNode):
    """IMAGE -> REGIONS: one `Regions` record per picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        names = [name for name, folder in bundle_folders().items() if (folder / "detector").is_dir()]
        return io.Schema(
            node_id="FireEditRegionDetect",
            display_name="FireEdit Region Detect",
            category="FireEdit",
            description="Finds the regions of a picture, whatever they show, best first.",
            inputs=[
                io.Combo.Input("bundle", options=names, tooltip="The FireEdit bundle whose detector is used (models/fireedit)."),
                io.Image.Input("image", tooltip="Pictures to search, any size; each gets its own set of regions."),
                io.Float.Input("score_threshold", default=0.4, min=0.01, max=1.0, step=0.01, tooltip="Keep regions above this score."),
                io.Float.Input("iou_threshold", default=0.6, min=0.05, max=1.0, step=0.05, tooltip="Merge regions that overlap more."),
                io.Int.Input("max_regions", default=100, min=1, max=300, tooltip="Keep at most this many regions per picture."),
            ],
            outputs=[Regions.Output(display_name="regions", tooltip="The regions of each picture, best first.")],
        )

    @classmethod
    def validate_inputs(cls, bundle) -> bool | str:
        # ComfyUI 0.3.75 does not check the options of V3 combos itself
        if bundle in bundle_folders():
            return True
        return f"FireEdit Region Detect: no bundle named {bundle!r}; put it into models/fireedit and reload the page."

    @classmethod
    def execute(cls, bundle, image, score_threshold, iou_threshold, max_regions) -> io.NodeOutput:
        patcher = detector_patcher(bundle_folders()[bundle])
        comfy.model_management.load_models_gpu([patcher])
        progress = comfy.utils.ProgressBar(image.shape[0])
        found = []
        for picture in image[..., :3].movedim(-1, 1).split(1):
            comfy.model_management.throw_exception_if_processing_interrupted()
            found += patcher.model.inner.detect(picture.to(patcher.load_device), score_threshold, iou_threshold, max_regions)
            progress.update(1)
        empty = sum(len(regions) == 0 for regions in found)
        if empty:
            logger.warning("FireEdit Region Detect: no region in %d of %d pictures; lower score_threshold to find more.", empty, len(found))
        counts = ", ".join(str(len(regions)) for regions in found)
        return io.NodeOutput(found, ui=ui.PreviewText(f"regions per picture: {counts}"))


class FireEditRegionsPreview(io.ComfyNode):
    """Draws boxes, numbers and scores on the pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FireEditRegionsPreview",
            display_name="FireEdit Regions Preview",
            category="FireEdit",
            description="Draws numbered regions with their scores on the picture.",
            inputs=[
                io.Image.Input("image", tooltip="The pictures that the regions belong to."),
                Regions.Input("regions", tooltip="Regions of these pictures."),
                io.Int.Input("min_side", default=512, min=0, max=4096, tooltip="Enlarge small pictures to this side; 0 keeps the size."),
            ],
            outputs=[io.Image.Output(display_name="overlay", tooltip="The pictures with their regions drawn in.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, image, regions, min_side) -> io.NodeOutput:
        from fireedit_core.regions.drawing import draw_regions

        if len(regions) != image.shape[0]:
            raise ValueError(
                f"FireEdit Regions Preview: {image.shape[0]} pictures but {len(regions)} sets of regions; connect the image that "
                "the regions were detected in."
            )
        drawn = []
        for picture, found in zip(image[..., :3], regions, strict=True):
            try:
                found.check_image((picture.shape[0], picture.shape[1]))
            except ValueError as error:
                raise ValueError(
                    f"FireEdit Regions Preview: {error} Connect the image that the regions were detected in."
                ) from error
            drawn.append(draw_regions(picture, found, min_side=min_side))
        out = torch.from_numpy(np.stack(drawn)).float() / 255
        return io.NodeOutput(out, ui=ui.PreviewImage(out, cls=cls))
