# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEditRegionDetect and FireEditRegionTokenize: from a picture to regions and region tokens."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace

import comfy.utils

from fireedit_core.grounding import noun_phrase
from fireedit_core.regions.record import OBJECT_LABEL, Regions
from fireedit_core.thumbnail import fingerprint, resembles

from .errors import FireEditNodeError, named
from .host import models, progress
from .host.compat import CATEGORY, RARE, io, schema
from .pictures import batch_text, counted, size_of, to_core
from .types import FIREEDIT_TOOLTIP, DetectorType, FireEditType, RegionsType, RegionTokensType

logger = logging.getLogger("fireedit")

DETECT, TOKENIZE = "FireEdit Region Detect", "FireEdit Region Tokenize"
OWN = -1.0  # a threshold: the detector's own
ANYTHING = "object"  # what to look for where an instruction names no thing: "remove the main object"
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
                    "score_threshold", default=OWN, min=OWN, max=1.0, step=0.01,
                    tooltip="Regions that the detector is less sure of are dropped. -1 takes the number that suits the detector: 0.15 for "
                    "the bundle's, 0.35 for photo-detector, and what its makers use for your own. Lower finds more, also wrong ones.",
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
                io.String.Input(
                    "instruction", default="", optional=True,
                    tooltip="In place of a prompt: what this instruction names is looked for, as in \"remove the red helmet next to the "
                    "bus\". The same text as for FireEdit Ground; only for detectors that read a prompt.",
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
        cls, fireedit=None, image=None, score_threshold=OWN, iou_threshold=0.6, max_regions=100, detector=None, prompt="", instruction=""
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
        threshold = chosen.own_threshold if score_threshold < 0 else score_threshold
        asked = _asked(prompt or "", instruction or "") if chosen.reads_prompt else ""
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
            found = detect_each(chosen, pictures, threshold, iou_threshold, max_regions, asked, step)
        found = [replace(one, picture=fingerprint(picture)) for one, picture in zip(found, pictures, strict=True)]
        text = "\n".join(_describe(i, regions, len(found), threshold, asked) for i, regions in enumerate(found))
        if asked:
            text = f"looked for: {asked}\n{text}"
        elif unread := [name for name, words in (("prompt", prompt), ("instruction", instruction)) if (words or "").strip()]:
            text += (
                f"\n{' and '.join(unread)} did not count: this detector finds what it was trained on. Grounding DINO and OWLv2 (FireEdit "
                "Detector Loader) look for what they are told"
            )
        if any(not len(regions) for regions in found):
            logger.warning("%s: %s", DETECT, text)
        return io.NodeOutput(found, ui=progress.report(text))


def _asked(prompt: str, instruction: str) -> str:
    """What a detector that reads a prompt is asked for: the prompt, or what the instruction names; anything where it names nothing.

    Raises:
        FireEditNodeError: for no words at all, and an instruction that is not read.
    """
    if prompt.strip():
        return prompt.strip()
    if not instruction.strip():
        raise FireEditNodeError(
            DETECT, "this detector looks for what it is told. Write a prompt, for example 'cat, dog', or give instruction the text of "
            "FireEdit Ground."
        )  # fmt: skip
    with named(DETECT, "Or name the things in prompt."):
        return noun_phrase(instruction) or ANYTHING


def _describe(index: int, regions: Regions, count: int, threshold: float, asked: str) -> str:
    name = "" if count == 1 else f"picture {index + 1}: "
    if not len(regions):
        more = ", or ask for something else" if asked else ""
        return (
            f"{name}no region found; the whole picture will stand as one region. Lower score_threshold ({threshold:g} here) to find "
            f"more{more}."
        )
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
    """One `Regions` per picture, of its size, and found on it as far as they know where they were found.

    A picture may have been edited since: regions serve several edits of a photograph one after the other.

    Raises:
        FireEditNodeError: naming both sizes or numbers, and the link that mends it; for masks that are none.
    """
    mend = "Connect the same picture here and to FireEdit Region Detect."
    if not isinstance(regions, (list, tuple)) or not all(isinstance(one, Regions) for one in regions):
        raise FireEditNodeError(
            node, f"regions must be those of a node of FireEdit, got {type(regions).__name__}. Those of other packs come in through "
            "FireEdit Regions from SEGS, from BBOX or from Mask."
        )  # fmt: skip
    if len(regions) != pictures.shape[0]:
        raise FireEditNodeError(
            node, f"{batch_text(pictures.shape[0])} came, but regions of {batch_text(len(regions))}. {mend}"
        )
    with named(node, mend):
        for one in regions:
            one.check_image(size_of(pictures))
    for number, (one, picture) in enumerate(zip(regions, pictures, strict=True), start=1):
        _check_region_masks(one, node)
        if one.picture and not resembles(one.picture, fingerprint(picture)):
            which = "" if len(regions) == 1 else f" (number {number} of {len(regions)})"
            raise FireEditNodeError(
                node, f"the regions were found on another picture than this one{which}: hardly a place of it looks like that one. {mend} "
                "If it was edited since, detect anew on what came out."
            )  # fmt: skip


def _check_region_masks(regions: Regions, node: str) -> None:
    if regions.masks is None or not regions.masks.numel():
        return
    low, high = (float(value) for value in regions.masks.aminmax())  # NaN goes through both
    if not (low >= 0 and high <= 1):
        raise FireEditNodeError(
            node, f"the masks of the regions have values from {low:.4g} to {high:.4g} instead of 0..1, or values that are not numbers. The "
            "node that made them is to be mended, or use the regions of one that gives boxes alone."
        )  # fmt: skip
