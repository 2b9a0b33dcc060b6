# SPDX-License-Identifier: GPL-3.0-or-later
"""An edited crop goes back where it belongs, and the photo keeps its own values everywhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fireedit_core.photo import finish as finishing
from fireedit_core.photo.finish import _changed, finish, seam_step
from fireedit_core.photo.frame import PhotoFrame
from tests.core.photo.test_registration import moved, scene

SIZE, BOX, GRID = (300, 420), (60, 40, 380, 280), (240, 320)


def photo(channels: int = 3) -> torch.Tensor:
    made = torch.from_numpy(np.round(scene(0, SIZE) * 255).astype(np.float32) / 255)
    return made if channels == 3 else torch.cat([made, torch.rand(*SIZE, 1, generator=torch.Generator().manual_seed(0))], -1)


def mask_of_photo() -> torch.Tensor:
    mask = torch.zeros(SIZE)
    mask[120:200, 180:270] = 1
    return mask


def job(grid: tuple[int, int] = GRID, box=BOX, zoom: float = 1.01, shift=(3.2, -2.4), tone: float = 0.9):
    """(photo, frame, what came back, what it should become)."""
    whole = photo()
    frame = PhotoFrame.fit(whole, box, grid)
    truth = whole.clone()
    truth[125:195, 185:265] = torch.from_numpy(scene(9)[:70, :80])
    came = moved(frame.crop(truth).numpy(), zoom, shift)[0] * tone + 0.03
    return whole, frame, torch.from_numpy(came.astype(np.float32)), truth


def off(made: torch.Tensor, truth: torch.Tensor) -> float:
    """Mean error of 255 well inside of the edit."""
    return 255 * float((made[130:190, 190:260, :3] - truth[130:190, 190:260]).abs().mean())


@pytest.mark.parametrize(
    "grid, box", [(GRID, BOX), ((480, 640), BOX), ((192, 256), (0, 0, 420, 300))], ids=("as it is", "enlarged", "whole")
)
def test_aligned_toned_and_the_photo_outside(grid, box):
    ratio = grid[0] / GRID[0]
    whole, frame, came, truth = job(grid, box, shift=(3.2 * ratio, -2.4 * ratio))
    made = finish(whole, frame, came, mask_of_photo())
    outside = made.mask == 0
    assert torch.equal(made.image[outside], whole[outside]) and made.outside == 0
    assert torch.equal((made.image[outside] * 255).round().byte(), (whole[outside] * 255).round().byte())
    assert float(made.mask[mask_of_photo() > 0].min()) == 1 and float(outside.float().mean()) > 0.5
    raw = finish(whole, frame, came, mask_of_photo(), aligned=False, toned=False)
    assert off(made.image, truth) < 0.4 * off(raw.image, truth) and made.step[0] < 0.5 * raw.step[0]
    assert "aligned: shifted by" in made.report and "colours corrected" in made.report and "outside 0" in made.report
    assert "switched off" in raw.report


def test_exactly_where_it_was_when_nothing_has_moved():
    """At scale 1 the edit's own values are pasted, bit for bit."""
    whole, frame, _, truth = job()
    came = frame.crop(truth)
    made = finish(whole, frame, came, mask_of_photo())
    assert made.alignment.still and made.drift.off and torch.equal(made.image[130:190, 190:260], truth[130:190, 190:260])
    same = finish(whole, frame, frame.crop(whole), mask_of_photo())
    assert torch.equal(same.image, whole) and same.inside == 0


@pytest.mark.parametrize("grow, feather", [(6, 16), (0, 0)])
def test_a_part_of_a_large_photo_is_undone_as_the_whole_would_be(grow, feather):
    """To its very rim, where the part must bring enough of its surroundings along: without a feather the weight is 1 there."""
    whole, frame, came, _ = job((192, 256), (0, 0, 420, 300), 1.0, (0, 0), 1.0)
    made = finish(whole, frame, came, mask_of_photo(), aligned=False, toned=False, grow=grow, feather=feather)
    sure = made.mask == 1
    # the very same weights; only what overshoots is cut at the part's own lightest and darkest value
    apart = (made.image[sure] - frame.undo(came)[sure]).abs()
    assert float((apart > 1e-5).float().mean()) < 0.01 and float(apart.max()) < 0.05


def test_mask_of_the_crop_and_no_mask():
    whole, frame, came, truth = job()
    small = frame.crop_mask(mask_of_photo())
    told, found = finish(whole, frame, came, small), finish(whole, frame, came)
    assert torch.equal(told.image, finish(whole, frame, came, mask_of_photo()).image)
    assert off(found.image, truth) < 1.2 * off(told.image, truth) + 0.2 and "no mask came: it was found" in found.report
    assert float(found.mask[130:190, 190:260].min()) > 0.99 and float((found.mask == 0).float().mean()) > 0.6


def test_a_crop_as_large_as_its_photo_has_the_photos_mask_and_says_so():
    whole, frame, came, _ = job(SIZE, (60, 40, 410, 290), 1.0, (0, 0), 1.0)
    made = finish(whole, frame, came, mask_of_photo(), aligned=False, toned=False, grow=0, feather=0)
    assert torch.equal(made.mask, mask_of_photo()) and "the mask was taken for the photo's" in made.report
    assert "taken for" not in finish(*job()[:3], mask_of_photo()).report


def test_grow_and_feather_are_pixels_of_the_crop():
    whole, frame, came, _ = job()
    bare = finish(whole, frame, came, mask_of_photo(), False, False, grow=0, feather=0)
    assert torch.equal(bare.mask, mask_of_photo()) and bare.step is None
    wide = finish(whole, frame, came, mask_of_photo(), False, False, grow=10, feather=20)
    across = wide.mask[160]
    assert across[170] == 1 and 0 < across[165] < 1 and across[149] == 0
    twice = finish(*job((480, 640), BOX)[:3], mask_of_photo(), False, False, grow=10, feather=20).mask[160]
    assert twice[175] == 1 and 0 < twice[172] < 1 and twice[164] == 0


def test_the_weight_along_a_row_by_hand():
    """The mask begins at column 180: 1 as far as 6 px before it, then x²(3 - 2x) over 16 px, x = 1 - (away - 6) / 16."""
    whole, frame, came, _ = job()
    across = finish(whole, frame, came, mask_of_photo(), False, False).mask[160]
    wanted = {180: 1, 174: 1, 170: 0.84375, 166: 0.5, 162: 0.15625, 158: 0, 150: 0}
    assert {column: float(across[column]) for column in wanted} == pytest.approx(wanted, abs=1e-5)


def test_the_crop_has_no_hard_edge_in_the_photo():
    whole, frame, came, _ = job()
    mask = torch.zeros(SIZE)
    mask[20:150, 30:200] = 1  # beyond the crop
    made = finish(whole, frame, came, mask)
    assert float(made.mask[40, 100]) < 0.05 and float(made.mask[:40].max()) == 0 and float(made.mask[:, :60].max()) == 0
    assert "of the mask lies beyond the crop" in made.report


@pytest.mark.parametrize("tall", (False, True))
def test_it_has_none_at_any_of_its_four_sides(tall):
    whole, frame, came, _ = job()
    if tall:
        whole, came = whole.movedim(0, 1).contiguous(), came.movedim(0, 1).contiguous()
        frame = PhotoFrame.fit(whole, (40, 60, 280, 380), (320, 240))
    weight = finish(whole, frame, came, torch.ones(whole.shape[:2]), False, False).mask
    x0, y0, x1, y1 = frame.box
    assert max(float(side.max()) for side in (weight[y0], weight[y1 - 1], weight[:, x0], weight[:, x1 - 1])) < 0.05
    assert weight[y0 + 20 : y1 - 20, x0 + 20 : x1 - 20].eq(1).all() and weight.sum() == weight[y0:y1, x0:x1].sum()


def test_alpha_and_grey_photos():
    whole, frame, came, _ = job()
    rgba = photo(4)
    made = finish(rgba, frame, came, mask_of_photo())
    assert torch.equal(made.image[..., 3], rgba[..., 3])
    assert torch.equal(made.image[..., :3], finish(whole, frame, came, mask_of_photo()).image)


def test_an_edit_where_the_photo_is_transparent_is_not_seen_and_that_is_said():
    whole, frame, came, _ = job()
    seen, hidden = (torch.cat([whole, torch.ones(*SIZE, 1)], -1) for _ in range(2))
    hidden[150:160, 200:210, 3] = 0.2
    assert "transparent" not in finish(seen, frame, came, mask_of_photo()).report
    made = finish(hidden, frame, came, mask_of_photo())
    assert torch.equal(made.image[..., 3], hidden[..., 3])
    assert "the photo is transparent on 1 % of what was edited, and stays so" in made.report


def test_another_size_comes_back():
    whole, frame, came, truth = job()

    def resized(height: int, width: int) -> torch.Tensor:
        return torch.nn.functional.interpolate(came.movedim(-1, 0)[None], (height, width), mode="bicubic")[0].movedim(0, -1).clamp(0, 1)

    double, single = finish(whole, frame, resized(480, 640), mask_of_photo()), finish(whole, frame, came, mask_of_photo())
    assert torch.allclose(double.mask, single.mask, atol=0.01)  # grow and feather are pixels of the crop, and not of what came back
    assert off(double.image, truth) < off(single.image, truth) + 1
    stretched = finish(whole, frame, resized(248, 320), mask_of_photo())
    assert "height 248 and width 320 instead of 240 and 320" in stretched.report
    assert off(stretched.image, truth) < 2 * off(double.image, truth)
    with pytest.raises(ValueError, match="out of place"):
        finish(whole, frame, resized(248, 320), mask_of_photo(), aligned=False)
    with pytest.raises(ValueError, match="cut or stretched by 25 %"):
        finish(whole, frame, resized(300, 320), mask_of_photo())


def test_refused():
    whole, frame, came, _ = job()
    mask = mask_of_photo()
    with pytest.raises(ValueError, match="cannot be put in its place"):
        finish(whole, frame, torch.from_numpy(scene(5)), mask)
    assert finish(whole, frame, torch.from_numpy(scene(5)), mask, aligned=False).image.shape == whole.shape
    with pytest.raises(ValueError, match="not the photo that the frame belongs to"):
        finish(1 - whole, frame, came, mask)
    with pytest.raises(ValueError, match="height 300 and width 420"):
        finish(whole[:200], frame, came, mask)
    with pytest.raises(ValueError, match="mask is empty inside of the crop"):
        finish(whole, frame, came, torch.zeros(SIZE))
    with pytest.raises(ValueError, match="mask has height 7 and width 7"):
        finish(whole, frame, came, torch.ones(7, 7))
    for broken in (came * float("nan"), came[..., :2], came[0]):
        with pytest.raises(ValueError, match="edited picture"):
            finish(whole, frame, broken, mask)
    with pytest.raises(ValueError, match="nothing to paste"):
        finish(whole, frame, frame.crop(whole))


def test_what_the_mask_marks_has_no_say_in_motion_and_colours():
    """Two thirds of the crop were changed on purpose: moved by 6 px and made darker. The rest says that nothing has happened to it."""
    whole = photo()
    frame = PhotoFrame.fit(whole, BOX, GRID)
    mask = torch.zeros(SIZE)
    mask[40:280, 140:380] = 1
    changed = torch.roll(whole, 6, 1) * 0.8
    came = frame.crop(torch.where(mask[..., None] > 0, changed, whole))
    made = finish(whole, frame, came, mask)
    assert made.alignment.still and "nothing has drifted" in made.drift.off
    assert torch.equal(made.image[60:260, 180:340], changed[60:260, 180:340])


def test_the_reports_numbers_by_hand(monkeypatch):
    whole, frame, came, _ = job()
    made = finish(whole, frame, came, mask_of_photo(), False, False)
    change = (made.image - whole).abs()
    assert made.inside == pytest.approx(float(change.mean(-1)[made.mask > 0].mean()), rel=1e-4) and made.inside > 0.02 and made.outside == 0
    true = finishing.paste
    monkeypatch.setattr(finishing, "paste", lambda *given: true(*given) + 0.01)  # a fault that the report must tell of
    assert finish(whole, frame, came, mask_of_photo(), False, False).outside == pytest.approx(0.01, rel=1e-3)


def test_a_step_is_the_slope_per_pixel():
    """Red rises by 0.01 a pixel across, green by 0.02 down, blue is calm: along the seam the steepest counts."""
    x, y = np.meshgrid(np.arange(80, dtype=np.float32), np.arange(60, dtype=np.float32))
    seam = np.zeros((60, 80), bool)
    seam[20:40, 20:60] = True
    assert seam_step(np.stack([0.01 * x, 0.0 * x, 0.0 * x]), seam) == pytest.approx((0.01, 0.01), rel=1e-3)
    assert seam_step(np.stack([0.01 * x, 0.02 * y, 0.0 * x]), seam) == pytest.approx((0.02, 0.02), rel=1e-3)
    assert seam_step(np.stack([0.03 * x, 0.04 * x + 0.03 * y, 0.0 * x]), seam) == pytest.approx((0.05, 0.05), rel=1e-3)
    seam[:], seam[0, :15] = False, True
    assert seam_step(np.zeros((3, 60, 80), np.float32), seam) is None


@pytest.mark.parametrize("difference, found", [(10 / 255, False), (18 / 255, True)])
def test_what_counts_as_changed_where_no_mask_came(difference, found):
    """From 14 of 255, in parts of at least 4 in 10,000 of the crop: 31 pixels here."""
    before = np.full((*GRID, 3), 0.5, np.float32)
    new = before.copy()
    new[100:120, 50:70, 1] += difference
    if not found:
        with pytest.raises(ValueError, match="nothing to paste"):
            _changed(new, before)
        return
    mask, words = _changed(new, before)
    assert mask[102:118, 52:68].min() == 1 and mask[:90].max() == mask[130:].max() == 0 and "in 1 part(s)" in words
    new = before.copy()
    new[100:102, 50:52] += 0.3  # four pixels: a speck
    with pytest.raises(ValueError, match="nothing to paste"):
        _changed(new, before)


def test_at_the_photos_own_edge_nothing_fades():
    whole, frame, came, _ = job((192, 256), (0, 0, 420, 300), 1.0, (0, 0), 1.0)
    mask = torch.zeros(SIZE)
    mask[:60, :80] = mask[250:, 350:] = 1
    made = finish(whole, frame, came, mask, False, False)
    assert (made.mask[mask > 0] == 1).all() and float(made.mask[0, 0]) == float(made.mask[-1, -1]) == 1
