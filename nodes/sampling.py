# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEditGuider (the stock route) and FireEditSample (one node, the same guider inside)."""

from __future__ import annotations

import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from fireedit_core.diffusion.compositing import WorkingSize, composite, edit_mask, measure_change
from fireedit_core.thumbnail import same_picture, thumbnail

from .conditioning import PICTURE, WORKING_SIZE
from .errors import FireEditNodeError, warned
from .host import guider as host_guider
from .host import progress
from .host.compat import CATEGORY, RARE, io, schema
from .host.patching import VISUAL, is_applied
from .pictures import batch_text, check_mask, counted, size_of, to_core, to_host
from .types import (
    IMAGE_GUIDANCE,
    IMAGE_GUIDANCE_TOOLTIP,
    IMAGE_ONLY_TOOLTIP,
    NEGATIVE_TOOLTIP,
    POSITIVE_TOOLTIP,
    STEPS,
    TEXT_GUIDANCE,
    TEXT_GUIDANCE_TOOLTIP,
)

GUIDER, SAMPLE = "FireEdit Guider", "FireEdit Sample"
KEEP_OUTSIDE = ["off", "soft", "exact"]


def _conditioning_inputs() -> list:
    return [
        io.Model.Input("model", tooltip="The MODEL of FireEdit Apply."),
        io.Conditioning.Input("positive", tooltip=POSITIVE_TOOLTIP),
        io.Conditioning.Input("image_only", tooltip=IMAGE_ONLY_TOOLTIP),
        io.Conditioning.Input("negative", tooltip=NEGATIVE_TOOLTIP),
    ]


def sampling_inputs() -> list:
    """Seed, steps, sampler and scheduler, as KSampler has them."""
    return [
        io.Int.Input(
            "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
            tooltip="The noise to start from. The same seed gives the same edit.",
        ),
        io.Int.Input("steps", default=STEPS, min=1, max=1000, tooltip="Steps of sampling: more is slower and finer."),
        io.Combo.Input(
            "sampler_name", options=comfy.samplers.KSampler.SAMPLERS, default="euler", tooltip="The sampling method."
        ),
        io.Combo.Input(
            "scheduler", options=comfy.samplers.KSampler.SCHEDULERS, default="simple",
            tooltip="How the steps are spread over the noise. simple is how bundles are trained and measured.",
        ),
    ]  # fmt: skip


def guidance_inputs() -> list:
    """The two scales of dual guidance."""
    return [
        io.Float.Input(
            "text_guidance", default=TEXT_GUIDANCE, min=0.0, max=30.0, step=0.1, round=0.01, tooltip=TEXT_GUIDANCE_TOOLTIP
        ),
        io.Float.Input(
            "image_guidance", default=IMAGE_GUIDANCE, min=0.0, max=30.0, step=0.1, round=0.01,
            tooltip=IMAGE_GUIDANCE_TOOLTIP,
        ),
    ]  # fmt: skip


class FireEditGuider(io.ComfyNode):
    """MODEL + three CONDITIONINGs -> GUIDER."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditGuider",
            display_name=GUIDER,
            category=f"{CATEGORY}/sampling",
            description="Guidance by instruction and by picture with a scale each, for SamplerCustomAdvanced. Branches that the "
            "scales do not need are not computed.",
            search_aliases=["dual cfg", "guidance"],
            inputs=[*_conditioning_inputs(), *guidance_inputs()],
            outputs=[io.Guider.Output(display_name="guider", tooltip="For SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(cls, model, positive, image_only, negative, text_guidance, image_guidance) -> io.NodeOutput:
        """Build the guider; nothing is computed yet."""
        check_applied(model, positive, GUIDER)
        return io.NodeOutput(
            host_guider.make_guider(model, positive, image_only, negative, text_guidance, image_guidance)
        )


class FireEditSample(io.ComfyNode):
    """MODEL + three CONDITIONINGs + VAE + IMAGE -> LATENT, IMAGE and a report."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditSample",
            display_name=SAMPLE,
            category=f"{CATEGORY}/sampling",
            description="Samples the edit and brings it back to the size of the picture. Reports how much changed inside and "
            "outside the mask, and can keep everything outside bit for bit.",
            search_aliases=["ksampler", "edit", "sample"],
            inputs=[
                *_conditioning_inputs(),
                io.Vae.Input("vae", tooltip="The VAE of FireEdit Loader."),
                io.Image.Input("image", tooltip="The source picture, the same as for FireEdit VLM Conditioning."),
                *sampling_inputs(),
                *guidance_inputs(),
                io.Float.Input(
                    "denoise", default=1.0, min=0.0, max=1.0, step=0.01, **RARE,
                    tooltip="1 edits from pure noise. Less starts from the source picture with some noise, for a weaker edit.",
                ),
                io.Combo.Input(
                    "keep_outside", options=KEEP_OUTSIDE, default="off",
                    tooltip="soft: while sampling, everything outside the mask is held at the source. exact: every pixel outside the "
                    "feathered mask is the source's own, bit for bit; the edit takes on the tone around it. Both need a mask.",
                ),
                io.Mask.Input(
                    "mask", optional=True,
                    tooltip="Where the edit is: grounding of FireEdit VLM Conditioning, or a mask of your own at the picture's "
                    "size. Used by keep_outside and by the report.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The sampled latent at working size, as VAE Decode takes it."),
                io.Image.Output(display_name="image", tooltip="The edited picture, exactly as large as the source."),
                io.String.Output(display_name="report", tooltip="Measured change inside and outside the mask, and sizes."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, sampler_name=None, scheduler=None, keep_outside=None):
        """Before anything runs; what comes over a wire is None here, and only known then."""
        return choices_are_known(SAMPLE, sampler_name, scheduler, keep_outside)

    @classmethod
    def execute(
        cls, model, positive, image_only, negative, vae, image, seed, steps, sampler_name, scheduler, text_guidance,
        image_guidance, denoise, keep_outside, mask=None,
    ) -> io.NodeOutput:  # fmt: skip
        """Sample, decode, restore the size, composite, measure."""
        check_choices(SAMPLE, sampler_name, scheduler, keep_outside)
        pictures = to_core(image, SAMPLE)
        if keep_outside != "off" and mask is None:
            raise FireEditNodeError(
                SAMPLE, f"keep_outside {keep_outside!r} needs a mask. Connect grounding of FireEdit VLM Conditioning, or choose off."
            )
        region = None if mask is None else edit_mask(check_mask(mask, pictures, SAMPLE))
        check_applied(model, positive, SAMPLE)
        source, plan = source_latent(positive, pictures)
        guider = host_guider.make_guider(model, positive, image_only, negative, text_guidance, image_guidance)
        held = plan.hold_mask(region).to(source) if keep_outside == "soft" else None
        start = source if held is not None or denoise <= 0.9999 else torch.zeros_like(source)
        progress.say(f"editing {batch_text(pictures.shape[0])}, {counted(steps, 'step')}")
        latent = host_guider.sample(guider, start, seed, steps, sampler_name, scheduler, denoise, held)
        progress.say("decoding")
        # in float32 also where the host keeps values in float16: outside the mask the source's own bits come out
        decoded = vae.decode(latent).movedim(-1, 1).float()
        if tuple(decoded.shape[-2:]) != plan.padded:
            raise FireEditNodeError(
                SAMPLE, f"this VAE made a picture {tuple(decoded.shape[-2:])} instead of {plan.padded}. Connect the VAE of FireEdit "
                "Loader.",
            )  # fmt: skip
        if not bool(torch.isfinite(decoded).all()):  # it would be saved as a black picture
            raise FireEditNodeError(
                SAMPLE, "the edited picture has values that are not numbers (NaN or infinite): the model or the VAE has failed, which half "
                "precision does at times. Start ComfyUI with --fp32-vae, or --fp32-unet.",
            )  # fmt: skip
        pictures = pictures.to(decoded)
        whole = torch.ones_like(pictures[:, 0])
        edited = plan.restore(decoded, pictures, whole if region is None else region.to(decoded))
        if keep_outside == "exact":
            edited = composite(pictures, edited, region.to(decoded))
        said = report(pictures, edited, None if region is None else region.to(decoded), plan)
        text = "\n".join([said, *kept_whole(mask, region, keep_outside)])
        return io.NodeOutput({"samples": latent}, to_host(edited), text, ui=progress.report(text))


def check_choices(node: str, sampler_name: str | None, scheduler: str | None, keep_outside: str | None) -> None:
    """Hosts do not check the combos of V3 nodes (0.3.75); KSampler would take another sampler in silence. None is not known yet.

    Raises:
        FireEditNodeError: for a name that is none of the choices.
    """
    for name, value, known in (
        ("sampler_name", sampler_name, comfy.samplers.KSampler.SAMPLERS), ("scheduler", scheduler, comfy.samplers.KSampler.SCHEDULERS),
        ("keep_outside", keep_outside, KEEP_OUTSIDE),
    ):  # fmt: skip
        if value is not None and value not in known:
            raise FireEditNodeError(node, f"{name} {value!r} is unknown. Choose one of {', '.join(known)}.")


def choices_are_known(node: str, *choices: str | None) -> bool | str:
    """`check_choices` as the host's `validate_inputs` says it: True, or what is wrong."""
    try:
        check_choices(node, *choices)
    except FireEditNodeError as error:
        return str(error)
    return True


def kept_whole(mask: Tensor | None, region: Tensor | None, keep_outside: str) -> list[str]:
    """What is to be said where `keep_outside` has kept a whole picture, because its mask counts as no edit anywhere."""
    if region is None or keep_outside == "off":
        return []
    empty = [i + 1 for i, one in enumerate(region) if not bool(one.any())]
    if not empty:
        return []
    which = "" if region.shape[0] == 1 else f" of picture {', '.join(map(str, empty))}"
    warning = (
        f"the mask{which} is nowhere brighter than 0.5 (at most {float(mask.max()):.2f}), so keep_outside {keep_outside!r} has kept the "
        "whole picture as it was. Paint the mask opaque, say the instruction in other words, or choose off"
    )
    return warned(SAMPLE, warning)


def check_applied(model: ModelPatcher, positive: list, node: str) -> None:
    """Refuse a MODEL that has not been through FireEdit Apply where the conditioning is FireEdit's.

    Its UNet would be told e in place of what TATI makes of it, and not where to edit: a smeared picture, and no message.

    Raises:
        FireEditNodeError: naming the link.
    """
    ours = any(VISUAL in entry[1].get("model_conds", {}) for entry in positive)
    if ours and not is_applied(model):
        raise FireEditNodeError(
            node, "this MODEL has not been through FireEdit Apply (or that node is bypassed), but the conditioning is FireEdit's. Connect "
            "the model output of FireEdit Apply; to compare, set its strengths to 0.",
        )  # fmt: skip


def source_latent(positive: list, pictures: Tensor) -> tuple[Tensor, WorkingSize]:
    """The source latent (B, C, h, w) that `positive` carries, and how the picture came to its size.

    Raises:
        FireEditNodeError: if there is none, or it belongs to other pictures.
    """
    options = next((entry[1] for entry in positive if entry[1].get("concat_latent_image") is not None), None)
    if options is None:
        raise FireEditNodeError(
            SAMPLE, "positive carries no source picture. Connect the positive output of FireEdit VLM Conditioning."
        )
    source = options["concat_latent_image"]
    cells = (int(source.shape[-2]), int(source.shape[-1]))
    size = size_of(pictures)
    # a conditioning of another node says nothing: then the picture was encoded at its own size
    plan = WorkingSize.plan(size, int(options.get(WORKING_SIZE, 0)))
    if source.shape[0] != pictures.shape[0] or (plan.padded[0] // 8, plan.padded[1] // 8) != cells:
        raise FireEditNodeError(
            SAMPLE,
            f"the conditioning belongs to {batch_text(source.shape[0])} of {cells[0]} x {cells[1]} latent cells, but "
            f"{batch_text(pictures.shape[0])} of height {size[0]} and width {size[1]} came. Connect the same picture to image here "
            "and on FireEdit VLM Conditioning.",
        )
    if not same_picture(options.get(PICTURE), thumbnail(pictures)):
        raise FireEditNodeError(
            SAMPLE, "image is another picture than the one that the conditioning was made of: the result would be a ghost of both. Connect "
            "the same picture to image here and on FireEdit VLM Conditioning.",
        )  # fmt: skip
    return source, plan


def report(source: Tensor, edited: Tensor, mask: Tensor | None, plan: WorkingSize) -> str:
    """Change on 0..1 inside and outside the mask (B, H, W), and the sizes."""
    height, width = plan.size
    sizes = f"{width} x {height}, worked at {plan.inner[1]} x {plan.inner[0]}"
    if mask is None:
        change = measure_change(source, edited, torch.ones_like(source[:, 0]))
        return f"mean change {change.inside:.4f} over the whole picture (no mask connected); {sizes}"
    change = measure_change(source, edited, mask)
    return f"mean change {change.inside:.4f} inside the mask ({change.area:.1%} of the picture), {change.outside:.4f} outside; {sizes}"
