# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEditRegionDetect and FireEditRegionTokenize: from a picture to regions and region tokens."""

from __future__ import annotations

import logging
from collections import Counter

import comfy.utils

from fireedit_core.regions.record import OBJECT_LABEL, Regions

from .errors import FireEditNodeError, named
from .host import models, progress
from .host.compat import CATEGORY, RARE, io, schema
from .pictures import batch_text, counted, size_of, to_core
from .types import FIREEDIT_TOOLTIP, DetectorType, FireEditType, RegionsType, RegionTokensType

logger = logging.getLogger("fireedit")

DETECT, TOKENIZE = "FireEdit Region Detect", "FireEdit Region Tokenize"
_SHOWN = 8  # kinds of things that the line under the node names


class FireEditRegionDetect(io.ComfyNode):
    """IMAGE -> REGIONS."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditRegionDetect",
            display_name=DETECT,
            category=f"{CATEGORY}/regions",
            description="Finds the things in a picture that an instruction may talk about. One detection serves any number of "
            "instructions.",
            search_aliases=["detect", "boxes", "region proposal"],
            inputs=[
                io.Image.Input("image", tooltip="The picture to edit, or a batch of pictures of one size."),
                io.Float.Input(
                    "score_threshold", default=0.15, min=0.0, max=1.0, step=0.01,
                    tooltip="Regions that the detector is less sure of are dropped. Lower finds more, also wrong ones. 0.15 suits the "
                    "bundle's detector, 0.4 photo-detector.",
                ),
                io.Float.Input(
                    "iou_threshold", default=0.6, min=0.0, max=1.0, step=0.01, **RARE,
                    tooltip="Of two regions that overlap by more than this share, only the better stays.",
                ),
                io.Int.Input(
                    "max_regions", default=100, min=1, max=300, **RARE,
                    tooltip="At most this many regions per picture, best first.",
                ),
                FireEditType.Input(
                    "fireedit", optional=True, tooltip="A FireEdit bundle, whose detector looks. Not needed where a detector is connected."
                ),
                DetectorType.Input(
                    "detector", optional=True,
                    tooltip="From FireEdit Detector Loader: the one for photographs that comes with the pack, or one of your own.",
                ),
                io.String.Input(
                    "prompt", default="", optional=True,
                    tooltip="What to look for, separated by commas. Only for detectors that read one (Grounding DINO, OWLv2).",
                ),
            ],
            outputs=[
                RegionsType.Output(
                    display_name="regions", tooltip="Boxes with scores, one set per picture. May be empty."
                )
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, fireedit=None, image=None, score_threshold=0.15, iou_threshold=0.6, max_regions=100, detector=None, prompt=""
    ) -> io.NodeOutput:  # fmt: skip
        """Detect picture by picture, so that progress and cancel work within a batch."""
        from fireedit_core.regions.detector import detect_each

        pictures = to_core(image, DETECT)
        if detector is None and fireedit is None:
            raise FireEditNodeError(
                DETECT,
                "nothing is there to look with. Connect detector of FireEdit Detector Loader (photographs), or fireedit of FireEdit "
                "Loader (the bundle's own detector).",
            )
        if detector is None and not fireedit.editor.detects:
            raise FireEditNodeError(
                DETECT, f"the detector of the bundle {fireedit.name} is not trained and finds nothing. Connect one of FireEdit Detector "
                "Loader to detector.",
            )  # fmt: skip
        chosen, patcher = (fireedit.editor.detector, fireedit.detector) if detector is None else (detector.detector, detector.patcher)
        models.use(patcher)
        bar = comfy.utils.ProgressBar(pictures.shape[0])

        def step(done: int) -> None:
            bar.update_absolute(done)
            if 0 < done < pictures.shape[0]:
                progress.say(f"looking for regions, {done} of {batch_text(pictures.shape[0])} done")
            models.check_interrupted()

        models.check_interrupted()
        progress.say("looking for regions")
        with named(DETECT):
            found = detect_each(chosen, pictures, score_threshold, iou_threshold, max_regions, prompt or "", step)
        text = "\n".join(_describe(i, regions, len(found)) for i, regions in enumerate(found))
        if any(not len(regions) for regions in found):
            logger.warning("%s: %s", DETECT, text)
        return io.NodeOutput(found, ui=progress.report(text))


def _describe(index: int, regions: Regions, count: int) -> str:
    name = "" if count == 1 else f"picture {index + 1}: "
    if not len(regions):
        return f"{name}no region found; the whole picture will stand as one region. Lower score_threshold to find more."
    kinds = Counter(label for label in regions.labels if label != OBJECT_LABEL)
    kinds_text = f" ({', '.join(f'{count} {label}' for label, count in kinds.most_common(_SHOWN))})" if kinds else ""
    return f"{name}{counted(len(regions), 'region')}{kinds_text}, best score {float(regions.scores.max()):.2f}"


class FireEditRegionTokenize(io.ComfyNode):
    """IMAGE + REGIONS -> REGION_TOKENS."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditRegionTokenize",
            display_name=TOKENIZE,
            category=f"{CATEGORY}/regions",
            description="Turns the picture and its regions into tokens that the language model reads. Does not depend on the "
            "instruction, so it need not run again when only the text changes.",
            search_aliases=["region tokens", "encode regions", "image tokens"],
            inputs=[
                FireEditType.Input("fireedit", tooltip=FIREEDIT_TOOLTIP),
                io.Image.Input("image", tooltip="The same picture that the regions were detected on."),
                RegionsType.Input("regions", tooltip="Regions of this picture, from FireEdit Region Detect."),
            ],
            outputs=[
                RegionTokensType.Output(
                    display_name="region_tokens",
                    tooltip="Region tokens, image tokens and vision features, for FireEdit VLM Conditioning.",
                )
            ],
        )

    @classmethod
    def execute(cls, fireedit, image, regions) -> io.NodeOutput:
        """Run both vision towers once and pool the regions."""
        pictures = to_core(image, TOKENIZE)
        check_regions(regions, pictures, TOKENIZE)
        models.use(fireedit.vision)
        models.check_interrupted()
        progress.say("reading the picture")
        tokens = fireedit.editor.tokenize(pictures, regions)
        return io.NodeOutput(models.to_intermediate(tokens), ui=progress.report(_tokens_text(tokens)))


def _tokens_text(tokens) -> str:  # noqa: ANN001
    grid, regions = tokens.token_grid, sum(len(one) for one in tokens.regions)
    return f"{counted(regions, 'region token')}, {grid[0]} x {grid[1]} image tokens of {batch_text(len(tokens))}"


def check_regions(regions: list[Regions], pictures, node: str) -> None:
    """One `Regions` per picture, of its size.

    Raises:
        FireEditNodeError: naming both sizes or numbers, and the link that mends it.
    """
    mend = "Connect the same picture here and to FireEdit Region Detect."
    if len(regions) != pictures.shape[0]:
        raise FireEditNodeError(
            node, f"{batch_text(pictures.shape[0])} came, but regions of {batch_text(len(regions))}. {mend}"
        )
    with named(node, mend):
        for one in regions:
            one.check_image(size_of(pictures))
