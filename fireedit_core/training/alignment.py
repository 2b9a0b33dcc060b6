# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage 1: towers, region encoder, language model and Q-Former learn to see, read and point; no diffusion yet.

At full scale these modules come pretrained and this stage is SmartEdit's text alignment. A model that is trained from
scratch needs them taught first, which is cheap: pointing takes minutes where appearance takes hours.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data import EDIT_TYPES, SceneGenerator, World
from ..diffusion.hvca import HVCA
from ..vlm import Grounding, RegionAwareVLM, encode_vision
from ..vlm.vision import encode_dino
from .batches import DETAILS, WAYS, SceneBatch, SceneLabels, collate, without_regions
from .loop import StageConfig, TrainingStage

logger = logging.getLogger("fireedit")

ALIGNED = ("language_model", "dinov2", "clip_vision", "region_encoder", "adapter", "img_tokens", "grounding", "qformer")
LOOK_CELLS = 12
TWIN_SHARE = 0.75  # nouns are learnt from any scene; telling twins apart is what takes long


class AuxiliaryHeads(nn.Module):
    """Linear read-outs that are dropped after training: what a region is, and what the edit embedding says.

    Each question is asked of its own token of e, which keeps the 77 rows from becoming one.
    """

    def __init__(self, world: World, hidden_size: int, context_size: int, clip_size: int):
        super().__init__()
        nouns, colours = len(world.classes), len(world.palette) + 1
        self.region_noun = nn.Linear(hidden_size, nouns)
        self.region_colour = nn.Linear(hidden_size, colours)
        self.region_box = nn.Linear(hidden_size, 4)
        self.clip_presence = nn.Linear(clip_size, nouns)
        sizes = {
            "edit": len(EDIT_TYPES), "noun": nouns, "new_noun": nouns, "colour": colours,
            "background": len(world.backgrounds), "detail": len(DETAILS), "way": len(WAYS), "said_colour": colours,
        }  # fmt: skip
        self.questions = nn.ModuleDict({name: nn.Linear(context_size, size) for name, size in sizes.items()})
        self.edit_box = nn.Linear(context_size, 4)
        self.look = nn.Linear(2 * context_size, 3 * LOOK_CELLS**2)

    def region_loss(self, tokens: Tensor, batch: SceneBatch) -> tuple[Tensor, dict]:
        """Noun, colour and place of region tokens (B, n, D)."""
        noun, colour = self.region_noun(tokens).float(), self.region_colour(tokens).float()
        loss = _cross_entropy(noun, batch.labels.nouns) + _cross_entropy(colour, batch.labels.colours)
        seen = batch.labels.nouns >= 0
        place = self.region_box(tokens).float()[batch.region_mask]
        loss = loss + 5 * F.smooth_l1_loss(place, batch.boxes[batch.region_mask], beta=0.1)
        right = lambda logits, wanted: (logits.argmax(-1) == wanted)[seen].float().mean()  # noqa: E731
        return loss, {"region_acc": right(noun, batch.labels.nouns), "colour_acc": right(colour, batch.labels.colours)}

    def presence_loss(self, clip_tokens: Tensor, batch: SceneBatch) -> Tensor:
        """Which nouns the picture shows, from CLIP tokens (B, m, C)."""
        logits = self.clip_presence(clip_tokens).float().logsumexp(1) - 4.0
        wanted = torch.zeros_like(logits)
        rows, columns = (batch.labels.nouns >= 0).nonzero(as_tuple=True)
        wanted[rows, batch.labels.nouns[rows, columns]] = 1
        return F.binary_cross_entropy_with_logits(logits, wanted)

    def embedding_loss(self, embedding: Tensor, labels: SceneLabels, look: Tensor) -> Tensor:
        """What the edit embedding e (B, 77, D) says about the edit: its kind, nouns, colour, place and look (`look_of`)."""
        loss = embedding.new_zeros(())
        for index, (name, head) in enumerate(self.questions.items()):
            loss = loss + _cross_entropy(head(embedding[:, index]).float(), getattr(labels, name))
        row = len(self.questions)
        box = self.edit_box(embedding[:, row]).float()
        loss = loss + 20 * F.smooth_l1_loss(box, labels.edit_box, beta=0.1)
        said = self.look(embedding[:, row + 1 : row + 3].flatten(1)).float()
        return loss + 5 * F.mse_loss(said, look.flatten(1))


def look_of(batch: SceneBatch) -> Tensor:
    """The target picture inside the edit box as (B, 3, 12, 12): ties a word to a look before any diffusion."""
    from torchvision.ops import roi_align  # deferred, see region_encoder

    size = batch.target.shape[-1]
    boxes = torch.cat(
        [torch.arange(len(batch.target))[:, None].to(batch.labels.edit_box), batch.labels.edit_box * size], dim=1
    )
    return roi_align(batch.target, boxes, LOOK_CELLS, sampling_ratio=2, aligned=True)


def grounding_loss(grounding: Grounding, labels: SceneLabels, edit_mask: Tensor) -> tuple[Tensor, dict]:
    """Pointing (cross entropy over regions and "none") and the edit mask (B, H, W) in 0..1 (BCE and dice)."""
    target = labels.target
    point = F.cross_entropy(grounding.region_logits, target)
    logits = grounding.mask_logits.float()
    wanted = F.adaptive_avg_pool2d(edit_mask[:, None], logits.shape[-2:])[:, 0]
    soft = logits.sigmoid()
    dice = 1 - (2 * (soft * wanted).sum((1, 2)) + 1) / (soft.sum((1, 2)) + wanted.sum((1, 2)) + 1)
    paint = F.binary_cross_entropy_with_logits(logits, wanted) + dice.mean()
    hit = (grounding.region_logits.argmax(-1) == target).float()
    hard = labels.way > 0  # the noun alone is not enough
    inside, truth = soft > 0.5, wanted > 0.5
    iou = ((inside & truth).sum((1, 2)) / (inside | truth).sum((1, 2)).clamp(min=1)).float().mean()
    return point + paint, {"point": hit.mean(), "point_hard": hit[hard].mean(), "mask_iou": iou}


class AlignmentModel(nn.Module):
    """The trained modules of this stage with their auxiliary heads; `forward` is the loss of a batch."""

    def __init__(self, components: dict[str, Any], world: World):
        super().__init__()
        c = components
        self.parts = nn.ModuleDict({name: c[name] for name in ALIGNED})
        self.tokenizer = c["tokenizer"]
        self.heads = AuxiliaryHeads(
            world,
            c["img_tokens"].config.hidden_size,
            c["qformer"].config.hidden_size,
            c["clip_vision"].config.hidden_size,
        )
        hvca: HVCA = c["hvca"]
        self.clip_level = hvca.config.clip_levels[-1]
        self.vlm = RegionAwareVLM(
            c["language_model"], c["tokenizer"], c["adapter"], c["region_encoder"], c["img_tokens"]
        )

    def forward(self, batch: SceneBatch) -> tuple[Tensor, dict]:
        parts = self.parts
        features = encode_vision(parts["dinov2"], parts["clip_vision"], batch.source)
        grid = features.dino_grid
        tokens = parts["region_encoder"](features.dino, grid, batch.boxes, batch.region_mask)
        image_tokens = parts["adapter"](features.dino[-1], grid)
        ids, text_mask = self.vlm.encode_text(batch.instructions, batch.source.device)
        states = self.vlm(ids, text_mask, image_tokens, tokens, batch.region_mask)
        half = (grid[0] // 2, grid[1] // 2)
        grounding = parts["grounding"](states.img, states.regions, batch.region_mask, batch.boxes, states.image, half)
        region, seen = self.heads.region_loss(tokens, batch)
        ground, pointed = grounding_loss(grounding, batch.labels, batch.edit_mask)
        embedding = parts["qformer"](grounding.with_meant_region(states.img, tokens))
        says = self.heads.embedding_loss(embedding, batch.labels, look_of(batch))
        language = self.vlm.language_loss(states)
        presence = self.heads.presence_loss(features.clip[self.clip_level], batch)
        loss = region + ground + 0.5 * says + 0.1 * language + presence
        return loss, {
            **seen,
            **pointed,
            "says": says.detach(),
            "presence": presence.detach(),
            "language": language.detach(),
        }


    def ground(self, batch: SceneBatch) -> Grounding:
        """Grounding alone, without gradients into the VLM."""
        parts = self.parts
        with torch.no_grad():
            dino, grid = encode_dino(parts["dinov2"], batch.source)
            tokens = parts["region_encoder"](dino, grid, batch.boxes, batch.region_mask)
            ids, text_mask = self.vlm.encode_text(batch.instructions, batch.source.device)
            states = self.vlm(ids, text_mask, parts["adapter"](dino[-1], grid), tokens, batch.region_mask)
        half = (grid[0] // 2, grid[1] // 2)
        return parts["grounding"](states.img, states.regions, batch.region_mask, batch.boxes, states.image, half)


def train_alignment(
    components: dict[str, Any], world: World, folder: Path | str, config: StageConfig, regions: bool = True,
    frozen: Sequence[str] = (),
) -> None:  # fmt: skip
    """Train the modules named in `ALIGNED` in place; leaves them at their averaged weights.

    Args:
        regions: False trains a model without region tokens, for the ablation. frozen: those that stay as they are.
    """
    generator = SceneGenerator(replace(world, twin_share=TWIN_SHARE), split="train", seed=1, masks=False)
    model = AlignmentModel(components, world).requires_grad_(True)
    for name in set(frozen) & set(ALIGNED):
        model.parts[name].requires_grad_(False)

    def loss_fn(step: int, device: torch.device) -> tuple[Tensor, dict]:
        batch = move(collate([generator.sample(i) for i in stage.indices(step)], world), device)
        return stage.model(batch if regions else without_regions(batch))

    show = (lambda _: evaluate_alignment(model, world)) if regions else None
    stage = TrainingStage("alignment", folder, model, config, loss_fn, show)
    stage.run()
    if stage.ema is not None:
        stage.ema.copy_to(stage.trainable)


@torch.no_grad()
def evaluate_alignment(model: AlignmentModel, world: World, count: int = 384) -> dict[str, float]:
    """Pointing accuracy on validation scenes, all and among twins; logged and returned."""
    generator = SceneGenerator(world, split="validation", seed=1, masks=False)
    device = next(model.parameters()).device
    hits, twins, ious = [], [], []
    for start in range(0, count, 64):
        samples = [generator.sample(start + i) for i in range(64)]
        for sample in samples:
            batch = move(collate([sample], world, jitter=0.02, shuffle=False), device)
            _, metrics = grounding_loss(model.ground(batch), batch.labels, batch.edit_mask)
            hits.append(float(metrics["point"]))
            ious.append(float(metrics["mask_iou"]))
            twins.append(sample.twins)
    pairs = [h for h, t in zip(hits, twins, strict=True) if t]
    result = {
        "point": sum(hits) / len(hits), "point_twins": sum(pairs) / max(1, len(pairs)), "mask_iou": sum(ious) / len(ious),
    }  # fmt: skip
    logger.info("alignment on %d validation scenes: %s", count, {k: round(v, 4) for k, v in result.items()})
    return result


def move(batch: SceneBatch, device: torch.device) -> SceneBatch:
    """The batch on another device."""
    if device.type == "cpu":
        return batch
    labels = type(batch.labels)(**{k: v.to(device) for k, v in vars(batch.labels).items()})
    moved = {k: v.to(device) for k, v in vars(batch).items() if isinstance(v, Tensor)}
    return SceneBatch(**moved, instructions=batch.instructions, labels=labels)


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy over the entries whose target is not -1; 0 where there is none."""
    known = target >= 0
    if not bool(known.any()):
        return logits.sum() * 0
    return F.cross_entropy(logits[known], target[known])
