# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m benchmarks.looks``: what a look of fireedit-tiny's trainer costs, part by part, against what this machine can give.

A look is one noisy latent that the UNet learns from. Its least possible time is its number of operations over the speed of a large
matrix product; everything above is what is lost. Stop the background trainer first (`make trainer-stop`).
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

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.edit import machine_line
from fireedit_core.checkpoints.bundle import load_components
from fireedit_core.data import RICH_WORLD, SceneGenerator
from fireedit_core.evaluation.summary import markdown_table
from fireedit_core.precision import autocast, quick_in_bfloat16
from fireedit_core.training.batches import collate
from fireedit_core.training.build import plain_attention
from fireedit_core.training.diffusion import DiffusionModel, attach_for_training
from fireedit_core.training.edit_cache import EditCache, PairEncoder
from fireedit_core.training.endless import LOOKS_PER_PAIR, MIXTURE, EndlessConfig
from fireedit_core.training.loop import StageConfig, make_optimizer
from fireedit_core.training.tiny import renewed

log = logging.getLogger("fireedit")


def median_seconds(run: Callable[[], object], times: int) -> float:
    """Median of `times` runs after one that warms up."""
    run()
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        run()
        found.append(time.perf_counter() - begin)
    return statistics.median(found)


def peak(times: int, size: int = 2048) -> float:
    """Operations per second of a large matrix product on all threads, in the format that the machine is quick in."""
    dtype = torch.bfloat16 if quick_in_bfloat16() else torch.float32
    a, b = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
    return 2 * size**3 / median_seconds(lambda: a @ b, times)


def measure(bundle: Path, batch: int, times: int, compiled: bool) -> tuple[list[list[str]], float, float]:
    """(rows of the table, looks per second with data, operations of a look)."""
    components = renewed(load_components(bundle))
    plain_attention(components)
    attach_for_training(components)
    world = RICH_WORLD.only(**MIXTURE)
    config = EndlessConfig()
    with tempfile.TemporaryDirectory() as folder:
        cache = EditCache(components, world, folder, 64)
        rows = cache.get(torch.arange(batch), torch.device("cpu"))
        model = DiffusionModel(components, world=world, compiled=compiled).requires_grad_(True).train()
        optimizer = make_optimizer([p for p in model.parameters() if p.requires_grad], StageConfig(0))
        looks = batch * LOOKS_PER_PAIR
        with torch.no_grad(), autocast("cpu"):
            e, where, _ = model.read(rows)
            given = model.conditions(rows, e, where)
        times_of = torch.full((batch,), 700)

        def unet() -> None:
            with autocast("cpu"):
                out, _, _ = model.denoise(given, rows.target, torch.randn_like(rows.target), times_of, e)
            out.square().mean().backward()
            optimizer.zero_grad(set_to_none=True)

        def step() -> None:
            with autocast("cpu"):
                loss, _ = model(rows)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        unet_s = median_seconds(unet, times) * LOOKS_PER_PAIR
        step_s = median_seconds(step, times)
        read_s = median_seconds(lambda: cache.get(torch.arange(batch), torch.device("cpu")), times)
        model._unet[0] = components["unet"]
        with FlopCounterMode(display=False) as counter:
            unet()
        operations = counter.get_total_flops() / batch
        components["vae"].encoder.compile(dynamic=False)
        encode = PairEncoder(components, world, cache.levels)
        generator = SceneGenerator(world, split="train", seed=9, masks=False)
        samples = [generator.sample(i) for i in range(64)]
        scenes_s = median_seconds(lambda: collate([generator.sample(i) for i in range(64, 128)], world), times)
        encode_s = median_seconds(lambda: encode(collate(samples, world)), times)
    # a pair is seen in `width` passes before it goes
    pair_s = (scenes_s + encode_s) / 64 / config.width
    total = step_s + read_s + batch * pair_s
    bound = operations * looks / peak(times)
    row = lambda name, seconds: [name, f"{1000 * seconds:.0f}", f"{seconds / bound:.2f}"]  # noqa: E731
    table = [
        row(f"least: {operations / 1e9:.2f} GFLOP a look at the speed of a matrix product", bound),
        row("UNet, forward and backward", unet_s), row("Q-Former, language side, TATI, HVCA, losses, clipping, AdamW", step_s - unet_s),
        row("reading pairs", read_s), row(f"making pairs, each seen in {config.width} passes", batch * pair_s), row("all", total),
    ]  # fmt: skip
    return table, looks / total, operations


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and write the page; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.looks", description=__doc__.split("\n")[0])
    parser.add_argument("--bundle", type=Path, default=Path("models/fireedit-tiny"))
    parser.add_argument("--batch", type=int, default=EndlessConfig.batch)
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--out", type=Path, help="Markdown to write")
    o = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    table, speed, _ = measure(o.bundle, o.batch, o.times, not o.no_compile)
    command = "python -m benchmarks.looks " + shlex.join(sys.argv[1:] if arguments is None else arguments)
    text = "\n\n".join([
        "# What a look costs", f"Written by `{command.strip()}` on {datetime.date.today()}; {machine_line()}. Medians of {o.times}.",
        markdown_table((f"a step of {o.batch} pairs, {o.batch * LOOKS_PER_PAIR} looks", "ms", "of the least"), table),
        f"{speed:.0f} looks per second with data.",
    ])  # fmt: skip
    log.info("%s", text)
    if o.out:
        o.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
