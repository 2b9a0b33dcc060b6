# SPDX-License-Identifier: GPL-3.0-or-later
"""The held-out run: edit synthetic scenes with a bundle and score them, beside two baselines on the same scenes.

Everything is as a user gets it: the bundle's own detector, steps and guidance, no ground-truth boxes. Only compositing is
off, because it would hide what the model does outside the mask. The noise of a scene depends on (seed, index) alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from torch import Tensor
from tqdm import tqdm

from ..checkpoints.bundle import COMPONENTS, EXTRAS, LORA
from ..data import EDIT_TYPES, WORLD, SceneGenerator, SceneSample, Sprites, World
from ..diffusion.compositing import WorkingSize
from ..diffusion.pipeline import FireEditPipeline, decode_latents, encode_latents
from ..diffusion.rows import power_between_rows, tati_change
from ..regions.record import Regions
from . import metrics, summary
from .judge import SceneJudge
from .metrics import EditScore, score_edit

logger = logging.getLogger("fireedit")

CELL = 8  # pixels per latent cell


@dataclass(frozen=True)
class Settings:
    """How the edits are sampled. None takes the bundle's own value; without `regions` nothing is detected."""

    steps: int | None = None
    text_guidance: float | None = None
    image_guidance: float | None = None
    tati_strength: float = 1.0
    hvca_strength: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    regions: bool = True

    def resolved(self, pipe: FireEditPipeline) -> Settings:
        """The same with the bundle's values filled in."""
        own = lambda value, name: pipe.config[name] if value is None else value  # noqa: E731
        return replace(self, **{name: own(getattr(self, name), name) for name in ("steps", "text_guidance", "image_guidance")})


@dataclass(frozen=True)
class Scenes:
    """Which scenes: `count` of the world's own mixture of edit types, or `each` of every type in `kinds`.

    Attributes:
        kinds: only these edit types; empty for all.
        each: 0, or scenes per type. A type's scenes are numbers 0..each-1 of a world that has only that type.
    """

    count: int = 500
    split: str = "heldout"
    seed: int = 0
    kinds: tuple[str, ...] = ()
    each: int = 0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.kinds) - set(EDIT_TYPES))
        if unknown:
            raise ValueError(f"unknown edit types {unknown}; choose from {', '.join(EDIT_TYPES)}")
        if self.count < 1 or self.each < 0:
            raise ValueError(f"count must be 1 or more and each 0 or more, got {self.count} and {self.each}")

    def __len__(self) -> int:
        return self.each * len(self.kinds or EDIT_TYPES) if self.each else self.count

    def draw(self, world: World = WORLD) -> Iterator[tuple[int, SceneSample]]:
        """(index, scene) one after the other; always the same ones."""
        sprites = Sprites.for_world(world)
        make = lambda w: SceneGenerator(w, sprites, self.split, self.seed, masks=False)  # noqa: E731
        if self.each:
            for kind in self.kinds or EDIT_TYPES:
                generator = make(world.only(**{kind: 1.0}))
                yield from ((i, generator.sample(i)) for i in range(self.each))
            return
        weights = {k: v for k, v in world.edit_weights.items() if not self.kinds or k in self.kinds}
        generator = make(world.only(**weights))
        yield from ((i, generator.sample(i)) for i in range(self.count))


def load_pipeline(bundle: str | Path, device: str | None = None) -> FireEditPipeline:
    """The bundle in float32 on `device` (None: an accelerator when there is one), without a bar per picture."""
    pipe = FireEditPipeline.from_pretrained(bundle)
    pipe.set_progress_bar_config(disable=True)
    pipe.to(default_device(device))
    return pipe


def default_device(device: str | None = None) -> str:
    """The device that is named, else an accelerator when there is one."""
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def scene_noise(pipe: FireEditPipeline, size: tuple[int, int], seed: int, indices: Sequence[int]) -> Tensor:
    """Unit noise (B, C, h, w) of scenes, one generator per scene, so that batching changes nothing."""
    return row_noise(pipe, size, [torch.Generator().manual_seed(seed * 1_000_003 + i) for i in indices])


def row_noise(
    pipe: FireEditPipeline, size: tuple[int, int], generators: Sequence[torch.Generator], working_size: int | None = None
) -> Tensor:
    """Unit noise (B, C, h, w) for pictures of `size` (height, width), a row from each generator; `working_size` as the pipeline's."""
    plan = WorkingSize.plan(size, pipe.config.native_size if working_size is None else working_size)
    shape = (pipe.unet.config.out_channels, plan.padded[0] // CELL, plan.padded[1] // CELL)
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators])


def edit_scenes(
    pipe: FireEditPipeline, samples: Sequence[SceneSample], indices: Sequence[int], seed: int, settings: Settings,
    regions: list[Regions] | None = None,
) -> tuple[Tensor, list[Regions]]:  # fmt: skip
    """Edit scenes of one size: pictures (B, 3, H, W) on 0..1, and the regions with the probability of being meant."""
    source = to_tensor([s.source for s in samples])
    if regions is None and not settings.regions:
        regions = [Regions.empty(tuple(source.shape[-2:]))] * len(samples)
    noise = scene_noise(pipe, tuple(source.shape[-2:]), seed, indices)
    out = pipe(
        source, [s.instruction for s in samples], num_inference_steps=settings.steps,
        text_guidance=settings.text_guidance, image_guidance=settings.image_guidance,
        tati_strength=settings.tati_strength, hvca_strength=settings.hvca_strength,
        start_percent=settings.start_percent, end_percent=settings.end_percent, regions=regions, latents=noise,
        keep_outside="off", output_type="pt",
    )  # fmt: skip
    return out.images, out.regions


@torch.no_grad()
def autoencoder_floor(pipe: FireEditPipeline, pictures: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) on 0..1 through the autoencoder alone: no edit can be nearer to its target than this."""
    plan = WorkingSize.plan(tuple(pictures.shape[-2:]), pipe.config.native_size)
    pictures = pictures.to(pipe.device)
    decoded = decode_latents(pipe.vae, encode_latents(pipe.vae, plan.shrink(pictures)))
    return plan.restore(decoded, pictures, torch.ones_like(pictures[:, 0]))


def to_tensor(pictures: Sequence[np.ndarray]) -> Tensor:
    """Pictures (H, W, 3) uint8 as one float tensor (B, 3, H, W) on 0..1."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def to_arrays(pictures: Tensor) -> np.ndarray:
    """(B, 3, H, W) on 0..1 as (B, H, W, 3) float32."""
    return pictures.clamp(0, 1).permute(0, 2, 3, 1).float().cpu().numpy()


def batches(items: Iterator[tuple[int, SceneSample]], size: int) -> Iterator[list[tuple[int, SceneSample]]]:
    """Lists of `size` items, the last one shorter."""
    batch: list[tuple[int, SceneSample]] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def evaluate(
    pipe: FireEditPipeline, scenes: Scenes, settings: Settings | None = None, batch: int = 16, world: World = WORLD,
    baselines: bool = True, progress: Callable[[Iterator, int], Iterator] | None = None, judge: SceneJudge | None = None,
    lpips: Callable[[np.ndarray, np.ndarray], float] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Edit and score all scenes.

    Args:
        judge: looks at every edit; None leaves its columns out. lpips: see `score_edit`.
        batch: pictures per call of the pipeline; the scores do not depend on it beyond float rounding.

    Returns:
        A JSON-able result: "config", "thresholds", "tables" (system -> row -> numbers), "mastered", "goals",
        "seconds_per_edit", "scenes" (one record per edit).
    """
    settings = (settings or Settings()).resolved(pipe)
    scores: dict[str, list[EditScore]] = {name: [] for name in summary.SYSTEMS}
    seconds = 0.0
    bar = progress or (lambda items, total: tqdm(items, total=total, unit="batch", desc="scenes"))
    for rows in bar(batches(scenes.draw(world), batch), -(-len(scenes) // batch)):
        indices, samples = [i for i, _ in rows], [s for _, s in rows]
        begin = time.perf_counter()
        edits, regions = edit_scenes(pipe, samples, indices, scenes.seed, settings)
        edits = to_arrays(edits)
        seconds += time.perf_counter() - begin
        unedited = to_arrays(autoencoder_floor(pipe, to_tensor([s.source for s in samples])))
        for i, sample, edit, found, plain in zip(indices, samples, edits, regions, unedited, strict=True):
            scores["edit"].append(score_edit(sample, edit, found, i, plain, judge, lpips))
        if baselines:
            floor = to_arrays(autoencoder_floor(pipe, to_tensor([s.target for s in samples])))
            for i, sample, decoded, plain in zip(indices, samples, floor, unedited, strict=True):
                scores["identity"].append(score_edit(sample, sample.source, None, i, None, judge, lpips))
                scores["autoencoder"].append(score_edit(sample, decoded, None, i, plain, judge, lpips))
    result: dict[str, Any] = {
        "config": asdict(scenes) | {"world": world.name, "world_fingerprint": world.fingerprint(), **asdict(settings)},
        "thresholds": thresholds(),
        "machine": machine(pipe.device),
        "seconds_per_edit": seconds / len(scores["edit"]),
        "batch": batch,
        "tables": {name: summary.by_type(rows) for name, rows in scores.items() if rows},
        "scenes": [s.to_dict() for s in scores["edit"]],
    }
    result["config"]["kinds"] = list(scenes.kinds)
    return result | {"mastered": summary.mastered(result), "goals": summary.goals(result)}


@torch.no_grad()
def power_of(pipe: FireEditPipeline, scenes: Scenes, world: World = WORLD, count: int = 32) -> dict[str, float]:
    """Share of power between rows of e and of what TATI (mean over the schedule) and HVCA give the UNet, over the first scenes; see
    `diffusion.rows`."""
    samples = [sample for _, (_, sample) in zip(range(count), scenes.draw(world), strict=False)]
    source = to_tensor([s.source for s in samples]).to(pipe.device)
    tokens = pipe.editor.tokenize(source, pipe.editor.detect(source))
    conditions = pipe.editor.condition(tokens, [s.instruction for s in samples])
    e = conditions.edit_embedding
    times = (torch.full((len(e),), t, device=e.device) for t in (999, 750, 500, 250, 0))
    changes = [power_between_rows(tati_change(pipe.tati, e, t)) for t in times]
    return {"e": power_between_rows(e), "tati": sum(changes) / len(changes), "hvca": power_between_rows(conditions.visual)}


def thresholds() -> dict[str, float]:
    """The fixed numbers that the scores depend on."""
    return {
        "success_error": metrics.SUCCESS_ERROR, "intact_change": metrics.INTACT_CHANGE, "outside_margin": metrics.OUTSIDE_MARGIN,
        "grounding_iou": metrics.GROUNDING_IOU, "no_region_score": metrics.NO_REGION_SCORE,
        "mastered_success": summary.MASTERED_SUCCESS, "mastered_scenes": summary.MASTERED_SCENES,
        "bootstrap_rounds": summary.BOOTSTRAP_ROUNDS, "confidence": summary.CONFIDENCE,
    }  # fmt: skip


def machine(device: torch.device | str = "cpu") -> dict[str, Any]:
    """What the numbers were measured on."""
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": f"{device.type} ({name})", "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "python": platform.python_version(), "torch": torch.__version__, "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
    }  # fmt: skip


def bundle_fingerprint(bundle: str | Path) -> str:
    """Twelve hex digits over all weights and configs of a bundle: ties a result to what was measured."""
    folder = Path(bundle)
    # the text encoder too, which reads in place of an untrained Q-Former
    return _fingerprint(folder, (p for part in (*COMPONENTS, LORA, *EXTRAS) for p in (folder / part).glob("*")))


def detector_fingerprint(place: str | Path) -> str:
    """The same of a detector, a folder or a single file, whatever it is called."""
    place = Path(place)
    return _fingerprint(place.parent if place.is_file() else place, [place] if place.is_file() else place.glob("*"))


def _fingerprint(folder: Path, files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in files if p.suffix in (".safetensors", ".json", ".pt")):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            while piece := file.read(1 << 24):  # a shard of a language model is larger than many a memory
                digest.update(piece)
    return digest.hexdigest()[:12]


def save_result(result: dict[str, Any], folder: str | Path, name: str = "result") -> Path:
    """Write `<name>.json`, and the same tables as `<name>.md`, into a folder; returns the path of the JSON."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".md").write_text(report(result, markdown=True) + "\n")
    return path


def report(result: dict[str, Any], markdown: bool = False) -> str:
    """All tables of a result as text or Markdown."""
    table = summary.markdown_table if markdown else summary.text_table
    c = result["config"]
    parts = [
        f"{sum(1 for _ in result['scenes'])} scenes of {c['split']}, seed {c['seed']}; {c['steps']} steps, text guidance "
        f"{c['text_guidance']:g}, image guidance {c['image_guidance']:g}, TATI {c['tati_strength']:g}, HVCA "
        f"{c['hvca_strength']:g}; {result['seconds_per_edit']:.2f} s per edit in batches of {result['batch']} on "
        f"{result['machine']['device']}, {result['machine']['threads']} threads. "
        f"Means with 95 % bootstrap intervals over scenes.",
        table(summary.HEAD, summary.edit_rows(result)),
    ]
    if "autoencoder" in result["tables"]:
        parts.append("Baselines on the same scenes (identity = the source as output):")
        parts.append(table(summary.BASE_HEAD, summary.baseline_rows(result)))
    for system, said in (
        ("edit", "The judge on the edits:"), ("identity", "The judge on the untouched sources:"),
        ("autoencoder", "The judge on the targets through the autoencoder:"),
    ):  # fmt: skip
        rows = summary.judge_rows(result, system)
        if rows:
            parts += [said, table(summary.JUDGE_HEAD, rows)]
    rows = summary.calibration_rows(result["scenes"])
    if rows:
        parts += [
            f"Calibration of the grounding score: expected calibration error {summary.calibration_error(result['scenes']):.4f}.",
            table(summary.CALIBRATION_HEAD, rows),
        ]
    rows = summary.goal_rows(result)
    if rows:
        parts.append(table(summary.GOAL_HEAD, rows))
    good, bad = summary.mastered(result), summary.not_mastered(result)
    if good or bad:
        parts.append(f"mastered: {', '.join(good) or 'none'}; not mastered: {', '.join(bad) or 'none'}")
    else:
        parts.append(f"No type has the {summary.MASTERED_SCENES} held-out scenes that it takes to call it mastered; use --each.")
    return "\n\n".join(parts)
