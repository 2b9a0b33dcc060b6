# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEdit Photo Finish: rows of a batch, masks of either size, switches, and what is refused."""

from __future__ import annotations

import pytest
import torch

from tests.host.inside.pack import nodes  # first: it makes the pack importable

from fireedit_core.blur import gaussian_blur  # isort: skip
from fireedit_core.photo.frame import PhotoFrame  # isort: skip
from fireedit_pack.nodes.errors import FireEditNodeError  # isort: skip

SIZE, BOX, GRID = (150, 200), (20, 10, 180, 138), (128, 160)


def photos(count=1, channels=3):
    noise = torch.Generator().manual_seed(count)
    grain = torch.rand(count, 3, *SIZE, generator=noise)
    made = (0.5 + 2.5 * (gaussian_blur(grain, 3.0) - 0.5) + 0.4 * (gaussian_blur(grain, 1.0) - 0.5)).clamp(0, 1).movedim(1, -1)
    made = (made * 255).round() / 255
    return made if channels == 3 else torch.cat([made, torch.rand(count, *SIZE, 1, generator=noise)], -1)


def jobs(count=1, channels=3):
    """(originals, frames, edits, masks of the photos)."""
    whole = photos(count, channels)
    frames = [PhotoFrame.fit(one[..., :3], BOX, GRID) for one in whole]
    changed, mask = whole[..., :3].clone(), torch.zeros(count, *SIZE)
    for i in range(count):
        place = (slice(50 + 5 * i, 80 + 5 * i), slice(80, 120))
        changed[i][place], mask[i][place] = torch.tensor([0.8, 0.2, 0.1]), 1
    edits = torch.stack([frame.crop(one) for frame, one in zip(frames, changed, strict=True)])
    return whole, frames, edits.roll(2, 2), mask


def run(*arguments, **options):
    return nodes.FireEditPhotoFinish.execute(*arguments, **options).args


@pytest.mark.parametrize("channels", (3, 4))
def test_batch_with_a_frame_and_a_mask_each(channels):
    whole, frames, edits, mask = jobs(2, channels)
    image, touched, text = run(whole, frames, edits, mask)
    assert image.shape == whole.shape and touched.shape == mask.shape and image.dtype == torch.float32
    assert torch.equal(image[touched == 0], whole[touched == 0]) and "picture 2: aligned: shifted by +2.0" in text
    for i in range(2):
        assert torch.equal(run(whole[i : i + 1], frames[i : i + 1], edits[i : i + 1], mask[i : i + 1])[0][0], image[i])
        assert (image[i, 60:70, 90:110, :3] - torch.tensor([0.8, 0.2, 0.1])).abs().max() < 0.02


def test_several_edits_of_one_photo_a_mask_of_the_crop_and_a_black_one():
    whole, frames, edits, mask = jobs()
    small = frames[0].crop_mask(mask[0])[None]
    image, touched, _ = run(whole, frames, edits.expand(3, -1, -1, -1), small)
    assert image.shape == (3, *SIZE, 3) and torch.equal(image[0], image[2]) and torch.equal(image[0], run(whole, frames, edits, mask)[0][0])
    assert "no mask came: it was found" in run(whole, frames, edits, torch.zeros(1, 64, 64))[2]


@pytest.mark.parametrize("channels", (1, 3, 4))
@pytest.mark.parametrize("kept", (True, False), ids=("confined", "edited all over"))
def test_a_black_mask_in_a_batch_leaves_its_own_photo(kept, channels):
    """As FireEdit Quick Edit does, whatever the edit model made of a picture in which nothing was marked."""
    whole, frames, edits, mask = jobs(2, 4)
    whole = whole[..., :channels]
    frames = [PhotoFrame.fit(one[..., :3], BOX, GRID) for one in whole]
    edits[1] = frames[1].crop(whole[1, ..., :3].expand(-1, -1, 3)) if kept else edits[1] * 0.3 + 0.5
    image, touched, text = run(whole, frames, edits, torch.stack([mask[0], torch.zeros(SIZE)]), align="off")
    assert torch.equal(image[1], whole[1].expand(*SIZE, max(channels, 3))) and not touched[1].any() and touched[0].any()
    assert text.endswith("picture 2: nothing of it is marked here; the photo stays as it is") and "no mask came" not in text
    assert torch.equal(image[0], run(whole[:1], frames[:1], edits[:1], mask[:1], align="off")[0][0])
    with pytest.raises(FireEditNodeError, match="picture 2: .*not the photo that the frame belongs to"):
        run(whole[[0, 0]], frames, edits, torch.stack([mask[0], torch.zeros(SIZE)]), align="off")


def test_without_any_mark_what_differs_is_found_in_each_photo_of_a_batch():
    whole, frames, edits, mask = jobs(2)
    edits[1] = frames[1].crop(whole[1])
    for none in (None, torch.zeros(2, *SIZE)):
        image, touched, text = run(whole, frames, edits, none)
        assert "no mask came: it was found" in text.split("picture 2: ")[0] and touched[0, 60:70, 90:110].eq(1).all()
        assert torch.equal(image[1], whole[1]) and not touched[1].any() and "does not differ from it; the photo stays as it is" in text
    with pytest.raises(FireEditNodeError, match="there is nothing to paste"):  # a single one has nothing else to show
        run(whole[1:], frames[1:], edits[1:])


def test_the_crops_mask_of_a_square_photo_is_no_mask_of_the_photo():
    """A part on a grid of the photo's own size: its mask was read in the photo's place, and half of the edit was lost."""
    side = 256
    photo = torch.nn.functional.interpolate(photos().movedim(-1, 1), (side, side)).movedim(1, -1) * 0.8
    mask = torch.zeros(1, side, side)
    mask[0, 36:96, 140:200] = 1
    crop, marks, _, frames = nodes.FireEditPhotoCrop.execute(photo, mask=mask, megapixels=side * side / 1024**2).args
    assert not frames[0].whole
    edited = crop * (1 - marks[..., None]) + marks[..., None] * torch.tensor([1.0, 0, 0])
    for one in (marks, mask):
        image, _, text = run(photo, frames, edited, one)
        red = (image[0] - torch.tensor([1.0, 0, 0])).abs().amax(-1) < 0.08
        assert float((red & (mask[0] > 0)).sum() / mask.sum()) > 0.98 and "beyond the crop" not in text


@pytest.mark.parametrize("value", (float("nan"), float("inf"), -1.0))
@pytest.mark.parametrize("name", ("grow", "feather"))
def test_a_width_that_is_none_is_named(name, value):
    """Numbers over a wire are not held to the widget's range."""
    with pytest.raises(FireEditNodeError, match=f"^FireEdit Photo Finish: {name} must be a number of px of 0 or more, got {value}"):
        run(*jobs(), **{name: value})


def test_switches():
    whole, frames, edits, mask = jobs()
    text = run(whole, frames, edits, mask, align="off", tone="off")[2]
    assert "not aligned: switched off" in text and "colours left as they came: switched off" in text
    for bad in ({"align": "maybe"}, {"tone": True}):
        with pytest.raises(FireEditNodeError, match="Photo Finish: (align|tone) must be"):
            run(whole, frames, edits, mask, **bad)


def test_refused():
    whole, frames, edits, mask = jobs(2)
    for bad, words in (
        ((whole, frames[:1], edits, mask), "2 pictures came as original, 1 frame, and 2 pictures as edited"),
        ((whole, frames, edits[:1], mask), "1 picture as edited"),
        ((whole, frames, edits * float("nan"), mask), "not numbers"),
        ((whole, frames, edits, torch.ones(2, 9, 9)), "The mask has height 9"),
        ((whole, frames, edits, torch.ones(3, *SIZE)), "for 2 pictures"),
        ((whole, frames, photos(2)[:, : GRID[0], : GRID[1]].flip(1), mask), "picture 1: The edited picture cannot be put in its place"),
        ((whole.flip(0), frames, edits, mask), "not the photo that the frame belongs to"),
        ((whole, "frame", edits, mask), "no PHOTO_FRAME but str"),
    ):
        with pytest.raises(FireEditNodeError, match=words):
            run(*bad)
