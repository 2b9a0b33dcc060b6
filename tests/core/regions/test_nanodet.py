# SPDX-License-Identifier: GPL-3.0-or-later
"""NanoDet as it ships: its figures are those of TensorFlow.js, and it finds what is in photographs. Photographs are read where they are
installed; without their package a test is left out."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fireedit_core.regions.loading import load_detector
from fireedit_core.regions.nanodet import INPUT_SIZE, STRIDES, NanoDetDetector, cell_boxes, prepare

FOLDER = Path(__file__).parents[3] / "models" / "photo-detector"
PLACES = {"skimage": "data", "ultralytics": "assets"}  # where photographs lie in their packages
DEBIAN = {"darknet": "/usr/share/darknet/data", "opencv-doc": "/usr/share/doc/opencv-doc/examples/data"}


def photograph(package: str, name: str) -> Tensor:
    """(1, 3, H, W) in 0..1."""
    if package in DEBIAN:
        path = Path(DEBIAN[package]) / name
    else:
        spec = importlib.util.find_spec(package)
        path = spec and Path(spec.origin).parent / PLACES[package] / name
    if not path or not path.is_file():
        pytest.skip(f"{package} with {name} is not installed")
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).movedim(-1, 0)[None].float() / 255


@pytest.fixture(scope="module")
def detector() -> NanoDetDetector:
    return load_detector(FOLDER)


# What @tensorflow/tfjs 4.22.0 (CPU backend, node 20) makes of models/nanodet.json of the npm package, of the picture as `prepare` gives it:
# per stride the sum of all scores and of all bins' magnitudes, the best score with its cell and class, and that cell's first side.
TFJS = {
    "astronaut": [
        (1061.5097, 131197.581, 365, 39, 0.223809,
         [2.9691, 7.3344, 6.9546, 2.1872, -0.1308, -1.6848, -3.6348, -3.7024, -3.3951, -3.4412, -3.4559]),
        (537.1080, 28276.602, 591, 56, 0.325352,
         [-3.9595, -3.1122, -1.9109, -0.3264, 2.2892, 4.8904, 4.8328, 2.2903, -0.3108, -1.7183, -2.9623]),
        (273.5753, 8174.639, 69, 0, 0.734609,
         [-2.8797, -0.8724, 0.4627, 2.8553, 5.2284, 3.9164, 0.3241, -1.0756, -1.7208, -3.1608, -3.0783]),
    ],
    "motorcycle_left": [
        (1190.4897, 155784.454, 1358, 56, 0.289537,
         [-2.9756, -0.6004, 3.1174, 5.8314, 5.4317, 2.2040, -1.6188, -2.5480, -2.7086, -2.9647, -3.1692]),
        (394.7824, 24640.628, 264, 1, 0.233582,
         [-1.6807, -0.6107, 1.3990, 3.5837, 3.8223, 2.5398, 0.2062, -1.2880, -2.1124, -2.7215, -3.1378]),
        (160.3945, 7051.584, 98, 3, 0.778713,
         [-3.2940, -1.3545, -0.3193, 0.5796, 1.3332, 3.7589, 4.3467, 2.1924, -0.3176, -3.5691, -3.3565]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", TFJS)
def test_the_figures_are_those_of_tensorflow_js(detector, name):
    with torch.no_grad():
        scores, bins = detector.network(prepare(photograph("skimage", f"{name}.png")))
    for stride, score, distances, (total, magnitude, cell, kind, best, side) in zip(STRIDES, scores, bins, TFJS[name], strict=True):
        assert score.shape == (1, (INPUT_SIZE // stride) ** 2, 80) and distances.shape == (1, (INPUT_SIZE // stride) ** 2, 44)
        assert int(score[0].flatten().argmax()) == cell * 80 + kind
        assert float(score[0, cell, kind]) == pytest.approx(best, abs=1e-3)
        assert distances[0, cell, :11].tolist() == pytest.approx(side, abs=1e-3)
        assert float(score.sum()) == pytest.approx(total, rel=1e-4)
        assert float(distances.abs().sum()) == pytest.approx(magnitude, rel=1e-4)


# What was seen by eye, at 0.4: boxes to 5 % of the picture's longer side. The person of the cat is wrong.
SEEN = {
    ("skimage", "astronaut.png"): [("helmet", (276, 347, 500, 512)), ("person", (15, 14, 364, 508))],
    ("skimage", "coffee.png"): [("cup", (142, 11, 426, 398))],
    ("skimage", "motorcycle_left.png"): [("motorcycle", (106, 77, 688, 454))],
    ("skimage", "rocket.jpg"): [],
    ("ultralytics", "bus.jpg"): [
        ("bus", (16, 217, 793, 758)), ("person", (56, 390, 229, 898)), ("person", (679, 399, 810, 879)), ("person", (223, 400, 347, 849)),
        ("person", (2, 559, 75, 870)),
    ],
    ("ultralytics", "zidane.jpg"): [
        ("person", (137, 204, 1146, 720)), ("person", (719, 44, 1156, 720)), ("tie", (987, 303, 1078, 417)), ("tie", (469, 432, 593, 615)),
    ],
    ("skimage", "chelsea.png"): [("cat", (0, 0, 449, 298)), ("person", (2, 1, 451, 300))],
    ("darknet", "dog.jpg"): [
        ("dog", (131, 221, 360, 541)), ("bicycle", (112, 127, 571, 425)), ("car", (469, 87, 698, 169)),
    ],
    ("darknet", "person.jpg"): [("person", (187, 100, 279, 377)), ("dog", (70, 265, 203, 347)), ("horse", (406, 139, 603, 349))],
    ("opencv-doc", "orange.jpg"): [("orange", (29, 45, 468, 501))],
    ("opencv-doc", "squirrel_cls.jpg"): [("squirrel", (156, 125, 379, 358))],
}  # fmt: skip


@pytest.mark.parametrize("place", SEEN)
def test_things_in_photographs(detector, place):
    picture = photograph(*place)
    found = detector.detect(picture, 0.4)[0]
    assert found.labels == tuple(label for label, _ in SEEN[place]) and found.masks is None
    assert found.image_size == tuple(picture.shape[-2:]) and (found.scores > 0.4).all()
    for box, (_, seen) in zip(found.boxes.tolist(), SEEN[place], strict=True):
        assert box == pytest.approx(seen, abs=0.05 * max(picture.shape))


@pytest.mark.slow
def test_sizes_and_batches(detector):
    picture = photograph("skimage", "motorcycle_left.png")
    whole = detector.detect(picture)[0]
    large = detector.detect(torch.nn.functional.interpolate(picture, scale_factor=3, mode="bicubic").clamp(0, 1))[0]
    assert large.labels == whole.labels and (large.boxes / 3 - whole.boxes).abs().max() < 5
    both = detector.detect(torch.cat([picture, picture.flip(3)]), 0.4, 0.5)
    assert (both[0].boxes - whole.boxes).abs().max() < 0.01 and both[1].labels == ("motorcycle",)
    assert both[1].boxes[0, 0] == pytest.approx(picture.shape[-1] - float(whole.boxes[0, 2]), abs=20)
    for height, width in ((1, 1), (1, 4000), (3000, 2)):
        found = detector.detect(torch.rand(1, 3, height, width), 0.0, 0.5, 10)[0]
        assert found.image_size == (height, width)
        assert (found.boxes[:, 2] <= width).all() and (found.boxes[:, 3] <= height).all()
    assert detector.detect(torch.zeros(0, 3, 8, 8)) == [] and len(detector.detect(torch.zeros(1, 3, 64, 64))[0]) == 0


def test_a_box_is_the_mean_of_its_distributions():
    bins = torch.full((13 * 13, 4, 11), -50.0)
    bins[:, 0, 1] = bins[:, 1, 2] = bins[:, 2, 3] = 50
    bins[:, 3, 4] = bins[:, 3, 5] = 50  # half and half
    boxes = cell_boxes(bins.flatten(1), 32)
    assert boxes[13 * 2 + 5].tolist() == pytest.approx([5.5 * 32 - 32, 2.5 * 32 - 64, 5.5 * 32 + 96, 2.5 * 32 + 144])


def test_the_picture_is_stretched_and_its_channels_swapped():
    red = torch.zeros(1, 3, 10, 20)
    red[:, 0] = 1
    made = prepare(red)
    assert made.shape == (1, 3, INPUT_SIZE, INPUT_SIZE)
    assert made[0, :, 0, 0].tolist() == pytest.approx([-103.53 / 57.375, -116.28 / 57.12, (255 - 123.675) / 58.395], abs=1e-4)


def test_folders_that_are_not_whole(tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(FOLDER, folder)
    config = json.loads((folder / "config.json").read_text())

    def write(text: str) -> None:
        (folder / "config.json").write_text(text)

    write(json.dumps(config | {"names": config["names"][:79]}))
    with pytest.raises(ValueError, match="does not hold a NanoDet-g of 79 classes; copy the folder again"):
        load_detector(folder)
    for names in (None, [], [1], "person"):
        write(json.dumps(config | {"names": names}))
        with pytest.raises(ValueError, match="expected 'names'"):
            load_detector(folder)
    write("[1]")
    with pytest.raises(ValueError, match="expected an object, got list"):
        load_detector(folder)
    write(json.dumps(config))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="truncated"):
        load_detector(folder)
    weights.rename(folder / "model.bin")
    with pytest.raises(ValueError, match="is a pickle"):
        load_detector(folder)


def test_a_classifier_that_is_not_whole(tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(FOLDER, folder)
    config = json.loads((folder / "config.json").read_text())
    names = config["classifier"]["names"]
    for broken in ({}, [], {"names": names}, config["classifier"] | {"names": names[:999]}):
        (folder / "config.json").write_text(json.dumps(config | {"classifier": broken}))
        with pytest.raises(ValueError, match="'classifier' is not as it ships; copy the folder again"):
            load_detector(folder)
    (folder / "config.json").write_text(json.dumps(config))
    weights = folder / "classifier.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    with pytest.raises(ValueError, match="classifier.safetensors is truncated"):
        load_detector(folder)
    shutil.copy(folder / "model.safetensors", weights)
    with pytest.raises(ValueError, match="classifier"):
        load_detector(folder)
    weights.unlink()
    with pytest.raises(ValueError, match="has no classifier.safetensors; copy the folder again"):
        load_detector(folder)
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if key != "classifier"}))
    alone = load_detector(folder)
    assert alone.second_look is None
    assert alone.detect(photograph("skimage", "chelsea.png"))[0].labels == ("person", "cat")  # a detector without it, as before
