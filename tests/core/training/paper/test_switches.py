# SPDX-License-Identifier: GPL-3.0-or-later
"""Every row of docs/additions.md: that its switch changes what the row says, here and in the bundle, and that the default is as ever."""

import json
import re
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from fireedit_core.checkpoints.bundle import bundle_options, load_component, read_index
from fireedit_core.data.formats.registry import load_sources
from fireedit_core.data.mixture import Mixture
from fireedit_core.diffusion.pipeline import FireEditPipeline
from fireedit_core.training.paper import config as settings
from fireedit_core.training.paper.assemble import export, trainable_components, trained_options
from fireedit_core.training.paper.batches import Rows, mixtures_of
from fireedit_core.training.paper.config import PaperConfig, load_config
from fireedit_core.training.paper.features import FrozenParts
from fireedit_core.training.paper.losses import row_noise
from fireedit_core.training.paper.model import EditModel
from fireedit_core.training.paper.train import edit_inputs

PLAIN = {"meant_region": False, "mark": False}  # what needs what a switch leaves out
PAPER = PLAIN | {"grounding_weight": 0.0, "shared_output": True, "snr_gamma": 0.0, "ema_decay": 0.0}
CPU = torch.device("cpu")


class Watch:
    """A model with one batch, and what its parts were given and gave in the last pass."""

    def __init__(self, config: PaperConfig):
        torch.manual_seed(0)
        self.config, self.components = config, trainable_components(config)
        self.frozen = FrozenParts(self.components, config.max_regions)
        self.model = EditModel(self.components, config)
        edits, _ = mixtures_of(load_sources(config.sources), partial(Mixture, seed=0))
        self.rows = Rows(edits, None, config)[0][0]
        self.inputs = edit_inputs(self.rows, self.frozen, self.model, CPU)
        self.seen: dict[str, tuple] = {}
        for name in ("qformer", "unet", "tati", "hvca", "grounding", "region_encoder"):
            self.components[name].register_forward_hook(partial(self._keep, name), with_kwargs=True)
        self.model.vlm._backbone().register_forward_hook(partial(self._keep, "language_model"), with_kwargs=True)

    def _keep(self, name, module, args, kwargs, out):
        self.seen[name] = (args, kwargs, out)

    def __call__(self, inputs=None) -> tuple[torch.Tensor, dict]:
        self.seen.clear()
        torch.manual_seed(0)
        return self.model(inputs or self.inputs)

    @property
    def sequence(self) -> int:
        return self.seen["language_model"][1]["inputs_embeds"].shape[1]


@pytest.fixture
def watch(config):
    return lambda **changes: Watch(config(**({"batch": 4, "dropout": 0.0} | changes)))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_default_is_what_it_was_before_there_were_switches(watch):
    """Numbers of the commit before them (32109cf), where they were found equal bit for bit."""
    made = watch(batch=4, dropout=0.05)
    loss, parts = made()
    assert {name: float(value) for name, value in parts.items() if name in WRITTEN} == pytest.approx(WRITTEN, rel=2e-3)
    assert float(loss.detach()) == pytest.approx(float(parts["language"] + parts["diffusion"] + parts["grounding"]), rel=1e-6)


def test_without_regions_boxes_mean_nothing_and_no_token_stands_for_one(watch):
    whole, bare = watch(), watch(regions=False, meant_region=False)
    assert whole()[0] != whole(moved(whole))[0] and bare()[0] == bare(moved(bare))[0]
    assert "region_encoder" in whole.seen and "region_encoder" not in bare.seen
    assert whole.sequence == bare.sequence + whole.inputs.features.boxes.shape[1]
    assert "point" in bare()[1] and torch.isfinite(bare()[0])  # the head still paints


def moved(watched: Watch):
    features = watched.inputs.features
    return replace(watched.inputs, features=replace(features, boxes=features.boxes.flip(-1) * 0.7 + 0.1))


def test_without_the_meant_region_the_qformer_reads_the_img_states_alone(watch):
    for meant in (True, False):
        made = watch(meant_region=meant)
        made()
        read, tokens = made.seen["qformer"][0][0], made.components["img_tokens"].config.num_tokens
        assert read.shape[1] == tokens + meant
        states = made.seen["language_model"][2].last_hidden_state[:, -tokens:]
        assert torch.equal(read[:, :tokens], states)


def test_without_the_mark_the_unet_is_told_nothing_about_the_place(watch):
    made, bare = watch(), watch(mark=False)
    made(), bare()
    where = lambda w: w.seen["unet"][1]["cross_attention_kwargs"]["where"]  # noqa: E731
    assert where(made).shape[-2:] == made.inputs.target.shape[-2:] and where(bare) is None
    for layer in bare.components["visual_attention"].attentions:
        assert not layer.to_mark.weight.any() and not layer.to_mark.weight.requires_grad


def test_without_tati_the_unet_reads_e_at_every_time(watch):
    made, bare = watch(), watch(tati=False)
    made(), bare()
    said = lambda w: w.seen["unet"][0][2]  # noqa: E731
    assert torch.equal(said(made), made.seen["tati"][2]) and "tati" not in bare.seen
    assert torch.equal(said(bare), bare.seen["qformer"][2]) and not torch.equal(said(made), made.seen["qformer"][2])
    assert not any(p.requires_grad for p in bare.components["tati"].parameters())


def test_without_hvca_the_unet_is_the_plain_one(watch):
    made, bare = watch(), watch(hvca=False, mark=False)
    _, parts = bare()
    assert bare.seen["unet"][1]["cross_attention_kwargs"] is None and "hvca" not in bare.seen and "power hvca" not in parts
    made()
    assert len(made.seen["unet"][1]["cross_attention_kwargs"]["visual"]) == len(made.components["visual_attention"].attentions)
    for name in ("hvca", "visual_attention"):
        assert not any(p.requires_grad for p in bare.components[name].parameters())


def test_shared_projections_are_equation_seven_and_learn_through_both_terms(watch):
    made = watch(shared_output=True, mark=False)
    attention, unet = made.components["visual_attention"], made.components["unet"]
    block = unet.get_submodule(attention.names[0])
    given = {}
    block.register_forward_hook(lambda _, args, kwargs, out: given.update(kwargs=kwargs, args=args, out=out), with_kwargs=True)
    loss, _ = made()
    hidden, text = given["args"][0], given["kwargs"]["encoder_hidden_states"]
    projected = given["kwargs"]["visual"][0]
    heads = lambda x: x.unflatten(-1, (block.heads, -1)).transpose(1, 2)  # noqa: E731
    look = lambda k, v: F.scaled_dot_product_attention(heads(block.to_q(hidden)), heads(k), heads(v))  # noqa: E731
    both = look(block.to_k(text), block.to_v(text)) + look(projected.keys, projected.values)
    assert torch.allclose(block.to_out[0](both.transpose(1, 2).flatten(2)), given["out"], atol=1e-5)
    loss.backward()
    layer = attention.attentions[0]
    assert block.to_q.weight.grad.abs().sum() > 0 and layer.to_k.weight.grad.abs().sum() > 0
    assert layer.to_q.weight.grad is None and layer.to_out.weight.grad is None
    own = watch(mark=False)
    own()[0].backward()
    assert own.components["visual_attention"].attentions[0].to_q.weight.grad is not None


def test_without_min_snr_all_times_weigh_alike(watch):
    made, bare = watch(snr_gamma=5.0), watch(snr_gamma=0.0)
    (_, weighted), (_, plain) = made(), bare()
    noise, times, _, _ = row_noise(bare.rows.seeds, bare.inputs.target.shape[1:], len(bare.model.alphas), 0.0)
    out = bare.seen["unet"][2].sample
    wanted = {"sample": bare.inputs.target, "epsilon": noise}[bare.components["scheduler"].config.prediction_type]
    assert float(plain["diffusion"]) == pytest.approx(float((out - wanted).square().mean()), rel=1e-5)
    assert abs(float(weighted["diffusion"] - plain["diffusion"])) > 1e-4


def test_without_its_losses_and_its_uses_the_grounding_head_is_not_asked(watch):
    bare = watch(grounding_weight=0.0, **PLAIN)
    _, parts = bare()
    assert "grounding" not in bare.seen and "grounding" not in parts
    assert not any(p.requires_grad for p in bare.components["grounding"].parameters())
    told = watch(grounding_weight=0.0)  # its answer is used: it learns through the UNet
    told()[0].backward()
    assert "grounding" in told.seen and any(p.grad is not None and p.grad.any() for p in told.components["grounding"].parameters())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"regions": False}, "meant_region is made of what regions"), ({"hvca": False}, "mark is made of what hvca"),
        ({"hvca": False, "mark": False, "shared_output": True}, "shared_output is made of what hvca"),
        ({"tati": False, "train_parts": ["tati"]}, "train_parts names tati, which the settings leave out"),
    ],
)  # fmt: skip
def test_switches_that_contradict_each_other_are_refused(config, changes, says):
    with pytest.raises(ValueError, match=says):
        config(**changes)


@pytest.mark.slow
def test_each_part_that_is_trained_is_reached_by_every_pass(watch):
    """DDP waits for the gradient of every weight that wants one."""
    for changes in ({}, PAPER, {"regions": False, **PLAIN}, {"tati": False}, {"hvca": False, "mark": False}, PLAIN):
        made = watch(**changes)
        made()[0].backward()
        without = [n for n, p in made.model.named_parameters() if p.requires_grad and p.grad is None]
        assert without == [], changes


# --- in the bundle -------------------------------------------------------------------------------------------------------------------


def exported(used: PaperConfig):
    """The bundle of a run whose weights have moved a little, all that are trained."""
    model = EditModel(trainable_components(used), used)
    torch.manual_seed(1)
    weights = {name: p.detach() + 0.02 * torch.randn_like(p) for name, p in model.named_parameters() if p.requires_grad}
    export(weights, used, Path(used.out) / "bundle")
    return Path(used.out) / "bundle"


@pytest.mark.parametrize(
    ("changes", "untrained", "without"),
    [
        (PAPER, (), ("meant_region", "grounding")),
        ({"tati": False, "hvca": False, "regions": False, **PLAIN}, ("tati", "hvca"), ("regions", "meant_region")),
    ],
)  # fmt: skip
def test_a_bundle_edits_as_it_was_trained(config, changes, untrained, without):
    """Its e, and what it tells its UNet, are those of the training of the same picture."""
    used = config(batch=1, dropout=0.0, **changes)
    made = exported(used)
    options = bundle_options(read_index(made))
    assert options["untrained"] == untrained and options["without"] == without
    pipe = FireEditPipeline.from_pretrained(made)
    pipe.set_progress_bar_config(disable=True)
    # the same weights again as a run has them that goes on from this bundle
    watched, given = Watch(replace(used, bundle=str(made))), {}
    watched.model.eval()
    pipe.unet.register_forward_hook(lambda _, args, kwargs, out: given.update(args=args, kwargs=kwargs), with_kwargs=True)
    with torch.no_grad():
        watched()
        said, source = watched.seen["qformer"][2], watched.rows.source.float() / 255
        regions = pipe.editor.detect(source, max_regions=used.max_regions) if pipe.editor.wants_regions else None
        result = pipe(source, watched.rows.instructions, regions=regions, num_inference_steps=1, text_guidance=1.0, image_guidance=1.0,
                      output_type="latent", latents=torch.zeros(watched.inputs.target.shape), working_size=0)  # fmt: skip
        context = watched.components["tati"](said, given["args"][1][:1]) if used.tati else said
    assert torch.isfinite(result.images).all() and pipe.editor.wants_regions == used.regions
    assert torch.allclose(given["args"][2], context, atol=1e-2)
    beside = given["kwargs"]["cross_attention_kwargs"]
    if not used.hvca:
        assert beside["visual"] is None
        return
    for mine, theirs in zip(beside["visual"], watched.seen["unet"][1]["cross_attention_kwargs"]["visual"], strict=True):
        assert torch.allclose(mine.keys, theirs.keys, atol=1e-2)
    assert not any(layer.to_mark.weight.any() for layer in pipe.visual_attention.attentions)
    for place, layer in zip(pipe.visual_attention.names, pipe.visual_attention.attentions, strict=True):
        block = pipe.unet.get_submodule(place)
        assert torch.equal(layer.to_q.weight, block.to_q.weight) and torch.equal(layer.to_out.weight, block.to_out[0].weight)


def test_a_shared_projection_with_adapters_is_written_with_them(config, bundle):
    made = exported(config(train_parts=["unet_lora", "visual_attention"], unet_lora_rank=2, shared_output=True, mark=False))
    attention, unet, start = load_component(made, "visual_attention"), load_component(made, "unet"), load_component(bundle, "unet")
    for place, layer in zip(attention.names, attention.attentions, strict=True):
        block, before = unet.get_submodule(place), start.get_submodule(place)
        assert torch.equal(layer.to_q.weight, block.to_q.weight) and torch.equal(layer.to_out.weight, block.to_out[0].weight)
        assert not torch.equal(layer.to_q.weight, before.to_q.weight)


def test_the_sheet_of_a_save_leaves_the_shared_projections_in_place(watch):
    """The pipeline that draws it attaches the attention anew, to the UNet that is being trained."""
    made = watch(shared_output=True, mark=False)
    loss = made()[0]
    FireEditPipeline(**made.components, **trained_options(made.config))
    assert torch.equal(made()[0], loss)


# --- the configurations and the page -------------------------------------------------------------------------------------------------


def test_the_paper_s_configuration_is_without_what_is_ours():
    joint, text = (load_config([name])[0] for name in ("paper_2_joint", "paper_1_text"))
    assert {name: getattr(joint, name) for name in PAPER} == PAPER and not text.meant_region and text.ema_decay == 0
    assert joint.trained == ("lora", "adapter", "img_tokens", "qformer", "tati", "hvca", "visual_attention", "unet")
    from fireedit_core.checkpoints.sd15 import SD15

    for name in ("tati", "hvca"):  # module forms that are not the paper's are off in a converted bundle
        made = SD15.blank(name).config
        assert not made.get("residual") and not made.get("own_rows") and not made.get("centred")


def test_the_page_names_every_switch_with_its_default(repo):
    page = (repo / "docs" / "additions.md").read_text()
    told = dict(re.findall(r"^\| [^|]+\| [^|]+\| `([a-z_0-9]+)` \| `([^`]+)` \|", page, re.M))
    known = {f.name: f.default for f in fields(PaperConfig)}
    assert {"meant_region", "mark", "shared_output", "grounding_weight", "snr_gamma", "learn_null", "ema_decay"} <= set(told)
    for name, default in told.items():
        if name in known:
            assert json.loads(default) == known[name] if not isinstance(known[name], str) else default == known[name], name
    for name in ("regions", "tati", "hvca"):
        assert f"`{name}: false`" in page
    assert settings.NULL == "null_embedding"


WRITTEN = {"language": 4.9511, "diffusion": 0.13939, "grounding": 1.97256}
