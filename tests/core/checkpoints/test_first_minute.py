# SPDX-License-Identifier: GPL-3.0-or-later
"""A converted bundle edits before it is trained, as its InstructPix2Pix does, and training takes over from there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fireedit_core.checkpoints.bundle import load_components, save_bundle
from fireedit_core.checkpoints.convert import Sources, convert
from fireedit_core.checkpoints.index import COMPONENTS, EXTRAS, UNTRAINED, BundleError, bundle_options, needs_language, read_index
from fireedit_core.checkpoints.sources.fit import SourceError
from fireedit_core.diffusion.pipeline import FireEditPipeline, noise_scale
from fireedit_core.regions.record import Regions
from fireedit_core.training.paper.assemble import trained_options
from fireedit_core.training.paper.config import PaperConfig
from tests.core.checkpoints import small_ip2p
from tests.core.checkpoints.small_ip2p import CONFIG

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]
TEXT = "make it blue"


@pytest.fixture(scope="module")
def ip2p(tmp_path_factory):
    """diffusers' pipeline, the folder that it is saved to, and the bundle that is made of that."""
    root = tmp_path_factory.mktemp("ip2p")
    pipe = small_ip2p.pipeline(root / "words")
    pipe.save_pretrained(root / "folder")
    report = convert(root / "bundle", Sources(instructpix2pix=root / "folder"), config=CONFIG, dtype=torch.float32)
    assert not any("edits nothing" in line for line in report.warnings)
    return pipe, root


@pytest.fixture(scope="module")
def pipe(ip2p) -> FireEditPipeline:
    made = FireEditPipeline.from_pretrained(ip2p[1] / "bundle")
    made.set_progress_bar_config(disable=True)
    return made


def noise(pipe) -> torch.Tensor:
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def edit(pipe, **options) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return pipe(small_ip2p.picture(), TEXT, num_inference_steps=4, generator=generator, latents=noise(pipe), **options).images


def test_it_edits_as_diffusers_own_pipeline(ip2p, pipe):
    """Final latents at InstructPix2Pix' own guidance, sampler and steps; nothing is confined."""
    theirs = ip2p[0]
    # diffusers starts ancestral Euler at sigma times noise, ComfyUI and we at the root of sigma squared plus 1
    theirs.scheduler.set_timesteps(4)
    start = noise(pipe) * (noise_scale(theirs.scheduler) / float(theirs.scheduler.init_noise_sigma))
    generator = torch.Generator().manual_seed(2)
    wanted = theirs(
        TEXT, small_ip2p.picture(), num_inference_steps=4, guidance_scale=7.5, image_guidance_scale=1.5, generator=generator, latents=start,
        output_type="latent",
    ).images / theirs.vae.config.scaling_factor  # fmt: skip
    came = edit(pipe, output_type="latent")
    assert (came - wanted).abs().max() < 1e-3 * wanted.abs().max() and wanted.std() > 0.1
    other = pipe(small_ip2p.picture(), "ma bl", num_inference_steps=4, generator=torch.Generator().manual_seed(2), latents=noise(pipe),
                 output_type="latent").images  # fmt: skip
    assert (other - wanted).abs().max() > 0.05 * wanted.abs().max()  # it reads the instruction


def test_a_single_file_gives_the_same_bundle(ip2p, tmp_path):
    file = small_ip2p.single_file(ip2p[0], tmp_path / "ip2p.safetensors")
    report = convert(tmp_path / "bundle", Sources(instructpix2pix=file, text_tokenizer=ip2p[1] / "words"), config=CONFIG,
                     dtype=torch.float32)  # fmt: skip
    assert next(x for x in report.components if x.name == "text_encoder").taken == {"ip2p.safetensors": 36}
    one, two = (load_components(folder / "bundle", names=("unet", "vae", "tati", *EXTRAS)) for folder in (tmp_path, ip2p[1]))
    for name in ("unet", "vae", "tati", "text_encoder"):
        for (key, a), (_, b) in zip(one[name].state_dict().items(), two[name].state_dict().items(), strict=True):
            assert torch.equal(a, b), (name, key)
    assert one["text_tokenizer"](TEXT)["input_ids"] == two["text_tokenizer"](TEXT)["input_ids"] == ip2p[0].tokenizer(TEXT)["input_ids"]


def test_it_is_confined_to_the_regions_that_are_given(pipe):
    source = small_ip2p.picture()
    boxes = torch.tensor([[32.0, 32, 48, 48], [0, 0, 16, 16]])
    grounded = [Regions(boxes, torch.tensor([0.1, 0.9]), ("cup", "cat"), (64, 64))]
    out = pipe(source, TEXT, num_inference_steps=2, latents=noise(pipe), generator=torch.Generator().manual_seed(2), regions=grounded,
               keep_outside="exact", output_type="pt")  # fmt: skip
    assert out.mask[0, :16, :16].min() == 1 and out.mask.sum() == 256 and out.regions[0].labels == ("cat", "cup")
    assert torch.equal(out.images[..., 24:, 24:], source[..., 24:, 24:]) and (out.images - source)[..., :16, :16].abs().max() > 0.05
    soft = pipe(source, TEXT, num_inference_steps=2, latents=noise(pipe), generator=torch.Generator().manual_seed(2), regions=grounded,
                keep_outside="soft", output_type="latent").images  # fmt: skip
    code = pipe.vae.encode(source * 2 - 1).latent_dist.mode()
    assert (soft - code)[..., 3:, 3:].abs().max() < 1e-4 and (soft - code)[..., :2, :2].abs().max() > 0.1
    none = pipe(source, TEXT, num_inference_steps=1, latents=noise(pipe), output_type="pt")
    assert none.mask.min() == 1  # without a region everywhere


def test_the_parts_that_are_left_out_change_nothing(ip2p, pipe):
    before = edit(pipe, output_type="latent")
    parts = load_components(ip2p[1] / "bundle")
    for name in ("qformer", "hvca", "tati", "grounding", "visual_attention"):
        for key, weight in parts[name].named_parameters():
            if key != "null_embedding":
                weight.add_(0.3 * torch.randn_like(weight))
    other = FireEditPipeline(**parts, **bundle_options(read_index(ip2p[1] / "bundle")))
    other.set_progress_bar_config(disable=True)
    assert torch.equal(edit(other, output_type="latent"), before)
    trained = FireEditPipeline(**parts, **bundle_options(read_index(ip2p[1] / "bundle")) | {"untrained": ()})
    trained.set_progress_bar_config(disable=True)
    assert (edit(trained, output_type="latent") - before).abs().max() > 0.01


def test_training_turns_the_options_off(ip2p, tmp_path):
    bundle = str(ip2p[1] / "bundle")
    text = PaperConfig(stage="text", bundle=bundle, out=str(tmp_path), captions="x", text_encoder="y")
    assert trained_options(text)["untrained"] == ("detector", "grounding", "tati", "hvca")
    assert trained_options(PaperConfig(stage="vlm", bundle=bundle, out=str(tmp_path), sources="x"))["untrained"] == ("detector",)
    parts = load_components(bundle)
    assert tuple(parts) == COMPONENTS + EXTRAS
    # as the stage of text leaves it: the Q-Former reads, TATI and HVCA are still left out, the region is still given
    made = FireEditPipeline(**{k: x for k, x in parts.items() if k not in EXTRAS}, **trained_options(text))
    made.set_progress_bar_config(disable=True)
    out = made(small_ip2p.picture(), TEXT, num_inference_steps=1, latents=noise(made), output_type="latent")
    assert not made.editor.reads_with_clip and out.mask.min() == 1
    # what either part reads is loaded for it: the Q-Former without HVCA, as here, and the other way round
    assert made.editor.needs_language and needs_language(("grounding", "qformer")) and not needs_language(UNTRAINED)
    folder = tmp_path / "after"
    save_bundle(folder, {k: x for k, x in parts.items() if k not in EXTRAS}, trained_options(text))
    assert not (folder / "text_encoder").exists()
    assert bundle_options(read_index(folder))["untrained"] == ("detector", "grounding", "tati", "hvca")


def test_it_survives_a_round_trip(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "again", dtype=torch.float32)
    again = FireEditPipeline.from_pretrained(tmp_path / "again")
    again.set_progress_bar_config(disable=True)
    assert again.editor.untrained == set(UNTRAINED) and torch.equal(edit(again, output_type="latent"), edit(pipe, output_type="latent"))


def test_what_is_lacking_is_named(ip2p, tmp_path):
    file = small_ip2p.single_file(ip2p[0], tmp_path / "ip2p.safetensors")
    dry = lambda **more: convert(tmp_path / "no", Sources(instructpix2pix=file, **more), config=CONFIG, dry_run=True)  # noqa: E731
    assert any("lacks CLIP's tokenizer (--text-tokenizer; ComfyUI has one" in line for line in dry().warnings)
    with pytest.raises(SourceError, match="no vocab.json"):
        dry(text_tokenizer=tmp_path)
    with pytest.raises(SourceError, match="not CLIP-L's"):
        convert(tmp_path / "no", Sources(instructpix2pix=file, text_tokenizer=ip2p[1] / "words"),
                config=replace(CONFIG, text_vocabulary=600), dry_run=True)  # fmt: skip
    index = read_index(ip2p[1] / "bundle")
    with pytest.raises(BundleError, match="known are detector, grounding"):
        bundle_options(index | {"untrained": ["unet"]})
    with pytest.raises(BundleError, match="trained without .* known are regions, meant_region, grounding"):
        bundle_options(index | {"without": ["hvca"]})
    with pytest.raises(BundleError, match="lacks text_encoder and text_tokenizer"):
        bundle_options({k: v for k, v in index.items() if k not in EXTRAS})


def test_what_is_beyond_77_tokens_is_named(pipe):
    text = "make it blue " * 40
    assert pipe.editor.unread_text(TEXT) == "" and pipe.editor.unread_text(text).endswith("make it blue")
    cut = pipe.editor.unread_text(text)
    kept = text[: text.strip().rindex(cut)]
    embed = pipe.editor.reader
    assert torch.equal(embed([text]), embed([kept + " xyz"])) and not torch.equal(embed([text]), embed([kept[:-20]]))
