# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits of a photograph that need no generative model, as an answer (design D13) asks for them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..blur import gaussian_blur
from ..grounding.answer import Answer
from .backdrop import BLUR, blurred, cover, cut_out, over
from .colours import is_colour, read_colour
from .fill import fill
from .paste import STRIP, blended
from .recolour import recolour
from .tones import adjust

QUICK = ("remove", "recolour", "background", "adjust", "cutout")  # kinds of an answer that are done here
_TRANSPARENT = {"transparent", "transparency", "nothing", "none", "alpha"}
_DECIDED = 0.01  # mattes of networks are hardly ever 0 or 1, and a picture of 8 bits cannot show so little of a mixture
_ALL_BUT_ALL = 0.9  # of the picture: a mask of more than this is seldom meant before a new background
_UNSEEN = 3 / 255  # mean change of a thing from which on a person sees one
_BLUR = {"blur", "blurred", "blurry", "out of focus", "bokeh", "defocused"}
_KINDS_BY_HAND = {
    "remove": "remove", "delete": "remove", "erase": "remove", "recolour": "recolour", "recolor": "recolour", "colour": "recolour",
    "color": "recolour", "background": "background", "backdrop": "background", "cutout": "cutout", "cut out": "cutout", "cut-out": "cutout",
    "adjust": "adjust",
}  # fmt: skip
_ADJUST_BY_HAND = {
    "brighter": "brighter", "brighten": "brighter", "lighter": "brighter", "darker": "darker", "darken": "darker", "blurred": "blurred",
    "blur": "blurred", "grey": "grey", "gray": "grey", "greyscale": "grey", "grayscale": "grey",
}  # fmt: skip
_UNUSED = "; the picture at backdrop did not count"
# tones of a background, in words -> as `adjust` calls them; a background of the colour grey is "grey"
_TONES_BEHIND = {"brighter": "brighter", "darker": "darker", "black and white": "grey"}
BY_HAND = "remove; recolour: dark red; background: blur (or transparent, white, picture); cutout; brighter, darker, blurred or grey"


class NeedsModel(ValueError):
    """What was asked for cannot be done without a generative model; the message names the way on."""


@dataclass(frozen=True)
class Edited:
    """A photograph after an edit.

    Attributes:
        image: (C, H, W) as it came, bit for bit wherever `mask` is 0; 4 channels where the edit gives alpha. mask: (H, W) in 0..1, the
        alpha with which something new was put in. report: what was done, in words.
    """

    image: Tensor
    mask: Tensor
    report: str


def quick_edit(
    image: Tensor, mask: Tensor, answer: Answer, backdrop: Tensor | None = None, avoid: Tensor | None = None,
    check: Callable[[], None] = lambda: None,
) -> Edited:  # fmt: skip
    """Edit one photograph.

    Args:
        image: (1, 3 or 4, H, W) float in 0..1: grey, colour, or colour and alpha. Alpha is kept as it is, except where the edit makes it.
        mask: (H, W) in 0..1, the thing that is meant. For a background and a cut-out it is what stays. Within 1 % of 0 or 1 it is that:
            there the picture's own values stay bit for bit, or are wholly replaced.
        answer: what to do: its `kind` and `after` are read. backdrop: (3, h, w) in 0..1, the picture for a new background, of any size.
        avoid: (H, W) in 0..1, other things, which "remove" must neither take nor copy. check: called now and then; may raise to stop.

    Raises:
        NeedsModel: for what needs a generative model.
        ValueError: for shapes that do not fit, values that are not finite, an empty mask, a mask that leaves nothing, an unknown colour.
    """
    _check(image, mask, backdrop)
    kind, after = answer.kind, answer.after.strip().lower()
    if kind not in QUICK:
        raise NeedsModel(needs_model(answer))
    mask = _decided(mask.to(image.device, torch.float32).clamp(0, 1))
    if not bool((mask > 0).any()):
        raise ValueError(f"the mask is empty, so there is nothing to {verb(kind)}. Paint one, or connect regions. {answer.note}".strip())
    rgb = image[:3].expand(3, -1, -1) if image.shape[0] == 1 else image[:3]
    thing = answer.thing or ", ".join(dict.fromkeys(target.label for target in answer.chosen[:5])) or "the thing"
    brightest = float(mask.max())
    share = float((mask > min(0.5, 0.5 * brightest)).float().mean())
    if kind in ("background", "cutout") and not bool((mask < 1).any()):
        raise ValueError(f"the mask covers the whole picture, so nothing is left that would be behind {thing}. Mark only what stays.")
    if kind == "remove":
        filled = fill(rgb, mask, avoid, check)
        new, touched = filled.image, filled.alpha
        said = f"removed {thing} ({share:.1%} of the picture) with its rim of {filled.grown} px; filled by {filled.way}"
        if filled.rim >= 0.01:
            said += f"; a shadow or leftovers beside it ({filled.rim:.0%} of its size) went with it"
        if filled.guesses:
            said += f". The fill is a guess: {', and '.join(filled.guesses)}. An inpainting model can take it from here: denoise about .6"
    elif kind == "recolour":
        colour = read_colour(answer.after)
        new, touched, said = recolour(rgb, mask, colour, check), mask, f"recoloured {thing} ({share:.1%} of the picture): {colour.name}"
    elif kind == "adjust":
        new, touched, said = adjust(rgb, mask, after, check), mask, f"made {thing} ({share:.1%} of the picture) {after}"
    else:
        matte = _soft_edge(mask)
        if kind == "cutout" or after in _TRANSPARENT:
            said = f"cut out {thing} ({share:.1%} of the picture); all else is transparent"
            return _cut_out(image, rgb, matte, said + ("" if backdrop is None else _UNUSED))
        touched = 1 - matte
        if after in _TONES_BEHIND:
            new = adjust(rgb, touched, _TONES_BEHIND[after], check)
            said = f"made what is behind {thing} ({share:.1%} of the picture) {after}"
        else:
            behind, what = _behind(rgb, matte, answer, backdrop, check)
            new = over(rgb, matte, behind, check)
            said = f"put {what} behind {thing} ({share:.1%} of the picture)"
        if share > _ALL_BUT_ALL:
            said += "; hardly anything is left that would be behind it, so look at the mask"
        if image.shape[0] == 4 and bool((image[3] < 1).any()):
            said += "; the picture's own alpha is kept, so what was transparent stays so"
    if backdrop is not None and (kind != "background" or after in _BLUR or after in _TONES_BEHIND):
        said += _UNUSED
    if kind in ("recolour", "adjust") and _change(rgb, new, mask) < _UNSEEN:
        said += ". Hardly anything is seen of it: the thing looks so already, or is too dark or too bright to take it"
    if brightest <= 0.5 and kind != "remove":  # which takes away all that is marked, however faintly
        said += f". The mask is nowhere brighter than {brightest:.2f}, so most of what was there is still seen: paint it white"
    if image.shape[0] == 1:
        new = _as_it_came(image, new, touched)
        said += "" if new.shape[0] == 1 else "; the grey picture became one of colours"
    elif image.shape[0] == 4:
        new = torch.cat([new, image[3:]])
    return Edited(new, touched, said + ".")


def by_hand(text: str, size: tuple[int, int]) -> Answer:
    """The answer for a few plain words: "remove", "recolour: blue", "background: blur", "cutout", "brighter".

    Args:
        size: (height, width) of the picture.

    Raises:
        ValueError: for other words; lists those that are known.
    """
    words = re.sub(r"\s+", " ", text.strip().lower())
    if words in _ADJUST_BY_HAND:
        return Answer("adjust", "", (), _ADJUST_BY_HAND[words], (), size)
    name, _, after = words.partition(":")
    name, after = name.strip(), after.strip()
    if name == "adjust":
        after = _ADJUST_BY_HAND.get(after, "")
    kind = _KINDS_BY_HAND.get(name)
    if kind is None or (not after and kind in ("recolour", "background", "adjust")):
        raise ValueError(
            f"{text.strip()[:80]!r} is no answer. Connect that of FireEdit Ground (it reads whole sentences), or write one of: {BY_HAND}."
        )
    if after and kind in ("remove", "cutout"):
        raise ValueError(f"{name!r} takes no more words, and {after[:60]!r} would have no effect: mask or regions say what is meant.")
    return Answer(kind, "", (), after, (), size)


def needs_model(answer: Answer) -> str:
    """What is said where an edit needs a generative model: why, and the way on."""
    if answer.kind == "other" and answer.targets:
        return (
            f"what is asked for ({(answer.after or answer.thing)[:60]!r}) is no edit that is known here. Without an edit model these are "
            "done: remove it, make it blue (any colour), make it brighter, darker, grey or blurred, blur or replace the background, cut it "
            "out. Say it in such words, or give picture, mask and instruction to an edit model."
        )
    wanted = {"replace": "put something else in its place", "add": "add something", "restyle": "give a picture another style"}
    what = wanted.get(answer.kind, "do what was asked for")
    what += f" ({answer.after[:60]!r})" if answer.after else ""
    whole = ""
    if not answer.targets and answer.kind in ("restyle", "other"):
        whole = "for the whole picture the workflow of an edit model that you have (Kontext, Qwen-Image-Edit); for a part of it "
    return (
        f"to {what} needs an edit model; this does only what goes without one: {', '.join(QUICK)}. The way on: {whole}the edit "
        "model that you have between FireEdit Photo Crop, FireEdit Confine and FireEdit Photo Finish (templates fireedit_photo_kontext, "
        "_qwen, _klein, _ip2p), or the region through FireEdit Regions to Mask into an inpainting workflow."
    )


def _behind(rgb: Tensor, matte: Tensor, answer: Answer, picture: Tensor | None, check: Callable[[], None]) -> tuple[Tensor, str]:
    """The new background (3, H, W), and its name."""
    height, width = rgb.shape[-2:]
    after = answer.after.strip().lower()
    if after in _BLUR:
        return blurred(rgb, matte, BLUR * max(height, width), check), "a blur of the background"
    if picture is not None:
        return cover(picture, (height, width)), "the given picture" + (f" ({after!r} did not count)" if is_colour(after) else "")
    if is_colour(after):
        colour = read_colour(after)
        return colour.srgb.to(rgb)[:, None, None].expand(3, height, width), f"plain {colour.name}"
    if not after:
        raise ValueError("nothing is named that shall be behind it. Name a colour, blur or transparent, or connect a picture to backdrop.")
    raise NeedsModel(
        f"a background of {answer.after[:60]!r} has to come from somewhere: connect a picture of it to backdrop, or name a colour, blur "
        "or transparent. Made from words it needs an edit model: take the inverted mask into an inpainting workflow."
    )


def _cut_out(image: Tensor, rgb: Tensor, matte: Tensor, said: str) -> Edited:
    """With alpha; that of the picture stays below it."""
    made = cut_out(rgb, matte)
    if image.shape[0] == 4:
        alpha = torch.where(matte >= 1, image[3], image[3] * matte.to(image))
        made = torch.cat([made[:3], alpha[None]])
    return Edited(made, 1 - matte, said + ".")


def _decided(mask: Tensor) -> Tensor:
    """A mask, changed in place: what is all but 0 or 1 becomes that."""
    mask[mask < _DECIDED] = 0
    mask[mask > 1 - _DECIDED] = 1
    return mask


def _change(old: Tensor, new: Tensor, mask: Tensor) -> float:
    """Mean absolute change (0..1) of pictures (3, H, W) where a mask (H, W) is at its brightest."""
    inside = mask >= mask.max()
    total = 0.0
    for top in range(0, mask.shape[0], STRIP):
        here = inside[top : top + STRIP]
        total += float((new[:, top : top + STRIP][:, here] - old[:, top : top + STRIP][:, here]).abs().sum(dtype=torch.float64))
    return total / (3 * int(inside.sum()))


def _soft_edge(mask: Tensor) -> Tensor:
    """A mask whose edge is a step gets one of a pixel or two, outwards: what is 1 stays 1. Others stay as they are."""
    between = ((mask > 0) & (mask < 1)).float().mean()
    edge = ((mask[1:] > 0.5) != (mask[:-1] > 0.5)).float().mean() + ((mask[:, 1:] > 0.5) != (mask[:, :-1] > 0.5)).float().mean()
    if float(between) > 0.5 * float(edge):
        return mask
    sigma = max(0.8, 0.0005 * max(mask.shape))
    return torch.maximum(mask, (2 * gaussian_blur(mask[None, None], sigma)[0, 0]).clamp(0, 1))


def _as_it_came(image: Tensor, new: Tensor, touched: Tensor) -> Tensor:
    """A grey picture (1, H, W) stays grey where all of the edit is grey; else colours (3, H, W)."""
    return new[:1] if bool((new == new[:1]).all()) else blended(image.expand(3, -1, -1), new, (touched > 0).float())


def verb(kind: str) -> str:
    """What a kind of edit does to a thing, as a verb."""
    return {"background": "keep before a new background", "cutout": "cut out", "adjust": "change"}.get(kind, kind)


def _check(image: Tensor, mask: Tensor, picture: Tensor | None) -> None:
    if image.ndim != 3 or image.shape[0] not in (1, 3, 4) or 0 in image.shape or not image.is_floating_point():
        raise ValueError(f"the picture must be float (1, 3 or 4, H, W), got {tuple(image.shape)} of {image.dtype}.")
    if mask.shape != image.shape[-2:]:
        raise ValueError(f"the mask has shape {tuple(mask.shape)}, but the picture is {image.shape[1]} high and {image.shape[2]} wide.")
    if picture is not None and (picture.ndim != 3 or picture.shape[0] != 3 or 0 in picture.shape):
        raise ValueError(f"the backdrop must be one picture (3, h, w), got {tuple(picture.shape)}.")
    for name, values in (("picture", image), ("mask", mask), ("backdrop", picture)):
        # a sum tells at once, and what is no number stays in it; only one that overflows says nothing
        if values is not None and not bool(torch.isfinite(values.sum(dtype=torch.float32))) and not bool(torch.isfinite(values).all()):
            raise ValueError(f"the {name} has values that are not numbers (NaN or infinite).")
