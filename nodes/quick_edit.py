# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEditQuickEdit: remove, recolour, another background, tones and cut-outs on photographs, without a generative model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from comfy.utils import ProgressBar
from torch import Tensor

from fireedit_core.grounding.answer import Answer, Target, answers_from_json, regions_meant
from fireedit_core.photo.quick_edit import BY_HAND, QUICK, Edited, by_hand, needs_model, quick_edit, verb
from fireedit_core.regions.dialects import to_mask
from fireedit_core.regions.record import Regions
from fireedit_core.regions.selection import join
from fireedit_core.regions.suppression import SAME_THING, box_iou

from .detection import check_regions
from .errors import FireEditNodeError, named, warned
from .host import models, progress
from .host.compat import CATEGORY, io, schema
from .pictures import batch_text, check_mask, is_blank, size_of, to_core, with_alpha, without_alpha
from .types import RegionsType

NAME = "FireEdit Quick Edit"
_SAME = 2.0  # px by which corners of a region and of an answer's target may differ: records are rounded
_BOXED = "Only its box is known: FireEdit Region Masks gives its outline, where it finds one."


@dataclass(frozen=True)
class _Meant:
    """What is meant in a picture, (H, W); what else there is that must stay; whether the mask is no more than a box."""

    mask: Tensor
    others: Tensor | None = None
    boxed: bool = False


class FireEditQuickEdit(io.ComfyNode):
    """IMAGE + MASK or REGIONS + answer -> IMAGE, MASK, report."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditQuickEdit",
            display_name=NAME,
            category=CATEGORY,
            description="Edits a photograph without a generative model: removes a thing, gives it another colour, puts something else "
            "behind it, changes its tone, or cuts it out. In seconds, at any size; outside of the mask every value stays the photo's own.",
            search_aliases=["remove object", "inpaint", "patchmatch", "recolor", "background", "cut out", "remove background", "photo"],
            inputs=[
                io.Image.Input("image", tooltip="A photograph or a batch. It is never resized, and its alpha is kept."),
                io.String.Input(
                    "answer", default="remove", multiline=True,
                    tooltip="What to do: the answer of FireEdit Ground, or a few words by hand: " + BY_HAND + ".",
                ),
                io.Mask.Input(
                    "mask", optional=True,
                    tooltip="The thing that is meant; for background and cutout it is what stays. One for all pictures, or one each.",
                ),
                RegionsType.Input(
                    "regions", optional=True,
                    tooltip="In place of a mask: the regions of FireEdit Ground or FireEdit Region Masks. Those that the answer names "
                    "count, else those of a score of at least 0.5, else the best; by their masks, or their boxes where they have none.",
                ),
                io.Image.Input(
                    "backdrop", optional=True,
                    tooltip="For background: the picture that goes behind. It is scaled to cover, never stretched. One, or one each.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The edited picture at its own size; RGBA where it came so or was cut out."),
                io.Mask.Output(display_name="mask", tooltip="What was touched: where it is black, every value is the photo's own."),
                io.String.Output(display_name="report", tooltip="What was done, and where it is a guess."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, image, answer, mask=None, regions=None, backdrop=None) -> io.NodeOutput:
        """Picture by picture, so that a large batch needs no more memory than its largest one."""
        colours = to_core(without_alpha(image), NAME)
        rows = list(with_alpha(image, NAME).movedim(-1, 1))
        answers = _answers(answer, len(rows), size_of(colours))
        meant = _things(colours, answers, [_whole(answer, one) for one in answers], mask, regions)
        behind = None if backdrop is None else to_core(without_alpha(backdrop), NAME)
        if behind is not None and behind.shape[0] not in (1, len(rows)):
            raise FireEditNodeError(NAME, f"{batch_text(len(rows))} came, but {len(behind)} backdrops. Connect one for all, or one each.")
        bar, made = ProgressBar(len(rows)), []
        for i, row in enumerate(rows):
            models.check_interrupted()
            progress.say(f"{answers[i].kind}, picture {i + 1} of {len(rows)}" if len(rows) > 1 else answers[i].kind)
            if len(rows) > 1 and not bool((meant[i].mask > 0).any()):
                made.append(Edited(row, torch.zeros_like(meant[i].mask), "nothing of it is marked here; the picture stays as it is."))
            else:
                with named(NAME if len(rows) == 1 else f"{NAME}: picture {i + 1}"):
                    back = None if behind is None else behind[i % len(behind)]
                    one = quick_edit(row, meant[i].mask, answers[i], back, meant[i].others, models.check_interrupted)
                notes = [_BOXED] * meant[i].boxed + warned(NAME, answers[i].doubt(colours[i]))
                made.append(replace(one, report=" ".join([one.report, *notes])))
            bar.update(1)
        text = made[0].report if len(made) == 1 else "\n".join(f"picture {i + 1}: {one.report}" for i, one in enumerate(made))
        edited = _joined([one.image for one in made])
        return io.NodeOutput(edited, models.intermediate(torch.stack([one.mask for one in made])), text, ui=progress.report(text))


def _answers(text: str, count: int, size: tuple[int, int]) -> list[Answer]:
    """One answer per picture."""
    if not isinstance(text, str):
        raise FireEditNodeError(NAME, f"the answer must be text, got {type(text).__name__}. Connect that of FireEdit Ground.")
    if not text.strip():
        raise FireEditNodeError(NAME, f"the answer is empty. Connect that of FireEdit Ground, or write one of: {BY_HAND}.")
    with named(NAME):
        if _is_record(text):
            answers = answers_from_json(text, [size] * count)
        else:
            answers = [by_hand(text, size)] * count
        for one in answers:
            if one.kind not in QUICK:  # before anything is done
                raise FireEditNodeError(NAME, needs_model(one))
    return answers


def _is_record(text: str) -> bool:
    return text.lstrip("\ufeff \n\t").startswith(("{", "["))


def _whole(text: str, answer: Answer) -> bool:
    """Whether a record says that the whole picture is meant ("make it brighter"); a word by hand leaves it to the regions."""
    return _is_record(text) and answer.kind in ("adjust", "recolour") and not answer.thing and not answer.targets


def _things(
    pictures: Tensor, answers: list[Answer], whole: list[bool], mask: Tensor | None, regions: list[Regions] | None
) -> list[_Meant]:  # fmt: skip
    """What is meant in each picture; all of those that are `whole`, unless a mask says otherwise."""
    size = size_of(pictures)
    if not is_blank(mask, NAME):
        return [_Meant(one) for one in check_mask(mask, pictures, NAME)]
    if regions is not None and not all(whole):
        check_regions(regions, pictures, NAME)
        rows = zip(regions, answers, whole, strict=True)
        return [_Meant(torch.ones(size)) if everything else _among(one, answer) for one, answer, everything in rows]
    if any(answer.targets for answer in answers):
        rows = zip(answers, whole, strict=True)
        boxes = lambda answer: _Meant(to_mask(_boxes(answer.chosen, size)), boxed=True)  # noqa: E731
        return [_Meant(torch.ones(size)) if everything else boxes(answer) for answer, everything in rows]
    lost = next((answer for answer in answers if answer.thing or answer.kind in ("remove", "background", "cutout")), None)
    if lost is None and mask is None:  # the whole picture is meant: "make it grey"
        return [_Meant(torch.ones(size))] * len(answers)
    said = "nothing says where" if mask is None else "the mask is empty"
    note = "" if lost is None else lost.note
    raise FireEditNodeError(NAME, f"{said}. Paint a mask of what is meant, or connect regions of FireEdit Ground. {note}".strip())


def _among(regions: Regions, answer: Answer) -> _Meant:
    """The regions that are meant, and all others that do not lie behind them.

    Raises:
        FireEditNodeError: where there is none, or those that are meant have black masks.
    """
    regions = regions.clipped()  # as the targets of an answer are; those beside the picture are none
    if not len(regions) and not answer.chosen:
        raise FireEditNodeError(
            NAME, f"no region came, so nothing is there to {verb(answer.kind)}. Lower score_threshold of FireEdit Region Detect, draw a "
            f"box in FireEdit Region Select, or paint a mask. {answer.note}".strip()
        )  # fmt: skip
    places = [_places(regions, target) for target in answer.chosen]
    # what no region stands for is known by its box alone
    unknown = [target for target, found in zip(answer.chosen, places, strict=True) if not found]
    chosen = list(dict.fromkeys([i for found in places for i in found] + [len(regions) + i for i in range(len(unknown))]))
    if unknown:
        regions = join([regions, _boxes(unknown, answer.image_size)], regions.picture)
    chosen = chosen or regions_meant(regions)
    if not chosen:
        if answer.kind in ("adjust", "recolour") and not answer.thing:
            return _Meant(torch.ones(regions.image_size))
        raise FireEditNodeError(
            NAME, "none of the regions is meant: all have a score of 0, as FireEdit Ground gives them where an instruction means the whole "
            f"picture. Say what to {verb(answer.kind)}, or paint a mask. {answer.note}".strip()
        )  # fmt: skip
    thing = to_mask(regions.select(chosen))
    if not bool((thing > 0).any()):
        raise FireEditNodeError(
            NAME, f"the mask of what is meant ({', '.join(regions.labels[i] for i in chosen[:5])}) is black. Make it with FireEdit Region "
            "Masks, or connect the regions without masks: then their boxes count."
        )  # fmt: skip
    # another name for the same thing is nothing that stays
    same = box_iou(regions.boxes, regions.boxes[chosen]).amax(dim=1) >= SAME_THING
    rest = [i for i in range(len(regions)) if i not in chosen and not bool(same[i])]
    if regions.masks is None:
        return _Meant(thing, boxed=bool(chosen))
    # boxes of others hold too much of what a hole is filled from; what is much larger is what lies behind: a bus behind a walker
    rest = [i for i in rest if not regions.boxed[i] and float(regions.masks[i].sum()) < 2 * float(thing.sum())]
    others = to_mask(regions.select(rest)) * (thing < 0.5) if rest else None
    return _Meant(thing, others, any(regions.boxed[i] for i in chosen))


def _places(regions: Regions, target: Target) -> list[int]:
    """Numbers of the regions that a target of an answer speaks of."""
    return [i for i, box in enumerate(regions.boxes) if bool((box - box.new_tensor(target.box)).abs().max() <= _SAME)]


def _boxes(targets: Sequence[Target], size: tuple[int, int]) -> Regions:
    """Targets as regions of a picture of `size` = (height, width)."""
    if not targets:
        return Regions.empty(size)
    boxes, scores = torch.tensor([target.box for target in targets]), torch.tensor([target.score for target in targets])
    return Regions(boxes, scores, [target.label for target in targets], size)


def _joined(pictures: list[Tensor]) -> Tensor:
    """IMAGE (B, H, W, C) of pictures (C, H, W); where one has alpha, those without get one of 1."""
    channels = max(picture.shape[0] for picture in pictures)

    def filled(x: Tensor) -> Tensor:
        if x.shape[0] == 1 and channels > 1:
            x = x.expand(3, -1, -1)
        return torch.cat([x, torch.ones_like(x[:1])]) if x.shape[0] < channels else x

    return torch.stack([filled(picture).movedim(0, -1) for picture in pictures]).contiguous()
