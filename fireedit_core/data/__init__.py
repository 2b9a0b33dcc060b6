# SPDX-License-Identifier: GPL-3.0-or-later
"""Samples to train and measure on: synthetic scenes with exact edits (DESIGN.md D11), and public datasets (formats/)."""

from .sample import EDIT_TYPES, EditSample, SceneSample
from .scenes import SPLITS, SceneGenerator
from .sprites import SpriteError, Sprites
from .world import RICH_WORLD, WORLD, WORLDS, World, vocabulary

__all__ = [
    "EDIT_TYPES",
    "RICH_WORLD",
    "SPLITS",
    "WORLD",
    "WORLDS",
    "EditSample",
    "SceneGenerator",
    "SceneSample",
    "SpriteError",
    "Sprites",
    "World",
    "vocabulary",
]
