# SPDX-License-Identifier: GPL-3.0-or-later
import math

import pytest
import torch
from diffusers import DDPMScheduler

from fireedit_core.training.paper.losses import grounding_loss, meant_regions, min_snr_weight, row_noise, wanted_prediction
from fireedit_core.vlm import Grounding


def test_noise_belongs_to_the_row_and_not_to_its_place():
    whole = row_noise(torch.tensor([5, 6, 7]), (4, 2, 2), 1000, 0.05)
    alone = row_noise(torch.tensor([7]), (4, 2, 2), 1000, 0.05)
    assert all(torch.equal(a[2:], b) for a, b in zip(whole, alone, strict=True))
    assert not torch.equal(whole[0][0], whole[0][1])


def test_a_twentieth_each_loses_text_both_and_picture():
    _, times, text, picture = row_noise(torch.arange(20_000), (1,), 1000, 0.05)
    for share in ((text & ~picture), (text & picture), (picture & ~text)):
        assert float(share.float().mean()) == pytest.approx(0.05, abs=0.006)
    assert int(times.min()) <= 2 and int(times.max()) >= 997 and float(times.float().mean()) == pytest.approx(499.5, abs=10)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_min_snr_and_the_prediction_agree_with_the_scheduler(kind):
    scheduler = DDPMScheduler(prediction_type=kind)
    t = torch.tensor([1, 400, 990])
    alpha = scheduler.alphas_cumprod[t]
    snr = alpha / (1 - alpha)
    clipped = snr.clamp(max=5.0)
    wanted = {"epsilon": clipped / snr, "v_prediction": clipped / (snr + 1), "sample": clipped}[kind]
    assert torch.allclose(min_snr_weight(scheduler, t, 5.0), wanted, rtol=1e-4)
    assert torch.equal(min_snr_weight(scheduler, t, 0.0), torch.ones(3))
    clean, noise = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    signal, sigma = (x.sqrt().view(-1, 1, 1, 1) for x in (alpha, 1 - alpha))
    noisy = scheduler.add_noise(clean, noise, t)
    said = wanted_prediction(kind, clean, noise, signal, sigma)
    for i in range(3):  # the scheduler gets the clean latent back from it
        back = scheduler.step(said[i : i + 1], int(t[i]), noisy[i : i + 1]).pred_original_sample
        assert torch.allclose(back, clean[i : i + 1].clamp(-1, 1), atol=1e-3)


def test_another_prediction_type_is_refused():
    with pytest.raises(ValueError, match="'flow'"):
        wanted_prediction("flow", *[torch.zeros(1)] * 4)


def test_the_region_over_the_mask_is_meant():
    boxes = torch.tensor([[[0.25, 0.25, 0.5, 0.5], [0.75, 0.75, 0.5, 0.5], [0.5, 0.5, 0.2, 0.2]]]).repeat(6, 1, 1)
    region_mask = torch.ones(6, 3, dtype=torch.bool)
    region_mask[4, 1] = False
    mask = torch.zeros(6, 20, 20, dtype=torch.bool)
    mask[0, 11:20, 10:19] = True  # the second
    mask[1] = True  # all of it
    mask[2, 0:3, 17:20] = True  # no region is there
    mask[4] = mask[0]  # the second, which is not there in this row
    mask[5] = mask[0]  # the answer is to change nothing
    has = torch.tensor([True, True, True, False, True, True])
    unchanged = torch.tensor([False] * 5 + [True])
    assert meant_regions(boxes, region_mask, mask, has, unchanged).tolist() == [1, 3, -1, -1, -1, 3]


def test_grounding_learns_from_what_is_known_only():
    logits = torch.tensor([[0.0, 2.0, -math.inf], [0.0, 0.0, -math.inf]], requires_grad=True)
    painted = torch.zeros(2, 4, 4, requires_grad=True)
    mask = torch.zeros(2, 8, 8, dtype=torch.bool)
    mask[0, :4] = True
    loss, metrics = grounding_loss(Grounding(logits, painted), torch.tensor([1, -1]), mask, torch.tensor([True, False]))
    loss.backward()
    assert torch.isfinite(loss) and metrics["point"] == 1.0
    assert logits.grad[0].abs().sum() > 0 and logits.grad[1].abs().sum() == 0
    assert painted.grad[0].abs().sum() > 0 and painted.grad[1].abs().sum() == 0
    assert (painted.grad[0, :2] < 0).all() and (painted.grad[0, 2:] > 0).all()


def test_the_box_around_a_mask_ends_behind_its_last_pixel():
    """A mask of one pixel, and a region that is that pixel."""
    mask = torch.zeros(1, 10, 20, dtype=torch.bool)
    mask[0, 4, 7] = True
    box = torch.tensor([[[7.5 / 20, 4.5 / 10, 1 / 20, 1 / 10]]])
    one = torch.ones(1, 1, dtype=torch.bool)
    assert meant_regions(box, one, mask, torch.tensor([True]), torch.tensor([False])).tolist() == [0]
