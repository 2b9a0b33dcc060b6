# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes of sprites and exact edits of them: sample ``index`` of a split is always the same picture pair."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor
from typing import TypeVar

import numpy as np

from .backgrounds import paint
from .referring import RICH_WAYS, rich_phrases
from .sample import SceneSample
from .sprites import Rendered, Sprites
from .world import WORLD, World, article, caption, referring_phrases, where_words

SPLITS = ("train", "validation", "heldout")
# How twins of each mode of World.twin_modes are told apart.
_WAYS = {"side": ("left", "right"), "level": ("top", "bottom"), "size": ("big", "small"), "colour": ("colour",)}
_T = TypeVar("_T")
Box = tuple[int, int, int, int]


class _Random:
    """Choices made of ``random()`` alone: the only stream that Python promises to keep the same in later versions."""

    def __init__(self, *key: object) -> None:
        digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
        self.unit = random.Random(int.from_bytes(digest[:16], "big")).random

    def below(self, n: int) -> int:
        return int(self.unit() * n)

    def pick(self, items: Sequence[_T]) -> _T:
        return items[self.below(len(items))]

    def weighted(self, weights: Mapping[_T, float]) -> _T:
        left = self.unit() * sum(weights.values())
        for item, weight in weights.items():
            left -= weight
            if left < 0:
                return item
        return next(item for item, weight in weights.items() if weight > 0)

    def shuffled(self, items: Sequence[_T]) -> list[_T]:
        rest = list(items)
        return [rest.pop(self.below(len(rest))) for _ in range(len(rest))]


@dataclass(frozen=True)
class Item:
    """One object: ``x``, ``y`` are its centre in px, ``size`` the longer side asked for."""

    noun: str
    colour: str
    size: int
    x: float = 0.0
    y: float = 0.0


@dataclass(frozen=True)
class _Scene:
    """What a picture shows."""

    items: list[Item]
    background: str
    variant: int


@dataclass(frozen=True)
class Edit:
    """What changes: the items and the background afterwards, and the words for it."""

    after: list[Item]
    instruction: str
    touched: tuple[Item, ...] = ()  # old and new look of what changes
    background: str = ""  # only for a background edit
    noun: str = ""
    colour: str = ""
    detail: str = ""  # direction of add, bigger or smaller


def _beside(low: int, high: int, extent: int, step: int, gap: int) -> int:
    """First pixel of a new span: centred on low..high for step 0, else ``gap`` px before (-1) or after (1) it."""
    if step == 0:
        return (low + high - extent) // 2
    return high + gap if step > 0 else low - gap - extent


class SceneGenerator:
    """Draws pairs. ``sample(index)`` depends on (world, split, seed, index) alone.

    ``train`` and ``validation`` share the classes and differ in their seed space; in ``heldout`` every scene has one
    bystander of a class that is in neither. ``masks=False`` leaves ``object_masks`` out.
    """

    def __init__(
        self,
        world: World = WORLD,
        sprites: Sprites | None = None,
        split: str = "train",
        seed: int = 0,
        masks: bool = True,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"SceneGenerator: split must be one of {SPLITS}, got {split!r}.")
        self.world = world
        self.sprites = sprites if sprites is not None else Sprites.for_world(world)
        absent = sorted({*world.classes, *world.heldout} - set(self.sprites.nouns))
        if absent:
            raise ValueError(f"SceneGenerator: the sprites lack {absent}; build them with Sprites.for_world(world).")
        self.split, self.seed, self.masks = split, int(seed), masks
        self._nouns = sorted(world.classes)
        self._unseen = sorted(world.heldout)
        self._sizes, self._all_sizes = world.sizes(), set(world.all_sizes())
        self._painted: dict[tuple[str, int], np.ndarray] = {}

    def __iter__(self) -> Iterator[SceneSample]:
        """Endless, from index 0."""
        index = 0
        while True:
            yield self.sample(index)
            index += 1

    def sample(self, index: int) -> SceneSample:
        """Pair number ``index`` (>= 0). Raises ValueError where this world leaves no room for any such edit."""
        return self._first(index)[0]

    def _first(self, index: int) -> tuple[SceneSample, _Scene]:
        """Sample number `index`, and the scene that its target shows."""
        if index < 0:
            raise ValueError(f"SceneGenerator.sample: index must be 0 or more, got {index}.")
        draw = _Random(self.split, self.seed, index)
        kind = draw.weighted(self.world.edit_weights)
        # Drawn before the scene, not per try: else "smaller", which always fits, would crowd out "bigger".
        change = draw.pick(("bigger", "smaller"))
        for _ in range(400):
            found = self._attempt(draw, kind, change, index)
            if found is not None:
                return found
        raise ValueError(
            f"World {self.world.name!r}: no room for a {kind!r} edit in 400 tries; lower size_range or count_weights."
        )

    # -- drawing a scene ------------------------------------------------------------------------------------------

    def _attempt(self, draw: _Random, kind: str, change: str, index: int) -> tuple[SceneSample, _Scene] | None:
        world = self.world
        count = draw.weighted(world.count_weights)
        mode = draw.weighted(world.twin_modes) if draw.unit() < world.twin_share else ""
        unseen = self.split == "heldout" and bool(self._unseen)
        alike = (3 if world.triplet_share and draw.unit() < world.triplet_share else 2) if mode else 1
        count = max(count, 2 + bool(mode and unseen), alike + unseen)
        items = self._cast(draw, count, mode, unseen, alike)
        placed = self._place(draw, items)
        if placed is None:
            return None
        background, variant = draw.pick(world.backgrounds), 1 + draw.below(max(1, world.background_variants))
        about_unseen = unseen and world.unseen_targets and kind == "remove"
        if about_unseen:
            target = count - 1
        elif mode and draw.unit() < world.twin_target_share:
            target = draw.below(alike)
        else:
            target = draw.below(count - unseen)
        chosen = placed[target]
        placed = draw.shuffled(placed)  # else the twins would always be the first two boxes
        target = placed.index(chosen)
        return self._edited(draw, kind, change, _Scene(placed, background, variant), target, mode, about_unseen, index)

    def _edited(
        self, draw: _Random, kind: str, change: str, scene: _Scene, target: int, mode: str, about_unseen: bool, index: int,
        turn: int = 0,
    ) -> tuple[SceneSample, _Scene] | None:  # fmt: skip
        """One edit of a scene and the scene afterwards; None where the target has no name or the edit no room."""
        items, how, phrase = scene.items, "", ""
        if kind != "background":
            generic = about_unseen or draw.unit() < self.world.generic_share
            how, phrase = self._refer(draw, items, target, mode, generic)
            if not phrase:
                return None
        edit = self._edit(draw, kind, change, items, target, phrase, scene.background)
        if edit is None:
            return None
        target = -1 if kind == "background" else target
        sample = self._finish(index, kind, items, target, scene.background, scene.variant, edit, phrase, how)
        if turn:
            sample.id += f"-turn{turn}"
        after = (edit.background, 0) if edit.background else (scene.background, scene.variant)
        return sample, _Scene(edit.after, *after)

    def turns(self, index: int, count: int = 4) -> list[SceneSample]:
        """`count` edits one after the other; each starts from the picture that the one before has made, bit for bit.

        The first is `sample(index)`. Raises ValueError as `sample` does.
        """
        first, scene = self._first(index)
        found, draw = [first], _Random(self.split, self.seed, index, "turns")
        unseen = {noun for noun in first.labels if noun in self._unseen}
        while len(found) < count:
            for _ in range(400):
                kind, change = draw.weighted(self.world.edit_weights), draw.pick(("bigger", "smaller"))
                free = [i for i, item in enumerate(scene.items) if item.noun not in unseen]
                if kind == "remove" and len(scene.items) < 3:
                    continue
                # where only an object is left that no instruction may name, the background can still change
                kind, target = (kind, draw.pick(free)) if free else ("background", -1)
                step = self._edited(draw, kind, change, scene, target, "", False, index, len(found))
                if step is not None:
                    break
            else:
                raise ValueError(f"World {self.world.name!r}: no room for turn {len(found) + 1} of scene {index}.")
            sample, scene = step
            found.append(sample)
        return found

    def _cast(self, draw: _Random, count: int, mode: str, unseen: bool, alike: int) -> list[Item]:
        """Nouns, colours and sizes; twins (as many as are alike) first, the unseen one last."""
        world, nouns, taken = self.world, [], set()
        while len(nouns) < count - unseen:
            noun = draw.pick(self._nouns)
            if noun not in taken:
                taken.add(noun)
                nouns += [noun] * alike if mode and not nouns else [noun]
        if unseen:
            nouns.append(draw.pick(self._unseen))
        palette = list(world.palette)
        colours = [draw.pick(palette) if draw.unit() < world.tinted_share else "" for _ in nouns]
        sizes = [draw.pick(self._sizes) for _ in nouns]
        if mode == "colour":
            colours[:2] = draw.shuffled(palette)[:2]
        if mode == "size":
            small = draw.pick([s for s in self._sizes if s * world.size_ratio <= self._sizes[-1]] or self._sizes[:1])
            big = draw.pick([s for s in self._sizes if s >= small * world.size_ratio] or self._sizes[-1:])
            sizes[:2] = draw.shuffled([small, big])
        return [Item(*look) for look in zip(nouns, colours, sizes, strict=True)]

    def _place(self, draw: _Random, items: list[Item]) -> list[Item] | None:
        """Random free places, the largest first; None where one finds no place."""
        placed: dict[int, Item] = {}
        boxes: list[Box] = []
        for i in sorted(range(len(items)), key=lambda i: -items[i].size):
            sprite = self._sprite(items[i])
            spare = 2 * self.world.border
            room_x, room_y = self.world.image_size - sprite.width - spare, self.world.image_size - sprite.height - spare
            for _ in range(30):
                x, y = self.world.border + draw.below(room_x + 1), self.world.border + draw.below(room_y + 1)
                box = (x, y, x + sprite.width, y + sprite.height)
                if self._free(box, boxes):
                    boxes.append(box)
                    placed[i] = replace(items[i], x=x + sprite.width / 2, y=y + sprite.height / 2)
                    break
            else:
                return None
        return [placed[i] for i in range(len(items))]

    # -- words ----------------------------------------------------------------------------------------------------

    def _refer(self, draw: _Random, items: list[Item], target: int, mode: str, generic: bool) -> tuple[str, str]:
        """How the target is told apart and the phrase; ("", "") where no wording is unambiguous."""
        world, item = self.world, items[target]
        noun = world.generic_noun if generic else item.noun
        rivals = [o for i, o in enumerate(items) if i != target and (generic or o.noun == item.noun)]
        if world.rich_share and not generic and draw.unit() < world.rich_share:
            rich = rich_phrases(items, target)
            if rich:
                how = draw.weighted({way: weight for way, weight in RICH_WAYS.items() if way in rich})
                return how, draw.pick(rich[how])
        if not rivals:
            spare = item.colour and draw.unit() < world.spare_colour_share
            how = "colour" if spare else "noun"
        else:
            ways = self._ways(item, rivals)
            fitting = [w for w in ways if not generic and w in _WAYS.get(mode, ())] or ways
            if not fitting:
                return "", ""
            how = draw.pick(fitting)
        return how, draw.pick(referring_phrases(noun, how, item.colour))

    def _ways(self, item: Item, rivals: list[Item]) -> list[str]:
        far, ratio = self.world.side_distance, self.world.size_ratio
        tests = {
            "left": all(o.x - item.x >= far for o in rivals),
            "right": all(item.x - o.x >= far for o in rivals),
            "top": all(o.y - item.y >= far for o in rivals),
            "bottom": all(item.y - o.y >= far for o in rivals),
            "big": all(item.size >= ratio * o.size for o in rivals),
            "small": all(o.size >= ratio * item.size for o in rivals),
            # A native rival may have any look, the named colour too: both must be tinted.
            "colour": bool(item.colour) and all(o.colour and o.colour != item.colour for o in rivals),
        }
        return [way for way, holds in tests.items() if holds]

    # -- edits ----------------------------------------------------------------------------------------------------

    def _edit(
        self, draw: _Random, kind: str, change: str, items: list[Item], target: int, phrase: str, background: str
    ) -> Edit | None:
        """The edited scene, or None where this edit has no room in this scene."""
        world, item = self.world, items[target]
        others = [self._box(o) for i, o in enumerate(items) if i != target]

        def say(key: str, **words: str) -> str:
            return draw.pick(world.templates[key]).format(x=phrase, **words)

        def with_new(new: Item) -> list[Item]:
            return [new if i == target else o for i, o in enumerate(items)]

        if kind == "background":
            new = draw.pick([b for b in world.backgrounds if b != background])
            return Edit(items, say("background", b=new), background=new)
        if kind == "remove":
            return Edit([o for i, o in enumerate(items) if i != target], say("remove"), (item,))
        if kind == "recolour":
            colours = [
                c
                for c in world.palette
                if c != item.colour and (item.colour or self.sprites.change(item.noun, c) >= world.recolour_least)
            ]
            if not colours:
                return None
            colour = draw.pick(colours)
            return Edit(with_new(replace(item, colour=colour)), say("recolour", c=colour), (item,), colour=colour)
        if kind == "replace":
            present = {o.noun for o in items}
            for _ in range(8):
                noun = draw.pick(self._nouns)
                new = replace(item, noun=noun, colour="")
                if noun not in present and self._free(self._box(new), others):
                    return Edit(with_new(new), say("replace", y=article(noun)), (item, new), noun=noun)
            return None
        if kind == "add":
            return self._add(draw, items, item, others, say)
        new = replace(item, size=world.scaled(item.size, getattr(world, change)))
        # a later turn may want what is large already still larger: what no first edit makes is not rendered
        if new.size not in self._all_sizes or not self._free(self._box(new), others):
            return None
        return Edit(with_new(new), say(change), (item, new), detail=change)

    def _add(self, draw: _Random, items: list[Item], anchor: Item, others: list[Box], say) -> Edit | None:  # noqa: ANN001
        """A new object beside the anchor: same longer side, ``add_gap`` px away, centred on the other axis."""
        present, steps = {o.noun for o in items}, {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}
        noun = draw.pick([n for n in self._nouns if n not in present])
        x0, y0, x1, y1 = self._box(anchor)
        new = Item(noun, "", anchor.size)
        sprite = self._sprite(new)
        for direction in draw.shuffled(tuple(steps)):
            dx, dy = steps[direction]
            # Whole-pixel corners: the gap is exact, the centre is within half a pixel.
            left = _beside(x0, x1, sprite.width, dx, self.world.add_gap)
            top = _beside(y0, y1, sprite.height, dy, self.world.add_gap)
            moved = replace(new, x=left + sprite.width / 2, y=top + sprite.height / 2)
            if self._free(self._box(moved), others):
                words = say("add", y=article(noun), w=where_words(direction))
                return Edit([*items, moved], words, (moved,), noun=noun, detail=direction)
        return None

    # -- pixels ---------------------------------------------------------------------------------------------------

    def _sprite(self, item: Item) -> Rendered:
        return self.sprites.get(item.noun, item.colour, item.size)

    def _box(self, item: Item) -> Box:
        sprite = self._sprite(item)
        x, y = floor(item.x - sprite.width / 2 + 0.5), floor(item.y - sprite.height / 2 + 0.5)
        return x, y, x + sprite.width, y + sprite.height

    def _free(self, box: Box, others: list[Box]) -> bool:
        edge, gap, far = self.world.border, self.world.separation, self.world.image_size - self.world.border
        x0, y0, x1, y1 = box
        if x0 < edge or y0 < edge or x1 > far or y1 > far:
            return False
        return all(x1 + gap <= a0 or a1 + gap <= x0 or y1 + gap <= b0 or b1 + gap <= y0 for a0, b0, a1, b1 in others)

    def _background(self, name: str, variant: int) -> np.ndarray:
        key = (name, variant)
        if key not in self._painted:
            self._painted[key] = paint(name, self.world.image_size, variant)
        return self._painted[key]

    def _draw(self, items: list[Item], background: str, variant: int) -> np.ndarray:
        image = self._background(background, variant).copy()
        for item in items:
            x, y, _, _ = self._box(item)
            self._sprite(item).paste(image, x, y)
        return image

    def _finish(
        self,
        index: int,
        kind: str,
        items: list[Item],
        target: int,
        background: str,
        variant: int,
        edit: Edit,
        phrase: str,
        how: str,
    ) -> SceneSample:
        size = self.world.image_size
        boxes = [self._box(item) for item in items]
        after, after_variant = (edit.background, 0) if edit.background else (background, variant)
        if edit.background:
            mask = np.ones((size, size), bool)
            for item, (x0, y0, x1, y1) in zip(items, boxes, strict=True):
                mask[y0:y1, x0:x1] &= ~self._sprite(item).opaque
            edit_box: Box = (0, 0, size, size)
        else:
            mask = np.zeros((size, size), bool)
            marks = [self._box(item) for item in edit.touched]
            for item, (x0, y0, x1, y1) in zip(edit.touched, marks, strict=True):
                mask[y0:y1, x0:x1] |= self._sprite(item).footprint
            edges = list(zip(*marks, strict=True))
            edit_box = (min(edges[0]), min(edges[1]), max(edges[2]), max(edges[3]))
        object_masks = None
        if self.masks:
            object_masks = np.zeros((len(items), size, size), bool)
            for plane, item, (x0, y0, x1, y1) in zip(object_masks, items, boxes, strict=True):
                plane[y0:y1, x0:x1] = self._sprite(item).footprint
        labels = tuple(item.noun for item in items)
        return SceneSample(
            id=f"{self.world.name}-{self.split}-{self.seed}-{index:08d}",
            source=self._draw(items, background, variant),
            target=self._draw(edit.after, after, after_variant),
            instruction=edit.instruction,
            edit_type=kind,
            mask=mask,
            boxes=np.asarray(boxes, np.float32),
            labels=labels,
            colours=tuple(item.colour for item in items),
            target_index=target,
            edit_box=np.asarray(edit_box, np.float32),
            referring=phrase,
            twins=target >= 0 and labels.count(labels[target]) > 1,
            source_caption=caption([(o.noun, o.colour) for o in items], background),
            target_caption=caption([(o.noun, o.colour) for o in edit.after], after),
            edit_noun=edit.noun,
            edit_colour=edit.colour,
            edit_background=edit.background,
            object_masks=object_masks,
            meta={
                "split": self.split,
                "background": background,
                "variant": variant,
                "referred_by": how,
                "detail": edit.detail,
                "sizes": tuple(item.size for item in items),
                "target_objects": [(o.noun, o.colour, self._box(o)) for o in edit.after],
            },
        )
