# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEditConfine: a MODEL whose edits stay in a region; FireEditConfinedMask: the region of a sampled latent."""

from __future__ import annotations

import logging

import comfy.model_management as management
import torch
from torch import Tensor

from .errors import FireEditNodeError
from .host import compat, confine, confined_masks, progress
from .host.compat import CATEGORY, RARE, io, schema
from .pictures import batch_text, check_mask, counted, to_core, to_host

logger = logging.getLogger("fireedit")

NAME = confine.NAME
MASK_NAME = "FireEdit Confined Mask"


class FireEditConfine(io.ComfyNode):
    """MODEL + MASK (or none) + source -> MODEL."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditConfine",
            display_name=NAME,
            category=f"{CATEGORY}/model",
            description="Confines what an edit model changes to a region: outside of it, every step is pulled to the source, and the "
            "result is the source's own latent. For any MODEL (InstructPix2Pix, Flux Kontext, Flux.2, Qwen-Image-Edit, OmniGen2, ours), "
            "any guider and any sampler. Without a mask it looks where the model is about to change things.",
            search_aliases=["inpaint", "mask", "edit only there", "noise mask", "keep outside", "local edit", "kontext", "qwen edit"],
            inputs=[
                io.Model.Input("model", tooltip="Any edit model, with whatever patches. Applying the node again replaces it."),
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=1.0, step=0.05,
                    tooltip="How far the outside is pulled to the source in every step. 1 keeps it exactly, 0 is the plain model.",
                ),
                io.Float.Input(
                    "start_percent", default=0.0, min=0.0, max=1.0, step=0.01, **RARE,
                    tooltip="Where in the noise schedule the outside begins to be held. 0 is the first step.",
                ),
                io.Float.Input(
                    "end_percent", default=1.0, min=0.0, max=1.0, step=0.01, **RARE,
                    tooltip="Where in the noise schedule it stops being held. 1 is the last step, and only then is the outside exact.",
                ),
                io.Float.Input(
                    "late_edges", default=0.5, min=0.0, max=1.0, step=0.05, **RARE,
                    tooltip="Grey cells of the mask join late: at 0.5, a cell of 50 % after a quarter of the steps. They keep the source's "
                    "shapes and take on the edit's tone. 0: all from the first step on.",
                ),
                io.Mask.Input(
                    "mask", optional=True,
                    tooltip="Where the edit may land, at the size of the sampled picture: of FireEdit Ground, FireEdit Photo Crop, or "
                    "painted. One for all pictures, or one each. Not connected: found after a fifth of the steps.",
                ),
                io.Latent.Input(
                    "source", optional=True,
                    tooltip="The latent of the picture as it was. Not connected: the conditioning's reference or source latent, else the "
                    "latent that the sampler starts from.",
                ),
                io.Image.Input("image", optional=True, tooltip="In place of source: the picture as it was, with vae."),
                io.Vae.Input("vae", optional=True, tooltip="Encodes image."),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="For KSampler, SamplerCustomAdvanced with any guider, or FireEdit Sample.")
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, strength, start_percent, end_percent, late_edges, mask=None, source=None, image=None, vae=None
    ) -> io.NodeOutput:  # fmt: skip
        """Patch a clone; the given MODEL stays as it is."""
        if start_percent > end_percent:
            raise FireEditNodeError(NAME, f"start_percent {start_percent:g} lies after end_percent {end_percent:g}. Swap them.")
        pictures = None if image is None else to_core(image, NAME)
        if mask is not None:
            mask = _checked(mask, pictures)
        latents = _latents(source, pictures, vae)
        return io.NodeOutput(
            confine.apply(model, confine.Settings(mask, latents, strength, start_percent, end_percent, late_edges))
        )


class FireEditConfinedMask(io.ComfyNode):
    """LATENT of a sampler -> MASK that it was confined to."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditConfinedMask",
            display_name=MASK_NAME,
            category=f"{CATEGORY}/model",
            description="The mask that FireEdit Confine held a sampled latent to, above all the one that it found by itself: to look "
            "at, to save, or to put the edit back into a photograph.",
            search_aliases=["automatic mask", "relevance", "where did it edit"],
            inputs=[
                io.Latent.Input(
                    "latent", tooltip="As it came out of the sampler (latent, output), whose model went through FireEdit Confine."
                )
            ],
            outputs=[
                io.Mask.Output(
                    display_name="mask", tooltip="At the size of the decoded picture: white where the edit may be, black where it is kept."
                ),
                io.String.Output(display_name="report", tooltip="How much of each picture that is."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, latent) -> io.NodeOutput:
        """Look it up by the latent itself."""
        samples = latent["samples"]
        known = confined_masks.recall(samples) if not getattr(samples, "is_nested", False) else [0]
        if isinstance(known, list):
            which = "this latent" if len(samples) == 1 else f"row {', '.join(str(i + 1) for i in known)} of this latent"
            raise FireEditNodeError(
                MASK_NAME, f"no mask is known of {which}. Connect the sampler's own output: not denoised_output, not a latent that was "
                "scaled, blended or loaded since. Its model must have gone through FireEdit Confine with a strength above 0. After the "
                "sampler has run in another session of ComfyUI, or very long ago, change its seed to run it again.",
            )  # fmt: skip
        masks, cell = known
        masks = masks.repeat_interleave(cell, -2).repeat_interleave(cell, -1)
        lines = []
        for i, one in enumerate(masks):
            name = "" if len(masks) == 1 else f"picture {i + 1}: "
            area = float((one > 0).float().mean())
            lines.append(f"{name}the edit was free on {area:.0%} of the picture" + (", that is, not confined" if area == 1 else ""))
        text = "\n".join(lines)
        masks = masks.to(management.intermediate_device(), compat.intermediate_dtype())
        return io.NodeOutput(masks, text, ui=progress.report(text))


def _checked(mask: Tensor, pictures: Tensor | None) -> Tensor:
    """The mask as (N, H, W) in 0..1, of the size of the pictures where those are given.

    Raises:
        FireEditNodeError: for another shape, size or range, and for one that is black everywhere.
    """
    mask = mask[None] if mask.ndim == 2 else mask
    if mask.ndim != 3:
        raise FireEditNodeError(NAME, f"expected a MASK (B, H, W), got {tuple(mask.shape)}. Connect a mask.")
    mine = torch.empty(len(mask), 3, *mask.shape[-2:], device="meta") if pictures is None else pictures
    count = mask.shape[0]
    mask = check_mask(mask, mine, NAME)[:count].clamp(0, 1)
    most = mask.amax((1, 2))
    if not bool(most.any()):
        raise FireEditNodeError(
            NAME, "the mask is black everywhere, so nothing could change. Paint the place to edit white, or take the mask off this node: "
            "then it finds the place by itself.",
        )  # fmt: skip
    for row, high in enumerate(most.tolist()):
        if high <= 0.5:
            name = "the mask" if len(mask) == 1 else f"mask {row + 1}"
            said = "is black: that picture stays as it was" if high == 0 else f"is nowhere brighter than {high:.2f}: the edit will be faint"
            logger.warning("%s: %s %s", NAME, name, said)
    return mask


def _latents(source: dict | None, pictures: Tensor | None, vae) -> Tensor | None:
    """Unscaled latents of the source as it is connected, or None.

    Raises:
        FireEditNodeError: for a picture without VAE, two sources, or a latent that is none of pictures.
    """
    if pictures is None:
        if source is None:
            return None
        samples = source["samples"]
        if getattr(samples, "is_nested", False) or samples.ndim not in (4, 5):
            raise FireEditNodeError(NAME, "source is not a latent of pictures. Connect VAE Encode of the picture as it was.")
        if not bool(torch.count_nonzero(samples)):
            raise FireEditNodeError(NAME, "source is an empty latent. Connect VAE Encode of the picture as it was.")
        return samples
    if source is not None:
        raise FireEditNodeError(NAME, "both source and image are connected. Keep the one that holds the picture as it was.")
    if vae is None:
        raise FireEditNodeError(
            NAME, f"image ({batch_text(len(pictures))}) needs a VAE to become a latent. Connect the model's VAE to vae."
        )
    progress.say(f"encoding {counted(len(pictures), 'picture')}")
    # one by one: VAEs of video models take a batch for the frames of one clip
    return torch.cat([vae.encode(to_host(one[None])) for one in pictures])
