# SPDX-License-Identifier: GPL-3.0-or-later
"""The losses of the trainer written out by hand, over a UNet that says what it is told to say."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from diffusers import EulerDiscreteScheduler

from fireedit_core.data import WORLD, vocabulary
from fireedit_core.training import diffusion
from fireedit_core.training.alignment import AuxiliaryHeads, grounding_loss
from fireedit_core.training.autoencoder import reconstruction_loss
from fireedit_core.training.batches import SceneLabels
from fireedit_core.training.diffusion import DiffusionModel, diffusion_stage, first_timesteps, later_timesteps, low_passed
from fireedit_core.training.edit_cache import CachedBatch, sparse_levels
from fireedit_core.training.loop import StageConfig
from fireedit_core.training.tiny import tiny_components
from fireedit_core.vlm import Grounding, VisionFeatures

from .small import SIZES

# text dropped, picture dropped
DROPPED = (torch.tensor([True, False, True, False]), torch.tensor([False, True, True, False]))


@pytest.fixture(scope="module")
def parts():
    """Fresh components whose TATI, HVCA and null embedding have an effect."""
    made = tiny_components(vocabulary(WORLD), SIZES)
    torch.manual_seed(3)
    with torch.no_grad():
        for name in ("tati", "visual_attention", "hvca"):
            for weight in made[name].parameters():
                weight += 0.1 * torch.randn_like(weight)
    return made


@pytest.fixture(scope="module")
def batch(parts):
    """Four pairs of random features."""
    r = torch.Generator().manual_seed(5)
    rand = lambda *shape: torch.randn(shape, generator=r)  # noqa: E731
    hvca, size = parts["hvca"].config, parts["img_tokens"].config.hidden_size
    features = VisionFeatures(
        sparse_levels({i: rand(4, 4, SIZES.dino_size) for i in hvca.dino_levels}),
        sparse_levels({i: rand(4, 4, SIZES.clip_size) for i in hvca.clip_levels}), (8, 8),
    )  # fmt: skip
    return CachedBatch(
        source=rand(4, 16, 16, 16), target=rand(4, 16, 16, 16), mask=(rand(4, 1, 16, 16) - 0.5).clamp(0, 1),
        ids=torch.randint(5, 40, (4, 8), generator=r), text_mask=torch.ones(4, 8, dtype=torch.bool), image_tokens=rand(4, 16, size),
        region_tokens=rand(4, 3, size), region_mask=torch.ones(4, 3, dtype=torch.bool), boxes=torch.rand((4, 3, 4), generator=r),
        fine_mask=torch.zeros(4, 32, 32), look=torch.zeros(4, 3, 12, 12), features=features, labels=None,
    )  # fmt: skip


class Said:
    """A UNet that answers with a share of what it sees, and remembers what it was told."""

    def __init__(self):
        self.share, self.calls = torch.tensor(0.3, requires_grad=True), []

    def __call__(self, x, t, context, cross_attention_kwargs):
        self.calls.append((x.detach(), t, context.detach(), cross_attention_kwargs))
        return SimpleNamespace(sample=self.share * x[:, :16])


@pytest.mark.parametrize("prediction", ["sample", "epsilon", "v_prediction"])
@pytest.mark.parametrize("own", [0.0, 1.0])
def test_the_loss_of_both_looks(parts, batch, monkeypatch, prediction, own):
    monkeypatch.setattr(diffusion, "conditioning_dropout", lambda count: DROPPED)
    scheduler = EulerDiscreteScheduler.from_config(parts["scheduler"].config, prediction_type=prediction)
    model, unet = DiffusionModel(parts | {"scheduler": scheduler}, own_answer=own).eval(), Said()
    model._unet = [unet]
    torch.manual_seed(1)
    loss, _ = model(batch)
    (gradient,) = torch.autograd.grad(loss, unet.share)

    text, image = (~dropped for dropped in DROPPED)
    e, where, _ = model.read(batch)
    null = parts["tati"].null_embedding.expand_as(e)
    reads = torch.where(text[:, None, None], e, null)
    v = parts["hvca"](reads, batch.features) * image[:, None, None]
    visual = parts["visual_attention"].project(v)
    source = batch.source * image[:, None, None, None]
    looks, share, clean = [], torch.tensor(0.3, requires_grad=True), batch.target
    assert len(unet.calls) == 2
    noise = None
    for x, t, context, told in unet.calls:
        a = scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
        signal, sigma = a.sqrt(), (1 - a).sqrt()
        if noise is None:
            noise = (x[:, :16] - signal * clean) / sigma
            assert abs(float(noise.std()) - 1) < 0.05  # and it is the same in the second look, as the next line sees
        noisy = signal * clean + sigma * noise
        assert torch.allclose(x[:, :16], noisy, atol=1e-4) and torch.equal(x[:, 16:], source)
        timed = torch.where(text[:, None, None], parts["tati"](e, t), null)
        assert torch.allclose(context, timed, atol=1e-5)
        assert torch.equal(told["where"], where * text[:, None, None, None]) and where.mean() > 0.01
        for layer, wanted in zip(told["visual"], visual, strict=True):
            assert torch.allclose(layer.keys, wanted.keys, atol=1e-5) and torch.allclose(layer.values, wanted.values, atol=1e-5)
        out = share * noisy
        wanted = {
            "sample": batch.target, "epsilon": (noisy - signal * batch.target) / sigma,
            "v_prediction": (signal * noisy - batch.target) / sigma,
        }[prediction]  # fmt: skip
        looks.append(((1 + 3 * (batch.mask > 0.05)) * (out - wanted).square()).mean())
        answer = {"sample": out, "epsilon": (noisy - sigma * out) / signal, "v_prediction": signal * noisy - sigma * out}[prediction]
        clean = answer.detach() if own else batch.target
    by_hand = (looks[0] + looks[1]) / 2
    assert torch.allclose(loss, by_hand, rtol=1e-4)
    (expected,) = torch.autograd.grad(by_hand, share)
    assert torch.allclose(gradient, expected, rtol=1e-3)


def test_where_the_looks_lie():
    torch.manual_seed(0)
    first, later = first_timesteps(20_000, 1000), later_timesteps(20_000, 1000)
    assert 899 <= first.min() <= 905 and first.max() == 999
    # the density rises with t: P(t < x) = (x / 1000)^2
    assert all(float((later < x).float().mean()) == pytest.approx((x / 1000) ** 2, abs=0.01) for x in (250, 500, 750))


def test_a_source_without_detail():
    flat = torch.full((1, 2, 8, 8), 0.7)
    assert torch.allclose(low_passed(flat), flat)
    checks = (torch.arange(64).view(1, 1, 8, 8) + torch.arange(8).view(1, 1, 8, 1)) % 2.0
    assert (low_passed(checks) - 0.5).abs().max() < 1e-6


def test_pairs_come_in_another_order_in_every_epoch(monkeypatch):
    made = SimpleNamespace(run=lambda: None, ema=None)
    monkeypatch.setattr(diffusion, "diffusion_stage", lambda components, rows, *rest, **more: setattr(made, "rows", rows) or made)
    cache = SimpleNamespace(count=8, get=lambda indices, device: indices.tolist())
    diffusion.train_diffusion({}, cache, "nowhere", StageConfig(1))
    epochs = [made.rows(range(8 * e, 8 * e + 8), torch.device("cpu")) for e in range(3)]
    assert all(sorted(epoch) == list(range(8)) for epoch in epochs) and epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert made.rows(range(4, 12), torch.device("cpu")) == epochs[0][4:] + epochs[1][:4]


def test_the_language_side_learns_at_seven_tenths(parts, tmp_path):
    stage = diffusion_stage(parts, lambda numbers, device: None, tmp_path, StageConfig(1, lr=1e-3), world=WORLD)
    rates = {id(p): group["scale"] for group in stage.optimizer.param_groups for p in group["params"]}
    of = lambda name: {rates[id(p)] for p in parts[name].parameters() if p.requires_grad}  # noqa: E731
    assert of("language_model") == of("img_tokens") == of("grounding") == {0.7} and of("unet") == of("tati") == {1.0}


def random_labels(count: int, heads: AuxiliaryHeads) -> SceneLabels:
    pick = lambda size: torch.randint(-1, size, (count,))  # noqa: E731
    asked = {name: pick(head.out_features) for name, head in heads.questions.items()}
    nobody = torch.full((count, 3), -1)
    return SceneLabels(nouns=nobody, colours=nobody, target=torch.randint(0, 4, (count,)), edit_box=torch.rand(count, 4), **asked)


def test_what_the_edit_embedding_is_asked():
    """Each question of its own row of e; -1 is not asked; 20 times the box, 5 times the look."""
    torch.manual_seed(0)
    heads = AuxiliaryHeads(WORLD, 16, 8, 12)
    e, look, labels = torch.randn(6, 77, 8), torch.rand(6, 3, 12, 12), random_labels(6, heads)
    wanted = torch.zeros(())
    for row, (name, head) in enumerate(heads.questions.items()):
        target = getattr(labels, name)
        logits = head(e[:, row]).log_softmax(-1)
        each = [-logits[i, target[i]] for i in range(6) if target[i] >= 0]
        wanted = wanted + sum(each) / max(1, len(each))
    count = len(heads.questions)
    off = (heads.edit_box(e[:, count]) - labels.edit_box).abs()
    wanted = wanted + 20 * torch.where(off < 0.1, off**2 / 0.2, off - 0.05).mean()
    said = heads.look(torch.cat([e[:, count + 1], e[:, count + 2]], dim=1))
    wanted = wanted + 5 * (said - look.flatten(1)).square().mean()
    assert torch.allclose(heads.embedding_loss(e, labels, look), wanted, rtol=1e-5)


def test_pointing_and_painting():
    torch.manual_seed(0)
    heads = AuxiliaryHeads(WORLD, 16, 8, 12)
    labels, mask = random_labels(5, heads), (torch.rand(5, 32, 32) > 0.7).float()
    given = Grounding(torch.randn(5, 4), torch.randn(5, 16, 16))
    loss, metrics = grounding_loss(given, labels, mask)
    soft, share = given.mask_logits.sigmoid(), mask.view(5, 16, 2, 16, 2).mean((2, 4))
    point = -given.region_logits.log_softmax(-1)[torch.arange(5), labels.target].mean()
    paint = -(share * soft.log() + (1 - share) * (1 - soft).log()).mean()
    dice = torch.stack([1 - (2 * (s * w).sum() + 1) / (s.sum() + w.sum() + 1) for s, w in zip(soft, share)]).mean()
    assert torch.allclose(loss, point + paint + dice, rtol=1e-5)
    assert float(metrics["point"]) == pytest.approx(float((given.region_logits.argmax(-1) == labels.target).float().mean()))


def test_the_autoencoders_loss():
    torch.manual_seed(0)
    pictures, out, latent = torch.rand(2, 3, 8, 8) * 2 - 1, torch.randn(2, 3, 8, 8), 2 * torch.randn(2, 4, 3, 3)
    loss, metrics = reconstruction_loss(pictures, out, latent)
    error = out - pictures
    pixel = error.square().mean() + 0.1 * error.abs().mean()
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    flat = latent.transpose(0, 1).flatten(1)
    unit = flat.mean(1).square().mean() + (flat.std(1) - 1).square().mean() + 0.1 * F.relu(latent.abs() - 3).square().mean()
    assert torch.allclose(loss, pixel + 0.1 * edges + 0.05 * unit, rtol=1e-5)
    # PSNR of what is shown, on 0..1
    shown, seen = (out.clamp(-1, 1) + 1) / 2, (pictures + 1) / 2
    assert float(metrics["psnr"]) == pytest.approx(float(-10 * (shown - seen).square().mean().log10()), rel=1e-4)
