# SPDX-License-Identifier: GPL-3.0-or-later
"""What `./fireedit train FOLDER` leaves behind, in the host: FireEdit Loader takes it, and the nodes edit as the pipeline does."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.host.inside.pack import nodes  # first: it makes the pack importable
from tests.host.small import INSTRUCTION, REPO, SIZE, picture, shared_bundle

import comfy.sample  # isort: skip
from fireedit_core.checkpoints.bundle import load_component  # isort: skip
from fireedit_core.diffusion.pipeline import FireEditPipeline  # isort: skip
from fireedit_pack.nodes.host import bundles  # isort: skip

pytestmark = pytest.mark.slow
STEPS, SEED = 2, 5


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of the host's with the bundle that was trained, and with the one that it began from."""
    root = tmp_path_factory.mktemp("own")
    pairs = root / "pairs"
    pairs.mkdir()
    for i, text in enumerate(("remove the cat", "make the apple blue", "remove the dog", "make the cat red")):
        Image.fromarray(picture(seed=i)).save(pairs / f"n{i}_before.png")
        Image.fromarray(picture(seed=i + 50)).save(pairs / f"n{i}_after.png")
        (pairs / f"n{i}.txt").write_text(text)
    run = [sys.executable, "-m", "fireedit_core.training.paper", str(pairs), "--bundle", str(shared_bundle()), "--out", str(root / "run"),
           "--steps", "3", "--warmup", "1", "--lr", "0.02", "--ema_decay", "0", "--validation_steps", "1", "--batch", "2"]  # fmt: skip
    done = subprocess.run(run, cwd=REPO, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    folder = root / "models"
    shutil.copytree(root / "run" / "bundle", folder / "mine")
    shutil.copytree(shared_bundle(), folder / "start")
    return folder


def edited(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(latent, picture) of the graph from FireEdit Loader to FireEdit Sample."""
    fireedit, model, vae = nodes.FireEditLoader.execute(name).args
    image = torch.from_numpy(picture())[None].float() / 255
    regions = nodes.FireEditRegionDetect.execute(fireedit, image, 0.15, 0.6, 100)[0]
    tokens = nodes.FireEditRegionTokenize.execute(fireedit, image, regions)[0]
    conds = nodes.FireEditVLMConditioning.execute(fireedit, tokens, image, vae, INSTRUCTION, 0).args
    applied = nodes.FireEditApply.execute(model, fireedit, 1.0, 1.0, 0.0, 1.0)[0]
    latent, made, _ = nodes.FireEditSample.execute(
        applied, *conds[:3], vae, image, SEED, STEPS, "euler", "simple", 1.0, 1.0, 1.0, "off", None
    ).args
    return latent["samples"], made


def test_the_loader_takes_it_and_it_edits_as_it_was_trained(models, monkeypatch):
    monkeypatch.setattr(bundles, "roots", lambda: [models])
    assert bundles.list_bundles() == ["mine", "start"]
    adapters = load_file(models / "mine" / "language_model_lora" / "adapter_model.safetensors")
    assert any(key.endswith("lora_B.weight") and value.abs().max() > 0 for key, value in adapters.items())
    unets = [load_component(models / name, "unet").state_dict() for name in ("mine", "start")]
    moved = {key for key in unets[0] if not torch.equal(unets[0][key], unets[1][key])}
    assert moved and all(".to_" in key for key in moved)  # its adapters are merged into the attention, the rest stays
    latent, made = edited("mine")
    pipe = FireEditPipeline.from_pretrained(models / "mine")
    pipe.set_progress_bar_config(disable=True)
    noise = comfy.sample.prepare_noise(latent, SEED)
    image = torch.from_numpy(picture())[None].movedim(-1, 1).float() / 255
    wanted = pipe(image, INSTRUCTION, num_inference_steps=STEPS, latents=noise, output_type="latent",
                  text_guidance=1.0, image_guidance=1.0).images  # fmt: skip
    assert (latent - wanted).abs().max() <= 1e-3 * wanted.abs().max() and wanted.std() > 0.1
    assert made.shape == (1, SIZE, SIZE, 3)
    # adapters of the language model and of the UNet have their say: the start gives something else
    assert (edited("start")[0] - latent).abs().max() > 0.02 * latent.abs().max()
