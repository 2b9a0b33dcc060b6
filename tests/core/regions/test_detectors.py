# SPDX-License-Identifier: GPL-3.0-or-later
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fireedit_core.regions import detector as base
from fireedit_core.regions import suppression, ultralytics_version, yolo
from fireedit_core.regions.detector import select_regions
from fireedit_core.regions.loading import load_region_detector
from fireedit_core.regions.record import Regions
from fireedit_core.regions.region_detector import RegionDetector

EMBEDDED = Path(__file__).parents[3] / "models" / "fireedit-tiny" / "detector"
needs_yolo = pytest.mark.skipif(not ultralytics_version.ultralytics_available(), reason="ultralytics is optional and not installed")


class Fixed(RegionDetector):
    """Three boxes, two of them nearly the same, one outside the picture, in no order."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def predict_boxes(self, images):
        boxes = torch.tensor([[1.0, 1, 9, 9], [0, 0, 50, 9], [1, 1, 9, 10], [70, 70, 80, 80]])
        scores = torch.tensor([0.6, 0.15, 0.9, 0.99])
        return boxes.expand(len(images), 4, 4), scores.expand(len(images), 4)


def test_detect_sorts_clips_and_suppresses():
    regions, _ = Fixed().detect(torch.rand(2, 3, 20, 30), score_threshold=0.1)
    assert regions.boxes.tolist() == [[1, 1, 9, 10], [0, 0, 30, 9]]
    assert torch.allclose(regions.scores, torch.tensor([0.9, 0.15])) and regions.labels == ("object", "object")
    assert len(Fixed().detect(torch.rand(1, 3, 20, 30))[0]) == 1  # the threshold is strict
    assert len(Fixed().detect(torch.rand(1, 3, 20, 30), 0.0, 1.0, 2)[0]) == 2
    assert Fixed().detect(torch.rand(0, 3, 20, 30)) == []
    assert len(Fixed().detect(torch.rand(1, 3, 20, 30), 0.999)[0]) == 0
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        Fixed().detect(torch.rand(1, 20, 30, 3))


def test_nms_without_torchvision_is_the_same():
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(60, 2, generator=generator) * 40
    boxes = torch.cat([corner, corner + 5 + 20 * torch.rand(60, 2, generator=generator)], dim=1)
    scores = torch.rand(60, generator=generator).round(decimals=1)  # with ties
    for threshold in (0.3, 0.6):
        kept = suppression.non_maximum_suppression(boxes, scores, threshold)
        assert torch.equal(kept, suppression._greedy_nms(boxes, scores, threshold))
        assert (scores[kept].diff() <= 0).all()


@pytest.mark.parametrize("size", [(128, 128), (50, 200), (301, 97), (1, 40)])
def test_letterbox_is_undone(size):
    image = torch.zeros(1, 3, *size)
    square = base.letterbox(image, 128)
    assert square.shape == (1, 3, 128, 128)
    boxes = torch.tensor([[0.0, 0.0, size[1], size[0]]])
    inside = base.letterbox_boxes(boxes, size, 128)
    left, top, right, bottom = inside[0].round().int().tolist()
    assert (square[..., top:bottom, left:right] == 0).all() and (square == 0.5).sum() == 3 * (
        128 * 128 - (right - left) * (bottom - top)
    )
    assert torch.allclose(base.undo_letterbox(inside, size, 128), boxes, atol=1e-4)


def test_a_letterbox_has_the_nearest_whole_size():
    """100 x 197 px on 128: 64.97 rows, so 65, with 31 of the 63 others above."""
    square = base.letterbox(torch.ones(1, 3, 100, 197), 128)
    filled = (square[0, 0, :, 64] > 0.9).nonzero().flatten()
    assert filled.tolist() == list(range(31, 31 + 65)) and (square[0, :, 0] == 0.5).all()


def test_each_picture_is_detected_in():
    """Of a batch, one by one: each gets the boxes of its own bright place."""

    class Bright:
        def detect(self, image, score_threshold, iou_threshold, max_regions, prompt):
            assert len(image) == 1 and (score_threshold, iou_threshold, max_regions, prompt) == (0.2, 0.5, 7, "cat")
            rows, columns = (image[0, 0] > 0).nonzero(as_tuple=True)
            box = torch.tensor([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]).float()
            return [Regions(box, torch.ones(1), ("bright",), (20, 30))]

    pictures, done = torch.zeros(3, 3, 20, 30), []
    for i in range(3):
        pictures[i, :, 2 * i : 2 * i + 3, 5 * i : 5 * i + 4] = 1
    found = base.detect_each(Bright(), pictures, 0.2, 0.5, 7, "cat", done.append)
    assert [one.boxes[0].tolist() for one in found] == [[0, 0, 4, 3], [5, 2, 9, 5], [10, 4, 14, 7]] and done == [1, 2, 3]


def test_pickles_and_unknown_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="config.json is missing"):
        load_region_detector(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "Evil"}))
    with pytest.raises(ValueError, match="'Evil'"):
        load_region_detector(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "DeformableDetrRegionDetector"}))
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(ValueError, match="pickle.*save_file"):
        load_region_detector(tmp_path)


def architecture(**changes):
    return {**yolo.TINY_ARCHITECTURE, **changes}


@pytest.mark.parametrize(
    "bad",
    [
        architecture(activation="__import__('os').system('true')"),
        architecture(head=[[-1, 1, "nn.Module.__init__", [1]]]),
        architecture(head=[[-1, 1, "torchvision.ops.nms", [1]]]),
        architecture(head=[[-1, 1, "Conv", ["__import__('os')", 3]]]),
        architecture(head=[[-1, "n", "Conv", [8, 3]]]),
        architecture(head=[[-1, 1, "Conv"]]),
        architecture(nc=80),
        {"backbone": []},
    ],
)
def test_architecture_from_a_stranger_is_checked(bad):
    with pytest.raises(ValueError, match="YOLO architecture"):
        yolo.check_architecture(bad)


@pytest.mark.parametrize("version", ["8.3.41", "8.3.46", None])
def test_missing_or_compromised_ultralytics(version, monkeypatch):
    def fake(name):
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", fake)
    assert not ultralytics_version.ultralytics_available()
    with pytest.raises(ImportError, match="pip install ultralytics" if version is None else f"{version}.*malware"):
        yolo.YoloRegionDetector()


@needs_yolo
def test_yolo_round_trip_and_sizes(tmp_path):
    torch.manual_seed(0)
    first = yolo.YoloRegionDetector()
    assert 0.6e6 < sum(p.numel() for p in first.parameters()) < 1.2e6
    for norm in (m for m in first.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.running_mean.normal_(0, 0.1)
    first.save_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]
    assert json.loads((tmp_path / "config.json").read_text())["architecture"]["nc"] == 1
    second = load_region_detector(tmp_path)
    images = torch.rand(2, 3, 75, 130)
    for a, b in zip(first.detect(images, 0.0), second.detect(images, 0.0), strict=True):
        assert len(a) and torch.equal(a.boxes, b.boxes) and torch.equal(a.scores, b.scores)
        assert a.boxes.max() <= 130 and a.image_size == (75, 130)
    with pytest.raises(ValueError, match="multiple of 32"):
        yolo.YoloRegionDetector(input_size=100)


@pytest.mark.slow
@needs_yolo
def test_import_leaves_no_trace(tmp_path):
    """In a fresh process: no settings in the profile, no changed environment, no replaced torch.save or Image.open."""
    code = (
        "import os, torch, PIL.Image as pil; before, save, read = dict(os.environ), torch.save, pil.open\n"
        "from fireedit_core.regions.yolo import import_ultralytics\n"
        "import_ultralytics(); import ultralytics, ultralytics.utils as u\n"
        "changed = {k for k in os.environ if os.environ[k] != before.get(k)} | set(before) - set(os.environ)\n"
        "print(torch.save is save and pil.open is read, u.ONLINE, u.SETTINGS['sync'], u.AUTOINSTALL, sorted(changed & "
        "{k for k in os.environ if k.startswith(('YOLO', 'OMP', 'NUMEXPR'))}))"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("YOLO", "OMP"))}
    environment |= {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONPATH": str(EMBEDDED.parents[2])}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600)
    assert run.stdout.strip() == "True False False False []", run.stdout + run.stderr
    assert not (tmp_path / ".config").exists()


@needs_yolo
@pytest.mark.skipif(not EMBEDDED.is_dir(), reason="the embedded default is not there")
def test_embedded_detector_on_held_out_scenes():
    pytest.importorskip("fireedit_core.data")
    from fireedit_core.data.npm_package import PackageError
    from fireedit_core.training.detector import evaluate_detector, scene_source

    try:
        scenes = scene_source("heldout", 123)
    except PackageError as error:
        pytest.skip(str(error))
    detector = load_region_detector(EMBEDDED)
    quality = evaluate_detector(detector, scenes, 40)
    assert quality["recall"] >= 0.97 and quality["precision"] >= 0.95, quality
    assert sum(p.stat().st_size for p in EMBEDDED.iterdir()) < 3e6
    large = np.asarray(scenes(0)[0]).repeat(3, 0).repeat(3, 1)
    (found,) = detector.detect(torch.from_numpy(large).permute(2, 0, 1)[None] / 255)
    wanted = torch.as_tensor(np.asarray(scenes(0)[1]), dtype=torch.float32) * 3
    assert suppression.box_iou(wanted, found.boxes).amax(1).min() > 0.5


@pytest.mark.slow
@needs_yolo
def test_training_loop_runs_and_resumes(tmp_path):
    from fireedit_core.training import detector as training

    def scene(index):
        random = np.random.default_rng(index)
        picture = np.full((96, 128, 3), random.integers(90, 160), np.uint8)
        x, y = random.integers(0, 90), random.integers(0, 60)
        picture[y : y + 32, x : x + 32] = (250, 30, 30)
        return picture, np.array([[x, y, x + 32, y + 32]], np.float32)

    def train(seconds):
        settings = training.DetectorTraining(minutes=seconds / 60, batch_size=4)
        average = training.train_detector(scene, tmp_path, settings)
        return average, torch.load(tmp_path / "run.pt", weights_only=True)

    average, state = train(0.8)
    assert state["step"] >= 1 and state["spent"] >= 0.8
    same, again = train(0.1)  # the budget is used up: nothing is trained
    assert again["step"] == state["step"]
    assert all(torch.equal(value, average.state_dict()[name]) for name, value in same.state_dict().items())
    assert train(state["spent"] + 0.5)[1]["step"] > state["step"]  # one step at least, however slow the machine is
    training.save_detector(average, tmp_path / "out")
    assert load_region_detector(tmp_path / "out").dtype == torch.float32
    assert set(training.evaluate_detector(average, scene, 2)) == {"recall", "precision", "wrong_per_picture", "ap50"}


def test_augmented_boxes_follow_the_pixels():
    training = pytest.importorskip("fireedit_core.training.detector")
    images = torch.full((32, 3, 128, 128), 0.5)
    images[:, :, 40:70, 30:80] = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    boxes = [torch.tensor([[30.0, 40.0, 80.0, 70.0]])] * 32
    moved, targets = training.augment(images, boxes, torch.Generator().manual_seed(1))
    checked = 0
    for picture, target in zip(moved, targets, strict=True):
        for box in target.round().int().tolist():
            red = (picture[0] - picture[2]) > 0.25
            rows, columns = torch.nonzero(red.any(1)), torch.nonzero(red.any(0))
            found = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
            assert max(abs(a - b) for a, b in zip(found, box, strict=True)) <= 2
            checked += 1
    assert checked > 24


def test_detection_quality_by_hand():
    training = pytest.importorskip("fireedit_core.training.detector")
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [30, 30, 40, 40]])
    found = [Regions(boxes, torch.tensor([0.9, 0.8, 0.1]), ("", "", ""), (50, 50))]
    wanted = [torch.tensor([[0.0, 0, 10, 10], [30, 30, 40, 40]])]
    quality = training.detection_quality(found, wanted)
    assert quality["recall"] == 0.5 and quality["precision"] == 0.5 and quality["wrong_per_picture"] == 1.0
    assert quality["ap50"] == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert training.detection_quality([Regions.empty((5, 5))], [torch.zeros(0, 4)])["ap50"] == 0


def test_labels_and_masks_stay_with_their_boxes():
    """Also where some are left out and the best comes last."""
    boxes = torch.tensor([[0.0, 0, 5, 5], [20, 0, 30, 5], [0, 8, 9, 9], [40, 0, 49, 8]])
    scores, names = torch.tensor([0.4, 0.05, 0.6, 0.9]), ["ant", "bee", "cat", "dog"]
    masks = torch.arange(4.0).view(4, 1, 1).expand(4, 10, 50)
    found = select_regions(boxes, scores, (10, 50), 0.1, 0.5, 2, names, lambda kept: masks[kept])
    assert found.labels == ("dog", "cat") and found.masks[:, 0, 0].tolist() == [3, 2] and found.boxes[:, 0].tolist() == [40, 0]
    assert select_regions(boxes, scores, (10, 50), 0.1, 0.5, 9, names).labels == ("dog", "cat", "ant")


def test_second_opinions_are_kept_where_a_detector_has_them():
    boxes = torch.tensor([[0.0, 0, 50, 50], [1, 0, 50, 50], [2, 0, 50, 50], [0, 0, 50, 49]])
    scores, names = torch.tensor([0.6, 0.5, 0.4, 0.3]), ("person", "person", "cat", "cat")
    assert select_regions(boxes, scores, (50, 50), 0.1, 0.5, 9, names).labels == ("person",)
    found = select_regions(boxes, scores, (50, 50), 0.1, 0.5, 9, names, per_label=True)
    assert found.labels == ("person", "cat") and found.boxes.tolist() == [boxes[0].tolist(), boxes[2].tolist()]
