# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that believes to have a card: what `comfy.model_management` asks of the driver is answered for the simulated device."""

from __future__ import annotations

from collections.abc import Callable

import torch

from tests.host.devices import simulated_device
from tests.host.inside.pack import nodes  # noqa: F401  first: it makes the host importable

import comfy.k_diffusion.sampling as samplers  # isort: skip
import comfy.model_management as management  # isort: skip

MEGABYTE = 1024**2
STATES = {name: getattr(management.VRAMState, name) for name in ("NORMAL_VRAM", "LOW_VRAM", "NO_VRAM")}


class Card:
    """The simulated card.

    Attributes:
        room: what it has for weights beside the host's reserve, in bytes. half: what it computes with.
        kept: bytes on it that are none of a test's: libraries keep tables of positions for the process (some kB).
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.room = 4096 * MEGABYTE
        self.half: torch.dtype | None = None
        self.kept = simulated_device.collect()

    def total(self) -> int:
        return int(management.minimum_inference_memory()) + self.room

    def free(self) -> int:
        return self.total() - simulated_device.used_bytes()


def convince(monkeypatch, card: Card, state: str = "NORMAL_VRAM") -> None:
    """Replace what the host asks torch.cuda for, as on a card of NVIDIA's."""

    def on_card(answer, otherwise):
        return lambda device=None, *args, **kwargs: answer() if device in (None, card.device) else otherwise(device, *args, **kwargs)

    def memory(answer, otherwise):
        def ask(dev=None, both=False, **names):
            if dev not in (None, card.device):
                return otherwise(dev, both, **names)
            return (answer(), 0) if both or any(names.values()) else answer()

        return ask

    replaced = {
        "cpu_state": management.CPUState.GPU,
        "vram_state": STATES[state],
        "MIN_WEIGHT_MEMORY_RATIO": 0.0,
        "NUM_STREAMS": 2,
        "is_nvidia": lambda: False,
        "get_torch_device": lambda: card.device,
        "get_torch_device_name": str,
        "get_total_memory": memory(card.total, management.get_total_memory),
        "get_free_memory": memory(card.free, management.get_free_memory),
        "should_use_fp16": on_card(lambda: card.half == torch.float16, management.should_use_fp16),
        "should_use_bf16": on_card(lambda: card.half == torch.bfloat16, management.should_use_bf16),
        "soft_empty_cache": lambda *_: None,
    }
    for name, value in replaced.items():
        monkeypatch.setattr(management, name, value)
    monkeypatch.setattr(samplers, "default_noise_sampler", noise_of_steps)


def noise_of_steps(x: torch.Tensor, seed: int | None = None) -> Callable[..., torch.Tensor]:
    """The host's noise between steps, which it draws on the card: torch has no generator for a device in Python, so the CPU draws it."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return lambda sigma, following: torch.randn(x.size(), dtype=x.dtype, generator=generator).to(x.device)
