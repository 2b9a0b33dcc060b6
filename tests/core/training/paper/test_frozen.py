# SPDX-License-Identifier: GPL-3.0-or-later
"""What the frozen parts make of pictures: before the step, together, and DINOv2 once for all that stands on it."""

from dataclasses import replace

import pytest
import torch

from fireedit_core.checkpoints.bundle import load_components
from fireedit_core.training.paper.batches import EditRows, TalkRows
from fireedit_core.training.paper.features import FrozenParts, share_tower, shares_tower
from fireedit_core.training.paper.train import Ready
from tests.core.checkpoints.public_layouts import SMALL


@pytest.fixture
def full(bundle):
    """Components of which the towers and the detector are small ones of the classes of a full-size bundle, standing on one DINOv2."""
    torch.manual_seed(2)
    parts = load_components(bundle)
    names = ("dinov2", "clip_vision", "detector", "region_encoder", "hvca")
    made = {name: SMALL.build(name).eval().requires_grad_(False) for name in names}
    for weight in made["detector"].parameters():
        weight.copy_(torch.randn_like(weight) * 0.2)
    made["dinov2"].load_state_dict(made["detector"].vis_encoder.state_dict())
    return parts | made


@pytest.fixture
def pictures():
    return torch.randint(0, 256, (3, 3, 40, 56), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def counted(parts):
    """How many pictures each tower has seen."""
    seen = {}
    for name, tower in (("dinov2", parts["dinov2"]), ("detector", parts["detector"].vis_encoder)):
        seen[name] = []
        tower.register_forward_hook(lambda _, args, kwargs, out, name=name: seen[name].append(len(kwargs.get("pixel_values", *args))),
                                    with_kwargs=True)  # fmt: skip
    return seen


def test_one_pass_of_dinov2_serves_detector_and_features(full, pictures):
    apart = FrozenParts(dict(full), 4)
    wanted = apart.features(pictures)
    assert share_tower(full) and shares_tower(full["detector"], full["dinov2"])
    together, seen = FrozenParts(full, 4), counted(full)
    found = together.features(pictures)
    assert seen["dinov2"] == [3] and len(wanted.boxes[0]) >= 1
    assert torch.allclose(found.boxes, wanted.boxes, atol=1e-4) and torch.equal(found.region_mask, wanted.region_mask)
    for a, b in ((found.vision.dino, wanted.vision.dino), (found.vision.clip, wanted.vision.clip)):
        for i, level in enumerate(b):
            assert level is None or torch.allclose(a[i], level, atol=1e-4)


def test_towers_that_differ_each_run(full, pictures):
    with torch.no_grad():
        next(full["dinov2"].parameters()).add_(1e-3)
    assert not share_tower(full) and not shares_tower(full["detector"], full["dinov2"])
    seen = counted(full)
    FrozenParts(full, 4).features(pictures)
    assert seen == {"dinov2": [3], "detector": [3]}  # the detector all three at once


def test_half_precision_of_the_bundle_s_tower_makes_no_difference_of_it(full):
    full["dinov2"].to(torch.bfloat16)
    assert share_tower(full) and next(full["dinov2"].parameters()).dtype == torch.float32


def test_batches_of_several_sizes_come_back_as_they_went(bundle, pictures):
    frozen = FrozenParts(load_components(bundle), 4)
    batches = [pictures[:1], pictures[1:, :, :32, :32], pictures[1:]]
    alone = [frozen.features(batch) for batch in batches]
    for a, b in zip(frozen.features_of(batches), alone, strict=True):
        assert torch.allclose(a.latents, b.latents, atol=1e-5) and torch.allclose(a.boxes, b.boxes, atol=1e-4)
        assert torch.allclose(a.vision.dino[-1], b.vision.dino[-1], atol=1e-4)
    for a, batch in zip(frozen.latents_of(batches, [None] * 3), batches, strict=True):
        assert torch.allclose(a, frozen.latents(batch), atol=1e-5)


def test_kept_features_are_read_in_mixed_precision(bundle, pictures, tmp_path):
    frozen = FrozenParts(load_components(bundle), 4, tmp_path)
    made = [frozen.features(pictures), frozen.latents(pictures)]
    with torch.autocast("cpu", torch.bfloat16):
        kept = [frozen.features(pictures), frozen.latents(pictures)]
    for a, b in ((made[0].vision.dino[-1], kept[0].vision.dino[-1]), (made[0].latents, kept[0].latents), (made[1], kept[1])):
        assert b.dtype == torch.float32 and torch.allclose(a, b, atol=2e-3 * float(a.abs().max()))


def test_kept_features_of_another_number_of_regions_are_others(bundle, pictures, tmp_path):
    four, one = (FrozenParts(load_components(bundle), count, tmp_path) for count in (4, 1))
    assert four.features(pictures).region_mask.shape[1] == 4 and one.features(pictures).region_mask.shape[1] == 1
    assert four.cache != one.cache


def test_kept_features_of_other_levels_are_others(bundle, pictures, tmp_path):
    """Two bundles over the same towers read each other's files, which have other levels: the run ended with a KeyError."""
    parts = load_components(bundle)
    one = FrozenParts(parts, 4, tmp_path)
    one.features(pictures)
    parts["hvca"].register_to_config(dino_levels=(0,))
    other = FrozenParts(parts, 4, tmp_path)
    assert one.dino_levels != other.dino_levels and other.features(pictures).vision.dino[0].numel()


class Feed:
    """Rows of one grey picture, the number of the batch in its seed."""

    def __getitem__(self, number: int) -> tuple[EditRows, TalkRows]:
        grey = torch.full((2, 3, 64, 64), 100, dtype=torch.uint8)
        none = torch.zeros(2, dtype=torch.bool)
        mask, seeds = torch.zeros(2, 64, 64, dtype=torch.bool), torch.tensor([number] * 2)
        rows = EditRows(grey, grey, mask, none, none, ["remove the apple"] * 2, seeds)
        return rows, TalkRows(grey[:1], [(("human", "the apple"), ("gpt", "the star"))])


def test_all_passes_of_an_update_are_made_ready_before_it(config):
    from fireedit_core.training.paper.assemble import trainable_components
    from fireedit_core.training.paper.model import EditModel

    used = config(batch=2, accumulate=4)
    assert used.passes_at_once == 4 and replace(used, batch=8).passes_at_once == 2 and replace(used, batch=64).passes_at_once == 1
    components = trainable_components(used)
    frozen = FrozenParts(components, 4)
    calls = []
    compute, frozen._compute = frozen._compute, lambda x: calls.append(len(x)) or compute(x)
    ready = Ready(Feed(), frozen, EditModel(components, used), torch.device("cpu"))
    ready.prepare(5)  # a run that goes on in the middle of an update: the rest of it
    assert calls == [9] and [int(ready[n][0].seeds[0]) for n in (5, 6, 7)] == [5, 6, 7]
    ready.prepare(8)
    assert calls == [9, 12] and ready[8][1].features.latents.shape[0] == 1
