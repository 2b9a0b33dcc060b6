# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
import torch
from diffusers import UNet2DConditionModel

from fireedit_core.diffusion.initialisation import identity_init_


def make(levels=(False, True), latent: int = 4, **changes) -> UNet2DConditionModel:
    torch.manual_seed(0)
    options = {
        "sample_size": 8, "in_channels": 2 * latent, "out_channels": latent, "block_out_channels": (96, 96), "layers_per_block": 1,
        "down_block_types": ["CrossAttnDownBlock2D" if x else "DownBlock2D" for x in levels],
        "up_block_types": ["CrossAttnUpBlock2D" if x else "UpBlock2D" for x in reversed(levels)],
        "cross_attention_dim": 16, "attention_head_dim": 4,
    }  # fmt: skip
    return UNet2DConditionModel(**(options | changes))


@torch.no_grad()
@pytest.mark.parametrize("levels", [(False, True), (True, True)])
@pytest.mark.parametrize("latent", [4, 16])
def test_first_output_is_the_source_whatever_the_noise(levels, latent):
    """Squared error well under 1 % of the source's power; what there is comes from the free channels' small read-out."""
    unet = make(levels, latent)
    identity_init_(unet)
    generator = torch.Generator().manual_seed(1)
    source = torch.randn(4, latent, 8, 8, generator=generator)
    error = lambda out: ((out - source).square().mean() / source.square().mean()).item()  # noqa: E731
    for t in (999, 500, 1):
        noisy = torch.randn(4, latent, 8, 8, generator=generator)
        inputs = torch.cat([noisy, source], dim=1), t, torch.randn(4, 7, 16, generator=generator)
        assert error(unet(*inputs).sample) < 2e-3
    unet.conv_out.weight[:, 3 * latent :] = 0  # the free channels
    assert error(unet(*inputs).sample) < 1e-4


@torch.no_grad()
def test_sources_that_are_louder_or_quieter_stay_close():
    unet = make()
    identity_init_(unet)
    source = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    for loudness in (0.5, 1.5):
        out = unet(torch.cat([torch.zeros_like(source), loudness * source], dim=1), 500, torch.zeros(4, 7, 16)).sample
        assert ((out / loudness - source).square().mean() / source.square().mean()).item() < 0.01


def test_it_can_learn_to_change_the_picture():
    """A few steps towards a darker source reduce the error: the identity is a start, not a prison."""
    unet = make()
    identity_init_(unet)
    torch.manual_seed(3)
    source, context = torch.randn(4, 4, 8, 8), torch.randn(4, 7, 16)
    x = torch.cat([torch.randn_like(source), source], dim=1)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3)
    losses = []
    for _ in range(10):
        loss = (unet(x, 500, context).sample - 0.5 * source).square().mean()
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]
    still = [n for n, p in unet.named_parameters() if p.grad is None]
    assert not still


@pytest.mark.parametrize(
    "changes", [{"in_channels": 9}, {"block_out_channels": (64, 64)}, {"latent": 64, "sample_size": 8}]
)
def test_shapes_it_cannot_serve_are_refused(changes):
    with pytest.raises(ValueError, match="identity_init_ needs"):
        identity_init_(make(**changes))
