# SPDX-License-Identifier: GPL-3.0-or-later
"""Trains the embedded region detector on synthetic scenes.

    python -m fireedit_core.training.detector --minutes 6 --out models/fireedit-tiny/detector

Loss: ultralytics' v8DetectionLoss (AGPL-3.0, optional, imported where used). The loop is plain PyTorch and is bound by
wall-clock time, not by steps, because the embedded default is trained on whatever machine there is.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from ..precision import autocast
from ..regions.detector import letterbox, letterbox_boxes
from ..regions.record import Regions
from ..regions.suppression import box_iou
from ..regions.yolo import YoloRegionDetector

logger = logging.getLogger("fireedit")

# index -> (picture (H, W, 3) uint8, boxes (n, 4) xyxy in pixels)
SceneSource = Callable[[int], tuple[np.ndarray, np.ndarray]]


@dataclass
class DetectorTraining:
    """Settings of a run. `minutes` is the wall-clock budget of all sessions of the run together."""

    minutes: float = 6.0
    batch_size: int = 24
    learning_rate: float = 2e-3
    weight_decay: float = 5e-3
    warmup_steps: int = 100
    ema_decay: float = 0.998
    calm_fraction: float = 0.2  # the last part of the run sees unscaled pictures, as at inference
    seed: int = 0
    device: str = "cpu"
    checkpoint_seconds: float = 60.0


def augment(
    images: Tensor, boxes: list[Tensor], generator: torch.Generator, rescale: bool = True
) -> tuple[Tensor, list[Tensor]]:
    """Light, flip, blur, scale and grey borders, so that pictures of other sizes and cameras are known ground.

    images (B, 3, S, S) float 0..1 -> the same shape; boxes move along. A box that keeps less than 0.4 of its area, or
    has a side below 5 pixels, is no target any more.
    """
    count, _, side, _ = images.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator) * (high - low) + low

    def chosen(share: float) -> Tensor:
        return torch.nonzero(torch.rand(count, generator=generator) < share).flatten()

    # The costly ones touch a part of the pictures only: on one CPU core they would cost as much as the forward pass.
    images = images * (uniform(0.75, 1.25, 1, 1, 1) * uniform(0.92, 1.08, 3, 1, 1)) + uniform(-0.08, 0.08, 1, 1, 1)
    if len(some := chosen(0.4)):
        grey = images[some].mean(dim=1, keepdim=True)
        images[some] = torch.lerp(grey, images[some], uniform(0.5, 1.3, 1, 1, 1)[some])
    if len(some := chosen(0.2)):
        small = F.avg_pool2d(images[some], 2)
        images[some] = F.interpolate(small, size=(side, side), mode="bilinear", align_corners=False)
    if len(some := chosen(0.2)):
        noise = torch.randn(images[some].shape, generator=generator)
        images[some] += noise * uniform(0.005, 0.03, 1, 1, 1)[some]
    images = images.clamp_(0, 1)

    flip = torch.ones(count)
    flip[some := chosen(0.5)] = -1.0
    images[some] = images[some].flip(3)
    zoom = torch.ones(count, 2)
    shift = torch.zeros(count, 2)
    if rescale and len(some := chosen(0.4)):
        scale, aspect = uniform(math.log(0.5), math.log(1.5), 1), uniform(-0.15, 0.15, 1)
        zoom[some] = torch.exp(scale + torch.cat([aspect, -aspect], dim=1))[some]
        # Free movement inside the square when shrunk, of the crop when enlarged.
        shift = uniform(-1, 1, 2) * (1 - zoom).abs()
        theta = torch.cat([torch.diag_embed(1 / zoom), (-shift / zoom)[..., None]], dim=2)[some]
        grid = F.affine_grid(theta, [len(some), 3, side, side], align_corners=False)
        # Grey borders: the zeros outside are the fill colour of `letterbox` once 0.5 is added back.
        images[some] = F.grid_sample(images[some] - 0.5, grid, align_corners=False) + 0.5

    moved = []
    for i, box in enumerate(boxes):
        unit = box / side * 2 - 1
        ends_x = unit[:, 0::2] * flip[i] * zoom[i, 0] + shift[i, 0]
        ends_y = unit[:, 1::2] * zoom[i, 1] + shift[i, 1]
        corners = torch.stack([ends_x.amin(1), ends_y.amin(1), ends_x.amax(1), ends_y.amax(1)], dim=1)
        inside = corners.clamp(-1, 1)
        extent, whole = inside[:, 2:] - inside[:, :2], corners[:, 2:] - corners[:, :2]
        keep = (extent.prod(1) > 0.4 * whole.prod(1)) & (extent.amin(1) * side / 2 >= 5)
        moved.append(((inside + 1) * side / 2)[keep])
    return images, moved


def loss_batch(images: Tensor, boxes: list[Tensor]) -> dict[str, Tensor]:
    """The batch dict that ultralytics' loss reads: boxes as normalised centre x, centre y, width, height."""
    side = images.shape[-1]
    flat = torch.cat(boxes) / side
    counts = torch.tensor([len(box) for box in boxes])
    return {
        "img": images,
        "batch_idx": torch.repeat_interleave(torch.arange(len(boxes)), counts).float().to(images.device),
        "cls": torch.zeros(len(flat), 1, device=images.device),
        "bboxes": torch.cat([(flat[:, :2] + flat[:, 2:]) / 2, flat[:, 2:] - flat[:, :2]], dim=1).to(images.device),
    }


def train_detector(
    scenes: SceneSource, out: Path, settings: DetectorTraining, detector: YoloRegionDetector | None = None
) -> YoloRegionDetector:
    """Train (or go on with) a detector; checkpoints lie in `out`/run.pt. Returns the averaged (EMA) weights.

    Args:
        scenes: index -> (picture (H, W, 3) uint8, boxes (n, 4) xyxy in pixels); any H and W.
        out: folder for checkpoints.
    """
    torch.manual_seed(settings.seed)
    model = (detector or YoloRegionDetector()).to(settings.device, memory_format=torch.channels_last)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.99))
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "run.pt"
    step, spent = 0, 0.0
    if checkpoint.is_file():
        state = torch.load(checkpoint, map_location=settings.device, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["spent"]
        logger.info("Going on at step %d, %.0f s of the budget used.", step, spent)
    generator = torch.Generator().manual_seed(settings.seed + step)
    budget = settings.minutes * 60
    started = saved = time.monotonic()
    already = spent
    model.train()
    progress = tqdm(total=round(budget), initial=round(min(spent, budget)), unit="s", desc="detector")
    while spent < budget:
        done = spent / budget
        rate = settings.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / settings.warmup_steps)
        first = step * settings.batch_size
        pictures, boxes = read_batch(scenes, range(first, first + settings.batch_size), model.config.input_size)
        pictures, boxes = augment(pictures, boxes, generator, rescale=done < 1 - settings.calm_fraction)
        pictures = pictures.to(settings.device).contiguous(memory_format=torch.channels_last)
        with autocast(settings.device):
            predictions = model(pictures)
        losses, _ = model.network.loss(loss_batch(pictures, boxes), _as_float(predictions))
        loss = losses.sum() / len(boxes)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        step += 1
        _update_average(average, model, min(settings.ema_decay, (1 + step) / (10 + step)))
        now = time.monotonic()
        progress.update(round(already + now - started) - round(spent))
        spent = already + now - started
        if step % 20 == 0:
            progress.set_postfix(step=step, loss=f"{loss.item():.3f}", pictures=step * settings.batch_size)
        if now - saved > settings.checkpoint_seconds or spent >= budget:
            saved = now
            state = {"model": model.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "step": step, "spent": spent}, checkpoint)
    progress.close()
    return average


def read_batch(scenes: SceneSource, indices: range, side: int) -> tuple[Tensor, list[Tensor]]:
    """Scenes as float 0..1 (B, 3, side, side), letterboxed as the detector does it, and (n, 4) boxes that follow."""
    pictures, moved = [], []
    for index in indices:
        picture, boxes = _scene(scenes, index)
        pictures.append(letterbox(picture, side))
        moved.append(letterbox_boxes(boxes, (picture.shape[2], picture.shape[3]), side))
    return torch.cat(pictures), moved


def _scene(scenes: SceneSource, index: int) -> tuple[Tensor, Tensor]:
    picture, boxes = scenes(index)
    image = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
    return image, torch.as_tensor(np.asarray(boxes), dtype=torch.float32).reshape(-1, 4)


def _as_float(value):
    if isinstance(value, Tensor):
        return value.float()
    if isinstance(value, dict):
        return {key: _as_float(item) for key, item in value.items()}
    return type(value)(_as_float(item) for item in value) if isinstance(value, (list, tuple)) else value


@torch.no_grad()
def _update_average(average: torch.nn.Module, model: torch.nn.Module, decay: float) -> None:
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def detection_quality(
    found: list[Regions], wanted: list[Tensor], score_threshold: float = 0.15, iou_threshold: float = 0.5
) -> dict[str, float]:
    """Recall, precision and wrong boxes per picture above `score_threshold`, and AP50 over all scores.

    found: one `Regions` per picture, detected with a threshold near 0. wanted: (n, 4) xyxy boxes per picture.
    A wanted box is matched once, by the best-scored region that overlaps it by `iou_threshold` (as in PASCAL VOC).
    AP is the area under the monotone precision-recall curve, all points.
    """
    rows: list[tuple[float, bool]] = []
    for regions, boxes in zip(found, wanted, strict=True):
        overlap = box_iou(regions.boxes, boxes)
        for i, score in enumerate(regions.scores.tolist()):
            hit = bool(overlap.shape[1]) and bool(overlap[i].max() >= iou_threshold)
            if hit:
                overlap[:, overlap[i].argmax()] = -1.0
            rows.append((score, hit))
    total = max(sum(len(boxes) for boxes in wanted), 1)
    rows.sort(key=lambda row: -row[0])
    hits = np.cumsum([hit for _, hit in rows]) if rows else np.zeros(0)
    recall, precision = hits / total, hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    average_precision = float(np.sum(np.diff(recall, prepend=0.0) * envelope))
    above = [hit for score, hit in rows if score > score_threshold]
    return {
        "recall": sum(above) / total,
        "precision": sum(above) / max(len(above), 1),
        "wrong_per_picture": (len(above) - sum(above)) / max(len(found), 1),
        "ap50": average_precision,
    }


def evaluate_detector(
    detector: YoloRegionDetector, scenes: SceneSource, count: int = 300, score_threshold: float = 0.15
) -> dict[str, float]:
    """`detection_quality` on scenes 0..count-1 of a source."""
    found, wanted = [], []
    for index in range(count):
        image, boxes = _scene(scenes, index)
        found += detector.detect(image, score_threshold=0.01)
        wanted.append(boxes)
    return detection_quality(found, wanted, score_threshold)


def save_detector(detector: YoloRegionDetector, folder: Path, half: bool = True) -> None:
    """Write config.json and safetensors (float16 when `half`)."""
    stored = copy.deepcopy(detector).cpu().to(memory_format=torch.contiguous_format)
    if half:
        stored = stored.half()
    stored.save_pretrained(folder, safe_serialization=True)


def main(arguments: list[str] | None = None) -> None:
    """Command line: train, evaluate on held-out scenes, save."""
    parser = argparse.ArgumentParser(description="Train the region detector of fireedit-tiny.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the detector; the run lies in OUT-run")
    parser.add_argument("--minutes", type=float, default=6.0, help="wall-clock budget")
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--run", type=Path, default=None, help="folder of the checkpoint; an old one is gone on with")
    parser.add_argument("--scenes", type=int, default=300, help="held-out scenes to measure on")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = DetectorTraining(
        minutes=options.minutes, batch_size=options.batch_size, seed=options.seed, device=options.device
    )
    run = options.run or options.out.with_name(options.out.name + "-run")
    detector = train_detector(scene_source("train", settings.seed), run, settings)
    save_detector(detector, options.out)
    stored = YoloRegionDetector.from_pretrained(options.out)
    table = {
        f"{split}, {name}": evaluate_detector(model, scene_source(split, settings.seed), options.scenes)
        for split in ("validation", "heldout")
        for name, model in (("as trained", detector), ("as stored (float16)", stored))
    }
    logger.info("%s", quality_table(table))
    (run / "quality.json").write_text(json.dumps({"settings": asdict(settings), "quality": table}, indent=2))


def quality_table(rows: dict[str, dict[str, float]]) -> str:
    """A Markdown table, one line per row."""
    lines = ["| scenes | recall@0.5 | precision | wrong boxes per picture | AP50 |", "|---|---|---|---|---|"]
    for name, row in rows.items():
        numbers = " | ".join(f"{row[key]:.4f}" for key in ("recall", "precision", "wrong_per_picture", "ap50"))
        lines.append(f"| {name} | {numbers} |")
    return "\n".join(lines)


def scene_source(split: str, seed: int) -> SceneSource:
    """Scenes of `fireedit_core.data` (split train, validation or heldout) as the trainer reads them."""
    from ..data import WORLD, SceneGenerator

    generator = SceneGenerator(WORLD, split=split, seed=seed, masks=False)

    def scene(index: int) -> tuple[np.ndarray, np.ndarray]:
        sample = generator.sample(index)
        return sample.source, sample.boxes

    return scene


if __name__ == "__main__":
    main()
