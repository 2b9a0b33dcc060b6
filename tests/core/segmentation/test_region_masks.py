# SPDX-License-Identifier: GPL-3.0-or-later
"""Boxes to masks: GrabCut on drawn scenes, edges, who keeps an overlap, fallbacks, quality, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fireedit_core.opencv import bytes_of
from fireedit_core.regions.record import Regions
from fireedit_core.regions.selection import merge_regions
from fireedit_core.segmentation import matting
from fireedit_core.segmentation import region_masks as rule
from fireedit_core.segmentation.grabcut import GrabCut, _inside_and_radius, like_surroundings, without_specks
from fireedit_core.segmentation.overlaps import take_off
from fireedit_core.segmentation.quality import edge_share, quality_of
from fireedit_core.segmentation.region_masks import BOX, GIVEN, most_masks, region_masks, what_is_wrong
from fireedit_core.segmentation.segmenter import bounds, check_boxes, crop_around

pytest.importorskip("cv2", reason="needs OpenCV")
SIZE = (120, 160)


def disc(middle=(80, 60), radius=30, size=SIZE):
    rows, columns = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    return ((columns - middle[0]) ** 2 + (rows - middle[1]) ** 2).sqrt() < radius


def scene(*things, size=SIZE):
    """A grainy green picture (3, H, W) with coloured things (mask, colour), later ones in front."""
    grain = 0.06 * torch.randn(3, *size, generator=torch.Generator().manual_seed(1))
    picture = torch.tensor([0.2, 0.5, 0.2])[:, None, None].expand(3, *size).clone()
    for mask, colour in things:
        picture[:, mask] = torch.tensor(colour)[:, None]
    return (picture + grain).clamp(0, 1)


def regions_of(*boxes, labels=None, size=SIZE, scores=None):
    return Regions(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(scores or [0.9] * len(boxes)),
        tuple(labels or ["thing"] * len(boxes)), size,
    )  # fmt: skip


def iou(a, b):
    return float(((a > 0.5) & (b > 0.5)).sum() / ((a > 0.5) | (b > 0.5)).sum())


class Fixed:
    """A segmenter that gives the same mask for every box."""

    soft, blind = False, False

    def __init__(self, mask, family="fixed"):
        self.mask, self.family, self.asked = mask.float(), family, 0

    def pixel(self, box, size):
        return 1.0

    def segment(self, image, boxes, progress=None):
        self.asked += len(boxes)
        return self.mask[None].expand(len(boxes), -1, -1).clone()


def test_a_disc_is_cut_out_at_the_size_of_the_photo():
    for size, middle, radius in ((SIZE, (80, 60), 30), ((900, 1300), (600, 500), 320)):
        truth = disc(middle, radius, size)
        box = (middle[0] - radius, middle[1] - radius, middle[0] + radius, middle[1] + radius)
        out, (report,) = region_masks(scene((truth, (0.8, 0.2, 0.2)), size=size), regions_of(box, size=size), GrabCut())
        assert out.masks.shape == (1, *size) and iou(out.masks[0], truth) > 0.985
        assert report.family == "grabcut" and report.quality > 0.9 and not report.doubtful
        assert abs(report.area - float(truth.float().mean())) < 0.01
        soft = (out.masks[0] > 0.01) & (out.masks[0] < 0.99)
        assert 0 < soft.sum() < 2 * 3.2 * radius * 2 * matting.BAND  # a band along the edge, no blur


def test_ground_between_legs_is_not_the_thing():
    """An arch, open below: the middle of its box is ground, of which there is more around the box."""
    arch = torch.zeros(SIZE, dtype=torch.bool)
    arch[20:110, 40:120] = True
    arch[60:110, 68:92] = False
    out, _ = region_masks(scene((arch, (0.8, 0.2, 0.2))), regions_of((40, 20, 120, 110)), GrabCut())
    assert iou(out.masks[0], arch) > 0.95 and float(out.masks[0, 70:105, 73:87].max()) == 0


def test_colours_that_are_everywhere_tell_nothing():
    """A thing of the colours around it keeps its middle; and so does what they surround but do not reach."""
    small = np.full((60, 60, 3), 90, np.uint8)
    box, core = np.zeros((60, 60), bool), np.zeros((60, 60), bool)
    box[15:45, 15:45], core[22:38, 22:38] = True, True
    assert not (like_surroundings(small, ~box, core) & core).any()
    small[15:45, 15:45] = (200, 40, 40)
    small[28:32, 28:32] = 90
    assert not (like_surroundings(small, ~box, core) & core).any()  # grey in the middle of red joins no grey outside
    small[28:32, 28:] = 90
    found = like_surroundings(small, ~box, core)
    assert found[28:32, 28:].all() and not found[22:27, 22:38].any()


def test_a_close_up_shows_what_is_behind_it_in_the_corners():
    truth = disc((80, 60), 78)  # the frame cuts it on top and below, and nearly touches it on both sides
    for box in ((0, 0, 160, 120), (1, 0, 160, 119)):
        out, (report,) = region_masks(scene((truth, (0.8, 0.2, 0.2))), regions_of(box), GrabCut())
        assert report.family == "grabcut" and iou(out.masks[0], truth) > 0.95
        assert float(out.masks[0, :8, :8].max()) == 0 and out.masks[0, 60, 80] == 1


def test_the_frame_may_cut_a_thing():
    truth = disc((0, 60), 40)
    out, _ = region_masks(scene((truth, (0.8, 0.2, 0.2))), regions_of((0, 20, 40, 100)), GrabCut())
    assert iou(out.masks[0], truth) > 0.95 and out.masks[0, 60, 0] == 1


def test_the_same_photo_gives_the_same_mask():
    picture = scene((disc(), (0.8, 0.2, 0.2)))
    first, second = (region_masks(picture, regions_of((50, 30, 110, 90)), GrabCut())[0].masks for _ in range(2))
    assert torch.equal(first, second)


def test_a_person_in_front_of_a_bus():
    bus, person = torch.zeros(SIZE, dtype=torch.bool), torch.zeros(SIZE, dtype=torch.bool)
    bus[30:100, 20:140], person[40:110, 60:80] = True, True
    picture = scene((bus, (0.2, 0.2, 0.9)), (person, (0.9, 0.8, 0.2)))
    regions = regions_of((20, 30, 140, 100), (60, 40, 80, 110), labels=("bus", "person"))
    out, (of_bus, of_person) = region_masks(picture, regions, GrabCut())
    assert out.masks[0, 70, 70] == 0 and out.masks[0, 70, 30] == 1 and out.masks[1, 70, 70] == 1
    assert iou(out.masks[0], bus & ~person) > 0.9 and iou(out.masks[1], person) > 0.9
    assert of_bus.taken_by == ("person",) and not of_person.taken_by and "without person in front" in str(of_bus)
    assert out.masks.sum(0).max() <= 1.01


def test_two_that_overlap_keep_their_own_side():
    masks = torch.zeros(2, *SIZE)
    masks[0, 40:80, 20:90], masks[1, 40:80, 70:140] = 1, 1
    taken = take_off(regions_of((20, 40, 90, 80), (70, 40, 140, 80)), masks)
    assert masks.sum(0).max() == 1 and taken == [{1}, {0}]
    assert masks[0, 60, 71] == 1 and masks[1, 60, 71] == 0 and masks[1, 60, 88] == 1 and masks[0, 60, 88] == 0


@pytest.mark.parametrize(
    ("boxes", "labels"),
    [(((20, 20, 100, 100), (22, 20, 100, 98)), ("cat", "dog")), (((20, 20, 100, 100), (50, 40, 60, 80)), ("person", "tie"))],
)
def test_one_thing_found_twice_and_what_is_worn_are_left_alone(boxes, labels):
    masks = torch.zeros(2, *SIZE)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
    before = masks.clone()
    assert take_off(regions_of(*boxes, labels=labels), masks) == [set(), set()] and torch.equal(masks, before)


def test_a_doubtful_find_within_a_thing_is_a_part_of_it():
    """The eye of a cat, taken for a phone. A sure find, a larger one, and one at the cat's edge keep their place."""
    boxes = ((20, 20, 140, 110), (60, 50, 74, 64))
    for score, box, kept in ((0.4, boxes[1], 1), (0.8, boxes[1], 0), (0.4, (60, 30, 100, 80), 0), (0.4, (18, 50, 32, 64), 0)):
        masks = torch.zeros(2, *SIZE)
        for mask, (x1, y1, x2, y2) in zip(masks, (boxes[0], box), strict=True):
            mask[y1:y2, x1:x2] = 1
        x, y = (max(box[0], 20) + box[2]) // 2, (box[1] + box[3]) // 2
        taken = take_off(regions_of(boxes[0], box, labels=("cat", "phone"), scores=[0.45, score]), masks)
        assert masks[0, y, x] == kept and taken == [set() if kept else {1}, set()], (score, box)
        assert masks[1, y, x] == 1


@pytest.mark.parametrize(
    ("large", "small", "part"),
    [
        ("cat", "cell phone", True), ("person", "remote", True), ("dog", "sports ball", True), ("pizza", "carrot", True),
        ("bed", "book", False), ("dining table", "cup", False), ("sofa", "cat", False), ("bowl", "spoon", False),
        ("Couch", "remote", False), ("bus", "person", False), ("boat", "dog", False), ("motorcycle", "clock", True),
        ("car", "sports ball", True), ("thing", "thing", True),
    ],
)  # fmt: skip
def test_what_lies_on_furniture_is_no_part_of_it(large, small, part):
    """However doubtful the find: a bed that becomes blue leaves the book as it is. A wheel taken for a clock is the motorcycle's."""
    masks = torch.zeros(2, *SIZE)
    masks[0, 20:110, 20:140], masks[1, 50:64, 60:74] = 1, 1
    taken = take_off(regions_of((20, 20, 140, 110), (60, 50, 74, 64), labels=(large, small), scores=[0.7, 0.4]), masks)
    assert bool(masks[0, 57, 67]) == part and taken == [set() if part else {1}, set()]
    assert masks[1].sum() == 14 * 14  # whoever names the small thing gets all of it


def test_a_box_for_want_of_a_mask_yields_to_masks():
    """Whichever of the two is smaller, or nearer to the middle of its box."""
    for boxes in (((60, 40, 80, 70), (20, 30, 140, 100)), ((20, 30, 140, 100), (60, 40, 80, 70)), ((20, 40, 90, 80), (70, 40, 140, 80))):
        for rough in (0, 1):
            masks = torch.zeros(2, *SIZE)
            for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
                mask[y1:y2, x1:x2] = 1
            before = masks.clone()
            taken = take_off(regions_of(*boxes), masks, {rough})
            assert torch.equal(masks[1 - rough], before[1 - rough]) and masks.sum(0).max() == 1
            assert taken[rough] == {1 - rough} and not taken[1 - rough]


def test_families_are_asked_in_turn_and_then_the_box_is_the_mask():
    picture, truth = scene((disc(), (0.8, 0.2, 0.2))), disc()
    box = (50, 30, 110, 90)
    nothing, half = Fixed(torch.zeros(SIZE), "empty"), torch.zeros(SIZE)
    half[60:62, 50:110] = 1
    out, (report,) = region_masks(picture, regions_of(box), nothing, (Fixed(half, "thin"), GrabCut()))
    assert report.family == "grabcut" and report.failed == ("empty found nothing", "thin found only 3% of the box")
    assert iou(out.masks[0], truth) > 0.95
    out, (report,) = region_masks(picture, regions_of(box), nothing)
    assert report.family == BOX and report.doubtful and out.masks[0].sum() == 60 * 60 and "look at it" in str(report)
    cut = torch.zeros(SIZE)
    cut[50:55, 0:40] = 1
    assert what_is_wrong(cut, torch.tensor([0.0, 20, 40, 100])) == "found only 6% of the box, which the photo's frame cuts"


def test_a_segmenter_that_knows_no_box_gets_a_second_opinion():
    """It cut out half of the thing, and something beyond the box: GrabCut's mask looks better. One that was told the box is believed."""
    picture, truth = scene((disc(), (0.8, 0.2, 0.2))), disc()
    box, part = (50, 30, 110, 90), truth.clone()
    part[:, 95:] = 0
    part[:, 125:] = 1
    known, blind = Fixed(part, "known"), Fixed(part, "blind")
    blind.blind = True
    out, (report,) = region_masks(picture, regions_of(box), blind, (GrabCut(),))
    assert report.family == "grabcut" and report.failed[0].startswith("blind only 0.") and iou(out.masks[0], truth) > 0.95
    out, (report,) = region_masks(picture, regions_of(box), known, (GrabCut(),))
    assert report.family == "known" and out.masks[0, :, 120:].max() == 0
    good = Fixed(truth, "blind")
    good.blind = True
    assert region_masks(picture, regions_of(box), good, (never := Fixed(truth),))[1][0].family == "blind" and never.asked == 0


@pytest.mark.parametrize(("second", "kept"), ((0.85, "blind"), (0.95, "other")))
def test_a_second_opinion_counts_only_where_it_is_clearly_better(monkeypatch, second, kept):
    blind, looks = Fixed(disc(), "blind"), iter((0.8, second, 1.0))
    blind.blind = True
    monkeypatch.setattr(rule, "quality_of", lambda *_: next(looks))
    _, (report,) = region_masks(scene(), regions_of((50, 30, 110, 90)), blind, (Fixed(disc(), "other"),))
    assert report.family == kept


def test_masks_that_the_regions_bring_are_kept_and_sharpened():
    truth, never = disc(), Fixed(torch.zeros(SIZE))
    rough = torch.nn.functional.avg_pool2d(truth[None, None].float(), 9, 1, 4)[0]
    given = Regions(torch.tensor([[50.0, 30, 110, 90]]), torch.ones(1), ("ball",), SIZE, rough)
    out, (report,) = region_masks(scene((truth, (0.8, 0.2, 0.2))), given, never)
    assert report.family == GIVEN and never.asked == 0 and iou(out.masks[0], truth) > 0.98
    assert ((out.masks[0] > 0.1) & (out.masks[0] < 0.9)).sum() < ((rough > 0.1) & (rough < 0.9)).sum() / 2


def test_boxes_that_stand_in_for_masks_are_cut_out_and_painted_rectangles_are_kept():
    """Beside regions with masks a box of the user's own was a mask of ones, and kept as if somebody had given it."""
    truth, painted = disc(), torch.zeros(1, *SIZE)
    painted[0, 5:20, 5:20] = 1
    beside = Regions(torch.tensor([[5.0, 5, 20, 20]]), torch.ones(1), ("patch",), SIZE, painted)
    both = merge_regions([beside, regions_of((50, 30, 110, 90), (130, 90, 150, 110), scores=[0.8, 0.5])])
    nothing = Fixed(torch.zeros(SIZE))
    out, reports = region_masks(scene((truth, (0.8, 0.2, 0.2))), both, GrabCut())
    assert [one.family for one in reports[:2]] == [GIVEN, "grabcut"] and iou(out.masks[1], truth) > 0.95
    assert out.boxed == (False, False, reports[2].family == BOX)
    again, reports = region_masks(scene((truth, (0.8, 0.2, 0.2))), both, nothing)
    assert [one.family for one in reports] == [GIVEN, BOX, BOX] and again.boxed == (False, True, True)


def test_quality_tells_a_good_mask_from_a_bad_one():
    truth, box = disc(), torch.tensor([50.0, 30, 110, 90])
    picture = scene((truth, (0.8, 0.2, 0.2)))
    good, whole, half = truth.float(), torch.zeros(SIZE), truth.float()
    whole[30:90, 50:110] = 1
    half[60:] = 0
    assert quality_of(picture, good, box) > 0.95
    assert quality_of(picture, whole, box) < 0.6 and 0.3 < quality_of(picture, half, box) < 0.6
    assert quality_of(picture, torch.zeros(SIZE), box) == 0


def test_only_the_best_are_given_on_and_memory_is_bounded():
    regions = regions_of((10, 10, 40, 40), (50, 30, 110, 90), (120, 10, 150, 40), scores=[0.2, 0.9, 0.5])
    out, reports = region_masks(scene((disc(), (0.8, 0.2, 0.2))), regions, GrabCut(), max_regions=2)
    assert out.scores.tolist() == pytest.approx([0.9, 0.5]) and out.masks.shape == (2, *SIZE) and len(reports) == 2
    assert most_masks((4000, 6000)) == 11 and most_masks((30000, 30000)) == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (3, 3), (16, 16)])
def test_tiny_pictures(size):
    out, reports = region_masks(torch.rand(3, *size), regions_of((0, 0, size[1], size[0]), size=size), GrabCut())
    assert out.masks.shape == (1, *size) and torch.isfinite(out.masks).all() and len(reports) == 1
    assert 0 <= out.masks.min() and out.masks.max() <= 1


def test_odd_boxes():
    """Without area, outside of the picture, larger than it; and none at all."""
    boxes = ((50, 30, 50, 30), (-90, -90, -10, -10), (-50, -50, 500, 500), (159, 119, 400, 400))
    out, reports = region_masks(scene((disc(), (0.8, 0.2, 0.2))), regions_of(*boxes), GrabCut())
    assert torch.isfinite(out.masks).all() and [r.family for r in reports[:2]] == [BOX, BOX]
    assert out.masks[0].sum() == 0 and out.masks[1].sum() == 0 and torch.equal(out.boxes, regions_of(*boxes).boxes)
    empty, reports = region_masks(scene(), regions_of(), GrabCut())
    assert empty.masks.shape == (0, *SIZE) and reports == ()
    assert crop_around(torch.tensor([0.0, 0, 10, 100]), SIZE, 0.3) == (0, 0, 20, 120)


def test_what_is_refused():
    picture = scene()
    with pytest.raises(ValueError, match="height 120 and width 160"):
        region_masks(picture[:, :50], regions_of((1, 1, 9, 9)), GrabCut())
    for broken in (picture[0], picture[None], picture.byte()):
        with pytest.raises(ValueError, match="expected a picture"):
            GrabCut().segment(broken, torch.zeros(1, 4))
    with pytest.raises(ValueError, match="finite boxes"):
        GrabCut().segment(picture, torch.full((1, 4), float("nan")))


def test_progress_can_stop_it():
    def stop(done):
        raise InterruptedError(str(done))

    with pytest.raises(InterruptedError, match="1"):
        region_masks(scene(), regions_of((10, 10, 60, 60), (50, 50, 90, 90)), GrabCut(), progress=stop)


def test_an_edge_that_is_too_long_gets_a_filter(monkeypatch):
    monkeypatch.setattr(matting, "_MOST_TILES", 0)
    monkeypatch.setattr(matting, "_closed_form", None)
    truth = disc((600, 500), 320, (900, 1300))
    picture = scene((truth, (0.8, 0.2, 0.2)), size=(900, 1300))
    out, _ = region_masks(picture, regions_of((280, 180, 920, 820), size=(900, 1300)), GrabCut())
    assert iou(out.masks[0], truth) > 0.98


def test_the_matting_laplacian_is_the_papers():
    """Against its equation, window by window and pixel by pixel; rows of pixels at the frame and of one that is alone."""
    rng = np.random.default_rng(0)
    colours, unknown = rng.random((6, 7, 3)), rng.random((6, 7)) < 0.4
    unknown[0, 0] = unknown[5, 6] = True
    whole = np.zeros((42, 42))
    for top in range(4):
        for left in range(5):
            if not unknown[top : top + 3, left : left + 3].any():
                continue
            places = [(top + dy) * 7 + left + dx for dy in range(3) for dx in range(3)]
            window = colours.reshape(-1, 3)[places]
            inverse = np.linalg.inv(np.cov(window.T, bias=True) + 1e-5 / 9 * np.eye(3))
            for a, i in enumerate(places):
                for b, j in enumerate(places):
                    away = (window[a] - window.mean(0)) @ inverse @ (window[b] - window.mean(0))
                    whole[i, j] += float(i == j) - (1 + away) / 9
    rows = matting.matting_rows(colours, unknown)
    assert np.abs(rows.toarray() - whole[unknown.ravel()]).max() < 1e-9 and np.abs(rows.sum(1)).max() < 1e-9


def test_closed_form_gives_back_the_alpha_of_a_mixture():
    """A soft edge that is a mixture of two plain colours is found again."""
    columns = torch.arange(80) + 0.5
    alpha = ((43 - columns) / 4 + 0.5).clamp(0, 1).expand(60, 80)
    fore, back = torch.tensor([0.9, 0.2, 0.1])[:, None, None], torch.tensor([0.1, 0.3, 0.8])[:, None, None]
    mask = (alpha > 0.5).float()
    matting.refine(alpha * fore + (1 - alpha) * back, mask)
    assert (mask - alpha).abs().max() < 0.05


def test_half_of_the_boxes_in_common_are_two_things():
    """Boxes of 80 px that share 40: intersection over union a third. Each keeps its side; from 0.7 on they would be one thing."""
    masks = torch.zeros(2, *SIZE)
    masks[0, 20:100, 20:100], masks[1, 20:100, 60:140] = 1, 1
    assert take_off(regions_of((20, 20, 100, 100), (60, 20, 140, 100)), masks) == [{1}, {0}] and masks.sum(0).max() == 1


def test_a_thing_that_the_frame_cuts_has_its_middle_nearer_to_the_frame():
    """60..120 has its middle at 90, 30 from its sides; 100..160 goes on beyond the frame: 145, 45 from its sides. They meet at 112."""
    masks = torch.zeros(2, *SIZE)
    masks[0, 40:80, 60:120], masks[1, 40:80, 100:160] = 1, 1
    take_off(regions_of((60, 40, 120, 80), (100, 40, 160, 80)), masks)
    assert masks[0, 60, 60:112].min() == 1 and masks[0, 60, 112:].max() == 0
    assert masks[1, 60, 112:].min() == 1 and masks[1, 60, :112].max() == 0


def test_only_three_pixels_on_each_side_of_the_edge_are_soft():
    """A ramp of 24 px gets an edge: what lies further off is all or nothing."""
    columns = torch.arange(80) + 0.5
    alpha = ((40 - columns) / 24 + 0.5).clamp(0, 1).expand(60, 80)
    mask = alpha.clone()
    matting.refine(alpha.expand(3, 60, 80), mask)
    assert (mask[:, :37] == 1).all() and (mask[:, 43:] == 0).all() and ((mask[:, 37:43] > 0) & (mask[:, 37:43] < 1)).any()


def test_a_mask_of_large_pixels_is_sharpened_from_coarse_to_fine():
    """Made of pixels of 9: its edge lies 6 px off, twice as far as the finest round reaches."""
    truth, size = disc((150, 150), 90, (300, 300)), (300, 300)
    mask = disc((150, 150), 84, size).float()
    matting.refine(scene((truth, (0.8, 0.2, 0.2)), size=size), mask, 9.0)
    assert iou(mask, truth) > 0.97 > 0.9 > (84 / 90) ** 2


def test_bytes_and_floats_of_one_picture_give_one_alpha(monkeypatch):
    """The small rounds see bytes of 0..255, the last one floats of 0..1; solvers weigh contrast against a constant."""
    seen = []
    monkeypatch.setattr(matting, "_closed_form", lambda colours, bits, unknown: seen.append(colours) or bits.astype("float32"))
    monkeypatch.setattr(matting, "_guided", matting._closed_form)
    picture = (scene((disc(), (0.6, 0.4, 0.2))) * 255).round() / 255
    small = (picture * 255).round().byte().permute(1, 2, 0).numpy()
    matting._alpha(small, disc().numpy())
    matting._alpha(None, disc().numpy(), picture, (0, 0, SIZE[1], SIZE[0]))
    bytes_, floats = seen
    assert abs(bytes_ - floats).max() < 1e-6 and 0.5 < floats.max() <= 1


def test_the_filter_on_a_plain_picture_by_hand():
    """Without colours to go by it is two means over 7 px: the first pixel inside sees 28 of 49, and 1.5 times as steep that is 0.607."""
    bits = torch.zeros(40, 40, dtype=torch.uint8)
    bits[:, 20:] = 1
    made = matting._guided(torch.full((40, 40, 3), 0.5).double().numpy(), bits.numpy(), bits.numpy() > 2)
    assert made[20, 20] == pytest.approx(0.5 + 1.5 * (28 / 49 - 0.5), abs=1e-4) and made[20, 19] == pytest.approx(1 - made[20, 20])
    assert made[20, 26] == 1 and made[20, 13] == 0


@pytest.mark.parametrize(("rows", "words"), [(24, "found only 40% of the box"), (32, "")])
def test_a_mask_spans_half_of_either_side(rows, words):
    mask = torch.zeros(SIZE)
    mask[40 : 40 + rows, 50:110] = 1
    assert what_is_wrong(mask, torch.tensor([50.0, 30, 110, 90])) == words


@pytest.mark.parametrize(("quality", "doubtful"), [(0.34, True), (0.36, False)])
def test_doubt_begins_below_035(quality, doubtful):
    report = rule.MaskReport("ball", "grabcut", quality, 0.1)
    assert report.doubtful == doubtful == ("look at it" in str(report))


def test_specks_and_holes_by_their_share():
    """Parts from a tenth of the largest stay, holes below a fiftieth of the mask are filled."""
    mask = torch.zeros(100, 100, dtype=torch.bool)
    mask[10:50, 10:50] = True  # 1600
    mask[70:80, 70:87] = True  # 170
    mask[70:80, 10:24] = True  # 140, less than a tenth of the 1475 that the holes leave
    mask[20:25, 20:25] = False  # 25 of 1475 + 170: a share of 0.015
    mask[30:40, 30:40] = False  # 100: 0.06
    made = torch.from_numpy(without_specks(mask.numpy()))
    assert made[70:80, 70:87].all() and not made[70:80, 10:24].any()
    assert made[20:25, 20:25].all() and not made[30:40, 30:40].any()


def test_a_thing_that_is_no_ellipse():
    """A diamond fills half of its box: only half of the ellipse's radius is taken for sure."""
    rows, columns = torch.meshgrid(torch.arange(SIZE[0]) + 0.5, torch.arange(SIZE[1]) + 0.5, indexing="ij")
    truth = (columns - 80).abs() + (rows - 60).abs() < 40
    out, (report,) = region_masks(scene((truth, (0.8, 0.2, 0.2))), regions_of((40, 20, 120, 100)), GrabCut())
    assert report.family == "grabcut" and iou(out.masks[0], truth) > 0.95


def test_bounds_end_behind_the_last_pixel():
    mask = torch.zeros(SIZE)
    mask[2:5, 3:9] = 0.6
    mask[0, 0] = 0.4  # no more than a half
    assert bounds(mask) == bounds(mask, (1, 1, 30, 30)) == (3, 2, 9, 5) and bounds(mask, (10, 0, 30, 30)) is None


def test_boxes_are_cut_to_the_picture():
    """At the right and at the bottom by its own width and height."""
    made = check_boxes(torch.zeros(3, 120, 160), torch.tensor([[-5.0, -6, 300, 400], [10, 20, 150, 110]]), "x")
    assert made.tolist() == [[0, 0, 160, 120], [10, 20, 150, 110]]


def test_the_edge_counts_where_its_two_sides_differ():
    """A square on plain ground: all of its edge. Where the ground is of its colour on the right: three of four sides."""
    picture, mask = torch.full((3, *SIZE), 0.2), torch.zeros(SIZE)
    mask[30:90, 50:110] = 1
    picture[:, 30:90, 50:110] = 0.8
    assert edge_share(picture, mask, torch.tensor([50.0, 30, 110, 90])) == 1
    picture[:, :, 110:] = 0.8  # beyond its right side nothing changes
    assert edge_share(picture, mask, torch.tensor([50.0, 30, 110, 90])) == pytest.approx(0.75, abs=0.05)


def test_behind_the_frame_the_thing_goes_on():
    """A box of 40 x 80 at the left edge of the photo goes on for 20: its middle is at (10, 60), 30 and 40 from its sides."""
    inside, radius = _inside_and_radius(SIZE, [0, 20, 40, 100], [True, False, False, False])
    assert inside.sum() == 40 * 80 and inside[20:100, :40].all()
    for row, column in ((60, 10), (60, 39), (99, 10), (30, 0)):
        wanted = (((column + 0.5 - 10) / 30) ** 2 + ((row + 0.5 - 60) / 40) ** 2) ** 0.5
        assert radius[row, column] == pytest.approx(wanted)
    radius = _inside_and_radius(SIZE, [120, 80, 160, 120], [False, False, True, True])[1]
    assert radius[109, 149] == pytest.approx((2 * (0.5 / 30) ** 2) ** 0.5)  # the middle of 120..180 and 80..140


def test_what_a_segmenter_is_given_are_the_nearest_bytes_of_the_crop():
    picture = torch.zeros(3, 6, 8)
    picture[0, 2, 3], picture[1, 2, 3], picture[2, 2, 3] = 99.4 / 255, 99.6 / 255, 1.2
    made = bytes_of(picture, (3, 2, 6, 4), (2, 3))
    assert made.shape == (2, 3, 3) and made[0, 0].tolist() == [99, 100, 255] and made.sum() == 99 + 100 + 255
    half = bytes_of(torch.full((3, 6, 8), 0.1), (0, 0, 8, 6), (3, 4))  # 25.5: to the even one
    assert half.shape == (3, 4, 3) and (half == 26).all()
