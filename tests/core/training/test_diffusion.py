# SPDX-License-Identifier: GPL-3.0-or-later
"""The diffusion stage on a very small model: cache, dropout, loss, one real step."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from safetensors.torch import load_file

from fireedit_core.data import WORLD, vocabulary
from fireedit_core.training.autoencoder import make_autoencoder
from fireedit_core.training.diffusion import LANGUAGE, TRAINED, DiffusionModel, conditioning_dropout, train_diffusion
from fireedit_core.training.edit_cache import FROZEN, EditCache, fingerprint
from fireedit_core.training.loop import StageConfig
from fireedit_core.training.tiny import tiny_components

from .small import SIZES


@pytest.fixture(scope="module")
def parts():
    made = tiny_components(vocabulary(WORLD), SIZES)
    return made | {"vae": make_autoencoder()}


@pytest.fixture(scope="module")
def cache(parts, tmp_path_factory):
    return EditCache(parts, WORLD, tmp_path_factory.mktemp("cache"), count=6, batch=4)


def test_cache_holds_what_the_unet_needs_and_is_reused(parts, cache):
    batch = cache.get(torch.tensor([0, 5]), torch.device("cpu"))
    assert batch.source.shape == batch.target.shape == (2, 16, 16, 16) and batch.mask.shape == (2, 1, 16, 16)
    assert batch.image_tokens.shape == (2, 16, 64) and batch.ids.shape == batch.text_mask.shape == (2, 32)
    assert batch.region_tokens.shape == (2, 6, 64) and batch.boxes.shape == (2, 6, 4) and batch.region_mask.dtype == torch.bool
    assert batch.region_mask.sum(1).min() >= 2 and (batch.labels.target <= 6).all() and batch.look.shape == (2, 3, 12, 12)
    assert [batch.features.dino[i].shape for i in parts["hvca"].config.dino_levels] == [(2, 64, 32)] * 2
    changed = (batch.source - batch.target).abs().mean(1, keepdim=True)
    assert changed[batch.mask > 0.5].mean() > 2 * changed[batch.mask == 0].mean()  # the mask is where the edit is
    before = (cache.folder / "source.npy").stat().st_mtime_ns
    EditCache(parts, WORLD, cache.folder, count=6, batch=4)
    assert (cache.folder / "source.npy").stat().st_mtime_ns == before


def test_dropout_follows_instructpix2pix():
    torch.manual_seed(0)
    text, image = conditioning_dropout(200_000)
    for share in (text & ~image, text & image, image & ~text):
        assert share.float().mean().item() == pytest.approx(0.05, abs=0.003)


def test_a_stage_trains_only_its_own_modules(parts, cache, tmp_path):
    frozen, unet = fingerprint(parts), parts["unet"].conv_out.weight.clone()
    stage = train_diffusion(parts, cache, tmp_path, StageConfig(5, batch=4, lr=1e-3, warmup=1, ema_decay=0.5, max_steps=3))
    assert stage.progress.step == 3 and fingerprint(parts, FROZEN) == frozen
    # the averages are left in the model, and they are not what the last step made
    assert all(torch.equal(p.cpu(), average.cpu()) for p, average in zip(stage.trainable, stage.ema.shadow_params, strict=True))
    kept = load_file(next((tmp_path / "diffusion" / "state").glob("model*.safetensors")))
    last = {name: p for name, p in stage.raw.named_parameters() if p.requires_grad and name in kept}
    assert last and any(not torch.equal(kept[name], p.cpu()) for name, p in last.items())
    assert not torch.equal(unet, parts["unet"].conv_out.weight)
    for name in ("tati", "hvca", "visual_attention", "qformer"):
        assert any(p.requires_grad for p in parts[name].parameters())


def test_frozen_modules_stay(parts, cache, tmp_path):
    before = {name: fingerprint(parts, (name,)) for name in TRAINED}
    config = StageConfig(5, batch=4, lr=1e-3, warmup=1, ema_decay=0.5, max_steps=2)
    train_diffusion(parts, cache, tmp_path, config, frozen=("qformer", "tati"))
    assert {name for name in TRAINED if fingerprint(parts, (name,)) == before[name]} == {"qformer", "tati"}


@pytest.mark.parametrize("prediction", ["sample", "epsilon", "v_prediction"])
def test_the_second_look_lies_on_the_models_own_answer(parts, cache, prediction):
    """A UNet that answers with the target, said in its own prediction type, has no loss in either look."""
    batch = cache.get(torch.arange(6), torch.device("cpu"))
    scheduler = EulerDiscreteScheduler.from_config(parts["scheduler"].config, prediction_type=prediction)
    model = DiffusionModel(parts | {"scheduler": scheduler}, own_answer=1.0)
    seen = []

    def perfect(x, t, *_, **__):
        noisy, alpha = x[:, :16], model.alphas[t].view(-1, 1, 1, 1)
        seen.append((noisy, alpha))
        noise = (noisy - alpha.sqrt() * answer) / (1 - alpha).sqrt()
        out = {"sample": answer, "epsilon": noise, "v_prediction": alpha.sqrt() * noise - (1 - alpha).sqrt() * answer}
        return SimpleNamespace(sample=out[prediction])

    model._unet = [perfect]
    answer = batch.target
    loss, metrics = model(batch)
    assert float(loss) < 1e-4 and float(metrics["fvu"]) < 1e-4 and float(metrics["fvu own"]) < 1e-4
    assert (seen[0][1] < 0.02).all()  # the first look is at almost pure noise
    answer, seen[:] = torch.zeros_like(batch.target), []
    torch.manual_seed(0)
    model(batch)
    (first, a), (second, b) = seen
    noise = (first - a.sqrt() * batch.target) / (1 - a).sqrt()
    assert torch.allclose(second, (1 - b).sqrt() * noise, atol=1e-4)  # its own answer, 0, under the same noise


def test_what_is_logged_is_of_rows_that_were_shown_everything(parts, cache):
    """A coarse source has to be guessed at: its errors are another matter."""
    batch = cache.get(torch.arange(6), torch.device("cpu"))
    for low_pass, known in ((0.0, True), (1.0, False)):
        torch.manual_seed(0)
        metrics = DiffusionModel(parts, own_answer=1.0, low_pass=low_pass)(batch)[1]
        assert {"fvu", "outside", "fvu own", "outside own"} <= set(metrics) if known else not any("fvu" in name for name in metrics)


@pytest.mark.parametrize("inside", [True, False])
def test_an_error_counts_four_times_inside_the_edit_and_once_outside(parts, cache, inside):
    """A UNet that is off by one in the edited cells alone, or in the others alone."""
    batch = cache.get(torch.arange(6), torch.device("cpu"))
    edited = (batch.mask > 0.05).float()
    wrong = batch.target + (edited if inside else 1 - edited)
    scheduler = EulerDiscreteScheduler.from_config(parts["scheduler"].config, prediction_type="sample")
    model = DiffusionModel(parts | {"scheduler": scheduler})
    model._unet = [lambda *_, **__: SimpleNamespace(sample=wrong)]
    share = float(edited.mean())
    assert 0.01 < share < 0.9
    assert float(model(batch)[0]) == pytest.approx(4 * share if inside else 1 - share, rel=1e-5)


@pytest.mark.parametrize("number, learns", [(0, True), (1, False), (2, False), (3, True)])
def test_the_language_side_learns_in_part_of_the_steps(parts, cache, number, learns):
    """And what comes behind it, and the read-outs of e, in all of them."""
    batch = cache.get(torch.arange(6), torch.device("cpu"))
    model = DiffusionModel(parts, WORLD, language_every=3).requires_grad_(True)
    model.zero_grad(set_to_none=True)
    model(batch, number)[0].backward()
    touched = {name for name, part in model.parts.items() if any(p.grad is not None for p in part.parameters())}
    assert touched == {*TRAINED, *(LANGUAGE if learns else ())}
    assert all(p.grad is not None for p in model.heads.parameters())
