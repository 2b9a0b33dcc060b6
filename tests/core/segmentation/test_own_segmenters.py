# SPDX-License-Identifier: GPL-3.0-or-later
"""Segmenters that users bring: small ones of every family are built, saved as their libraries do, and loaded from disk."""

from __future__ import annotations

import importlib
import importlib.util
import json
from types import SimpleNamespace

import pytest
import torch
import transformers

from fireedit_core.regions.record import Regions
from fireedit_core.regions.ultralytics_version import ultralytics_available
from fireedit_core.segmentation import isnet
from fireedit_core.segmentation.loading import GRABCUT, load_segmenter
from tests.core.segmentation import small_segmenters

pytest.importorskip("cv2", reason="needs OpenCV")
BOXES = torch.tensor([[5.0, 5, 40, 40], [30, 10, 78, 46]])
needs_runtime = pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is optional and not installed")
needs_timm = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None or transformers.__version__ < "5",
    reason="needs timm, which is optional, and transformers 5: 4.57 asks the hub when it saves an EdgeTAM",
)


@pytest.fixture
def picture():
    return torch.rand(3, 48, 80, generator=torch.Generator().manual_seed(4))


def test_grabcut_needs_no_file():
    assert load_segmenter(GRABCUT).family == "grabcut"


@needs_runtime
def test_an_onnx_file_sees_the_crop_as_isnet_wants_it(tmp_path):
    """The file gives sigmoid(20 x mean): bright is the thing. 128 of 255 is the middle, as in (x - 128) / 256."""
    small_segmenters.write_onnx(tmp_path / "small.onnx")
    segmenter = load_segmenter(tmp_path / "small.onnx")
    picture = torch.zeros(3, 60, 100)
    picture[:, 20:40, 30:60] = 1
    masks = segmenter.segment(picture, torch.tensor([[30.0, 20, 60, 40], [80, 5, 95, 25]]))
    assert masks.shape == (2, 60, 100) and masks[0, 24:36, 36:54].min() > 0.999 and masks[0, :10].max() == 0
    assert masks[1].max() < 1e-4 and masks[1, 10, 88] > 0
    level = segmenter.segment(torch.full((3, 60, 100), 192 / 255), torch.tensor([[30.0, 20, 60, 40]]))
    assert abs(float(level[0, 30, 45]) - float(torch.sigmoid(torch.tensor(20 * (192 - 128) / 256)))) < 1e-5
    assert segmenter.soft and segmenter.pixel(torch.tensor([0.0, 0, 100, 60]), (60, 100)) == 100 / 16


class Sees:
    """A session of another kind than ISNet that keeps what it was shown last, and gives that, times `out`."""

    def __init__(self, side, out):
        self.side, self.out, self.shown = side, out, None

    def get_inputs(self):
        return [SimpleNamespace(name="input", shape=[1, 3, self.side, self.side], type="tensor(float)")]

    def run(self, _, inputs):
        self.shown = inputs["input"]
        return [self.shown.mean(1, keepdims=True) * self.out]


def test_u2net_and_birefnet_see_the_picture_as_they_were_trained_and_logits_become_alpha():
    """Both subtract ImageNet's mean and divide by its spread; U2-Net sees 320 px and BiRefNet gives logits, which were cut at 0 and 1."""
    picture, box = torch.full((3, 60, 60), 192 / 255), torch.tensor([[0.0, 0, 60, 60]])
    wanted = [(192 / 255 - mean) / spread for mean, spread in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    u2net, birefnet = Sees(320, 0.1), Sees(64, -2.0)
    level = isnet.IsNet(u2net).segment(picture, box)[0, 30, 30]
    assert u2net.shown[0, :, 9, 9].tolist() == pytest.approx(wanted, abs=1e-5)
    assert float(level) == pytest.approx(sum(wanted) / 30, abs=1e-5)  # already an alpha
    segmenter = isnet.IsNet(birefnet)
    for _ in range(2):
        level = segmenter.segment(picture, box)[0, 30, 30]
        assert birefnet.shown[0, :, 9, 9].tolist() == pytest.approx(wanted, abs=1e-5)
        assert float(level) == pytest.approx(float(torch.sigmoid(torch.tensor(-2 * sum(wanted) / 3))), abs=1e-5)


class Looks:
    """A session that finds what is bright where that is no more than a share of what it sees."""

    def __init__(self, most):
        self.most, self.seen = most, 0

    def get_inputs(self):
        return [SimpleNamespace(name="input", shape=[1, 3, 64, 64], type="tensor(float)")]

    def run(self, _, inputs):
        self.seen += 1
        bright = (inputs["input"].mean(1, keepdims=True) > 0).astype("float32")
        return [bright * (bright.mean() < self.most)]


@pytest.mark.parametrize(("most", "looks", "found"), ((0.7, 1, True), (0.4, 2, True), (0.2, 2, False)))
def test_an_onnx_file_looks_again_with_more_around_it_where_nothing_fills_the_box(most, looks, found):
    picture, session = torch.zeros(3, 200, 200), Looks(most)
    picture[:, 80:120, 80:120] = 1
    masks = isnet.IsNet(session).segment(picture, torch.tensor([[80.0, 80, 120, 120]]))
    assert session.seen == looks and masks[0, :70].max() == 0
    assert masks[0, 82:118, 82:118].min() > 0.99 if found else masks.max() == 0


@needs_runtime
def test_only_the_first_output_counts_and_other_forms_are_refused(tmp_path):
    small_segmenters.write_onnx(tmp_path / "two.onnx", outputs=2)
    assert load_segmenter(tmp_path / "two.onnx").segment(torch.ones(3, 20, 20), torch.tensor([[2.0, 2, 18, 18]])).max() <= 1
    small_segmenters.write_onnx(tmp_path / "grey.onnx", channels=1)
    with pytest.raises(ValueError, match="expected one picture"):
        load_segmenter(tmp_path / "grey.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match="broken.onnx cannot be read"):
        load_segmenter(tmp_path / "broken.onnx")
    with pytest.raises(ValueError, match="no file"):
        load_segmenter(tmp_path / "gone.onnx")


def test_without_onnxruntime_the_message_names_it(tmp_path, monkeypatch):
    real = importlib.import_module
    monkeypatch.setattr(isnet.importlib, "import_module", lambda name: real("not_there" if name == "onnxruntime" else name))
    with pytest.raises(ImportError, match="pip install onnxruntime"):
        load_segmenter(tmp_path / "any.onnx")


@pytest.mark.parametrize(
    "make", [small_segmenters.sam_hq, small_segmenters.sam2, pytest.param(small_segmenters.edgetam, marks=needs_timm)]
)
def test_a_folder_of_transformers(tmp_path, picture, make):
    torch.manual_seed(0)
    make(tmp_path / "model")
    segmenter = load_segmenter(tmp_path / "model")
    done = []
    masks = segmenter.segment(picture, BOXES, done.append)
    assert segmenter.family == make.__name__ and masks.shape == (2, 48, 80) and done == [1, 2]
    assert 0 <= masks.min() and masks.max() <= 1 and not torch.equal(masks[0], masks[1])
    alone = segmenter.segment(picture, BOXES[1:])
    assert (alone[0] - masks[1]).abs().max() < 1e-5  # what was seen for one box serves the next
    # as the library itself does it
    theirs = _by_transformers(segmenter, picture, BOXES[1])
    assert ((masks[1] > 0.5) == theirs).float().mean() > 0.99
    assert segmenter.segment(picture, BOXES[:0]).shape == (0, 48, 80)


def _by_transformers(segmenter, picture, box):
    from fireedit_core.regions.transformers_detector import to_picture

    inputs = segmenter.processor(images=to_picture(picture[None]), input_boxes=[[box.tolist()]], return_tensors="pt")
    with torch.no_grad():
        out = segmenter.network(pixel_values=inputs["pixel_values"], input_boxes=inputs["input_boxes"])
    sizes, options = [inputs["original_sizes"]], {}
    if segmenter.family == "sam_hq":
        square = {"height": small_segmenters.SIDE, "width": small_segmenters.SIDE}
        sizes, options = [*sizes, inputs["reshaped_input_sizes"]], {"pad_size": square}
    masks = segmenter.processor.post_process_masks(out.pred_masks, *sizes, **options)[0]
    return masks.flatten(0, 1)[int(out.iou_scores.flatten().argmax())].bool()


def test_folders_that_are_no_segmenters(tmp_path):
    with pytest.raises(ValueError, match="is no segmenter"):
        load_segmenter(tmp_path)
    torch.manual_seed(0)
    small_segmenters.sam2(tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(ValueError, match="is a pickle"):
        load_segmenter(tmp_path / "model")
    weights.with_name("pytorch_model.bin").rename(weights)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "evil.Config", "AutoModelForMaskGeneration": "evil.Model"}, "model_type": "evil"}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    (tmp_path / "model" / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ValueError, match="could not be loaded"):
        load_segmenter(tmp_path / "model")


@pytest.mark.skipif(not ultralytics_available(), reason="ultralytics is optional and not installed")
def test_a_segmentation_file_of_ultralytics(tmp_path, picture):
    from tests.core.regions.test_own_detectors import write_yolo

    segmenter = load_segmenter(write_yolo(tmp_path / "small-seg.pt", "Segment"))
    found = segmenter.detector.detect(picture[None], 0.1, 0.7, 30)[0]
    masks = segmenter.segment(picture, torch.cat([found.boxes[:1], torch.tensor([[0.0, 0, 1, 1]])]))
    assert segmenter.family == "ultralytics" and masks.shape == (2, 48, 80) and masks[1].sum() == 0
    with pytest.raises(ValueError, match="makes no masks"):
        load_segmenter(write_yolo(tmp_path / "small.pt"))


@pytest.mark.skipif(not ultralytics_available(), reason="ultralytics is optional and not installed")
def test_of_what_is_found_around_a_box_the_mask_of_the_one_in_its_place_is_taken():
    from fireedit_core.segmentation.segmenter import crop_around
    from fireedit_core.segmentation.ultralytics_segmenter import MARGIN, UltralyticsSegmenter

    box, size = torch.tensor([60.0, 30, 80, 50]), (100, 120)
    left, top, right, bottom = crop_around(box, size, MARGIN)
    assert left > 20 and top > 10
    inner = torch.stack([torch.tensor([0.0, 0, 12, 12]), box - torch.tensor([left, top, left, top])])
    masks = torch.zeros(2, bottom - top, right - left)
    masks[0, :12, :12] = masks[1, 30 - top : 50 - top, 60 - left : 80 - left] = 1
    detector = torch.nn.Module()
    detector.detect = lambda *given: [Regions(inner, torch.tensor([0.9, 0.5]), ("a", "b"), masks.shape[1:], masks)]
    (made,) = UltralyticsSegmenter(detector).segment(torch.rand(3, *size), box[None])
    assert made.sum() == 400 and bool((made[30:50, 60:80] == 1).all())
