# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEdit beside what an artist already has on the MODEL: before it or behind it makes no difference, and both have an effect.

The host's own nodes are the real ones. Other packs are stand-ins written for these tests, for the mechanism by which each of them
reaches into the UNet: a chained replace slot (IPAdapter_plus, NAG), a multiplied batch (Acly's regions), `model_function_wrapper`
(ELLA, IC-Light).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.host.inside.make_controlnet import make_controlnet
from tests.host.inside.pack import nodes, plain, run  # first: it makes the pack importable
from tests.host.small import INSTRUCTION, TinyConfig, picture, write_bundle

import comfy.controlnet  # isort: skip
import comfy.model_management  # isort: skip
import comfy.sd  # isort: skip
import node_helpers  # isort: skip
from comfy.ldm.modules.attention import optimized_attention  # isort: skip
from comfy_extras.nodes_differential_diffusion import DifferentialDiffusion  # isort: skip
from comfy_extras.nodes_freelunch import FreeU, FreeU_V2  # isort: skip
from comfy_extras.nodes_hypertile import HyperTile  # isort: skip
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete, RescaleCFG  # isort: skip
from comfy_extras.nodes_pag import PerturbedAttentionGuidance  # isort: skip
from comfy_extras.nodes_sag import SelfAttentionGuidance  # isort: skip
from fireedit_pack.nodes.host import models, patching  # isort: skip

SIDE = 128  # HyperTile needs some pixels to cut
# Widths 1:2:4 as in Stable Diffusion: FreeU knows its blocks by them.
SHAPE = TinyConfig(
    image_size=SIDE, latent_channels=8, unet_widths=(96, 192, 384), attention_levels=(False, True, True), unet_heads=4, context_size=64,
    hidden_size=64, language_layers=1, dino_size=64, dino_layers=2, dino_patch=16, clip_size=64, clip_layers=2, qformer_layers=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return models.load(write_bundle(tmp_path_factory.mktemp("bundle") / "sd", SHAPE), "sd-shaped")


@pytest.fixture(scope="module")
def given(bundle):
    """Conditionings of one picture."""
    image = torch.from_numpy(picture(SIDE, SIDE)).float()[None] / 255
    regions = nodes.FireEditRegionDetect.execute(bundle[0], image, 0.15, 0.6, 100)[0]
    tokens = nodes.FireEditRegionTokenize.execute(bundle[0], image, regions)[0]
    return nodes.FireEditVLMConditioning.execute(bundle[0], tokens, image, bundle[2], INSTRUCTION, 0)


def fireedit(model, bundle):
    return patching.apply(model, bundle[0], 1, 1, 0, 1)


# --- neighbours: MODEL -> MODEL ----------------------------------------------------------------------------------------


def lora(model):
    """Low-rank changes of a cross attention and of a convolution, through the host's own loader."""
    generator = torch.Generator().manual_seed(2)
    weights = {}
    for name in ("input_blocks.3.1.transformer_blocks.0.attn2.to_v", "output_blocks.2.0.in_layers.2"):
        shape = model.model.state_dict()[f"diffusion_model.{name}.weight"].shape
        weights[f"diffusion_model.{name}.lora_up.weight"] = 0.3 * torch.randn(shape[0], 4, *[1] * (len(shape) - 2), generator=generator)
        weights[f"diffusion_model.{name}.lora_down.weight"] = 0.3 * torch.randn(4, *shape[1:], generator=generator)
    return comfy.sd.load_lora_for_models(model, None, weights, 1.0, 0.0)[0]


class Replacement:
    """A replace slot as IPAdapter_plus fills it: the first takes the slot, later ones are added to it."""

    def __init__(self, tokens: torch.Tensor):
        self.all = [tokens]

    def add(self, tokens: torch.Tensor) -> None:
        self.all.append(tokens)

    def __call__(self, q, k, v, extra):
        out = optimized_attention(q, k, v, extra["n_heads"])
        for tokens in self.all:
            t = tokens[:, : q.shape[-1]].expand(q.shape[0], -1, -1).to(q)
            out = out + 0.7 * optimized_attention(q, t, t, extra["n_heads"])
        return out


def image_prompt(model):
    model = model.clone()
    tokens = torch.randn(4, 384, generator=torch.Generator().manual_seed(3))
    slots = model.model_options["transformer_options"].setdefault("patches_replace", {}).setdefault("attn2", {})
    for place in (("input", 3), ("output", 2), ("middle", 0)):
        if hasattr(slots.get(place), "add"):
            slots[place].add(tokens)
        else:
            model.set_model_attn2_replace(Replacement(tokens), *place)
    return model


def normalised_guidance(model):
    """NAG: what stands in the slot runs first, then its result is pulled towards that of another context."""
    model = model.clone()
    slots = model.model_options["transformer_options"].get("patches_replace", {}).get("attn2", {})
    for place in (("input", 3), ("output", 2)):
        before = slots.get(place)

        def replace(q, k, v, extra, before=before):
            plain_result = optimized_attention(q, k, v, extra["n_heads"])
            first = before(q, k, v, extra) if before else plain_result
            away = optimized_attention(q, k.flip(1).roll(3, -1), v, extra["n_heads"])
            return first + 0.5 * (first - away)

        model.set_model_attn2_replace(replace, *place)
    return model


def regions_of_a_prompt(model):
    """Acly's regions: rows of prompts are repeated with contexts of their own, marked by a 0 before the entry, and merged by weights.

    What is 1 is taken for the negative and left alone; any other entry for a prompt, the third of dual guidance too.
    """

    def before(q, k, v, extra):
        assert k.mean() == v.mean()  # as theirs does: nobody may have changed one of them alone
        entries = extra["cond_or_uncond"]
        rows, contexts = [], []
        for index, (query, context) in reversed(list(enumerate(zip(q.chunk(len(entries)), k.chunk(len(entries)))))):
            if entries[index] == 1:
                rows.insert(0, query), contexts.insert(0, context)
            else:
                rows.insert(0, query.repeat(2, 1, 1)), contexts.insert(0, torch.cat([context, context.roll(5, -1)]))
                entries.insert(index, 0)
        extra["size"] = len(query)
        return torch.cat(rows), torch.cat(contexts), torch.cat(contexts)

    def after(n, extra):
        entries, index, rest, merged = extra["cond_or_uncond"], 0, list(n.split(extra["size"])), []
        while index < len(entries):
            first = rest.pop(0)
            if entries[index] != 1:
                first = 0.7 * first + 0.3 * rest.pop(0)
                entries.pop(index)
            merged.append(first)
            index += 1
        return torch.cat(merged)

    model = model.clone()
    model.set_model_attn2_patch(before)
    model.set_model_attn2_output_patch(after)
    return model


def text_adapter(model):
    """ELLA: `model_function_wrapper`, a context that depends on the timestep."""
    model = model.clone()

    def wrapper(apply_model, arguments):
        c = dict(arguments["c"])
        context = c["c_crossattn"].to(arguments["input"].device)  # the host moves it later
        c["c_crossattn"] = context * (1 + 0.2 * torch.sin(arguments["timestep"]).view(-1, 1, 1))
        return apply_model(arguments["input"], arguments["timestep"], **c)

    model.set_model_unet_function_wrapper(wrapper)
    return model


def light(model):
    """IC-Light: `model_function_wrapper` that chains what stood there, and more latent channels in c_concat."""
    model = model.clone()
    before = model.model_options.get("model_function_wrapper")

    def wrapper(apply_model, arguments):
        c = dict(arguments["c"])
        c["c_concat"] = c["c_concat"] + 0.1
        changed = dict(arguments, c=c)
        return before(apply_model, changed) if before else apply_model(changed["input"], changed["timestep"], **c)

    model.set_model_unet_function_wrapper(wrapper)
    return model


NEIGHBOURS: dict[str, Callable] = {
    "LoRA": lora,
    "FreeU": lambda m: FreeU().patch(m, 1.3, 1.4, 0.9, 0.2)[0],
    "FreeU_V2": lambda m: FreeU_V2().patch(m, 1.3, 1.4, 0.9, 0.2)[0],
    "PerturbedAttentionGuidance": lambda m: PerturbedAttentionGuidance.execute(m, 2.0)[0],
    "SelfAttentionGuidance": lambda m: SelfAttentionGuidance.execute(m, 0.7, 2.0)[0],
    "HyperTile": lambda m: HyperTile.execute(m, 32, 1, 1, False)[0],
    "ModelSamplingDiscrete": lambda m: ModelSamplingDiscrete().patch(m, "v_prediction", False)[0],
    "IPAdapter_plus (mechanism)": image_prompt,
    "NAG (mechanism)": normalised_guidance,
    "Acly's regions (mechanism)": regions_of_a_prompt,
    "ELLA (mechanism)": text_adapter,
    "IC-Light (mechanism)": light,
}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_either_order_and_both_effects(bundle, given, name, caplog):
    model, neighbour = bundle[1], NEIGHBOURS[name]
    caplog.set_level("WARNING", logger="fireedit")
    behind, front = fireedit(neighbour(model), bundle), neighbour(fireedit(model, bundle))
    both = run(behind, given)
    # a pack that repeats rows and averages them again rounds otherwise when ours is added before than after
    rounding = 5e-4 if name.startswith("Acly") else 0.0
    assert (both - run(front, given)).abs().max() <= rounding, "the order of the nodes makes a difference"
    only = run(fireedit(model, bundle), given)
    assert (both - only).abs().max() > 1e-4, f"{name} has no effect beside FireEdit"
    alone = run(neighbour(model), given)
    assert (both - alone).abs().max() > 1e-4, f"FireEdit has no effect beside {name}"
    assert not caplog.records  # each part of it: HVCA says when it is left out


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_without_payload_a_neighbour_is_alone(bundle, given, name):
    model, neighbour = bundle[1], NEIGHBOURS[name]
    bare = plain(given)
    assert torch.equal(run(fireedit(neighbour(model), bundle), bare), run(neighbour(model), bare))


def test_wherever_it_stands_in_a_chain(bundle, given):
    """A LoRA, FreeU, an image prompt, NAG behind it and PAG, and FireEdit at each of the six places between."""
    chain = [NEIGHBOURS[n] for n in ("LoRA", "FreeU", "IPAdapter_plus (mechanism)", "NAG (mechanism)", "PerturbedAttentionGuidance")]
    results = []
    for place in range(len(chain) + 1):
        model = bundle[1]
        for step in [*chain[:place], lambda m: fireedit(m, bundle), *chain[place:]]:
            model = step(model)
        results.append(run(model, given))
    assert all(torch.equal(results[0], other) for other in results[1:])
    # the latest application counts, wherever the others stand
    twice = fireedit(model, bundle)
    assert torch.equal(run(twice, given), results[0])


def test_a_second_look_at_a_timestep_costs_no_second_tati(bundle, given, monkeypatch):
    """Perturbed attention calls the UNet twice per step; what TATI makes of the instruction is the same both times."""
    tati, rows = type(bundle[0].editor.tati), []
    forward = tati.forward
    monkeypatch.setattr(tati, "forward", lambda self, context, t: rows.append(len(context)) or forward(self, context, t))
    run(NEIGHBOURS["PerturbedAttentionGuidance"](fireedit(bundle[1], bundle)), given, steps=4)
    assert rows == [1] * 4  # the row with the instruction alone, once per step


def test_a_patch_that_replaces_the_guidance_is_named(bundle, given, caplog):
    """RescaleCFG sits in the one slot for a guidance formula; dual guidance has its own, and says so."""
    rescaled = RescaleCFG().patch(fireedit(bundle[1], bundle), 0.7)[0]
    with caplog.at_level("WARNING", logger="fireedit"):
        out = run(rescaled, given)
    assert any("RescaleCFG" in r.message for r in caplog.records)
    assert torch.equal(out, run(fireedit(bundle[1], bundle), given))


def test_differential_diffusion_in_both_orders(bundle, given):
    model = bundle[1]
    orders = [
        DifferentialDiffusion.execute(fireedit(model, bundle))[0], fireedit(DifferentialDiffusion.execute(model)[0], bundle),
    ]  # fmt: skip
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, :, : SIDE // 2 - 3] = 1  # grown and feathered, it ends within a latent cell: there is something to threshold
    image = torch.from_numpy(picture(SIDE, SIDE)).float()[None] / 255
    sample = lambda m: nodes.FireEditSample.execute(  # noqa: E731
        m, *given.args[:3], bundle[2], image, 3, 4, "euler", "simple", 1.0, 1.0, 1.0, "soft", mask
    )[0]["samples"]
    first, second = map(sample, orders)
    assert torch.equal(first, second) and not torch.equal(first, sample(fireedit(model, bundle)))


# --- conditioning ------------------------------------------------------------------------------------------------------


def control(bundle):
    """A ControlNet for this UNet, with weights that are not zero."""
    made = make_controlnet(bundle[1].model.model_config.unet_config, SHAPE.latent_channels)
    return comfy.controlnet.ControlNet(made, load_device=comfy.model_management.get_torch_device())


def with_control(given, net, strength=1.0):
    """ControlNetApplyAdvanced on all three conditionings."""
    hint = torch.from_numpy(picture(SIDE, SIDE, seed=8)).float()[None].movedim(-1, 1) / 255
    applied = net.copy().set_cond_hint(hint, strength, (0.0, 1.0))
    changed = [[[t, {**o, "control": applied, "control_apply_to_uncond": False}] for t, o in c] for c in given.args[:3]]
    return type("Controlled", (), {"args": (*changed, given.args[3])})()


def test_controlnet(bundle, given):
    net, model = control(bundle), bundle[1]
    both = run(fireedit(model, bundle), with_control(given, net))
    assert (both - run(fireedit(model, bundle), given)).abs().max() > 1e-4
    assert (both - run(model, with_control(given, net))).abs().max() > 1e-4
    bare = with_control(plain(given), net)
    assert torch.equal(run(fireedit(model, bundle), bare), run(model, bare))


def with_conditionings(given, change):
    return type("Changed", (), {"args": (*(change(c) for c in given.args[:3]), given.args[3])})()


def test_conditioning_nodes(bundle, given):
    """Combined, masked and timed conditionings keep what FireEdit put into them."""
    model = fireedit(bundle[1], bundle)
    whole = run(model, given)
    twice = with_conditionings(given, lambda c: c + c)  # ConditioningCombine of a thing with itself
    assert (run(model, twice) - whole).abs().max() <= 5e-4
    everywhere = torch.ones(1, SIDE, SIDE)
    set_values = node_helpers.conditioning_set_values
    masked = with_conditionings(given, lambda c: set_values(c, {"mask": everywhere, "mask_strength": 1.0, "set_area_to_bounds": False}))
    assert (run(model, masked) - whole).abs().max() <= 5e-4
    during = lambda c, a, b: set_values(c, {"start_percent": a, "end_percent": b})  # noqa: E731
    timed = with_conditionings(given, lambda c: during(c, 0.0, 0.5) + during(c, 0.5, 1.0))
    assert (run(model, timed) - whole).abs().max() <= 5e-4
    half = everywhere.clone()
    half[:, :, SIDE // 2 :] = 0
    left = lambda c: set_values(c, {"mask": half, "mask_strength": 1.0, "set_area_to_bounds": False})  # noqa: E731
    right = lambda c: set_values(c, {"mask": 1 - half, "mask_strength": 1.0, "set_area_to_bounds": False})  # noqa: E731
    # the edit on the left, the plain picture on the right
    parted = type("Parted", (), {"args": (left(given.args[0]) + right(given.args[1]), *given.args[1:3], given.args[3])})()
    out = run(model, parted, text=1.0, image=1.0)
    assert (out - run(model, given, text=1.0, image=1.0)).abs().max() > 1e-3
    assert (out - run(model, given, text=0.0, image=1.0)).abs().max() > 1e-3
