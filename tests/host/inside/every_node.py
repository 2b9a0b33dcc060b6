# SPDX-License-Identifier: GPL-3.0-or-later
"""A call of every node of the pack on three pictures that differ in everything, and for each input a value that must make a difference."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from tests.host.inside.pack import nodes  # first: it makes the pack importable
from tests.host.small import SIZE, picture

from fireedit_core.grounding.answer import Answer, Target, answers_to_json  # isort: skip
from fireedit_core.photo.frame import PhotoFrame  # isort: skip
from fireedit_core.regions.record import Regions  # isort: skip
from fireedit_pack.nodes.host import guider, patching  # isort: skip

COUNT = 3
TEXTS = ("remove the red apple", "make the background blue", "make the left cat red")


@dataclass
class World:
    """What nodes are given: the models of a small bundle, and three pictures (3, S, S, 3) in 0..1."""

    fireedit: Any
    model: Any
    vae: Any
    images: torch.Tensor
    made: dict[str, Any] = field(default_factory=dict)  # what is computed once

    @cached_property
    def masks(self) -> torch.Tensor:
        """(3, S, S): two parts in each, at another place."""
        made = torch.zeros(COUNT, SIZE, SIZE)
        for i in range(COUNT):
            made[i, 6 + 8 * i : 30 + 8 * i, 6:26] = 1
            made[i, 44:60, 34 + 6 * i : 48 + 6 * i] = 0.8
        return made

    @cached_property
    def regions(self) -> list[Regions]:
        """Three in each picture, with masks; the last of them lies on the first."""
        made = nodes.FireEditRegionsFromMask.execute(self.masks, 0.5, 16, "object", self.images)[0]
        for i, one in enumerate(made):
            again = replace(one.select([0, 1, 0]), labels=("cat", "apple", "cat"), scores=torch.tensor([0.9, 0.8, 0.3 + 0.1 * i]))
            boxes = again.boxes.clone()
            boxes[2] += torch.tensor([4.0, 0, 4, 0])
            made[i] = replace(again, boxes=boxes)
        return made

    def regions_of(self, rows: list[int]) -> list[Regions]:
        """Those of some of the pictures."""
        return [self.regions[i] for i in rows]

    @cached_property
    def applied(self) -> Any:
        return patching.apply(self.model, self.fireedit, 1, 1, 0, 1)

    def conds(self, rows: list[int]) -> tuple:
        """positive, image_only, negative, latent of some of the pictures, each with its own instruction."""
        key = str(rows)
        if key not in self.made:
            images = self.images[rows]
            tokens = nodes.FireEditRegionTokenize.execute(self.fireedit, images, self.regions_of(rows))[0]
            text = "\n".join(TEXTS[i] for i in rows)
            self.made[key] = nodes.FireEditVLMConditioning.execute(self.fireedit, tokens, images, self.vae, text, 0).args
        return self.made[key]


@dataclass(frozen=True)
class Case:
    """One node.

    Attributes:
        inputs: (world, rows) -> what it is given for these of the three pictures.
        others: input -> another value, or (world, what it is given) -> what it is given then: the outputs must not be the same.
        base: input -> value for the comparisons with `others`, where the usual one hides an input.
        silent: input -> why no output can show it.
        run: (world, node, given) -> outputs as they can be compared: of a model what it samples, of lists a dict for each picture.
    """

    inputs: Callable[[World, list[int]], dict[str, Any]]
    others: dict[str, Any] = field(default_factory=dict)
    base: dict[str, dict[str, Any]] = field(default_factory=dict)
    silent: dict[str, str] = field(default_factory=dict)
    run: Callable[[World, Any, dict[str, Any]], tuple] = lambda world, node, given: node.execute(**given).args


def sampled(made: Any, latent: torch.Tensor) -> torch.Tensor:
    """Two steps of a guider."""
    return guider.sample(made, torch.zeros_like(latent), 3, 2, "euler", "simple", 1.0)


def of_guider(world: World, node: Any, given: dict[str, Any]) -> tuple:
    latent = given.pop("latent")
    return (sampled(node.execute(**given)[0], latent),)


def of_model(world: World, node: Any, given: dict[str, Any]) -> tuple:
    conds = given.pop("conds")
    return (sampled(guider.make_guider(node.execute(**given)[0], *conds[:3], 2.0, 1.5), conds[3]["samples"]),)


def of_confine(world: World, node: Any, given: dict[str, Any]) -> tuple:
    (latent,) = of_model(world, node, given)
    return latent, nodes.FireEditConfinedMask.execute({"samples": latent})[0]


def record(world: World, i: int, kind: str, after: str = "") -> Answer:
    """What a person wrote for picture i: its first region is meant."""
    box = tuple(world.regions[i].boxes[0].tolist())
    return Answer(kind, "cat", (Target(box, 0.9, "cat"),), after, (), (SIZE, SIZE), "")


def frames(world: World, rows: list[int]) -> list[PhotoFrame]:
    return [PhotoFrame.fit(world.images[i], (4 + 2 * i, 2, 60, 62), (64, 64)) for i in rows]


def finish_inputs(world: World, rows: list[int]) -> dict[str, Any]:
    """Each photograph with an edit inside of its mask, moved and toned."""
    made, changed = frames(world, rows), world.images * 0.8 + 0.1 * world.masks[..., None]
    edits = torch.stack([frame.crop(changed[i]) for i, frame in zip(rows, made, strict=True)])
    return {
        "original": world.images[rows], "frame": made, "edited": edits, "mask": world.masks[rows],
        "align": "off", "tone": "on", "grow": 2.0, "feather": 3.0,
    }  # fmt: skip


def chosen(**changes: Any) -> str:
    return json.dumps({"mode": "force", "picked": [1], "boxes": [], "moved": {}, "names": {}} | changes)


def found_nowhere(world: World) -> list[Regions]:
    """Regions that do not know their picture, so that another one is not refused."""
    return [replace(one, picture="") for one in world.regions]


def spots(rows: list[int]) -> torch.Tensor:
    """Masks of one size at another place each: the crops of a batch share a grid."""
    made = torch.zeros(len(rows), SIZE, SIZE)
    for number, i in enumerate(rows):
        made[number, 12 + 6 * i : 36 + 6 * i, 14 + 4 * i : 38 + 4 * i] = 1
    return made


def segs_of(regions: list[Regions]) -> list:
    return [nodes.FireEditRegionsToSEGS.execute([one], 1.5)[0][0] for one in regions]


OTHER = {"sampler_name": "heun", "scheduler": "karras", "seed": 4, "steps": 3, "text_guidance": 3.0, "image_guidance": 2.5}
SAMPLING = {"seed": 3, "steps": 2, "sampler_name": "euler", "scheduler": "simple", "text_guidance": 2.0, "image_guidance": 1.5}
LOADED = "a model: which one is loaded is compared where loaders are tested"
swapped = lambda name: lambda world, given: given[name].flip(0)  # noqa: E731  the pictures in another order

CASES = {
    "FireEditRegionDetect": Case(
        lambda w, rows: {"image": w.images[rows], "score_threshold": 0.02, "iou_threshold": 0.6, "max_regions": 50, "fireedit": w.fireedit},
        {"image": swapped("image"), "score_threshold": 0.9, "iou_threshold": 0.1, "max_regions": 1},
        silent={
            "fireedit": LOADED, "detector": LOADED, "prompt": "read by detectors that read a prompt alone: test_regions.py",
            "instruction": "read by detectors that read a prompt alone: test_regions.py",
        },
    ),
    "FireEditRegionTokenize": Case(
        lambda w, rows: {"fireedit": w.fireedit, "image": w.images[rows], "regions": w.regions_of(rows)},
        {"image": lambda w, given: given["image"] * 0.97, "regions": lambda w, given: [one.select([1]) for one in given["regions"]]},
        silent={"fireedit": LOADED},
        run=lambda w, node, given: tokens_of(node.execute(**given)[0]),
    ),
    "FireEditVLMConditioning": Case(
        lambda w, rows: {
            "fireedit": w.fireedit, "image": w.images[rows], "vae": w.vae, "working_size": 0, "mask": w.masks[rows],
            "region_tokens": nodes.FireEditRegionTokenize.execute(w.fireedit, w.images[rows], w.regions_of(rows))[0],
            "instruction": "\n".join(TEXTS[i] for i in rows),
        },
        {
            "region_tokens": lambda w, given: nodes.FireEditRegionTokenize.execute(
                w.fireedit, given["image"], [one.select([1]) for one in w.regions]
            )[0],
            "image": lambda w, given: given["image"] * 0.97, "instruction": "remove the dog", "working_size": 96, "mask": None,
        },
        silent={"fireedit": LOADED, "vae": LOADED},
    ),
    "FireEditApply": Case(
        lambda w, rows: {
            "model": w.model, "fireedit": w.fireedit, "tati_strength": 1.0, "hvca_strength": 1.0, "start_percent": 0.0,
            "end_percent": 1.0, "conds": w.conds(rows),
        },
        {"tati_strength": 0.0, "hvca_strength": 0.0, "start_percent": 0.9, "end_percent": 0.3},
        silent={"model": LOADED, "fireedit": LOADED},
        run=of_model,
    ),
    "FireEditGuider": Case(
        lambda w, rows: dict(zip(("positive", "image_only", "negative", "latent"), w.conds(rows)))
        | {"model": w.applied, "text_guidance": 2.0, "image_guidance": 1.5, "latent": w.conds(rows)[3]["samples"]},
        {name: OTHER[name] for name in ("text_guidance", "image_guidance")}
        | {"positive": lambda w, given: given["image_only"], "image_only": lambda w, given: given["negative"],
           "negative": lambda w, given: given["image_only"], "model": lambda w, given: patching.apply(w.model, w.fireedit, 0, 1, 0, 1)},
        run=of_guider,
    ),
    "FireEditSample": Case(
        lambda w, rows: dict(zip(("positive", "image_only", "negative"), w.conds(rows))) | SAMPLING
        | {"model": w.applied, "vae": w.vae, "image": w.images[rows], "denoise": 1.0, "keep_outside": "exact", "mask": w.masks[rows]},
        OTHER
        | {"positive": lambda w, given: changed(given["positive"]),
           "image_only": lambda w, given: given["negative"], "negative": lambda w, given: given["image_only"], "denoise": 0.5,
           "model": lambda w, given: patching.apply(w.model, w.fireedit, 0, 1, 0, 1),
           "keep_outside": "soft", "mask": swapped("mask")},
        silent={"vae": LOADED, "image": "another one than the conditioning's is refused: test_sampling.py"},
    ),
    "FireEditMultiTurn": Case(
        lambda w, rows: {
            "fireedit": w.fireedit, "model": w.applied, "vae": w.vae, "image": w.images[rows], "score_threshold": 0.02,
            "keep_outside": "soft", "instructions": "remove the red apple\nmake the background blue",
        } | SAMPLING,
        OTHER | {"image": swapped("image"), "instructions": "remove the red apple", "keep_outside": "off", "score_threshold": 0.9},
        silent={"fireedit": LOADED, "model": LOADED, "vae": LOADED},
    ),
    "FireEditConfine": Case(
        lambda w, rows: {
            "model": w.applied, "strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, "late_edges": 0.5, "mask": w.masks[rows],
            "source": {"samples": w.vae.encode(w.images[rows])}, "conds": w.conds(rows),
        },
        {
            "strength": 0.5, "start_percent": 0.6, "end_percent": 0.4, "late_edges": 0.0, "mask": swapped("mask"),
            "source": lambda w, given: {"samples": given["source"]["samples"] + 1},
            "image": swapped("image"),
        },
        base={"image": {"source": None, "image": lambda w: w.images, "vae": lambda w: w.vae}},
        silent={"model": LOADED, "vae": LOADED},
        run=of_confine,
    ),
    "FireEditGround": Case(
        lambda w, rows: {"image": w.images[rows], "instruction": "remove the cat", "regions": w.regions_of(rows), "answer": ""},
        {
            "image": lambda w, given: 1 - given["image"], "instruction": "remove the apple",
            "regions": lambda w, given: [one.select([0, 2]) for one in given["regions"]],
            "answer": lambda w, given: answers_to_json([record(w, i, "recolour", "blue") for i in range(COUNT)]),
        },
        base={"image": {"instruction": "remove the red cat", "regions": found_nowhere}},
        silent={"grounder": LOADED},
    ),
    "FireEditRegionMasks": Case(
        lambda w, rows: {"image": w.images[rows], "regions": w.regions_of(rows), "max_regions": 3},
        {"image": swapped("image"), "regions": lambda w, given: [one.select([1]) for one in given["regions"]], "max_regions": 1},
        base={"image": {"regions": found_nowhere}},
        silent={"segmenter": LOADED},
    ),
    "FireEditRegionSelect": Case(
        lambda w, rows: {"image": w.images[rows], "selection": chosen(), "regions": w.regions_of(rows)},
        {"selection": lambda w, given: chosen(picked=[0]), "regions": lambda w, given: [one.select([2, 0]) for one in given["regions"]]},
        silent={"image": "shown in the picker: tests/browser"},
    ),
    "FireEditRegionsFilter": Case(
        lambda w, rows: {
            "regions": w.regions_of(rows), "labels": "", "min_score": 0.0, "min_area": 0.0, "max_area": 1.0, "numbers": "",
            "top": 0,
        },
        {
            "regions": lambda w, given: given["regions"][::-1], "labels": "cat", "min_score": 0.85, "min_area": 0.1, "max_area": 0.1,
            "numbers": "0-1", "top": 1,
        },
    ),
    "FireEditRegionsMerge": Case(
        lambda w, rows: {
            "regions_a": [w.regions[i].select([0, 1]) for i in rows], "regions_b": [w.regions[i].select([2]) for i in rows],
            "iou_threshold": 1.0,
        },
        {
            "regions_a": lambda w, given: [one.select([1]) for one in given["regions_a"]],
            "regions_b": lambda w, given: [one.select([]) for one in given["regions_b"]], "iou_threshold": 0.1,
        },
    ),
    "FireEditRegionsFromMask": Case(
        lambda w, rows: {"mask": w.masks[rows], "threshold": 0.5, "min_area": 16, "label": "dog", "image": w.images[rows]},
        {"mask": swapped("mask"), "threshold": 0.9, "min_area": 300, "label": "cat", "image": swapped("image")},
    ),
    "FireEditRegionsFromSEGS": Case(
        lambda w, rows: {"segs": segs_of(w.regions_of(rows)), "image": [w.images[rows]]},
        {"segs": lambda w, given: given["segs"][::-1], "image": lambda w, given: [given["image"][0].flip(0)]},
    ),
    "FireEditRegionsFromBBox": Case(
        lambda w, rows: {
            "bbox": [[[(6.0 + 4 * i, 8.0, 30.0, 30.0), (20.0, 4.0, 24.0 + i, 12.0)] for i in rows]], "image": [w.images[rows]],
            "layout": ["xyxy"],
        },
        {
            "bbox": lambda w, given: [given["bbox"][0][::-1]], "image": lambda w, given: [given["image"][0].flip(0)], "layout": ["xywh"],
            "batch": ["all for every picture"],
        },
        base={"batch": {"bbox": lambda w: [[(6.0 + 4 * i, 8.0, 30.0, 30.0) for i in range(COUNT)]]}},
    ),
    "FireEditRegionsToMask": Case(
        lambda w, rows: {"regions": w.regions_of(rows), "masks": "one per picture", "feather": 0},
        {"regions": lambda w, given: given["regions"][::-1], "masks": "one per region", "feather": 3},
    ),
    "FireEditRegionsToSEGS": Case(
        lambda w, rows: {"regions": w.regions_of(rows), "crop_factor": 1.5},
        {"regions": lambda w, given: given["regions"][::-1], "crop_factor": 3.0, "image": lambda w, given: w.images},
        run=lambda w, node, given: ([{"segs": one} for one in node.execute(**given)[0]],),
    ),
    "FireEditRegionsToBBox": Case(
        lambda w, rows: {"regions": w.regions_of(rows), "layout": "xywh"},
        {"regions": lambda w, given: given["regions"][::-1], "layout": "xyxy"},
        run=lambda w, node, given: [[{"boxes": one} for one in boxes] for boxes in node.execute(**given).args[:2]],
    ),
    "FireEditQuickEdit": Case(
        lambda w, rows: {
            "image": w.images[rows], "mask": w.masks[rows],
            "answer": answers_to_json([record(w, i, "recolour", ("blue", "red", "green")[i]) for i in rows]),
        },
        {
            "image": lambda w, given: given["image"] * 0.9, "mask": swapped("mask"), "answer": "brighter",
            "regions": lambda w, given: [one.select([1]) for one in w.regions], "backdrop": lambda w, given: 1 - w.images,
        },
        base={
            "regions": {"mask": None, "regions": lambda w: w.regions, "answer": "darker"},
            "backdrop": {"answer": "background: picture", "backdrop": lambda w: w.images.roll(1, 0)},
        },
    ),
    "FireEditPhotoCrop": Case(
        lambda w, rows: {
            "image": w.images[rows], "mask": spots(rows), "vae": w.vae, "megapixels": 0.01, "multiple": 16, "context": 0.1,
            "whole_above": 1.0,
        },
        {
            "image": swapped("image"), "mask": swapped("mask"), "megapixels": 0.02, "multiple": 64, "context": 0.6, "whole_above": 0.0,
            "regions": lambda w, given: w.regions, "vae": None,
            "answer": lambda w, given: answers_to_json([record(w, i, "background", "a beach") for i in range(COUNT)]),
        },
        base={"regions": {"mask": None}, "multiple": {"megapixels": 0.03}},
    ),
    "FireEditPhotoFinish": Case(
        finish_inputs,
        {
            "edited": lambda w, given: given["edited"] * 0.9, "mask": swapped("mask"), "align": "auto", "tone": "off", "grow": 8.0,
            "feather": 9.0,
        },
        silent=dict.fromkeys(("original", "frame"), "those of another photograph are refused: test_photo_finish.py"),
    ),
    "FireEditRegionsPreview": Case(
        lambda w, rows: {"image": w.images[rows], "regions": w.regions_of(rows), "zoom": 128, "mask": w.masks[rows]},
        {"image": lambda w, given: given["image"] * 0.9, "regions": lambda w, given: [one.select([1]) for one in given["regions"]],
         "zoom": 192, "mask": swapped("mask")},
    ),
    "FireEditGroundingPreview": Case(
        lambda w, rows: {"image": w.images[rows], "mask": w.masks[rows], "opacity": 0.7, "zoom": 128},
        {"image": swapped("image"), "mask": swapped("mask"), "opacity": 0.3, "zoom": 192},
    ),
    "FireEditCompare": Case(
        lambda w, rows: {"before": w.images[rows], "after": w.images.roll(1, 0)[rows] * 0.5, "amplify": 2.0, "mask": w.masks[rows]},
        {"before": swapped("before"), "after": swapped("after"), "amplify": 1.0, "mask": swapped("mask")},
    ),
}
OUTSIDE = {
    **dict.fromkeys(
        ("FireEditLoader", "FireEditDetectorLoader", "FireEditSegmenterLoader", "FireEditGrounderLoader"), "names of files: test_folders.py"
    ),
    "FireEditConfinedMask": "with FireEditConfine",
}


def changed(conditioning: list) -> list:
    """A CONDITIONING of the same pictures with another e."""
    return [[-entry[0], entry[1]] for entry in conditioning]


def tokens_of(tokens: Any) -> tuple:
    """What is in REGION_TOKENS, a picture each."""
    return tokens.region_tokens * tokens.mask[..., None], tokens.image_tokens, tokens.regions


def pictures() -> torch.Tensor:
    """(3, S, S, 3) in 0..1."""
    return torch.stack([torch.from_numpy(picture(seed=i)).float() / 255 for i in range(COUNT)])
