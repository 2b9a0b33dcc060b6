# SPDX-License-Identifier: GPL-3.0-or-later
"""Which regions a noun phrase means: a weight for each region from its name, colour, place and neighbours, then honest probabilities.

Weights are products of fits in 0..1, each relative to the region that fits best. What no word tells apart shares the probability,
so a guess among four never looks like knowledge.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..regions.record import OBJECT_LABEL, WHOLE_IMAGE_LABEL, Regions
from ..regions.suppression import SAME_THING, box_iou
from . import names
from .answer import CHOSEN
from .colours import colour_share
from .phrases import ALL, PARTS, Phrase
from .places import ORDERS, SIDES, between, from_middle, gap, lies, ranked, towards

_DOUBT = 0.05  # weight of "none of these", beside the best region's 1
_PROMINENCE = 0.3  # of what is named without more, the larger is rather meant: weight (area / largest area) ** this
_FITS = 0.4  # of several that are meant, those that fit at least this well against the best
_CLEAR = 0.5  # a second best of more than this share of the best makes a guess of the choice
_SUBJECT = 0.4  # of the most salient region's salience: what stands before a background beside it
_HALFWAY = 0.05  # of the picture's side: a centre that is no further from the middle is on neither side
_MISMATCH = 0.75  # of a score, for each thing said of a region that it does not show
_DISSENT = 0.5  # of a region's score: from there on another name for the same box is told
_SHADOW = 0.45  # of the surest candidate's score: below it another is no candidate
_NEAR = 0.35  # of the nearest one's size and place: from there on something stands in the foreground with it
_READER = "a detector that reads a prompt (Grounding DINO, OWLv2; FireEdit Detector Loader), which finds anything that has a name"
_THINNEST = 0.5  # pixels: an answer writes boxes to a tenth of one
_MOST_TYPOS = 0.84  # likeness of words from which one is taken for a slip of the other


class NotFound(ValueError):
    """Nothing in the picture is what the words name. The message lists what was found and what can be named."""


@dataclass(frozen=True)
class Found:
    """What a phrase means among the regions of a picture.

    Attributes:
        scores: (n,) how sure it is that each region is meant, 0..1. chosen: numbers of the regions that are taken, best first.
        guess: whether others would have been as good. notes: what to say to a person.
    """

    scores: Tensor
    chosen: tuple[int, ...]
    guess: bool = False
    notes: tuple[str, ...] = ()


def resolve(phrase: Phrase, regions: Regions, image: Tensor | None = None) -> Found:
    """Find what a phrase means.

    Args:
        regions: of one picture. image: (3, H, W) RGB 0..1 of the same size, for colours; without it they are left out, and noted.

    Raises:
        NotFound: for a noun that nothing found is called, for a place in a row that is longer than the row, and where nothing is left.
    """
    return _Search(regions, image).find(phrase)


def subjects(regions: Regions) -> tuple[int, ...]:
    """Numbers of the regions that stand before the background: the most salient one, and those beside it that are nearly so."""
    search = _Search(regions, None)
    everything = search.distinct(search.usable())
    if not everything:
        return ()
    salience = search.salience()
    best = max(float(salience[i]) for i in everything)
    # people before a bus are in front of the background as the bus is
    least = {i: _SUBJECT * best * (0.6 if search.labels[i] == "person" else 1) for i in everything}
    kept = [i for i in everything if float(salience[i]) >= least[i]]
    return tuple(sorted(kept, key=lambda i: -float(salience[i])))


def main_object(regions: Regions) -> int | None:
    """Number of the one large and central region of a picture; None where there is none, or several compete."""
    search = _Search(regions, None)
    everything = search.distinct(search.usable())
    if not everything:
        return None
    best = sorted(everything, key=lambda i: -float(search.salience()[i]))
    first = float(search.salience()[best[0]])
    alone = len(best) == 1 or float(search.salience()[best[1]]) < 0.7 * first
    return best[0] if alone and search.share()[best[0]] >= 0.03 else None


def listing(regions: Regions) -> str:
    """What was found, in words: "bus (0.79), 4 x person (best 0.77)"."""
    best: dict[str, float] = {}
    for label, score in zip(regions.labels, regions.scores.tolist(), strict=True):
        best[label] = max(best.get(label, 0.0), score)
    count = Counter(regions.labels)
    parts = [
        f"{label} ({score:.2f})" if count[label] == 1 else f"{count[label]} x {label} (best {score:.2f})"
        for label, score in sorted(best.items(), key=lambda item: -item[1])
    ]
    return ", ".join(parts[:20]) + (f" and {len(parts) - 20} more names" if len(parts) > 20 else "")


def found_text(regions: Regions) -> str:
    """A sentence on what was found, and on the main object, by which anything can be meant."""
    if not len(regions):
        return "No region was found in the picture. Lower score_threshold of the detector, or draw a box in FireEdit Region Select."
    usable = _Search(regions, None).usable()
    if not usable:
        return "The regions that came have no area inside of the picture. Detect anew, or draw a box in FireEdit Region Select."
    regions = regions.select(usable)
    text = f"Found: {listing(regions)}."
    main = main_object(regions)
    if main is not None:
        search = _Search(regions, None)
        taken = " or ".join(search.opinion(i) for i in (main, *search.rivals(main)[:1]))
        text += f' The picture has one main object, taken for {taken}: say "the main object" if you mean it.'
    return text


def _one(label: str) -> str:
    return f"{'an' if label[:1] in 'aeiou' else 'a'} {label}"


class _Search:
    """The regions of one picture, and what is measured of them when it is asked for."""

    def __init__(self, regions: Regions, image: Tensor | None):
        self.regions, self.image = regions, image
        self.height, self.width = regions.image_size
        limit = torch.tensor([self.width, self.height, self.width, self.height], dtype=torch.float32)
        self.boxes = torch.minimum(regions.boxes.cpu().clamp(min=0), limit)
        self.labels = [names.label_name(label) for label in regions.labels]
        self.trust = regions.scores.cpu().clamp(0, 1)
        self.area = (self.boxes[:, 2:] - self.boxes[:, :2]).clamp(min=0).prod(1)
        self.centre = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2
        self.overlap = box_iou(self.boxes, self.boxes)

    def usable(self) -> list[int]:
        """Numbers of the regions that are a thing: with an area inside the picture, no mere line, not the picture as a whole."""
        sides = (self.boxes[:, 2:] - self.boxes[:, :2]).amin(dim=1) if len(self.labels) else self.area
        there = (self.area >= 1) & (sides >= _THINNEST)
        return [i for i in range(len(self.labels)) if bool(there[i]) and self.labels[i] != WHOLE_IMAGE_LABEL]

    def share(self) -> Tensor:
        """(n,) share of the picture that each box covers."""
        return self.area / (self.height * self.width)

    def salience(self) -> Tensor:
        """(n,) how much each region is what the picture shows: large, central, surely found; not a table that is all of it."""
        middle = torch.tensor([self.width / 2, self.height / 2])
        off = ((self.centre - middle) / middle).norm(dim=1) / 2**0.5
        whole = torch.where(self.share() > 0.92, 0.4, 1.0)
        return self.share().sqrt() * (1 - 0.7 * off.clamp(0, 1)) * self.trust.clamp(min=0.05).sqrt() * whole

    def distinct(self, candidates: Sequence[int]) -> list[int]:
        """The candidates without second opinions about the same thing; the surer one stays."""
        kept: list[int] = []
        for i in sorted(candidates, key=lambda i: -float(self.trust[i])):
            if all(float(self.overlap[i, j]) < SAME_THING for j in kept):
                kept.append(i)
        return sorted(kept)

    # what is named

    def named(self, phrase: Phrase) -> tuple[list[int], list[str]]:
        """(candidates, notes)."""
        usable, notes = self.usable(), []
        if phrase.name is None and (phrase.anything or phrase.main):
            found = self.distinct(usable)
        else:
            things = phrase.name.things if phrase.name else ()
            # a detector that reads a prompt labels with words of it
            found = [i for i in usable if self.labels[i] == phrase.noun]
            found = found or [i for i in usable if self.labels[i] in things]
            found = found or [i for i in usable if phrase.noun and f" {self.labels[i]} ".endswith(f" {phrase.noun} ")]
            if not found and not phrase.name:
                slip = self._slip(phrase.noun)
                if slip:
                    name = names.lookup(slip)
                    found = [i for i in usable if self.labels[i] in ((name.things if name else ()) or (slip,))]
                    notes.append(f"{phrase.noun!r} was read as {slip!r}.")
            found = self.distinct(found)
        if not found:
            raise NotFound(self._unknown(phrase))
        # at a low threshold a detector gives shadows of things: they are no members of a row, and "all people" does not mean them
        surest = max(float(self.trust[i]) for i in found)
        return [i for i in found if float(self.trust[i]) >= _SHADOW * surest], notes

    def _slip(self, noun: str) -> str:
        """The word for something found of which a noun is a slip of the keyboard; "" for none."""
        if len(noun) < 5:
            return ""
        words = names.words_of(self.labels) | set(self.labels)
        close = difflib.get_close_matches(noun, sorted(word for word in words if len(word) >= 5), 1, _MOST_TYPOS)
        return close[0] if close else ""

    def _unknown(self, phrase: Phrase) -> str:
        found = found_text(self.regions)
        noun = phrase.noun or phrase.text
        shown = noun if len(noun) <= 60 else f"{noun[:57]}..."
        if phrase.name:
            less = " Lower score_threshold of the detector to see what it is less sure of, or draw a box in FireEdit Region Select."
            return f"no {shown} was found in the picture. {found}{less if 'Region Select' not in found else ''}"
        if not len(self.regions) or phrase.anything or phrase.main:
            other = "" if phrase.anything or phrase.main else f" Or use {_READER}."
            return f"nothing to be called {shown!r} was found in the picture. {found}{other}"
        if set(self.regions.labels) == {OBJECT_LABEL}:
            return (
                f"{shown!r} cannot be told apart: the regions have no names. Use a detector that names what it finds (FireEdit Detector "
                f'Loader), or say where it is: "the thing on the left". {found}'
            )
        last = noun.split()[-1] if noun.split() else ""
        part = " It is part of a thing, and only whole things are found: name the thing, or draw a box in FireEdit Region Select." if (
            last in PARTS or names.singular(last) in PARTS) else ""
        way = "" if part or "Region Select" in found else " Draw a box around it in FireEdit Region Select, or use"
        return (
            f"{shown!r} is no name that is known, and no region is called so.{part} {found}{way or ' Or use'} {_READER}. The shipped "
            f"detector knows, by these and other words for them: {', '.join(names.THINGS)}; and where it takes a second look, "
            f"{', '.join(names.MORE_THINGS)}."
        )

    # how well each fits

    def find(self, phrase: Phrase) -> Found:
        candidates, notes = self.named(phrase)
        if phrase.excluded:
            candidates, more = self._without(candidates, phrase)
            notes += more
        if phrase.others and not phrase.excluded and len(candidates) > 1:
            stays = max(candidates, key=lambda i: float(self.salience()[i]))
            candidates = [i for i in candidates if i != stays]
            notes.append(f"What stays was taken for the most prominent one, {self.regions.labels[stays]} {self._place(stays)}.")
        said = len(notes)
        fit = torch.ones(len(candidates))
        for colour in phrase.colours:
            fit, more = self._joined(fit, self._coloured(candidates, colour, phrase), f"looks {colour}", candidates)
            notes += more
        for relation, others in phrase.relations:
            values, more = self._related(candidates, relation, others)
            notes += more
            if values is not None:
                what = f"lies {relation} {' and '.join(other.text for other in others)}"
                fit, more = self._joined(fit, values, what, candidates)
                notes += more
        many = phrase.number != 1
        several = len(candidates) > 1
        for side in phrase.sides if not several else ():
            if self._elsewhere(candidates[0], side):
                notes.append(f"The only {self.regions.labels[candidates[0]]} that was found lies elsewhere ({side} was said).")
        if phrase.order and not several:  # "the smallest dog" speaks of several, and small ones are what a detector misses
            notes.append(
                f"Only one {self.regions.labels[candidates[0]]} was found, so it was compared with none: if there are more in the picture, "
                "another may be meant."
            )
        wrong = len(notes) - said  # what the words say and the picture does not show
        for side in phrase.sides:
            fit = fit * (self._on_side(candidates, side, fit, ranking=phrase.number not in (ALL,) and not phrase.order) if several else 1)
        if phrase.size and several:
            fit = fit * ranked([ORDERS[phrase.size](*self.boxes[i].tolist()) for i in candidates], False, 0.35)
        if phrase.order:
            fit = self._in_order(candidates, fit, phrase)
        if phrase.main:
            fit = fit * torch.stack([self.salience()[i] for i in candidates]).pow(3)
        if "back" in phrase.sides and phrase.number == ALL and several and float(fit.max()) < 0.2:
            raise NotFound(f"no {phrase.noun or 'region'} in the background was found: all are large and near. {found_text(self.regions)}")
        fit = fit / fit.max().clamp(min=1e-9)
        if many:
            found = self._several(candidates, fit, phrase)
        else:
            found = self._single(candidates, fit, phrase)
        notes += found.notes
        notes += [note for i in found.chosen[:3] if (note := self._second_opinion(i))]
        if found.guess and phrase.unread:
            notes.append(f"Not understood: {' '.join(phrase.unread[:8])!r}.")
        return Found(found.scores * _MISMATCH**wrong, found.chosen, found.guess, tuple(dict.fromkeys(notes)))

    def _without(self, candidates: list[int], phrase: Phrase) -> tuple[list[int], list[str]]:
        """Candidates without what the phrase leaves out, and without other opinions about those."""
        gone: set[int] = set()
        notes = []
        for other in phrase.excluded:
            try:
                found = self.find(other)
            except NotFound as error:
                if phrase.anything or other.known is False:
                    raise  # "everything but the lamp" would take the lamp too
                notes.append(f"Nothing is left out for {other.text!r}: {str(error).split('. ')[0]}.")
                continue
            if found.guess:
                notes.append(f"What {other.text!r} leaves out is a guess.")
            gone |= set(found.chosen)
        kept = [i for i in candidates if all(i != j and float(self.overlap[i, j]) < SAME_THING for j in gone)]
        if not kept:
            raise NotFound(f"nothing is left of {phrase.text!r} without what it leaves out. {found_text(self.regions)}")
        return kept, notes

    def _joined(self, fit: Tensor, values: Tensor, what: str, candidates: list[int]) -> tuple[Tensor, list[str]]:
        """Fits so far times new ones, which count against the best; where nothing fits they count for nothing, and a note says so."""
        best = float(values.max())
        if best < 0.08:
            label = self.regions.labels[candidates[0]]
            return fit * 0.999, [f"No {label} {what}." if len(candidates) > 1 else f"The {label} that was found hardly {what}."]
        return fit * ((values + 0.02) / (best + 0.02)).clamp(max=1), []

    def _coloured(self, candidates: list[int], colour: str, phrase: Phrase) -> Tensor:
        if self.image is None:
            return torch.zeros(len(candidates))
        masks = self.regions.masks
        shares = [colour_share(self.image, self.boxes[i], colour, None if masks is None else masks[i]) for i in candidates]
        return torch.tensor(shares) if phrase.number == ALL else torch.tensor(shares) ** 2 / max(max(shares), 1e-6)

    def _on_side(self, candidates: list[int], side: str, fit: Tensor, ranking: bool) -> Tensor:
        """How far each lies on a side: of its like when one is meant, of the picture when all there are."""
        if side in ("front", "back"):  # what is near is large and stands low
            near = [float(self.area[i] * self.boxes[i, 3]) for i in candidates]
            if ranking:
                return ranked(near, side == "front", 0.3)
            return torch.tensor([1.0 if (value >= _NEAR * max(near)) == (side == "front") else 0.1 for value in near])
        if side == "middle":
            row = [k for k in range(len(candidates)) if float(fit[k]) >= 0.3 * float(fit.max())]
            places = from_middle(self.boxes[[candidates[k] for k in row]]) if ranking else None
            if places:  # "the middle cup" of three in a row, wherever in the picture they stand
                place_of = dict(zip(row, places, strict=True))
                return ranked([place_of.get(k, 9.0) for k in range(len(candidates))], False, 0.25)
            size = torch.tensor([self.width, self.height])
            off = [float(((self.centre[i] / size - 0.5).abs() * torch.tensor([1.0, 0.3])).sum()) for i in candidates]
            return ranked(off, False, 0.25) if ranking else torch.tensor([1.0 if value < 0.2 else 0.2 for value in off])
        there = torch.tensor([towards(side, self.centre[i], self.regions.image_size) for i in candidates])
        if not ranking:
            return torch.where(there > 0, 1.0, torch.where(there > -_HALFWAY, 0.35, 0.1))
        last = -9.0  # for those that are not meant anyway
        values = [float(at) if float(f) >= 0.3 * float(fit.max()) else last for at, f in zip(there, fit, strict=True)]
        return ranked(values, True, 0.25) * torch.where(there > 0, 1.0, 0.5)

    def _elsewhere(self, i: int, side: str) -> bool:
        """Whether the only region that was found hardly lies where it was said, so that another may be meant."""
        if side in SIDES:
            return towards(side, self.centre[i], self.regions.image_size) < _HALFWAY
        return float(self._on_side([i], side, torch.ones(1), ranking=False)) < 0.3

    def _in_order(self, candidates: list[int], fit: Tensor, phrase: Phrase) -> Tensor:
        """The phrase's place in the row of those that fit so far."""
        along, place = phrase.order
        row = [k for k in range(len(candidates)) if float(fit[k]) >= 0.3 * float(fit.max())]
        row.sort(key=lambda k: ORDERS[along](*self.boxes[candidates[k]].tolist()))
        if not -len(row) <= place < len(row):
            raise NotFound(
                f"{phrase.text!r} asks for number {place + 1 if place >= 0 else -place}, but {len(row)} "
                f"{'region fits' if len(row) == 1 else 'regions fit'}. {found_text(self.regions)}"
            )
        ranks = torch.full((len(candidates),), 0.01)
        if phrase.number > 1:  # "the two largest", "the first two"
            for k in row[place : place + phrase.number] if place >= 0 else row[-phrase.number :]:
                ranks[k] = 1.0
        else:
            middle = place % len(row)
            for at, k in enumerate(row):
                ranks[k] = 0.06 ** min(abs(at - middle), 2)
        return fit * 0.0 + ranks

    # where things lie to each other

    def _related(self, candidates: list[int], relation: str, others: tuple[Phrase, ...]) -> tuple[Tensor | None, list[str]]:
        """How well each candidate lies so to what is named; None where that was not found."""
        anchors: list[int] = []
        notes = []
        for other in others:
            try:
                found = self.find(other)
            except NotFound as error:
                return None, [f"{relation} {other.text!r} was not looked at: {str(error).split('. ')[0]}."]
            anchors += found.chosen
            if found.guess:
                notes.append(f"What {other.text!r} means is a guess.")
        values = []
        for i in candidates:
            usable = [j for j in anchors if j != i]
            if not usable:
                values.append(0.0)
            elif relation == "without":
                values.append(max(0.02, 1 - max(lies("with", self.boxes[i], self.boxes[j]) for j in usable)))
            elif relation in ("nearest", "farthest"):
                values.append(min(gap(self.boxes[i], self.boxes[j]) for j in usable))
            elif relation == "between":
                values.append(between(self.centre[i], self.centre[usable]))
            else:
                values.append(max(lies(relation, self.boxes[i], self.boxes[j]) for j in usable))
        if relation in ("nearest", "farthest"):
            return ranked(values, relation == "farthest", 0.25), notes
        # not the one itself that others are placed by: "the man next to the man on the left"
        return torch.tensor(values), notes

    # from fits to probabilities

    def _single(self, candidates: list[int], fit: Tensor, phrase: Phrase) -> Found:
        weights = fit * torch.stack([self._trusted(i) for i in candidates])
        if not phrase.order and not phrase.main:
            area = torch.stack([self.area[i] for i in candidates])
            told_apart = bool(phrase.sides or phrase.relations or phrase.size or phrase.colours)
            weights = weights * (area / area.max()) ** (_PROMINENCE / 3 if told_apart else _PROMINENCE)
        labels = Counter(self.labels[i] for i in candidates)
        if phrase.name and len(phrase.name.things) > 1 and phrase.definite:
            # "the coach" speaks of what there is one of: the bus rather than one of four people
            weights = weights / torch.tensor([float(labels[self.labels[i]]) for i in candidates])
        best = float(weights.max())
        shares = weights / (weights.sum() + _DOUBT * max(best, 1e-6) + 1e-9)
        # a region of which the detector itself is not sure is not surely meant either
        first = int(torch.argmax(weights))
        trust = float(self._trusted(candidates[first]))
        shares = shares * (0.7 + 0.3 * trust) * self._opinion(candidates[first])
        scores = torch.zeros(len(self.labels))
        scores[candidates] = shares
        order = sorted(range(len(candidates)), key=lambda k: -float(weights[k]))
        guess = len(order) > 1 and (float(weights[order[1]]) > _CLEAR * best or float(shares[order[0]]) < CHOSEN)
        notes = []
        if guess:
            first_four = [(candidates[k], float(shares[k])) for k in order[:4]]
            shown = ", ".join(f"{self.regions.labels[i]} {self._place(i)} {share:.2f}" for i, share in first_four)
            rest = f" and {len(order) - 4} more" if len(order) > 4 else ""
            notes.append(
                f'This is a guess among {len(order)}: {shown}{rest}. Say which one ("on the left", "second from the left", a colour), or '
                "pick it with the mouse in FireEdit Region Select."
            )
        return Found(scores, (candidates[first],), guess, tuple(notes))

    def _several(self, candidates: list[int], fit: Tensor, phrase: Phrase) -> Found:
        trust = torch.stack([self._trusted(i) for i in candidates])
        sure = 0.7 + 0.3 * trust
        notes = []
        guess = False
        if phrase.number == ALL:
            taken = [k for k in range(len(candidates)) if float(fit[k]) >= _FITS]
            if phrase.vague and len(taken) > 1:
                guess, sure = True, 0.5 * sure
                notes.append(f"How many {phrase.text!r} are is not said: all {len(taken)} were taken, which is a guess. Say which ones.")
        else:
            area = torch.stack([self.area[i] for i in candidates])
            weights = fit * trust * (area / area.max()) ** _PROMINENCE
            order = sorted(range(len(candidates)), key=lambda k: -float(weights[k]))
            taken = order[: phrase.number]
            if len(taken) < phrase.number:
                count = len(taken)
                notes.append(f"{phrase.text!r} means {phrase.number}, but {count} {'was' if count == 1 else 'were'} found.")
            elif len(order) > len(taken):
                least, next_one = float(weights[taken[-1]]), float(weights[order[len(taken)]])
                guess = next_one > _CLEAR * least
                sure = sure * (least / (least + next_one))
                if guess:
                    notes.append(
                        f"{phrase.number} of {len(order)} that fit were taken, the more prominent ones: this is a guess. Say which ones, "
                        "or pick them with the mouse in FireEdit Region Select."
                    )
        scores = torch.zeros(len(self.labels))
        for k, i in enumerate(candidates):
            scores[i] = max(CHOSEN, float(sure[k]) * (0.5 + 0.5 * float(fit[k]))) if k in taken else min(0.45, 0.9 * float(fit[k]))
        chosen = sorted((candidates[k] for k in taken), key=lambda i: -float(scores[i]))
        return Found(scores, tuple(chosen), guess, tuple(notes))

    def _trusted(self, i: int) -> Tensor:
        return self.trust[i].clamp(min=0.05)

    def rivals(self, i: int) -> list[int]:
        """What else the detector calls nearly the same box, surest first."""
        found = [j for j in range(len(self.labels)) if self.labels[j] != self.labels[i] and float(self.overlap[i, j]) >= SAME_THING]
        return sorted(found, key=lambda j: -float(self.trust[j]))

    def _opinion(self, i: int) -> float:
        """Less than 1 where the detector calls nearly the same box something else, and is surer of that."""
        rivals, own = self.rivals(i), max(float(self.trust[i]), 0.05)
        return min(1.0, (own / float(self.trust[rivals[0]])) ** 0.5) if rivals else 1.0

    def _second_opinion(self, i: int) -> str:
        """That the detector calls it something else too, and of which name it is surer; "" where it does not, or hardly."""
        rivals = [j for j in self.rivals(i) if float(self.trust[j]) >= _DISSENT * float(self.trust[i])][:2]
        if not rivals:
            return ""
        others = " or ".join(self.opinion(j) for j in rivals)
        if float(self.trust[rivals[0]]) > float(self.trust[i]):
            return (
                f"The detector takes it for {others} rather than {self.opinion(i)}; this is its second opinion, taken because you name it. "
                "Look at the mask before you trust it."
            )
        return f"The detector takes it for {self.opinion(i)}, but it may be {others}."

    def opinion(self, i: int) -> str:
        """A region's name and score: "a cat (0.40)"."""
        return f"{_one(self.regions.labels[i])} ({float(self.trust[i]):.2f})"

    def _place(self, i: int) -> str:
        return f"at ({', '.join(str(round(value)) for value in self.boxes[i].tolist())})"
