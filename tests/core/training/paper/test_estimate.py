# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run is said to take, held against what it is."""

import itertools
import re

import pytest
import torch
from torch import nn

from fireedit_core.data.formats.registry import load_sources
from fireedit_core.data.mixture import Mixture
from fireedit_core.training.loop import make_optimizer
from fireedit_core.training.paper.assemble import trainable_components
from fireedit_core.training.paper.batches import Rows, mixtures_of
from fireedit_core.training.paper.estimate import _of_bundle, _pass, _weights, estimate, held, unsplit
from fireedit_core.training.paper.features import FROZEN, FrozenParts
from fireedit_core.training.paper.model import EditModel
from fireedit_core.training.paper.stage import units
from fireedit_core.training.paper.train import edit_inputs, stage_config


def test_parameters_are_those_of_the_run(config, bundle):
    for changes in ({}, {"stage": "vlm"}, {"train_parts": ["unet_lora", "qformer"], "unet_lora_rank": 4}):
        settings = config(**changes)
        said = _weights(_of_bundle(bundle), settings)
        parts = [p for p in trainable_components(settings).values() if isinstance(p, nn.Module)]
        assert sum(t for _, t in said.values()) == sum(w.numel() for p in parts for w in p.parameters() if w.requires_grad)
        assert sum(t for t, _ in said.values()) == sum(w.numel() for p in parts for w in p.parameters())


@pytest.mark.slow
def test_work_and_memory_grow_as_they_do(config, bundle):
    cost = lambda **changes: _pass(_of_bundle(bundle), config(**changes))  # noqa: E731
    one, two = cost(batch=2), cost(batch=4)
    assert two.flops == pytest.approx(2 * one.flops, rel=0.02) and two.kept == pytest.approx(2 * one.kept, rel=0.05)
    thrifty = cost(batch=4, checkpointing=True)
    assert thrifty.kept < 0.7 * two.kept and thrifty.flops > 1.1 * two.flops
    # a UNet that is not trained has no gradients of weights
    assert cost(batch=4, stage="vlm").flops < 0.95 * two.flops


def test_the_largest_share_is_what_it_must_be(config, bundle):
    """A linear layer costs two operations per weight and token, forward; three times that with both gradients."""
    settings = config(batch=1, train_parts=["qformer"])
    parts = _of_bundle(bundle)
    whole = _pass(parts, settings).flops
    class_free = config(batch=1, train_parts=["qformer", "unet"])
    unet_weights = _pass(_of_bundle(bundle), class_free).flops - whole
    # what training the UNet adds is its forward cost once; its convolutions run on 8 x 8 cells and half of that
    convolutions = sum(m.weight.numel() for m in parts["unet"].modules() if isinstance(m, (nn.Conv2d, nn.Linear)))
    assert 2 * convolutions * 16 < unet_weights < 2 * convolutions * 64 * 1.5


@pytest.mark.slow
def test_before_there_is_a_bundle_it_speaks_of_the_full_size(config, tmp_path):
    text = estimate(config(bundle=str(tmp_path / "none"), batch=1, size=256, checkpointing=True, frozen_dtype="bfloat16", precision="bf16"))
    assert "fireedit-sd15" in text and "| language_model | 6738.4 M | 0.00 M |" in text and "| qformer | 65.0 M | 65.02 M |" in text
    work = float(re.search(r"One update is ([\d.e+]+) TFLOP", text)[1])
    # the blocks' 6.48 billion weights read 436 tokens: forward, backward and forward again are 3 x 2 x 6.48e9 x 436 = 17 TFLOP; the rest
    # (two towers, the UNet at 256 px) is a tenth of that
    assert 17 < work < 21
    assert "| RTX 3090 | 24 GiB | needs" in text and re.search(r"\| H100 SXM \| 80 GiB \| fits \| fits \|", text)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"stage": "vlm"}, {"checkpointing": True, "batch": 8}])
def test_a_step_holds_no_more_than_is_said_and_not_much_less(config, bundle, changes):
    """The most that the allocator had given out at once in a step, weights included; there are no averages here."""
    settings = config(**{"batch": 4, "precision": "bf16", "frozen_dtype": "bfloat16", "ema_decay": 0.0} | changes)
    components = trainable_components(settings)
    model = EditModel(components, settings).train()
    frozen = FrozenParts(components, settings.max_regions)
    edits, _ = mixtures_of(load_sources(settings.sources), lambda some, weights: Mixture(some, 0, weights))
    rows = Rows(edits, None, settings, multiple=16)[0][0]
    optimizer = make_optimizer([p for p in model.parameters() if p.requires_grad], stage_config(settings))
    modules = (model, *(components[name] for name in FROZEN))
    tensors = (t.untyped_storage() for m in modules for t in itertools.chain(m.parameters(), m.buffers()))
    weights = sum({storage.data_ptr(): storage.nbytes() for storage in tensors}.values())
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
        with torch.autocast("cpu", torch.bfloat16):
            loss, _ = model(edit_inputs(rows, frozen, model, torch.device("cpu")))
        loss.backward()
        optimizer.step()
    events = sorted((e.start_ns(), e.nbytes()) for e in seen.profiler.kineto_results.events() if e.name() == "[memory]")
    peak = weights + max(itertools.accumulate(size for _, size in events))
    parts = _of_bundle(bundle)
    said = sum(held(_weights(parts, settings), settings).values()) + _pass(parts, settings).kept
    assert peak <= said < 2 * peak


def test_a_split_run_needs_its_share_the_towers_and_what_it_gathers(config, bundle):
    settings = config(parallel="fsdp", frozen_dtype="bfloat16", precision="bf16", learn_null=True)
    parts = _of_bundle(bundle)
    alone, gathered = unsplit(parts, _weights(parts, settings), settings)
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    assert alone == sum(count(parts[name]) * (4 if name == "detector" else 2) for name in FROZEN)
    blocks = sorted(count(block) * (8 if block not in list(parts["language_model"].model.layers) else 2) for block in units(parts))
    rest = 2 * (count(parts["language_model"]) - sum(count(x) for x in parts["language_model"].model.layers))
    unet = [x for x in units(parts) if x not in list(parts["language_model"].model.layers)]
    rest += 8 * (count(parts["unet"]) - sum(count(x) for x in unet)) + 2 * count(parts["region_encoder"])
    trained = ("adapter", "img_tokens", "grounding", "qformer", "tati", "hvca", "visual_attention")
    rest += 8 * sum(count(parts[name]) for name in trained) + 8 * _weights(parts, settings)["lora"][0]
    assert gathered == blocks[-1] + blocks[-2] + rest
    text = estimate(settings)
    assert "Split over eight, each process has an eighth" in text
