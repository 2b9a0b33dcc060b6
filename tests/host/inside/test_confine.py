# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEdit Confine on small models of the true classes: what is kept is kept exactly, what is free is the model's own, and what does not
fit is refused with both sizes."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from tests.host.inside.pack import nodes  # first: it makes the pack importable
from tests.host.inside.small_edit_models import CELLS, MODELS, EditModel

import comfy.sample  # isort: skip
import comfy.samplers  # isort: skip
from comfy.model_sampling import CONST, ModelSamplingDiscreteFlow  # isort: skip
from comfy.patcher_extension import WrappersMP  # isort: skip
from comfy_extras.nodes_apg import APG  # isort: skip
from comfy_extras.nodes_cfg import CFGNorm, CFGZeroStar  # isort: skip
from comfy_extras.nodes_custom_sampler import BasicGuider, DualCFGGuider, SplitSigmas  # isort: skip
from comfy_extras.nodes_differential_diffusion import DifferentialDiffusion  # isort: skip
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode  # isort: skip
from comfy_extras.nodes_mahiro import Mahiro  # isort: skip
from comfy_extras.nodes_model_advanced import RescaleCFG  # isort: skip
from fireedit_pack.nodes.confine import FireEditConfine, FireEditConfinedMask  # isort: skip
from fireedit_pack.nodes.errors import FireEditNodeError  # isort: skip

SAMPLERS = list(comfy.samplers.KSampler.SAMPLERS)


@cache
def edit_model(name: str, rows: int = 1) -> EditModel:
    with torch.inference_mode():
        return MODELS[name](rows)


def confine(model, mask=None, strength=1.0, start=0.0, end=1.0, edges=0.5, **source):
    return FireEditConfine.execute(model, strength, start, end, edges, mask, **source)[0]


def sample(edit, model, sampler="euler", steps=3, denoise=1.0, latent=None, cfg=2.0, seed=3, noise_mask=None):
    """As KSampler does; from an empty latent, or from the picture's where denoise is below 1."""
    if latent is None:
        latent = edit.empty if denoise == 1 else edit.source
    noise = comfy.sample.prepare_noise(latent, seed)
    return comfy.sample.sample(
        model, noise, steps, cfg, sampler, "simple", edit.positive, edit.negative, latent, denoise=denoise, noise_mask=noise_mask,
        disable_pbar=True, seed=seed,
    )  # fmt: skip


def outside_error(edit, out, rows=1) -> float:
    """The largest difference from the source outside of the mask."""
    free = edit.inside(rows).reshape(rows, *[1] * (out.ndim - 3), *CELLS).expand_as(out)
    return float((out - edit.source)[~free].abs().max())


def inside_change(edit, out, rows=1) -> float:
    free = edit.inside(rows).reshape(rows, *[1] * (out.ndim - 3), *CELLS).expand_as(out)
    return float((out - edit.source)[free].abs().mean())


# --- what is kept, and what is free ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_strength_0_and_a_full_mask_are_the_plain_model(name):
    edit = edit_model(name)
    plain = sample(edit, edit.model)
    assert torch.isfinite(plain).all() and (plain - edit.source).abs().mean() > 0.1
    whole = torch.ones_like(edit.mask())
    assert torch.equal(sample(edit, confine(edit.model, edit.mask(), strength=0.0)), plain)
    assert torch.equal(sample(edit, confine(edit.model, whole)), plain)
    assert torch.equal(sample(edit, edit.model), plain)  # the given model stays as it was


@pytest.mark.parametrize("name", MODELS)
def test_outside_is_the_source_and_inside_is_edited(name):
    edit = edit_model(name)
    out = sample(edit, confine(edit.model, edit.mask()))
    assert outside_error(edit, out) == 0 and inside_change(edit, out) > 0.1
    # without the last word of the exact end it is nearly so: what holds it is the sampling
    nearly = sample(edit, confine(edit.model, edit.mask(), end=0.999))
    assert 0 < outside_error(edit, nearly) < 1e-4 or torch.allclose(nearly, out, atol=1e-4)


@pytest.mark.parametrize("index, name", list(enumerate(MODELS)))
def test_every_sampler_keeps_the_outside(index, name):
    """All samplers of the host, shared out among the models; uni_pc, which writes into the caller's sigmas, with each."""
    edit = edit_model(name)
    model = confine(edit.model, edit.mask())
    for sampler in sorted({*SAMPLERS[index :: len(MODELS)], "uni_pc", "uni_pc_bh2"}):
        for denoise in (1.0, 0.6):
            out = sample(edit, model, sampler, denoise=denoise)
            assert torch.isfinite(out).all(), (sampler, denoise)
            assert outside_error(edit, out) == 0 and inside_change(edit, out) > 0.05, (sampler, denoise)


@pytest.mark.parametrize("name", MODELS)
def test_inside_it_is_what_a_noise_mask_makes(name):
    """Euler under Set Latent Noise Mask over the source's latent: the same, by another way."""
    edit = edit_model(name)
    mask = edit.inside().float()[:, None]
    masked = sample(edit, edit.model, latent=edit.source, noise_mask=mask, steps=4)
    # the host starts epsilon models from a little more noise (14.65 for 14.61) than it puts behind the mask: there it is not the same
    most = 0.02 * float(masked.std()) if name == "SD1.5-IP2P" else 1e-4
    confined = sample(edit, confine(edit.model, edit.mask()), latent=edit.source, steps=4)
    assert (confined - masked).abs().max() < most and inside_change(edit, masked) > 0.1
    # with both: the same outside, exactly
    both = sample(edit, confine(edit.model, edit.mask()), latent=edit.source, noise_mask=mask, steps=4)
    assert outside_error(edit, both) == 0 and (both - masked).abs().max() < most


def test_half_strength_lies_between():
    edit = edit_model("Flux-Kontext")
    changes = [
        float((sample(edit, confine(edit.model, edit.mask(), strength=s)) - edit.source)[:, :, 0].abs().mean()) for s in (0.0, 0.5, 1.0)
    ]
    assert changes[0] > 1.2 * changes[1] > 0 == changes[2]


@pytest.mark.parametrize("window", [(0.5, 1.0), (0.0, 0.5)])
def test_the_window_is_a_share_of_the_noise_schedule(window):
    edit = edit_model("Flux-Kontext")
    held = []
    model = confine(edit.model, edit.mask(), start=window[0], end=window[1])

    def watch(executor, x, timestep, model_options, seed):  # outside of it lies ours: what comes in is what was made of the step before
        x0 = executor(x, timestep, model_options, seed)
        held.append((float(timestep), x0))
        return x0

    spy = model.clone()
    spy.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "spy", watch)
    out = sample(edit, spy, steps=6)
    plain = sample(edit, edit.model, steps=6)
    assert (outside_error(edit, out) == 0) == (window[1] == 1.0)
    assert not torch.equal(out, plain)
    sampling = edit.model.get_model_object("model_sampling")
    middle = sampling.percent_to_sigma(0.5)
    assert min(s for s, _ in held) < middle < max(s for s, _ in held)


@pytest.mark.parametrize("shift", (2.14, 3.0))
def test_the_first_step_is_held_whatever_the_shift(shift):
    """At 2.14 the first noise level is 1.0000001, and at the start of the schedule the host names 1."""
    edit = edit_model("Qwen-Image")
    model, seen = edit.model.clone(), []
    sampling = type("Flow", (ModelSamplingDiscreteFlow, CONST), {})()
    sampling.set_parameters(shift=shift, multiplier=1.0)
    model.add_object_patch("model_sampling", sampling)

    def watch(executor, x, timestep, model_options, seed):
        seen.append((float(timestep), x.clone()))
        return executor(x, timestep, model_options, seed)

    model = confine(model, edit.mask())
    model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "spy", watch)
    sample(edit, model, steps=3)
    (first, x), (second, after) = seen[:2]
    assert first == pytest.approx(1) and (first > 1) == (shift == 2.14)
    source = edit.model.model.process_latent_in(edit.source)
    free = edit.inside(1).reshape(1, *[1] * (x.ndim - 3), *CELLS).expand_as(x)
    # a step of euler towards the source
    assert torch.allclose((after - source)[~free], (second / first * (x - source))[~free], atol=1e-5)


def test_grey_cells_join_late():
    """Every cell of a mask of 0.5 is the source's for the first quarter (0.5 * 0.5) of the steps, and half of the model's after that."""
    edit = edit_model("Flux-Kontext")
    seen = []

    def callback(step, denoised, x, total):
        seen.append(float((denoised - edit.model.model.process_latent_in(edit.source)).abs().mean()))

    model = confine(edit.model, torch.full_like(edit.mask(), 0.5))
    noise = comfy.sample.prepare_noise(edit.empty, 3)
    comfy.sample.sample(
        model, noise, 8, 1.0, "euler", "simple", edit.positive, edit.negative, edit.empty, callback=callback, disable_pbar=True
    )
    assert seen[:2] == [0, 0] and min(seen[2:]) > 0.01


# --- neighbours --------------------------------------------------------------------------------------------------------------


def foreign(model):
    """Another pack's wrapper of predictions, which changes them everywhere."""
    model = model.clone()

    def wrapper(executor, x, timestep, model_options, seed):
        return executor(x, timestep, model_options, seed) * 1.1 + 0.05

    model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "foreign", wrapper)
    return model


NEIGHBOURS = {
    "DifferentialDiffusion": lambda m: DifferentialDiffusion.execute(m)[0],
    "CFGNorm": lambda m: CFGNorm.execute(m, 0.7)[0],
    "CFGZeroStar": lambda m: CFGZeroStar.execute(m)[0],
    "RescaleCFG": lambda m: RescaleCFG().patch(m, 0.7)[0],
    "APG": lambda m: APG.execute(m, 0.5, 1.0, 0.0)[0],
    "Mahiro": lambda m: Mahiro.execute(m)[0],
    "a foreign wrapper": foreign,
    "EasyCache": lambda m: EasyCacheNode.execute(m, 2.0, 0.0, 1.0, False)[0],
    "LazyCache": lambda m: LazyCacheNode.execute(m, 2.0, 0.0, 1.0, False)[0],
}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_neighbours_in_both_orders(name):
    edit, neighbour = edit_model("SD1.5-IP2P"), NEIGHBOURS[name]
    settings = {"steps": 4, "cfg": 4.0}
    if name == "DifferentialDiffusion":  # needs a mask of the host's to act on
        grey = torch.linspace(0, 1, CELLS[1]).expand(1, 1, *CELLS)
        settings |= {"noise_mask": grey, "latent": edit.source}
    behind = sample(edit, confine(neighbour(edit.model), edit.mask()), **settings)
    front = sample(edit, neighbour(confine(edit.model, edit.mask())), **settings)
    assert torch.equal(behind, front), "the order of the nodes makes a difference"
    assert outside_error(edit, behind) == 0 and inside_change(edit, behind) > 0.05
    alone = sample(edit, confine(edit.model, edit.mask()), **settings)
    assert not torch.equal(behind, alone), f"{name} has no effect beside FireEdit Confine"
    # with strength 0, the neighbour is as it is alone
    plain = sample(edit, neighbour(edit.model), **settings)
    assert torch.equal(sample(edit, confine(neighbour(edit.model), edit.mask(), strength=0.0), **settings), plain)


def _by_guider(guider, edit, steps=4):
    sigmas = comfy.samplers.calculate_sigmas(edit.model.get_model_object("model_sampling"), "simple", steps)
    noise = comfy.sample.prepare_noise(edit.empty, 3)
    return guider.sample(noise, edit.empty, comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True, seed=3)


def test_guiders_of_the_host_and_ours():
    edit = edit_model("SD1.5-IP2P")
    model = confine(edit.model, edit.mask())
    from fireedit_pack.nodes.host import guider

    for made in (
        BasicGuider.execute(model, edit.positive)[0],
        DualCFGGuider.execute(model, edit.positive, edit.negative, edit.negative, 3.0, 1.5, "regular")[0],
        guider.make_guider(model, edit.positive, edit.negative, edit.negative, 3.0, 1.5),
    ):
        out = _by_guider(made, edit)
        assert outside_error(edit, out) == 0 and inside_change(edit, out) > 0.05


def test_applying_it_again_replaces_it():
    edit = edit_model("SD1.5-IP2P")
    once = confine(edit.model, edit.mask())
    wide = torch.ones_like(edit.mask())
    wide[:, :8] = 0
    twice = confine(confine(edit.model, wide), edit.mask())
    assert torch.equal(sample(edit, twice), sample(edit, once))
    assert torch.equal(sample(edit, confine(once, wide, strength=0.0)), sample(edit, edit.model))


def test_fireedit_sample_composes(loaded, conds, tokens):
    """Our own sampler node, its own hold outside, and Confine."""
    handle, model, vae = loaded
    images = tokens[0]
    applied = nodes.FireEditApply.execute(model, handle, 1.0, 1.0, 0.0, 1.0)[0]
    mask = torch.zeros(2, *images.shape[1:3])
    mask[0, 16:40, 8:32] = 1
    mask[1, 24:56, 24:48] = 1
    source = conds.args[0][0][1]["concat_latent_image"]
    free = torch.nn.functional.max_pool2d(mask[:, None], 8) > 0
    for keep in ("off", "soft", "exact"):
        confined = confine(applied, mask)
        out = nodes.FireEditSample.execute(
            confined, *conds.args[:3], vae, images, 7, 3, "euler", "simple", 1.5, 1.5, 1.0, keep, mask=mask if keep != "off" else None
        )
        latent, image = out.args[0]["samples"], out.args[1]
        assert torch.equal(latent[~free.expand_as(latent)], source[~free.expand_as(latent)]), keep
        assert (latent - source)[free.expand_as(latent)].abs().mean() > 1e-3
        assert image.shape == images.shape


# --- batches, sizes, sources -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_of_two_with_two_masks(name):
    edit = edit_model(name, 2)
    masks = edit.mask(2)
    out = sample(edit, confine(edit.model, masks))
    assert outside_error(edit, out, 2) == 0 and inside_change(edit, out, 2) > 0.1
    swapped = sample(edit, confine(edit.model, masks.flip(0)))
    assert not torch.equal(out, swapped)
    for row in range(2):  # one mask for both is the same as that mask twice
        one = sample(edit, confine(edit.model, masks[row : row + 1]))
        assert torch.equal(one, sample(edit, confine(edit.model, masks[row : row + 1].expand(2, -1, -1))))
        assert torch.allclose(one[row], out[row], atol=1e-4)


def test_of_qwens_text_encoder_that_reads_one_picture_it_is_said(caplog):
    """Two pictures and one row of text: the row says what the first one shows. With a row each, and for other models, there is no word."""

    def said(name: str, rows: int, texts: int) -> bool:
        edit = edit_model(name, rows)
        for cond in (edit.positive, edit.negative):
            cond[0][0] = cond[0][0][:1].repeat(texts, 1, 1)
        caplog.clear()
        sample(edit, confine(edit.model, edit.mask()), steps=1)
        return "reads one picture" in caplog.text

    with caplog.at_level("WARNING", "fireedit"):
        assert said("Qwen-Image", 2, 1) and not said("Qwen-Image", 1, 1) and not said("Flux-Kontext", 2, 1)
        assert not said("Qwen-Image", 2, 2)
    edit_model.cache_clear()


def test_wrong_sizes_and_numbers_are_refused_with_both():
    edit = edit_model("Flux-Kontext")
    both = r"the mask has height 64 and width 88, but the latent has 8 x 12 cells of 8 px, a picture of height 64 and width 96\. Connect"
    with pytest.raises(FireEditNodeError, match=f"^FireEdit Confine: {both}"):
        sample(edit, confine(edit.model, edit.mask()[..., :88]))
    with pytest.raises(FireEditNodeError, match="^FireEdit Confine: 2 masks came, but the sampler works on 1 latents"):
        sample(edit, confine(edit.model, edit.mask(2)))
    small = {"samples": edit.source[..., :10]}
    with pytest.raises(FireEditNodeError, match="source has 16 channels of 8 x 10 cells, but the sampler's latent has .* of 8 x 12"):
        sample(edit, confine(edit.model, edit.mask(), source=small))
    large = EditModel(edit.model, edit.positive, edit.negative, torch.zeros(1, 16, 10, 12), 8)
    with pytest.raises(FireEditNodeError, match="reference latent has .* of 8 x 12 cells, but the sampler's latent has .* 10 x 12"):
        sample(large, confine(edit.model, torch.ones(1, 80, 96)))
    two = {"samples": edit.source.repeat(2, 1, 1, 1)}
    with pytest.raises(FireEditNodeError, match="source is of 2 pictures, but the sampler works on 1 latents"):
        sample(edit, confine(edit.model, edit.mask(), source=two))
    with pytest.raises(FireEditNodeError, match="mask has shape .* height 64 and width 90"):
        confine(edit.model, edit.mask(), image=torch.rand(1, 64, 90, 3), vae=object())


def test_what_no_mask_or_source_can_be_is_refused(caplog):
    edit = edit_model("Flux-Kontext")
    mask = edit.mask()
    for broken, words in (
        ((0 * mask,), "black everywhere"),
        ((mask * float("nan"),), "not numbers"),
        ((mask * 255,), "0..255"),
        ((mask[None],), "expected a MASK"),
    ):
        with pytest.raises(FireEditNodeError, match=f"^FireEdit Confine: .*{words}"):
            confine(edit.model, *broken)
    with pytest.raises(FireEditNodeError, match="image .1 picture. needs a VAE"):
        confine(edit.model, mask, image=torch.rand(1, 64, 96, 3))
    with pytest.raises(FireEditNodeError, match="both source and image"):
        confine(edit.model, mask, image=torch.rand(1, 64, 96, 3), source={"samples": edit.source})
    with pytest.raises(FireEditNodeError, match="source is an empty latent"):
        confine(edit.model, mask, source={"samples": edit.empty})
    with pytest.raises(FireEditNodeError, match="start_percent 0.8 lies after end_percent 0.2"):
        confine(edit.model, mask, start=0.8, end=0.2)
    with pytest.raises(FireEditNodeError, match="source has values that are not numbers"):
        sample(edit, confine(edit.model, mask, source={"samples": edit.source * float("nan")}))
    with caplog.at_level("WARNING", logger="fireedit"):
        confine(edit.model, torch.cat([mask, 0 * mask, 0.4 * mask]))
    assert [r.message for r in caplog.records] == [
        "FireEdit Confine: mask 2 is black: that picture stays as it was",
        "FireEdit Confine: mask 3 is nowhere brighter than 0.40: the edit will be faint",
    ]


def _told(edit: EditModel, **options) -> EditModel:
    """The same model with conditionings that carry no picture but what is given."""
    pictures = ("reference_latents", "concat_latent_image")
    told = [[[c[0], {k: v for k, v in c[1].items() if k not in pictures} | options] for c in x] for x in (edit.positive, edit.negative)]
    return EditModel(edit.model, *told, edit.source, edit.cell)


def test_the_most_explicit_source_counts():
    edit = edit_model("Flux-Kontext")
    other, third = edit.source.flip(-1), edit.source.flip(-2)
    kept = lambda out, source: torch.equal(out[:, :, 0], source[:, :, 0])  # noqa: E731  the first row of cells is outside
    assert kept(sample(edit, confine(edit.model, edit.mask(), source={"samples": other}), latent=third), other)
    assert kept(sample(edit, confine(edit.model, edit.mask()), latent=third), edit.source)
    # of several references the first that has the latent's size
    several = _told(edit, reference_latents=[torch.ones(1, 16, 6, 6), other, third])
    assert kept(sample(several, confine(edit.model, edit.mask())), other)
    bare = _told(edit)
    assert kept(sample(bare, confine(edit.model, edit.mask()), latent=third, denoise=0.7), third)
    with pytest.raises(FireEditNodeError, match="nothing says what the picture looks like .* Connect the picture to image"):
        sample(bare, confine(edit.model, edit.mask()))


def test_a_source_with_a_hole_is_none():
    """An inpainting model's conditioning carries a picture with a grey hole: not what the outside looks like next to it."""
    edit = edit_model("SD1.5-IP2P")
    holed = _told(edit, concat_latent_image=edit.source * 0.1, concat_mask=torch.ones(1, 1, *CELLS))
    out = sample(holed, confine(edit.model, edit.mask()), latent=edit.source)
    assert outside_error(edit, out) == 0


def test_a_picture_is_encoded_by_the_vae():
    """One by one, because VAEs of video models take a batch for the frames of one clip (Qwen-Image's is one)."""
    edit = edit_model("Qwen-Image", 2)

    class VideoVAE:
        def encode(self, pixels):
            assert pixels.shape[0] == 1, "a batch would become one clip"
            small = pixels.mean(-1)[:, None].unfold(-2, 8, 8).unfold(-2, 8, 8).mean((-1, -2))
            return (small - 0.5).repeat(1, 16, 1, 1)[:, :, None]

    images = torch.rand(2, 64, 96, 3, generator=torch.Generator().manual_seed(1))
    out = sample(edit, confine(edit.model, edit.mask(2), image=images, vae=VideoVAE()))
    wanted = torch.cat([VideoVAE().encode(one[None]) for one in images])
    assert torch.equal(out[..., 0, :], wanted[..., 0, :])


def test_latents_without_frames_fit_those_with_one():
    edit = edit_model("Qwen-Image")
    out = sample(edit, confine(edit.model, edit.mask(), source={"samples": edit.source[:, :, 0]}))
    assert outside_error(edit, out) == 0


def test_a_run_in_two_parts():
    """The first part ends with noise left and is not set; the second goes on from it, and ends exactly."""
    edit = edit_model("Flux-Kontext")
    model = confine(edit.model, edit.mask())
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(edit.positive, edit.negative)
    guider.set_cfg(2.0)
    sigmas = comfy.samplers.calculate_sigmas(edit.model.get_model_object("model_sampling"), "simple", 6)
    high, low = SplitSigmas.execute(sigmas, 3).args
    noise = comfy.sample.prepare_noise(edit.empty, 3)
    euler = comfy.samplers.sampler_object("euler")
    half = guider.sample(noise, edit.empty, euler, high, disable_pbar=True, seed=3)
    assert outside_error(edit, half) > 0.1
    whole = guider.sample(torch.zeros_like(noise), half, euler, low, disable_pbar=True, seed=3)
    assert outside_error(edit, whole) == 0
    at_once = guider.sample(noise, edit.empty, euler, sigmas, disable_pbar=True, seed=3)
    assert torch.allclose(whole, at_once, atol=1e-3)
    # where only the sampler's latent could say what is outside, a noisy one is refused
    bare = _told(edit)
    guider.set_conds(bare.positive, bare.negative)
    with pytest.raises(FireEditNodeError, match="still has noise in it"):
        guider.sample(torch.zeros_like(noise), half, euler, low, disable_pbar=True, seed=3)
    # and a run towards noise is left alone
    up = guider.sample(torch.zeros_like(noise), edit.source, euler, low.flip(0)[1:], disable_pbar=True, seed=3)
    assert torch.isfinite(up).all()


# --- the automatic mask ------------------------------------------------------------------------------------------------------


def painter(model, boxes, source):
    """A model that predicts the source with something else in a box of cells of each row, as an edit model at its best."""
    wanted = model.model.process_latent_in(source).clone()
    for row, (top, left, bottom, right) in enumerate(boxes):
        wanted[row, ..., top:bottom, left:right] += 3
    model = model.clone()
    model.add_wrapper_with_key(
        WrappersMP.PREDICT_NOISE, "painter", lambda executor, x, t, options, seed: executor(x, t, options, seed) * 0.02 + wanted * 0.98
    )
    return model


def test_the_automatic_mask_finds_the_place_and_comes_out():
    edit = edit_model("Flux-Kontext", 2)
    boxes = [(1, 1, 4, 4), (4, 7, 7, 11)]
    model = painter(confine(edit.model), boxes, edit.source)
    out = sample(edit, model, steps=8)
    given = FireEditConfinedMask.execute({"samples": out})
    mask, said = given.args
    assert mask.shape == (2, 64, 96) and said.startswith("picture 1: the edit was free on ")
    for row, (top, left, bottom, right) in enumerate(boxes):
        true = torch.zeros(64, 96)
        true[top * 8 : bottom * 8, left * 8 : right * 8] = 1
        grown = torch.nn.functional.max_pool2d(true[None, None], 49, 1, 24)[0, 0]
        assert (mask[row] * true).sum() == true.sum() and (mask[row] * (1 - grown)).sum() == 0
        kept = mask[row, ::8, ::8] == 0
        assert torch.equal(out[row][:, kept], edit.source[row][:, kept]) and kept.float().mean() > 0.3
    # another run of the same model has its own; the first one's is still there, and rows can be taken out of a batch
    other = sample(edit, model, steps=8, seed=4)
    assert torch.equal(FireEditConfinedMask.execute({"samples": out}).args[0], mask)
    FireEditConfinedMask.execute({"samples": other})
    assert torch.equal(FireEditConfinedMask.execute({"samples": out[1:].clone()}).args[0], mask[1:])
    assert torch.equal(FireEditConfinedMask.execute({"samples": out.half()}).args[0], mask)  # --fp16-intermediates
    # a given mask comes out too
    told = sample(edit, confine(edit.model, edit.mask(2)))
    assert torch.equal(FireEditConfinedMask.execute({"samples": told}).args[0] > 0, edit.mask(2) > 0)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_automatic_mask_in_few_steps(steps):
    edit = edit_model("Flux-Kontext")
    out = sample(edit, painter(confine(edit.model), [(1, 1, 4, 4)], edit.source), steps=steps)
    assert torch.equal(out[..., 7, :], edit.source[..., 7, :]) and (out - edit.source)[0, :, 2, 2].abs().mean() > 1


def test_without_a_region_to_see_nothing_is_held(caplog):
    edit = edit_model("Flux-Kontext")
    whole = painter(confine(edit.model), [(0, 0, *CELLS)], edit.source)
    with caplog.at_level("WARNING", logger="fireedit"):
        out = sample(edit, whole, steps=5)
    assert "the automatic mask shows no region" in caplog.text and "Connect a mask" in caplog.text
    assert torch.equal(out, sample(edit, painter(edit.model, [(0, 0, *CELLS)], edit.source), steps=5))
    assert FireEditConfinedMask.execute({"samples": out}).args[1].endswith("not confined")


def test_of_another_latent_no_mask_is_known():
    edit = edit_model("Flux-Kontext")
    out = sample(edit, confine(edit.model, edit.mask()))
    for strange in (out * 1.01, out[..., :8], sample(edit, edit.model, seed=99)):
        with pytest.raises(FireEditNodeError, match="^FireEdit Confined Mask: no mask is known of this latent.*sampler's own output"):
            FireEditConfinedMask.execute({"samples": strange})
    with pytest.raises(FireEditNodeError, match="row 2 of this latent"):
        FireEditConfinedMask.execute({"samples": torch.cat([out, out * 1.01])})
