# SPDX-License-Identifier: GPL-3.0-or-later
"""Sprites are found, and recolouring keeps the shading."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fireedit_core.data import WORLD, SpriteError, Sprites
from fireedit_core.data import sprites as module
from fireedit_core.data.sprites import luminance


def test_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIREEDIT_CACHE", str(tmp_path))
    assert module.sprite_folder() == tmp_path / "sprites"
    monkeypatch.delenv("FIREEDIT_CACHE")
    assert module.sprite_folder().parts[-2:] == (".cache", "sprites")


def test_unknown_emoji_is_explained(sprites: Sprites) -> None:
    world = replace(WORLD, heldout={"thing": "no such thing"})
    with pytest.raises(SpriteError, match="no such thing"):
        Sprites.for_world(world)


def test_recolouring_keeps_the_shading(sprites: Sprites) -> None:
    for noun in sprites.nouns:
        native = sprites.rgba(noun)
        inside = native[..., 3] == 255
        before = luminance(native[inside][:, :3])
        for colour in WORLD.palette:
            tinted = sprites.rgba(noun, colour)
            assert np.array_equal(tinted[..., 3], native[..., 3])
            after = luminance(tinted[inside][:, :3])
            ranks = [np.argsort(np.argsort(values)) for values in (before, after)]
            assert np.corrcoef(ranks)[0, 1] > 0.9, (noun, colour)


def test_tints_are_told_apart_by_hue(sprites: Sprites) -> None:
    for noun in WORLD.classes:
        looks = {}
        for colour in WORLD.palette:
            rgba = sprites.rgba(noun, colour)
            looks[colour] = rgba[rgba[..., 3] == 255][:, :3].astype(float).mean(0)
        for a, first in looks.items():
            assert all(np.abs(first - second).max() > 25 for b, second in looks.items() if a != b), noun


@pytest.mark.parametrize("size", [18, 33, 52, 74])
def test_renderings_have_the_size_asked_for(sprites: Sprites, size: int) -> None:
    for noun in sprites.nouns:
        found = sprites.get(noun, "", size)
        assert size - 2 <= max(found.height, found.width) <= size
        assert (found.colour <= 255 - found.rest).all()  # premultiplied
        assert found.footprint.any(0).all() or found.footprint.any(1).all()
        canvas = np.zeros((80, 80, 3), np.uint8)
        found.paste(canvas, 1, 1)
        assert not canvas[found.height + 1 :].any() and canvas.any()
    assert sprites.get("apple", "", size) is sprites.get("apple", "", size)


def test_carried_sprites_need_no_network_and_are_the_same(sprites: Sprites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `python -m fireedit_core.data sprites` writes is all that a machine without npm needs."""
    count = module.export(WORLD, tmp_path / "sprites")
    assert count == len(WORLD.classes) + len(WORLD.heldout) + 1
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.*") if path.is_file()) < 8 * 2**20
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    carried = Sprites.for_world(WORLD, tmp_path / "sprites")
    assert carried.nouns == sprites.nouns
    for noun in list(WORLD.classes)[:3]:
        assert np.array_equal(carried.rgba(noun), Sprites.for_world(WORLD).rgba(noun))
