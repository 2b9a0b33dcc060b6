# SPDX-License-Identifier: GPL-3.0-or-later
from collections import namedtuple

import numpy as np
import pytest
import torch

from fireedit_core.regions import dialects
from fireedit_core.regions.record import Regions

SIZE = (40, 60)


def make(masks: bool = False) -> Regions:
    boxes = torch.tensor([[10.0, 5.0, 30.0, 25.0], [40.0, 20.0, 58.0, 39.0]])
    area = None
    if masks:
        area = torch.zeros(2, *SIZE)
        area[0, 8:20, 12:28] = area[1, 25:30, 45:50] = 1
    return Regions(boxes, torch.tensor([0.9, 0.6]), ("cat", "dog"), SIZE, area)


def same(a: Regions, b: Regions) -> bool:
    return torch.equal(a.boxes, b.boxes) and torch.allclose(a.scores, b.scores) and a.labels == b.labels


@pytest.mark.parametrize("factor", [1.0, 1.7])
@pytest.mark.parametrize("masks", [False, True])
def test_segs_round_trip(masks, factor):
    image = torch.rand(1, *SIZE, 3)
    (height, width), segs = value = dialects.to_segs(make(masks), image, factor)
    assert (height, width) == SIZE and segs[0].label == "cat" and segs[0].bbox == (10, 5, 30, 25)
    x1, y1, x2, y2 = segs[0].crop_region
    assert segs[0].cropped_mask.shape == (y2 - y1, x2 - x1) and segs[0].cropped_mask.dtype == np.float32
    assert np.array_equal(segs[0].cropped_image, image[:, y1:y2, x1:x2].numpy())
    back = dialects.from_segs(value)
    assert same(back, make())
    expected = make(True).masks[0] if masks else dialects.to_mask(make().select([0]))
    assert torch.equal(back.masks[0], expected)


def test_segs_of_other_packs():
    other = namedtuple("Seg", "cropped_image cropped_mask confidence crop_region bbox label")
    box, score = np.array([10, 5, 30, 25]), np.array([0.7], np.float32)
    first = other(None, torch.ones(1, 20, 20), score, box.tolist(), box, "x")
    second = (None, None, None, [-5, -5, 10, 10], None, None)  # a plain tuple, partly outside, with a crop region only
    regions = dialects.from_segs(((40, 60), [first, second]), image_size=(80, 60))
    assert regions.labels == ("object", "x") and regions.image_size == (80, 60)
    assert regions.boxes[1].tolist() == [10, 10, 30, 50]  # width and height scaled by their own ratios
    assert regions.masks[1].sum() > 700 and regions.boxed == (True, True)
    assert len(dialects.from_segs(((40, 60), []))) == 0
    with pytest.raises(ValueError, match="SEGS must be"):
        dialects.from_segs([1, 2, 3])


@pytest.mark.parametrize("grow", [0, 3])
def test_a_rectangle_is_no_outline(grow):
    """Detectors of boxes (Impact Pack, FaceDetailer) make SEGS whose masks are their boxes, grown or not; nobody cut anything out there."""
    crop, box = (0, 0, 40, 40), (10, 12, 30, 25)
    mask = torch.zeros(40, 40)
    mask[12 - grow : 25 + grow, 10 - grow : 30 + grow] = 1
    cut_out, soft, empty = mask.clone(), mask * 0.9, mask * 0
    cut_out[12 - grow, 10 - grow] = 0
    segs = [dialects.SEG(None, one.numpy(), 0.9 - 0.1 * i, crop, box, "x") for i, one in enumerate((mask, cut_out, soft, empty))]
    found = dialects.from_segs(((40, 60), segs))
    assert found.boxed == (True, False, False, False) and torch.equal(found.masks[0, :, :40], mask)
    plain = dialects.from_segs(dialects.to_segs(make(), None, 1.7))
    assert plain.boxed == (True,) * len(plain)  # there and back, and no region has got an outline


def test_segs_with_a_mask_for_each_picture_of_a_batch():
    """What detectors of moving pictures make; every picture used to get the first one's."""
    masks = torch.zeros(3, 20, 20)
    masks[0, :, :5], masks[1, :, 5:15], masks[2] = 1, 1, 1
    segs = ((40, 60), [dialects.SEG(None, masks.numpy(), 0.7, [10, 5, 30, 25], [10, 5, 30, 25], "x")])
    found = [dialects.from_segs(segs, None, i, 3).masks[0] for i in range(3)]
    assert [int(m.sum()) for m in found] == [100, 200, 400]
    assert found[1][5:25, 15:25].all() and not found[1][:, :15].any()
    with pytest.raises(ValueError, match="entry 0 has masks of 3 pictures, but there are 2"):
        dialects.from_segs(segs, None, 0, 2)
    with pytest.raises(ValueError, match="entry 0 has masks of 3 pictures, but there is 1"):
        dialects.from_segs(segs)


@pytest.mark.parametrize("layout", ["xywh", "xyxy"])
def test_bbox_round_trip(layout):
    boxes = dialects.to_bboxes(make(), layout)
    assert boxes[0] == ((10, 5, 20, 20) if layout == "xywh" else (10, 5, 30, 25))
    assert torch.equal(dialects.from_bboxes(boxes, SIZE, layout).boxes, make().boxes)


@pytest.mark.parametrize(
    "value",
    [
        (10, 5, 20, 20),
        [(10, 5, 20, 20)],
        [[[10, 5, 20, 20]]],
        torch.tensor([[[10, 5, 20, 20]]]),
        [np.array([10, 5, 20, 20])],
        tuple(torch.tensor([10, 5, 20, 20])),
        {"bboxes": [[10, 5, 20, 20]], "labels": ["object"]},
        [{"x": 10, "y": 5, "width": 20, "height": 20}],
    ],
)
def test_bbox_in_any_nesting(value):
    assert dialects.from_bboxes(value, SIZE, "xywh").boxes.tolist() == [[10, 5, 30, 25]]


def test_bbox_errors():
    assert len(dialects.from_bboxes([], SIZE, "xywh")) == len(dialects.from_bboxes([[]], SIZE, "xyxy")) == 0
    for value, layout, message in [
        ([(1, 2, 3)], "xywh", "four numbers"),
        ([(10, 10, 5, 5)], "xyxy", "choose layout xywh"),
        ([(1, 1, 5, 5)], "yxyx", "layout must be"),
        ([{"x": 1}], "xywh", "needs the keys"),
        ("1,2,3,4", "xywh", "expected boxes"),
    ]:
        with pytest.raises(ValueError, match=message):
            dialects.from_bboxes(value, SIZE, layout)


def test_bounding_box_dicts_per_picture():
    dicts = dialects.to_bounding_boxes(make())
    numbers = {"x": 10, "y": 5, "width": 20, "height": 20}
    assert dicts[0] == numbers | {"label": "cat", "score": pytest.approx(0.9), "metadata": {"desc": "cat"}}
    # Create Bounding Boxes of later hosts hands on four numbers and the metadata: the name is still there
    kept = [{key: box[key] for key in (*numbers, "metadata")} for box in dicts]
    assert dialects.from_bounding_boxes(kept, SIZE)[0].labels == make().labels
    for value, count in [(dicts, 1), ([dicts, dicts], 2), (dicts[0], 1), ([[], dicts], 2), ([], 1)]:
        assert len(dialects.from_bounding_boxes(value, SIZE)) == count
    assert same(dialects.from_bounding_boxes([[], dicts], SIZE)[1], make())
    nested = {"x": 1, "y": 1, "width": 4, "height": 4, "metadata": {"label": "tree", "score": 0.25}}
    (regions,) = dialects.from_bounding_boxes(nested, SIZE)
    assert regions.labels == ("tree",) and regions.scores.tolist() == [0.25]


@pytest.mark.parametrize("feather", [0, 1, 2, 5, 8])
def test_mask_feather_fades_outwards_only(feather):
    hard, soft = dialects.to_mask(make()), dialects.to_mask(make(), feather)
    assert torch.equal(soft[hard == 1], torch.ones(int(hard.sum())))
    assert soft[10, 9 - feather] == 0 and soft[10, 9] == (0 if feather == 0 else soft[10, 9])
    row = soft[10, :11]
    assert (row[1:] >= row[:-1]).all() and (feather == 0 or 0 < row[9] <= 1)
    assert dialects.to_mask(Regions.empty(SIZE), feather).sum() == 0


@pytest.mark.parametrize("scipy", [True, False])
def test_mask_to_regions(scipy, monkeypatch):
    if not scipy:
        monkeypatch.setattr(dialects, "_components", dialects._spread)
    mask = torch.zeros(2, 20, 20)
    mask[0, 2:5, 2:5] = mask[0, 5:12, 5:9] = 1.0  # touch at a corner: one part
    mask[0, 15, 15] = 1.0  # too small
    mask[0, 0:2, 10:20] = 0.7
    blank, first = dialects.from_mask(mask[1])[0], dialects.from_mask(mask)[0]
    assert len(blank) == 0 and blank.image_size == (20, 20)
    assert first.boxes.tolist() == [[2, 2, 9, 12], [10, 0, 20, 2]]  # largest first
    assert torch.equal(dialects.to_mask(first), (first.masks.sum(0) > 0).float())
    with pytest.raises(ValueError, match="MASK"):
        dialects.from_mask(torch.zeros(4))


def test_json():
    (back,) = dialects.from_json(dialects.to_json(make(True)))
    assert same(back, make()) and torch.equal(back.masks, make(True).masks)
    assert len(dialects.from_json(dialects.to_json([make(), Regions.empty(SIZE)]))) == 2
    assert dialects.from_json("[[1, 2, 3, 4]]", SIZE)[0].boxes.tolist() == [[1, 2, 3, 4]]
    for text in ("{", "[[1, 2, 3, 4]]", '{"a": 1}'):
        with pytest.raises(ValueError, match="JSON"):
            dialects.from_json(text)


@pytest.mark.parametrize(
    ("boxes", "layout", "said"),
    [
        ([(0.1, 0.2, 0.5, 0.6)], "xywh", r"looks like shares of the picture \(0..1\).*60 x 40"),
        ([(0.0, 0.0, 1.0, 1.0)], "xyxy", "shares of the picture"),
        # a wide picture's right half, as x1, y1, x2, y2
        ([(30, 5, 58, 25)], "xywh", "reaches to 88, 30.*Choose layout xyxy"),
        ([(1, 1, 5, 5), (30, 5, 58, 25)], "xywh", "as x1, y1, x2, y2 all boxes fit"),
        ([(100, 200, 700, 900)], "xyxy", "coordinates of 0..1000"),
        ([(70, 5, 20, 20)], "xywh", "lies outside, the picture is 60 x 40"),
        ([(-30, 5, 20, 20)], "xywh", "lies outside"),
        ([(10, 10, 0, 20)], "xywh", "has no size"),
        ([(10, 10, 10, 30)], "xyxy", "has no size"),
        ([(10, 5, 20, 20), (70, 5, 20, 20)], "xywh", r"\(70, 5, 20, 20\)"),
    ],
)
def test_boxes_of_another_dialect_are_refused_with_what_they_look_like(boxes, layout, said):
    """They used to be taken as they were, and the picture came back unedited."""
    for value in (boxes, torch.tensor(boxes), [list(box) for box in boxes]):
        with pytest.raises(ValueError, match=said):
            dialects.from_bboxes(value, SIZE, layout)


@pytest.mark.parametrize(
    ("box", "layout"),
    [((0, 0, 60, 40), "xywh"), ((0, 0, 60, 40), "xyxy"), ((59, 39, 1, 1), "xywh"), ((-1, -0.5, 30, 20), "xywh"), ((40, 20, 21, 20), "xywh"),
     ((30, 20, 60, 90), "xywh"), ((0, 0, 1, 1), "xyxy")],
)  # fmt: skip
def test_boxes_that_fit_or_stick_out_are_taken(box, layout):
    """Detectors round, and a box of a thing that the frame cuts may reach beyond it; a picture of one pixel has boxes of 0..1."""
    size = (1, 1) if box == (0, 0, 1, 1) else SIZE
    assert len(dialects.from_bboxes([box], size, layout)) == 1


def test_the_cores_drawn_boxes_keep_their_names():
    drawn = {"x": 6, "y": 4, "width": 12, "height": 8, "metadata": {"type": "obj", "text": "", "desc": "a tall tree", "palette": []}}
    element = {"type": "obj", "bbox": [100, 100, 300, 300], "desc": "a tall tree", "color_palette": ["#ff0000"]}
    for value in (drawn, [drawn], [[drawn]], [element], [[element]]):
        (regions,) = dialects.from_bounding_boxes(value, SIZE)
        assert regions.boxes.tolist() == [[6, 4, 18, 12]] and regions.labels == ("a tall tree",)
    (text,) = dialects.from_bounding_boxes([{"type": "text", "bbox": [0, 0, 500, 1000], "text": "SALE"}], SIZE)
    assert text.labels == ("SALE",) and text.boxes.tolist() == [[0, 0, 60, 20]]
    with pytest.raises(ValueError, match="ymin, xmin, ymax, xmax"):
        dialects.from_bounding_boxes([{"bbox": [1, 2]}], SIZE)


def test_a_noisy_mask_keeps_its_largest_parts(monkeypatch):
    """1024 px of noise have thousands of parts: a mask of the picture's size for each took 17 GB."""
    mask = torch.zeros(60, 60)
    mask[::3, ::3] = 1  # 400 specks
    mask[0, 0:2] = mask[30, 30:33] = 1
    cut = []
    (kept,) = dialects.from_mask(mask, min_area=1, on_cut=lambda *n: cut.append(n))
    assert len(kept) == dialects.MOST_PARTS and len(cut) == 1 and cut[0][1] == dialects.MOST_PARTS < cut[0][0]
    assert float(kept.masks[0].sum()) >= float(kept.masks[-1].sum()) and kept.boxes[0].tolist() in ([30, 30, 34, 31], [30, 30, 33, 31])
    monkeypatch.setattr(dialects, "MOST_MASK_PIXELS", 5 * 60 * 60)
    assert len(dialects.from_mask(mask, min_area=1)[0]) == 5
    assert len(dialects.from_mask(mask, min_area=2, on_cut=lambda *_: pytest.fail("nothing was cut"))[0]) <= 3


# --- numbers, written out ------------------------------------------------------------------------------------------------


def test_a_mask_that_sticks_out_keeps_its_place():
    """What lies outside on the left and at the top is cut off there, and not at the other end."""
    mask = np.arange(1, 13, dtype=np.float32).reshape(3, 4) / 12
    found = dialects.from_segs(((20, 30), [dialects.SEG(None, mask, 0.5, (-2, -1, 2, 2), (0, 0, 2, 2), "cat")]))
    assert torch.allclose(found.masks[0, :2, :2], torch.from_numpy(mask[1:, 2:])) and float(found.masks[0].sum()) == pytest.approx(
        float(mask[1:, 2:].sum())
    )


def test_crops_are_enlarged_by_their_factor():
    one = Regions(torch.tensor([[20.0, 30, 40, 40]]), torch.ones(1), ("cat",), (100, 200))
    (height, width), (seg,) = dialects.to_segs(one, crop_factor=2.0)
    assert (height, width) == (100, 200) and seg.crop_region == (10, 25, 50, 45) and seg.bbox == (20, 30, 40, 40)
    wanted = np.zeros((20, 40), np.float32)
    wanted[5:15, 10:30] = 1
    assert np.array_equal(seg.cropped_mask, wanted)


def test_boxes_of_one_picture_serve_all():
    boxes = [(1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12)]
    assert dialects.split_by_picture(boxes, 2) == [boxes, boxes]
    assert dialects.split_by_picture((1, 2, 3, 4), 4) == [(1, 2, 3, 4)] * 4  # one box, not four
    frames = [[(1, 2, 3, 4)], [(5, 6, 7, 8), (9, 10, 11, 12)]]
    assert dialects.split_by_picture(frames, 2) == frames


def test_as_many_boxes_as_pictures_are_one_each():
    """So KJNodes gives those of a batch; whoever means all of them for every picture says so."""
    boxes = [(1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12)]
    size = (40, 40)

    def read(value, count=3, **how):
        return [dialects.from_bboxes(one, size, "xywh").boxes.tolist() for one in dialects.split_by_picture(value, count, **how)]

    wanted = [[[1, 2, 4, 6]], [[5, 6, 12, 14]], [[9, 10, 20, 22]]]
    for flat in (boxes, tuple(boxes), torch.tensor(boxes), np.array(boxes), [torch.tensor(box) for box in boxes]):
        assert read(flat) == wanted and dialects.is_one_each(flat, 3)
        assert read(flat, one_each=False) == [sum(wanted, [])] * 3 and not dialects.is_one_each(flat, 2)
    # a stack with the boxes of each picture was never in doubt
    stacked = torch.tensor(boxes)[:, None]
    assert read(stacked) == wanted == read(stacked, one_each=False) and not dialects.is_one_each(stacked, 3)
    dicts = [{"x": 1, "y": 2, "width": 3, "height": 4}] * 3
    assert not dialects.is_one_each(dicts, 3) and [len(one) for one in read(dicts)] == [3] * 3
    assert not dialects.is_one_each(boxes[:1], 1)


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ((400, 600), (200, 300), True),
        ((480, 640), (481, 640), True),  # rounded to whole pixels
        ((400, 600), (400, 605), True),
        ((400, 600), (400, 615), False),
        ((400, 600), (400, 640), False),
        ((400, 600), (600, 400), False),
        ((3, 4), (4, 5), True),  # of few pixels
    ],
)
def test_of_one_shape_but_for_rounding(one, two, same):
    assert dialects.same_shape(one, two) is same and dialects.same_shape(two, one) is same


def test_labels_and_numbers_of_wrong_types_are_refused_in_words():
    box = [[1, 2, 9, 8], [1, 2, 9, 8]]
    assert dialects.from_bboxes({"bboxes": box, "labels": "cat"}, SIZE, "xyxy").labels == ("cat", "cat")  # it used to be "c" and "a"
    for labels in (3, True, {"a": 1}):
        with pytest.raises(ValueError, match="labels must be a list"):
            dialects.from_bboxes({"bboxes": box, "labels": labels}, SIZE, "xyxy")
    with pytest.raises(ValueError, match="no number that can be used"):
        dialects.from_bboxes([[1, 2, 10**400, 8]], SIZE, "xyxy")
