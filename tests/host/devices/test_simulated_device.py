# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulated device itself: as strict as a card, with the CPU's values, and honest about what lies on it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.host.devices import simulated_device
from tests.host.devices.simulated_host import management


def test_two_devices_do_not_mix(card):
    here, there = torch.ones(2, 2), torch.ones(2, 2, device=card.device)
    for mixed in (
        lambda: here + there, lambda: there @ here, lambda: torch.cat([there, here]), lambda: torch.where(there > 0, there, here),
        lambda: F.embedding(here.long(), there), lambda: torch.nn.Linear(2, 2)(there), lambda: here[there.long()],
        lambda: there.addmm_(here, here),
    ):  # fmt: skip
        with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device, but found at least two devices"):
            mixed()
    with pytest.raises(TypeError, match="convert sim"):
        there.numpy()
    # what a card takes
    assert (there + 1).device == (there * torch.tensor(2.0)).device == there[torch.tensor([0])].device == card.device
    assert there.tolist() == [[1, 1], [1, 1]] and there[0, 0].item() == 1 and (here * there.cpu()).device.type == "cpu"


def test_values_are_the_cpus(card):
    x = torch.rand(2, 8, 6, 4, generator=torch.Generator().manual_seed(0))
    for function in (
        lambda x: x.transpose(1, 2)[:, 1:, ::2].reshape(2, -1)[:, 3], lambda x: x.movedim(1, -1).select(2, 1).unflatten(0, (1, -1)),
        lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True), lambda x: F.pad(x.abs(), (1, 2)).unfold(2, 3, 1),
        lambda x: F.scaled_dot_product_attention(x, x, x), lambda x: torch.stack([*x.unbind(1)]).expand(3, -1, -1, -1, -1).sum(0),
        lambda x: F.conv2d(x, x[:, :, :3, :3]), lambda x: F.group_norm(x, 2), lambda x: x[x > 0.5], lambda x: x.topk(2).indices,
    ):  # fmt: skip
        found = function(x.to(card.device))
        assert found.device == card.device and torch.allclose(found.cpu(), function(x), atol=1e-6)
    views = x.clone().to(card.device)
    views[:, 0].zero_()
    views.transpose(0, 1)[1] = 2
    assert views.cpu()[:, 0].abs().max() == 0 and (views.cpu()[:, 1] == 2).all() and torch.equal(views.cpu()[:, 2:], x[:, 2:])


def test_gradients_are_the_cpus(card):
    with torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(0)
        layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Flatten(), torch.nn.Linear(64, 2))
        x = torch.rand(2, 3, 4, 4)
        layers(x).square().sum().backward()
        wanted = [p.grad.clone() for p in layers.parameters()]
        layers.zero_grad()
        layers.to(card.device)
        layers(x.to(card.device)).square().sum().backward()
        for parameter, gradient in zip(layers.parameters(), wanted, strict=True):
            assert parameter.grad.device == card.device and torch.allclose(parameter.grad.cpu(), gradient, atol=1e-5)


def test_what_lies_on_it_is_counted(card):
    before = simulated_device.collect()
    x = torch.zeros(1024, device=card.device)
    view = x[:512].view(2, -1)
    assert simulated_device.used_bytes() - before == 4096 and management.get_free_memory() == card.total() - before - 4096
    del x
    assert simulated_device.collect() - before == 4096  # the view holds it
    del view
    assert simulated_device.collect() == before
