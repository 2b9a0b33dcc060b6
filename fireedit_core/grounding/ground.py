# SPDX-License-Identifier: GPL-3.0-or-later
"""From an instruction and the regions of a picture to what is meant: regions scored, a mask, the answer record (design D13)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..regions.record import Regions
from ..regions.selection import box_masks
from ..regions.suppression import box_iou
from .answer import CHOSEN, Answer, Target
from .resolve import Found, NotFound, found_text, resolve, subjects
from .words import Words, read_words

_MOST_ALTERNATIVES = 20  # that an answer lists beside what was chosen
_LEAST_SCORE = 0.02
_SUBJECT = (
    "What stands before the background was taken for what is large and in the middle; name it (\"cut out the man on the left\") or pick it "
    "in FireEdit Region Select if it is something else."
)
_SAME_BOX = 0.9  # IoU from which a region of the detector's is the one that a target speaks of: an answer rounds its boxes


@dataclass(frozen=True, eq=False)
class Grounding:
    """What an instruction means on one picture.

    Attributes:
        regions: all regions with the probability that each is meant as their score, best first. mask: (H, W) float 0..1, the union of
            what is chosen; all 1 where the whole picture is meant. answer: the record. message: a sentence or two for a person.
    """

    regions: Regions
    mask: Tensor
    answer: Answer
    message: str


def ground(image: Tensor | None, instruction: str, regions: Regions, answer: str = "") -> Grounding:
    """Find what an instruction means.

    Args:
        image: (3, H, W) RGB 0..1 that the regions belong to, for colours; None leaves colours out. regions: of this picture, with masks or
            without. answer: an `Answer` as JSON; where it is filled it is used as it is, and nothing is read or searched.

    Raises:
        ValueError: in words, for an instruction or an answer that cannot be read, and for regions of another size.
        NotFound: (a ValueError) where nothing in the picture is what the instruction names.
    """
    if image is not None:
        if image.ndim != 3 or image.shape[0] != 3:
            raise ValueError(f"Grounding takes one picture (3, H, W), got {tuple(image.shape)}.")
        regions.check_image((int(image.shape[1]), int(image.shape[2])))
        image = image.detach().float().cpu()
    if answer.strip():
        return from_answer(Answer.from_json(answer, regions.image_size), regions)
    words = read_words(instruction)
    scores, chosen, guess, notes = _search(words, regions, image)
    notes = [*words.notes, *notes]
    if words.more:
        notes.append(
            f"Only the first edit was read; {len(words.more)} more: {'; '.join(words.more)[:300]}. Give each its own FireEdit Ground, or "
            "use FireEdit Multi Turn."
        )
    whole = not (words.phrases and chosen or words.subject)
    return scored(regions, scores, chosen, words.kind, words.thing, words.after, words.keep, notes, guess, whole)


def scored(
    regions: Regions, scores: Tensor, chosen: tuple[int, ...], kind: str, thing: str, after: str, keep: Sequence[str], notes: Sequence[str],
    guess: bool = False, whole: bool = False,
) -> Grounding:  # fmt: skip
    """The grounding of regions of which some are chosen, whoever chose.

    Args:
        scores: (n,) probability that each is meant; see `_told_apart`. chosen: numbers of those that are. kind, thing, after, keep: as in
            `Answer`; what is too long for it is cut. notes: sentences for a person. guess: the choice is one. whole: the mask is the whole
            picture.
    """
    scores = _told_apart(scores, chosen)
    targets = _targets(regions, scores, chosen)
    kept = tuple(text[:500] for text in keep[:20])
    record = Answer(kind, thing[:500], targets, after[:1000], kept, regions.image_size, " ".join(notes)[:1900], regions.picture)
    order = torch.argsort(scores, descending=True, stable=True)
    mask = torch.ones(regions.image_size) if whole else _union(regions, chosen)
    return Grounding(regions.with_scores(scores).select(order), mask, record, _message(record, regions, chosen, guess, notes))


def from_answer(answer: Answer, regions: Regions) -> Grounding:
    """The grounding that a record says: its targets as regions, with the masks of those regions that have the same box."""
    if not answer.targets:
        none = regions.with_scores(torch.zeros(len(regions)))  # the detector's scores do not say what is meant
        return Grounding(none, torch.ones(answer.image_size), answer, f"{_kind_text(answer)}: the whole picture (as answered).")
    boxes = torch.tensor([target.box for target in answer.targets])
    scores = torch.tensor([target.score for target in answer.targets])
    made = Regions(boxes, scores, tuple(target.label for target in answer.targets), answer.image_size)
    masks, boxed, bare = None, [], 0
    if regions.masks is not None and len(regions):
        overlap, index = box_iou(boxes, regions.clipped().boxes.cpu() if _all_inside(regions) else regions.boxes.cpu()).max(1)
        masks, boxed = box_masks(made), [True] * len(made)
        for row, (iou, number) in enumerate(zip(overlap.tolist(), index.tolist(), strict=True)):
            if iou >= _SAME_BOX:
                masks[row] = regions.masks[number].float().cpu()
                boxed[row] = regions.boxed[number]
            else:
                bare += 1
    made = replace(made, masks=masks, boxed=boxed, picture=regions.picture).sorted_by_score()
    meant = [i for i, score in enumerate(made.scores.tolist()) if score >= CHOSEN] or [0]
    message = f"{_kind_text(answer)}: {len(meant)} of {len(made)} regions (as answered)."
    if bare:
        message += f" No region that came lies where {bare} of them {'lies' if bare == 1 else 'lie'}, so the box is the mask there."
    return Grounding(made, _union(made, tuple(meant)), answer, message)


def _all_inside(regions: Regions) -> bool:
    return len(regions.clipped()) == len(regions)


def _search(words: Words, regions: Regions, image: Tensor | None) -> tuple[Tensor, tuple[int, ...], bool, list[str]]:
    """(scores (n,), chosen, whether it is a guess, notes)."""
    scores = torch.zeros(len(regions))
    if words.subject:
        chosen = subjects(regions)
        if not chosen:
            raise NotFound(f"nothing was found that stands before the background. {found_text(regions)}")
        for number in chosen:
            scores[number] = max(CHOSEN, float(regions.scores[number].clamp(0, 1)) ** 0.5)
        return scores, chosen, False, [_SUBJECT]
    if not words.phrases:
        return scores, (), False, []
    chosen: list[int] = []
    guess, notes = False, []
    for phrase in words.phrases:
        try:
            found = resolve(phrase, regions, image)
        except NotFound as error:
            owner = _owner(words, phrase, regions, image)
            if owner is None:
                if not words.anchor:
                    raise
                notes.append(f"Where it goes is not known, so the whole picture is given: {str(error).split('. ')[0]}.")
                continue
            found = owner
        chosen += [number for number in found.chosen if number not in chosen]
        scores = torch.maximum(scores, found.scores)
        guess = guess or found.guess
        notes += [note for note in found.notes if note not in notes]
    return scores, tuple(chosen), guess, notes


def _owner(words: Words, phrase, regions: Regions, image: Tensor | None) -> Found | None:  # noqa: ANN001
    """What is added to a part goes where the whole is: "put a ring on the hand of the man" """
    if not words.anchor or phrase.name or not phrase.relations or phrase.relations[0][0] != "of":
        return None
    try:
        return resolve(phrase.relations[0][1][0], regions, image)
    except NotFound:
        return None


def _told_apart(scores: Tensor, chosen: tuple[int, ...]) -> Tensor:
    """The scores (n,) by which all nodes tell what is chosen: those of `CHOSEN` and more, else the best alone.

    So the rest stays below, and a guess that is taken beside something sure is lifted: else it would be in the mask, and in nothing more.
    """
    taken = torch.zeros(len(scores), dtype=torch.bool)
    taken[list(chosen)] = True
    return torch.where(taken, scores.clamp(min=CHOSEN if len(chosen) > 1 else 0.0), scores.clamp(max=CHOSEN - 0.01))


def _targets(regions: Regions, scores: Tensor, chosen: tuple[int, ...]) -> tuple[Target, ...]:
    height, width = regions.image_size
    made = []
    order = torch.argsort(scores, descending=True, stable=True).tolist()
    alternatives = [i for i in order if i not in chosen and float(scores[i]) >= _LEAST_SCORE][:_MOST_ALTERNATIVES]
    for i in (*sorted(chosen, key=lambda i: -float(scores[i])), *alternatives):
        x1, y1, x2, y2 = regions.boxes[i].tolist()
        score = float(scores[i].clamp(0, 1))
        made.append(Target((max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))), score, regions.labels[i]))
    return tuple(made)


def _union(regions: Regions, chosen: tuple[int, ...]) -> Tensor:
    mask = torch.zeros(regions.image_size)  # one after the other: thirty masks of a large photograph do not fit beside each other
    for i in chosen:
        if regions.masks is not None:
            mask = torch.maximum(mask, regions.masks[i].float().cpu())
            continue
        x1, y1, x2, y2 = regions.boxes[i].round().int().tolist()
        mask[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)] = 1
    return mask.clamp(0, 1)


def _kind_text(answer: Answer) -> str:
    return f"{answer.kind} {answer.thing}".strip() + (f" -> {answer.after}" if answer.after else "")


def _message(answer: Answer, regions: Regions, chosen: tuple[int, ...], guess: bool, notes: Sequence[str]) -> str:
    if not chosen:
        what = "the whole picture"
    else:
        what = ", ".join(f"{target.label} ({target.score:.2f})" for target in answer.targets[: min(len(chosen), 12)])
        what += f" and {len(chosen) - 12} more" if len(chosen) > 12 else ""
    return " ".join([f"{_kind_text(answer)[:400]}: {'a guess, ' if guess else ''}{what}.", *notes])
