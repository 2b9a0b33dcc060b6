# SPDX-License-Identifier: GPL-3.0-or-later
"""Grounding by a language model that sees. What it cannot do falls back on words, and the note says which way it went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..regions.drawing import draw_regions
from ..regions.record import OBJECT_LABEL, Regions
from ..regions.selection import join
from ..regions.suppression import box_iou
from ..regions.transformers_detector import to_picture
from .ground import Grounding, ground, scored
from .names import label_name
from .phrases import Phrase
from .protocol import MOST_MARKS, Reply, complaint, question, read_reply, reply_schema
from .resolve import NotFound, resolve
from .words import read_words

if TYPE_CHECKING:
    from .chat import ChatModel
    from .florence import FlorenceModel

Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels

SURE = 0.9  # score of what a model named: it gives no probability of its own
_SAME = 0.75  # IoU from which a box that a model wrote is the region that is there already, whose edges are better
_MOST_INSTRUCTION = 1_000  # characters
MOST_TOKENS = 512  # of one reply
_ROUNDS = 2


def ground_by_model(
    model: ChatModel | FlorenceModel,
    image: Tensor,
    instruction: str,
    regions: Regions,
    progress: Callable[[int], None] | None = None,
    most_tokens: int = MOST_TOKENS,
) -> Grounding:
    """As `ground`, by a model; in any language with a chat model, in English with Florence-2.

    Args:
        image: (3, H, W) RGB 0..1. regions: proposals of this picture, may be none. progress: called with the number of tokens written
            after each; may raise to stop. most_tokens: of one reply.

    Raises:
        ValueError: in words, for no instruction, and where neither the model nor words can read it.
        NotFound: (a ValueError) where it is read and the picture has nothing of it.
    """
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"Grounding takes one picture (3, H, W), got {tuple(image.shape)}.")
    regions.check_image((int(image.shape[1]), int(image.shape[2])))
    if not instruction.strip():
        raise ValueError('the instruction is empty. Say what to edit, for example "remove the cat" or "make the cup blue".')
    if len(instruction) > _MOST_INSTRUCTION:
        raise ValueError(f"the instruction has {len(instruction)} characters; up to {_MOST_INSTRUCTION} are read. Say it in a sentence.")
    image = image.detach().float().cpu()
    if hasattr(model, "locate"):
        return _by_florence(model, image, instruction, regions, progress)
    return _by_chat(model, image, instruction, regions, progress, most_tokens)


def _by_chat(
    model: ChatModel, image: Tensor, instruction: str, regions: Regions, progress: Callable[[int], None] | None, most_tokens: int
) -> Grounding:
    # a mark needs a box that can be seen; numbers of marks are places in `regions`, best score first
    marked = torch.argsort(regions.scores, descending=True, stable=True)[:MOST_MARKS].tolist()
    picture, marks = _marked_picture(model, image, regions.select(marked))
    seen, size = model.seen(picture), regions.image_size
    turns = [question(instruction, marks, model.dialect, seen)]
    schema = reply_schema(len(marks), model.dialect, seen)
    problems: list[str] = []
    for round_ in range(_ROUNDS):
        said = model.reply(picture, turns, schema, most_tokens, progress)
        try:
            reply = read_reply(said, len(marks), model.dialect, size, seen)
        except ValueError as error:
            problems.append(str(error))
            turns += [said.strip() or "(nothing)", complaint(str(error))]
            continue
        how = ["held to the form of the answer"] if model.constrained else []
        how += ["asked twice, as the first answer could not be used: " + problems[0]] if round_ else []
        notes = [f"Read by {model.name} ({', '.join([*how, f'saw {picture.width} x {picture.height} pixels'])})."]
        if len(marked) < len(regions):
            notes.append(f"It was shown the {len(marked)} best of {len(regions)} regions.")
        return _from_reply(reply, regions, marked, notes)
    return _by_words(image, instruction, regions, f"{model.name} gave no answer that could be used ({'; then '.join(problems)})")


def _by_florence(
    model: FlorenceModel, image: Tensor, instruction: str, regions: Regions, progress: Callable[[int], None] | None
) -> Grounding:
    """Words say what kind of edit it is and of what; the model says where such things are; and words, which of them is meant.

    The model grounds every noun that it is given, and has no notion of a place, an order or a number.
    """
    words = read_words(instruction)
    if not words.phrases:
        return _by_words(image, instruction, regions, f"Nothing is named that {model.name} could look for")
    picture = to_picture(image[None])
    boxes, targets, notes, guess = [], [], [f"Read by words, found by {model.name}."], False
    for phrase in words.phrases:
        located = _located(phrase, lambda text: model.locate(picture, text, progress=progress), regions.image_size)
        if not len(located):
            return _by_words(image, instruction, regions, f"{model.name} found nothing of it")
        names = set(located.labels)
        rest = [] if OBJECT_LABEL in names else [i for i, label in enumerate(regions.labels) if label_name(label) not in names]
        try:
            found = resolve(phrase, join([located, regions.select(rest)]), image)
        except NotFound as error:
            why = f"Of what {model.name} found nothing is meant ({str(error).split('. ')[0]})"
            return _by_words(image, instruction, regions, why)
        boxes += [tuple(located.boxes[i].tolist()) for i in found.chosen if i < len(located)]
        targets += [rest[i - len(located)] for i in found.chosen if i >= len(located)]
        notes += [note for note in found.notes if note not in notes]
        guess = guess or found.guess
    reply = Reply(words.kind, words.thing, words.after, words.keep, tuple(dict.fromkeys(targets)), tuple(dict.fromkeys(boxes)))
    if words.more:
        notes.append(f"Only the first edit was read; {len(words.more)} more: {'; '.join(words.more)[:300]}.")
    return _from_reply(reply, regions, list(range(len(regions))), notes, guess)


def _located(phrase: Phrase, look: Callable[[str], list[Box]], size: tuple[int, int]) -> Regions:
    """What a phrase names, and what it is placed by, as regions of a picture of `size`; none where what it names itself was not found."""
    found: list[tuple[Box, str]] = []
    for noun in phrase.nouns or [""]:
        # what words cannot judge ("wooden"), the model may see
        own = " ".join([*phrase.unread, *phrase.colours, noun]) if noun == phrase.noun and noun else noun or phrase.text
        boxes = look(own)
        if not boxes and noun == phrase.noun:
            return Regions.empty(size)
        found += [(box, label_name(noun) if noun else OBJECT_LABEL) for box in boxes]
    if not found:
        return Regions.empty(size)
    return Regions(torch.tensor([box for box, _ in found]), torch.full((len(found),), SURE), [label for _, label in found], size)


def _from_reply(reply: Reply, regions: Regions, marked: list[int], notes: list[str], guess: bool = False) -> Grounding:
    """The regions and what is new among the boxes, with what was named chosen."""
    chosen = [marked[number] for number in reply.targets]
    new = []
    if reply.boxes:
        boxes = torch.tensor(reply.boxes)
        overlap = box_iou(boxes, regions.boxes.cpu()) if len(regions) else torch.zeros(len(boxes), 1)
        for box, row in zip(reply.boxes, overlap, strict=True):
            if float(row.max()) >= _SAME:
                chosen.append(int(row.argmax()))
            else:
                new.append(box)
    label = reply.before[:60] or OBJECT_LABEL
    joined = _with_boxes(regions, new, label)
    chosen = list(dict.fromkeys([*chosen, *range(len(regions), len(joined))]))
    scores = torch.zeros(len(joined))
    scores[chosen] = SURE
    whole = not chosen
    return scored(joined, scores, tuple(chosen), reply.kind, reply.before, reply.after, reply.keep, notes, guess, whole)


def _with_boxes(regions: Regions, boxes: list[tuple[float, ...]], label: str) -> Regions:
    if not boxes:
        return regions
    new = Regions(torch.tensor(boxes), torch.full((len(boxes),), SURE), (label,) * len(boxes), regions.image_size)
    return join([regions, new], regions.picture)


def _by_words(image: Tensor, instruction: str, regions: Regions, why: str) -> Grounding:
    """What words make of it, with the reason in front."""
    try:
        found = ground(image, instruction, regions)
    except NotFound as error:
        raise NotFound(f"{why}, and by words {error}") from error
    except ValueError as error:
        raise ValueError(f"{why}, and by words {error}") from error
    note = f"{why}: it was read by words."
    answer = replace(found.answer, note=f"{note} {found.answer.note}"[:1900])
    return replace(found, answer=answer, message=f"{found.message} {note}")


def _marked_picture(model: ChatModel, image: Tensor, regions: Regions) -> tuple[Image.Image, Regions]:
    """The picture as the model gets it, with the boxes and their numbers on it; and the regions without masks, in our own pixels."""
    marks, picture, size = replace(regions, masks=None), to_picture(image[None]), model.fitted(regions.image_size)
    if size != regions.image_size:
        picture = picture.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    if not len(marks):
        return picture, marks
    drawn = draw_regions(torch.from_numpy(np.array(picture)).float() / 255, marks.scaled_to(size), labels=False, scores=False, min_side=0)
    return Image.fromarray(drawn), marks
