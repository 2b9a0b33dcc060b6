# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEditGround: which regions an instruction means, by words or a language model; the answer is a text that can be kept, corrected and
given back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import comfy.utils
import torch

from fireedit_core.grounding import Grounding, answers_from_json, answers_to_json, from_answer, ground
from fireedit_core.regions.record import Regions
from fireedit_core.thumbnail import fingerprint

from .detection import check_regions
from .errors import FireEditNodeError, named, warned
from .host import models, progress
from .host.compat import CATEGORY, io, schema
from .pictures import size_of, to_core
from .types import GrounderType, RegionsType

NAME = "FireEdit Ground"
_BLACK = "The mask is black, since those that came with the region are: have FireEdit Region Masks make them."
_IN_FRONT = "The mask is what stays in front: for an edit model connect the answer to FireEdit Photo Crop too, which turns it around."


class FireEditGround(io.ComfyNode):
    """IMAGE + REGIONS + an instruction -> REGIONS, MASK and the answer."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditGround",
            display_name=NAME,
            category=f"{CATEGORY}/regions",
            description="Finds the regions that an instruction means: by name, colour, size, side, order and neighbours. Reads what kind "
            "of edit it is, what should appear and what must stay. English, and no model runs; with a language model as grounder any "
            "language, and things that no detector knows.",
            search_aliases=["grounding", "referring", "text to mask", "words to regions", "find object", "vlm"],
            inputs=[
                io.Image.Input("image", tooltip="The picture to edit, or a batch of pictures of one size."),
                io.String.Input(
                    "instruction", default="", multiline=True,
                    tooltip='What to do, in English, or in any language with a grounder: "remove the man on the right", "make the '
                    'motorcycle blue", "blur the background". One instruction for all pictures of a batch.',
                ),
                RegionsType.Input(
                    "regions",
                    tooltip="Regions of this picture with names, from FireEdit Region Detect with a detector that names things; with "
                    "masks, from FireEdit Region Masks, the mask has their outline.",
                ),
                io.String.Input(
                    "answer", default="", multiline=True,
                    tooltip="Empty: the instruction is read. Filled: this answer is used as it is and nothing is read, for example one "
                    'that came out of this node and was corrected: {"kind": "remove", "thing": "cat", "targets": [{"box": [x1, y1, x2, '
                    'y2], "score": 1.0}], "after": "", "keep": []}. A list of such records answers for a batch.',
                ),
                GrounderType.Input(
                    "grounder", optional=True,
                    tooltip="A language model that sees, from FireEdit Grounder Loader. It is shown the regions as numbered boxes, and can "
                    "name things that have none. Where its answer cannot be used, words are read, and the report says so.",
                ),
            ],
            outputs=[
                RegionsType.Output(
                    display_name="regions",
                    tooltip="All regions, best first; the score is the probability that the instruction means the region.",
                ),
                io.Mask.Output(
                    display_name="mask",
                    tooltip="What is meant, as one mask: the regions' masks, or their boxes where they have none. White where the whole "
                    "picture is meant.",
                ),
                io.String.Output(
                    display_name="answer",
                    tooltip="What was understood, as JSON: kind, thing, targets, after, keep. It can be edited and given back to the "
                    "answer input.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, image, instruction, regions, answer="", grounder=None) -> io.NodeOutput:
        """Ground every picture of the batch by the same words."""
        pictures = to_core(image, NAME)
        check_regions(regions, pictures, NAME)
        count = pictures.shape[0]
        if not isinstance(answer or "", str):
            raise FireEditNodeError(NAME, f"the answer must be text, got {type(answer).__name__}. Empty it to have the instruction read.")
        found: list[Grounding] = []
        if (answer or "").strip():
            with named(NAME, "Empty the answer to have the instruction read instead."):
                records = answers_from_json(answer, [size_of(pictures)] * count)
                found = [from_answer(record, one) for record, one in zip(records, regions, strict=True)]
        else:
            if grounder is not None:
                models.check_interrupted()
                grounder.use()
            for index, one in enumerate(regions):
                models.check_interrupted()
                with named(NAME if count == 1 else f"{NAME}: picture {index + 1} of {count}"):
                    made = _grounded(pictures[index], instruction or "", one, grounder, index, count)
                known = made.answer.picture or fingerprint(pictures[index])
                found.append(replace(made, answer=replace(made.answer, picture=known)))
        masks = models.intermediate(torch.stack([one.mask for one in found]))
        said = []
        for one, picture in zip(found, pictures, strict=True):
            notes = [_IN_FRONT] if one.answer.kind == "background" and one.answer.targets else []
            notes += [_BLACK] if one.answer.targets and not bool(one.mask.any()) else []
            notes += warned(NAME, one.answer.doubt(picture))
            said.append(" ".join([one.message, *notes]))
        text = "\n".join(one if count == 1 else f"picture {i + 1}: {one}" for i, one in enumerate(said))
        answers = answers_to_json([one.answer for one in found])
        return io.NodeOutput([one.regions for one in found], masks, answers, ui=progress.report(text))


def _grounded(picture: torch.Tensor, instruction: str, regions: Regions, grounder: Any, index: int, count: int) -> Grounding:
    """One picture, by words, or by the model with its tokens on the host's bar."""
    if grounder is None:
        return ground(picture, instruction, regions)
    from fireedit_core.grounding.by_model import MOST_TOKENS, ground_by_model

    which = "" if count == 1 else f", picture {index + 1} of {count}"
    progress.say(f"the language model looks{which}")
    bar = comfy.utils.ProgressBar(MOST_TOKENS)

    def written(tokens: int) -> None:
        models.check_interrupted()
        bar.update_absolute(min(tokens, MOST_TOKENS))
        if tokens % 16 == 0:
            progress.say(f"the language model answers{which}, {tokens} tokens")

    return ground_by_model(grounder.model, picture, instruction, regions, written)
