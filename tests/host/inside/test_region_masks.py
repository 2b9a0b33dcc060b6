# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEdit Region Masks and FireEdit Segmenter Loader inside the host: batches, memory, what is refused, cancel, folders."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from tests.host.inside.pack import nodes  # first: it makes the pack importable

import comfy.model_management as management  # isort: skip
import folder_paths  # isort: skip
from fireedit_core.regions import Regions  # isort: skip
from fireedit_core.segmentation import region_masks as core  # isort: skip
from fireedit_pack.nodes.errors import FireEditNodeError  # isort: skip
from fireedit_pack.nodes.host import segmenters  # isort: skip
from tests.core.segmentation import small_segmenters  # isort: skip

pytest.importorskip("cv2", reason="needs OpenCV")
HEIGHT, WIDTH = 60, 90
run = nodes.FireEditRegionMasks.execute


@pytest.fixture
def images():
    """A red square on grainy green, in another place in each of two pictures."""
    pictures = torch.tensor([0.2, 0.5, 0.2]).expand(2, HEIGHT, WIDTH, 3).clone()
    pictures[0, 20:40, 30:60] = torch.tensor([0.8, 0.2, 0.2])
    pictures[1, 10:50, 10:40] = torch.tensor([0.8, 0.2, 0.2])
    return (pictures + 0.04 * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


def regions(*boxes, scores=None, labels=None):
    return Regions(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(scores or [0.9] * len(boxes)),
        tuple(labels or ["square"] * len(boxes)), (HEIGHT, WIDTH),
    )  # fmt: skip


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path))
    for key, place in (("fireedit_segmenters", segmenters.PLACE), ("ultralytics_segm", "ultralytics/segm"), ("background_removal", "bg")):
        (tmp_path / place).mkdir(parents=True)
        monkeypatch.setitem(folder_paths.folder_names_and_paths, key, ([str(tmp_path / place)], set()))
    return tmp_path


def test_a_batch_of_two(images):
    both = [regions((30, 20, 60, 40)), regions((10, 10, 40, 50))]
    made, mask, text = run(images, both, 32).args
    assert mask.shape == (2, HEIGHT, WIDTH) and [one.masks.shape for one in made] == [(1, HEIGHT, WIDTH)] * 2
    for one, (rows, columns) in zip(mask, ((slice(20, 40), slice(30, 60)), (slice(10, 50), slice(10, 40))), strict=True):
        truth = torch.zeros(HEIGHT, WIDTH)
        truth[rows, columns] = 1
        assert (one - truth).abs().mean() < 0.02
    assert text.count("grabcut, quality") == 2 and "picture 2: 1 mask" in text


def test_no_region_and_too_many(images):
    made, mask, text = run(images[:1], [Regions.empty((HEIGHT, WIDTH))], 32).args
    assert mask.sum() == 0 and len(made[0]) == 0 and "nothing to cut out" in text
    three = regions((5, 5, 15, 15), (30, 20, 60, 40), (70, 5, 85, 15), scores=[0.3, 0.9, 0.2])
    made, _, text = run(images[:1], [three], 2).args
    assert made[0].scores.tolist() == pytest.approx([0.9, 0.3]) and "only the 2 best of 3 regions are given on, as max_regions asks" in text


def test_a_large_photo_is_bounded_and_says_so(images, monkeypatch):
    monkeypatch.setattr(core, "MOST_MASK_PIXELS", HEIGHT * WIDTH * 2)
    three = regions((5, 5, 15, 15), (30, 20, 60, 40), (70, 5, 85, 15), scores=[0.3, 0.9, 0.2])
    made, _, text = run(images[:1], [three], 32).args
    assert len(made[0]) == 2 and "masks of 90 x 60 pixels for all would take more than a gigabyte" in text


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda x: x[:, :30], "height 60 and width 90"),
        (lambda x: x.expand(2, -1, -1, -1), "2 pictures came, but regions of 1 picture"),
        (lambda x: x * float("nan"), "not numbers"),
        (lambda x: x * 255, "0..255"),
        (lambda x: x[..., :2], "expected an IMAGE"),
    ],
)
def test_what_is_refused(images, spoil, words):
    with pytest.raises(FireEditNodeError, match="FireEdit Region Masks.*" + words):
        run(spoil(images[:1]), [regions((30, 20, 60, 40))], 32)


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_alpha(images, channels):
    picture = images[:1, ..., :1] if channels == 1 else torch.cat([images[:1], torch.ones(1, HEIGHT, WIDTH, 1)], -1)
    assert run(picture, [regions((30, 20, 60, 40))], 32).args[1].sum() > 400


def test_one_pixel():
    one = Regions(torch.tensor([[0.0, 0, 1, 1]]), torch.ones(1), ("dot",), (1, 1))
    made, mask, text = run(torch.rand(1, 1, 1, 3), [one], 32).args
    assert mask.tolist() == [[[1.0]]] and "box, quality" in text and "look at it" in text


def test_cancel_stops_between_regions(images, monkeypatch):
    calls = []
    monkeypatch.setattr(management, "throw_exception_if_processing_interrupted", lambda: calls.append(1) or (
        (_ for _ in ()).throw(management.InterruptProcessingException()) if len(calls) == 2 else None
    ))  # fmt: skip
    with pytest.raises(management.InterruptProcessingException):
        run(images[:1], [regions((30, 20, 60, 40), (5, 5, 15, 15))], 32)
    assert len(calls) == 2


def test_grabcut_by_name_and_unknown_names(folders):
    assert segmenters.list_segmenters() == ["grabcut"]
    assert nodes.FireEditSegmenterLoader.validate_inputs("grabcut") is True and nodes.FireEditSegmenterLoader.validate_inputs() is True
    assert "there is no segmenter 'segmenters/gone.onnx'" in nodes.FireEditSegmenterLoader.validate_inputs("segmenters/gone.onnx")
    assert nodes.FireEditSegmenterLoader.fingerprint_inputs("grabcut") == "grabcut"
    loaded = nodes.FireEditSegmenterLoader.execute("grabcut")[0]
    assert loaded.patcher is None and loaded.segmenter.family == "grabcut"


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is optional and not installed")
def test_an_onnx_file_of_the_users_and_of_the_hosts_folder(folders, images):
    small_segmenters.write_onnx(folders / segmenters.PLACE / "mine.onnx")
    small_segmenters.write_onnx(folders / "bg" / "hosts.onnx")
    (folders / segmenters.PLACE / "broken.onnx").write_bytes(b"no model")
    assert segmenters.list_segmenters() == [
        "grabcut", "background_removal/hosts.onnx", "segmenters/broken.onnx", "segmenters/mine.onnx"
    ]  # fmt: skip
    before = nodes.FireEditSegmenterLoader.fingerprint_inputs("segmenters/mine.onnx")
    loaded = nodes.FireEditSegmenterLoader.execute("segmenters\\mine.onnx")[0]
    bright = images[:1].clone()
    bright[:, 20:40, 30:60] = 1
    text = run(bright * 0.9, [regions((30, 20, 60, 40))], 32, loaded).args[2]
    assert "isnet, quality" in text or "grabcut, quality" in text
    with pytest.raises(FireEditNodeError, match="FireEdit Segmenter Loader.*broken.onnx cannot be read"):
        nodes.FireEditSegmenterLoader.execute("segmenters/broken.onnx")
    small_segmenters.write_onnx(folders / segmenters.PLACE / "mine.onnx", side=32)
    assert nodes.FireEditSegmenterLoader.fingerprint_inputs("segmenters/mine.onnx") != before


def test_a_host_without_a_background_removal_folder(folders, monkeypatch):
    small_segmenters.write_onnx(folders / "bg" / "hosts.onnx")
    monkeypatch.delitem(folder_paths.folder_names_and_paths, "background_removal")
    assert segmenters.list_segmenters() == ["grabcut"]


def test_a_folder_of_transformers_is_managed_by_the_host(folders, images):
    torch.manual_seed(0)
    small_segmenters.sam2(folders / segmenters.PLACE / "small")
    loaded = nodes.FireEditSegmenterLoader.execute("segmenters/small")[0]
    assert loaded.patcher is not None and loaded.patcher.load_device == management.get_torch_device()
    made, mask, text = run(images[:1], [regions((30, 20, 60, 40))], 32, loaded).args
    assert mask.shape == (1, HEIGHT, WIDTH) and torch.isfinite(mask).all() and "quality" in text


def test_masks_of_a_detector_are_kept_unless_a_segmenter_is_connected(images, folders):
    given = Regions(torch.tensor([[30.0, 20, 60, 40]]), torch.ones(1), ("square",), (HEIGHT, WIDTH), torch.zeros(1, HEIGHT, WIDTH))
    given.masks[0, 20:40, 30:60] = 1
    assert "square: given" in run(images[:1], [given], 32).args[2]
    loaded = nodes.FireEditSegmenterLoader.execute("grabcut")[0]
    assert "square: grabcut" in run(images[:1], [given], 32, loaded).args[2]
