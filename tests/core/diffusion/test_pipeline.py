# SPDX-License-Identifier: GPL-3.0-or-later
import copy
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler
from PIL import Image

from fireedit_core.diffusion.compositing import composite, edit_mask, mask_on_latents
from fireedit_core.diffusion.guidance import dual_guidance
from fireedit_core.diffusion.pipeline import (
    FireEditPipeline,
    encode_latents,
    noise_scale,
    pictures_to_tensor,
    posterior,
    set_timesteps,
    tensor_to_pictures,
)
from fireedit_core.regions.record import Regions


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(batch: int = 1, seed: int = 3) -> torch.Tensor:
    return torch.randn(batch, 4, 8, 8, generator=seeded(seed))


def edit(pipe, image, text="remove the apple", **options) -> torch.Tensor:
    return pipe(image, text, output_type="pt", **options).images


def test_five_lines_edit_a_picture(tiny_bundle, picture):
    pipe = FireEditPipeline.from_pretrained(tiny_bundle)
    out = pipe(picture(64, 64), "remove the apple", generator=torch.Generator().manual_seed(0))
    assert isinstance(out.images[0], Image.Image) and out.images[0].size == (64, 64)
    assert out.mask.shape == (1, 64, 64) and 0 <= out.mask.min() and out.mask.max() <= 1
    scores = out.regions[0].scores
    assert out.regions[0].image_size == (64, 64) and scores.tolist() == sorted(scores.tolist(), reverse=True)
    assert scores.sum() <= 1 + 1e-5


def test_what_is_given_takes_the_place_of_the_bundle_s_own(tiny_bundle, tiny_pipe):
    """`scheduler=`, as diffusers takes it, and every misspelt name were swallowed."""
    scheduler = type(tiny_pipe.scheduler).from_config(tiny_pipe.scheduler.config)
    pipe = FireEditPipeline.from_pretrained(tiny_bundle, scheduler=scheduler, steps=3)
    assert pipe.scheduler is scheduler and pipe.config.steps == 3 and pipe.config.native_size == tiny_pipe.config.native_size
    with pytest.raises(TypeError, match="takes no dtype, variant; .* a bundle's components and options .native_size"):
        FireEditPipeline.from_pretrained(tiny_bundle, dtype=torch.float16, variant="fp16")
    with pytest.raises(TypeError, match="torch_dtype must be a torch.dtype"):
        FireEditPipeline.from_pretrained(tiny_bundle, torch_dtype="float16")
    with pytest.raises(TypeError, match="push_to_hub"):
        pipe.save_pretrained(tiny_bundle, push_to_hub=True)


def test_same_seed_same_picture_and_every_input_counts(tiny_pipe, picture):
    source = picture(64, 64)
    first = edit(tiny_pipe, source, generator=seeded())
    assert torch.equal(edit(tiny_pipe, source, generator=seeded()), first)
    assert torch.equal(edit(tiny_pipe, source, latents=torch.randn(1, 4, 8, 8, generator=seeded())), first)
    changes = {
        "seed": {"generator": seeded(1)},
        "instruction": {"text": "make it red"},
        "steps": {"num_inference_steps": 2},
        "text_guidance": {"text_guidance": 2.0},
        "image_guidance": {"image_guidance": 1.0},
        "tati": {"tati_strength": 0.0},
        "tati, in part": {"tati_strength": 0.5},
        "hvca": {"hvca_strength": 0.0},
        "regions": {"regions": [Regions(torch.tensor([[5.0, 5, 20, 30]]), torch.ones(1), ("object",), (64, 64))]},
    }
    for name, change in changes.items():
        assert (edit(tiny_pipe, source, **({"generator": seeded()} | change)) - first).abs().max() > 1e-6, name


def test_the_bundles_numbers_are_the_defaults(tiny_pipe, tiny_options, picture):
    source = picture(64, 64)
    explicit = edit(
        tiny_pipe, source, generator=seeded(), num_inference_steps=tiny_options["steps"], working_size=tiny_options["native_size"],
        text_guidance=tiny_options["text_guidance"], image_guidance=tiny_options["image_guidance"],
    )  # fmt: skip
    assert torch.equal(edit(tiny_pipe, source, generator=seeded()), explicit)


@pytest.mark.parametrize("scales", [(3.0, 1.25), (2.0, 1.0), (1.0, 1.0)])
def test_rows_of_a_batch_equal_single_runs(tiny_pipe, picture, scales):
    sources, texts = [picture(64, 64, seed) for seed in (0, 1)], ["remove the apple", "make it red left cat dog"]
    options = {"text_guidance": scales[0], "image_guidance": scales[1]}
    both = edit(tiny_pipe, sources, texts, latents=noise(2), **options)
    assert both.shape == (2, 3, 64, 64)
    for row in range(2):
        alone = edit(tiny_pipe, sources[row], texts[row], latents=noise(2)[row : row + 1], **options)
        assert torch.allclose(both[row], alone[0], atol=1e-4)


def test_several_instructions_for_one_picture(tiny_pipe, picture):
    texts = ["remove the apple", "make it red", "replace a cat with a dog"]
    out = tiny_pipe(picture(64, 64), texts, latents=noise(3), output_type="pt")
    assert out.images.shape == (3, 3, 64, 64) and len(out.regions) == 3 and out.mask.shape == (3, 64, 64)
    for row, text in enumerate(texts):
        alone = edit(tiny_pipe, picture(64, 64), text, latents=noise(3)[row : row + 1])
        assert torch.allclose(out.images[row], alone[0], atol=1e-4)


def test_several_instructions_with_given_regions(tiny_pipe, picture):
    regions = [Regions(torch.tensor([[5.0, 5, 20, 30]]), torch.ones(1), ("object",), (64, 64))]
    out = tiny_pipe(picture(64, 64), ["make it red", "remove the cat"], regions=regions, output_type="pt")
    assert [r.boxes.tolist() for r in out.regions] == [[[5, 5, 20, 30]]] * 2


@pytest.mark.parametrize("size", [(64, 64), (70, 53), (1, 1), (33, 200), (8, 8)])
def test_output_size_is_input_size(tiny_pipe, picture, size):
    out = tiny_pipe(picture(*size), "make it red", num_inference_steps=1, keep_outside="exact")
    assert out.images[0].size == (size[1], size[0]) and out.mask.shape == (1, *size)


def test_working_size_zero_keeps_the_pictures_own(tiny_pipe, picture):
    latent = tiny_pipe(picture(40, 100), "make it red", working_size=0, num_inference_steps=1, output_type="latent").images
    assert latent.shape == (1, 4, 5, 13)


def test_keep_outside_is_exact_and_the_edit_is_not_empty(tiny_pipe, picture, monkeypatch):
    source = picture(70, 53)
    soft = torch.zeros(1, 70, 53)
    soft[0, 20:40, 10:30] = 1
    condition = tiny_pipe.editor.condition

    def with_mask(tokens, instructions):
        conditions = condition(tokens, instructions)
        conditions.mask = soft
        return conditions

    monkeypatch.setattr(tiny_pipe.editor, "condition", with_mask)
    kept = tiny_pipe(source, "make it red", generator=seeded(), keep_outside="exact").images[0]
    free = tiny_pipe(source, "make it red", generator=seeded()).images[0]
    before, after, loose = (np.asarray(x) for x in (source, kept, free))
    outside = (edit_mask(soft)[0] == 0).numpy()
    assert np.array_equal(before[outside], after[outside]) and not np.array_equal(before[outside], loose[outside])
    inside = soft[0].bool().numpy()
    assert not np.array_equal(before[inside], after[inside])
    raw = tiny_pipe(source, "make it red", generator=seeded(), output_type="pt").images
    expected = composite(pictures_to_tensor(source), raw, edit_mask(soft))
    assert np.array_equal(np.asarray(tensor_to_pictures(expected)[0]), after)


def test_pictures_are_rounded_to_the_nearest_value():
    values = torch.tensor([-0.2, 0.0, 99.4 / 255, 99.6 / 255, 254.6 / 255, 1.3])
    images = torch.stack([values, values.flip(0), torch.full((6,), 0.5)]).reshape(1, 3, 2, 3)
    found = np.asarray(tensor_to_pictures(images)[0])
    assert found[..., 0].tolist() == [[0, 0, 99], [100, 255, 255]] and found[..., 1].tolist() == [[255, 255, 100], [99, 0, 0]]
    assert (found[..., 2] == 128).all()  # 127.5, to the even one
    for broken in (float("nan"), float("inf")):  # which would become black, or white
        images[0, 1, 0, 1] = broken
        with pytest.raises(ValueError, match="the edit has values that are not numbers"):
            tensor_to_pictures(images)


def test_no_region_found_is_the_whole_image(tiny_pipe, picture):
    out = tiny_pipe(picture(64, 64), "make it red", regions=[Regions.empty((64, 64))], latents=noise(), output_type="pt")
    whole = edit(tiny_pipe, picture(64, 64), "make it red", regions=[Regions.whole_image((64, 64))], latents=noise())
    assert len(out.regions[0]) == 0 and torch.equal(out.images, whole)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"instruction": "  "}, "instruction is empty"),
        ({"instruction": ["make it red", ""]}, "instruction is empty"),
        ({"image": "two", "instruction": ["a", "b", "c"]}, "2 pictures need one instruction or 2, got 3"),
        ({"image": torch.zeros(1, 4, 64, 64)}, r"must have shape \(B, 3, H, W\), got \(1, 4, 64, 64\)"),
        ({"image": "unequal"}, "one size"),
        ({"keep_outside": "never"}, "keep_outside must be"),
        ({"regions": [Regions.empty((10, 10))]}, "belong to a picture of height 10"),
        ({"regions": []}, "1 pictures need as many sets of regions, got 0"),
    ],
)
def test_bad_input_is_refused_in_words(tiny_pipe, picture, arguments, message):
    made = {"two": [picture(64, 64)] * 2, "unequal": [picture(64, 64), picture(64, 32)]}
    image = arguments.pop("image", picture(64, 64))
    image = made[image] if isinstance(image, str) else image
    with pytest.raises(ValueError, match=message):
        tiny_pipe(image, **({"instruction": "make it red"} | arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps must be 1 or more, got 0"),  # the bundle's own were taken, and 0 reported
        ({"num_inference_steps": -2}, "num_inference_steps must be 1 or more, got -2"),
        ({"text_guidance": float("nan")}, "these must be numbers: text_guidance nan"),
        ({"hvca_strength": float("inf"), "image_guidance": float("nan")}, "image_guidance nan, hvca_strength inf"),
        ({"mask": torch.full((1, 64, 64), float("nan"))}, "mask must lie in 0..1"),
        ({"mask": torch.full((1, 64, 64), 255.0)}, "mask must lie in 0..1, got 255 to 255"),
        ({"output_type": "np"}, "output_type must be 'pil', 'pt' or 'latent', got 'np'"),  # PIL pictures came
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_and_not_replaced(tiny_pipe, picture, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        tiny_pipe(picture(64, 64), "remove the apple", **arguments)


def test_pictures_become_rgb_between_zero_and_one(picture):
    grey = Image.new("L", (5, 4), 255)
    clear = Image.new("RGBA", (5, 4), (51, 102, 255, 0))
    tensor = pictures_to_tensor([grey, clear])
    assert tensor.shape == (2, 3, 4, 5) and (tensor[0] == 1).all()
    assert torch.allclose(tensor[1, :, 0, 0], torch.tensor([0.2, 0.4, 1.0]))


# --- the sampling formula ----------------------------------------------------------------------------------------------


def simple_sigmas(steps: int) -> torch.Tensor:
    """The host's "simple" scheduler over its sigma table (scaled_linear, 1000 steps): entries 999, 949, ... and 0."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas = (1 - betas).cumprod(0)
    table = ((1 - alphas) / alphas) ** 0.5
    return torch.cat([table[[999 - int(i * 1000 / steps) for i in range(steps)]], torch.zeros(1, dtype=torch.float64)])


@pytest.mark.parametrize("steps", [1, 4, 7, 15, 20, 30])
def test_sigmas_are_the_hosts_simple_list(tiny_pipe, steps):
    scheduler = copy.deepcopy(tiny_pipe.scheduler)
    set_timesteps(scheduler, steps, "cpu")
    assert scheduler.timesteps.tolist() == [999 - i * 1000 // steps for i in range(steps)]
    assert torch.allclose(scheduler.sigmas.double(), simple_sigmas(steps), rtol=1e-4)
    assert noise_scale(scheduler) == pytest.approx((simple_sigmas(1)[0].item() ** 2 + 1) ** 0.5, rel=1e-5)


def test_tati_and_hvca_act_in_their_window(tiny_pipe, picture):
    source, steps = picture(64, 64), {"num_inference_steps": 4}
    run = lambda **o: edit(tiny_pipe, source, generator=seeded(), **steps, **o)  # noqa: E731
    off = run(tati_strength=0.0, hvca_strength=0.0)
    assert torch.equal(run(start_percent=1.0), off) and torch.equal(run(end_percent=1.0), run())
    early, late = run(end_percent=0.4), run(start_percent=0.4)
    for one, other in ((early, off), (late, off), (early, run()), (late, run()), (early, late)):
        assert (one - other).abs().max() > 1e-6


@torch.no_grad()
def test_denoise_equals_the_formula_written_out(tiny_pipe, picture):
    """k-diffusion's Euler, InstructPix2Pix guidance, three separate UNet calls, TATI on the positive one only."""
    pipe = tiny_pipe
    source = pictures_to_tensor(picture(64, 64))
    conditions = pipe.editor.condition(pipe.editor.tokenize(source, pipe.editor.detect(source)), ["make it red"])
    latent, start = pipe.encode_source(source), noise()
    where = mask_on_latents(conditions.mask)
    out = pipe.denoise(conditions, where, latent, 4, 3.0, 1.25, tati_strength=1.0, hvca_strength=0.5, latents=start)
    sigmas, null = simple_sigmas(4).float(), conditions.null_embedding

    def predict(x, sigma, t, context, visual, image, where):
        payload = {"visual": pipe.visual_attention.project(visual), "where": where, "visual_strength": 0.5}
        scaled = torch.cat([x / (sigma**2 + 1) ** 0.5, image], dim=1)
        return pipe.unet(scaled, t, context, cross_attention_kwargs=payload).sample

    x = start * (1 + sigmas[0] ** 2) ** 0.5
    for i, t in enumerate((999, 749, 499, 249)):
        timed = pipe.tati(conditions.edit_embedding, torch.tensor([float(t)]))
        zero = torch.zeros_like(latent)
        x0 = dual_guidance(
            predict(x, sigmas[i], t, timed, conditions.visual, latent, where),
            predict(x, sigmas[i], t, null, conditions.visual_image_only, latent, 0 * where),
            predict(x, sigmas[i], t, null, torch.zeros_like(conditions.visual), zero, 0 * where), 3.0, 1.25,
        )  # fmt: skip
        x = x + (x - x0) / sigmas[i] * (sigmas[i + 1] - sigmas[i])
    assert (out - x).abs().max() < 1e-3 * x.abs().max()


@torch.no_grad()
def test_the_first_unet_input_is_the_unit_noise_itself(tiny_pipe, picture):
    """noise * sqrt(sigma^2 + 1), then divided by the same to enter the UNet: how the host starts too (design D2)."""
    source = pictures_to_tensor(picture(64, 64))
    conditions = tiny_pipe.editor.condition(tiny_pipe.editor.tokenize(source, tiny_pipe.editor.detect(source)), ["make it red"])
    seen = []
    hook = tiny_pipe.unet.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    try:
        tiny_pipe.denoise(conditions, mask_on_latents(conditions.mask), tiny_pipe.encode_source(source), 2, 3.0, 1.25, latents=noise())
    finally:
        hook.remove()
    assert len(seen) == 2 and seen[0].shape == (3, 8, 8, 8)  # two steps, all three branches in one call each
    assert all(torch.allclose(row, noise()[0], atol=1e-5) for row in seen[0][:, :4])
    source_latent = tiny_pipe.encode_source(source)[0]
    assert torch.equal(seen[0][0, 4:], source_latent) and torch.equal(seen[0][1, 4:], source_latent)
    assert not seen[0][2, 4:].any()


@torch.no_grad()
def test_null_branches_do_not_hear_the_instruction(tiny_pipe, picture):
    """Text guidance 0: whatever is written, the same picture comes out; image guidance 0 on top: of whatever source."""
    source = pictures_to_tensor(picture(64, 64))
    tokens = tiny_pipe.editor.tokenize(source, tiny_pipe.editor.detect(source))
    red, cat = (tiny_pipe.editor.condition(tokens, [text]) for text in ("make it red", "remove the cat"))
    assert (red.edit_embedding - cat.edit_embedding).abs().max() > 1e-3 and (red.visual - cat.visual).abs().max() > 1e-4
    assert torch.equal(red.visual_image_only, cat.visual_image_only)
    latent = tiny_pipe.encode_source(source)
    a, b = (tiny_pipe.denoise(c, mask_on_latents(c.mask), latent, 2, 0.0, 1.25, latents=noise()) for c in (red, cat))
    assert torch.equal(a, b)
    a, b = (tiny_pipe.denoise(red, mask_on_latents(red.mask), x, 2, 0.0, 0.0, latents=noise()) for x in (latent, latent.flip(-1)))
    assert torch.equal(a, b)


@torch.no_grad()
def test_a_mask_of_ones_own_replaces_the_grounding(tiny_pipe, picture):
    image = picture(64, 64)
    mask = torch.zeros(1, 64, 64)
    mask[:, :32, :32] = 1
    edit = lambda **options: tiny_pipe(  # noqa: E731
        image, "make it red", num_inference_steps=2, latents=noise(), output_type="pt", **options
    )
    plain, moved, same = edit(), edit(mask=mask), edit(mask=edit().mask)
    assert torch.equal(moved.mask, mask) and (moved.images - plain.images).abs().max() > 1e-4
    assert torch.equal(same.images, plain.images)
    kept = edit(mask=mask, keep_outside="exact").images
    assert torch.equal(kept[..., 48:, 48:], pictures_to_tensor(image)[..., 48:, 48:])
    with pytest.raises(ValueError, match="mask has shape"):
        edit(mask=torch.zeros(1, 32, 64))
    for wrong in (mask * 255, mask / 0, mask - 1):  # 0..255 marked all, and NaN nothing
        with pytest.raises(ValueError, match="mask must lie in 0..1"):
            edit(mask=wrong)


def test_an_autoencoder_in_half_precision_is_given_pictures_that_are_rounded_once():
    """Rounded to bfloat16 before they are spread over -1..1, light pixels would be off by twice as much."""
    given = []
    vae = SimpleNamespace(dtype=torch.bfloat16, encode=given.append)
    grey = torch.arange(256).view(1, 1, 16, 16).expand(1, 3, 16, 16) / 255
    posterior(vae, grey)
    # bfloat16 has steps of 2^-8 below 1
    assert given[0].dtype == torch.bfloat16 and (given[0].double() - (grey.double() * 2 - 1)).abs().max() <= 2**-9 + 1e-6


@torch.no_grad()
def test_source_latent_is_the_mode_and_scaled_as_the_bundle_says(tiny_pipe, picture):
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    kl = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4, sample_size=16).eval()
    images = torch.rand(1, 3, 16, 16)
    mode = kl.encode(images * 2 - 1).latent_dist.mean
    assert torch.equal(encode_latents(kl, images), mode) and torch.equal(encode_latents(kl, images), mode)
    source = pictures_to_tensor(picture(64, 64))
    plain = encode_latents(tiny_pipe.vae, source)
    pipe = copy.copy(tiny_pipe)
    pipe.vae = copy.deepcopy(tiny_pipe.vae)
    pipe.vae.register_to_config(scaling_factor=0.5)
    assert torch.allclose(pipe.encode_source(source), 0.5 * plain)
    pipe._internal_dict = type(pipe._internal_dict)({**pipe._internal_dict, "source_latent_scaled": False})
    assert torch.allclose(pipe.encode_source(source), plain)


@torch.no_grad()
def test_what_was_denoised_leaves_in_the_autoencoders_scale(tiny_pipe, picture):
    """The same UNet on the same latents: under a scale of a half they are twice as large for the decoder."""
    source = pictures_to_tensor(picture(64, 64))
    conditions = tiny_pipe.editor.condition(tiny_pipe.editor.tokenize(source, tiny_pipe.editor.detect(source)), ["make it red"])
    where, latent = mask_on_latents(conditions.mask), tiny_pipe.encode_source(source)
    pipe = copy.copy(tiny_pipe)
    pipe.vae = copy.deepcopy(tiny_pipe.vae)
    one = pipe.denoise(conditions, where, latent, 2, 3.0, 1.25, latents=noise())
    scale = float(pipe.vae.config.scaling_factor)
    pipe.vae.register_to_config(scaling_factor=scale / 2)
    assert torch.allclose(pipe.denoise(conditions, where, latent, 2, 3.0, 1.25, latents=noise()), 2 * one, atol=1e-5)


@pytest.mark.parametrize("kind", [EulerAncestralDiscreteScheduler, DDIMScheduler])
def test_other_schedulers_are_seeded_too(tiny_pipe, picture, kind):
    pipe = copy.copy(tiny_pipe)
    # diffusers' ancestral Euler knows no x0 prediction
    pipe.scheduler = kind.from_config(tiny_pipe.scheduler.config, prediction_type="epsilon")
    first, again = (edit(pipe, picture(64, 64), generator=seeded()) for _ in range(2))
    assert torch.equal(first, again) and torch.isfinite(first).all()


def test_half_precision_runs(tiny_bundle, picture):
    pipe = FireEditPipeline.from_pretrained(tiny_bundle, torch_dtype=torch.bfloat16)
    pipe.set_progress_bar_config(disable=True)
    out = edit(pipe, picture(64, 64), generator=seeded())
    exact = edit(FireEditPipeline.from_pretrained(tiny_bundle), picture(64, 64), generator=seeded())
    assert out.dtype == torch.float32 and 0 < (out - exact).abs().mean() < 0.02


def test_diffusers_sees_a_normal_pipeline(tiny_pipe):
    assert set(tiny_pipe.components) >= {"unet", "vae", "tati", "hvca", "visual_attention", "detector"}
    assert tiny_pipe.to(torch.float32) is tiny_pipe and tiny_pipe.device.type == "cpu"


def test_pictures_come_in_turned_as_their_exif_says_and_in_sixteen_bits(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (6, 10, 3), np.uint8)
    turned = Image.fromarray(rgb)
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    opened = pictures_to_tensor(Image.open(tmp_path / "turned.png"))
    assert torch.allclose(opened[0].permute(1, 2, 0), torch.from_numpy(np.rot90(rgb, -1).copy()).float() / 255)
    deep = np.linspace(0, 65535, 60).astype(np.uint16).reshape(6, 10)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    for picture in (Image.open(tmp_path / "deep.png"), Image.fromarray(deep)):
        opened = pictures_to_tensor(picture)
        assert opened.shape == (1, 3, 6, 10) and torch.allclose(opened[0, 1], torch.from_numpy(deep.astype(np.float32)) / 65535)
    with pytest.raises(ValueError, match="mode F"):
        pictures_to_tensor(Image.fromarray(np.zeros((4, 4), np.float32)))


@pytest.mark.parametrize(("value", "said"), [(float("nan"), "not numbers"), (float("inf"), "not numbers"), (255.0, "0..1, got 0 to 255")])
def test_tensors_that_are_no_pictures_are_refused(value, said):
    pictures = torch.zeros(1, 3, 8, 8)
    pictures[0, 0, 0, 0] = value
    with pytest.raises(ValueError, match=said):
        pictures_to_tensor(pictures)


def test_an_instruction_that_is_cut_is_logged(tiny_pipe, picture, caplog):
    limit = tiny_pipe.img_tokens.config.max_text_tokens
    tiny_pipe(picture(64, 64), "remove the apple " * limit, num_inference_steps=1)
    assert "longer than the model reads; cut off" in caplog.text
    caplog.clear()
    tiny_pipe(picture(64, 64), "remove the apple", num_inference_steps=1)
    assert "cut off" not in caplog.text
