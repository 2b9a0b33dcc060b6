# SPDX-License-Identifier: GPL-3.0-or-later
"""TATI and HVCA on a host MODEL (design D4, D5): a keyed wrapper and a pair of list patches, which compose with others.

What belongs to a run rides in the conditioning and arrives as arguments of the UNet; the patch itself only holds weights
and settings. All functions are closures, because hosts before 2026-02 (#12382) deep-copy whatever else a MODEL carries.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from comfy.conds import CONDRegular
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP, WrappersMP
from comfy.utils import repeat_to_batch_size
from torch import Tensor, nn

from fireedit_core.diffusion.timesteps import active_timesteps

from . import compat
from .models import FireEditModels

if TYPE_CHECKING:
    from fireedit_core.diffusion.tati import TATI
    from fireedit_core.diffusion.visual_attention import Projected, VisualCrossAttention

logger = logging.getLogger("fireedit")

KEY = "fireedit"
VISUAL = "fireedit_visual"  # v, (B, 16, D), as keyword argument of the UNet and key of model_conds
WHERE = "fireedit_where"  # (B, 1, h, w): share of each latent cell that the edit is expected to cover; 0 without an instruction
GATE = "fireedit_gate"  # (B, 1): 1 on rows with an instruction
_HIDDEN = "fireedit_hidden"
_PATCHES = ("attn2_patch", "attn2_output_patch")
_LAYER = re.compile(r"(down|mid|up)_block(?:s\.(\d+))?\.attentions\.(\d+)\.transformer_blocks\.(\d+)\.attn2$")

Place = tuple[str, int, int]  # the host's name of a transformer block: ("input", 4, 0)


class SpatialCond(CONDRegular):
    """A map on the latent's grid: where a conditioning is held to an area (Set Area, Set Mask with mask bounds), it is cut to it.

    As the host's own for source latents (CONDNoiseShape), but a map of another grid, as under a second pass at another size, stays
    whole and is brought to the latent's size later.
    """

    def process_cond(self, batch_size: int, area: Any = None, **_: Any) -> SpatialCond:
        """Called by the host for each conditioning and step."""
        data = self.cond
        if area is not None:
            dims = len(area) // 2
            if all(area[i] + area[i + dims] <= data.shape[i + 2] for i in range(dims)):
                for i in range(dims):
                    data = data.narrow(i + 2, area[i + dims], area[i])
        return self._copy_with(repeat_to_batch_size(data, batch_size))


class ModelMismatch(ValueError):
    """The MODEL is not the UNet that the bundle's modules were made for; says how."""


@dataclass
class _Call:
    """One call of the UNet: which rows there are, and what the visual attention needs for them."""

    entries: list[int]
    rows: int
    projected: list[Projected]
    where: Tensor
    condition: Tensor | None  # e_t as the UNet gets it, of which the mark is made


@dataclass
class _Run:
    """What is remembered within a sampling run; emptied by the host's clean-up. Correct without it, only slower."""

    cache: list[tuple[Tensor, list[Projected]]] = field(default_factory=list)
    injected: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    warned: bool = False

    def clear(self, *_: Any) -> None:
        self.cache.clear()
        self.injected.clear()
        self.warned = False

    def inject(self, tati: TATI, embedding: Tensor, timesteps: Tensor, strength: float) -> Tensor:
        """TATI's condition of rows with an instruction, (N, 77, D), once for equal rows at equal timesteps.

        The UNet is called more than once at a timestep by patches that look again at what the guidance saw (PAG, SAG).
        """
        for known, when, found in self.injected:
            if known.shape == embedding.shape and torch.equal(when, timesteps) and torch.equal(known, embedding):
                return found
        found = tati.inject(embedding, timesteps, torch.ones_like(timesteps), strength)
        self.injected.insert(0, (embedding, timesteps, found))
        del self.injected[2:]
        return found

    def project(self, attention: VisualCrossAttention, visual: Tensor) -> list[Projected]:
        """What every layer makes of v, once for equal v. The host makes a new tensor each step: compare content."""
        for known, found in self.cache:
            if known.shape == visual.shape and known.dtype == visual.dtype and torch.equal(known, visual):
                return found
        found = attention.project(visual)
        self.cache.insert(0, (visual.clone(), found))
        del self.cache[3:]
        return found


def apply(
    model: ModelPatcher, models: FireEditModels, tati_strength: float, hvca_strength: float, start: float, end: float
) -> ModelPatcher:
    """A clone of `model` with TATI and HVCA. Whatever an earlier call put there is replaced.

    Args:
        tati_strength, hvca_strength: 0 leaves the part out, 1 is as trained.
        start, end: share of the noise schedule, 0..1, in which both act.

    Raises:
        ModelMismatch: if the MODEL's UNet is not shaped like the bundle's.
    """
    places = check_model(model, models)
    # what is not trained yet is left out, whatever is asked of it: its output is noise
    untrained = models.options["untrained"]
    tati_strength = 0.0 if "tati" in untrained else tati_strength
    hvca_strength = 0.0 if "hvca" in untrained else hvca_strength
    patched = model.clone()
    remove(patched)
    run = _Run()
    wrapper = _make_wrapper(models, run, tati_strength, hvca_strength, start, end)
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, wrapper)
    if hvca_strength:
        remember, add = _make_patches(models.visual_attention, places, run, hvca_strength)
        patched.set_model_attn2_patch(remember)
        patched.set_model_attn2_output_patch(add)
    patched.add_callback_with_key(CallbacksMP.ON_CLEANUP, KEY, run.clear)
    if not {"tati", "hvca"} <= set(untrained):  # else nothing of it acts, and it need not take memory
        patched.set_additional_models(KEY, [models.injection])
    return patched


def is_applied(model: ModelPatcher) -> bool:
    """Whether a MODEL carries what `apply` puts on it, with whatever strengths."""
    return bool(model.wrappers.get(WrappersMP.DIFFUSION_MODEL, {}).get(KEY))


def remove(model: ModelPatcher) -> None:
    """Take everything of ours off a cloned MODEL."""
    model.remove_wrappers_with_key(WrappersMP.DIFFUSION_MODEL, KEY)
    model.remove_callbacks_with_key(CallbacksMP.ON_CLEANUP, KEY)
    model.remove_additional_models(KEY)
    patches = model.model_options["transformer_options"].get("patches", {})
    for name in _PATCHES:
        if name in patches:
            patches[name] = [patch for patch in patches[name] if not getattr(patch, KEY, False)]
            if not patches[name]:
                del patches[name]


def check_model(model: ModelPatcher, models: FireEditModels) -> dict[Place, int]:
    """Index of the visual attention layer for each transformer block of the host's UNet.

    Raises:
        ModelMismatch: for another architecture, a UNet without source latent, other widths or layers.
    """
    unet = model.get_model_object("diffusion_model")
    if not hasattr(unet, "input_blocks") or not hasattr(unet, "output_blocks"):
        raise ModelMismatch(f"this MODEL is a {type(unet).__name__}, not a UNet of the Stable Diffusion kind.")
    channels = unet.input_blocks[0][0].in_channels
    latents = model.get_model_object("latent_format").latent_channels
    if channels != 2 * latents:
        raise ModelMismatch(
            f"this MODEL is not InstructPix2Pix-shaped: its UNet takes {channels} channels, but {2 * latents} are needed ({latents} "
            f"noisy and {latents} of the source picture)."
        )
    found = _cross_attentions(unet)
    wanted = host_places(models.visual_attention.names, list(unet.num_res_blocks))
    if set(found) != set(wanted):
        raise ModelMismatch(f"this MODEL has {len(found)} cross attentions, the bundle {models.name} is made for {len(wanted)}.")
    context = models.editor.tati.config.hidden_size
    for place, index in wanted.items():
        attention = found[place]
        layer = models.visual_attention.attentions[index]
        have = (attention.to_q.in_features, attention.to_k.in_features)
        if have != (layer.to_q.in_features, context):
            raise ModelMismatch(
                f"the cross attention {place} of this MODEL has width {have[0]} and context width {have[1]}; the bundle "
                f"{models.name} is made for {layer.to_q.in_features} and {context}."
            )
    return wanted


def host_places(names: list[str], layers: list[int]) -> dict[Place, int]:
    """The host's places of diffusers' `attn2` paths.

    Args:
        names: such as "down_blocks.1.attentions.0.transformer_blocks.0.attn2", in the order of the visual attention's layers.
        layers: residual blocks per level of the host's UNet, from the finest.
    """
    places: dict[Place, int] = {}
    backwards = list(reversed(layers))
    for index, name in enumerate(names):
        match = _LAYER.search(name)
        if match is None:
            raise ModelMismatch(f"the bundle's visual attention names a layer {name!r}, which ComfyUI's UNet does not have.")
        side, level, attention, block = match[1], int(match[2] or 0), int(match[3]), int(match[4])
        if side == "down":
            # the first input block is the convolution; after every level comes its downsampler
            place = ("input", 1 + sum(n + 1 for n in layers[:level]) + attention, block)
        elif side == "up":
            place = ("output", sum(n + 1 for n in backwards[:level]) + attention, block)
        else:
            place = ("middle", 0, block)
        places[place] = index
    return places


def entry_rows(entries: list[int], now: list[int]) -> list[int] | None:
    """For each row group that is there `now`, the entry it came from, when a neighbour's patch has multiplied them.

    Packs repeat an entry's rows and write the new rows' values before it: its own value again, or a 0 for "prompt", whatever the
    entry was. So the list is read from its end: what follows an entry's predecessor belongs to the entry.

    Args:
        entries: the host's `cond_or_uncond` when the UNet was called. now: the same list as it is at present.

    Returns:
        Indices into `entries`, one per element of `now`; None if the lists cannot be matched.
    """
    before = [(value, len(list(group))) for value, group in groupby(entries)]
    rest, sizes = list(now), []
    for index, (value, count) in reversed(list(enumerate(before))):
        above = before[index - 1][0] if index else None
        size, seen = 0, False
        while rest and (index == 0 or rest[-1] != above):
            seen |= rest.pop() == value
            size += 1
        if not seen or size % count:
            return None
        sizes.insert(0, size // count)
    # a 0 before an entry that is neither prompt nor its opposite may as well be a row of the prompt above it
    if any(below not in (0, 1) and above == 0 and size > 1 for (above, _), (below, _), size in zip(before, before[1:], sizes)):
        return None
    source, start = [], 0
    for (_, count), more in zip(before, sizes, strict=True):
        source += [start + i for i in range(count) for _ in range(more)]
        start += count
    return source


def reduce_rows(x: Tensor, call: _Call, now: list[int]) -> Tensor | None:
    """One row group per entry of the call: the first of those that a neighbour's patch made. None if that is not known."""
    if x.shape[0] == call.rows:
        return x
    source, pictures = entry_rows(call.entries, now), call.rows // len(call.entries)
    if source is None or x.shape[0] != len(source) * pictures:
        return None
    first = torch.tensor([source.index(i) for i in range(len(call.entries))], device=x.device)
    return x.unflatten(0, (-1, pictures))[first].flatten(0, 1)


def expand_rows(x: Tensor, rows: int, call: _Call, now: list[int]) -> Tensor | None:
    """`x` with one row group per entry, repeated to the `rows` that a neighbour's patch made. None if that is not known."""
    if x.shape[0] == rows:
        return x
    source, pictures = entry_rows(call.entries, now), call.rows // len(call.entries)
    if source is None or rows != len(source) * pictures:
        return None
    return x.unflatten(0, (-1, pictures))[torch.tensor(source, device=x.device)].flatten(0, 1)


def _make_wrapper(
    models: FireEditModels, run: _Run, tati_strength: float, hvca_strength: float, start: float, end: float
) -> Callable:
    tati, attention = models.editor.tati, models.visual_attention
    latest, earliest = active_timesteps(start, end)  # as the host's percent_to_sigma, said in timesteps

    def wrapper(executor, x, timesteps, context, y=None, control=None, transformer_options=None, **kwargs):
        visual, where, gate = (kwargs.pop(key, None) for key in (VISUAL, WHERE, GATE))
        options = {} if transformer_options is None else transformer_options
        active = visual is not None and where is not None and gate is not None and earliest <= float(timesteps[0]) <= latest
        if active and tati_strength and context is not None:
            rows = gate.reshape(-1) > 0.5
            if bool(rows.any()):
                chosen = context[rows].to(tati.null_embedding.dtype)
                when = timesteps.reshape(-1).expand(context.shape[0])[rows]
                context = context.clone()
                context[rows] = run.inject(tati, chosen, when, tati_strength).to(context.dtype)
        if active and hvca_strength:
            entries = list(options.get("cond_or_uncond") or [0])
            # the latent may be of another size than the mask was made for, as under a tiled or two-stage sampler
            where = F.adaptive_avg_pool2d(where, x.shape[-2:])
            options = options | {KEY: _Call(entries, x.shape[0], run.project(attention, visual), where, context)}
        return executor(x, timesteps, context, y, control, options, **kwargs)

    return wrapper


def _make_patches(
    attention: VisualCrossAttention, places: dict[Place, int], run: _Run, strength: float
) -> tuple[Callable, Callable]:
    def remember(query, context, value, extra_options):
        if KEY in extra_options:
            grid = extra_options.get("activations_shape")  # (rows, channels, height, width) of this level, since host 0.3.40
            extra_options[_HIDDEN] = (query, list(extra_options.get("cond_or_uncond", ())), grid and tuple(grid[-2:]))
        return query, context, value

    def add(out, extra_options):
        call, captured = extra_options.get(KEY), extra_options.pop(_HIDDEN, None)
        block = extra_options.get("block")
        if call is None or captured is None or block is None:
            return out
        index = places.get((*compat.middle_block(block[:2]), extra_options.get("block_index", 0)))
        if index is None:
            return out
        layer = attention.attentions[index]
        projected = call.projected[index]
        hidden = reduce_rows(captured[0], call, captured[1])
        term = None
        if hidden is not None and projected.keys.shape[0] == call.where.shape[0] == call.rows:
            now = list(extra_options.get("cond_or_uncond", call.entries))
            term = layer(hidden.to(projected.keys.dtype), projected, call.where, call.condition, captured[2])
            term = expand_rows(term, out.shape[0], call, now)
        if term is None or term.shape != out.shape:
            if not run.warned:
                logger.warning(
                    "FireEdit: HVCA is left out at %s, because another patch changed the batch in a way that is not understood "
                    "(%d rows became %d)", block, call.rows, out.shape[0],
                )  # fmt: skip
                run.warned = True
            return out
        return out + strength * term.to(out.dtype)

    for function in (remember, add):
        setattr(function, KEY, True)
    return remember, add


def _cross_attentions(unet: nn.Module) -> dict[Place, nn.Module]:
    """Every text cross attention of the host's UNet by place."""
    sides = {"input": enumerate(unet.input_blocks), "middle": [(0, unet.middle_block)], "output": enumerate(unet.output_blocks)}
    found: dict[Place, nn.Module] = {}
    for side, blocks in sides.items():
        for number, block in blocks:
            for layer in block or ():
                for index, transformer in enumerate(getattr(layer, "transformer_blocks", ())):
                    if getattr(transformer, "attn2", None) is not None:
                        found[(side, number, index)] = transformer.attn2
    return found
