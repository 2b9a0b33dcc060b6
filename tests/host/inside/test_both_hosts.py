# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host gets from us, called by hand in each way that hosts from 0.3.75 to 0.33.0 call it.

The suite runs on one host. A hook that suits only that one makes wrong pictures on another, and no message: so each is played here in
the words of both. tests/host/test_pictures.py looks at the picture in the end.
"""

from __future__ import annotations

import copy
import logging

import pytest
import torch

from tests.host.inside.pack import nodes, run  # first: it makes the pack importable
from tests.host.inside.test_bad_values import takers
from tests.host.small import CONFIG, REPO, SIZE, picture

import comfy.latent_formats  # isort: skip
import comfy.samplers  # isort: skip
import latent_preview  # isort: skip
from fireedit_pack.nodes.host import guider as host_guider  # isort: skip
from fireedit_pack.nodes.host import compat, patching  # isort: skip
from fireedit_pack.nodes.host.vae import BundleLatents  # isort: skip

WRAPPER = patching.WrappersMP.DIFFUSION_MODEL


def pixels(count: int = 3) -> torch.Tensor:
    return torch.stack([torch.from_numpy(picture(seed=i)).float() / 255 for i in range(count)])


@pytest.fixture
def patched(loaded):
    return patching.apply(loaded[1], loaded[0], 1, 1, 0, 1)


# --- the VAE ----------------------------------------------------------------------------------------------------------


def decode_until_2026_02(vae, latents: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What comes back from `process_output` is the picture; always float32."""
    parts = [vae.process_output(vae.first_stage_model.decode(part.to(vae.vae_dtype)).float()) for part in latents.split(2)]
    return torch.cat(parts)


def decode_since_2026_03(vae, latents: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What `process_output` does to a part of the batch's buffer is the picture; the buffer has the type of intermediate values."""
    out = torch.empty(len(latents), 3, 64, 64, dtype=dtype)
    for start in range(0, len(latents), 2):
        out[start : start + 2].copy_(vae.first_stage_model.decode(latents[start : start + 2].to(vae.vae_dtype)))
        vae.process_output(out[start : start + 2])
    return out


def decode_by_tiles(vae, latents: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Of any host: the mean of decoded tiles goes in once, what comes back is the picture."""
    tiles = [vae.first_stage_model.decode(latents.to(vae.vae_dtype)).to(dtype) for _ in range(3)]
    return vae.process_output(sum(tiles) / 3.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("decode", [decode_until_2026_02, decode_since_2026_03, decode_by_tiles])
def test_decoding(loaded, decode, dtype):
    from fireedit_core.diffusion.pipeline import decode_latents

    vae = loaded[2]
    latents = torch.randn(3, CONFIG.latent_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    wanted = decode_latents(vae.first_stage_model.autoencoder, latents)
    assert wanted.min() < 0.2 and wanted.max() > 0.8
    near = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    assert (decode(vae, latents, dtype).float() - wanted).abs().max() <= near


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_encoding_leaves_the_picture_alone(loaded, dtype):
    """`process_input` gets a part of the IMAGE that lies in the host's cache; --fp16-intermediates makes it float16."""
    from fireedit_core.diffusion.pipeline import encode_latents

    vae, images = loaded[2], pixels().to(dtype).movedim(-1, 1)
    before = images.clone()
    parts = [vae.first_stage_model.encode(vae.process_input(part).to(vae.vae_dtype)).float() for part in images.split(2)]
    assert torch.equal(images, before)
    assert (torch.cat(parts) - encode_latents(vae.first_stage_model.autoencoder, images.float())).abs().max() <= 1e-2


@pytest.mark.parametrize("kind", [torch.Size, tuple, list])
def test_memory_estimates(loaded, kind):
    """Called with (shape, dtype); since 2026-07 the shape is also a tuple that was cut to a tile. The host divides by what comes."""
    vae = loaded[2]
    for estimate, channels in ((vae.memory_used_encode, 3), (vae.memory_used_decode, CONFIG.latent_channels)):
        small, large = (estimate(kind((1, channels, 8 * n, 8 * n)), torch.float16) for n in (1, 2))
        assert 0 < small < large < float("inf") and large == pytest.approx(4 * small)
        assert estimate(kind((1, channels, 8, 8)), torch.float32) == pytest.approx(2 * small)
        assert max(1, int(10**9 / small)) > 1


# --- latents and previews ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 0.37])
def test_latent_formats(loaded, scale):
    """Both directions give a new tensor, as the argument lies in the host's cache; newer hosts read two ratios and a hook more."""
    made = BundleLatents(CONFIG.latent_channels, scale, *([[[0.0] * 3] * CONFIG.latent_channels, [0.0] * 3]))
    for latents in (made, comfy.latent_formats.SD15(scale)):
        x = torch.randn(2, latents.latent_channels, 4, 5)
        before = x.clone()
        inside = latents.process_in(x)
        assert torch.allclose(inside, x * scale) and torch.allclose(latents.process_out(inside), x, atol=1e-6) and torch.equal(x, before)
        assert getattr(latents, "spacial_downscale_ratio", 8) == 8 and getattr(latents, "temporal_downscale_ratio", 1) == 1
        assert latents.latent_dimensions == 2 and latents.latent_rgb_factors_reshape is None
        empty = torch.zeros(1, latents.latent_channels, 4, 5)
        assert torch.equal(getattr(latents, "fix_empty_latent", lambda z: z)(empty), empty)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_previewer(loaded, dtype):
    """What every step shows: the colours of the picture that the latent stands for, for one picture of a batch."""
    from fireedit_pack.nodes.host import models

    vae = models.load(REPO / "models" / "fireedit-tiny", "fireedit-tiny")[2]
    image = torch.nn.functional.interpolate(pixels(2).movedim(-1, 1), (128, 128), mode="bilinear").movedim(1, -1)
    latents, known = vae.latent_format, vae.encode(image)
    shown = latent_preview.Latent2RGBPreviewer(
        latents.latent_rgb_factors, latents.latent_rgb_factors_bias, latents.latent_rgb_factors_reshape
    ).decode_latent_to_preview(latents.process_in(known).to(dtype))
    assert shown.size == (16, 16)
    colours = torch.nn.functional.avg_pool2d(image[:1].movedim(-1, 1), 8)[0].movedim(0, -1) * 255
    found = torch.frombuffer(bytearray(shown.tobytes()), dtype=torch.uint8).view(16, 16, 3).float()
    assert torch.corrcoef(torch.stack([found.flatten(), colours.flatten()]))[0, 1] > 0.9
    assert (found - colours).abs().mean() < 20
    assert (found.mean((0, 1)) - colours.mean((0, 1))).abs().max() < 12


# --- values in float16 ------------------------------------------------------------------------------------------------


def numbers(value) -> list[torch.Tensor]:
    """Every IMAGE and MASK among the outputs of a node."""
    return [x.float() for x in value.args if torch.is_tensor(x)]


def test_pictures_and_masks_in_float16(loaded, patched, tokens, conds, monkeypatch):
    """--fp16-intermediates of newer hosts: every node takes them, and what it gives is what it gives for float32."""
    handle, _, vae = loaded
    half = tokens[0].half()
    images = half.float()  # the same numbers
    for name, call in takers((handle, patched, vae), tokens, conds).items():
        far = [float((a - b).abs().max()) for a, b in zip(numbers(call(half)), numbers(call(images)), strict=True)]
        assert max(far, default=0.0) <= 1 / 255, name
    mask = torch.zeros(2, SIZE, SIZE, dtype=torch.float16)
    mask[:, 8:40, 8:40] = 1.0
    settings = (7, 2, "euler", "simple", 1.0, 1.0, 1.0, "exact", mask)
    decode = vae.decode
    monkeypatch.setattr(vae, "decode", lambda latents: decode(latents).half())  # as such a host's own VAE gives it
    for image in (half, tokens[0]):  # and beside it a float32 picture of another node
        edited = nodes.FireEditSample.execute(patched, *conds.args[:3], vae, image, *settings).args[1]
        assert torch.equal(edited[:, 56:], image[:, 56:].float()), "outside the mask the picture's own numbers come out"
        assert (edited[:, 16:32, 16:32] - image[:, 16:32, 16:32]).abs().max() > 0.05


# --- wrapper and patches ----------------------------------------------------------------------------------------------


def payload(conds) -> dict[str, torch.Tensor]:
    return {key: value.cond[:1] for key, value in conds.args[0][0][1]["model_conds"].items()}


def test_the_wrapper(patched, conds):
    """The UNet calls it by position; other packs' wrappers around it by name. Newer hosts add keys to the options of each call."""
    wrapper = patched.wrappers[WRAPPER][patching.KEY][0]
    seen = []

    def executor(x, timesteps, context=None, y=None, control=None, transformer_options=None, **kwargs):
        seen.append((context, transformer_options, kwargs))
        return x + 1

    x, t, context = torch.randn(1, 16, 8, 8), torch.tensor([500.0]), conds.args[0][0][0][:1]
    # as 0.3.75 makes them, and as 0.33.0
    old = {"cond_or_uncond": [0], "sigmas": torch.tensor([1.0]), "uuids": [0]}
    new = old | {"prefetch_dynamic_vbars": False, "sample_sigmas": torch.tensor([1.0, 0.0])}
    before, untouched = copy.deepcopy(old), context.clone()
    calls = (
        lambda: wrapper(executor, x, t, context, None, None, old, **payload(conds)),
        lambda: wrapper(executor, x, t, context, None, None, new, **payload(conds), denoise_mask="theirs"),
        lambda: wrapper(executor, x, t, context=context, y=None, control=None, transformer_options=new, **payload(conds)),
    )
    assert all(torch.equal(call(), x + 1) for call in calls)
    assert torch.equal(context, untouched) and not torch.equal(seen[0][0], context), "TATI's condition is new, e is left alone"
    assert all(torch.equal(one, seen[0][0]) and patching.KEY in options for one, options, _ in seen)
    assert seen[1][2] == {"denoise_mask": "theirs"} and seen[1][1]["prefetch_dynamic_vbars"] is False
    assert str(old) == str(before) and patching.KEY not in new, "the options of the host are its own"


@pytest.mark.parametrize("middle", [0, 1])
def test_the_patches_of_the_cross_attention(patched, conds, middle):
    """Called by position in pairs; the middle block goes by two names, the grid of a level came in 0.3.40."""
    patches = patched.model_options["transformer_options"]["patches"]
    (remember,), (add,) = patches["attn2_patch"], patches["attn2_output_patch"]
    wrapper, options = patched.wrappers[WRAPPER][patching.KEY][0], {}
    wrapper(
        lambda x, t, c, y, control, given, **_: options.update(given), torch.zeros(1, 16, 8, 8), torch.tensor([500.0]),
        conds.args[0][0][0][:1], None, None, {"cond_or_uncond": [0]}, **payload(conds),
    )  # fmt: skip
    width = patched.model.diffusion_model.middle_block[1].transformer_blocks[0].attn2.to_q.in_features
    query, out = torch.randn(1, 16, width), torch.randn(1, 16, width)

    def played(**more):
        extra = options | {"block": ("middle", middle), "n_heads": 4, "dim_head": width // 4} | more
        triple = remember(query, "context", "value", extra)
        assert triple[0] is query and triple[1:] == ("context", "value")
        return add(out.clone(), extra)

    with_it = played(block_index=0, activations_shape=[1, width, 4, 4])
    assert with_it.shape == out.shape and (with_it - out).abs().max() > 1e-3
    assert torch.allclose(played(), with_it, atol=1e-6), "without block_index and grid"
    assert torch.allclose(played(activations_shape=torch.Size([1, width, 4, 4])), with_it, atol=1e-6)
    # without the wrapper's mark, as in a call of the UNet by another pack, nothing is added
    bare = {"block": ("middle", middle), "block_index": 0}
    remember(query, None, None, bare)
    assert torch.equal(add(out.clone(), bare), out)


def test_the_clean_up_is_called_with_and_without_the_patcher(patched):
    for call in patched.get_all_callbacks(patching.CallbacksMP.ON_CLEANUP):
        call(patched)
        call()


# --- conditionings ----------------------------------------------------------------------------------------------------


def test_what_rides_in_a_conditioning(conds):
    """`process_cond` by name, with what older hosts added; the three of a run go into one batch, which newer hosts then move."""
    three = [entry[0][1]["model_conds"] for entry in conds.args[:3]]
    for key in three[0]:
        for more in ({"area": None}, {"area": None, "device": torch.device("cpu")}):
            made = [one[key].process_cond(batch_size=4, **more) for one in three]
            assert all(type(m) is type(one[key]) for m, one in zip(made, three, strict=True))
            assert all(m.cond.shape[0] == 4 and list(m.size()) == list(m.cond.shape) for m in made)
            assert made[0].can_concat(made[1]) and not made[0].can_concat(three[0][key].process_cond(batch_size=3, **more))
            joined = made[0].concat(made[1:])
            assert torch.is_tensor(joined) and joined.shape == (12, *made[0].cond.shape[1:])
            assert torch.equal(joined.to("cpu")[4:8], made[1].cond)
    for entry in conds.args[:3]:  # what stands beside it is copied or ignored by the host
        assert set(copy.copy(entry[0][1])) >= {"model_conds", "fireedit_working_size"}


# --- the guider -------------------------------------------------------------------------------------------------------


def recorded(model, conds, ours: bool) -> dict[str, set[str]]:
    """The names that patches around the guidance are called with, under our guider or the host's own."""
    seen, patched = {}, model.clone()
    patched.set_model_sampler_pre_cfg_function(lambda args: (seen.update(before=set(args)), args["conds_out"])[1])
    patched.set_model_sampler_post_cfg_function(lambda args: (seen.update(after=set(args)), args["denoised"])[1])
    if ours:
        run(patched, conds, steps=1)
        return seen
    plain = comfy.samplers.CFGGuider(patched)
    plain.set_conds(conds.args[0], conds.args[2])
    plain.set_cfg(2.0)
    sampled(plain, conds)
    return seen


def sampled(guider, conds, dtype=torch.float32, **more):
    """As SamplerCustomAdvanced does it; under --fp16-intermediates noise and latent come in float16."""
    latent = torch.zeros_like(conds.args[3]["samples"])
    noise = torch.randn(latent.shape, generator=torch.manual_seed(3)).to(dtype)
    sigmas = torch.tensor([1.0, 0.0])
    euler = comfy.samplers.sampler_object("euler")
    return guider.sample(noise, latent.to(dtype), euler, sigmas, **{"denoise_mask": None, "callback": None} | more)


def test_patches_around_the_guidance_get_what_the_host_gives(patched, conds):
    ours, hosts = (recorded(patched, conds, mine) for mine in (True, False))
    assert set(hosts) == {"before", "after"} and all(ours[key] >= hosts[key] for key in hosts)


def test_the_guider_is_called_by_position_and_by_name(patched, conds):
    guider = host_guider.make_guider(patched, *conds.args[:3], 3.0, 1.5)
    seen, predict = [], guider.predict_noise

    def watch(*args, **kwargs):
        x, sigma, *rest = args
        named = dict(zip(("model_options", "seed"), rest)) | kwargs
        both = predict(x, sigma, named["model_options"], named.get("seed")), predict(x, sigma, model_options=named["model_options"], seed=1)
        bare = predict(x, sigma)  # nothing else is promised; without options there is neither TATI nor HVCA
        seen.append((*both, bare))
        return both[0]

    guider.predict_noise = watch
    # newer hosts write the scale of plain guidance into their log
    assert isinstance(guider.cfg, (int, float))
    out = sampled(guider, conds, disable_pbar=True, seed=3, callback=lambda step, x0, x, total: seen.append(total))
    assert torch.equal(seen[0][0], seen[0][1]) and seen[0][2].shape == out.shape and seen[1] == 1 and torch.isfinite(out).all()


def test_a_patch_that_computes_the_branches_is_said(patched, conds, caplog):
    """Its function takes two branches and ours are three: it has no effect, and that is said."""
    theirs = patched.clone()
    theirs.set_model_sampler_calc_cond_batch_function(lambda args: pytest.fail("two branches are all that it knows"))
    with caplog.at_level(logging.WARNING, "fireedit"):
        assert torch.equal(run(theirs, conds, steps=1), run(patched, conds, steps=1))
    assert "computes the two branches of plain guidance itself" in caplog.text


def test_a_sampled_latent_lies_and_is_of_the_type_that_the_host_wants(patched, conds, monkeypatch):
    """Where and in which type KSampler leaves its own; `intermediate_dtype` came in 2026-03."""
    import comfy.model_management as management

    monkeypatch.setattr(management, "intermediate_dtype", lambda: torch.float16, raising=False)
    assert run(patched, conds, steps=1).dtype == torch.float16
    monkeypatch.delattr(management, "intermediate_dtype")
    assert run(patched, conds, steps=1).dtype == torch.float32


def test_the_source_latent_goes_in_as_the_bundle_says(loaded):
    """`process_ip2p_image_in`: what comes back is concatenated, and the conditioning's own tensor stays."""
    latent = torch.randn(1, CONFIG.latent_channels, 8, 8)
    before = latent.clone()
    assert torch.equal(loaded[1].model.process_ip2p_image_in(latent), before) and torch.equal(latent, before)


def test_words_on_the_running_node(monkeypatch):
    """`send_progress_text(text, node_id, sid)`, by position; nothing is sent where nobody listens."""
    from fireedit_pack.nodes.host import progress

    sent = []

    class Server:
        client_id = "me"

        def send_progress_text(self, text, node_id, sid=None):
            sent.append((text, node_id, sid))

    monkeypatch.setattr(progress, "running_server", Server)
    monkeypatch.setattr(progress, "get_executing_context", lambda: type("Context", (), {"node_id": "7"})())
    progress.say("editing")
    assert sent == [("editing", "7", "me")]
    assert nodes.FireEditLoader.fingerprint_inputs(bundle="no such bundle") == "no such bundle"


# --- latents ------------------------------------------------------------------------------------------------------------


def test_pixels_per_latent_cell_are_known_on_both():
    """Newer hosts say them on the latent format (2026-03), older ones do not: then the class of the format tells."""
    said = type("Told", (), {"spacial_downscale_ratio": 32})()
    assert compat.latent_cell(said) == 32
    silent = type("Flux2", (), {})()
    assert compat.latent_cell(silent) == 16 and compat.latent_cell(type("SD15", (), {})()) == 8
    here = {name: compat.latent_cell(getattr(comfy.latent_formats, name)()) for name in ("SD15", "Flux", "Flux2", "Wan21", "Wan22")}
    assert here == {"SD15": 8, "Flux": 8, "Flux2": 16, "Wan21": 8, "Wan22": 16}
