# SPDX-License-Identifier: GPL-3.0-or-later
"""What every quick edit keeps: outside of its mask each value is the photo's own; and what is refused."""

from __future__ import annotations

import pytest
import torch

from fireedit_core.grounding.answer import Answer
from fireedit_core.photo.backdrop import cover, thing_colours
from fireedit_core.photo.quick_edit import NeedsModel, by_hand, quick_edit
from tests.core.photo.pictures import answer, disc, smooth, textured

EDITS = (
    ("remove", ""), ("recolour", "dark red"), ("recolour", "white"), ("adjust", "brighter"), ("adjust", "darker"), ("adjust", "blurred"),
    ("adjust", "grey"), ("background", "blur"), ("background", "navy"), ("background", "transparent"), ("cutout", ""),
)  # fmt: skip
SIZES = {0.1: (256, 384), 1: (832, 1248)}


def check(picture, mask, kind, after, backdrop=None):
    """The edit, after the promises that all keep: mask given out, size, type, alpha; and that something happened."""
    before = picture.clone()
    edited = quick_edit(picture, mask, answer(kind, picture, after), backdrop)
    image, touched = edited.image, edited.mask
    assert torch.equal(picture, before) and image.dtype == picture.dtype and image.shape[-2:] == picture.shape[-2:]
    assert touched.shape == mask.shape and 0 <= float(touched.min()) and float(touched.max()) <= 1
    assert torch.isfinite(image).all() and 0 <= float(image.min()) and float(image.max()) <= 1
    assert torch.equal(image[:3, touched == 0], picture[:3, touched == 0])
    alpha = picture[3] if len(picture) == 4 else torch.ones_like(mask)
    made_alpha = kind == "cutout" or after == "transparent"
    assert len(image) == (4 if made_alpha else len(picture))
    if len(image) == 4:
        assert torch.equal(image[3], alpha) != made_alpha and torch.equal(image[3, touched == 0], alpha[touched == 0])
    inside = mask == 1 if kind not in ("background", "cutout") else mask == 0
    assert not torch.equal(image[:, inside], torch.cat([picture[:3], alpha[None]])[: len(image), inside])
    if kind in ("background", "cutout"):  # the thing is what stays
        assert torch.equal(image[:3, mask == 1], picture[:3, mask == 1]) and not touched[mask == 1].any()
    else:
        assert (touched[mask == 1] == 1).all()
        if kind != "remove":
            assert torch.equal(image[:3, mask == 0], picture[:3, mask == 0])
    assert edited.report.endswith(".")
    return edited


def with_alpha(picture):
    return torch.cat([picture, (0.3 + picture[:1] * 0.7).clamp(max=1)])


@pytest.mark.parametrize(("kind", "after"), EDITS)
@pytest.mark.parametrize("bits", (8, 16))
@pytest.mark.parametrize("alpha", (False, True))
def test_outside_is_the_photos_own(kind, after, bits, alpha):
    picture = textured(*SIZES[0.1], bits=bits)
    check(with_alpha(picture) if alpha else picture, disc(*SIZES[0.1]), kind, after)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "after"), EDITS)
def test_outside_is_the_photos_own_at_one_megapixel(kind, after):
    check(with_alpha(textured(*SIZES[1])), disc(*SIZES[1]), kind, after)


@pytest.fixture(scope="module")
def of_24_megapixels():
    """RGBA, and a small thing: what an edit costs goes with the thing, what it promises with the whole."""
    return with_alpha(textured(4000, 6000)), disc(4000, 6000, 0.04)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "after"), (*EDITS[:2], *EDITS[5:6], EDITS[7], EDITS[-1]))
def test_outside_is_the_photos_own_at_24_megapixels(kind, after, of_24_megapixels):
    check(*of_24_megapixels, kind, after)


@pytest.mark.parametrize(("kind", "after"), EDITS)
def test_a_matte_of_a_network_is_decided(kind, after):
    """Hardly ever 0 or 1: what is within 1 % of either is the photo's own, or wholly new, bit for bit; the mask given stays as it is."""
    picture, mask = textured(64, 64), disc(64, 64)
    matte = (0.003 + 0.994 * mask).clamp(0.003, 0.997)
    kept = matte.clone()
    edited = quick_edit(picture, matte, answer(kind, picture, after))
    decided = quick_edit(picture, matte.masked_fill(matte < 0.01, 0).masked_fill(matte > 0.99, 1), answer(kind, picture, after))
    assert torch.equal(matte, kept) and torch.equal(edited.image, decided.image) and torch.equal(edited.mask, decided.mask)
    same = mask == 1 if kind in ("background", "cutout") else mask == 0
    if kind != "remove":
        assert torch.equal(edited.image[:3, same], picture[:, same]) and not edited.mask[same].any()


def test_the_colours_at_an_edge_are_no_farther_from_what_is_seen_than_alpha_allows():
    """Seen = alpha x thing + (1 - alpha) x behind, and both are within 0..1."""
    picture = textured(64, 64, 2)
    alpha = 0.05 + 0.94 * disc(64, 64, 0.3, 12.0)
    made = thing_colours(picture, alpha)
    assert not torch.equal(made, picture)
    assert (alpha * made <= picture + 1e-5).all() and (alpha * made >= picture - (1 - alpha) - 1e-5).all()


def test_the_colours_at_an_edge_are_the_things():
    """A composite of two pictures: what is behind is taken out of the edge."""
    tint = torch.tensor([1.0, 0.5, 0.4])[:, None, None]
    thing, behind = tint * smooth(textured(200, 200, 4), 2), 1 - tint * smooth(textured(200, 200, 5), 2)
    alpha = disc(200, 200, 0.3, 12.0)
    seen = alpha * thing + (1 - alpha) * behind
    edge = (alpha > 0) & (alpha < 1)
    error = lambda made: float(((made - thing) * alpha)[:, edge].abs().mean())  # noqa: E731
    assert error(thing_colours(seen, alpha)) < 0.15 * error(seen)


@pytest.mark.parametrize(("kind", "after"), EDITS)
@pytest.mark.parametrize("size", ((64, 64), (9, 200), (200, 7)))
def test_hard_masks_and_narrow_pictures(kind, after, size):
    mask = torch.zeros(size)
    mask[size[0] // 3 : -(size[0] // 3), size[1] // 3 : -(size[1] // 3)] = 1
    check(textured(*size), mask, kind, after)


@pytest.mark.parametrize(("kind", "after"), EDITS)
def test_half_precision(kind, after):
    check(textured(64, 64).half(), disc(64, 64), kind, after)


def test_values_beyond_the_range_stay_outside():
    picture = textured(64, 64)
    picture[:, :4] = 1.2
    for kind, after in EDITS:
        edited = quick_edit(picture, disc(64, 64), answer(kind, picture, after))
        assert torch.equal(edited.image[:3, edited.mask == 0], picture[:, edited.mask == 0])


def test_a_picture_behind_covers_and_is_not_stretched():
    picture, mask = textured(60, 90), disc(60, 90)
    behind = torch.zeros(3, 40, 200)
    behind[0, :, 100:] = 1  # black on the left, red on the right
    edited = check(picture, mask, "background", "a beach", behind)
    assert float(edited.image[:, :, :40][:, mask[:, :40] == 0].max()) < 0.02
    assert torch.allclose(edited.image[:, 30, 85], torch.tensor([1.0, 0.0, 0.0]), atol=0.02)
    assert "the given picture" in edited.report


def test_a_mask_of_all_but_the_whole_picture_is_named():
    picture, mask = textured(60, 60), torch.ones(60, 60)
    mask[:10, :10] = 0
    said = "hardly anything is left that would be behind it, so look at the mask"
    assert said in quick_edit(picture, mask, answer("background", picture, "navy")).report
    assert said not in quick_edit(picture, disc(60, 60), answer("background", picture, "navy")).report


@pytest.mark.parametrize(
    ("kind", "after", "value", "seen"),
    [
        ("recolour", "brown", 0.0, False), ("recolour", "brown", 0.5, True), ("adjust", "darker", 0.0, False),
        ("adjust", "darker", 0.4, True), ("adjust", "grey", 0.5, False),
    ],
)  # fmt: skip
def test_an_edit_that_nobody_sees_is_said(kind, after, value, seen):
    """A black silhouette throws back no light that could be brown."""
    picture = torch.full((3, 40, 60), 0.9)
    mask = torch.zeros(40, 60)
    mask[10:30, 20:40] = 1
    picture[:, 10:30, 20:40] = value
    said = quick_edit(picture, mask, answer(kind, picture, after)).report
    assert ("Hardly anything is seen of it" in said) != seen, said


def test_tones_of_what_is_behind():
    """The thing stays bit for bit; around it there is no colour, or more or less light; "grey" alone is a colour."""
    picture, mask = textured(60, 80, 3), disc(60, 80)
    behind = mask == 0
    for after, sign in (("black and white", 0), ("brighter", 1), ("darker", -1)):
        made = quick_edit(picture, mask, answer("background", picture, after)).image
        assert torch.equal(made[:, mask == 1], picture[:, mask == 1])
        change = (made - picture)[:, behind].mean()
        if sign:
            assert sign * float(change) > 0.02
        else:
            assert float((made[:, behind] - made[:1, behind]).abs().max()) < 1e-5 < float((picture[0] - picture[1])[behind].abs().max())
    flat = quick_edit(picture, mask, answer("background", picture, "grey")).image
    assert float(flat[:, behind].std(dim=1).max()) < 0.02


def test_grey_pictures():
    picture, mask = textured(64, 64)[:1], disc(64, 64)
    removed = quick_edit(picture, mask, answer("remove", picture))
    assert removed.image.shape == (1, 64, 64) and torch.equal(removed.image[:, removed.mask == 0], picture[:, removed.mask == 0])
    red = quick_edit(picture, mask, answer("recolour", picture, "red"))
    assert red.image.shape == (3, 64, 64) and torch.equal(red.image[:, mask == 0], picture[:, mask == 0].expand(3, -1))
    assert "became one of colours" in red.report


@pytest.mark.parametrize("kind", ("replace", "add", "restyle", "other"))
def test_what_needs_a_model_is_refused_with_the_way_on(kind):
    picture = textured(32, 32)
    with pytest.raises(NeedsModel, match="needs an edit model.*FireEdit Confine and FireEdit Photo Finish .*_kontext.*Regions to Mask"):
        quick_edit(picture, disc(32, 32), answer(kind, picture, "a dog"))


def test_refusals():
    picture, mask = textured(32, 32), disc(32, 32)
    refused = lambda words, kind, after="", **more: pytest.raises(ValueError, match=words)  # noqa: E731
    with refused("mask is empty, so there is nothing to remove", "remove"):
        quick_edit(picture, mask * 0, answer("remove", picture))
    with refused("leaves nothing of the picture to fill from", "remove"):
        quick_edit(picture, mask * 0 + 1, answer("remove", picture))
    for kind in ("background", "cutout"):
        with refused("covers the whole picture", kind):
            quick_edit(picture, mask * 0 + 1, answer(kind, picture, "blur"))
    with refused("is no colour that is known. Write one such as red", "recolour"):
        quick_edit(picture, mask, answer("recolour", picture, "furry"))
    with refused("connect a picture of it to backdrop", "background"):
        quick_edit(picture, mask, answer("background", picture, "a beach at night"))
    with refused("nothing is named that shall be behind", "background"):
        quick_edit(picture, mask, answer("background", picture))
    with refused("mask has values that are not numbers", "remove"):
        quick_edit(picture, mask.masked_fill(mask > 0.5, torch.nan), answer("remove", picture))
    with refused("picture has values that are not numbers", "remove"):
        quick_edit(picture / 0, mask, answer("remove", picture))
    with refused("picture is 32 high and 32 wide", "remove"):
        quick_edit(picture, mask[:16], answer("remove", picture))
    with refused("picture must be float", "remove"):
        quick_edit((picture * 255).byte(), mask, answer("remove", picture))


def test_one_pixel():
    picture, mask = textured(2, 2)[:, :1, :1], torch.ones(1, 1)
    assert quick_edit(picture, mask, answer("recolour", picture, "red")).image.shape == (3, 1, 1)
    assert quick_edit(picture, mask, answer("adjust", picture, "blurred")).image.shape == (3, 1, 1)
    for kind in ("remove", "background", "cutout"):
        with pytest.raises(ValueError, match="leaves nothing|covers the whole picture"):
            quick_edit(picture, mask, answer(kind, picture, "blur"))


def test_a_full_mask_recolours_all():
    picture = textured(32, 32)
    edited = quick_edit(picture, torch.ones(32, 32), answer("adjust", picture, "grey"))
    assert torch.allclose(edited.image[0], edited.image[2]) and (edited.mask == 1).all()


@pytest.mark.parametrize(
    ("text", "kind", "after"),
    (
        ("remove", "remove", ""), (" Recolor:  Dark Red ", "recolour", "dark red"), ("background: blur", "background", "blur"),
        ("cutout", "cutout", ""), ("brighter", "adjust", "brighter"), ("adjust: gray", "adjust", "grey"),
    ),
)  # fmt: skip
def test_words_by_hand(text, kind, after):
    made = by_hand(text, (4, 5))
    assert made == Answer(kind, "", (), after, (), (4, 5))


@pytest.mark.parametrize("text", ("make it blue", "recolour", "recolour:", "background", "adjust: purple", "x" * 10_000, "🐈", "إزالة"))
def test_other_words_by_hand_are_refused(text):
    with pytest.raises(ValueError, match="is no answer. Connect that of FireEdit Ground") as error:
        by_hand(text, (4, 5))
    assert len(str(error.value)) < 400


def test_a_cancel_gets_through():
    class Cancelled(Exception):
        pass

    def cancel():
        raise Cancelled

    picture = textured(64, 64)
    for kind, after in EDITS[:-2]:
        with pytest.raises(Cancelled):
            quick_edit(picture, disc(64, 64), answer(kind, picture, after), check=cancel)


def test_the_process_keeps_its_number_of_threads():
    """A library that sets it (numba does) would change the last bit of the host's own results afterwards."""
    before = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            picture, mask = textured(64, 64), disc(64, 64)
            for kind, after in (("background", "navy"), ("cutout", ""), ("remove", ""), ("recolour", "red")):
                quick_edit(picture, mask, answer(kind, picture, after))
                assert torch.get_num_threads() == count, kind
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("shape", [(20, 80), (80, 20), (10, 10), (200, 300)])
def test_a_backdrop_covers_the_picture_and_is_not_stretched(shape):
    y, x = torch.meshgrid(torch.linspace(0, 1, shape[0]), torch.linspace(0, 1, shape[1]), indexing="ij")
    made = cover(torch.stack([y, x, torch.ones(shape)]), (40, 60))
    assert made.shape == (3, 40, 60) and float(made[2].min()) > 0.99
    # as many pixels for a share of the height as for one of the width, in pixels of the backdrop
    rows, columns = (float(made[i].amax() - made[i].amin()) * shape[i] / (40, 60)[i] for i in (0, 1))
    assert rows == pytest.approx(columns, rel=0.12)
