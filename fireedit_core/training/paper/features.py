# SPDX-License-Identifier: GPL-3.0-or-later
"""What the frozen parts make of pictures: latents, regions and tower states. Needed once per picture, so it can be kept on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...diffusion.latents import latent_mode, latent_scale, latent_spread
from ...diffusion.pipeline import posterior
from ...regions.deformable_detr import DeformableDetrRegionDetector
from ...regions.detector import Detector
from ...regions.record import Regions
from ...vlm import VisionFeatures, encode_vision
from ...vlm.vision import encode_clip, encode_dino
from ..edit_cache import fingerprint, sparse_levels

KEPT = 3  # version of what a kept file holds
POSTERIOR = 0x5EED  # what the seed of a row is changed by for its draw from the posterior
FROZEN = ("vae", "detector", "dinov2", "clip_vision")
DETECTION = (0.15, 0.6)  # score and overlap, as in Groma


def shares_tower(detector: nn.Module, dinov2: nn.Module) -> bool:
    """Whether a detector stands on that very DINOv2, so that one pass of a picture serves both; see `share_tower`."""
    return isinstance(detector, DeformableDetrRegionDetector) and detector.vis_encoder is dinov2


def share_tower(components: dict[str, Any]) -> bool:
    """Let the DINOv2 of the bundle be that of its detector, if they are the same: Groma's is the public one, which nobody has trained.

    They are taken to be the same where they read pictures of one size and have equal weights in the type in which the bundle's runs. The
    detector's stays, as its coordinates need more digits than half precision has.
    """
    detector, dinov2 = components["detector"], components["dinov2"]
    if not isinstance(detector, DeformableDetrRegionDetector) or detector.config.image_size != dinov2.config.image_size:
        return False
    own = detector.vis_encoder.state_dict()
    state = dinov2.state_dict()
    # the type and place of the weights may differ, nothing else
    if own.keys() != state.keys() or detector.vis_encoder.config.num_attention_heads != dinov2.config.num_attention_heads:
        return False
    if not all(own[k].shape == x.shape and torch.equal(own[k].to(x), x) for k, x in state.items()):
        return False
    components["dinov2"] = detector.vis_encoder
    return True


def tower_levels(parts: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """Which hidden states of DINOv2 (0 to its depth) and of CLIP are read later: by HVCA, and of DINOv2 the last ones by region encoder and
    adapter."""
    hvca, encoder = parts["hvca"].config, parts["region_encoder"].config
    depth = parts["dinov2"].config.num_hidden_layers
    dino = sorted({*hvca.dino_levels, *range(depth + 1 - len(encoder.level_scales), depth + 1)})
    return dino, sorted(set(hvca.clip_levels))


@dataclass
class PictureFeatures:
    """Of B pictures.

    Attributes:
        vision: only the levels that are read later are filled. latents: (B, C, h, w) in the scale that the UNet denoises.
        boxes: (B, n, 4) cxcywh in 0..1, best first. region_mask: (B, n) bool; a picture without regions has one box, the whole of it.
    """

    vision: VisionFeatures
    latents: Tensor
    boxes: Tensor
    region_mask: Tensor


class FrozenParts:
    """Autoencoder, detector and both towers, which no stage trains.

    Args:
        components: of a bundle, on the device and in the type in which they shall run.
        max_regions: per picture. cache: folder that keeps the results under a hash of picture and weights, or None. Mirrored or differently
            cut pictures are other pictures, so a cache pays only where `flip` is 0 or the disk is large.
        detector: finds the regions in place of the bundle's own, by its own threshold.
    """

    def __init__(
        self, components: dict[str, Any], max_regions: int, cache: Path | str | None = None, detector: Detector | None = None
    ):
        self.parts = {name: components[name] for name in FROZEN}
        self.max_regions = max_regions
        self.detector = self.parts["detector"] if detector is None else detector
        self.dino_levels, self.clip_levels = tower_levels(components)
        self.cache = None
        if cache:
            levels = ["-".join(map(str, own)) for own in (self.dino_levels, self.clip_levels)]  # a file holds those that its bundle reads
            name = fingerprint(self.parts | self._seen_by(detector), FROZEN)
            self.cache = Path(cache) / f"{name}-{max_regions}-{KEPT}-d{levels[0]}-c{levels[1]}"
            self.cache.mkdir(parents=True, exist_ok=True)

    @property
    def device(self) -> torch.device:
        """Where the parts are."""
        return next(self.parts["dinov2"].parameters()).device

    def features(self, pictures: Tensor) -> PictureFeatures:
        """Features of pictures (B, 3, H, W) uint8."""
        return self.features_of([pictures])[0]

    def features_of(self, batches: Sequence[Tensor]) -> list[PictureFeatures]:
        """Features of several batches (B, 3, H, W) uint8, pictures of one size together."""
        return [self._features(rows) for rows in self._together(batches, "source", self._compute)]

    def _features(self, rows: list[dict[str, Tensor]]) -> PictureFeatures:
        dino = {i: self._stack(rows, f"dino_{i}") for i in self.dino_levels}
        clip = {i: self._stack(rows, f"clip_{i}") for i in self.clip_levels}
        grid = tuple(rows[0]["grid"].tolist())
        width = max(len(row["boxes"]) for row in rows)
        boxes = torch.stack([F.pad(row["boxes"].float(), (0, 0, 0, width - len(row["boxes"]))) for row in rows])
        mask = torch.tensor([[i < len(row["boxes"]) for i in range(width)] for row in rows])
        vision = VisionFeatures(sparse_levels(dino), sparse_levels(clip), grid)
        return PictureFeatures(vision, self._stack(rows, "latents"), boxes.to(self.device), mask.to(self.device))

    def latents(self, pictures: Tensor, seeds: Tensor | None = None) -> Tensor:
        """Latents (B, C, h, w) of pictures (B, 3, H, W) uint8, in the scale that the UNet denoises.

        Args:
            seeds: (B,) int64: each is drawn from its posterior by its seed. None, and an autoencoder without a posterior: the mode.
        """
        return self.latents_of([pictures], [seeds])[0]

    def latents_of(self, batches: Sequence[Tensor], seeds: Sequence[Tensor | None]) -> list[Tensor]:
        """`latents` of several batches, pictures of one size together."""
        return [self._drawn(rows, own) for rows, own in zip(self._together(batches, "target", self._encode), seeds, strict=True)]

    def _drawn(self, rows: list[dict[str, Tensor]], seeds: Tensor | None) -> Tensor:
        mode = self._stack(rows, "latents")
        if seeds is None or any("spread" not in row for row in rows):
            return mode
        # another number than those that the noise and the timestep of the row come from
        numbers = [torch.Generator().manual_seed((seed ^ POSTERIOR) % 2**63) for seed in seeds.tolist()]
        noise = [torch.randn(mode.shape[1:], generator=number) for number in numbers]
        return mode + self._stack(rows, "spread") * torch.stack(noise).to(mode)

    @staticmethod
    def _seen_by(detector: Detector | None) -> dict[str, nn.Module]:
        if detector is None:
            return {}
        own = detector if isinstance(detector, nn.Module) else getattr(detector, "model", None)
        if not isinstance(own, nn.Module):
            raise ValueError(f"feature_cache: the weights of a {type(detector).__name__} are not to be seen; leave feature_cache empty")
        return {"detector": own}

    # --- one picture each --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _encode(self, pictures: Tensor) -> list[dict[str, Tensor]]:
        images = pictures.to(self.device).float() / 255
        scale, out = latent_scale(self.parts["vae"]), posterior(self.parts["vae"], images)
        spread = latent_spread(out)
        rows = [{"latents": x} for x in latent_mode(out).float() * scale]
        return rows if spread is None else [row | {"spread": x} for row, x in zip(rows, spread.float() * scale, strict=True)]

    @torch.no_grad()
    def _compute(self, pictures: Tensor) -> list[dict[str, Tensor]]:
        images = pictures.to(self.device).float() / 255
        dinov2, clip_vision = self.parts["dinov2"], self.parts["clip_vision"]
        with torch.autocast(images.device.type, enabled=False):
            shared = shares_tower(self.detector, dinov2)
            if shared:  # the one pass, in the precision that the detector's coordinates need
                dino, grid = encode_dino(dinov2, images)
                found = self.detector.detect_in(dino, tuple(images.shape[-2:]), *DETECTION, self.max_regions)
            else:
                score, overlap = DETECTION
                own = self.detector is not self.parts["detector"]
                found = self.detector.detect(images, self.detector.own_threshold if own else score, overlap, self.max_regions)
        features = VisionFeatures(dino, encode_clip(clip_vision, images), grid) if shared else encode_vision(dinov2, clip_vision, images)
        rows = self._encode(pictures)
        for i, (row, regions) in enumerate(zip(rows, found, strict=True)):
            row["boxes"] = (regions if len(regions) else Regions.whole_image(regions.image_size)).normalised()
            row["grid"] = torch.tensor(features.dino_grid)
            row |= {f"dino_{k}": features.dino[k][i] for k in self.dino_levels}
            row |= {f"clip_{k}": features.clip[k][i] for k in self.clip_levels}
        return rows

    def _together(
        self, batches: Sequence[Tensor], kind: str, compute: Callable[[Tensor], list[dict[str, Tensor]]]
    ) -> list[list[dict[str, Tensor]]]:
        """What `_kept` gives, batch by batch."""
        rows: list[list[dict[str, Tensor]]] = [[] for _ in batches]
        for shape in dict.fromkeys(batch.shape[1:] for batch in batches):
            alike = [i for i, batch in enumerate(batches) if batch.shape[1:] == shape]
            made = iter(self._kept(torch.cat([batches[i] for i in alike]), kind, compute))
            for i in alike:
                rows[i] = [next(made) for _ in range(len(batches[i]))]
        return rows

    def _kept(self, pictures: Tensor, kind: str, compute: Callable[[Tensor], list[dict[str, Tensor]]]) -> list[dict[str, Tensor]]:
        if self.cache is None:
            return compute(pictures)
        files = [self._file(picture, kind) for picture in pictures]
        absent = [i for i, file in enumerate(files) if not file.is_file()]
        if absent:
            for i, row in zip(absent, compute(pictures[absent]), strict=True):
                _write(files[i], row)
        return [load_file(file) for file in files]

    def _file(self, picture: Tensor, kind: str) -> Path:
        shape = str(tuple(picture.shape)).encode()
        name = hashlib.blake2b(shape + picture.contiguous().numpy().tobytes(), digest_size=16).hexdigest()
        return self.cache / name[:2] / f"{name}.{kind}.safetensors"

    def _stack(self, rows: list[dict[str, Tensor]], name: str) -> Tensor:
        # kept states are float16, which autocast on a CPU does not stack
        with torch.autocast(self.device.type, enabled=False):
            return torch.stack([row[name] for row in rows]).to(self.device).float()


def _write(file: Path, row: dict[str, Tensor]) -> None:
    """Half precision for the tower states, which are most of it. A file is either whole or not there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    half = {k: v.detach().cpu().to(torch.float16 if k.startswith(("dino", "clip")) else v.dtype).contiguous() for k, v in row.items()}
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    save_file(half, temporary)
    os.replace(temporary, file)
