# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m fireedit_core.training.judge`: train the judge on sprites alone, some ten minutes on two cores."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blur import gaussian_blur
from ..checkpoints.portable import make_portable
from ..data import WORLD, SceneGenerator, SceneSample, Sprites, World
from ..evaluation.judge import JUDGE, NATIVE, NOTHING, SMUDGE, SceneJudge, crops
from .loop import StageConfig, TrainingStage

logger = logging.getLogger("fireedit")

SEED = 900  # a seed space of its own, far from the editor's


def judge_world(world: World = WORLD) -> World:
    """The world with its held-out classes among the others: the judge must know every object that a scene can show."""
    return replace(world, name=f"{world.name}-judge", classes={**world.classes, **world.heldout}, heldout={})


def new_judge(world: World = WORLD) -> SceneJudge:
    """A fresh judge for a world."""
    return SceneJudge([*sorted(judge_world(world).classes), NOTHING, SMUDGE], [NATIVE, *world.palette])


class JudgeCrops:
    """Crops with their labels: objects as they stand in scenes, clean background, and smudges made of both."""

    def __init__(self, judge: SceneJudge, world: World, seed: int = SEED):
        inner = judge_world(world)
        self.generator = SceneGenerator(inner, Sprites.for_world(inner), "train", seed, masks=False)
        self.nouns = {n: i for i, n in enumerate(judge.config.nouns)}
        self.colours = {c: i for i, c in enumerate(judge.config.colours)}

    def batch(self, indices: range) -> tuple[Tensor, Tensor, Tensor]:
        """Of scenes `indices`: crops (N, 3, CROP, CROP) in 0..1, nouns (N,), colours (N,) with -1 where there is none."""
        seen, nouns, colours = [], [], []
        for index in indices:
            sample, rng = self.generator.sample(index), np.random.default_rng((SEED, index))
            objects = sample.meta["target_objects"]
            image = torch.from_numpy(sample.target).permute(2, 0, 1).float() / 255
            empty = free_boxes(sample, rng)
            boxes = [jittered(box, rng) for *_, box in objects] + empty
            whole = crops(image, torch.tensor(boxes, dtype=torch.float32))
            seen.append(degrade(whole, rng))
            nouns += [self.nouns[n] for n, *_ in objects] + [self.nouns[NOTHING]] * len(empty)
            colours += [self.colours[c] for _, c, _ in objects] + [-1] * len(empty)
            if objects and empty:
                seen.append(smudge(whole[:1], whole[-1:], rng))
                nouns.append(self.nouns[SMUDGE])
                colours.append(-1)
        return torch.cat(seen), torch.tensor(nouns), torch.tensor(colours)


def free_boxes(sample: SceneSample, rng: np.random.Generator, count: int = 2) -> list[tuple[int, int, int, int]]:
    """Up to `count` random boxes of a target that touch no object; among them the old place of a removed one."""
    size = sample.target.shape[0]
    taken = [box for *_, box in sample.meta["target_objects"]]
    found = [tuple(int(v) for v in sample.boxes[sample.target_index])] if sample.edit_type == "remove" else []
    for _ in range(20):
        if len(found) >= count:
            break
        wide, high = rng.integers(20, 53, 2)
        x, y = rng.integers(2, size - wide - 1), rng.integers(2, size - high - 1)
        box = (int(x), int(y), int(x + wide), int(y + high))
        if all(box[2] + 2 <= b[0] or b[2] + 2 <= box[0] or box[3] + 2 <= b[1] or b[3] + 2 <= box[1] for b in taken):
            found.append(box)
    return found


def jittered(box: tuple, rng: np.random.Generator) -> tuple[float, ...]:
    """A box moved by up to a pixel at each edge."""
    return tuple(float(v + d) for v, d in zip(box, rng.integers(-1, 2, 4), strict=True))


def degrade(seen: Tensor, rng: np.random.Generator) -> Tensor:
    """What an autoencoder and a good edit do to a picture: slight blur, tint and noise."""
    sigma = rng.uniform(0, 1.3)
    out = gaussian_blur(seen, sigma) if sigma > 0.3 else seen
    shift = torch.from_numpy(rng.normal(0, 0.03, (len(seen), 3, 1, 1))).float()
    noise = torch.from_numpy(rng.normal(0, rng.uniform(0, 0.04), seen.shape)).float()
    return (out + shift + noise).clamp(0, 1)


def smudge(thing: Tensor, ground: Tensor, rng: np.random.Generator) -> Tensor:
    """A thing gone to haze (1, 3, CROP, CROP): blurred until it is none, or half see-through over background."""
    haze = gaussian_blur(thing, rng.uniform(4, 9))
    if rng.random() < 0.5:
        share = rng.uniform(0.3, 0.7)
        haze = share * gaussian_blur(thing, rng.uniform(2, 6)) + (1 - share) * ground
    return degrade(haze, rng)


class JudgeLoss(nn.Module):
    """Cross entropy of noun and colour."""

    def __init__(self, judge: SceneJudge):
        super().__init__()
        self.judge = judge

    def forward(self, seen: Tensor, nouns: Tensor, colours: Tensor) -> tuple[Tensor, dict]:
        said, tinted = (x.float() for x in self.judge(seen))
        loss = F.cross_entropy(said, nouns) + F.cross_entropy(tinted, colours, ignore_index=-1)
        with torch.no_grad():
            known = colours >= 0
            right = {"noun": (said.argmax(1) == nouns), "colour": (tinted.argmax(1) == colours)[known]}
        return loss, {name: hits.float().mean() for name, hits in right.items()}


def train_judge(folder: Path | str, minutes: float, world: World = WORLD, scenes: int = 32, max_steps: int | None = None) -> SceneJudge:
    """Train, or go on training, a judge; `scenes` per step. Returns it with averaged weights."""
    torch.manual_seed(0)
    judge = new_judge(world).to(memory_format=torch.channels_last)
    data = JudgeCrops(judge, world)
    config = StageConfig(minutes, scenes, 2e-3, warmup=50, cooldown=0.5, ema_decay=0.99, save_minutes=5, max_steps=max_steps)

    def loss_fn(step: int, device: torch.device) -> tuple[Tensor, dict]:
        return stage.model(*(x.to(device) for x in data.batch(stage.indices(step))))

    stage = TrainingStage("judge", folder, JudgeLoss(judge), config, loss_fn)
    stage.run()
    stage.ema.copy_to(stage.trainable)
    return judge.eval()


def main() -> None:
    """Parse the command line, train, write the judge in half precision."""
    parser = argparse.ArgumentParser(prog="python -m fireedit_core.training.judge", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--out", type=Path, default=Path(".cache/runs/judge"), help="state and logs")
    parser.add_argument("--save", type=Path, default=JUDGE, help="folder that receives the weights")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("fireedit").setLevel(logging.INFO)
    train_judge(args.out, args.minutes).half().save_pretrained(args.save)
    make_portable(args.save)


if __name__ == "__main__":
    main()
