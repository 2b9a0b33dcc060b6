# SPDX-License-Identifier: GPL-3.0-or-later
"""Dual guidance on the host's sampling (design D6), and one run of it with progress, preview and cancel."""

from __future__ import annotations

import logging
from typing import Any

import comfy.model_management as management
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from fireedit_core.diffusion.guidance import combine, needed_branches

from . import compat

logger = logging.getLogger("fireedit")

# The order matters to other patches: on the host, entry 0 is the positive one and the next what it is compared with.
BRANCHES = ("positive", "image_only", "negative")
Conditioning = list


class FireEditDualGuider(comfy.samplers.CFGGuider):
    """InstructPix2Pix guidance over three conditionings; branches whose factor is 0 are not computed."""

    text_guidance = 1.0
    image_guidance = 1.0

    def set_conds(self, positive: Conditioning, image_only: Conditioning, negative: Conditioning) -> None:
        """The three conditionings of FireEditVLMConditioning."""
        self.inner_set_conds({"positive": positive, "image_only": image_only, "negative": negative})

    def set_guidance(self, text_guidance: float, image_guidance: float) -> None:
        """s_T and s_I of `fireedit_core.diffusion.guidance.dual_guidance`."""
        self.text_guidance, self.image_guidance = text_guidance, image_guidance
        for slot, what in (
            ("sampler_cfg_function", "replaces the guidance formula (such as RescaleCFG)"),
            ("sampler_calc_cond_batch_function", "computes the two branches of plain guidance itself (such as SkipLayerGuidanceDiTSimple)"),
        ):
            if slot in self.model_options:
                logger.warning(
                    "FireEdit: a patch on this MODEL %s; dual guidance has three branches and its own formula, so that patch has no effect "
                    "here", what,
                )  # fmt: skip

    def predict_noise(self, x: Tensor, timestep: Tensor, model_options: dict[str, Any] = {}, seed: int | None = None):  # noqa: B006
        """The guided clean latent for x at the sigma `timestep`; called by the host once per evaluation."""
        after = model_options.get("sampler_post_cfg_function", [])
        needed = needed_branches(self.text_guidance, self.image_guidance)
        before = model_options.get("sampler_pre_cfg_function", [])
        # patches that act around the guidance read the branches by themselves
        wanted = BRANCHES if before or after or model_options.get("disable_cfg1_optimization") else needed
        conds = [self.conds.get(name) if name in wanted else None for name in BRANCHES]
        found = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, model_options)
        for function in before:  # APG, TCFG and their like change the first by comparing it with the second
            found = function({
                "conds": conds, "conds_out": found, "cond_scale": self.text_guidance, "timestep": timestep, "input": x,
                "sigma": timestep, "model": self.inner_model, "model_options": model_options,
            })  # fmt: skip
        out = dict(zip(BRANCHES, found))
        denoised = combine({name: out[name] for name in needed}, self.text_guidance, self.image_guidance)
        for function in after:
            arguments = {
                "denoised": denoised, "cond": conds[0], "uncond": conds[1], "cond_scale": self.text_guidance,
                "model": self.inner_model, "uncond_denoised": out["image_only"], "cond_denoised": out["positive"],
                "sigma": timestep, "model_options": model_options, "input": x,
            }  # fmt: skip
            denoised = function(arguments)
        return denoised


def make_guider(
    model: ModelPatcher, positive: Conditioning, image_only: Conditioning, negative: Conditioning, text_guidance: float,
    image_guidance: float,
) -> FireEditDualGuider:  # fmt: skip
    """A GUIDER for SamplerCustomAdvanced and for FireEditSample."""
    guider = FireEditDualGuider(model)
    guider.set_conds(positive, image_only, negative)
    guider.set_guidance(text_guidance, image_guidance)
    return guider


def sample(
    guider: FireEditDualGuider, latent: Tensor, seed: int, steps: int, sampler_name: str, scheduler: str, denoise: float,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """One run from noise of `seed` (drawn on the CPU, as KSampler does) over `latent` (B, C, h, w); unscaled latents.

    Args:
        mask: (B, 1, h, w) in 0..1, where `latent` may change; elsewhere the host holds it at the noise of each step, by the
            same path as Set Latent Noise Mask, so that Differential Diffusion and its like work.
    """
    model = guider.model_patcher
    schedule = comfy.samplers.KSampler(
        model, steps=steps, device=model.load_device, sampler=sampler_name, scheduler=scheduler, denoise=denoise,
        model_options=model.model_options,
    )  # fmt: skip
    noise = comfy.sample.prepare_noise(latent, seed)
    callback = latent_preview.prepare_callback(model, schedule.sigmas.shape[-1] - 1)
    sampled = guider.sample(
        noise, latent, comfy.samplers.sampler_object(sampler_name), schedule.sigmas, mask, callback,
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED, seed=seed,
    )  # fmt: skip
    # where and as KSampler leaves its own, so that latent nodes can put both together
    return sampled.to(device=management.intermediate_device(), dtype=compat.intermediate_dtype())
