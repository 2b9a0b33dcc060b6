# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEditMultiTurn: several instructions one after the other, without the picture wearing out."""

from __future__ import annotations

import torch

from fireedit_core.diffusion.compositing import edit_mask, next_source
from fireedit_core.instructions import has_words, read
from fireedit_core.regions.record import Regions

from .conditioning import FireEditVLMConditioning
from .detection import FireEditRegionDetect, FireEditRegionTokenize
from .errors import FireEditNodeError
from .host import models, progress
from .host.compat import CATEGORY, RARE, io, schema
from .pictures import to_core, to_host
from .sampling import KEEP_OUTSIDE, FireEditSample, check_choices, choices_are_known, guidance_inputs, sampling_inputs
from .types import FIREEDIT_TOOLTIP, FireEditType

NAME = "FireEdit Multi Turn"


def understood(made: io.NodeOutput) -> str:
    """What FireEdit VLM Conditioning reported of a turn, as the beginning of a line."""
    lines = [line for line in (made.ui or {}).get("text", ()) for line in str(line).splitlines()]
    return "; ".join(lines) + "; " if lines else ""


class FireEditMultiTurn(io.ComfyNode):
    """IMAGE + a list of instructions -> every turn's picture."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditMultiTurn",
            display_name=NAME,
            category=f"{CATEGORY}/sampling",
            description="Edits by one instruction after the other, one per line. Before each turn, everything that no turn has "
            "touched is taken from the original again, so that the picture does not wear out.",
            search_aliases=["chain", "several edits", "session", "conversation"],
            inputs=[
                FireEditType.Input("fireedit", tooltip=FIREEDIT_TOOLTIP),
                io.Model.Input("model", tooltip="The MODEL of FireEdit Apply."),
                io.Vae.Input("vae", tooltip="The VAE of FireEdit Loader."),
                io.Image.Input("image", tooltip="The picture to edit, or a batch of pictures of one size."),
                io.String.Input(
                    "instructions", multiline=True, default="",
                    tooltip="One instruction per line, in the order in which they are carried out. A line that asks for several edits "
                    "('remove the cat and make the apple red') is taken apart. Each goes to all pictures of a batch.",
                ),
                *sampling_inputs(),
                *guidance_inputs(),
                io.Combo.Input(
                    "keep_outside", options=KEEP_OUTSIDE, default="exact",
                    tooltip="In each turn, outside of where its instruction points. exact: the pixels before this turn, bit for bit. soft: "
                    "held while sampling. off: what the model makes of it; only the next turn starts clean again.",
                ),
                io.Float.Input(
                    "score_threshold", default=0.15, min=0.0, max=1.0, step=0.01, **RARE,
                    tooltip="As on FireEdit Region Detect; regions are detected anew in every turn.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The picture after the last turn."),
                io.Image.Output(display_name="turns", tooltip="The picture after every turn, as a batch: all of turn 1 first."),
                io.Mask.Output(display_name="touched", tooltip="Where any turn was meant to change something."),
                io.String.Output(display_name="report", tooltip="What each turn understood, and what it changed."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, sampler_name=None, scheduler=None, keep_outside=None):
        """As FireEdit Sample."""
        return choices_are_known(NAME, sampler_name, scheduler, keep_outside)

    @classmethod
    def execute(
        cls, fireedit, model, vae, image, instructions, seed, steps, sampler_name, scheduler, text_guidance, image_guidance,
        keep_outside, score_threshold,
    ) -> io.NodeOutput:  # fmt: skip
        """The nodes of a single edit, turn by turn."""
        check_choices(NAME, sampler_name, scheduler, keep_outside)
        requests = [read(line) for line in instructions.splitlines() if line.strip()]
        lines = [edit for request in requests for edit in request.edits]
        kept = [clause for request in requests for clause in request.kept]
        if not lines or not all(map(has_words, lines)):
            said = f"there is nothing to be done in {instructions.strip()!r}" if instructions.strip() else "there is no instruction"
            raise FireEditNodeError(NAME, f"{said}. Write one per line, for example 'remove the apple'.")
        original = to_core(image, NAME)
        current, touched = original, torch.zeros_like(original[:, 0])
        turns, said = [], []
        for number, line in enumerate(lines):
            models.check_interrupted()
            source = to_host(current)
            try:
                with progress.stage(f"turn {number + 1} of {len(lines)}"):
                    if fireedit.editor.detects and fireedit.editor.grounds:
                        regions = FireEditRegionDetect.execute(fireedit, source, score_threshold, 0.6, 100)[0]
                    else:  # nothing says where: the whole picture is edited
                        regions = [Regions.empty((int(source.shape[1]), int(source.shape[2])))] * len(source)
                    tokens = FireEditRegionTokenize.execute(fireedit, source, regions)[0]
                    made = FireEditVLMConditioning.execute(fireedit, tokens, source, vae, line, 0)
                    positive, image_only, negative, _, grounding, _ = made.args
                    _, edited, report = FireEditSample.execute(
                        model, positive, image_only, negative, vae, source, (seed + number) % 2**64, steps, sampler_name, scheduler,
                        text_guidance, image_guidance, 1.0, keep_outside, grounding,
                    ).args  # fmt: skip
            except FireEditNodeError as error:
                raise FireEditNodeError(NAME, f"turn {number + 1} ({line!r}): {error}") from error
            turns.append(edited)
            said.append(f"{number + 1}. {line}: {understood(made)}{report}")
            if keep_outside == "exact":  # already the source outside the mask, and the tone of the edit matched
                current = to_core(edited, NAME)
                touched = torch.maximum(touched, edit_mask(grounding).to(touched))
            else:
                current, touched = next_source(original, to_core(edited, NAME).to(original), edit_mask(grounding).to(original), touched)
        said += [f"left alone: {clause}" for clause in kept]
        text = "\n".join(said)
        return io.NodeOutput(turns[-1], torch.cat(turns), models.intermediate(touched), text, ui=progress.report(text))
