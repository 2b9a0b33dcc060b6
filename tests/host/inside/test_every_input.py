# SPDX-License-Identifier: GPL-3.0-or-later
"""Of every node: each input is seen to arrive, and each picture of a batch comes out as it does alone. A new input fails here until it
is in the table of `every_node.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.host.inside.every_node import CASES, COUNT, OUTSIDE, Case, World, pictures  # first: it makes the pack importable

import comfy.sample  # isort: skip
from fireedit_core.photo.frame import PhotoFrame  # isort: skip
from fireedit_core.regions.record import Regions  # isort: skip
from fireedit_pack.nodes import NODES  # isort: skip

ALL = list(range(COUNT))
NODE = {node.__name__: node for node in NODES}


@pytest.fixture(scope="module")
def world(loaded):
    return World(*loaded, pictures())


@pytest.fixture(autouse=True)
def the_same_noise_for_every_row(monkeypatch):
    """A picture alone starts from the noise that it has in a batch."""
    monkeypatch.setattr(
        comfy.sample, "prepare_noise", lambda latent, seed, *_: torch.randn(
            1, *latent.shape[1:], generator=torch.Generator().manual_seed(seed)
        ).expand_as(latent).clone()
    )  # fmt: skip


def given(case: Case, world: World, rows: list[int], name: str = "") -> dict[str, Any]:
    base = {key: value(world) if callable(value) else value for key, value in case.base.get(name, {}).items()}
    return {**case.inputs(world, rows), **base}


def plain(value: Any) -> Any:
    """An output as something that can be compared: tensors stay, records become dicts of what is in them."""
    if isinstance(value, Regions):
        return {name: getattr(value, name) for name in ("boxes", "scores", "labels", "masks", "picture")}
    if isinstance(value, PhotoFrame):
        return repr(value)
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items() if not callable(one)}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if hasattr(value, "cond") and isinstance(value.cond, torch.Tensor):
        return value.cond
    return value


def same(one: Any, two: Any, tolerance: float) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return one.shape == two.shape and bool(torch.allclose(one.float(), two.float(), atol=tolerance, rtol=0))
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key], tolerance) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)):
        return len(one) == len(two) and all(same(a, b, tolerance) for a, b in zip(one, two, strict=True))
    return type(one) is type(two) and (one == two or not isinstance(one, (str, int, float, bool)))  # models and the like are not compared


def row(value: Any, i: int, count: int) -> Any:
    """What of an output for `count` pictures belongs to picture i; texts speak of all of them and are left out."""
    if isinstance(value, torch.Tensor):
        return value[i : i + 1] if len(value) == count else value.unflatten(0, (-1, count))[:, i]
    if isinstance(value, dict):
        return {key: row(one, i, count) for key, one in value.items() if isinstance(one, (torch.Tensor, dict))}
    if isinstance(value, list) and len(value) == count and all(isinstance(one, (dict, str)) for one in value):
        return [value[i]]
    return [row(one, i, count) for one in value] if isinstance(value, list) else None


def test_every_node_is_here():
    assert set(NODE) == set(CASES) | set(OUTSIDE)


@pytest.mark.parametrize("name", CASES)
def test_every_input_is_here(name):
    case = CASES[name]
    assert {i.id for i in NODE[name].define_schema().inputs} == set(case.others) | set(case.silent)


@pytest.mark.parametrize(("name", "of"), [(name, of) for name, case in CASES.items() for of in case.others])
def test_an_input_makes_a_difference(world, name, of):
    case = CASES[name]
    usual = given(case, world, ALL, of)
    before = plain(case.run(world, NODE[name], dict(usual)))
    value = case.others[of]
    other = {**usual, of: value(world, usual) if callable(value) else value}
    assert not same(before, plain(case.run(world, NODE[name], other)), 1e-5), f"{of} makes no difference"


@pytest.mark.parametrize("name", CASES)
def test_each_picture_of_a_batch_comes_out_as_it_does_alone(world, name):
    case = CASES[name]
    batch = plain(case.run(world, NODE[name], given(case, world, ALL)))
    single = [plain(case.run(world, NODE[name], given(case, world, [i]))) for i in ALL]
    for i in ALL:
        for number, (found, wanted) in enumerate(zip(batch, single[i], strict=True)):
            assert same(row(found, i, COUNT), row(wanted, 0, 1), 5e-4), f"output {number}, picture {i}"
    assert not same(single[0], single[1], 1e-3), "the pictures do not differ: nothing was compared"
