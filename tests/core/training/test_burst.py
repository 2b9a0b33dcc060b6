# SPDX-License-Identifier: GPL-3.0-or-later
"""The half hour on a borrowed GPU, rehearsed on the CPU: two bursts, one after the other, and the bundle that comes of them."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors import safe_open

pytest.importorskip("tensorboard")
from fireedit_core.checkpoints.bundle import bundle_options, load_components, read_index
from fireedit_core.data import WORLD
from fireedit_core.evaluation.familiarity import keep
from fireedit_core.training import burst, pieces
from fireedit_core.training.edit_cache import PairEncoder
from fireedit_core.training.tiny import renewed

from .small import SIZES, write_small_bundle

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def start(repo, tmp_path_factory):
    return write_small_bundle(repo, tmp_path_factory.mktemp("start"), looks=100)


def small_burst(out, start, earlier=None, **more):
    options = {"minutes": 5, "batch": 4, "pool": 96, "workers": 1, "world": WORLD, "sizes": SIZES, "fill": 64, "max_steps": 3} | more
    return burst.run(out, start, pieces=earlier, **options)


def test_two_bursts_and_the_bundle(start, tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 2**20)  # so that there are several
    first = small_burst(tmp_path / "one", start)
    assert first["looks"] == 100 + 3 * 4 * 2 and first["bursts"] == 1 and first["pairs"] >= 64 and first["looks_per_second"] > 0
    names = json.loads((tmp_path / "one" / pieces.RECORD).read_text())["pieces"]
    assert len(names) > 1 and all((tmp_path / "one" / name).stat().st_size < 1.2 * 2**20 for name in names[1:])
    second = small_burst(tmp_path / "two", start, tmp_path / "one", cooldown=1.0)
    assert second["looks"] == first["looks"] + 24 and second["bursts"] == 2
    # it went on from the first burst's weights, not from the start's
    record = burst.merge(tmp_path / "two", start, tmp_path / "bundle")
    assert record["looks"] == second["looks"] and burst.looks_of(tmp_path / "bundle") == second["looks"]
    assert burst.bursts_of(tmp_path / "bundle") == 2
    made, old = load_components(tmp_path / "bundle"), renewed(load_components(start))
    one = renewed(load_components(start))
    pieces.read_pieces(tmp_path / "one", one)
    distance = lambda a, b: float((a["unet"].conv_out.weight - b["unet"].conv_out.weight).norm())  # noqa: E731
    assert 0 < distance(made, one) < distance(made, old)
    assert torch.equal(made["vae"].encoder.conv_out.weight, old["vae"].encoder.conv_out.weight)
    with safe_open(tmp_path / "two" / names[0], "pt") as file:
        assert all(file.get_tensor(key).dtype == torch.float16 for key in list(file.keys())[:3])


def test_a_bundle_takes_pieces_in_its_own_place(start, tmp_path):
    """So that the work tree that travels to a GPU holds the weights once."""
    own = tmp_path / "own"
    shutil.copytree(start, own)
    components = renewed(load_components(own))
    with torch.no_grad():
        components["unet"].conv_out.bias.fill_(0.25)
    pieces.write_pieces(tmp_path, {name: components[name] for name in pieces.PARTS}, {"looks": 7, "bursts": 1})
    keep(own, 0.0123)  # what was measured of the autoencoder, which no burst trains: it was lost
    burst.merge(tmp_path, own, own)
    assert bundle_options(read_index(own))["reconstruction_limit"] == 0.0123
    again = load_components(own)
    assert (again["unet"].conv_out.bias == 0.25).all() and burst.looks_of(own) == 7
    one, two = again["clip_vision"].state_dict(), load_components(start)["clip_vision"].state_dict()
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_pieces_that_do_not_fit_are_refused(start, tmp_path):
    components = renewed(load_components(start))
    pieces.write_pieces(tmp_path, {name: components[name] for name in pieces.PARTS}, {"looks": 1, "bursts": 1})
    pieces.read_pieces(tmp_path, components)
    record = json.loads((tmp_path / pieces.RECORD).read_text())
    (tmp_path / pieces.RECORD).write_text(json.dumps(record | {"pieces": record["pieces"][:0]}))
    with pytest.raises(ValueError, match="do not fit"):
        pieces.read_pieces(tmp_path, components)
    (tmp_path / pieces.RECORD).write_text(json.dumps(record | {"pieces": ["weights-9.safetensors"]}))
    with pytest.raises(OSError, match="weights-9"):
        pieces.read_pieces(tmp_path, components)


def test_the_pool_keeps_the_newest(start):
    components = load_components(start)
    encode = PairEncoder(components, WORLD, ((1,), (1,)))
    scenes = burst.Scenes(WORLD, 1, 0)
    pool = burst.PairPool(encode, iter([scenes[0], scenes[1]]), size=96)
    assert pool.take(wait=True) and pool.made == 64
    pool.arrays["source"][64:] = torch.inf  # what was never made is not drawn
    assert torch.isfinite(pool.draw(200).source).all()
    assert pool.take(wait=True) and pool.made == 128
    pool.close()
    new = encode(scenes[1])["source"]
    # 64 to 95 of the pool are the first half of the second batch, its rest stands where the oldest stood
    assert torch.allclose(pool.arrays["source"][64:].float(), new[:32].float(), atol=2e-3)
    assert torch.allclose(pool.arrays["source"][:32].float(), new[32:].float(), atol=2e-3)
    assert pool.draw(7).source.shape == (7, 16, 16, 16)
    assert not pool.take()
