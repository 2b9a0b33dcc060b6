# SPDX-License-Identifier: GPL-3.0-or-later
"""`FireEditPipeline`, the reference implementation in diffusers: editing without a host.

pipe = FireEditPipeline.from_pretrained("models/fireedit-tiny")
out = pipe(image, "remove the apple", generator=torch.Generator().manual_seed(0))
out.images[0].save("edit.png")
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, EulerDiscreteScheduler
from diffusers.utils import BaseOutput
from PIL import Image, ImageOps
from torch import Tensor, nn

from ..checkpoints.bundle import COMPONENTS, EXTRAS, OPTIONS, bundle_options, load_components, read_index, save_bundle
from ..checkpoints.index import parts_of
from ..editor import EditConditions, FireEditor, repeat_tokens
from ..regions.record import Regions
from ..vlm import ClipReader, RegionAwareVLM
from .compositing import WorkingSize, composite, edit_mask
from .confinement import Confinement
from .guidance import combine, needed_branches
from .latents import latent_mode, latent_scale
from .reconstruction import about_foreign, coarse_error, foreign
from .timesteps import active_timesteps
from .visual_attention import attach_visual_attention

logger = logging.getLogger("fireedit")


@dataclass
class FireEditOutput(BaseOutput):
    """Result of an edit of B pictures.

    Attributes:
        images: PIL pictures (or a tensor (B, 3, H, W) in 0..1 for output_type "pt", the latents for "latent").
        mask: (B, H, W) soft mask in 0..1 of where the edit was expected.
        regions: detected regions with the probability of being meant as score, best first.
    """

    images: Any
    mask: Tensor
    regions: list[Regions]


def make_editor(components: dict[str, Any], untrained: Iterable[str] = (), without: Iterable[str] = ()) -> FireEditor:
    """A `FireEditor` over the loaded components of a bundle; `untrained` and `without` are its options."""
    c = components
    text = c.get("text_encoder")
    reader = None if text is None else ClipReader(text, c["text_tokenizer"])
    vlm = RegionAwareVLM(c["language_model"], c["tokenizer"], c["adapter"], c["region_encoder"], c["img_tokens"])
    return FireEditor(
        c["dinov2"], c["clip_vision"], c["detector"], vlm, c["grounding"], c["qformer"], c["tati"], c["hvca"],
        reader, untrained, without,
    ).eval()  # fmt: skip


class FireEditPipeline(DiffusionPipeline):
    """Instruction-based editing with region tokens, TATI and HVCA (arXiv 2503.19839).

    The components are those of a bundle (`fireedit_core.checkpoints.bundle.COMPONENTS`); the options say how the UNet was
    trained: `native_size` (long side in pixels), `source_latent_scaled`, default guidance scales and steps, the
    `reconstruction_limit` by which pictures of another kind are told (0: not measured), and what is `untrained`: that is left out, so
    that a bundle just converted edits as its InstructPix2Pix does, and what it was trained `without` (see `FireEditor`).
    """

    _optional_components = list(EXTRAS)

    def __init__(
        self, vae, unet, scheduler, tokenizer, language_model, dinov2, clip_vision, detector, region_encoder, adapter, img_tokens,
        grounding, qformer, tati, hvca, visual_attention, native_size: int = OPTIONS["native_size"],
        source_latent_scaled: bool = OPTIONS["source_latent_scaled"], text_guidance: float = OPTIONS["text_guidance"],
        image_guidance: float = OPTIONS["image_guidance"], steps: int = OPTIONS["steps"],
        reconstruction_limit: float = OPTIONS["reconstruction_limit"], untrained: Iterable[str] = OPTIONS["untrained"],
        without: Iterable[str] = OPTIONS["without"], text_encoder=None, text_tokenizer=None,
    ):  # fmt: skip
        super().__init__()
        given = locals()
        self.register_modules(**{name: given[name] for name in COMPONENTS + EXTRAS})
        self.register_to_config(**{name: given[name] for name in OPTIONS})
        self.editor = make_editor({name: given[name] for name in COMPONENTS + EXTRAS}, untrained, without)
        attach_visual_attention(unet, visual_attention)

    @classmethod
    def from_pretrained(cls, folder: str | Path, torch_dtype: torch.dtype = torch.float32, **given: Any) -> FireEditPipeline:
        """Load a bundle folder. Only local safetensors are read; see `load_component` for the errors.

        Args:
            given: components and options by name, in place of the bundle's own: `scheduler=...`, `steps=8`.

        Raises:
            TypeError: for any other name, and for a type by its name ("float16").
        """
        if not isinstance(torch_dtype, torch.dtype):
            raise TypeError(f"torch_dtype must be a torch.dtype such as torch.float16, got {torch_dtype!r}")
        index = read_index(folder)
        unknown = sorted(given.keys() - {*COMPONENTS, *EXTRAS, *OPTIONS})
        if unknown:
            raise TypeError(
                f"FireEditPipeline.from_pretrained takes no {', '.join(unknown)}; beside torch_dtype it takes a bundle's components and "
                f"options ({', '.join(OPTIONS)})"
            )
        own = load_components(folder, torch_dtype, [name for name in parts_of(index) if name not in given])
        return cls(**own | bundle_options(index) | given)

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = torch.float16) -> None:
        """Write the bundle to a folder, in half precision by default."""
        save_bundle(folder, {n: getattr(self, n) for n in COMPONENTS + EXTRAS}, {n: self.config[n] for n in OPTIONS}, dtype)

    # --- latents -----------------------------------------------------------------------------------------------------

    def encode_source(self, images: Tensor) -> Tensor:
        """Source latents (B, C, H/8, W/8) of pictures (B, 3, H, W) in 0..1, scaled as the bundle says."""
        return self._scaled(encode_latents(self.vae, images))

    def _scaled(self, latent: Tensor) -> Tensor:
        return latent * latent_scale(self.vae) if self.config.source_latent_scaled else latent

    def _warn_of_foreign(self, latent: Tensor, pictures: Tensor) -> None:
        """Log once for each picture (B, 3, H, W) that is not of the bundle's world, as its unscaled latents (B, C, h, w) tell."""
        limit = self.config.reconstruction_limit
        if not limit:
            return
        errors = coarse_error(decode_latents(self.vae, latent), pictures)
        for index in foreign(errors, limit):
            logger.warning("FireEditPipeline: %s", about_foreign("at hand", float(errors[index]), limit))

    # --- the edit ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def __call__(
        self,
        image: Image.Image | list[Image.Image] | Tensor,
        instruction: str | list[str],
        *,
        num_inference_steps: int | None = None,
        text_guidance: float | None = None,
        image_guidance: float | None = None,
        tati_strength: float = 1.0,
        hvca_strength: float = 1.0,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        regions: list[Regions] | None = None,
        mask: Tensor | None = None,
        working_size: int | None = None,
        keep_outside: str = "off",
        generator: torch.Generator | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
    ) -> FireEditOutput:
        """Edit pictures by an instruction.

        Args:
            image: one picture, several of equal size, or a tensor (B, 3, H, W) in 0..1.
            instruction: one for all pictures, or one each (one picture may take several).
            num_inference_steps, text_guidance, image_guidance: None takes the bundle's own.
            tati_strength, hvca_strength: 0 leaves the part out, 1 is as trained.
            start_percent, end_percent: share of the noise schedule, 0..1 from pure noise on, in which both act.
            regions: use these instead of detecting, one `Regions` per picture. A bundle whose grounding is untrained detects nothing: it
                edits in those of a score of at least 0.5, else the best (as `fireedit_core.grounding.ground` scores them), or everywhere.
            mask: edit here, (B, H, W) or (1, H, W) in 0..1 at the pictures' size, instead of where the instruction points.
            working_size: long side in pixels that the model works at; None is the bundle's native size, 0 the picture's own.
            keep_outside: "off"; "soft", which holds latents outside the edit mask at the source's while sampling; or "exact" for source
                pixels bit for bit outside the feathered edit mask.
            latents: unit noise (B, C, h, w) to start from instead of drawing it from `generator`.

        Raises:
            ValueError: for empty instructions, pictures or a mask of unequal sizes or of another range, numbers that cannot be, an unknown
                `keep_outside` or `output_type`, and "soft" with a scheduler that does not work in sigmas.
        """
        if keep_outside not in ("off", "soft", "exact"):
            raise ValueError(f"keep_outside must be 'off', 'soft' or 'exact', got {keep_outside!r}")
        if output_type not in ("pil", "pt", "latent"):
            raise ValueError(f"output_type must be 'pil', 'pt' or 'latent', got {output_type!r}")
        steps = self.config.steps if num_inference_steps is None else num_inference_steps
        if steps < 1:
            raise ValueError(f"num_inference_steps must be 1 or more, got {steps}")
        _check_finite(
            text_guidance=text_guidance, image_guidance=image_guidance, tati_strength=tati_strength, hvca_strength=hvca_strength,
            start_percent=start_percent, end_percent=end_percent,
        )  # fmt: skip
        source = pictures_to_tensor(image).to(self.device)
        instructions = [instruction] if isinstance(instruction, str) else list(instruction)
        if len(instructions) > 1 and source.shape[0] == 1:
            source = source.expand(len(instructions), -1, -1, -1)
        size = (int(source.shape[-2]), int(source.shape[-1]))
        once = source[:1] if len(instructions) > 1 and source.stride(0) == 0 else source
        if regions is None:
            regions = self.editor.detect(once) if self.editor.wants_regions else [Regions.empty(size)] * len(once)
        tokens = self.editor.tokenize(once, regions)
        if len(tokens) != source.shape[0]:
            tokens = repeat_tokens(tokens, source.shape[0])
        for text in dict.fromkeys(instructions):
            if unread := self.editor.unread_text(text):
                logger.warning("FireEditPipeline: the instruction is longer than the model reads; cut off: %r", unread)
        conditions = self.editor.condition(tokens, instructions)
        if mask is not None:
            if mask.shape not in (conditions.mask.shape, (1, *size)):
                raise ValueError(f"the mask has shape {tuple(mask.shape)}, the pictures need {tuple(conditions.mask.shape)}")
            if not bool(((mask >= -0.01) & (mask <= 1.01)).all()):  # which NaN is not either; a mask that was resized may swing over
                raise ValueError(f"the mask must lie in 0..1, got {float(mask.min()):.4g} to {float(mask.max()):.4g}")
            conditions = replace(conditions, mask=mask.to(conditions.mask).clamp(0, 1).expand_as(conditions.mask))
        if "tati" in self.editor.untrained:
            tati_strength = 0.0
        if "hvca" in self.editor.untrained:
            hvca_strength = 0.0
        plan = WorkingSize.plan(size, self.config.native_size if working_size is None else working_size)
        shrunk = plan.shrink(source)
        code = encode_latents(self.vae, shrunk)
        self._warn_of_foreign(code, shrunk)
        source_latent = self._scaled(code)
        where = plan.mask_on_latents(conditions.mask)
        result = self.denoise(
            conditions, where, source_latent, steps,
            self.config.text_guidance if text_guidance is None else text_guidance,
            self.config.image_guidance if image_guidance is None else image_guidance,
            tati_strength, hvca_strength, (start_percent, end_percent), generator, latents,
            plan.hold_mask(edit_mask(conditions.mask)) if keep_outside == "soft" else None,
        )  # fmt: skip
        if output_type == "latent":
            return FireEditOutput(images=result, mask=conditions.mask, regions=conditions.regions)
        edited = plan.restore(decode_latents(self.vae, result), source, edit_mask(conditions.mask))
        if keep_outside == "exact":
            edited = composite(source, edited, edit_mask(conditions.mask))
        images = edited if output_type == "pt" else tensor_to_pictures(edited)
        return FireEditOutput(images=images, mask=conditions.mask, regions=conditions.regions)

    def denoise(
        self, conditions: EditConditions, where: Tensor, source_latent: Tensor, steps: int, text_guidance: float, image_guidance: float,
        tati_strength: float = 1.0, hvca_strength: float = 1.0, window: tuple[float, float] = (0.0, 1.0),
        generator: torch.Generator | None = None, latents: Tensor | None = None, held: Tensor | None = None,
        confinement: Confinement | None = None,
    ) -> Tensor:  # fmt: skip
        """Sample edited latents (B, C, h, w) in the autoencoder's own scale.

        Args:
            where: (B, 1, h, w), `mask_on_latents` of the grounding mask at working size.
            window: (start, end) share of the noise schedule in which TATI and HVCA act.
            held: (B, 1, h, w) in 0..1, where latents may change, as ComfyUI's noise mask; None is everywhere.
            confinement: holds the prediction to its source outside a region, in every step; as FireEdit Confine does in ComfyUI.

        Raises:
            ValueError: for a confinement where the UNet does not predict the clean latent.

        Every branch that the guidance scales need runs in one batch per step; the visual attention projects v once.
        """
        unet, scheduler, c = self.unet, self.scheduler, conditions
        count = source_latent.shape[0]
        dtype = unet.dtype
        null = c.null_embedding.to(dtype).expand_as(c.edit_embedding)
        zero = torch.zeros_like
        branches = {
            "positive": (c.edit_embedding.to(dtype), c.visual, source_latent, where, 1.0),
            "image_only": (null, c.visual_image_only, source_latent, zero(where), 0.0),
            "negative": (null, zero(c.visual), zero(source_latent), zero(where), 0.0),
        }
        names = needed_branches(text_guidance, image_guidance)
        context, visual, source, where = (torch.cat([branches[n][i] for n in names]) for i in range(4))
        gate = torch.tensor([branches[n][4] for n in names], device=source.device).repeat_interleave(count)
        projected = self.visual_attention.project(visual) if hvca_strength else None

        if confinement is not None and scheduler.config.prediction_type != "sample":
            raise ValueError(
                f"this bundle's UNet predicts {scheduler.config.prediction_type!r}; a confinement needs one that predicts the clean latent "
                "('sample'). In ComfyUI, FireEdit Confine takes any."
            )
        set_timesteps(scheduler, steps, source.device)
        shape = (count, unet.config.out_channels, *source_latent.shape[-2:])
        if latents is None:
            latents = torch.randn(shape, generator=generator, dtype=torch.float32).to(source)
        noise = latents.to(source)
        x = noise * noise_scale(scheduler)
        if held is not None:
            if float(scheduler.init_noise_sigma) <= 1:
                raise ValueError(f"keep_outside 'soft' needs a scheduler that works in sigmas (Euler), not {type(scheduler).__name__}")
            held = held.to(x)
            kept = source_latent.to(x) * (1.0 if self.config.source_latent_scaled else latent_scale(self.vae))
            x = x + kept
        # ancestral schedulers draw noise in every step, which must come from the caller's generator too
        extra = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
        latest, earliest = active_timesteps(*window)
        for step, t in enumerate(self.progress_bar(scheduler.timesteps)):
            active = earliest <= float(t) <= latest
            scaled = scheduler.scale_model_input(x, t)
            if held is not None:  # the model sees the source there, at the noise of this step
                sigma = scheduler.sigmas[scheduler.step_index].to(x)
                seen = held * x + (1 - held) * (kept + sigma * noise)
                scaled = scheduler.scale_model_input(seen, t)
            model_input = scaled.repeat(len(names), 1, 1, 1)
            times = t.expand(model_input.shape[0])
            out = unet(
                torch.cat([model_input, source], dim=1).to(dtype), times,
                self.tati.inject(context, times, gate, tati_strength) if active else context,
                cross_attention_kwargs={"visual": projected if active else None, "where": where, "visual_strength": hvca_strength},
            ).sample  # fmt: skip
            predictions = dict(zip(names, out.float().chunk(len(names)), strict=True))
            guided = combine(predictions, text_guidance, image_guidance)
            if held is not None:
                guided = self._confined(guided, seen, x, kept, held, sigma)
            if confinement is not None:
                guided = confinement.confine(guided, step)
            x = scheduler.step(guided, t, x, return_dict=False, **extra)[0]
        return x / latent_scale(self.vae)

    def _confined(self, guided: Tensor, seen: Tensor, x: Tensor, kept: Tensor, held: Tensor, sigma: Tensor) -> Tensor:
        """What the model would have to predict for x, so that the clean latent is its own where it may change and `kept` elsewhere.

        Args:
            guided: its prediction for `seen`, of which both are noisy latents at `sigma`.
        """
        kind, root = self.scheduler.config.prediction_type, (sigma**2 + 1).sqrt()
        own = {"epsilon": seen - sigma * guided, "sample": guided, "v_prediction": (seen / root - sigma * guided) / root}[kind]
        clean = held * own + (1 - held) * kept
        return {"epsilon": (x - clean) / sigma, "sample": clean, "v_prediction": (x / root - root * clean) / sigma}[kind]


def _check_finite(**numbers: float | None) -> None:
    """Raises ValueError, by name, for what is no number: it would make all of a picture such."""
    wrong = [f"{name} {value}" for name, value in numbers.items() if value is not None and not math.isfinite(value)]
    if wrong:
        raise ValueError(f"these must be numbers: {', '.join(wrong)}")


def noise_scale(scheduler: Any) -> float:
    """What unit noise is multiplied with at the start of a full run: sqrt(sigma^2 + 1) for schedulers that work in sigmas.

    diffusers does the same for leading spacing but leaves out the 1 for trailing; ComfyUI never does, and both sides start
    from the same latents here (design D2).
    """
    start = float(scheduler.init_noise_sigma)
    return (float(scheduler.sigmas.max()) ** 2 + 1) ** 0.5 if start > 1 and hasattr(scheduler, "sigmas") else start


def set_timesteps(scheduler: Any, steps: int, device: torch.device | str) -> None:
    """Prepare `steps` sampling steps; with "trailing" spacing at exactly the timesteps of ComfyUI's scheduler "simple".

    diffusers rounds where ComfyUI cuts off, so the two differ by one timestep where the number of training timesteps is no
    multiple of `steps`.
    """
    if isinstance(scheduler, EulerDiscreteScheduler) and scheduler.config.timestep_spacing == "trailing":
        total = scheduler.config.num_train_timesteps
        scheduler.set_timesteps(timesteps=[total - 1 - int(i * total / steps) for i in range(steps)], device=device)
    else:
        scheduler.set_timesteps(steps, device=device)


def posterior(vae: nn.Module, images: Tensor) -> Any:
    """What a diffusers autoencoder's `encode` returns for pictures (B, 3, H, W) in 0..1."""
    return vae.encode((images * 2 - 1).to(vae.dtype))  # rounded before they are spread, light pixels would be off by twice as much


def encode_latents(vae: nn.Module, images: Tensor) -> Tensor:
    """Unscaled latents of pictures (B, 3, H, W) in 0..1: the posterior mode, or the code of a deterministic autoencoder."""
    return latent_mode(posterior(vae, images))


def decode_latents(vae: nn.Module, latents: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) in 0..1 of unscaled latents."""
    return ((vae.decode(latents.to(vae.dtype)).sample.float() + 1) / 2).clamp(0, 1)


def pictures_to_tensor(image: Image.Image | list[Image.Image] | Tensor) -> Tensor:
    """Pictures as a float tensor (B, 3, H, W) in 0..1, turned as their EXIF says; a tensor is checked and passed through.

    Raises:
        ValueError: for a tensor of another shape or range or with values that are not finite, and for pictures of unequal sizes.
    """
    if isinstance(image, Tensor):
        if image.ndim != 4 or image.shape[1] != 3:
            raise ValueError(f"pictures must have shape (B, 3, H, W), got {tuple(image.shape)}")
        if not bool(torch.isfinite(image).all()):
            raise ValueError("the pictures have values that are not numbers (NaN or infinite)")
        if image.numel() and (float(image.min()) < -0.5 or float(image.max()) > 1.5):
            raise ValueError(f"pictures must lie in 0..1, got {float(image.min()):.4g} to {float(image.max()):.4g}")
        return image.float()
    pictures = [ImageOps.exif_transpose(p) for p in (image if isinstance(image, list) else [image])]
    if len({p.size for p in pictures}) > 1:
        raise ValueError(f"pictures of one batch must have one size, got {sorted({p.size for p in pictures})}")
    return torch.from_numpy(np.stack([_as_array(p) for p in pictures])).permute(0, 3, 1, 2)


def _as_array(picture: Image.Image) -> np.ndarray:
    """(H, W, 3) float32 in 0..1. PIL cuts 16-bit grey off at 255, so that is divided here.

    Raises:
        ValueError: for floating point pictures (mode F), whose range nobody knows.
    """
    if picture.mode == "F":
        raise ValueError("a floating point picture (mode F) does not say its range; give 8 or 16 bits, or a tensor in 0..1")
    if picture.mode.startswith("I"):  # "I;16" and its kin, and "I", as which PIL opens 16-bit PNGs
        values = np.asarray(picture, dtype=np.float32) / 65535
        return np.repeat(values[..., None], 3, axis=-1)
    return np.asarray(picture.convert("RGB"), dtype=np.float32) / 255


def tensor_to_pictures(images: Tensor) -> list[Image.Image]:
    """PIL pictures of a tensor (B, 3, H, W) in 0..1.

    Raises:
        ValueError: for values that are not finite, which would become black.
    """
    if not bool(torch.isfinite(images).all()):
        raise ValueError(
            "the edit has values that are not numbers (NaN or infinite): the UNet or the autoencoder has failed; in half precision, try "
            "float32"
        )
    arrays = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(a) for a in arrays]
