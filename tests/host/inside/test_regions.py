# SPDX-License-Identifier: GPL-3.0-or-later
"""Region nodes on a batch of two pictures: every dialect there and back, filters, merging, a detector of the user's own."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from tests.host.inside.pack import nodes  # first: it makes the pack importable
from tests.host.small import SIZE, picture

import folder_paths  # isort: skip
from fireedit_core.regions import Regions  # isort: skip
from fireedit_core.regions.loading import load_detector  # isort: skip
from fireedit_core.thumbnail import fingerprint  # isort: skip
from fireedit_pack.nodes.errors import FireEditNodeError  # isort: skip
from fireedit_pack.nodes.host import detectors  # isort: skip
from tests.core.regions import test_own_detectors  # isort: skip


@pytest.fixture(scope="module")
def images():
    return torch.stack([torch.from_numpy(picture(seed=i)).float() / 255 for i in range(2)])


def two() -> list[Regions]:
    """Two regions in the first picture, one in the second."""
    one = Regions(torch.tensor([[4.0, 4, 20, 20], [30, 30, 60, 50]]), torch.tensor([0.9, 0.5]), ("cat", "dog"), (SIZE, SIZE))
    return [one, one.select([1])]


def boxes(regions: list[Regions]) -> list[list[list[float]]]:
    return [one.boxes.tolist() for one in regions]


def test_masks_there_and_back():
    mask = nodes.FireEditRegionsToMask.execute(two(), "one per picture", 0)[0]
    assert mask.shape == (2, SIZE, SIZE) and mask[0].sum() == 16 * 16 + 30 * 20 and mask[1].sum() == 30 * 20
    back = nodes.FireEditRegionsFromMask.execute(mask, 0.5, 4, "thing")[0]
    assert boxes(back) == [[[30, 30, 60, 50], [4, 4, 20, 20]], [[30, 30, 60, 50]]] and back[0].labels == ("thing", "thing")
    each = nodes.FireEditRegionsToMask.execute(two(), "one per region", 0)[0]
    assert each.shape == (3, SIZE, SIZE) and torch.equal(each[1], each[2])
    empty = [Regions.empty((SIZE, SIZE))]
    for way in ("one per picture", "one per region"):
        assert nodes.FireEditRegionsToMask.execute(empty, way, 3)[0].sum() == 0


def test_no_mask_is_no_region(images):
    """Load Image gives (1, 64, 64) zeros for a picture of any size without transparency."""
    wide = torch.nn.functional.pad(images, (0, 0, 0, 30))
    none = nodes.FireEditRegionsFromMask.execute(torch.zeros(1, 64, 64), 0.5, 4, "thing", wide)[0]
    assert [len(one) for one in none] == [0, 0] and none[0].image_size == (SIZE, SIZE + 30)
    painted = torch.zeros(1, SIZE, SIZE + 30)
    painted[:, 4:20, 60:80] = 1
    both = nodes.FireEditRegionsFromMask.execute(painted, 0.5, 4, "thing", wide)[0]
    assert boxes(both) == [[[60, 4, 80, 20]]] * 2
    with pytest.raises(FireEditNodeError, match="mask has shape"):
        nodes.FireEditRegionsFromMask.execute(torch.ones(1, 64, 64), 0.5, 4, "thing", wide)


def test_segs_there_and_back(images):
    segs = nodes.FireEditRegionsToSEGS.execute(two(), 1.5, images)[0]
    assert [len(items) for _, items in segs] == [2, 1] and segs[0][0] == (SIZE, SIZE)
    assert segs[0][1][0].cropped_image.shape == (1, 24, 24, 3)
    for picture_of, (_, items) in zip(images, segs, strict=True):  # each has crops of its own picture
        for seg in items:
            left, top, right, bottom = seg.crop_region
            assert torch.equal(torch.from_numpy(seg.cropped_image[0]), picture_of[top:bottom, left:right])
    out = nodes.FireEditRegionsFromSEGS.execute(segs, [images])
    back = out[0]
    assert "3 SEGS are filled rectangles" in out.ui["text"][0]
    assert boxes(back) == boxes(two()) and back[0].labels == ("cat", "dog") and back[0].masks is not None
    assert boxes(nodes.FireEditRegionsFromSEGS.execute(segs[:1], [images])[0]) == [boxes(two())[0]] * 2
    # one SEGS for both, with a mask for each
    (size, (first, *_)) = segs[0]
    both = torch.stack([torch.zeros(first.cropped_mask.shape), torch.ones(first.cropped_mask.shape)])
    made = nodes.FireEditRegionsFromSEGS.execute([(size, [first._replace(cropped_mask=both)])], [images])[0]
    assert not made[0].masks.any() and made[1].masks.any()
    with pytest.raises(FireEditNodeError, match="2 pictures came, but 3 SEGS"):
        nodes.FireEditRegionsFromSEGS.execute([*segs, segs[0]], [images])


def test_segs_of_a_picture_of_another_shape_are_stretched_and_that_is_said(images, caplog):
    (size, items) = nodes.FireEditRegionsToSEGS.execute(two(), 1.0, images)[0][0]
    wide = torch.nn.functional.pad(images[:1], (0, 0, 0, SIZE))
    out = nodes.FireEditRegionsFromSEGS.execute([(size, items)], [wide])
    assert boxes(out.args[0]) == [[[8, 4, 40, 20], [60, 30, 120, 50]]]
    said = f"the SEGS are of a picture of height {SIZE} and width {SIZE}, and were stretched to {SIZE} and {2 * SIZE}"
    assert said in out.ui["text"][0] and said in caplog.text
    larger = torch.nn.functional.interpolate(images[:1].movedim(-1, 1), scale_factor=2.01).movedim(1, -1)
    assert "stretched" not in str(nodes.FireEditRegionsFromSEGS.execute([(size, items)], [larger]).ui)
    broken = items[0]._replace(cropped_mask=items[0].cropped_mask * float("nan"))
    with pytest.raises(FireEditNodeError, match="^FireEdit Regions from SEGS: SEGS: the mask of entry 0 has values that are not numbers"):
        nodes.FireEditRegionsFromSEGS.execute([(size, [broken])], [images])


def test_regions_of_every_dialect_know_the_picture_that_they_came_with():
    """Those of a detector always did; on another picture of the same size they are refused."""
    ramp = torch.linspace(0, 0.3, SIZE).expand(1, SIZE, SIZE)[..., None].expand(-1, -1, -1, 3)
    both = torch.cat([ramp, 1 - ramp])
    box = {"x": 4, "y": 4, "width": 20, "height": 20}
    mask = torch.zeros(1, SIZE, SIZE)
    mask[:, 4:24, 4:24] = 1
    segs = nodes.FireEditRegionsToSEGS.execute(two()[1:], 1.0)[0]
    for made in (
        nodes.FireEditRegionsFromBBox.execute([box], [both], ["xywh"]), nodes.FireEditRegionsFromSEGS.execute(segs[:1], [both]),
        nodes.FireEditRegionsFromMask.execute(mask, 0.5, 4, "thing", both),
        nodes.FireEditRegionSelect.execute(both, '{"boxes": [[4, 4, 24, 24]]}'),
        nodes.FireEditRegionSelect.execute(both, "", nodes.FireEditRegionsFromBBox.execute([box], [both], ["xywh"])[0]),
    ):  # fmt: skip
        # after another edit too
        assert nodes.FireEditQuickEdit.execute(both * 0.9, "recolour: red", regions=made[0]).args[1].any(-1).any(-1).all()
        for other in (both.flip(0), torch.cat([ramp, ramp])):
            with pytest.raises(FireEditNodeError, match="Quick Edit: the regions were found on another picture"):
                nodes.FireEditQuickEdit.execute(other, "recolour: red", regions=made[0])


def test_masks_are_of_pictures_or_of_regions():
    assert [len(nodes.FireEditRegionsToMask.execute(two(), way, 0)[0]) for way in ("one per picture", "one per region")] == [2, 3]
    with pytest.raises(FireEditNodeError, match="FireEdit Regions to Mask: masks must be one per picture or one per region, got 'each'"):
        nodes.FireEditRegionsToMask.execute(two(), "each", 0)  # over a wire


def test_no_region_is_the_whole_picture_and_said():
    out = nodes.FireEditRegionsToBBox.execute([Regions.empty((30, SIZE)), two()[0]], "xywh")
    assert out.args[1][0] == [] and len(out.args[1][1]) == 2
    assert {k: out.args[2][k] for k in ("x", "y", "width", "height")} == {"x": 0, "y": 0, "width": SIZE, "height": 30}
    assert "no region in the first picture" in str(out.ui)


@pytest.mark.parametrize("layout", ["xywh", "xyxy"])
def test_boxes_there_and_back(images, layout):
    bbox, dicts, box = nodes.FireEditRegionsToBBox.execute(two(), layout).args
    assert bbox[0][1] == ((30, 30, 30, 20) if layout == "xywh" else (30, 30, 60, 50)) and dicts[0][0]["label"] == "cat"
    read = lambda value, **how: boxes(nodes.FireEditRegionsFromBBox.execute(value, [images], [layout], **how)[0])  # noqa: E731
    assert read(bbox) == boxes(two()) and read([dicts]) == boxes(two())  # an output list, and the core's one value
    assert box == dicts[0][0] and read([box]) == [boxes(two())[0][:1]] * 2
    # `RTDETR_detect` of later hosts gives its boxes as floats, a list per picture; one list serves all pictures
    floats = [[{k: float(v) if k in ("x", "y", "width", "height") else v for k, v in d.items()} for d in rows] for rows in dicts]
    assert read([floats]) == boxes(two()) and read([floats[0]]) == [boxes(two())[0]] * 2
    with pytest.raises(FireEditNodeError, match="boxes of 3 pictures came for 2"):
        read([[*dicts, dicts[0]]])
    assert read([bbox]) == boxes(two())  # as a pack hands over a batch in one value
    three = [*bbox[0], bbox[0][0]]  # one list of boxes for all pictures
    assert read([three]) == [boxes(two())[0] + boxes(two())[0][:1]] * 2 == read([torch.tensor(three)])
    assert read([bbox[0][1]]) == [[boxes(two())[0][1]]] * 2  # one box
    with pytest.raises(FireEditNodeError, match="FireEdit Regions from BBOX"):
        read([[(1, 2, 3)]])


def test_as_many_boxes_as_pictures_are_one_each_and_that_is_said(images):
    """KJNodes has the boxes of a batch as a flat list; that they may be meant for every picture too is said, and can be chosen."""
    flat = [(4, 4, 16, 16), (30, 30, 30, 20)]
    run = lambda *how: nodes.FireEditRegionsFromBBox.execute([flat], [images], ["xywh"], *how)  # noqa: E731
    out = run()
    assert boxes(out.args[0]) == [[[4, 4, 20, 20]], [[30, 30, 60, 50]]]
    assert "2 boxes came for as many pictures: one was taken for each" in out.ui["text"][0]
    out = run(["all for every picture"])
    assert boxes(out.args[0]) == [[[4, 4, 20, 20], [30, 30, 60, 50]]] * 2 and "one was taken" not in str(out.ui)


def select(images, value: dict, regions: list[Regions]):
    return nodes.FireEditRegionSelect.execute(images, json.dumps(value), regions)


def test_a_pick_of_a_batch_is_the_thing_in_its_place(images):
    """In each picture by itself; where it is missing that is said, and nothing else is edited in its stead."""
    pick = {"mode": "force", "picked": [1], "names": {"1": "my dog"}, "found": {"1": [30, 30, 60, 50]}, "picture": prints(images)[0]}
    out = select(images, pick, two())  # 1 in the first picture, 0 in the second
    assert boxes(out.args[0]) == [[[30, 30, 60, 50]]] * 2 and [one.labels for one in out.args[0]] == [("my dog",)] * 2
    assert torch.equal(out.args[1][0], out.args[1][1]) and out.args[1].sum() == 2 * 30 * 20
    cats = [two()[0], two()[0].select([0])]
    with pytest.raises(FireEditNodeError, match="^FireEdit Region Select: picture 2: region 1 of the selection, picked at 30, 30, 60, 50"):
        select(images, pick, cats)
    out = select(images, pick | {"mode": "auto"}, cats)
    assert [one.labels for one in out.args[0]] == [("cat", "my dog"), ("cat",)]
    assert "picture 2: region 1 of the selection is not among" in out.ui["text"][0] and "picture 1: " not in out.ui["text"][0]
    assert "text" not in select(images[:1], pick, two()[:1]).ui


def test_a_selection_says_on_which_pictures_of_a_batch_it_was_not_made(images):
    drawn = {"boxes": [[4, 4, 24, 24]], "picture": prints(images)[0]}
    three = torch.cat([images[:1], images[:1] * 0.97, 1 - images[:1]])
    out = select(three, drawn, [two()[0]] * 3)
    assert [one.boxes.tolist()[-1] for one in out.args[0]] == [[4, 4, 24, 24]] * 3
    assert out.ui["text"][0].endswith("same places of other pictures of the batch too: 3")
    assert "text" not in select(three[:2], drawn, [two()[0]] * 2).ui
    assert "text" not in select(three, {"boxes": [[4, 4, 24, 24]]}, [two()[0]] * 3).ui  # for any picture


def prints(images) -> list[str]:
    return [fingerprint(one.movedim(-1, 0)) for one in images]


def test_the_best_box_is_the_one_of_the_highest_score(images):
    """Wherever it stands: a box that was drawn comes behind what was found, and is surer."""
    drawn = nodes.FireEditRegionSelect.execute(images, '{"boxes": [[40, 2, 60, 12]]}', two())[0]
    assert boxes(drawn)[0][-1] == [40, 2, 60, 12]
    box = nodes.FireEditRegionsToBBox.execute(drawn, "xywh").args[2]
    assert {k: box[k] for k in ("x", "y", "width", "height")} == {"x": 40, "y": 2, "width": 20, "height": 10}


def test_drawn_elements(images):
    """The ARRAY of the core's Create Bounding Boxes (since 2026-06): rows before columns, in 0..1000, with what is there in words."""
    (allowed,) = [x.get_io_type() for x in nodes.FireEditRegionsFromBBox.define_schema().inputs if x.id == "bbox"]
    assert set(allowed.split(",")) == {"BBOX", "BOUNDING_BOX", "ARRAY"}
    element = {"type": "obj", "bbox": [250, 125, 500, 1000], "desc": "a red cat"}
    made = nodes.FireEditRegionsFromBBox.execute([[element]], [images], ["xywh"])[0]
    assert boxes(made) == [[[SIZE * 0.125, SIZE * 0.25, SIZE, SIZE * 0.5]]] * 2 and made[1].labels == ("a red cat",)


def test_filter_gives_what_fits_and_the_rest():
    run = lambda **o: nodes.FireEditRegionsFilter.execute(  # noqa: E731
        two(), **({"labels": "", "min_score": 0.0, "min_area": 0.0, "max_area": 1.0, "numbers": "", "top": 0} | o)
    ).args
    kept, rest = run(labels="DOG; bird")
    assert [one.labels for one in kept] == [("dog",), ("dog",)] and [one.labels for one in rest] == [("cat",), ()]
    assert [len(one) for one in run(min_score=0.6)[0]] == [1, 0] and [len(one) for one in run(top=1)[0]] == [1, 1]
    assert [len(one) for one in run(max_area=0.1)[0]] == [1, 0] and [one.labels for one in run(numbers="0")[0]] == [("cat",), ("dog",)]
    with pytest.raises(FireEditNodeError, match="no region 1: this picture has 1"):
        run(numbers="1")
    with pytest.raises(FireEditNodeError, match="Swap them"):
        run(min_area=0.5, max_area=0.1)
    assert "is none" in nodes.FireEditRegionsFilter.validate_inputs(numbers="two")
    assert nodes.FireEditRegionsFilter.validate_inputs(numbers="1-2") is True


def test_scores_that_are_no_probabilities_are_kept_and_said(images, caplog):
    made = nodes.FireEditRegionsFromBBox.execute([[[5, 5, 30, 30, 95.0], [2, 2, 9, 9, -1.5]]], [images[:1]], ["xyxy"])
    assert made.args[0][0].scores.tolist() == [95, -1.5] and "scores run from -1.5 to 95 instead of within 0..1" in made.ui["text"][0]
    kept, rest = nodes.FireEditRegionsFilter.execute(made.args[0], "", 0.0, 0.0, 1.0, "", 0).args
    assert len(kept[0]) == 2 and not len(rest[0])
    assert len(nodes.FireEditRegionsFilter.execute(made.args[0], "", 0.5, 0.0, 1.0, "", 0).args[0][0]) == 1
    segs = ((SIZE, SIZE), [(None, None, 40.0, (5, 5, 30, 30), (5, 5, 30, 30), "cat", None)])
    assert "from 40 to 40" in nodes.FireEditRegionsFromSEGS.execute([segs], [images[:1]]).ui["text"][0]
    assert caplog.text.count("instead of within 0..1") == 2
    assert "scores" not in nodes.FireEditRegionsFromBBox.execute([[[5, 5, 30, 30, 0.5]]], [images[:1]], ["xyxy"]).ui["text"][0]


def test_merge_joins_picture_by_picture():
    joined = nodes.FireEditRegionsMerge.execute(two(), two()[::-1], 0.6)[0]
    assert boxes(joined) == [boxes(two())[0]] * 2
    assert [len(one) for one in nodes.FireEditRegionsMerge.execute(two(), two(), 1.0)[0]] == [4, 2]
    with pytest.raises(FireEditNodeError, match="regions_a belong to 2 pictures, regions_b to 1 picture"):
        nodes.FireEditRegionsMerge.execute(two(), two()[:1], 0.6)


def test_a_detector_of_the_users_own(loaded, images, tmp_path, monkeypatch):
    pytest.importorskip("ultralytics")
    from tests.core.regions.test_own_detectors import owlv2, write_yolo

    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path))
    for key, place in detectors.FOLDERS.values():
        monkeypatch.setitem(folder_paths.folder_names_and_paths, key, ([str(tmp_path / place)], set()))
    assert detectors.list_detectors() == [detectors.BUILT_IN]
    (tmp_path / "ultralytics" / "segm" / "deep").mkdir(parents=True)
    write_yolo(tmp_path / "ultralytics" / "segm" / "deep" / "pets.pt", "Segment")
    owlv2(tmp_path / "detectors" / "owl")
    assert detectors.list_detectors() == [detectors.BUILT_IN, "detectors/owl", "segm/deep/pets.pt"]
    load = nodes.FireEditDetectorLoader
    assert load.validate_inputs("segm\\deep\\pets.pt") is True and "no detector 'x'" in load.validate_inputs("x")
    assert "no detector" in load.validate_inputs("segm/../segm/deep/pets.pt")

    pets = load.execute("segm/deep/pets.pt")[0]
    found = nodes.FireEditRegionDetect.execute(loaded[0], images, 0.2, 0.6, 5, pets)[0]
    assert len(found) == 2 and len(found[0]) and set(found[0].labels) <= {"cat", "dog"} and found[0].masks is not None
    nodes.FireEditRegionTokenize.execute(loaded[0], images, found)
    owl = load.execute("detectors/owl")[0]
    assert set(nodes.FireEditRegionDetect.execute(loaded[0], images, 0.0, 0.9, 5, owl, "cat, dog")[0][1].labels) <= {"cat", "dog"}
    with pytest.raises(FireEditNodeError, match="FireEdit Region Detect.*Write a prompt"):
        nodes.FireEditRegionDetect.execute(loaded[0], images, 0.0, 0.9, 5, owl)
    state = load.fingerprint_inputs("segm/deep/pets.pt")
    write_yolo(tmp_path / "ultralytics" / "segm" / "deep" / "pets.pt", "Segment", ("cat", "dog", "owl"))
    assert load.fingerprint_inputs("segm/deep/pets.pt") != state


@pytest.mark.parametrize("family", ["grounding_dino", "owlv2"])
def test_a_noun_phrase_is_the_prompt_of_a_detector_that_reads_one(images, tmp_path, family):
    """Any thing can be named: the instruction's words are asked for, and Ground finds them by the same words."""
    torch.manual_seed(0)
    getattr(test_own_detectors, family)(tmp_path / "model")
    reader = detectors.LoadedDetector("model", load_detector(tmp_path / "model"))
    asked = []
    propose = reader.detector.propose
    reader.detector.propose = lambda *given: asked.append(given[1:]) or propose(*given)

    def detect(threshold=0.0, **words):
        return nodes.FireEditRegionDetect.execute(
            image=images, score_threshold=threshold, iou_threshold=0.9, max_regions=5, detector=reader, **words
        )

    output = detect(instruction="remove the red lantern next to the cat")
    assert [prompt for _, _, prompt in asked] == ["lantern, cat"] * 2 and "looked for: lantern, cat\n" in output.ui["text"][0]
    regions = output.args[0]
    assert set(regions[0].labels) <= {"lantern", "cat", "object"} and regions[0].labels
    named = [replace(one, labels=("lantern",) * len(one)) for one in two()]
    assert "remove lantern" in str(nodes.FireEditGround.execute(images, "remove the lantern", named).ui)
    # a prompt goes before it; where no thing is named, any is looked for; the threshold is the family's own
    assert "looked for: cat\n" in str(detect(prompt="cat", instruction="remove the dog").ui["text"][0])
    assert "looked for: object\n" in detect(instruction="blur the background").ui["text"][0]
    assert "lower score_threshold" in detect(-1.0, prompt="cat").ui["text"][0].lower() or asked[-1][0] == reader.detector.own_threshold
    assert asked[-1][0] == reader.detector.own_threshold == (0.1 if family == "owlv2" else 0.25)
    for words, said in (
        ({}, "this detector looks for what it is told. Write a prompt"), ({"instruction": "entferne die Katze"}, "German.*name the things"),
        ({"instruction": "x" * 5000}, "5000 characters"), ({"prompt": "cat " * 3000}, "is too long"), ({"prompt": ","}, "names nothing"),
    ):  # fmt: skip
        with pytest.raises(FireEditNodeError, match=f"(?s)^FireEdit Region Detect: .*{said}"):
            detect(**words)


def test_words_that_a_detector_does_not_read_are_named(images):
    photo = detectors.load(detectors.BUILT_IN)
    text = lambda **words: nodes.FireEditRegionDetect.execute(image=images[:1], detector=photo, **words).ui["text"][0]  # noqa: E731
    assert "did not count" not in text(prompt=" ")
    assert "\nprompt did not count: this detector finds what it was trained on" in text(prompt="helmet")
    assert "\nprompt and instruction did not count" in text(prompt="helmet", instruction="remove the helmet")


def test_the_threshold_is_the_detectors_own_where_none_is_said(images, loaded):
    photo = detectors.load(detectors.BUILT_IN)
    asked = []
    for chosen in (photo.detector, loaded[0].editor.detector):
        detect = chosen.detect
        chosen.detect = lambda *given, detect=detect, **more: asked.append(given[1]) or detect(*given, **more)
    try:
        for threshold in (-1.0, 0.0, 0.2):
            nodes.FireEditRegionDetect.execute(loaded[0], images[:1], threshold, 0.6, 5)
            nodes.FireEditRegionDetect.execute(loaded[0], images[:1], threshold, 0.6, 5, photo)
        assert asked == [0.15, 0.35, 0.0, 0.0, 0.2, 0.2]
        report = nodes.FireEditRegionDetect.execute(image=images[:1] * 0, score_threshold=-1.0, detector=photo).ui["text"][0]
        assert "Lower score_threshold (0.35 here)" in report
    finally:
        for chosen in (photo.detector, loaded[0].editor.detector):
            del chosen.detect


def test_the_detector_of_the_pack_needs_no_bundle(images, monkeypatch):
    load, detect = nodes.FireEditDetectorLoader, nodes.FireEditRegionDetect
    assert load.validate_inputs(detectors.BUILT_IN) is True and load.fingerprint_inputs(detectors.BUILT_IN)
    named = {one.id: one for one in load.define_schema().inputs}
    assert named["detector"].options[0] == detectors.BUILT_IN
    ours = load.execute(detectors.BUILT_IN)[0]
    found = detect.execute(image=images, score_threshold=0.01, iou_threshold=0.6, max_regions=5, detector=ours)
    assert len(found[0]) == 2 and 0 < len(found[0][0]) <= 5 and found[0][0].image_size == (SIZE, SIZE)
    assert found[0][0].labels[0] in str(found.ui)
    grey_and_small = detect.execute(image=torch.zeros(1, 1, 1, 1), score_threshold=0.4, iou_threshold=0.6, max_regions=5, detector=ours)[0]
    assert len(grey_and_small[0]) == 0 and grey_and_small[0].image_size == (1, 1)
    with pytest.raises(FireEditNodeError, match="FireEdit Region Detect: .*FireEdit Detector Loader.*FireEdit Loader"):
        detect.execute(image=images, score_threshold=0.4, iou_threshold=0.6, max_regions=5)
    monkeypatch.setattr(detectors, "_BUILT_IN_FOLDER", detectors.OWN_MODELS / "gone")
    assert detectors.BUILT_IN not in detectors.list_detectors()
    assert "there is no detector" in load.validate_inputs(detectors.BUILT_IN)
