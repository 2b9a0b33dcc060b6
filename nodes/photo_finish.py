# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEditPhotoFinish: an edited crop back into its photograph, aligned, toned, and bit for bit the photo's own outside."""

from __future__ import annotations

import torch
from comfy.utils import ProgressBar
from torch import Tensor

from fireedit_core.photo.finish import FEATHER, GROW, NothingDiffers, finish
from fireedit_core.photo.frame import PhotoFrame

from .errors import FireEditNodeError, check_choice, named
from .host import models, progress
from .host.compat import CATEGORY, RARE, io, schema
from .pictures import batch_text, counted, is_blank, to_core, with_alpha, without_alpha
from .types import PhotoFrameType

NAME = "FireEdit Photo Finish"
_SWITCHES = {"align": ("auto", "off"), "tone": ("on", "off")}


class FireEditPhotoFinish(io.ComfyNode):
    """IMAGE + PHOTO_FRAME + edited IMAGE (+ MASK) -> IMAGE, MASK, report."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditPhotoFinish",
            display_name=NAME,
            category=f"{CATEGORY}/photo",
            description="Brings what an edit model made of FireEdit Photo Crop's picture back into the photograph at its own size: undoes "
            "its shift, zoom and drift of colours, and pastes the edit within the mask. Outside, every value stays the photo's own.",
            search_aliases=["stitch", "paste", "composite", "uncrop", "pixel shift", "align", "color match", "seam", "photo"],
            inputs=[
                # first, so that a bypassed node passes it on, and not the photograph as if it were edited
                io.Image.Input(
                    "edited",
                    tooltip="What the edit model made of the crop: the picture of VAE Decode. Another size of the same shape is scaled "
                    "back. Several edits of one crop give as many finished photographs.",
                ),
                io.Image.Input("original", tooltip="The photograph that went into FireEdit Photo Crop, unchanged; its alpha is kept."),
                PhotoFrameType.Input("frame", tooltip="The frame of FireEdit Photo Crop for this photograph."),
                io.Mask.Input(
                    "mask", optional=True,
                    tooltip="Where it was to change, at the photo's size or the crop's (mask of FireEdit Photo Crop). Without one, what "
                    "differs is found.",
                ),
                io.Combo.Input(
                    "align", options=list(_SWITCHES["align"]), default="auto", optional=True,
                    tooltip="auto: undo a shift, zoom or bend that is found for sure, to a fraction of a pixel; another picture is "
                    "refused. off: paste it where it is.",
                ),
                io.Combo.Input(
                    "tone", options=list(_SWITCHES["tone"]), default="on", optional=True,
                    tooltip="on: take back the drift of colours that is seen outside of the mask.",
                ),
                io.Float.Input(
                    "grow", default=GROW, min=0, max=256, step=1, round=0.01, optional=True,
                    tooltip="Pixels of the crop by which the mask is made wider, for what an edit does around its thing.", **RARE,
                ),
                io.Float.Input(
                    "feather", default=FEATHER, min=0, max=256, step=1, round=0.01, optional=True,
                    tooltip="Pixels of the crop over which the edit then fades into the photo.", **RARE,
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The finished photograph, at the original's size."),
                io.Mask.Output(display_name="mask", tooltip="With what weight the edit was pasted; black is the photo's own, bit for bit."),
                io.String.Output(display_name="report", tooltip="Shift, zoom, colours, what is seen of the seam, and what changed where."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, original, frame, edited, mask=None, align="auto", tone="on", grow=GROW, feather=FEATHER
    ) -> io.NodeOutput:  # fmt: skip
        """Picture by picture; a frame belongs to one photograph."""
        for name, value in (("align", align), ("tone", tone)):
            check_choice(NAME, name, value, _SWITCHES[name])
        to_core(without_alpha(original), NAME)
        originals = list(models.intermediate(with_alpha(original, NAME)))
        edits, frames = list(to_core(edited, NAME).movedim(1, -1)), _frames(frame)
        count = len(edits)
        if len(originals) != len(frames) or count != len(originals) and len(originals) > 1:
            raise FireEditNodeError(
                NAME,
                f"{batch_text(len(originals))} came as original, {counted(len(frames), 'frame')}, and {batch_text(count)} as edited. Each "
                "photograph needs its frame and its edit; only for a single photograph may there be several edits.",
            )
        masks = _masks(mask, count)
        bar, made = ProgressBar(count), []
        for i, one in enumerate(edits):
            models.check_interrupted()
            progress.say(f"finishing picture {i + 1} of {count}" if count > 1 else "finishing")
            at = i % len(originals)
            job = (originals[at], frames[at], one, masks[i], align == "auto", tone == "on", grow, feather, models.check_interrupted)
            with named(NAME if count == 1 else f"{NAME}: picture {i + 1}"):
                made.append(_finished(job, count > 1))
            bar.update(1)
        pictures, weights, reports = zip(*made, strict=True)
        text = reports[0] if count == 1 else "\n".join(f"picture {i + 1}: {one}" for i, one in enumerate(reports))
        # one large photograph is not copied once more
        image = pictures[0][None] if count == 1 else torch.stack(pictures)
        return io.NodeOutput(image, models.intermediate(torch.stack(weights)), text, ui=progress.report(text))


def _frames(frame: list[PhotoFrame] | PhotoFrame) -> list[PhotoFrame]:
    frames = list(frame) if isinstance(frame, (list, tuple)) else [frame]
    if not frames or not all(isinstance(one, PhotoFrame) for one in frames):
        raise FireEditNodeError(NAME, f"frame is no PHOTO_FRAME but {type(frame).__name__}. Connect frame of FireEdit Photo Crop.")
    return frames


def _finished(job: tuple, others: bool) -> tuple[Tensor, Tensor, str]:
    """(image, mask, report) of the arguments of `finish`.

    Where there are `others`, a photo in which nothing is marked or has changed stays as it came: the whole batch has been sampled by now.
    """
    original, frame, _, mask, *_ = job
    if mask is not None and not bool((mask > 0).any()):
        why = "nothing of it is marked here"
    else:
        try:
            made = finish(*job)
            return made.image, made.mask, made.report
        except NothingDiffers:
            if not others:
                raise
            why = "no mask came, and the edited picture does not differ from it"
    frame.check(original)
    image = original.expand(*original.shape[:2], 3) if original.shape[-1] == 1 else original
    return image, torch.zeros(frame.size, device=original.device), f"{why}; the photo stays as it is"


def _masks(mask: Tensor | None, count: int) -> list[Tensor | None]:
    """A mask for each edit; None for all where there is none, or a black one, as Load Image gives it for a picture without transparency.

    A black one beside others says that nothing of its own picture was to change.
    """
    if is_blank(mask, NAME):
        return [None] * count
    mask = mask[None] if mask.ndim == 2 else mask
    if mask.ndim != 3 or mask.shape[0] not in (1, count):
        raise FireEditNodeError(NAME, f"the mask has shape {tuple(mask.shape)} for {batch_text(count)}. Connect one for all, or one each.")
    return list(models.intermediate(mask.expand(count, -1, -1)))
