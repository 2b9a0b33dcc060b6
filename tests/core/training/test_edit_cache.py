# SPDX-License-Identifier: GPL-3.0-or-later
"""Caches of frozen features: made again when anything changes that they depend on, and each pair is the one of its number."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fireedit_core.data import WORLD, SceneGenerator, vocabulary
from fireedit_core.diffusion.pipeline import encode_latents
from fireedit_core.training import edit_cache
from fireedit_core.training.autoencoder import make_autoencoder
from fireedit_core.training.edit_cache import EditCache, PairEncoder, RollingCache, fingerprint
from fireedit_core.training.tiny import tiny_components

from .small import SIZES


@pytest.fixture(scope="module")
def parts():
    return tiny_components(vocabulary(WORLD), SIZES) | {"vae": make_autoencoder()}


@pytest.fixture
def builds(monkeypatch):
    """How often a cache was built; nothing is computed."""
    made = []
    monkeypatch.setattr(EditCache, "_build", lambda self, *_: made.append(1) or ([], [1, 1]))
    return made


CHANGES = {
    "count": {"count": 5}, "seed": {"seed": 3}, "first": {"first": 4}, "split": {"split": "validation"}, "regions": {"regions": False},
    "levels": {"levels": ((1,), (1,))}, "world": {"world": replace(WORLD, twin_share=0.123)}, "weights": {"weights": "others"},
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_cache_depends_on_makes_it_anew(parts, builds, tmp_path, name):
    given = {"components": parts, "world": WORLD, "folder": tmp_path, "count": 4, "weights": "some"}
    for _ in range(2):
        EditCache(**given)
    assert len(builds) == 1
    for _ in range(2):
        EditCache(**(given | CHANGES[name]))
    assert len(builds) == 2
    EditCache(**given)
    assert len(builds) == 3  # the folder held another one


def test_other_weights_of_frozen_parts_make_it_anew(parts, builds, tmp_path):
    other = copy.deepcopy(parts)
    EditCache(parts, WORLD, tmp_path, 4)
    for name, count in (("unet", 1), ("vae", 2), ("adapter", 3)):
        with torch.no_grad():
            next(other[name].parameters()).add_(1)  # the encoder's, of the autoencoder
        EditCache(other, WORLD, tmp_path, 4)
        assert len(builds) == count, name
    with torch.no_grad():
        next(other["vae"].decoder.parameters()).add_(1)
    assert fingerprint(other) == fingerprint(other | {"unet": None})
    EditCache(other, WORLD, tmp_path, 4)
    assert len(builds) == 3  # no feature depends on the decoder


def test_a_pair_is_the_one_of_its_number(parts, tmp_path):
    one = EditCache(parts, WORLD, tmp_path / "one", 4, batch=2)
    two = EditCache(parts, WORLD, tmp_path / "two", 2, batch=2, first=2)
    for name in ("source", "target", "mask", "ids"):
        assert np.array_equal(one.arrays[name][2:], two.arrays[name]) and not np.array_equal(one.arrays[name][:2], two.arrays[name]), name
    generator = SceneGenerator(WORLD, split="train", seed=2, masks=False)
    for i in range(4):
        picture = torch.from_numpy(generator.sample(i).target).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            wanted = encode_latents(parts["vae"], picture)[0]
        assert np.abs(one.arrays["target"][i] - wanted.numpy()).max() < 0.05 * float(wanted.abs().max())  # half precision


def test_latents_are_in_the_scale_that_the_unet_denoises(parts):
    """An autoencoder whose scale is not 1, as Stable Diffusion's."""
    from fireedit_core.training.batches import collate

    scaled = copy.deepcopy(parts["vae"])
    scaled.register_to_config(scaling_factor=0.25)
    generator = SceneGenerator(WORLD, split="train", seed=2, masks=False)
    batch = collate([generator.sample(i) for i in range(2)], WORLD)
    levels = (parts["hvca"].config.dino_levels, parts["hvca"].config.clip_levels)
    plain, other = (PairEncoder(parts | {"vae": vae}, WORLD, levels)(batch) for vae in (parts["vae"], scaled))
    for name in ("source", "target"):
        assert torch.allclose(other[name], 0.25 * plain[name], atol=1e-3) and plain[name].abs().max() > 0.01


@pytest.fixture
def rolling(parts, monkeypatch, tmp_path):
    """Three caches of four pairs, each of which knows its numbers alone."""

    def stub(components, world, folder, count, seed, first, weights):
        folder.mkdir(parents=True)
        torch.manual_seed(99)  # as a real one does
        return SimpleNamespace(first=first, weights=weights)

    monkeypatch.setattr(edit_cache, "EditCache", stub)
    monkeypatch.setattr(edit_cache, "joined", lambda rows, device: [cache.first + int(i) for cache, indices in rows for i in indices])
    return RollingCache(parts, WORLD, tmp_path, count=4, width=3, seed=2)


def test_every_pass_has_all_pairs_of_its_caches_in_an_order_of_its_own(rolling):
    """One cache, then two, then always three; each pass adds a new one, and leaves the oldest where there are three."""
    begins, order = (0, 4, 12, 24, 36, 48), []
    for begin, end in pairwise(begins):
        order.append([rolling.get([i], torch.device("cpu"))[0] for i in range(begin, end)])
    for number, pairs in enumerate(order):
        oldest = max(0, number - 2)
        assert sorted(pairs) == list(range(4 * oldest, 4 * number + 4))
    places = [[pair - min(pairs) for pair in pairs] for pairs in order[2:]]
    assert places[0] != places[1] != places[2] != places[0]
    assert sorted(p.name for p in rolling.folder.iterdir()) == ["00002", "00003", "00004"]


def test_making_a_cache_does_not_move_the_noise_of_training(rolling):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    rolling.get([0, 1, 2, 3, 4, 5, 6, 7], torch.device("cpu"))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert {cache.weights for cache in rolling.caches.values()} == {fingerprint(rolling.components)}
