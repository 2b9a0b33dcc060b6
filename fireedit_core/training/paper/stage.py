# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop of a stage on one process or many: DDP or FSDP, and a state that holds what is trained and nothing else."""

from __future__ import annotations

import gc
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed.checkpoint as checkpoint
from accelerate.state import PartialState
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard

from ..loop import TrainingStage, make_optimizer

T = TypeVar("T")
SCALER = "scaler/"


class PaperStage(TrainingStage):
    """See `TrainingStage`. Where the whole model would be saved there, here it is only the weights that are trained, their averages and
    the optimizer, each process its part: a language model of 7B parameters stays where it came from.

    Args:
        position: where the data is, if that is more than the number of the batch; has state_dict, of plain values, and load_state_dict,
            of those of all processes.
        prepare: called with the number of a batch before its pass, to make ready what the pass reads.
        split: FSDP: `split_over` has split the model, and gradients, optimizer and averages are split with it. Otherwise each process has a
            copy (DDP).
    """

    all_show = True

    def __init__(
        self, *args: Any, split: bool = False, position: Any = None, prepare: Callable[[int], None] | None = None, **kwargs: Any
    ):
        self.split, self.position, self.prepare = split, position, prepare
        super().__init__(*args, **kwargs)

    def _prepare(self, model: nn.Module) -> None:
        if not self.split:
            super()._prepare(model)
        else:
            self.model = model
            self.trainable = [p for p in self.model.parameters() if p.requires_grad]
            self.optimizer = self.accelerator.prepare(make_optimizer(self.trainable, self.config, self._scale_of(self.model)))
        self.names = [name for name, p in self.raw.named_parameters() if p.requires_grad]

    def _before(self, number: int) -> None:
        if self.prepare is not None:
            self.prepare(number)

    def _gradients_meet(self, now: bool) -> AbstractContextManager:
        if not self.split:
            return super()._gradients_meet(now)
        self.model.set_requires_gradient_sync(now)
        return nullcontext()

    def _clip(self, norm: float) -> Tensor | float:
        if not self.split:
            return super()._clip(norm)
        found = nn.utils.clip_grad_norm_(self.trainable, norm)
        return found.full_tensor() if hasattr(found, "full_tensor") else found

    def _logged(self, running: dict[str, float], seen: dict[str, float]) -> dict[str, float]:
        """What this very step has seen, as the mean of all processes: that is how a run is compared with another."""
        values = torch.tensor(list(seen.values()), device=self.accelerator.device)
        means = self.accelerator.gather(values[None]).nanmean(0)  # a process may have nothing to say about some figure
        return {key: float(value) for key, value in zip(seen, means, strict=True) if not value.isnan()}

    # --- state -------------------------------------------------------------------------------------------------------

    def _tensors(self) -> dict[str, Any]:
        """Everything that a resumed run needs, under names; the tensors are those in use."""
        state: dict[str, Any] = {}
        averages = self.ema.shadow_params if self.ema is not None else [None] * len(self.trainable)
        for name, weight, average in zip(self.names, self.trainable, averages, strict=True):
            state[f"weight/{name}"] = weight.detach()
            if average is not None:
                state[f"average/{name}"] = average
            for key, value in self.optimizer.state.get(weight, {}).items():
                state[f"optimizer/{name}/{key}"] = value
        if self.ema is not None:
            state["averaged"] = self.ema.optimization_step
        if self.accelerator.scaler is not None:  # of fp16: begun anew, it would leave out the first steps of a resumed run
            state |= {SCALER + key: value for key, value in self.accelerator.scaler.state_dict().items()}
        return state

    def _save_tensors(self, folder: Path) -> None:
        if self.accelerator.is_main_process and folder.exists():
            shutil.rmtree(folder)  # of a save that did not end
        self.accelerator.wait_for_everyone()
        checkpoint.save(self._tensors(), checkpoint_id=str(folder))
        if self.position is not None:
            self._own(folder).write_text(json.dumps(self.position.state_dict()))
        self.accelerator.wait_for_everyone()

    def _load_tensors(self, folder: Path) -> None:
        saved = checkpoint.FileSystemReader(str(folder)).read_metadata().state_dict_metadata
        state = {name: x for name, x in self._tensors().items() if name in saved or not name.startswith(SCALER)}  # older ones have none
        lost = sorted(name for name in state if name not in saved and name != "averaged")
        if lost:
            raise ValueError(f"{folder} has no {lost[0]}: it is of a run that trained other parts; give another --out")
        for name, weight in zip(self.names, self.trainable, strict=True):
            start = f"optimizer/{name}/"
            for key in (k for k in saved if k.startswith(start)):
                state[key] = _room(saved[key], weight)
                self.optimizer.state[weight][key.removeprefix(start)] = state[key]
        checkpoint.load(state, checkpoint_id=str(folder))
        for name, weight in zip(self.names, self.trainable, strict=True):  # what is no tensor is replaced in the dict, not in place
            start = f"optimizer/{name}/"
            for key in self.optimizer.state.get(weight, {}):
                self.optimizer.state[weight][key] = state[start + key]
        if self.ema is not None:
            self.ema.optimization_step = state["averaged"]
        if scale := {name.removeprefix(SCALER): x for name, x in state.items() if name.startswith(SCALER)}:
            self.accelerator.scaler.load_state_dict(scale)
        if self.position is not None:
            # of all processes: those that go on may be more or fewer
            self.position.load_state_dict([json.loads(file.read_text()) for file in sorted(folder.glob("position-*.json"))])

    def _own(self, folder: Path) -> Path:
        """What this process alone saves."""
        return folder / f"position-{self.accelerator.process_index:05d}.json"

    def whole_weights(self) -> dict[str, Tensor]:
        """What is trained, by name, on the CPU; every process has to call this."""
        whole = lambda p: p.full_tensor() if hasattr(p, "full_tensor") else p  # noqa: E731
        return {name: whole(p.detach()).cpu() for name, p in zip(self.names, self.trainable, strict=True)}


def _room(saved: Any, weight: nn.Parameter) -> Any:
    """Where an entry of the optimizer's state is read into: split as the weight is where it has its shape."""
    if not hasattr(saved, "size"):
        return 0
    kind = saved.properties.dtype
    if saved.size == weight.shape:
        return torch.zeros_like(weight, dtype=kind, requires_grad=False)
    # a single number (Adam's count of steps) lies on the CPU
    return torch.zeros(saved.size, dtype=kind, device="cpu" if not saved.size else weight.device)


def processes_of(device: torch.device) -> DeviceMesh:
    """All processes as a mesh that FSDP splits over; they have to call this together."""
    return init_device_mesh(device.type, (torch.distributed.get_world_size(),))


def split_over(model: nn.Module, mesh: DeviceMesh) -> None:
    """FSDP: each of `units` of a model on the CPU, then the rest of it. A unit goes to the device, is split and freed there before the next
    one comes, so that the device never holds the whole model. No process has to wait for another one."""
    for block in units(model.parts):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def in_turn(state: PartialState, make: Callable[[], T]) -> T:
    """What `make` gives, in one process of a machine after the other: its memory holds one whole model at a time."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", state.num_processes))
    for turn in range(here):
        if turn == state.local_process_index:
            made = make()
            gc.collect()
        state.wait_for_everyone()
    return made


def units(parts: Mapping[str, nn.Module]) -> list[nn.Module]:
    """What is gathered at once where the model is split: each block of the language model and of the UNet. The rest is one more unit."""
    language = parts["language_model"]
    language = language.get_base_model() if hasattr(language, "get_base_model") else language
    found = list(language.model.layers)
    if "unet" in parts:
        unet = parts["unet"]
        found += [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    return found
