# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle just converted from InstructPix2Pix in the host: the nodes give the latents of the pipeline, confined and not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from diffusers import EulerDiscreteScheduler

from tests.host.inside.pack import diffusers_unet, latents, nodes  # first: it makes the pack importable

import comfy.model_base  # isort: skip
import comfy.sample  # isort: skip
from fireedit_core.checkpoints.convert import Sources, convert  # isort: skip
from fireedit_core.checkpoints.sd15 import SCHEDULER  # isort: skip
from fireedit_core.diffusion.pipeline import FireEditPipeline  # isort: skip
from fireedit_core.regions.record import Regions  # isort: skip
from fireedit_pack.nodes.errors import FireEditNodeError  # isort: skip
from fireedit_pack.nodes.host import models, unet  # isort: skip
from tests.core.checkpoints import small_ip2p  # isort: skip

TEXT, STEPS, SEED = "make it blue", 3, 5


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    root = tmp_path_factory.mktemp("ip2p")
    with torch.inference_mode(False):
        small_ip2p.pipeline(root / "words").save_pretrained(root / "folder")
        convert(root / "bundle", Sources(instructpix2pix=root / "folder"), config=small_ip2p.CONFIG, dtype=torch.float32)
    return root / "bundle"


@pytest.fixture(scope="module")
def loaded(bundle):
    """In the host, with noise in what is untrained, so that it shows where it is not left out."""
    made = models.load(bundle, "converted")
    for part in (made[0].editor.tati.blocks, made[0].visual_attention, made[0].editor.language["hvca"], made[0].editor.language["qformer"]):
        for weight in part.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return made


def regions():
    return [Regions(torch.tensor([[32.0, 32, 48, 48], [0, 0, 24, 24]]), torch.tensor([0.1, 0.9]), ("cup", "cat"), (64, 64))]


def conditioned(loaded, found):
    fireedit, _, vae = loaded
    image = small_ip2p.picture().movedim(1, -1)
    tokens = nodes.FireEditRegionTokenize.execute(fireedit, image, found)[0]
    return image, nodes.FireEditVLMConditioning.execute(fireedit, tokens, image, vae, TEXT, 0)


def test_nodes_and_pipeline_give_the_same_latents(loaded, bundle):
    fireedit, model, vae = loaded
    assert fireedit.language is None  # seven gigabytes that nothing reads
    assert {p.device.type for p in fireedit.editor.vlm.language_model.parameters()} == {"meta"}
    pipe = FireEditPipeline.from_pretrained(bundle)
    pipe.scheduler = EulerDiscreteScheduler(**SCHEDULER | {"timestep_spacing": "trailing"})  # the host's euler with simple
    pipe.set_progress_bar_config(disable=True)
    image, conds = conditioned(loaded, regions())
    grounding = conds.args[4]
    assert grounding[0, :24, :24].min() == 1 and grounding.sum() == 576
    applied = nodes.FireEditApply.execute(model, fireedit, 1.0, 1.0, 0.0, 1.0).args[0]
    noise = comfy.sample.prepare_noise(torch.zeros(1, 4, 8, 8), SEED)
    for keep in ("off", "soft"):
        latent, edited, _ = nodes.FireEditSample.execute(
            applied, *conds.args[:3], vae, image, SEED, STEPS, "euler", "simple", 7.5, 1.5, 1.0, keep, grounding
        ).args
        options = {"num_inference_steps": STEPS, "regions": regions(), "keep_outside": keep, "latents": noise}
        wanted = pipe(small_ip2p.picture(), TEXT, output_type="latent", **options).images
        assert (latent["samples"] - wanted).abs().max() <= 1e-3 * wanted.abs().max(), keep
        assert wanted.std() > 0.1
    source = vae.encode(image)
    assert (latent["samples"] - source)[..., 4:, 4:].abs().max() < 1e-4 and (latent["samples"] - source)[..., :3, :3].abs().max() > 0.1


def test_it_says_that_it_is_not_trained_and_where_it_edits(loaded):
    (text,) = conditioned(loaded, regions())[1].ui["text"]
    assert "CLIP reads the instruction" in text and "1 of 2 regions" in text and "text_guidance 7.5, image_guidance 1.5, 50 steps" in text
    (text,) = conditioned(loaded, [Regions.empty((64, 64))])[1].ui["text"]
    assert "whole picture" in text and "100%" in text


def test_a_detector_that_is_not_trained_is_not_asked(loaded):
    fireedit, model, vae = loaded
    image = small_ip2p.picture().movedim(1, -1)
    with pytest.raises(FireEditNodeError, match="^FireEdit Region Detect: the detector of the bundle converted is not trained"):
        nodes.FireEditRegionDetect.execute(fireedit, image)
    applied = nodes.FireEditApply.execute(model, fireedit).args[0]
    final = nodes.FireEditMultiTurn.execute(fireedit, applied, vae, image, TEXT, SEED, 1, "euler", "simple", 7.5, 1.5, "off", 0.15)
    assert final.args[2].min() == 1  # everywhere


def test_apply_without_a_bundle_names_what_is_missing(loaded):
    plain = SimpleNamespace(model=object.__new__(comfy.model_base.SD15_instructpix2pix))
    with pytest.raises(FireEditNodeError, match="^FireEdit Apply: fireedit is not connected.*plain InstructPix2Pix.*FireEdit Confine"):
        nodes.FireEditApply.execute(plain)
    with pytest.raises(FireEditNodeError, match="Connect fireedit of the FireEdit Loader that gave the MODEL.$"):
        nodes.FireEditApply.execute(loaded[1])


def test_apply_with_a_foreign_bundle_offers_confine(loaded):
    from tests.host.small import shared_bundle

    other = models.load(shared_bundle(), "small")[0]
    foreign = unet.build(diffusers_unet(), EulerDiscreteScheduler(**SCHEDULER), latents(), False)
    foreign.model.__class__ = comfy.model_base.SD15_instructpix2pix
    with pytest.raises(FireEditNodeError, match="made for .*FireEdit Confine"):
        nodes.FireEditApply.execute(foreign, other)
