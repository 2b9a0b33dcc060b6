# SPDX-License-Identifier: GPL-3.0-or-later
"""A short burst of training on a borrowed GPU: minutes, not hours, no network, and little room for files in or out.

    python -m fireedit_core.training.burst run --out OUT --minutes 9              from the released bundle
    python -m fireedit_core.training.burst run --out OUT --minutes 9 --pieces IN  goes on from an earlier burst's OUT
    python -m fireedit_core.training.burst merge --pieces IN --bundle FOLDER      the pieces as a bundle, wherever that is wanted

Scenes are made by processes of their own and encoded on the GPU into a pool that lies in its memory; steps draw from the pool and
never wait for it. What comes back are the averaged weights in float16, in small pieces (`pieces.py`), written anew every
minute, so that a command that is cut off has given back what it had.
"""

from __future__ import annotations

import argparse
import json
import logging
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.bundle import COMPONENTS, bundle_options, load_components, read_index, save_bundle
from ..data import RICH_WORLD, SceneGenerator, World
from ..whole_files import write_json
from .batches import SceneBatch, collate
from .diffusion import diffusion_stage
from .edit_cache import CachedBatch, PairEncoder, batch_of
from .endless import LOOKS_PER_PAIR, MIXTURE, looks_of
from .loop import StageConfig, TrainingStage
from .pieces import PARTS, read_pieces, write_pieces
from .tiny import TinyConfig, renewed

logger = logging.getLogger("fireedit")

ENCODE = 64  # scenes that a process makes and the GPU encodes at a time


class Scenes(torch.utils.data.Dataset):
    """Batch `index` of scenes, made where it is asked for."""

    def __init__(self, world: World, seed: int, first: int):
        self.world, self.seed, self.first = world, seed, first
        self.generator: SceneGenerator | None = None

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, index: int) -> SceneBatch:
        if self.generator is None:
            self.generator = SceneGenerator(self.world, split="train", seed=self.seed, masks=False)
        start = (self.first + index) * ENCODE
        torch.manual_seed(start)
        return collate([self.generator.sample(start + i) for i in range(ENCODE)], self.world)


class PairPool:
    """Encoded pairs in the memory of the device, `size` at the most; then new ones take the place of the oldest.

    Args:
        batches: of scenes, read ahead by a thread.
    """

    def __init__(self, encode: PairEncoder, batches: Iterator[SceneBatch], size: int):
        self.encode, self.size, self.made = encode, size, 0
        self.arrays: dict[str, Tensor] = {}
        self.ready: queue.Queue[SceneBatch] = queue.Queue(maxsize=8)
        self.closed = threading.Event()
        threading.Thread(target=self._read, args=(batches,), daemon=True).start()

    def _read(self, batches: Iterator[SceneBatch]) -> None:
        for batch in batches:
            while not self.closed.is_set():
                try:
                    self.ready.put(batch, timeout=0.2)
                    break
                except queue.Full:
                    continue
            if self.closed.is_set():
                return

    def close(self) -> None:
        """Let the reading thread end."""
        self.closed.set()

    def take(self, wait: bool = False) -> bool:
        """Encode the next batch of scenes, if there is one or `wait` is set."""
        try:
            batch = self.ready.get(block=wait, timeout=600 if wait else None)
        except queue.Empty:
            return False
        parts = self.encode(batch)
        for name, value in parts.items():
            value = value.to(self.device)
            if name not in self.arrays:
                kind = torch.float16 if value.is_floating_point() else value.dtype
                self.arrays[name] = torch.empty((self.size, *value.shape[1:]), dtype=kind, device=self.device)
            places = torch.arange(self.made, self.made + len(value), device=self.device) % self.size
            self.arrays[name][places] = value.to(self.arrays[name].dtype)
        self.made += len(batch.source)
        return True

    @property
    def device(self) -> torch.device:
        return next(self.encode.components["dinov2"].parameters()).device

    def draw(self, count: int) -> CachedBatch:
        """`count` pairs by torch's default generator."""
        rows = torch.randint(min(self.made, self.size), (count,)).to(self.device)
        return batch_of(lambda name: self.arrays[name][rows], self.encode.levels, self.encode.grid)


def run(
    out: Path, start: Path, minutes: float, batch: int, pool: int, workers: int, pieces: Path | None = None, lr: float = 6e-4,
    cooldown: float = 0.0, compiled: bool = False, world: World = RICH_WORLD, sizes: TinyConfig | None = None, fill: int = 4096,
    max_steps: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train for some minutes and write pieces into `out`; returns the record.

    Args:
        start: bundle that the frozen parts come from, and the others where there are no `pieces` of an earlier burst.
        pool: pairs in the device's memory, 0.2 MB each. fill: pairs to wait for before the first step.
        cooldown: last share (0..1) of the time over which the learning rate falls to zero: for the last burst of all.
    """
    begin = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    components = renewed(load_components(start, names=[n for n in COMPONENTS if n != "detector"]), sizes)
    earlier = read_pieces(pieces, components) if pieces else {"looks": looks_of(start), "bursts": bursts_of(start)}
    before = {"bursts": 0} | earlier
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for part in components.values():
        if isinstance(part, torch.nn.Module):
            part.to(device).eval()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    world = world.only(**MIXTURE)
    hvca = components["hvca"].config
    # bursts draw scenes that no other burst and no cache of the endless trainer has drawn
    scenes = Scenes(world, seed=1_000 + before["bursts"], first=0)
    loader = torch.utils.data.DataLoader(scenes, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None)
    pairs = PairPool(PairEncoder(components, world, (hvca.dino_levels, hvca.clip_levels)), iter(loader), pool)
    while pairs.made < min(fill, pool):
        pairs.take(wait=True)
    logger.info("burst: %d pairs after %.0f s", pairs.made, time.monotonic() - begin)
    record: dict[str, Any] = {}

    def rows(numbers: Sequence[int], _: torch.device) -> CachedBatch:
        pairs.take()
        return pairs.draw(len(numbers))

    def on_save(stage: TrainingStage) -> None:
        p = stage.progress
        record.update(
            looks=before["looks"] + p.step * batch * LOOKS_PER_PAIR, bursts=before["bursts"] + 1, steps=p.step, seconds=round(p.seconds, 1),
            pairs=pairs.made, looks_per_second=round(p.step * batch * LOOKS_PER_PAIR / max(p.seconds, 1e-9), 1), skipped=p.skipped,
            metrics=p.metrics, device=torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        )  # fmt: skip
        write_pieces(out, {name: components[name] for name in PARTS}, record)

    left = minutes - (time.monotonic() - begin) / 60
    config = StageConfig(
        max(left, 0.01), batch, lr, warmup=100, cooldown=cooldown, ema_decay=0.9995, save_minutes=1.0, seed=before["bursts"],
        max_steps=max_steps, fused=True,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as room:
        stage = diffusion_stage(components, rows, room, config, on_save, "burst", world=world, low_pass=0.1, compiled=compiled)
        stage.run()
    pairs.close()
    return record


def bursts_of(bundle: Path) -> int:
    """How many bursts a bundle's weights have had."""
    record = bundle / "training.json"
    return json.loads(record.read_text()).get("burst", {}).get("bursts", 0) if record.is_file() else 0


def merge(pieces: Path, start: Path, bundle: Path) -> dict[str, Any]:
    """The bundle `start` with the weights of pieces, written to `bundle`, which may be `start` itself; returns the pieces' record."""
    components = renewed(load_components(start))
    record = read_pieces(pieces, components)
    training = start / "training.json"
    history = json.loads(training.read_text()) if training.is_file() else {}
    save_bundle(bundle, components, bundle_options(read_index(start)))  # the autoencoder is the start's, and what was measured of it
    write_json(bundle / "training.json", history | {"looks": record["looks"], "burst": record})
    return record


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fireedit_core.training.burst", description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=("run", "merge"))
    parser.add_argument("--out", type=Path, help="folder for the pieces")
    parser.add_argument("--start", type=Path, default=Path("models/fireedit-tiny"))
    parser.add_argument("--pieces", type=Path, help="an earlier burst's folder")
    parser.add_argument("--bundle", type=Path, help="merge: folder of the new bundle")
    parser.add_argument("--minutes", type=float, default=9.0, help="wall-clock time of the whole command (default %(default)s)")
    parser.add_argument("--batch", type=int, default=512, help="pairs a step, each looked at twice")
    parser.add_argument("--pool", type=int, default=150_000, help="pairs in the device's memory, 0.2 MB each")
    parser.add_argument("--workers", type=int, default=15, help="processes that make scenes")
    parser.add_argument("--lr", type=float, default=6e-4)
    parser.add_argument("--cooldown", type=float, default=0.0, help="last share of the time with a falling learning rate")
    parser.add_argument("--compile", action="store_true")
    o = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stdout)
    logger.setLevel(logging.INFO)
    needed = {"run": ("out",), "merge": ("pieces", "bundle")}[o.command]
    for name in needed:
        if getattr(o, name) is None:
            parser.error(f"{o.command} needs --{name}")
    try:
        if o.command == "merge":
            record = merge(o.pieces, o.start, o.bundle)
        else:
            record = run(o.out, o.start, o.minutes, o.batch, o.pool, o.workers, o.pieces, o.lr, o.cooldown, o.compile)
    except (ValueError, OSError) as error:
        logger.error("%s", error)
        return 2
    logger.info("%s", json.dumps(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
