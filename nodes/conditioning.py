# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEditVLMConditioning: an instruction over region tokens becomes three conditionings (design D3)."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import comfy.conds
import torch

from fireedit_core.diffusion.compositing import WorkingSize
from fireedit_core.diffusion.reconstruction import about_foreign, coarse_error, foreign
from fireedit_core.grounding.answer import regions_meant
from fireedit_core.instructions import read
from fireedit_core.thumbnail import same_picture, thumbnail

from .errors import FireEditNodeError, named, warned
from .host import models, progress
from .host.compat import CATEGORY, RARE, io, schema
from .host.patching import GATE, VISUAL, WHERE, SpatialCond
from .pictures import batch_text, check_mask, counted, is_blank, size_of, to_core, to_host
from .types import FIREEDIT_TOOLTIP, FireEditType, RegionsType, RegionTokensType

if TYPE_CHECKING:
    from fireedit_core.editor import EditConditions

logger = logging.getLogger("fireedit")

NAME = "FireEdit VLM Conditioning"
WORKING_SIZE = "fireedit_working_size"  # in the conditionings, so that FireEditSample finds the picture's way back
PICTURE = "fireedit_picture"  # the same, its thumbnail, so that FireEditSample sees that another picture came


class FireEditVLMConditioning(io.ComfyNode):
    """REGION_TOKENS + IMAGE + VAE + instruction -> positive, image_only, negative, latent, grounding, regions."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditVLMConditioning",
            display_name=NAME,
            category=f"{CATEGORY}/conditioning",
            description="Reads the instruction over the picture: gives the three conditionings of dual guidance, and says where "
            "the edit will land.",
            search_aliases=["instruction", "prompt", "edit", "grounding"],
            inputs=[
                FireEditType.Input("fireedit", tooltip=FIREEDIT_TOOLTIP),
                RegionTokensType.Input("region_tokens", tooltip="From FireEdit Region Tokenize, of this picture."),
                io.Image.Input("image", tooltip="The picture to edit, the same that was tokenized."),
                io.Vae.Input("vae", tooltip="The VAE of FireEdit Loader; it encodes the source picture for the UNet."),
                io.String.Input(
                    "instruction", multiline=True, default="",
                    tooltip="What to change, e.g. 'remove the red apple'. For a batch of pictures: one text for all, or as many "
                    "lines as pictures.",
                ),
                io.Int.Input(
                    "working_size", default=0, min=0, max=4096, step=8, **RARE,
                    tooltip="Long side in pixels at which the model works; the result always comes back at the picture's own "
                    "size. 0 is the size that the bundle was trained for.",
                ),
                io.Mask.Input(
                    "mask", optional=True,
                    tooltip="Edit here instead of where the instruction seems to point: a mask at the picture's size, e.g. the "
                    "grounding output after some painting. A black one counts as none.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="Instruction and picture."),
                io.Conditioning.Output(
                    display_name="image_only", tooltip="The picture without the instruction: cond2 of DualCFGGuider."
                ),
                io.Conditioning.Output(display_name="negative", tooltip="Neither instruction nor picture."),
                io.Latent.Output(
                    display_name="latent", tooltip="An empty latent of the working size, for KSampler or SamplerCustomAdvanced."
                ),
                io.Mask.Output(
                    display_name="grounding",
                    tooltip="Soft mask at the picture's size: where the edit is expected to land.",
                ),
                RegionsType.Output(
                    display_name="regions",
                    tooltip="The regions, with the probability of being the one that is meant as score, best first.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, fireedit, region_tokens, image, vae, instruction, working_size, mask=None) -> io.NodeOutput:
        """One pass of the language model per batch, one encoding of the source."""
        from fireedit_core.editor import check_instructions

        pictures = to_core(image, NAME)
        count, size = pictures.shape[0], size_of(pictures)
        if len(region_tokens) != count or region_tokens.image_size != size:
            height, width = region_tokens.image_size
            raise FireEditNodeError(
                NAME,
                f"the region tokens belong to {batch_text(len(region_tokens))} of height {height} and width {width}, but "
                f"{batch_text(count)} of height {size[0]} and width {size[1]} came. Connect the same picture here, to FireEdit "
                "Region Detect and to FireEdit Region Tokenize.",
            )
        shown = thumbnail(pictures)
        if not same_picture(shown, region_tokens.thumbnail):
            raise FireEditNodeError(
                NAME, "the region tokens are of another picture of the same size: the edit would be a mixture of both. Connect the same "
                "picture here, to FireEdit Region Detect and to FireEdit Region Tokenize.",
            )  # fmt: skip
        with named(NAME):
            asked = split_instruction(instruction, count)
            instructions = check_instructions(asked, count)
        # a black mask is what Load Image gives for a picture without one, and Region Select when nothing is forced
        chosen = None if is_blank(mask, NAME) else check_mask(mask, pictures, NAME)
        progress.say("reading the instruction")
        fireedit.use_readers()
        models.check_interrupted()
        with named(NAME):
            conditions = fireedit.editor.condition(region_tokens, instructions)
        if chosen is not None:
            own = chosen.to(conditions.mask)
            conditions = replace(conditions, mask=torch.where(own.amax((1, 2), keepdim=True) > 0, own, conditions.mask))
        side = working_size or int(fireedit.options["native_size"])
        plan = WorkingSize.plan(size, side)
        progress.say("encoding the source picture")
        shrunk = plan.shrink(pictures)
        source = vae.encode(to_host(shrunk))
        expected = (plan.padded[0] // 8, plan.padded[1] // 8)
        if source.ndim != 4 or tuple(source.shape[-2:]) != expected:
            raise FireEditNodeError(
                NAME, f"this VAE made a latent of shape {tuple(source.shape)} instead of {expected} cells. Connect the VAE of "
                "FireEdit Loader.",
            )  # fmt: skip
        where = plan.mask_on_latents(conditions.mask)
        strange = what_is_foreign(fireedit, vae, source, shrunk)
        text = "\n".join([report(fireedit, conditions, instructions, asked, strange), *about_the_mask(mask, chosen)])
        return io.NodeOutput(
            *conditionings(conditions, where, source, side, shown),
            {"samples": torch.zeros_like(source)},
            models.intermediate(conditions.mask),
            conditions.regions,
            ui=progress.report(text)
            | {"fireedit_meant": [for_the_picker(conditions)], "fireedit_foreign": [i in strange for i in range(count)]},
        )


def for_the_picker(conditions: EditConditions) -> str:
    """Boxes of the first picture and how likely each is meant, as JSON for web/region_select.js."""
    first = conditions.regions[0]
    return json.dumps({"boxes": first.boxes.tolist(), "scores": [round(float(s), 4) for s in first.scores]})


def split_instruction(text: str, pictures: int) -> list[str]:
    """For a batch one instruction per line, or a single line for all pictures; for one picture, all lines together.

    Raises:
        ValueError: for a batch whose lines are neither one nor as many as the pictures, or of which one is empty.
    """
    lines = [" ".join(line.split()) for line in text.strip().splitlines()]
    if pictures == 1 or len(lines) <= 1:
        return [" ".join(line for line in lines if line)]
    if len(lines) != pictures:
        raise ValueError(f"{len(lines)} lines came for {pictures} pictures. Write one line for all, or one line per picture.")
    if "" in lines:
        raise ValueError(f"line {lines.index('') + 1} is empty. Write one line per picture, each with an instruction.")
    return lines


def about_the_mask(mask: torch.Tensor | None, chosen: torch.Tensor | None) -> list[str]:
    """What is to be said of the mask input: that a black one counts as none, and that a faint one edits faintly or not at all."""
    if mask is None:
        return []
    if chosen is None:
        return ["the mask is black and counts as none: the edit lands where the instruction points"]
    faint = [i + 1 for i, one in enumerate(chosen) if 0 < float(one.max()) <= 0.5]
    if not faint:
        return []
    warning = f"the mask is nowhere brighter than {float(chosen.max()):.2f}: what is 0.5 or less does not count as edited. Paint it opaque"
    return warned(NAME, warning)


def conditionings(
    conditions: EditConditions, where: torch.Tensor, source: torch.Tensor, working_size: int, picture: torch.Tensor | None = None
) -> tuple[list, list, list]:
    """positive, image_only and negative in the host's form: [[e, options]], same keys and shapes (design D3).

    Args:
        where: (B, 1, h, w) share of each latent cell that the edit is expected to cover.
        source: unscaled latents (B, C, h, w) of the source at working size. picture: `thumbnail` of the pictures.
    """
    embedding = models.intermediate(conditions.edit_embedding)
    null = models.intermediate(conditions.null_embedding).expand_as(embedding).clone()
    visual = models.intermediate(conditions.visual)
    where = models.intermediate(where)
    gate = torch.ones(embedding.shape[0], 1, device=embedding.device)

    def make(tensor, v, on, latent=None):
        options = {
            "model_conds": {
                VISUAL: comfy.conds.CONDRegular(v),
                WHERE: SpatialCond(where * on),
                GATE: comfy.conds.CONDRegular(gate * on),
            },
            WORKING_SIZE: working_size,
        }
        if picture is not None:
            options[PICTURE] = picture
        if latent is not None:
            options["concat_latent_image"] = latent
        return [[tensor, options]]

    return (
        make(embedding, visual, 1.0, source),
        make(null, models.intermediate(conditions.visual_image_only), 0.0, source),
        make(null, torch.zeros_like(visual), 0.0),
    )


def what_is_foreign(fireedit, vae, source: torch.Tensor, pictures: torch.Tensor) -> dict[int, str]:
    """What is to be said of pictures that are not of the bundle's world (design D16), by their number in the batch.

    Args:
        source: their latents (B, C, h, w) by `vae`. pictures: (B, 3, H, W) in 0..1 as they were encoded.
    """
    limit = float(fireedit.options["reconstruction_limit"])
    if not limit:
        return {}
    given_back = vae.decode(source)
    if given_back.ndim != 4 or given_back.shape[1:3] != pictures.shape[2:]:
        return {}
    errors = coarse_error(given_back[..., :3].movedim(-1, 1).to(pictures), pictures)
    return {index: about_foreign(fireedit.name, float(errors[index]), limit) for index in foreign(errors, limit)}


def about_untrained(fireedit) -> str:
    """What of a bundle is left out because it is not trained yet, what takes its place, and the numbers that it edits with."""
    editor, options = fireedit.editor, fireedit.options
    reads = "; CLIP reads the instruction" if editor.reads_with_clip else ""
    lands = "" if editor.grounds else "; the edit lands in the regions of a score of at least 0.5 (FireEdit Ground), else the best"
    return (
        f"the bundle {fireedit.name} is not trained yet: {', '.join(sorted(editor.untrained))} left out{reads}{lands}. It edits with "
        f"text_guidance {options['text_guidance']:g}, image_guidance {options['image_guidance']:g}, {options['steps']} steps"
    )


def report(
    fireedit, conditions: EditConditions, instructions: list[str], asked: list[str], strange: Mapping[int, str] = MappingProxyType({})
) -> str:  # fmt: skip
    """What was understood: the likeliest region and the size of the mask per picture, unknown words, several edits in one.

    Args:
        instructions: as the model reads them. asked: as they were written. strange: see `what_is_foreign`.
    """
    lines = []
    for index, (regions, mask) in enumerate(zip(conditions.regions, conditions.mask)):
        name = "" if len(conditions.regions) == 1 else f"picture {index + 1}: "
        if not fireedit.editor.grounds:
            count = len(regions_meant(regions))
            chosen = f"edited in {count} of {counted(len(regions), 'region')}"
            meant = chosen if count else f"no region{' is meant' if len(regions) else ''}, so the whole picture is edited"
        elif len(regions):
            box = ", ".join(f"{float(v):.0f}" for v in regions.boxes[0])
            sure = f"{float(regions.scores[0]):.2f}"
            meant = f"most likely region ({box}), " + (f"the bundle's own guess {sure}" if index in strange else f"probability {sure}")
        else:
            meant = "no regions, the whole picture was read"
        lines.append(f"{name}{meant}; the edit covers about {float((mask > 0.5).float().mean()):.0%} of the picture")
        if index in strange:
            logger.warning("%s: %s%s", NAME, name, strange[index])
            lines.append(f"{name}{strange[index]}")
    if fireedit.editor.untrained:
        lines.append(about_untrained(fireedit))
    unknown = sorted({word for text in instructions for word in fireedit.editor.unknown_words(text)})
    if unknown:
        warning = f"not understood by the bundle {fireedit.name}: {', '.join(unknown)}"
        logger.warning("%s: %s", NAME, warning)
        lines.append(f"Words {warning}")
    for text in dict.fromkeys(instructions):
        unread = fireedit.editor.unread_text(text)
        if unread:
            warning = f"the bundle {fireedit.name} reads {fireedit.editor.text_limit} tokens of an instruction; cut off: {unread!r}"
            lines += warned(NAME, warning)
        request = read(text)
        if len(request.edits) > 1:
            lines.append(f"{text!r} asks for {len(request.edits)} edits; FireEdit Multi Turn carries them out one after the other")
        lines += [f"{edit!r} does not say with what: name the thing, for example '{edit.split()[0]} the apple'" for edit in request.vague]
    for text in dict.fromkeys(asked):
        lines += [f"left alone: {clause}" for clause in read(text).kept]
    return "\n".join(lines)
