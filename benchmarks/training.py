# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m benchmarks.training``: a training step beside one of diffusers' InstructPix2Pix example, and what each module costs.

Both train the same UNet on the same latents with the same condition, AdamW, clipping and averaged weights; steps take turns. The example is
restated here from what it does per step (its file is not part of the wheel): encode both pictures, draw noise, timesteps and what is
dropped, UNet, squared error, backward, clip, step, EMA.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from benchmarks.edit import machine_line
from fireedit_core.checkpoints.bundle import load_components
from fireedit_core.data import SceneGenerator
from fireedit_core.evaluation.summary import markdown_table
from fireedit_core.precision import autocast, quick_precision
from fireedit_core.training.loop import StageConfig
from fireedit_core.training.paper.assemble import trainable_components
from fireedit_core.training.paper.batches import EditRows, edit_rows, fitted
from fireedit_core.training.paper.config import PaperConfig
from fireedit_core.training.paper.features import FrozenParts
from fireedit_core.training.paper.losses import row_noise
from fireedit_core.training.paper.model import EditModel
from fireedit_core.training.paper.stage import PaperStage
from fireedit_core.training.paper.train import edit_inputs

log = logging.getLogger("fireedit")
LEAST = 0.95  # of the example's throughput, what issue 6 asks for


class Bare(EditModel):
    """The trainer's model with FireEdit's modules frozen out: the UNet under a condition that is given."""

    def forward(self, rows: EditRows, source: Tensor, target: Tensor, context: Tensor) -> tuple[Tensor, dict]:  # type: ignore[override]
        noise, times, text, picture = row_noise(rows.seeds, target.shape[1:], len(self.alphas), self.config.dropout)
        null = self.parts["tati"].null_embedding.detach().expand_as(context)
        context = torch.where(text.view(-1, 1, 1), null, context)
        return self.denoising_loss(target, source * (~picture).view(-1, 1, 1, 1), noise, times, context, None), {}


def example_step(unet: nn.Module, scheduler, alphas: Tensor, optimizer, ema, accelerator, weights) -> Callable[..., None]:  # noqa: ANN001
    """One step as diffusers' train_instruct_pix2pix does it."""

    def step(source: Tensor, target: Tensor, context: Tensor, null: Tensor) -> None:
        noise = torch.randn_like(target)
        times = torch.randint(0, len(alphas), (len(target),))
        alpha = alphas[times].view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * target + (1 - alpha).sqrt() * noise
        u = torch.rand(len(target))
        context = torch.where((u < 0.1).view(-1, 1, 1), null.expand_as(context), context)
        kept = 1 - ((u >= 0.05) & (u < 0.15)).float().view(-1, 1, 1, 1)
        wanted = target if scheduler.config.prediction_type == "sample" else noise
        with accelerator.autocast():
            out = unet(torch.cat([noisy, kept * source], dim=1), times, context, return_dict=False)[0]
        accelerator.backward(F.mse_loss(out.float(), wanted.float()))
        accelerator.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(weights)

    return step


def compare(bundle: str, batch: int, steps: int) -> tuple[list[float], list[float]]:
    """(seconds of the example's steps, seconds of ours), taking turns; the first two of each are left out."""
    config = _config(bundle, batch)
    components = trainable_components(config)
    other = load_components(bundle, names=("unet", "scheduler", "tati"))
    frozen, rows = FrozenParts(components, config.max_regions), _rows(batch, config)
    context = torch.randn(batch, components["qformer"].config.num_queries, components["qformer"].config.hidden_size)
    model = Bare(components, config)
    theirs, ours = [], []
    clock = {"from": 0.0, "other": 0.0}

    accelerator = Accelerator(mixed_precision=quick_precision("cpu"))
    unet = other["unet"].train().requires_grad_(True)
    unet.set_attn_processor(AttnProcessor2_0())
    weights = list(unet.parameters())
    optimizer = accelerator.prepare(torch.optim.AdamW(weights, lr=1e-5))
    alphas = other["scheduler"].alphas_cumprod.float()
    step = example_step(unet, other["scheduler"], alphas, optimizer, EMAModel(weights, use_ema_warmup=True), accelerator, weights)

    def loss_fn(number: int, device: torch.device) -> tuple[Tensor, dict]:
        now = time.perf_counter()
        if number:
            ours.append(now - clock["from"] - clock["other"])
        step(frozen.latents(rows.source), frozen.latents(rows.target), context, other["tati"].null_embedding)
        clock["from"], clock["other"] = now, time.perf_counter() - now
        theirs.append(clock["other"])
        return stage.model(rows, frozen.latents(rows.source), frozen.latents(rows.target), context)

    with tempfile.TemporaryDirectory() as folder:
        numbers = StageConfig(float("inf"), batch, 1e-5, max_steps=steps + 3, save_minutes=float("inf"), log_steps=10)
        stage = PaperStage("bare", folder, model, numbers, loss_fn)
        stage.run()
    return theirs[2:-1], ours[2:]


def modules(bundle: str, batch: int, steps: int) -> dict[str, float]:
    """Median seconds of forward and backward: the bare UNet, and what each part of FireEdit adds to it."""
    config = _config(bundle, batch, stage="joint")
    components = trainable_components(config)
    frozen, rows = FrozenParts(components, config.max_regions), _rows(batch, config)
    model = EditModel(components, config)
    inputs = edit_inputs(rows, frozen, model, torch.device("cpu"))
    parts, tati, hvca = model.parts, components["tati"], components["hvca"]
    e = torch.randn(batch, components["qformer"].config.num_queries, components["qformer"].config.hidden_size)
    noise, times, _, _ = row_noise(rows.seeds, inputs.target.shape[1:], len(model.alphas), 0.0)
    where = torch.zeros(batch, 1, *inputs.target.shape[-2:])

    def unet(context: Tensor, beside: dict | None) -> Tensor:
        return model.denoising_loss(inputs.target, inputs.features.latents, noise, times, context, beside)

    visual = lambda: {"visual": parts["visual_attention"].project(hvca(e, inputs.features.vision)), "where": where}  # noqa: E731
    calls: dict[str, Callable[[], Any]] = {
        "bare": lambda: unet(e, None),
        "tati": lambda: unet(tati(e, times), None),
        "hvca": lambda: unet(tati(e, times), visual()),
        "whole": lambda: model(inputs)[0],
        "features": lambda: frozen.features(rows.source),
        "latents": lambda: frozen.latents(rows.target),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(steps + 1):
        for name, call in calls.items():
            set_seed(number)
            begin = time.perf_counter()
            with autocast("cpu"):
                loss = call()
            if name not in ("features", "latents"):  # those are frozen
                loss.backward()
            if number:
                seconds[name].append(time.perf_counter() - begin)
            model.zero_grad(set_to_none=True)
    m = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "UNet": m["bare"], "TATI": m["tati"] - m["bare"], "HVCA and visual attention": m["hvca"] - m["tati"],
        "region encoder, language model, grounding, Q-Former": m["whole"] - m["hvca"],
        "towers, detector and latents of the source (once per picture with feature_cache)": m["features"],
        "latents of the target (likewise)": m["latents"],
    }  # fmt: skip


def _config(bundle: str, batch: int, **changes: str) -> PaperConfig:
    parts = {} if changes else {"train_parts": ["unet"]}
    return PaperConfig(bundle=bundle, batch=batch, sources="none", size=128, max_regions=16, frozen_dtype="float32", **parts, **changes)


def _rows(batch: int, config: PaperConfig) -> EditRows:
    generator = SceneGenerator(seed=9)
    return edit_rows([fitted(generator.sample(i), (config.size, config.size)) for i in range(batch)], list(range(batch)), 0)


def main() -> int:
    """Measure and write the report; 1 where the goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--bundle", default="models/fireedit-tiny")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path("docs/training-speed.md"))
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    theirs, ours = compare(options.bundle, options.batch, options.steps)
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    costs = modules(options.bundle, options.batch, max(5, options.steps // 3))
    ratio = statistics.median(ratios)
    whole = sum(costs.values())
    text = "\n\n".join([
        "# What a training step costs",
        f"Written by `{shlex.join(['python', '-m', 'benchmarks.training', *sys.argv[1:]])}` on {datetime.date.today()}; "
        f"{machine_line()}. UNet of {options.bundle}, batch {options.batch}, 128 px, mixed precision: {quick_precision('cpu')}; "
        f"medians of {len(ours)} steps each.",
        markdown_table(["step", "median s", "least", "most"], [
            [name, f"{statistics.median(v):.3f}", f"{min(v):.3f}", f"{max(v):.3f}"]
            for name, v in (("diffusers' InstructPix2Pix example, restated", theirs), ("ours, FireEdit's modules frozen out", ours))
        ]),
        f"Throughput: {ratio:.2f} of the example's (median of {len(ratios)} pairs; wanted: at least {LEAST}).",
        "What each part adds, forward and backward, without the optimizer:",
        markdown_table(["part", "s", "share"], [[name, f"{v:.3f}", f"{100 * v / whole:.0f} %"] for name, v in costs.items()]),
    ]) + "\n"  # fmt: skip
    options.out.write_text(text)
    log.info("%s", text)
    return 0 if ratio >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
