# SPDX-License-Identifier: GPL-3.0-or-later
"""One training stage on accelerate: wall-clock budget, exact resume, EMA, TensorBoard and a sample sheet.

A step is a pure function of (weights, optimizer, step number): the random generator is reseeded from the step and batches
are drawn by step. So a run that was killed continues as if it had not been, without any state but the saved tensors.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from tqdm import tqdm

logger = logging.getLogger("fireedit")


@dataclass
class StageConfig:
    """Numbers of one stage.

    Attributes:
        minutes: wall-clock budget of the whole stage, summed over resumes.
        batch: samples per process and step. lr: peak learning rate after `warmup` steps.
        cooldown: last part of the budget (0..1) over which the learning rate falls linearly to zero.
        ema_decay: decay of the weight average; 0 turns it off.
        save_minutes: how often the state is saved and the sample sheet is drawn.
        max_steps: end after so many steps at the latest; `minutes` infinite makes the steps the budget.
    """

    minutes: float
    batch: int = 48
    lr: float = 4e-4
    warmup: int = 200
    cooldown: float = 0.2
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    save_minutes: float = 5.0
    seed: int = 0
    max_steps: int | None = None


@dataclass
class Progress:
    """What a stage remembers beside tensors. `decay_from` is the step at which the cooldown began, once it has."""

    step: int = 0
    seconds: float = 0.0
    decay_from: int | None = None
    decay_steps: int = 0
    finished: bool = False
    metrics: dict = field(default_factory=dict)


class TrainingStage:
    """Runs `loss_fn(step, device) -> (loss, metrics)` until the budget is used up.

    Args:
        name, folder: where state, logs and sheets go: `<folder>/<name>/`.
        model: every trainable parameter of the stage sits in here (a ModuleDict where there are several networks).
        loss_fn: computes the loss of one step; must draw its data from `step` and torch's default generator only.
        on_save: called with the stage after each save, with EMA weights in place, to draw samples or export.
    """

    def __init__(
        self,
        name: str,
        folder: Path | str,
        model: nn.Module,
        config: StageConfig,
        loss_fn: Callable[[int, torch.device], tuple[Tensor, dict]],
        on_save: Callable[[TrainingStage], None] | None = None,
        mixed_precision: str = "bf16",
    ):
        self.name, self.config, self.on_save = name, config, on_save
        self.folder = Path(folder) / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.accelerator = Accelerator(mixed_precision=mixed_precision, log_with="tensorboard", project_dir=self.folder)
        self.accelerator.init_trackers("logs")
        self.raw = model
        self.loss_fn = loss_fn
        trainable = [p for p in model.parameters() if p.requires_grad]
        decay = [p for p in trainable if p.ndim > 1]
        rest = [p for p in trainable if p.ndim <= 1]
        groups = [{"params": decay, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.99))
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.trainable = trainable
        self.ema = (
            EMAModel(trainable, decay=config.ema_decay, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
            if config.ema_decay
            else None
        )
        if self.ema is not None:
            self.accelerator.register_for_checkpointing(self.ema)
            self.ema.to(self.accelerator.device)
        self.progress = Progress()
        self._resume()

    # --- state -------------------------------------------------------------------------------------------------------

    @property
    def _state(self) -> Path:
        return self.folder / "state"

    def _resume(self) -> None:
        old = self._state.with_name("state.old")
        if not self._state.exists() and old.exists():
            old.rename(self._state)  # the last run was killed between the two renames of `save`
        record = self._state / "progress.json"
        if not record.is_file():
            return
        self.accelerator.load_state(str(self._state))
        self.progress = Progress(**json.loads(record.read_text()))
        if not self._cools():
            # the budget was raised: back to the full learning rate
            self.progress.decay_from, self.progress.finished = None, False
        logger.info("%s: resumed at step %d", self.name, self.progress.step)

    def save(self) -> None:
        """Save the state so that a kill at any moment leaves either the old or the new one."""
        temporary = self._state.with_name("state.new")
        self.accelerator.save_state(str(temporary))
        if not self.accelerator.is_main_process:
            return
        (temporary / "progress.json").write_text(json.dumps(asdict(self.progress)))
        old = self._state.with_name("state.old")
        if old.exists():
            _remove(old)
        if self._state.exists():
            self._state.rename(old)
        temporary.rename(self._state)
        if old.exists():
            _remove(old)

    def indices(self, step: int) -> range:
        """Numbers of the samples of this process at `step`; no two processes or steps share one."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        first = (step * world + rank) * self.config.batch
        return range(first, first + self.config.batch)

    def ema_weights(self):
        """Context manager: the averaged weights stand in the model inside the block."""
        return _EmaWeights(self)

    # --- the loop ----------------------------------------------------------------------------------------------------

    def _learning_rate(self) -> float:
        p, c = self.progress, self.config
        scale = min(1.0, (p.step + 1) / max(1, c.warmup))
        if p.decay_from is not None:
            scale *= max(0.0, 1 - (p.step - p.decay_from) / max(1, p.decay_steps))
        return c.lr * scale

    def _cools(self) -> bool:
        p, c = self.progress, self.config
        if math.isinf(c.minutes):
            return c.max_steps is not None and p.step >= c.max_steps * (1 - c.cooldown)
        return p.seconds >= c.minutes * 60 * (1 - c.cooldown)

    def _over(self) -> bool:
        p, c = self.progress, self.config
        if c.max_steps is not None and p.step >= c.max_steps:
            return True
        if p.decay_from is not None and p.step >= p.decay_from + p.decay_steps:
            return True
        return p.seconds >= c.minutes * 60 * 1.1  # the cooldown is counted in steps; this is the hard stop

    def run(self) -> Progress:
        """Train until the budget is used; returns the final progress. Call again with more minutes to go on."""
        p, c = self.progress, self.config
        device = self.accelerator.device
        bar = tqdm(desc=self.name, unit="step", initial=p.step, disable=not self.accelerator.is_local_main_process)
        last_save, running = time.monotonic(), {}
        self.model.train()
        while not self._over():
            begin = time.monotonic()
            set_seed(((c.seed * 1_000_003 + p.step) * 64 + self.accelerator.process_index) % 2**32)
            for group in self.optimizer.param_groups:
                group["lr"] = self._learning_rate()
            with self.accelerator.autocast():
                loss, metrics = self.loss_fn(p.step, device)
            self.accelerator.backward(loss)
            if c.clip_norm:
                self.accelerator.clip_grad_norm_(self.trainable, c.clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            if self.ema is not None:
                self.ema.step(self.trainable)
            p.step += 1
            p.seconds += time.monotonic() - begin
            if p.decay_from is None and self._cools():
                p.decay_from = p.step
                by_time = math.ceil(p.step * c.cooldown / max(1e-6, 1 - c.cooldown))
                p.decay_steps = max(1, c.max_steps - p.step if math.isinf(c.minutes) else by_time)
            for key, value in {"loss": loss.detach(), **metrics}.items():
                value = float(value)
                if math.isfinite(value):
                    running[key] = value if key not in running else 0.98 * running[key] + 0.02 * value
            bar.update()
            if p.step % 20 == 0:
                p.metrics = {k: round(v, 5) for k, v in running.items()}
                bar.set_postfix({k: f"{v:.3g}" for k, v in running.items()}, refresh=False)
                self.accelerator.log({**running, "lr": self._learning_rate()}, step=p.step)
            if time.monotonic() - last_save > c.save_minutes * 60:
                self._save_and_show()
                last_save = time.monotonic()
        p.finished = True
        bar.close()
        self._save_and_show()
        self.accelerator.end_training()
        return p

    def _save_and_show(self) -> None:
        self.save()
        logger.info(
            "%s: step %d, %.1f min, %s",
            self.name,
            self.progress.step,
            self.progress.seconds / 60,
            self.progress.metrics,
        )
        if self.on_save is not None and self.accelerator.is_main_process:
            self.raw.eval()
            with torch.no_grad(), self.ema_weights():
                self.on_save(self)
            self.raw.train()


class _EmaWeights:
    def __init__(self, stage: TrainingStage):
        self.stage = stage

    def __enter__(self) -> None:
        if self.stage.ema is not None:
            self.stage.ema.store(self.stage.trainable)
            self.stage.ema.copy_to(self.stage.trainable)

    def __exit__(self, *_) -> None:
        if self.stage.ema is not None:
            self.stage.ema.restore(self.stage.trainable)


def _remove(path: Path) -> None:
    import shutil

    shutil.rmtree(path)


def to_tensor(pictures: Iterable) -> Tensor:
    """A list of (H, W, 3) uint8 arrays as one float tensor (B, 3, H, W) in 0..1."""
    import numpy as np

    return torch.from_numpy(np.stack(list(pictures))).permute(0, 3, 1, 2).float() / 255
