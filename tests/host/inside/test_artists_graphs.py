# SPDX-License-Identifier: GPL-3.0-or-later
"""Photo Crop, Confine and Photo Finish in graphs that people have: with a ControlNet, two LoRAs, an upscaler, a noise mask, a batch of 3.

Small models of the true classes; each graph is right outside of the mask to the bit and different inside, and what its neighbour adds is
seen.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tests.host.inside.make_controlnet import make_controlnet
from tests.host.inside.pack import nodes  # first: it makes the pack importable
from tests.host.inside.small_edit_models import kontext, pix2pix
from tests.host.inside.small_parts import CellVAE
from tests.host.small import picture

import comfy.controlnet  # isort: skip
import comfy.sample  # isort: skip
import comfy.utils  # isort: skip
from fireedit_pack.nodes.errors import FireEditNodeError  # isort: skip

SIZE = (160, 224)


def photos(count: int = 1) -> torch.Tensor:
    return torch.stack([torch.from_numpy(picture(*SIZE, seed=seed)).float() / 255 for seed in range(count)])


def masks(count: int = 1) -> torch.Tensor:
    """In each photo another place."""
    made = torch.zeros(count, *SIZE)
    for i in range(count):
        made[i, 40 + 20 * i : 80 + 20 * i, 30 + 50 * i : 90 + 50 * i] = 1
    return made


class Shot:
    """A photograph, or several, in the graph: cropped, confined, sampled, decoded and finished."""

    def __init__(self, build, channels: int, count: int = 1):
        self.photo, self.mask, self.edit = photos(count), masks(count), build()
        self.vae = CellVAE(channels, 8, False)
        crop = nodes.FireEditPhotoCrop.execute(self.photo, self.mask, None, self.vae, 0.02, 16, 0.5, 0.4)
        self.crop, self.marked, self.latent, self.frames = crop.args
        self.source = self.latent["samples"]
        key = "concat_latent_image" if channels == 4 else "reference_latents"
        told = self.source if channels == 4 else [self.source]
        self.conds = [[[cond[0][0], dict(cond[0][1]) | {key: told}]] for cond in (self.edit.positive, self.edit.negative)]
        self.model = self.confined(self.edit.model)

    def confined(self, model):
        return nodes.FireEditConfine.execute(model, 1.0, 0.0, 1.0, 0.5, self.marked)[0]

    def sampled(self, model=None, conds=None, latent=None, **options) -> torch.Tensor:
        positive, negative = conds or self.conds
        latent = torch.zeros_like(self.source) if latent is None else latent
        noise = comfy.sample.prepare_noise(latent, 3)
        return comfy.sample.sample(
            model or self.model, noise, 3, 2.0, "euler", "simple", positive, negative, latent, disable_pbar=True, seed=3, **options
        )

    def finished(self, samples: torch.Tensor):
        return nodes.FireEditPhotoFinish.execute(self.photo, self.frames, self.vae.decode(samples), self.marked).args

    def checked(self, samples: torch.Tensor) -> torch.Tensor:
        """The finished photographs, after a look at what moved: latents outside of the mask, pixels outside of what was pasted."""
        free = F.max_pool2d(self.marked[:, None], 8)[:, 0] > 0
        for i in range(len(samples)):
            off = samples[i] - self.source[i]
            assert float(off[:, ~free[i]].abs().max()) == 0 < float(off[:, free[i]].abs().mean())
        image, weight, report = self.finished(samples)
        assert image.shape == self.photo.shape
        for i in range(len(image)):
            assert torch.equal(image[i][weight[i] == 0], self.photo[i][weight[i] == 0]), report
            assert float((image[i] - self.photo[i])[self.mask[i] == 1].abs().mean()) > 0.02, report
            # pasted around its own mask, and nowhere near the others'
            assert bool((weight[i][self.mask[i] == 1] > 0).all()) and float((weight[i] > 0).float().mean()) < 0.6
        return image


def test_a_controlnet_behind_it():
    """Its control reaches the edit, and nothing outside of the mask."""
    shot = Shot(pix2pix, 4)
    control = comfy.controlnet.ControlNet(
        make_controlnet(shot.edit.model.model.model_config.unet_config, 4), load_device=torch.device("cpu"),
        manual_cast_dtype=None,
    )  # fmt: skip
    hint = shot.crop.mean(-1, keepdim=True).expand(-1, -1, -1, 3).movedim(-1, 1)
    conds = [[[c[0][0], dict(c[0][1]) | {"control": control.copy().set_cond_hint(hint, 1.0, (0.0, 1.0)), "control_apply_to_uncond": False}]]
             for c in shot.conds]  # fmt: skip
    plain, controlled = shot.sampled(), shot.sampled(conds=conds)
    assert float((plain - controlled).abs().max()) > 1e-3
    shot.checked(controlled)


@pytest.mark.parametrize("build, channels", [(pix2pix, 4), (kontext, 16)])
def test_two_loras_before_or_behind_confine(build, channels):
    """Both count, in whatever order the three stand."""
    shot = Shot(build, channels)
    keys = [k for k in shot.edit.model.model.state_dict() if k.startswith("diffusion_model.") and k.endswith("weight")]
    state = shot.edit.model.model.state_dict()
    wide = [key for key in keys if state[key].ndim == 2]

    def lora(model, seed: int):
        made, generator = model.clone(), torch.Generator().manual_seed(seed)
        patches = {key: (0.1 * torch.randn(state[key].shape, generator=generator),) for key in wide[seed::2]}
        assert made.add_patches(patches, 0.8)
        return made

    orders = (
        shot.confined(lora(lora(shot.edit.model, 0), 1)), lora(shot.confined(lora(shot.edit.model, 0)), 1),
        lora(lora(shot.model, 0), 1),
    )  # fmt: skip
    first, *others = (shot.sampled(model) for model in orders)
    assert all(torch.equal(first, other) for other in others)
    one = shot.sampled(lora(shot.model, 0))
    assert min(float((first - x).abs().max()) for x in (one, shot.sampled())) > 1e-3
    shot.checked(first)


def twice(pictures: torch.Tensor) -> torch.Tensor:
    """As the host's Upscale Image does; those with a model go through /prompt in tests/host/test_graphs.py."""
    height, width = pictures.shape[1:3]
    return comfy.utils.common_upscale(pictures.movedim(-1, 1), 2 * width, 2 * height, "lanczos", "disabled").movedim(1, -1)


def test_an_upscaler_behind_finish_and_one_before_it():
    """Behind: the finished photo, larger. Before: an edit at twice the crop's size comes back at the photo's own, right or in words."""
    shot = Shot(kontext, 16)
    samples = shot.sampled()
    image = shot.checked(samples)
    large, doubled = (twice(one) for one in (image, shot.vae.decode(samples)))
    again, weight, report = nodes.FireEditPhotoFinish.execute(shot.photo, shot.frames, doubled, shot.marked).args
    assert again.shape == shot.photo.shape and torch.equal(again[weight == 0], shot.photo[weight == 0])
    assert float((again - image).abs().mean()) < 0.02, report
    # the upscaled photo is no longer the one that the frame belongs to
    with pytest.raises(FireEditNodeError, match="FireEdit Photo Finish: The frame belongs to a photo of height 160 and width 224.*Connect"):
        nodes.FireEditPhotoFinish.execute(large, shot.frames, shot.vae.decode(samples), shot.marked)


@pytest.mark.parametrize("build, channels", [(pix2pix, 4), (kontext, 16)])
def test_a_batch_of_three_each_with_its_mask(build, channels):
    shot = Shot(build, channels, 3)
    samples = shot.sampled()
    image = shot.checked(samples)
    assert len(image) == len(shot.frames) == 3
    # the mask of another size of batch is refused, with both numbers
    with pytest.raises(FireEditNodeError, match="2 masks came, but the sampler works on 3 latents"):
        shot.sampled(nodes.FireEditConfine.execute(shot.edit.model, 1.0, 0.0, 1.0, 0.5, shot.marked[:2])[0])
    with pytest.raises(FireEditNodeError, match="3 picture.* came as original, 3 frames, and 2 picture"):
        nodes.FireEditPhotoFinish.execute(shot.photo, shot.frames, shot.vae.decode(samples)[:2], shot.marked[:2])


def test_an_inpainting_sampler_with_the_crops_noise_mask():
    """KSampler on Photo Crop's latent, whose noise mask holds the outside too; at full and at partial denoise."""
    shot = Shot(kontext, 16)
    for denoise in (1.0, 0.6):
        shot.checked(shot.sampled(latent=shot.source, noise_mask=shot.latent["noise_mask"], denoise=denoise))
    # a noise mask of another place: what both leave free is edited, nothing else
    other = torch.zeros_like(shot.latent["noise_mask"])
    other[..., : other.shape[-1] // 2] = 1
    out = shot.sampled(latent=shot.source, noise_mask=other)
    marked, off = F.max_pool2d(shot.marked[:, None], 8) > 0, (out - shot.source).abs()
    held = marked & (other == 0)  # by the host's noise mask alone, which rounds
    assert float(off[(~marked).expand_as(off)].max()) == 0 and float(off[held.expand_as(off)].max()) < 1e-5
    assert float(off[(marked & (other > 0)).expand_as(off)].mean()) > 0.05
