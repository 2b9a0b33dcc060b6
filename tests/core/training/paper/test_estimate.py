# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run is said to take, held against what it is."""

import re

import pytest
from torch import nn

from fireedit_core.training.paper.assemble import trainable_components
from fireedit_core.training.paper.estimate import _of_bundle, _pass, _weights, estimate


def test_parameters_are_those_of_the_run(config, bundle):
    for changes in ({}, {"stage": "vlm"}, {"train_parts": ["unet_lora", "qformer"], "unet_lora_rank": 4}):
        settings = config(**changes)
        said = _weights(_of_bundle(bundle), settings)
        parts = [p for p in trainable_components(settings).values() if isinstance(p, nn.Module)]
        assert sum(t for _, t in said.values()) == sum(w.numel() for p in parts for w in p.parameters() if w.requires_grad)
        assert sum(t for t, _ in said.values()) == sum(w.numel() for p in parts for w in p.parameters())


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


def test_before_there_is_a_bundle_it_speaks_of_the_full_size(config, tmp_path):
    text = estimate(config(bundle=str(tmp_path / "none"), batch=1, size=256, checkpointing=True, frozen_dtype="bfloat16", precision="bf16"))
    assert "fireedit-sd15" in text and "| language_model | 6738.4 M | 0.00 M |" in text and "| qformer | 65.0 M | 65.02 M |" in text
    work = float(re.search(r"One update is ([\d.e+]+) TFLOP", text)[1])
    # the blocks' 6.48 billion weights read 436 tokens: forward, backward and forward again are 3 x 2 x 6.48e9 x 436 = 17 TFLOP; the rest
    # (two towers, the UNet at 256 px) is a tenth of that
    assert 17 < work < 21
    assert "| RTX 3090 | 24 GiB | needs" in text and re.search(r"\| H100 SXM \| 80 GiB \| fits \| fits \|", text)
    assert list(tmp_path.iterdir()) == []
