# SPDX-License-Identifier: GPL-3.0-or-later
"""The bundle's autoencoder as a host VAE."""

from __future__ import annotations

import pytest
import torch

from tests.host.small import CONFIG, picture


def test_vae_is_the_pipelines(loaded):
    from fireedit_core.diffusion.pipeline import decode_latents, encode_latents

    vae = loaded[2]
    image = torch.from_numpy(picture()).float()[None] / 255
    module = vae.first_stage_model.autoencoder
    latent = vae.encode(image)
    assert latent.shape == (1, CONFIG.latent_channels, 8, 8) and vae.latent_channels == CONFIG.latent_channels
    assert torch.allclose(latent, encode_latents(module, image.movedim(-1, 1)), atol=1e-5)
    assert torch.allclose(vae.decode(latent), decode_latents(module, latent).movedim(1, -1), atol=1e-5)
    assert vae.spacial_compression_encode() == vae.spacial_compression_decode() == 8
    assert loaded[1].model.latent_format is vae.latent_format


@pytest.mark.parametrize("takes_the_result", (True, False))
def test_pictures_are_right_for_hosts_of_both_conventions(loaded, takes_the_result):
    """Hosts until 2026-02 use what `process_output` returns, newer ones what it has done to its argument."""
    from fireedit_core.diffusion.pipeline import decode_latents

    vae, decoded = loaded[2], torch.tensor([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0])
    result = vae.process_output(decoded)
    seen = result if takes_the_result else decoded
    assert torch.allclose(seen, torch.tensor([0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0]))
    # and through a whole decoding, as a host of either kind does it
    latent = torch.randn(1, CONFIG.latent_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        pictures = vae.first_stage_model.decode(latent.to(vae.vae_dtype)).float()
        result = vae.process_output(pictures)
    assert torch.allclose(result if takes_the_result else pictures, decode_latents(vae.first_stage_model.autoencoder, latent), atol=1e-5)
    # what goes in is the caller's own and stays
    image = torch.rand(1, 64, 64, 3)
    before = image.clone()
    vae.encode(image)
    assert torch.equal(image, before)


@pytest.mark.parametrize(("kind", "scale"), (("kl", 0.18215), ("kl", 0.13025), ("tiny", 1.0)))
def test_other_autoencoders(kind, scale):
    from diffusers import AutoencoderKL, AutoencoderTiny
    from fireedit_pack.nodes.host.vae import BundleVAE

    if kind == "kl":
        blocks = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
        module = AutoencoderKL(
            latent_channels=4, block_out_channels=(32,) * 4, down_block_types=blocks[0], up_block_types=blocks[1],
            scaling_factor=scale,
        )  # fmt: skip
    else:
        module = AutoencoderTiny(latent_channels=4, decoder_block_out_channels=(32,) * 4, encoder_block_out_channels=(32,) * 4)
    vae = BundleVAE(module.eval())
    latent = vae.encode(torch.rand(1, 64, 48, 3))
    assert latent.shape == (1, 4, 8, 6) and vae.decode(latent).shape == (1, 64, 48, 3)
    assert len(vae.latent_format.latent_rgb_factors) == 4
    # what the UNet was trained on
    assert torch.allclose(vae.latent_format.process_in(latent), scale * latent)
    assert torch.allclose(vae.latent_format.process_out(scale * latent), latent, atol=1e-6)
