# SPDX-License-Identifier: GPL-3.0-or-later
"""Confinement on a host MODEL of any kind (design D15): two keyed wrappers, and a run's state in the guider's own copy of the options.

OUTER_SAMPLE knows the whole run (steps, conditionings, start latent), makes its state and sets the outside exactly when it is over.
PREDICT_NOISE holds the prediction, above every guider's formula and whatever patches it. No slot of the host is taken.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from comfy.model_base import QwenImage
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from fireedit_core.diffusion.confinement import Confinement, mask_to_cells, step_of

from ..errors import FireEditNodeError
from . import compat, confined_masks

logger = logging.getLogger("fireedit")

KEY = "fireedit_confine"
NAME = "FireEdit Confine"
_KINDS = (WrappersMP.OUTER_SAMPLE, WrappersMP.PREDICT_NOISE)
_CONNECT = "Connect the picture to image and its VAE to vae, or its latent to source"


@dataclass(frozen=True)
class Settings:
    """What FireEdit Confine was told.

    Attributes:
        mask: (N, H, W) in 0..1 of the pictures; None is automatic. source: unscaled latents (N, C, ..., h, w); None looks for them.
        strength, late_edges: see `Confinement`. start, end: share of the noise schedule, 0..1, in which the outside is held.
    """

    mask: Tensor | None
    source: Tensor | None
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    late_edges: float = 0.5

    @property
    def exact(self) -> bool:
        """Whether the outside is to come out as the source's own values."""
        return self.strength == 1 and self.end == 1


@dataclass
class _Run:
    """One run of sampling, from its first step to its result."""

    confinement: Confinement
    sigmas: list[float]
    window: tuple[float, float]  # noise levels: from the first on, until the second
    source: Tensor  # unscaled, as the result is
    exact: bool
    cell: int

    def hold(self, x0: Tensor, sigma: float) -> Tensor:
        """The prediction at noise `sigma`, held."""
        start, end = self.window
        return self.confinement.confine(x0, step_of(sigma, self.sigmas), end < sigma <= start)

    def finish(self, latents: Tensor) -> Tensor:
        """The result of the run, unscaled: where it is to be exact, the source's own values outside."""
        if self.confinement.mask is None:
            return latents
        if self.exact and self.sigmas[-1] == 0:  # otherwise noise is left, and another sampler goes on
            latents = torch.where(self.confinement.outside(latents), self.source.to(latents), latents)
        confined_masks.remember(latents, self.confinement.mask, self.cell)
        self._say()
        return latents

    def _say(self) -> None:
        mask, found = self.confinement.mask, self.confinement.found
        free = [] if found is None else [i + 1 for i, seen in enumerate(found) if not seen]
        if free:
            which = "" if len(found) == 1 else f" of picture {', '.join(map(str, free))}"
            logger.warning(
                "%s: the automatic mask%s shows no region: after a fifth of the steps nothing, or nearly everything, was about to change. "
                "It was left free. Connect a mask to confine it.", NAME, which,
            )  # fmt: skip
        kind = "given" if found is None else "automatic"
        logger.info("%s: the edit was confined to %.0f %% of the picture (%s mask)", NAME, 100 * float((mask > 0).float().mean()), kind)


def apply(model: ModelPatcher, settings: Settings) -> ModelPatcher:
    """A clone of `model` whose edits are confined. Whatever an earlier call put there is replaced; strength 0 is the plain model."""
    patched = model.clone()
    for kind in _KINDS:
        patched.remove_wrappers_with_key(kind, KEY)
    if settings.strength:
        for kind, wrapper in zip(_KINDS, (_around_the_run(settings), _around_a_prediction), strict=True):
            patched.add_wrapper_with_key(kind, KEY, wrapper)
    return patched


def _around_the_run(settings: Settings) -> Callable:
    def wrapper(executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
        guider = executor.class_obj
        levels = [float(s) for s in sigmas]  # before sampling: uni_pc writes into the caller's
        if len(levels) < 2:
            return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
        if levels[0] < levels[-1]:
            logger.info("%s: this run goes towards noise (unsampling); it is left as it is", NAME)
            return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
        if len(kwargs.get("latent_shapes") or [0]) > 1 or noise.ndim not in (4, 5):
            raise FireEditNodeError(
                NAME, f"this latent (shape {tuple(noise.shape)}) is not of pictures alone, such as one of sound, and cannot be confined. "
                "Take the node out of this model's way.",
            )  # fmt: skip
        run = _start(settings, guider, noise, latent_image, levels)
        options = guider.model_options.setdefault("transformer_options", {})  # the guider's own copy, which ends with the run
        options[KEY] = run
        _put_first(options)
        return run.finish(executor(noise, latent_image, sampler, sigmas, *args, **kwargs))

    return wrapper


def _around_a_prediction(executor, x, timestep, model_options={}, seed=None):  # noqa: B006  the host's signature
    x0 = executor(x, timestep, model_options, seed)
    run = executor.class_obj.model_options["transformer_options"].get(KEY)
    return x0 if run is None else run.hold(x0, float(timestep.max()))


def _put_first(options: dict[str, Any]) -> None:
    """Our wrapper of predictions becomes the outermost, wherever the node stands among others: nothing is added outside afterwards."""
    every = options["wrappers"]
    ours = every[WrappersMP.PREDICT_NOISE]
    options["wrappers"] = every | {WrappersMP.PREDICT_NOISE: {KEY: ours[KEY]} | ours}


def _start(settings: Settings, guider: Any, noise: Tensor, latent_image: Tensor, levels: list[float]) -> _Run:
    model = guider.model_patcher
    source, origin = _find_source(settings.source, guider.conds, noise, latent_image, levels[0])
    if settings.source is None:
        logger.info("%s: the outside is taken from %s", NAME, origin)
    if isinstance(model.model, QwenImage) and len(source) > 1 and _told_of_one(guider.conds):
        logger.warning(
            "%s: Qwen-Image-Edit's text encoder reads one picture of a batch, and here are %d: where it was given the batch, all are "
            "edited by what it saw in the first. Edit them one after the other.", NAME, len(source),
        )  # fmt: skip
    cell = compat.latent_cell(model.get_model_object("latent_format"))
    mask = None if settings.mask is None else _fit_mask(settings.mask, noise, cell)
    sampling = model.get_model_object("model_sampling")
    device = model.load_device
    confinement = Confinement(
        model.model.process_latent_in(source.to(device, torch.float32)), None if mask is None else mask.to(device), len(levels) - 1,
        settings.strength, settings.late_edges,
    )  # fmt: skip
    return _Run(confinement, levels, _window(sampling, settings.start, settings.end), source, settings.exact, cell)


def _window(sampling: Any, start: float, end: float) -> tuple[float, float]:
    """Noise levels of two shares (0..1) of the schedule; 0 is before all and 1 after all, as in `active_timesteps`.

    The level that a model calls its highest is not always: many a shift of flow models begins at 1.0000001.
    """
    first = math.inf if start <= 0 else float(sampling.percent_to_sigma(start))
    return first, -math.inf if end >= 1 else float(sampling.percent_to_sigma(end))


def _told_of_one(conds: dict[str, list[dict]]) -> bool:
    """Whether every conditioning has one row for all pictures."""
    texts = [entry.get("cross_attn") for entries in conds.values() for entry in entries or ()]
    return all(text is None or len(text) == 1 for text in texts)


def _fit_mask(mask: Tensor, noise: Tensor, cell: int) -> Tensor:
    if mask.shape[0] not in (1, noise.shape[0]):
        raise FireEditNodeError(
            NAME, f"{mask.shape[0]} masks came, but the sampler works on {noise.shape[0]} latents. Give one mask for all, or one each."
        )
    try:
        return mask_to_cells(mask, cell, (int(noise.shape[-2]), int(noise.shape[-1])))
    except ValueError as error:
        raise FireEditNodeError(
            NAME, f"{error} Connect the mask of the very picture that is sampled (after FireEdit Photo Crop, its mask output), or give "
            "the sampler a latent of that size.",
        ) from error  # fmt: skip


# --- the source ------------------------------------------------------------------------------------------------------------


def _find_source(
    given: Tensor | None, conds: dict[str, list[dict]], noise: Tensor, latent_image: Tensor, first: float
) -> tuple[Tensor, str]:  # fmt: skip
    """Unscaled latents that fit the noise, the most explicit first, and what to call them.

    Args:
        given: of the node's inputs. conds: the guider's conditionings. first: noise level at which the run begins.

    Raises:
        FireEditNodeError: where there is none, or it is of another size, with both.
    """
    if given is not None:
        return _fitted(given, noise, "source"), "the node's source"
    entries = [entry for name in sorted(conds, key=lambda n: n != "positive") for entry in conds[name] or ()]
    references = next((e["reference_latents"] for e in entries if e.get("reference_latents")), None)
    if references:
        fitting = [one for one in references if _cells(one) == _cells(noise)]
        if len(fitting) > 1:
            logger.info("%s: %d reference latents have the size of the latent; the first of them is kept outside", NAME, len(fitting))
        return _fitted((fitting or references)[0], noise, "the conditioning's reference latent"), "the conditioning's reference latent"
    # with concat_mask it is a picture with a hole, of an inpainting model, or a clip of which most is empty
    whole = (e["concat_latent_image"] for e in entries if e.get("concat_latent_image") is not None and e.get("concat_mask") is None)
    concat = next(whole, None)
    if concat is not None:
        return _fitted(concat, noise, "the conditioning's source latent"), "the conditioning's source latent"
    if not bool(torch.count_nonzero(latent_image)):
        raise FireEditNodeError(
            NAME, "nothing says what the picture looks like outside of the mask: no source, no reference latent in the conditioning, and "
            f"the sampler starts from an empty latent. {_CONNECT}.",
        )  # fmt: skip
    if first > 0 and not bool(torch.count_nonzero(noise)):
        raise FireEditNodeError(
            NAME, "the sampler goes on from a latent that still has noise in it, so that latent does not say what the picture looks like "
            f"outside of the mask. {_CONNECT}.",
        )  # fmt: skip
    return _fitted(latent_image, noise, "the sampler's latent"), "the sampler's latent"


def _cells(latents: Tensor) -> tuple[int, int]:
    return int(latents.shape[-2]), int(latents.shape[-1])


def _fitted(source: Tensor, noise: Tensor, what: str) -> Tensor:
    """The source with the dimensions of the noise (of a still picture, some models' latents have one frame and others none)."""
    if source.ndim == 4 and noise.ndim == 5:
        source = source.unsqueeze(2)
    elif source.ndim == 5 and noise.ndim == 4 and source.shape[2] == 1:
        source = source[:, :, 0]
    if source.ndim != noise.ndim or source.shape[1:] != noise.shape[1:]:
        raise FireEditNodeError(
            NAME, f"{what} has {_shape_text(source)}, but the sampler's latent has {_shape_text(noise)}. Both must be of the same picture "
            "size and the same VAE: make the empty latent as large as the picture, or connect to source the picture's latent at that size.",
        )  # fmt: skip
    if source.shape[0] not in (1, noise.shape[0]):
        raise FireEditNodeError(
            NAME, f"{what} is of {source.shape[0]} pictures, but the sampler works on {noise.shape[0]} latents, and nothing says which "
            "belongs to which. Give one for all, or one each.",
        )  # fmt: skip
    if not bool(torch.isfinite(source).all()):
        raise FireEditNodeError(NAME, f"{what} has values that are not numbers (NaN or infinite). Look at the picture that it was made of.")
    return source


def _shape_text(latents: Tensor) -> str:
    """'16 channels of 64 x 96 cells', with frames where there are several."""
    frames = f", {latents.shape[2]} frames" if latents.ndim == 5 and latents.shape[2] > 1 else ""
    return f"{latents.shape[1]} channels of {latents.shape[-2]} x {latents.shape[-1]} cells{frames}"
