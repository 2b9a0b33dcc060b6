# SPDX-License-Identifier: GPL-3.0-or-later
"""The graph on a second device: what the CPU gives, where the host keeps values, and nothing left behind."""

from __future__ import annotations

import pytest
import torch

from tests.host.devices import graph, simulated_device
from tests.host.devices.simulated_host import management
from tests.host.inside.pack import nodes

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def painted():
    """A mask of a user's."""
    mask = torch.zeros(2, 64, 64)
    mask[:, 10:40, 20:50] = 1
    return mask


@pytest.fixture(scope="module")
def wanted(painted):
    """All outputs as the CPU computes them, without and with the user's mask."""
    with torch.inference_mode():
        loaded = graph.load()
        return {mask is not None: graph.run(loaded, graph.image(), mask) for mask in (None, painted)}


def same(got, wanted, limit=1e-4):
    """Every tensor of both is the same, and on the device where the host keeps what goes from node to node."""
    got, wanted = list(graph.tensors(got)), list(graph.tensors(wanted))
    assert len(got) == len(wanted) > 0
    for one, other in zip(got, wanted, strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        assert one.device == management.intermediate_device() == CPU
        assert (one.float() - other.float()).abs().max() <= limit


@pytest.mark.parametrize("where", ("on the CPU", "on the device"))
@pytest.mark.parametrize("mask", (False, True))
def test_every_node_gives_what_the_cpu_gives(card, wanted, painted, where, mask):
    """Wherever its IMAGE and MASK lie: a pack that computes on the card may leave them there."""
    place = CPU if where == "on the CPU" else card.device
    found = graph.run(graph.load(), graph.image().to(place), painted.to(place) if mask else None)
    for name in ("detect", "tokenize", "condition", "sample"):
        same(found[name], wanted[mask][name])


def test_nothing_stays_on_the_device(card):
    loaded = graph.load()
    outputs = graph.run(loaded, graph.image().to(card.device))
    assert simulated_device.used_bytes() > 0
    management.unload_all_models()  # what the button "free memory" does; outputs and models stay in the host's cache
    assert simulated_device.collect() == card.kept
    assert outputs and all(x.device == CPU for group in graph.GROUPS for x in graph.held(getattr(loaded[0], group).model).values())
    again = graph.run(loaded, graph.image().to(card.device))
    assert torch.equal(again["sample"][1], outputs["sample"][1])


def test_latents_meet_encoded_ones(card):
    """Latent nodes of the host put FireEdit Sample's LATENT and an encoded picture together."""
    loaded = graph.load()
    latent = graph.run(loaded, graph.image())["sample"][0]["samples"]
    assert (latent + loaded[2].encode(graph.image())).isfinite().all()


def test_nodes_without_a_model_take_what_lies_on_the_device(card, painted):
    pictures, mask = graph.image(), painted
    there, mask_there = pictures.to(card.device), mask.to(card.device)
    regions = nodes.FireEditRegionsFromMask.execute(mask, 0.5, 1, "thing")[0]
    selection = '{"boxes": [[4, 4, 20, 20]]}'
    calls = {
        "from mask": lambda image, mask: nodes.FireEditRegionsFromMask.execute(mask, 0.5, 1, "thing", image),
        "from mask alone": lambda image, mask: nodes.FireEditRegionsFromMask.execute(mask, 0.5, 1, "thing"),
        "from bbox": lambda image, mask: nodes.FireEditRegionsFromBBox.execute([[[4, 4, 10, 10]]] * 2, [image], ["xywh"]),
        "to segs": lambda image, mask: nodes.FireEditRegionsToSEGS.execute(regions, 1.5, image),
        "compare": lambda image, mask: nodes.FireEditCompare.execute(image, pictures.flip(2), 4.0, mask),
        "compare the other way": lambda image, mask: nodes.FireEditCompare.execute(pictures.flip(2), image, 4.0, mask),
        "preview": lambda image, mask: nodes.FireEditRegionsPreview.execute(image, regions, 64, mask),
        "heat map": lambda image, mask: nodes.FireEditGroundingPreview.execute(image, mask, 0.5, 64),
        "select": lambda image, mask: nodes.FireEditRegionSelect.execute(image, selection, regions),
    }
    for name, call in calls.items():
        wanted, got = call(pictures, mask).args, call(there, mask_there).args
        found = list(graph.tensors(wanted))
        assert found or name == "to segs", name
        if found:
            same(got, wanted)
