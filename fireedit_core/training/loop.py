# SPDX-License-Identifier: GPL-3.0-or-later
"""One training stage on accelerate: wall-clock budget, exact resume, EMA, TensorBoard and a sample sheet.

A step is a pure function of (weights, optimizer, step number): the random generator is reseeded from the step and batches
are drawn by step. So a run that was killed continues as if it had not been, without any state but the saved tensors.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import set_seed
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from tqdm import tqdm

from ..precision import quick_precision

try:
    import resource
except ImportError:  # Windows
    resource = None

logger = logging.getLogger("fireedit")


@dataclass
class StageConfig:
    """Numbers of one stage.

    Attributes:
        minutes: wall-clock budget of the whole stage, summed over resumes.
        batch: samples per process and step. lr: peak learning rate after `warmup` steps.
        cooldown: last part of the budget (0..1) over which the learning rate falls to zero; 1 lets it fall from the first step on.
        shape: how it falls there, "linear" or "cosine".
        accumulate: batches per step; their gradients are averaged. optimizer: "adamw", or "adamw8bit" of bitsandbytes.
        ema_decay: decay of the weight average; 0 turns it off.
        save_minutes: how often the state is saved and the sample sheet is drawn. log_steps: how often figures are logged.
        max_steps: end after so many steps at the latest; `minutes` infinite makes the steps the budget, and without
            `max_steps` the stage goes on until it is stopped.
        fused: one kernel for AdamW and for the averages instead of one per weight; not for weights that are split over processes.
        patience: a step whose gradient is not finite is left out; after so many in a row the stage gives up.
        keep_states: how many states stay on disk: the last one and the ones before it.
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
    accumulate: int = 1
    optimizer: str = "adamw"
    shape: str = "linear"
    log_steps: int = 20
    patience: int = 20
    fused: bool = False
    keep_states: int = 1


class TrainingDiverged(RuntimeError):
    """The gradient was not finite for `StageConfig.patience` steps in a row; the last state on disk is from before."""


@dataclass
class Progress:
    """What a stage remembers beside tensors. `decay_from` is the step at which the cooldown began, once it has; `skipped`
    counts the steps that were left out because their gradient was not finite."""

    step: int = 0
    seconds: float = 0.0
    decay_from: int | None = None
    decay_steps: int = 0
    finished: bool = False
    skipped: int = 0
    metrics: dict = field(default_factory=dict)


class TrainingStage:
    """Runs `loss_fn(batch number, device) -> (loss, metrics)` until the budget is used up.

    Args:
        name, folder: where state, logs and sheets go: `<folder>/<name>/`.
        model: every trainable parameter of the stage sits in here (a ModuleDict where there are several networks).
        loss_fn: computes the loss of one batch (of which a step has `accumulate`); must draw its data from the number and
            torch's default generator only.
        on_save: called with the stage after each save, with EMA weights in place, to draw samples or export.
        mixed_precision: as accelerate names it; None is what the device is quick in (`precision.py`).
        trackers: names of accelerate's trackers.
        scales: prefix of a parameter's name -> its learning rate over that of the rest.
    """

    all_show = False  # whether every process calls `on_save`: what is split over them can only be gathered together

    def __init__(
        self,
        name: str,
        folder: Path | str,
        model: nn.Module,
        config: StageConfig,
        loss_fn: Callable[[int, torch.device], tuple[Tensor, dict]],
        on_save: Callable[[TrainingStage], None] | None = None,
        mixed_precision: str | None = None,
        trackers: Sequence[str] = ("tensorboard",),
        scales: Mapping[str, float] | None = None,
    ):
        self.name, self.config, self.on_save, self.scales = name, config, on_save, dict(scales or {})
        self.stopping = False
        self.folder = Path(folder) / name
        self.folder.mkdir(parents=True, exist_ok=True)
        precision = mixed_precision or quick_precision(PartialState().device)
        self.accelerator = Accelerator(mixed_precision=precision, log_with=list(trackers), project_dir=self.folder)
        self.accelerator.init_trackers("logs")
        self.raw = model
        self.loss_fn = loss_fn
        self._prepare(model)
        self.ema = (
            EMAModel(self.trainable, decay=config.ema_decay, use_ema_warmup=True, inv_gamma=1.0, power=0.75, foreach=config.fused)
            if config.ema_decay
            else None
        )
        if self.ema is not None:
            self.accelerator.register_for_checkpointing(self.ema)
            self.ema.to(self.accelerator.device)
        self.progress = Progress()
        self._resume()

    def _prepare(self, model: nn.Module) -> None:
        """Set `model` (as every process runs it), `trainable` and `optimizer`."""
        self.model = self.accelerator.prepare(model)
        self.trainable = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = self.accelerator.prepare(make_optimizer(self.trainable, self.config, self._scale_of(model)))

    def _scale_of(self, model: nn.Module) -> dict[nn.Parameter, float]:
        named = ((p, name) for name, p in model.named_parameters() if p.requires_grad)
        return {p: s for p, name in named for prefix, s in self.scales.items() if name.startswith(prefix)}

    def stop(self, *_) -> None:
        """End `run` after the step in hand, with the state saved; fit as a handler of signals."""
        self.stopping = True

    @contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """Inside, SIGTERM and Ctrl-C do what `stop` does. Only the main thread can do that; elsewhere nothing changes."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {name: signal.signal(name, self.stop) for name in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)

    def _stops(self) -> bool:
        """Whether any process was told to stop: all leave after the same step, or some would wait for the others for ever."""
        if self.accelerator.num_processes > 1:
            told = torch.tensor(float(self.stopping), device=self.accelerator.device)
            self.stopping = bool(self.accelerator.reduce(told, "sum") > 0)
        return self.stopping

    # --- state -------------------------------------------------------------------------------------------------------

    @property
    def _state(self) -> Path:
        return self.folder / "state"

    def _older(self) -> list[Path]:
        """The states before the last one, oldest first."""
        return sorted(self.folder.glob("state-[0-9]*"), key=lambda folder: int(folder.name.removeprefix("state-")))

    def _resume(self) -> None:
        if not self._state.exists() and self._older() and self.accelerator.is_main_process:
            self._older()[-1].rename(self._state)  # the last run was killed between the two renames of `save`
        self.accelerator.wait_for_everyone()
        record = self._state / "progress.json"
        if not record.is_file():
            return
        self._load_tensors(self._state)
        self.progress = Progress(**json.loads(record.read_text()))
        if not self._cools():
            # the budget was raised: back to the full learning rate
            self.progress.decay_from, self.progress.finished = None, False
        elif math.isinf(self.config.minutes) and self.progress.decay_from is not None:
            self.progress.decay_steps = max(1, self.config.max_steps - self.progress.decay_from)
        self.progress.finished &= self._over()  # not where it was told to go on for longer
        logger.info("%s: resumed at step %d", self.name, self.progress.step)

    def save(self) -> None:
        """Save the state so that a kill at any moment leaves either the old or the new one."""
        temporary = self._state.with_name("state.new")
        self._save_tensors(temporary)
        if not self.accelerator.is_main_process:
            return
        (temporary / "progress.json").write_text(json.dumps(asdict(self.progress)))
        if self._state.exists():
            before = json.loads((self._state / "progress.json").read_text())["step"]
            old = self.folder / f"state-{before:08d}"
            if old.exists():
                shutil.rmtree(old)
            self._state.rename(old)
        temporary.rename(self._state)
        same = self.folder / f"state-{self.progress.step:08d}"  # of a step that was saved twice, at the end of a run
        older = [folder for folder in self._older() if folder != same]
        for folder in [*older[: max(0, len(older) - (self.config.keep_states - 1))], same]:
            if folder.exists():
                shutil.rmtree(folder)

    def _save_tensors(self, folder: Path) -> None:
        """Weights, optimizer and averages of all processes into a folder that may hold those of an unfinished save."""
        self.accelerator.save_state(str(folder))

    def _load_tensors(self, folder: Path) -> None:
        self.accelerator.load_state(str(folder))

    def indices(self, number: int) -> range:
        """Numbers of the samples of this process in batch `number`; no two processes or batches share one."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        first = (number * world + rank) * self.config.batch
        return range(first, first + self.config.batch)

    def ema_weights(self):
        """Context manager: the averaged weights stand in the model inside the block."""
        return _EmaWeights(self)

    # --- the loop ----------------------------------------------------------------------------------------------------

    def _learning_rate(self) -> float:
        p, c = self.progress, self.config
        scale = min(1.0, (p.step + 1) / max(1, c.warmup))
        if p.decay_from is not None:
            left = max(0.0, 1 - (p.step - p.decay_from) / max(1, p.decay_steps))
            scale *= (1 - math.cos(math.pi * left)) / 2 if c.shape == "cosine" else left
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
        bad = 0  # steps left out in a row
        while not self._over() and not self._stops():
            begin = time.monotonic()
            for group in self.optimizer.param_groups:
                group["lr"] = self._learning_rate() * group.get("scale", 1.0)
            parts: dict[str, list[float]] = {}
            for part in range(c.accumulate):
                number = p.step * c.accumulate + part
                with self.accelerator.autocast():
                    self._before(number)
                set_seed(((c.seed * 1_000_003 + number) * 64 + self.accelerator.process_index) % 2**32)
                with self._gradients_meet(part == c.accumulate - 1):
                    with self.accelerator.autocast():
                        loss, metrics = self.loss_fn(number, device)
                    self.accelerator.backward(loss / c.accumulate)
                for key, value in {"loss": loss.detach(), **metrics}.items():
                    parts.setdefault(key, []).append(float(value))
            seen = {key: finite_mean(values) for key, values in parts.items()}
            seen["grad norm"] = norm = float(self._clip(c.clip_norm or math.inf))
            finite = math.isfinite(norm)
            if finite or self.accelerator.scaler is not None:
                self.optimizer.step()  # fp16's scaler leaves out what is not finite itself, and scales less from then on
            if finite:
                bad = 0
                if self.ema is not None:
                    self.ema.step(self.trainable)
            else:
                bad, p.skipped = bad + 1, p.skipped + 1
                logger.warning("%s: step %d left out, its gradient is not finite (%d so far)", self.name, p.step, p.skipped)
            self.optimizer.zero_grad(set_to_none=True)
            if bad >= c.patience:
                raise TrainingDiverged(
                    f"{self.name}: the gradient was not finite for {bad} steps in a row, up to step {p.step}; nothing was saved since. "
                    f"Go on from {self._state} with a smaller learning rate, or look at the data of these steps"
                )
            p.step += 1
            seconds = time.monotonic() - begin
            p.seconds += seconds
            rows = c.batch * c.accumulate * self.accelerator.num_processes
            seen |= {"rows per second": rows / max(seconds, 1e-9), "memory": used_memory(device)}
            if p.decay_from is None and self._cools():
                p.decay_from = p.step
                by_time = math.ceil(p.step * c.cooldown / max(1e-6, 1 - c.cooldown))
                p.decay_steps = max(1, c.max_steps - p.step if math.isinf(c.minutes) else by_time)
            for key, value in seen.items():
                if math.isfinite(value):
                    running[key] = value if key not in running else 0.98 * running[key] + 0.02 * value
            bar.update()
            if p.step % c.log_steps == 0:
                p.metrics = {k: round(v, 5) for k, v in running.items()}
                bar.set_postfix({k: f"{v:.3g}" for k, v in running.items()}, refresh=False)
                more = {"lr": self._learning_rate(), "skipped": p.skipped}
                self.accelerator.log({**self._logged(running, seen), **more}, step=p.step)
            if time.monotonic() - last_save > c.save_minutes * 60:
                self._save_and_show()
                last_save = time.monotonic()
        bar.close()
        if self.stopping and not self._over():
            self.save()
            logger.info("%s: stopped at step %d, state saved", self.name, p.step)
            self.accelerator.end_training()
            return p
        p.finished = True
        self._save_and_show()
        self.accelerator.end_training()
        return p

    # what a stage of several processes does in another way

    def _before(self, number: int) -> None:
        """Make ready what batch `number` reads; nothing here."""

    def _gradients_meet(self, now: bool) -> AbstractContextManager:
        """Around a backward pass: whether the processes average their gradients in it."""
        return nullcontext() if now else self.accelerator.no_sync(self.model)

    def _clip(self, norm: float) -> Tensor | float:
        """Clip the gradient to `norm` (infinite: not at all); returns its norm before, the same in every process."""
        return self.accelerator.clip_grad_norm_(self.trainable, norm)

    def _logged(self, running: dict[str, float], seen: dict[str, float]) -> dict[str, float]:
        """What the trackers get: `running` averages, or what this step has `seen` (not a number where no batch could tell)."""
        return running

    def _save_and_show(self) -> None:
        self.save()
        logger.info(
            "%s: step %d, %.1f min, %s",
            self.name,
            self.progress.step,
            self.progress.seconds / 60,
            self.progress.metrics,
        )
        if self.on_save is not None and (self.accelerator.is_main_process or self.all_show):
            self.raw.eval()
            with torch.no_grad(), self.ema_weights():
                self.on_save(self)
            self.raw.train()


def used_memory(device: torch.device) -> float:
    """GiB: the most that this process has held on its accelerator so far, on the CPU the most that it has held at all."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30 if resource else math.nan


def finite_mean(values: Iterable[float]) -> float:
    """The mean of those that are finite; not a number if none is."""
    found = [value for value in values if math.isfinite(value)]
    return sum(found) / len(found) if found else math.nan


def make_optimizer(
    trainable: Sequence[nn.Parameter], config: StageConfig, scales: Mapping[nn.Parameter, float] | None = None
) -> torch.optim.Optimizer:
    """AdamW without weight decay on vectors. Raises ValueError for an optimizer that is not there.

    Args:
        scales: learning rates of single parameters over that of the rest; a group remembers its own as "scale".
    """
    scales = scales or {}
    found = sorted({scales.get(p, 1.0) for p in trainable}, reverse=True)
    groups = [
        {
            "params": [p for p in trainable if scales.get(p, 1.0) == scale and (p.ndim > 1) == matrices],
            "weight_decay": config.weight_decay if matrices else 0.0, "scale": scale,
        }
        for scale in found
        for matrices in (True, False)
    ]  # fmt: skip
    kind = torch.optim.AdamW
    if config.optimizer == "adamw8bit":
        try:
            from bitsandbytes.optim import AdamW8bit as kind
        except ImportError as error:
            raise ValueError("the optimizer adamw8bit needs bitsandbytes: pip install bitsandbytes, or take adamw") from error
    elif config.optimizer != "adamw":
        raise ValueError(f"unknown optimizer {config.optimizer!r}; there are adamw and adamw8bit")
    more = {"fused": True} if config.fused and kind is torch.optim.AdamW else {}
    return kind([group for group in groups if group["params"]], lr=config.lr, betas=(0.9, 0.99), **more)


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


def to_tensor(pictures: Iterable) -> Tensor:
    """A list of (H, W, 3) uint8 arrays as one float tensor (B, 3, H, W) in 0..1."""
    import numpy as np

    return torch.from_numpy(np.stack(list(pictures))).permute(0, 3, 1, 2).float() / 255
