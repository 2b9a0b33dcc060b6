# SPDX-License-Identifier: GPL-3.0-or-later
"""Detectors that users bring: small ones of every family are built, saved as their libraries do, and loaded from disk."""

from __future__ import annotations

import importlib.metadata
import json
import pickle

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from fireedit_core.regions import ultralytics_version, yolo
from fireedit_core.regions.loading import load_detector
from fireedit_core.regions.nanodet import NanoDetDetector
from fireedit_core.regions.region_detector import RegionDetector
from fireedit_core.regions.transformers_detector import TransformersDetector, _as_asked, phrases
from fireedit_core.regions.ultralytics_detector import Refused, UltralyticsDetector, resolve

needs_yolo = pytest.mark.skipif(not ultralytics_version.ultralytics_available(), reason="ultralytics is optional and not installed")
SIDE = 64
STAGES = ["stage2", "stage3", "stage4"]  # of a backbone
HEADS = {
    "Detect": ["nc"], "Segment": ["nc", 8, 16], "OBB": ["nc", 1], "RTDETRDecoder": ["nc", 32, 30, 4, 4, 2],
    "YOLOEDetect": ["nc", 512, True],
}  # fmt: skip
KINDS = {
    "Detect": "DetectionModel", "Segment": "SegmentationModel", "OBB": "OBBModel", "RTDETRDecoder": "RTDETRDetectionModel",
    "YOLOEDetect": "YOLOEModel",
}  # fmt: skip


@pytest.fixture(scope="module")
def picture():
    """Soft random colours, (1, 3, 48, 64): the letterbox has padding to do."""
    noise = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(5))
    return (torch.nn.functional.interpolate(noise, (48, 64), mode="bilinear") * 255).round() / 255


def write_yolo(path, head="Detect", classes=("cat", "dog")):
    """A `.pt` as ultralytics' trainer writes it: the whole network in half precision, its arguments and a date."""
    tasks = yolo.import_ultralytics()
    torch.manual_seed(3)
    layers = [
        [-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [16, 3, 2]], [-1, 1, "C2f", [16, True]], [-1, 1, "Conv", [32, 3, 2]],
        [-1, 1, "C2f", [32, True]], [-1, 1, "Conv", [32, 3, 2]], [-1, 1, "SPPF", [32, 5]],
    ]  # fmt: skip
    shape = {"nc": len(classes), "backbone": layers, "head": [[[4, 6] if head != "YOLOEDetect" else [2, 4, 6], 1, head, HEADS[head]]]}
    network = getattr(tasks, KINDS[head])(shape, ch=3, nc=len(classes), verbose=False)
    network.names = dict(enumerate(classes))
    for module in network.modules():  # a fresh network hardly tells one place from another
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.constant_(module.running_var, 0.11)
    with torch.no_grad():
        if head in ("Detect", "Segment"):
            for boxes, classes_ in zip(network.model[-1].cv2, network.model[-1].cv3, strict=True):
                boxes[-1].bias.zero_()[1::16] = 4  # small boxes: sides one cell from the middle
                classes_[-1].bias.fill_(-1.0)
    network.args = {"imgsz": SIDE, "task": "detect"}
    checkpoint = {
        "epoch": -1, "best_fitness": None, "model": network.half(), "ema": None, "optimizer": None, "train_args": {"imgsz": SIDE},
        "train_metrics": {"fitness": np.float64(0.5)}, "date": "2026-01-01", "version": "8.3.0", "license": "AGPL-3.0",
    }  # fmt: skip
    torch.save(checkpoint, path)
    return path


@needs_yolo
def test_a_yolo_file_finds_what_ultralytics_finds(tmp_path, picture, monkeypatch):
    path = write_yolo(tmp_path / "small.pt")
    detector = load_detector(path)
    regions = detector.detect(picture, 0.25, 0.5, 100)[0]
    assert len(regions) > 1 and set(regions.labels) <= {"cat", "dog"} and regions.masks is None
    with yolo._quiet_import():
        from ultralytics import YOLO
    pixels = Image.fromarray((picture[0].permute(1, 2, 0) * 255).round().byte().numpy())
    theirs = YOLO(path).predict(pixels, imgsz=SIDE, rect=False, conf=0.25, iou=0.5, agnostic_nms=True, device="cpu", verbose=False)[0].boxes
    with torch.no_grad():  # before our own suppression, which looks at the boxes as the picture cuts them
        found = detector.propose(picture, 0.25, 0.5)
    assert len(theirs) == len(found.boxes)
    mine, other = found.scores.argsort(descending=True), theirs.conf.argsort(descending=True)
    limit = torch.tensor([64.0, 48, 64, 48])
    assert (theirs.xyxy[other] - torch.minimum(found.boxes[mine].clamp(min=0), limit)).abs().max() < 0.01
    assert (theirs.conf[other] - found.scores[mine]).abs().max() < 1e-4
    assert [("cat", "dog")[int(c)] for c in theirs.cls[other]] == [found.labels[i] for i in mine]


@needs_yolo
def test_a_yolo_segmentation_gives_masks_inside_its_boxes(tmp_path, picture):
    found = load_detector(write_yolo(tmp_path / "small-seg.pt", "Segment")).detect(picture, 0.2, 0.5, 20)[0]
    assert len(found) and found.masks.shape == (len(found), 48, 64)
    assert found.masks.sum() > 0 and float(found.masks.max()) <= 1
    for mask, (x1, y1, x2, y2) in zip(found.masks, found.boxes.round().int().tolist(), strict=True):
        outside = mask.clone()
        outside[max(y1 - 2, 0) : y2 + 2, max(x1 - 2, 0) : x2 + 2] = 0
        assert outside.sum() == 0
    few = load_detector(tmp_path / "small-seg.pt").detect(picture, 0.2, 0.5, 2)[0]
    assert len(few) == 2 < len(found) and torch.equal(few.masks, found.masks[:2])
    few = load_detector(tmp_path / "small-seg.pt").detect(picture, 0.999, 0.5, 20)[0]
    assert len(few) == 0 and (few.masks is None or few.masks.shape == (0, 48, 64))


class EndToEnd(torch.nn.Module):
    """A segmentation network without suppression (YOLO26): rows of a box in pixels of the square, score, class and two factors."""

    def __init__(self):
        super().__init__()
        self.model = torch.nn.ModuleList([torch.nn.Identity()])
        self.model[-1].end2end, self.names, self.weight = True, dict(enumerate("abc")), torch.nn.Parameter(torch.zeros(1))

    def forward(self, square):
        rows = torch.zeros(1, 300, 8)
        rows[0, 0] = torch.tensor([8.0, 16, 40, 48, 0.9, 2, 9, -9])
        prototypes = torch.ones(1, 2, SIDE // 4, SIDE // 4)
        prototypes[:, 1, :, 5:] = -1  # the factors give 0 on the left, and 18 from a third on
        return rows, prototypes


@needs_yolo
def test_rows_that_need_no_suppression_are_read_as_they_are_with_factors_of_masks_too(picture):
    found = UltralyticsDetector(EndToEnd(), SIDE).detect(picture, 0.5, 0.5, 10)[0]
    assert found.labels == ("c",) and found.boxes.tolist() == [[8, 8, 40, 40]] and found.scores.tolist() == pytest.approx([0.9])
    assert found.masks[0, 24, 36] == 1 and found.masks[0, 24, 10] == 0


@needs_yolo
@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("OBB", "OBBModel of ultralytics.*turned"), ("RTDETRDecoder", "RTDETRDetectionModel.*folder of transformers"),
        ("YOLOEDetect", "no words were set.*set_classes"),
    ],
)  # fmt: skip
def test_networks_whose_numbers_are_no_upright_boxes_of_pixels_are_refused(tmp_path, head, words):
    """They were loaded, and found nothing or the wrong places: turned boxes, shares of the picture, classes that nobody named."""
    with pytest.raises(ValueError, match=f"other.pt .*{words}"):
        load_detector(write_yolo(tmp_path / "other.pt", head))


@needs_yolo
def test_masks_are_made_only_of_what_is_kept(tmp_path, picture, monkeypatch):
    """A mask of 24 megapixels is 96 MB, and there may be 300 finds."""
    detector, made, masks = load_detector(write_yolo(tmp_path / "small-seg.pt", "Segment")), [], UltralyticsDetector._masks
    monkeypatch.setattr(UltralyticsDetector, "_masks", lambda self, *given: made.append(masks(self, *given)) or made[-1])
    detector.detect(picture, 0.2, 0.5, 2)
    assert [len(one) for one in made] == [2]


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return (eval, (f"__import__('pathlib').Path({self.mark!r}).touch()",))


@needs_yolo
def test_a_file_that_wants_more_than_layers_is_refused_and_not_run(tmp_path):
    path, mark = tmp_path / "evil.pt", tmp_path / "was here"
    torch.save({"model": Evil(mark)}, path)
    with pytest.raises(ValueError, match="builtins.eval.*not on the list"):
        load_detector(path)
    path.write_bytes(pickle.dumps(Evil(mark)))  # no zip: an old-style pickle
    with pytest.raises(ValueError, match="evil.pt"):
        load_detector(path)
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists()  # it would have
    torch.save({"model": torch.nn.Linear(2, 2)}, path)
    with pytest.raises(ValueError, match="no detection or segmentation network.*Linear"):
        load_detector(path)
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ValueError, match="evil.pt is no ultralytics checkpoint"):
        load_detector(path)


@needs_yolo
@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "torch.load", "ultralytics.utils.downloads.download",
                                  "ultralytics.nn.tasks.torch_safe_load", "torch.nn.modules.module.register_module_forward_hook",
                                  "ultralytics.nn.modules.block.torch", "ultralytics.nn.tasksx.A", "torch.nn.modules.x.y"])  # fmt: skip
def test_only_layers_are_on_the_list(name):
    with pytest.raises((Refused, ModuleNotFoundError)):
        resolve(name)


@needs_yolo
def test_getattr_of_a_checkpoint_reaches_the_forward_of_a_layer_and_nothing_else():
    read, layer = resolve("builtins.getattr"), resolve("torch.nn.modules.conv.Conv2d")
    assert read(layer, "forward") is torch.nn.Conv2d.forward
    for thing, name in ((layer, "__init__"), (torch.nn.ReLU(), "forward"), (torch, "load"), ("", "format")):
        with pytest.raises(Refused):
            read(thing, name)


@pytest.mark.parametrize("version", ultralytics_version.COMPROMISED_VERSIONS)
def test_compromised_releases_are_refused_before_the_file_is_opened(tmp_path, monkeypatch, version):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    path = tmp_path / "any.pt"
    path.write_bytes(b"")
    with pytest.raises(ImportError, match=f"{version} was published with malware"):
        load_detector(path)


# --- transformers ----------------------------------------------------------------------------------------------------


def rt_detr(folder):
    backbone = transformers.RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1], layer_type="basic", out_features=STAGES
    )
    config = transformers.RTDetrConfig(
        backbone_config=backbone, encoder_hidden_dim=32, encoder_in_channels=[16, 16, 16], feat_strides=[8, 16, 32], encoder_layers=1,
        encoder_ffn_dim=32, encoder_attention_heads=2, d_model=32, num_queries=12, decoder_in_channels=[32, 32, 32], decoder_ffn_dim=32,
        decoder_layers=1, decoder_attention_heads=2, num_denoising=0, id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1},
        anchor_image_size=None,
    )  # fmt: skip
    transformers.RTDetrForObjectDetection(config).save_pretrained(folder)
    transformers.RTDetrImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)


def deformable_detr(folder):
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1], layer_type="basic", out_features=STAGES
    )
    config = transformers.DeformableDetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone, num_queries=10, d_model=32,
        encoder_layers=1, decoder_layers=2, encoder_ffn_dim=32, decoder_ffn_dim=32, encoder_attention_heads=2,
        decoder_attention_heads=2, num_feature_levels=3, id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1},
    )  # fmt: skip
    transformers.DeformableDetrForObjectDetection(config).save_pretrained(folder)
    transformers.DeformableDetrImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)


def grounding_dino(folder):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", "?", "red", "cat", "dog", "a", "lantern"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizerFast.from_pretrained(folder) if transformers.__version__ < "5" else (
        transformers.BertTokenizerFast(vocab={w: i for i, w in enumerate(words)})
    )  # fmt: skip
    text = transformers.BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, max_position_embeddings=64
    )
    backbone = transformers.SwinConfig(
        image_size=SIDE, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, out_features=STAGES
    )
    config = transformers.GroundingDinoConfig(
        backbone_config=backbone, text_config=text, num_queries=10, d_model=32, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=32,
        decoder_ffn_dim=32, encoder_attention_heads=2, decoder_attention_heads=2, num_feature_levels=3, max_text_len=32,
    )  # fmt: skip
    transformers.GroundingDinoForObjectDetection(config).save_pretrained(folder)
    images = transformers.GroundingDinoImageProcessor(size={"shortest_edge": SIDE, "longest_edge": 2 * SIDE})
    transformers.GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)


def owlv2(folder):
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    tokens = {t: i for i, t in enumerate([*letters, *(f"{x}</w>" for x in letters), "!", "!</w>", "<|startoftext|>", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(tokens))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizerFast.from_pretrained(folder) if transformers.__version__ < "5" else (
        transformers.CLIPTokenizerFast(vocab=tokens, merges=[])
    )  # fmt: skip
    text = {"vocab_size": len(tokens), "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
            "max_position_embeddings": 16, "pad_token_id": 0, "bos_token_id": tokens["<|startoftext|>"],
            "eos_token_id": tokens["<|endoftext|>"]}  # fmt: skip
    vision = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "image_size": SIDE,
              "patch_size": 16}  # fmt: skip
    config = transformers.Owlv2Config(text_config=text, vision_config=vision, projection_dim=32)
    transformers.Owlv2ForObjectDetection(config).save_pretrained(folder)
    images = transformers.Owlv2ImageProcessor(size={"height": SIDE, "width": SIDE})
    transformers.Owlv2Processor(images, tokenizer).save_pretrained(folder)


@pytest.mark.parametrize("make", [rt_detr, deformable_detr])
def test_fixed_classes_from_a_folder(tmp_path, picture, make):
    torch.manual_seed(0)
    make(tmp_path / "model")
    detector = load_detector(tmp_path / "model")
    assert not detector.reads_prompt
    found = detector.detect(picture.expand(2, -1, -1, -1), 0.0, 0.9, 5)
    assert len(found) == 2 and 0 < len(found[0]) <= 5 and found[0].image_size == (48, 64)
    assert set(found[0].labels) <= {"cat", "dog"} and torch.equal(found[0].boxes, found[1].boxes)
    assert (found[0].scores.diff() <= 0).all() and len(detector.detect(picture, 1.0)[0]) == 0


@pytest.mark.parametrize("make", [grounding_dino, owlv2])
def test_open_vocabulary_from_a_folder(tmp_path, picture, make):
    torch.manual_seed(0)
    make(tmp_path / "model")
    detector = load_detector(tmp_path / "model")
    assert detector.reads_prompt
    found = detector.detect(picture, 0.0, 0.9, 5, prompt="cat, dog")[0]
    assert 0 < len(found) <= 5 and found.image_size == (48, 64)
    assert set(found.labels) <= {"cat", "dog", "object"} and detector.own_threshold == (0.1 if make is owlv2 else 0.25)
    found = detector.detect(picture, 0.0, 0.9, 5, prompt="a red cat, \ud83d dog")[0]  # of different lengths, and half a letter
    assert len(found) and set(found.labels) <= {"a red cat", "dog", "object"}
    for long in ("cat " * 300, ", ".join("dog" + "a" * i for i in range(40))):
        with pytest.raises(ValueError, match="is too long: .* tokens, and this detector reads"):
            detector.detect(picture, 0.0, 0.9, 5, prompt=long)
    with pytest.raises(ValueError, match="write one, for example"):
        detector.detect(picture, 0.0, 0.9, 5)


def test_a_label_is_called_as_it_was_asked_for():
    """Grounding DINO reads all phrases as one text, and gives words of one, or of two."""
    asked = ["red cat", "dog", "fire hydrant"]
    assert [_as_asked(label, asked) for label in ("dog", "cat", "hydrant. dog", "red cat. dog", "[UNK]")] == [
        "dog", "red cat", "dog", "red cat", "object"
    ]  # fmt: skip
    assert _as_asked("[UNK]. [SEP]", ["lamp"]) == "lamp"


def test_every_family_has_a_threshold_of_its_own():
    families = (TransformersDetector, UltralyticsDetector, NanoDetDetector, RegionDetector)
    assert [family.own_threshold for family in families] == [0.5, 0.25, 0.35, 0.15]


def test_phrases_of_a_prompt():
    assert phrases("Red cat, dog.\na DOG;  dog") == ["red cat", "dog", "a dog"]
    with pytest.raises(ValueError, match="names nothing"):
        phrases(" ., ")


def test_folders_that_are_no_detectors(tmp_path):
    with pytest.raises(ValueError, match="is no detector"):
        load_detector(tmp_path)
    with pytest.raises(ValueError, match="is no detector"):
        load_detector(tmp_path / "gone.pt")
    transformers.BertModel(transformers.BertConfig(
        vocab_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )).save_pretrained(tmp_path / "bert")  # fmt: skip
    with pytest.raises(ValueError, match="'bert' is no object detector"):
        load_detector(tmp_path / "bert")
    rt_detr(tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(ValueError, match="pytorch_model.bin is a pickle"):
        load_detector(tmp_path / "model")


def test_code_of_a_stranger_is_not_run(tmp_path):
    rt_detr(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "evil.Config", "AutoModelForObjectDetection": "evil.Model"}, "model_type": "evil"}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    (tmp_path / "model" / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ValueError, match="could not be loaded"):
        load_detector(tmp_path / "model")
