# SPDX-License-Identifier: GPL-3.0-or-later
"""Frozen features of training pairs, computed once: latents, [IMG] states and the vision features that HVCA reads."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ..data import SceneGenerator, World
from ..diffusion.compositing import mask_on_latents
from ..diffusion.latents import latent_scale
from ..diffusion.pipeline import encode_latents
from ..vlm import RegionAwareVLM, VisionFeatures, encode_vision
from .batches import collate, without_regions

logger = logging.getLogger("fireedit")

FROZEN = ("vae", "dinov2", "clip_vision", "language_model", "region_encoder", "adapter", "img_tokens", "grounding")


@dataclass
class CachedBatch:
    """Features of B pairs; latents are in the scale that the UNet denoises.

    Attributes:
        source, target: (B, C, h, w). mask: (B, 1, h, w) share of each cell that the edit changes.
        states: (B, r+1, D) what the Q-Former reads. where: (B, 1, h, w) share of each cell that grounding says will change.
        features: only the levels that HVCA reads are filled.
    """

    source: Tensor
    target: Tensor
    mask: Tensor
    states: Tensor
    where: Tensor
    features: VisionFeatures


class EditCache:
    """Arrays on disk, memory-mapped, of `count` training pairs. Built on first use and again when anything it depends on changed.

    Args:
        components: of the bundle in training; those in `FROZEN` are read.
        folder: where the arrays go; about 180 kB a pair for fireedit-tiny.
        regions: False for a model without region tokens (ablation).
    """

    def __init__(
        self, components: dict[str, Any], world: World, folder: Path | str, count: int, seed: int = 2, batch: int = 64,
        regions: bool = True,
    ):  # fmt: skip
        self.folder = Path(folder)
        self.count, self.batch, self.regions = count, batch, regions
        self.levels = (components["hvca"].config.dino_levels, components["hvca"].config.clip_levels)
        stamp = {"count": count, "seed": seed, "world": world.fingerprint(), "weights": fingerprint(components), "levels": self.levels}
        stamp |= {} if regions else {"regions": False}
        stamp = json.loads(json.dumps(stamp))
        record = self.folder / "cache.json"
        if not record.is_file() or json.loads(record.read_text())["stamp"] != stamp:
            self.folder.mkdir(parents=True, exist_ok=True)
            record.unlink(missing_ok=True)
            names = self._build(components, world, seed)
            record.write_text(json.dumps({"stamp": stamp, "arrays": names}))
        names = json.loads(record.read_text())["arrays"]
        self.arrays = {name: np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in names}
        self.grid = tuple(json.loads((self.folder / "grid.json").read_text()))

    @torch.no_grad()
    def _build(self, c: dict[str, Any], world: World, seed: int) -> list[str]:
        generator = SceneGenerator(world, split="train", seed=seed, masks=False)
        vlm = RegionAwareVLM(c["language_model"], c["tokenizer"], c["adapter"], c["region_encoder"], c["img_tokens"]).eval()
        for name in FROZEN:
            c[name].eval()
        scale, device = latent_scale(c["vae"]), next(c["dinov2"].parameters()).device
        arrays: dict[str, np.ndarray] = {}
        for first in tqdm(range(0, self.count, self.batch), desc="caching features", unit="batch"):
            last = min(first + self.batch, self.count)
            torch.manual_seed(first)
            batch = collate([generator.sample(i) for i in range(first, last)], world)
            batch = batch if self.regions else without_regions(batch)
            source, target = batch.source.to(device), batch.target.to(device)
            with torch.autocast(device.type, torch.bfloat16):
                latents = encode_latents(c["vae"], torch.cat([source, target])) * scale
                features = encode_vision(c["dinov2"], c["clip_vision"], source)
                boxes, region_mask = batch.boxes.to(device), batch.region_mask.to(device)
                tokens = c["region_encoder"](features.dino, features.dino_grid, boxes, region_mask)
                ids, text_mask = vlm.encode_text(batch.instructions, device)
                states = vlm(ids, text_mask, c["adapter"](features.dino[-1], features.dino_grid), tokens, region_mask)
                grid = (features.dino_grid[0] // 2, features.dino_grid[1] // 2)
                grounding = c["grounding"](states.img, states.regions, region_mask, boxes, states.image, grid)
            parts = {
                "source": latents[: len(source)], "target": latents[len(source) :],
                "mask": F.adaptive_avg_pool2d(batch.edit_mask[:, None], latents.shape[-2:]),
                "states": grounding.with_meant_region(states.img, tokens),
                "where": mask_on_latents(grounding.mask(source.shape[-2:])),
            }  # fmt: skip
            parts |= {f"dino_{i}": features.dino[i] for i in self.levels[0]}
            parts |= {f"clip_{i}": features.clip[i] for i in self.levels[1]}
            for name, value in parts.items():
                if name not in arrays:
                    shape = (self.count, *value.shape[1:])
                    arrays[name] = np.lib.format.open_memmap(self.folder / f"{name}.npy", "w+", np.float16, shape)
                arrays[name][first:last] = value.float().cpu().numpy()
            (self.folder / "grid.json").write_text(json.dumps(features.dino_grid))
        for array in arrays.values():
            array.flush()
        return list(arrays)

    def get(self, indices: Tensor, device: torch.device) -> CachedBatch:
        """The pairs `indices` (B,) as float32 tensors."""
        rows = np.sort(indices.numpy() % self.count)  # sorted reads are kind to the disk; order means nothing here
        read = lambda name: torch.from_numpy(np.ascontiguousarray(self.arrays[name][rows])).to(device).float()  # noqa: E731
        dino = sparse_levels({i: read(f"dino_{i}") for i in self.levels[0]})
        clip = sparse_levels({i: read(f"clip_{i}") for i in self.levels[1]})
        features = VisionFeatures(dino, clip, self.grid)
        return CachedBatch(*(read(name) for name in ("source", "target", "mask", "states", "where")), features)


def sparse_levels(levels: dict[int, Tensor]) -> tuple[Tensor, ...]:
    """A tuple that has the given levels at their places; the others are empty and never read."""
    return tuple(levels.get(i, torch.empty(0)) for i in range(max(levels) + 1))


def fingerprint(components: dict[str, nn.Module], names: tuple[str, ...] = FROZEN) -> str:
    """Short hash of the weights of some components, without the autoencoder's decoder: no feature depends on it."""
    digest = hashlib.sha256()
    for name in names:
        for key, value in components[name].state_dict().items():
            if name == "vae" and key.startswith("decoder."):
                continue
            digest.update(key.encode())
            digest.update(value.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()[:16]
