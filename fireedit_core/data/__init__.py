# SPDX-License-Identifier: GPL-3.0-or-later
"""Synthetic before/after pairs (DESIGN.md D11): exact edits of scenes made of sprites."""

from .sample import EDIT_TYPES, EditSample
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
    "SpriteError",
    "Sprites",
    "World",
    "vocabulary",
]
