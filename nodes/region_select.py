# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEditRegionSelect: regions picked, drawn and named by hand. The picker is web/region_select.js; its whole state is one text."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import torch

from fireedit_core.regions.choice import RegionChoice
from fireedit_core.regions.outlines import outlines
from fireedit_core.regions.record import Regions
from fireedit_core.thumbnail import fingerprint, resembles

from .detection import check_regions
from .errors import named
from .host import models, progress
from .host.compat import CATEGORY, io, schema, ui
from .pictures import size_of, to_core, to_host
from .types import RegionsType

logger = logging.getLogger("fireedit")

NAME = "FireEdit Region Select"
_GONE = "region {} of the selection is not among the regions that came: what was said of it does not count"
_OTHERS = "the selection was made on picture 1; it counts in the same places of other pictures of the batch too: {}"


class FireEditRegionSelect(io.ComfyNode):
    """IMAGE + REGIONS + a choice -> REGIONS and MASK."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditRegionSelect",
            display_name=NAME,
            category=f"{CATEGORY}/regions",
            description="Pick regions with the mouse: click picks, dragging draws a new one, handles resize, a double click names. The "
            "language model chooses among them, or the edit happens exactly there.",
            search_aliases=["pick", "box editor", "draw boxes", "points editor"],
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="The picture that the regions belong to."),
                io.String.Input(
                    "selection", default="",
                    tooltip='What the picker holds, as JSON: {"mode": "auto | restrict | force", "picked": [0], "boxes": [{"box": [x1, y1, '
                    'x2, y2], "name": "cat"}], "moved": {}, "names": {}, "found": {}, "picture": "..."}. It can be typed as well; without '
                    "picture it stands for any.",
                ),
                RegionsType.Input("regions", optional=True, tooltip="Detected regions to pick from. Without them only drawn boxes count."),
            ],
            outputs=[
                RegionsType.Output(display_name="regions", tooltip="What the language model is to see, for FireEdit Region Tokenize."),
                io.Mask.Output(
                    display_name="mask",
                    tooltip="With the mode force: the picked boxes, for the mask input of FireEdit VLM Conditioning, which then edits "
                    "exactly there. Black otherwise, which counts as no mask.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, selection=None):
        """A text that is no selection is refused before anything runs."""
        try:
            RegionChoice.from_json(selection or "")
        except ValueError as error:
            return f"{NAME}: {error}."
        return True

    @classmethod
    def execute(cls, image, selection, regions=None) -> io.NodeOutput:
        """The same choice for every picture of a batch, by the places of what was picked and drawn; the picker shows the first, and that is
        the one that it was made on."""
        pictures = to_core(image, NAME)
        if regions is None:
            regions = [replace(Regions.empty(size_of(pictures)), picture=fingerprint(one)) for one in pictures]
        check_regions(regions, pictures, NAME)
        shown_on = fingerprint(pictures[0])
        with named(NAME):
            written = RegionChoice.from_json(selection)
            choice = written.on(shown_on)
            made, said = [], []
            for i, one in enumerate(regions):
                with named(NAME if len(regions) == 1 else f"{NAME}: picture {i + 1}"):
                    made.append(choice.apply(one))
                said += [f"{'' if len(regions) == 1 else f'picture {i + 1}: '}{_GONE.format(number)}" for number in choice.missing(one)]
        masks = [torch.zeros(size_of(pictures)) if mask is None else mask for _, mask in made]
        shown = ui.PreviewImage(to_host(pictures[:1]), cls=cls).as_dict()["images"]
        state = json.dumps({"size": size_of(pictures), "picture": shown_on, **_for_the_picker(regions[0])})
        # under names of our own: "images" would be drawn a second time by the front end
        output = {"fireedit_picture": shown, "fireedit_regions": [state]}
        if choice is not written:
            said.append("another picture came: what was picked, drawn and named on the one before does not count")
        elif choice.picture:
            others = [str(i + 1) for i, one in enumerate(pictures) if i and not resembles(shown_on, fingerprint(one))]
            said += [_OTHERS.format(", ".join(others))] if others else []
        if said:
            output |= progress.report("\n".join(said))
        return io.NodeOutput([one for one, _ in made], models.intermediate(torch.stack(masks)), ui=output)


def _for_the_picker(regions: Regions) -> dict:
    """What is drawn of regions: masks as outlines, since they themselves would be megabytes of JSON."""
    value = replace(regions, masks=None).to_dict()
    shown = {key: value[key] for key in ("boxes", "scores", "labels")}
    if regions.masks is not None:
        try:
            shown["outlines"] = outlines(regions)
        except ImportError as error:
            logger.info("%s: the boxes are shown without outlines (%s)", NAME, error)
    return shown
