# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEditPhotoCrop: the part of a photograph that a model is to edit, on the model's own grid, and the frame that leads back."""

from __future__ import annotations

import torch
from comfy.utils import ProgressBar
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from fireedit_core.grounding.answer import answers_from_json, mask_meant, regions_meant
from fireedit_core.photo.crop import CropSettings, frames_for, mask_on_cells
from fireedit_core.photo.frame import PhotoFrame
from fireedit_core.regions.dialects import to_mask

from .detection import check_regions
from .errors import FireEditNodeError, named, warned
from .host import models, progress
from .host.compat import CATEGORY, RARE, io, schema
from .pictures import check_mask, is_blank, size_of, to_core
from .types import PhotoFrameType, RegionsType

NAME = "FireEdit Photo Crop"


class FireEditPhotoCrop(io.ComfyNode):
    """IMAGE + MASK or REGIONS (+ VAE, answer) -> IMAGE, MASK, LATENT, PHOTO_FRAME."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditPhotoCrop",
            display_name=NAME,
            category=f"{CATEGORY}/photo",
            description="Cuts out of a photograph what is to be edited, with some of its surroundings, and scales it onto the grid that a "
            "model sees: never stretched, never cut by the VAE. FireEdit Photo Finish brings the edit back exactly.",
            search_aliases=["crop", "inpaint crop", "crop and stitch", "kontext image scale", "resize", "photo", "pixel shift"],
            inputs=[
                io.Image.Input(
                    "image", tooltip="A photograph of any size, or a batch. Alpha is left out; Photo Finish keeps the photo's own."
                ),
                io.Mask.Input(
                    "mask", optional=True,
                    tooltip="What is to be edited: of FireEdit Ground, or painted. One for all pictures, or one each. Without a mask and "
                    "without regions the whole picture is.",
                ),
                RegionsType.Input(
                    "regions", optional=True,
                    tooltip="In place of a mask: the regions of FireEdit Ground or FireEdit Region Masks. Those of a score of at least 0.5 "
                    "count, else the best; by their masks, or their boxes where they have none.",
                ),
                io.Vae.Input("vae", optional=True, tooltip="Encodes the crop and gives latent, with the mask as its noise mask."),
                io.String.Input(
                    "answer", optional=True, force_input=True,
                    tooltip="The answer of FireEdit Ground: where it is a new background, mask or regions are what stays in front, and all "
                    "else is to be edited.",
                ),
                io.Float.Input(
                    "megapixels", default=1.0, min=0.01, max=64.0, step=0.05, round=0.001,
                    tooltip="How large the model sees it: 1 (1024 x 1024) for most, 0.25 (512 x 512) for InstructPix2Pix. It enlarges "
                    "4 times at most.",
                ),
                io.Int.Input(
                    "multiple", default=16, min=1, max=256, **RARE,
                    tooltip="Both sides become whole multiples of it. 16 suits most models; 32 for Qwen-Image 2.1 and for VAEs that shrink "
                    "by 32.",
                ),
                io.Float.Input(
                    "context", default=0.5, min=0.0, max=8.0, step=0.05,
                    tooltip="How much of the surroundings the model sees on every side, as a share of the mask's own size.",
                ),
                io.Float.Input(
                    "whole_above", default=0.4, min=0.0, max=1.0, step=0.05, **RARE,
                    tooltip="Where the part with its surroundings is more than this share of the picture, the model sees all of it. "
                    "0 always, 1 never.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="What the model sees; the pictures of a batch have one size."),
                io.Mask.Output(display_name="mask", tooltip="The mask on it; a mark of one pixel stays a mark."),
                io.Latent.Output(display_name="latent", tooltip="The crop through the VAE, with the mask as noise mask. Needs vae."),
                PhotoFrameType.Output(display_name="frame", tooltip="Where it was, for FireEdit Photo Finish. One per picture."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, image, mask=None, regions=None, vae=None, megapixels=1.0, multiple=16, context=0.5, whole_above=0.4, answer=None
    ) -> io.NodeOutput:  # fmt: skip
        """Plan all frames first, since the pictures of a batch share a grid; then cut picture by picture."""
        pictures = to_core(image, NAME)
        masks, notes = _turned(_masks(pictures, mask, regions), pictures, answer)
        photos = list(pictures.movedim(1, -1))
        with named(NAME):
            frames = frames_for(photos, masks, CropSettings(megapixels, multiple, context, whole_above))
        if vae is not None:
            _check_grid(vae, frames[0])
        bar, seen, marked = ProgressBar(len(frames)), [], []
        for photo, one, frame in zip(photos, masks, frames, strict=True):
            models.check_interrupted()
            seen.append(frame.crop(photo))
            marked.append(frame.crop_mask(one))
            bar.update(1)
        crops, marks = torch.stack(seen), torch.stack(marked)
        latent = ExecutionBlocker(f"{NAME}: latent needs a VAE. Connect one to vae.") if vae is None else _latent(vae, crops, marks)
        text = "\n".join(_describe(i, frame, one, len(frames)) for i, (frame, one) in enumerate(zip(frames, masks, strict=True)))
        if mask is None and regions is None:  # a node before this one may be bypassed
            text = f"neither mask nor regions are connected: all of it is to be edited\n{text}"
        elif is_blank(mask, NAME) and (whole := [i + 1 for i, one in enumerate(regions) if len(one) and not regions_meant(one)]):
            where = "" if len(frames) == 1 else f"picture {', '.join(map(str, whole))}: "
            text = f"{where}no region is meant: all of it is to be edited\n{text}"
        text = "\n".join([text, *notes])
        if vae is not None and len(frames) > 1 and latent["samples"].ndim == 5:  # of the VAEs of edit models, Qwen-Image's alone
            text += (
                "\nQwen-Image-Edit's text encoder reads the first picture of a batch only, and all would be edited by what it sees there: "
                "give it one picture at a time"
            )
        return io.NodeOutput(crops, marks, latent, frames, ui=progress.report(text))


def _masks(pictures: Tensor, mask: Tensor | None, regions: list | None) -> list[Tensor]:
    """What is to be edited in each picture, (H, W); all of it where nothing says so."""
    count = pictures.shape[0]
    if not is_blank(mask, NAME):
        return list(check_mask(mask, pictures, NAME).clamp(0, 1))
    if regions is not None:
        check_regions(regions, pictures, NAME)
        if not any(len(one) for one in regions):
            raise FireEditNodeError(NAME, "there is no region. Say the thing in other words, paint a mask, or leave both unconnected.")
        masks = [(mask_meant(one) if len(one) else to_mask(one)).to(pictures) for one in regions]
        if not any(bool((one > 0).any()) for one in masks):  # the whole picture would be shown, and nothing of it edited
            raise FireEditNodeError(
                NAME, "the masks of the regions that are meant are black. Have FireEdit Region Masks make them, or connect the regions "
                "without masks: then their boxes count.",
            )  # fmt: skip
        return masks
    if mask is not None:
        raise FireEditNodeError(
            NAME, "the mask is empty: it marks nothing of the picture. Paint what is to be edited, or leave mask unconnected for the whole "
            "picture.",
        )  # fmt: skip
    return [torch.ones_like(pictures[0, 0])] * count


def _turned(masks: list[Tensor], pictures: Tensor, text: str | None) -> tuple[list[Tensor], list[str]]:
    """The masks, turned around where an answer says that they mark what stays before a new background, and what is to be said of it."""
    if text is None or not text.strip():
        return masks, []
    with named(NAME):
        answers = answers_from_json(text, [size_of(pictures)] * len(masks))
    made, notes = [], []
    for i, (mask, answer, picture) in enumerate(zip(masks, answers, pictures, strict=True)):
        # a mask of everything says that nothing stands in front
        behind = answer.kind == "background" and bool((mask > 0).any()) and bool((mask < 1).any())
        made.append(1 - mask if behind else mask)
        said = ["all but what stays in front is to be edited"] * behind + warned(NAME, answer.doubt(picture))
        notes += [one if len(masks) == 1 else f"picture {i + 1}: {one}" for one in said]
    return made, notes


def _check_grid(vae, frame: PhotoFrame) -> None:
    """A VAE cuts what is no whole multiple of its cells off at the edges, without a word."""
    cell = int(vae.spacial_compression_encode())
    if any(side % cell for side in frame.grid):
        height, width = frame.grid
        raise FireEditNodeError(
            NAME, f"this VAE has cells of {cell} px, and would cut the crop of {width} x {height} px at its edges. Set multiple to {cell}."
        )


def _latent(vae, crops: Tensor, marks: Tensor) -> dict[str, Tensor]:
    """Encoded one by one: VAEs of video models take a batch for the frames of a film."""
    samples = []
    for crop in crops:
        models.check_interrupted()
        samples.append(vae.encode(crop[None]))
    samples = torch.cat(samples)
    held = mask_on_cells(marks, tuple(samples.shape[-2:])).to(samples.device)
    # latents with an axis of time need a mask with one: hosts take the batch of any other for it, and mix the masks of all pictures
    return {"samples": samples, "noise_mask": held.unflatten(1, (1,) * (samples.ndim - 3))}


def _describe(index: int, frame: PhotoFrame, mask: Tensor, count: int) -> str:
    name = "" if count == 1 else f"picture {index + 1}: "
    (height, width), (rows, columns) = frame.box_size, frame.grid
    part = "the whole picture" if frame.whole else f"{width} x {height} px at {frame.box[0]}, {frame.box[1]}"
    edges = ", edges repeated" if max(frame.padding) >= max(1.0, frame.scale) else ""
    nothing = "" if bool((mask > 0).any()) else "; nothing is marked in it"
    return f"{name}{part}, seen at {columns} x {rows} (scale {frame.scale:.3g}{edges}){nothing}"
