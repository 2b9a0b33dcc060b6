# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes for photographs on a second device: what the CPU gives, on the host's device, wherever IMAGE and MASK lie; nothing stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from tests.core.segmentation import small_segmenters
from tests.host.devices import graph, simulated_device
from tests.host.devices.simulated_host import management
from tests.host.inside.pack import nodes
from tests.host.small import REPO

from fireedit_core.segmentation.loading import load_segmenter  # isort: skip
from fireedit_pack.nodes.host.detectors import BUILT_IN  # isort: skip
from fireedit_pack.nodes.host.segmenters import LoadedSegmenter  # isort: skip

CPU = torch.device("cpu")
PLACES = ("on the CPU", "on the device")


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    """(1, 160, 240, 3): the detector finds the flower in it."""
    with Image.open(REPO / "web" / "examples" / "fireedit_photo_flower.jpg") as file:
        return torch.from_numpy(np.array(file.convert("RGB").resize((240, 160)))).float()[None] / 255


def run(photo: torch.Tensor, mask: torch.Tensor, detector) -> dict[str, tuple]:
    """The outputs of every node by its name; each gets the photo as it is given here."""
    out = {"detect": nodes.FireEditRegionDetect.execute(None, photo, 0.3, 0.6, 100, detector).args}
    out["masks"] = nodes.FireEditRegionMasks.execute(photo, out["detect"][0], 2).args
    out["ground"] = nodes.FireEditGround.execute(photo, "remove the main object", out["masks"][0]).args
    regions, _, answer = out["ground"]
    out["remove"] = nodes.FireEditQuickEdit.execute(photo, answer, None, regions).args
    out["recolour"] = nodes.FireEditQuickEdit.execute(photo, "recolour: blue", mask).args
    out["cut out"] = nodes.FireEditQuickEdit.execute(torch.cat([photo, mask[..., None]], -1), "cutout", mask).args
    out["background"] = nodes.FireEditQuickEdit.execute(photo, "background: picture", mask, None, photo.flip(2)).args
    return out


@pytest.fixture(scope="module")
def painted() -> torch.Tensor:
    mask = torch.zeros(1, 160, 240)
    mask[:, 40:100, 60:140] = 1
    return mask


@pytest.fixture(scope="module")
def wanted(photo, painted) -> dict[str, tuple]:
    with torch.inference_mode():
        return run(photo, painted, nodes.FireEditDetectorLoader.execute(BUILT_IN)[0])


@pytest.mark.parametrize("where", PLACES)
def test_the_photo_way_gives_what_the_cpu_gives(card, photo, painted, wanted, monkeypatch, where):
    """With no room to spare, so that a detector that is not loaded whole would fail."""
    monkeypatch.setattr(management, "vram_state", management.VRAMState.NO_VRAM)
    card.room = 0
    place = CPU if where == "on the CPU" else card.device
    detector = nodes.FireEditDetectorLoader.execute(BUILT_IN)[0]
    found = run(photo.to(place), painted.to(place), detector)
    assert {x.device for x in graph.held(detector.patcher.model).values()} == {card.device}
    for name, outputs in wanted.items():
        assert len(found[name]) == len(outputs), name
        for one, other in zip(graph.tensors(found[name]), graph.tensors(outputs), strict=True):
            assert one.device == management.intermediate_device() == CPU, name
            assert one.shape == other.shape and one.dtype == other.dtype, name
            assert (one.float() - other.float()).abs().mean() < 1e-3, name
        assert [x for x in found[name] if isinstance(x, str)] == [x for x in outputs if isinstance(x, str)], name
    management.unload_all_models()
    assert {x.device for x in graph.held(detector.patcher.model).values()} == {CPU}
    assert simulated_device.collect() - card.kept < 4096 + 4 * (photo.nbytes + painted.nbytes) * (place != CPU)


@pytest.mark.parametrize("family", ("sam2", "sam_hq"))
def test_segmenters_cut_out_what_they_cut_out_on_the_cpu(card, photo, tmp_path, monkeypatch, family):
    with torch.inference_mode(False):
        torch.manual_seed(0)
        getattr(small_segmenters, family)(tmp_path / family)
        here, there = (LoadedSegmenter(family, load_segmenter(tmp_path / family)) for _ in range(2))
    box = nodes.FireEditRegionsFromMask.execute(torch.nn.functional.pad(torch.ones(1, 60, 80), (60, 100, 40, 60)), 0.5, 1, "thing")[0]
    with monkeypatch.context() as patch:
        patch.setattr(here.patcher, "load_device", CPU)
        wanted = nodes.FireEditRegionMasks.execute(photo, box, 1, here).args
    monkeypatch.setattr(management, "vram_state", management.VRAMState.NO_VRAM)
    card.room = 0
    for place in (CPU, card.device):
        found = nodes.FireEditRegionMasks.execute(photo.to(place), box, 1, there).args
        assert {x.device for x in graph.held(there.patcher.model).values()} == {card.device}
        for one, other in zip(graph.tensors(found), graph.tensors(wanted), strict=True):
            assert one.device == CPU and (one - other).abs().mean() < 1e-3
        assert found[2] == wanted[2]
    management.unload_all_models()
    assert {x.device for x in graph.held(there.patcher.model).values()} == {CPU}
