# SPDX-License-Identifier: GPL-3.0-or-later
"""Detectors that users bring, on a second device with no room to spare: what the CPU finds, in Regions that lie on the CPU."""

from __future__ import annotations

import pytest
import torch

from tests.core.regions.test_own_detectors import deformable_detr, grounding_dino, needs_yolo, owlv2, rt_detr, write_yolo
from tests.host.devices import graph, simulated_device
from tests.host.devices.simulated_host import management
from tests.host.inside.pack import nodes

from fireedit_pack.nodes.host.detectors import LoadedDetector  # isort: skip

FAMILIES = {
    "RT-DETR": rt_detr,
    "Deformable DETR": deformable_detr,
    "Grounding DINO": grounding_dino,
    "OWLv2": owlv2,
    "YOLO": write_yolo,
    "YOLO with masks": lambda path: write_yolo(path, "Segment"),
}


@pytest.mark.parametrize("family", [pytest.param(name, marks=needs_yolo if "YOLO" in name else ()) for name in FAMILIES])
def test_own_detectors_find_what_they_find_on_the_cpu(card, monkeypatch, tmp_path, family):
    from fireedit_core.regions.loading import load_detector

    path = tmp_path / ("model.pt" if "YOLO" in family else "model")
    torch.manual_seed(0)
    with torch.inference_mode(False):
        FAMILIES[family](path)
        here, there = load_detector(path), LoadedDetector("own", load_detector(path))
    pictures = graph.image(1)
    words = "cat, dog" if here.reads_prompt else ""
    wanted = here.detect(pictures.movedim(-1, 1), 0.0, 0.9, 5, **({"prompt": words} if words else {}))
    monkeypatch.setattr(management, "vram_state", management.VRAMState.NO_VRAM)
    card.room = 0
    found = nodes.FireEditRegionDetect.execute(_no_bundle(), pictures.to(card.device), 0.0, 0.9, 5, there, words)[0]
    assert {x.device for x in graph.held(there.patcher.model).values()} == {card.device}
    assert len(found[0]) == len(wanted[0]) > 0 and {x.device.type for x in graph.tensors(found)} == {"cpu"}
    assert (found[0].boxes - wanted[0].boxes).abs().max() < 0.05 and (found[0].scores - wanted[0].scores).abs().max() < 1e-3
    management.unload_all_models()
    assert all(x.device.type == "cpu" for x in graph.held(there.patcher.model).values())
    assert simulated_device.collect() - card.kept < 4096  # tables of positions: the weights are larger


def _no_bundle():
    """No bundle is needed where a detector of one's own is connected."""
    return type("NoBundle", (), {"editor": None, "detector": None})()
