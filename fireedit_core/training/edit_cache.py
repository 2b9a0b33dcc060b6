# SPDX-License-Identifier: GPL-3.0-or-later
"""Frozen features of training pairs, computed once: latents, the language model's inputs, and the vision features that HVCA reads."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ..data import SceneGenerator, World
from ..diffusion.latents import latent_scale
from ..diffusion.pipeline import encode_latents
from ..precision import autocast
from ..vlm import RegionAwareVLM, VisionFeatures, encode_vision
from ..whole_files import write_json
from .alignment import look_of
from .batches import SceneBatch, SceneLabels, collate, without_regions

logger = logging.getLogger("fireedit")

# What the features depend on. The language model is not among them: it reads them and can be trained on.
FROZEN = ("vae", "dinov2", "clip_vision", "region_encoder", "adapter")
MASK_CELLS = 32  # cells of the cached edit mask along each side: as fine as fireedit-tiny's grounding paints


@dataclass
class CachedBatch:
    """Features of B pairs; latents are in the scale that the UNet denoises.

    Attributes:
        source, target: (B, C, h, w). mask: (B, 1, h, w) share of each cell that the edit changes.
        ids, text_mask: (B, T) of the instructions. image_tokens: (B, m, D). region_tokens: (B, n, D). region_mask: (B, n) bool.
        boxes: (B, n, 4) cxcywh in 0..1. fine_mask: (B, MASK_CELLS, MASK_CELLS) the edit mask for the grounding losses.
        features: only the levels that HVCA reads are filled. look: (B, 3, 12, 12), see `look_of`.
        labels: what the read-outs of e are asked.
    """

    source: Tensor
    target: Tensor
    mask: Tensor
    ids: Tensor
    text_mask: Tensor
    image_tokens: Tensor
    region_tokens: Tensor
    region_mask: Tensor
    boxes: Tensor
    fine_mask: Tensor
    look: Tensor
    features: VisionFeatures
    labels: SceneLabels


_LABELS = tuple(f.name for f in fields(SceneLabels))
_WHOLE_NUMBERS = {"ids": np.int16, "text_mask": np.bool_, "region_mask": np.bool_} | {
    f"label_{name}": np.int16 for name in _LABELS if name != "edit_box"
}


class EditCache:
    """Arrays on disk, memory-mapped, of `count` training pairs. Built on first use and again when anything it depends on changed.

    Args:
        components: of the bundle in training; those in `FROZEN` are read, and the tokenizer.
        folder: where the arrays go; about 200 kB a pair for fireedit-tiny.
        regions: False for a model without region tokens (ablation).
        first: number of the first pair in the split.
        levels: (DINOv2's, CLIP's) levels to keep; None takes those that the components' HVCA reads.
    """

    def __init__(
        self, components: dict[str, Any], world: World, folder: Path | str, count: int, seed: int = 2, batch: int = 64,
        regions: bool = True, first: int = 0, split: str = "train", levels: tuple[Sequence[int], Sequence[int]] | None = None,
        weights: str = "",
    ):  # fmt: skip
        self.folder = Path(folder)
        self.count, self.batch, self.regions, self.first, self.split = count, batch, regions, first, split
        hvca = components["hvca"].config
        self.levels = tuple(map(tuple, levels or (hvca.dino_levels, hvca.clip_levels)))
        stamp = {
            "format": 2, "count": count, "seed": seed, "first": first, "split": split, "regions": regions, "levels": self.levels,
            "world": world.fingerprint(), "weights": weights or fingerprint(components),
        }  # fmt: skip
        stamp = json.loads(json.dumps(stamp))
        record = self.folder / "cache.json"
        if not record.is_file() or json.loads(record.read_text())["stamp"] != stamp:
            self.folder.mkdir(parents=True, exist_ok=True)
            record.unlink(missing_ok=True)
            names, grid = self._build(components, world, seed)
            write_json(record, {"stamp": stamp, "arrays": names, "grid": grid})  # last: a build that was killed leaves no record
        made = json.loads(record.read_text())
        self.arrays = {name: np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in made["arrays"]}
        self.grid = tuple(made["grid"])

    def _build(self, c: dict[str, Any], world: World, seed: int) -> tuple[list[str], list[int]]:
        generator = SceneGenerator(world, split=self.split, seed=seed, masks=False)
        encode = PairEncoder(c, world, self.levels, self.regions)
        arrays: dict[str, np.ndarray] = {}
        for first in tqdm(range(0, self.count, self.batch), desc="caching features", unit="batch", leave=False):
            last = min(first + self.batch, self.count)
            torch.manual_seed(self.first + first)
            parts = encode(collate([generator.sample(self.first + i) for i in range(first, last)], world))
            for name, value in parts.items():
                kind = _WHOLE_NUMBERS.get(name, np.float16)
                if name not in arrays:
                    shape = (self.count, *value.shape[1:])
                    arrays[name] = np.lib.format.open_memmap(self.folder / f"{name}.npy", "w+", kind, shape)
                value = value.float() if kind == np.float16 else value
                arrays[name][first:last] = value.cpu().numpy()
        for array in arrays.values():
            array.flush()
        return list(arrays), list(encode.grid)

    def get(self, indices: Tensor, device: torch.device) -> CachedBatch:
        """The pairs `indices` (B,)."""
        return joined([(self, indices)], device)


class PairEncoder:
    """Scenes -> everything that a `CachedBatch` is made of, by name; on the device of the components.

    Args:
        levels: (DINOv2's, CLIP's) levels to keep. regions: False for a model without region tokens.
    """

    def __init__(self, components: dict[str, Any], world: World, levels: tuple[Sequence[int], Sequence[int]], regions: bool = True):
        self.components, self.world, self.levels, self.regions = components, world, levels, regions
        c = components
        self.vlm = RegionAwareVLM(c["language_model"], c["tokenizer"], c["adapter"], c["region_encoder"], c["img_tokens"]).eval()
        for name in FROZEN:
            c[name].eval()
        self.width = max(world.count_weights) + 1 if regions else 1  # regions of a row
        size, patch = c["dinov2"].config.image_size, c["dinov2"].config.patch_size
        self.grid = (size // patch, size // patch)

    @torch.no_grad()
    def __call__(self, batch: SceneBatch) -> dict[str, Tensor]:
        c, device = self.components, next(self.components["dinov2"].parameters()).device
        batch = batch if self.regions else without_regions(batch)
        source, target = batch.source.to(device), batch.target.to(device)
        boxes, region_mask = batch.boxes.to(device), batch.region_mask.to(device)
        with autocast(device):
            latents = encode_latents(c["vae"], torch.cat([source, target])) * latent_scale(c["vae"])
            features = encode_vision(c["dinov2"], c["clip_vision"], source)
            tokens = c["region_encoder"](features.dino, features.dino_grid, boxes, region_mask)
            image_tokens = c["adapter"](features.dino[-1], features.dino_grid)
        ids, text_mask = self.vlm.encode_text(batch.instructions, device)
        length, count = c["img_tokens"].config.max_text_tokens, boxes.shape[1]
        labels = dict(vars(batch.labels))
        # "none of them" stands behind the last region, and there are now more of those
        labels["target"] = torch.where(labels["target"] == count, self.width, labels["target"])
        labels |= {name: _padded(labels[name], self.width, -1) for name in ("nouns", "colours")}
        edit_mask = batch.edit_mask[:, None]
        parts = {
            "source": latents[: len(source)], "target": latents[len(source) :],
            "mask": F.adaptive_avg_pool2d(edit_mask, latents.shape[-2:]), "fine_mask": F.adaptive_avg_pool2d(edit_mask, MASK_CELLS)[:, 0],
            "ids": _padded(ids, length), "text_mask": _padded(text_mask, length), "image_tokens": image_tokens,
            "region_tokens": _padded(tokens, self.width), "region_mask": _padded(region_mask, self.width),
            "boxes": _padded(boxes, self.width), "look": look_of(batch),
        }  # fmt: skip
        parts |= {f"label_{name}": value for name, value in labels.items()}
        parts |= {f"dino_{i}": features.dino[i] for i in self.levels[0]}
        return parts | {f"clip_{i}": features.clip[i] for i in self.levels[1]}


def _padded(x: Tensor, size: int, value: int = 0) -> Tensor:
    """`x` (B, n, ...) with n raised to `size`. Raises ValueError where there is more already: nothing may be cut in silence."""
    if x.shape[1] > size:
        raise ValueError(f"a pair has {x.shape[1]} entries where there is room for {size}")
    return F.pad(x, (0, 0) * (x.ndim - 2) + (0, size - x.shape[1]), value=value)


def joined(rows: Sequence[tuple[EditCache, Tensor]], device: torch.device) -> CachedBatch:
    """One batch of pairs of several caches: floating point as float32, whole numbers as int64.

    Args:
        rows: of each cache the numbers of its pairs; sorted reads are kind to the disk, and order means nothing here.
    """
    chosen = [(cache, np.sort(indices.numpy() % cache.count)) for cache, indices in rows]
    cache = chosen[0][0]
    read = lambda name: torch.from_numpy(np.concatenate([one.arrays[name][i] for one, i in chosen])).to(device)  # noqa: E731
    return batch_of(read, cache.levels, cache.grid)


def batch_of(read: Callable[[str], Tensor], levels: tuple[Sequence[int], Sequence[int]], grid: tuple[int, int]) -> CachedBatch:
    """A batch of what `read(name)` gives of the names of `PairEncoder`, in the types that training works with."""

    def typed(name: str) -> Tensor:
        value = read(name)
        return value if value.dtype == torch.bool else value.float() if value.is_floating_point() else value.long()

    features = VisionFeatures(
        sparse_levels({i: typed(f"dino_{i}") for i in levels[0]}), sparse_levels({i: typed(f"clip_{i}") for i in levels[1]}), grid
    )
    given = {f.name: typed(f.name) for f in fields(CachedBatch) if f.name not in ("features", "labels")}
    return CachedBatch(**given, features=features, labels=SceneLabels(**{n: typed(f"label_{n}") for n in _LABELS}))


class RollingCache:
    """Endless pairs: every pass over the caches of `count` pairs adds a new one, and drops the oldest once there are `width`.

    The first pass reads one cache, so that training need not wait for all of them. A pair is seen in `width` passes, so that making
    pairs costs a small share of training on them, and none is seen for ever.
    Batch `number` is a function of the number alone: caches that are not there are made again, the same to the bit on the
    same machine.

    Args:
        folder: of all caches, each in a folder of its own. weights: `fingerprint` of the components.
        first: number of the first cache: a run that goes on elsewhere is not shown the pairs of the one before again.
    """

    def __init__(
        self, components: dict[str, Any], world: World, folder: Path | str, count: int, width: int, seed: int = 2, first: int = 0
    ):  # fmt: skip
        self.components, self.world, self.folder = components, world, Path(folder)
        self.count, self.width, self.seed, self.first = count, width, seed, first
        self.weights = fingerprint(components)
        self.caches: dict[int, EditCache] = {}
        self._order: tuple[int, Tensor] | None = None
        self._dropped = first  # caches below this number are gone
        self._starts = [0, *accumulate(count * caches for caches in range(1, width + 1))]  # of the passes that grow, and of the next

    def get(self, rows: Sequence[int], device: torch.device) -> CachedBatch:
        """The pairs that stand at the places `rows` of the endless series; all of them lie in one pass or in two that follow."""
        chosen: dict[int, list[int]] = {}
        for row in rows:
            number, place = self._pass(row)
            which, index = divmod(int(self._permutation(number)[place]), self.count)
            chosen.setdefault(self._oldest(number) + which, []).append(index)
        caches = [(self._cache(which), torch.tensor(indices)) for which, indices in sorted(chosen.items())]
        self._forget(self._oldest(self._pass(rows[0])[0]))
        return joined(caches, device)

    def _pass(self, row: int) -> tuple[int, int]:
        """(number of the pass, place in it) of a place in the series."""
        grown = self._starts[-1]
        if row >= grown:
            number, place = divmod(row - grown, self.count * self.width)
            return self.width + number, place
        number = bisect_right(self._starts, row) - 1
        return number, row - self._starts[number]

    def _oldest(self, number: int) -> int:
        """The oldest cache that a pass reads; the newest is `first + number`."""
        return self.first + max(0, number - self.width + 1)

    def _permutation(self, number: int) -> Tensor:
        if self._order is None or self._order[0] != number:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
            self._order = number, torch.randperm(self.count * min(number + 1, self.width), generator=generator)
        return self._order[1]

    def _cache(self, which: int) -> EditCache:
        if which not in self.caches:
            training = torch.random.get_rng_state()
            self.caches[which] = EditCache(
                self.components, self.world, self.folder / f"{which:05d}", self.count, self.seed, first=which * self.count,
                weights=self.weights,
            )  # fmt: skip
            torch.random.set_rng_state(training)
        return self.caches[which]

    def _forget(self, oldest: int) -> None:
        """Drop the caches below a number, which no pass reads any more."""
        if oldest == self._dropped:
            return
        self._dropped = oldest
        for which in [w for w in self.caches if w < oldest]:
            del self.caches[which]
        for folder in self.folder.glob("[0-9]*"):
            if int(folder.name) < oldest:
                shutil.rmtree(folder)


def sparse_levels(levels: dict[int, Tensor]) -> tuple[Tensor, ...]:
    """A tuple that has the given levels at their places; the others are empty and never read."""
    return tuple(levels.get(i, torch.empty(0)) for i in range(max(levels) + 1))


def fingerprint(components: dict[str, nn.Module], names: tuple[str, ...] = FROZEN) -> str:
    """Short hash of the weights of some components, without the autoencoder's decoder: no feature depends on it."""
    digest = hashlib.sha256()
    for name in names:
        for key, value in sorted(components[name].state_dict().items()):
            if name == "vae" and key.startswith("decoder."):
                continue
            digest.update(key.encode())
            digest.update(value.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()[:16]
