# SPDX-License-Identifier: GPL-3.0-or-later
"""Sprites for the tests of the generator: fetched once by npm pack where the cache lacks them."""

from __future__ import annotations

import pytest

from fireedit_core.data import WORLD, SceneGenerator, SceneSample, Sprites


@pytest.fixture(scope="session")
def sprites() -> Sprites:
    return Sprites.for_world(WORLD)


@pytest.fixture(scope="session")
def train(sprites: Sprites) -> list[SceneSample]:
    generator = SceneGenerator(WORLD, sprites, "train", seed=3)
    return [generator.sample(i) for i in range(500)]


@pytest.fixture(scope="session")
def heldout(sprites: Sprites) -> list[SceneSample]:
    generator = SceneGenerator(WORLD, sprites, "heldout", seed=3)
    return [generator.sample(i) for i in range(150)]
