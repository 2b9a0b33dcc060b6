# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEdit Photo Crop in the host: batches, masks, regions, the latent with its noise mask, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch

from tests.host.inside.pack import nodes  # first: it makes the pack importable

import comfy.utils  # isort: skip
from comfy_execution.graph_utils import ExecutionBlocker  # isort: skip
from fireedit_core.regions.dialects import to_mask  # isort: skip
from fireedit_core.regions.record import Regions  # isort: skip
from fireedit_core.thumbnail import fingerprint  # isort: skip
from fireedit_pack.nodes.errors import FireEditNodeError  # isort: skip

SIZE = (90, 140)


def pictures(count=1, channels=3):
    return torch.rand(count, *SIZE, channels, generator=torch.Generator().manual_seed(count))


def masks(count=1):
    made = torch.zeros(count, *SIZE)
    for i in range(count):
        made[i, 20 + 10 * i : 30 + 10 * i, 30 + 30 * i : 45 + 30 * i] = 1
    return made


def crop(image, mask=None, regions=None, vae=None, megapixels=0.01, multiple=16, context=0.5, whole_above=0.4):
    return nodes.FireEditPhotoCrop.execute(image, mask, regions, vae, megapixels, multiple, context, whole_above).args


BOX = torch.tensor([[5.0, 5, 25, 25]])


def test_a_batch_has_a_frame_for_each_and_goes_back():
    image, mask = pictures(3, 4), masks(3)
    seen, marked, latent, frames = crop(image, mask)
    assert seen.shape == (3, *frames[0].grid, 3) and marked.shape == (3, *frames[0].grid) and len({f.box for f in frames}) == 3
    for i, frame in enumerate(frames):
        frame.check(image[i])
        assert torch.equal(seen[i], frame.crop(image[i, ..., :3])) and torch.equal(marked[i], frame.crop_mask(mask[i]))
        x0, y0, x1, y1 = frame.box
        assert mask[i, y0:y1, x0:x1].sum() == 150 and frame.undo(seen[i]).shape == (y1 - y0, x1 - x0, 3)
    assert isinstance(latent, ExecutionBlocker) and "needs a VAE" in latent.message
    one = crop(image, mask[:1])[3]
    assert len({f.box for f in one}) == 1 and len({f.fingerprint for f in one}) == 3


def test_the_latent_is_the_crops_and_its_mask_keeps_a_mark_of_one_pixel(loaded):
    vae, mask = loaded[2], torch.zeros(2, *SIZE)
    mask[0, 41, 63] = mask[1, 70, 100] = 1
    seen, marked, latent, frames = crop(pictures(2), mask, vae=vae, context=4)
    samples, held = latent["samples"], latent["noise_mask"]
    assert frames[0].grid == (96, 96) and samples.shape[-2:] == (12, 12) and held.shape == (2, 1, 12, 12)
    assert torch.allclose(samples, vae.encode(seen), atol=1e-5) and set(held.unique().tolist()) == {0, 1}
    for i in range(2):
        assert torch.equal(held[i, 0] == 1, torch.nn.functional.max_pool2d(marked[i : i + 1], 8)[0] == 1)
    assert torch.equal(comfy.utils.reshape_mask(held, samples.shape)[:, :1], held)  # as the host's samplers take it


class _FilmVAE:
    """A VAE of a video model, which takes a batch for the frames of a film."""

    def spacial_compression_encode(self):
        return 8

    def encode(self, pixels):
        return torch.zeros(1, 16, 1 + (pixels.shape[0] - 1) // 4, pixels.shape[1] // 8, pixels.shape[2] // 8)


def said(*args, vae=None) -> str:
    return nodes.FireEditPhotoCrop.execute(*args, None, vae, 0.01, 16, 0.5, 0.4).ui["text"][0]


def test_it_says_when_nothing_is_connected_and_when_a_text_encoder_reads_one_picture():
    assert said(pictures(), None).startswith("neither mask nor regions are connected")
    assert "connected" not in said(pictures(), masks()) and "connected" not in said(pictures(), torch.ones(1, *SIZE))
    assert "text encoder reads the first" in said(pictures(2), masks(2), vae=_FilmVAE())
    assert "text encoder" not in said(pictures(1), masks(), vae=_FilmVAE()) and "text encoder" not in said(pictures(2), masks(2))


def test_latents_with_an_axis_of_time_keep_the_masks_apart():
    latent = crop(pictures(2), masks(2), vae=_FilmVAE(), whole_above=0)[2]
    assert latent["samples"].shape[:3] == (2, 16, 1)
    held = comfy.utils.reshape_mask(latent["noise_mask"], latent["samples"].shape)
    assert held.shape == latent["samples"].shape and not torch.equal(held[0], held[1])
    assert set(held.unique().tolist()) == {0, 1}


def test_without_mask_and_regions_the_whole_picture_is_meant():
    seen, marked, _, (frame,) = crop(pictures())
    assert frame.whole and bool((marked == 1).all()) and seen.shape[1:3] == frame.grid == (80, 128)
    assert crop(pictures(), torch.ones(1, *SIZE))[3][0].whole


def test_regions_with_masks_and_without():
    boxes = torch.tensor([[10.0, 10, 30, 30], [60, 40, 90, 70]])
    plain = Regions(boxes, torch.tensor([0.9, 0.2]), ("a", "b"), SIZE)
    marked, (frame,) = (crop(pictures(), regions=[plain], context=0)[i] for i in (1, 3))
    assert float(frame.crop_mask(torch.ones(SIZE)).sum()) >= float(marked.sum()) > 0
    x0, y0, x1, y1 = frame.box
    assert x0 <= 10 and y0 <= 10 and 30 <= x1 < 60 and y1 >= 30
    both = crop(pictures(), regions=[Regions(boxes, torch.tensor([0.9, 0.5]), ("a", "b"), SIZE)], context=0, whole_above=1)
    wanted = torch.zeros(SIZE)
    wanted[10:30, 10:30] = wanted[40:70, 60:90] = 1  # a score of a half counts
    x0, y0, x1, y1 = both[3][0].box
    assert x0 <= 10 and y0 <= 10 and x1 >= 90 and y1 >= 70 and torch.equal(both[1][0], both[3][0].crop_mask(wanted))
    outlines = torch.zeros(2, *SIZE)
    outlines[0, 15:20, 12:28] = outlines[1, 50:55, 70:75] = 1
    outlined = Regions(boxes, torch.tensor([0.3, 0.2]), ("a", "b"), SIZE, outlines)
    marked, (frame,) = (crop(pictures(), torch.zeros(1, 64, 64), [outlined], context=0)[i] for i in (1, 3))  # Load Image's black mask
    assert torch.equal(marked[0], frame.crop_mask(outlines[0]))  # none is sure: the best
    whole = nodes.FireEditPhotoCrop.execute(pictures(), regions=[plain.with_scores([0, 0])])  # as Ground gives them for "winter"
    assert whole.args[3][0].whole and whole.args[1].all() and "no region is meant: all of it is to be edited" in whole.ui["text"][0]
    some = crop(pictures(2), regions=[Regions.empty(SIZE), plain])
    assert some[3][0].whole and float(some[1][0].max()) == 0 and not some[3][1].whole


def answer(kind: str, image: torch.Tensor) -> dict:
    targets = [{"box": [5, 5, 25, 25], "score": 0.9, "label": "dog"}]
    return {"kind": kind, "targets": targets, "after": "a beach", "image_size": list(SIZE), "picture": fingerprint(image[0].movedim(-1, 0))}


def test_with_the_answer_a_new_background_is_all_but_what_the_mask_marks():
    image, mask = pictures(2), masks(2)
    given = [answer("background", image[:1]), answer("replace", image[1:])]
    made = nodes.FireEditPhotoCrop.execute(image, mask, answer=json.dumps(given))
    (one, two), frames, text = made.args[1], made.args[3], made.ui["text"][0]
    assert torch.equal(one, frames[0].crop_mask(1 - mask[0])) and torch.equal(two, frames[1].crop_mask(mask[1]))
    assert frames[0].whole and "picture 1: all but what stays in front is to be edited" in text and "picture 2: all but" not in text
    assert "another picture" not in text
    # by regions too; a mask of everything says that nothing stands in front; a text of blanks is none; another picture's answer is told
    regions = [Regions(BOX, torch.ones(1), ("dog",), SIZE)]
    behind = nodes.FireEditPhotoCrop.execute(image[:1], regions=regions, answer=json.dumps(given[0]))
    assert torch.equal(behind.args[1][0], behind.args[3][0].crop_mask(1 - to_mask(regions[0])))
    assert nodes.FireEditPhotoCrop.execute(image[:1], torch.ones(1, *SIZE), answer=json.dumps(given[0])).args[1].all()
    plain = nodes.FireEditPhotoCrop.execute(image, mask).args[1]
    assert torch.equal(nodes.FireEditPhotoCrop.execute(image, mask, answer=" ").args[1], plain)
    ramp = torch.linspace(0, 1, SIZE[1]).expand(1, *SIZE)[..., None].expand(-1, -1, -1, 3)
    other = nodes.FireEditPhotoCrop.execute(ramp, mask[:1], answer=json.dumps(given[0])).ui["text"][0]
    assert "made on another picture" in other


@pytest.mark.parametrize("words,act", [
    ("JSON", lambda: nodes.FireEditPhotoCrop.execute(pictures(), masks(), answer="a beach")),
    ("mask is empty", lambda: crop(pictures(), torch.zeros(1, *SIZE))),
    (r"shape \(1, 80, 70\), but 1 picture\(s\) of height 90 and width 140", lambda: crop(pictures(), torch.ones(1, 80, 70))),
    (r"shape \(3, 90, 140\), but 1 picture", lambda: crop(pictures(), masks(3))),
    ("not numbers", lambda: crop(pictures() * float("nan"))),
    ("no region", lambda: crop(pictures(), regions=[Regions.empty(SIZE)])),
    ("are black.*Region Masks", lambda: crop(pictures(), regions=[Regions(BOX, torch.ones(1), ("cup",), SIZE, torch.zeros(1, *SIZE))])),
    ("picture of height 72 and width 96, but", lambda: crop(pictures(), regions=[Regions.whole_image((72, 96))])),
    ("2 pictures came, but regions of 1", lambda: crop(pictures(2), regions=[Regions.whole_image(SIZE)])),
    ("0.0005 megapixels leave less", lambda: crop(pictures(), megapixels=0.0005)),
    ("cells of 8 px, and would cut the crop of 130 x 80 px", lambda: crop(pictures(), vae=_FilmVAE(), multiple=5)),  # one side only
    ("cells of 8 px, and would cut the crop .* Set multiple to 8", lambda: crop(pictures(), masks(), vae=_FilmVAE(), multiple=5)),
])  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(words, act):
    with pytest.raises(FireEditNodeError, match=f"^FireEdit Photo Crop: .*{words}"):
        act()


def test_the_cells_are_those_of_the_vae():
    """Of 16 px in later models: a grid of 8 would be cut at its edges."""
    coarse = type("Coarse", (_FilmVAE,), {"spacial_compression_encode": lambda self: 16})()
    sizes = [x / 1000 for x in range(8, 14)]
    odd = next(x for x in sizes if any(side % 16 for side in crop(pictures(), megapixels=x, multiple=8)[3][0].grid))
    with pytest.raises(FireEditNodeError, match="cells of 16 px.*Set multiple to 16"):
        crop(pictures(), vae=coarse, megapixels=odd, multiple=8)
    crop(pictures(), vae=_FilmVAE(), megapixels=odd, multiple=8)
