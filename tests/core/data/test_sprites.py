# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching is verified, unpacking stays in its folder, recolouring keeps the shading."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fireedit_core.data import WORLD, SpriteError, Sprites
from fireedit_core.data import sprites as module
from fireedit_core.data.sprites import NAMES, Package, check_integrity, ensure_package, extract, luminance


def pack(path: Path, *names: str, link: str = "") -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            if link:
                info.type, info.linkname = tarfile.SYMTYPE, link
            else:
                info.size = 4
            tar.addfile(info, None if link else io.BytesIO(b"data"))
    return path


def pinned(archive: Path) -> Package:
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    return Package("@a/b", "1.0.0", f"sha512-{digest}")


def test_a_verified_archive_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(tmp_path / "a-b-1.0.0.tgz", "package/data/x.json")
    package = pinned(archive)
    monkeypatch.setattr(module.shutil, "which", lambda name: None)  # an archive put there by hand needs no npm
    folder = ensure_package(package, tmp_path)
    assert (folder / "data" / "x.json").read_bytes() == b"data" and folder.parent == tmp_path
    archive.unlink()
    assert ensure_package(package, tmp_path) == folder


def test_a_tampered_archive_is_refused(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a-b-1.0.0.tgz", "package/x.json")
    package = pinned(archive)
    check_integrity(archive, package)
    data = bytearray(archive.read_bytes())
    data[-1] ^= 1
    archive.write_bytes(data)
    with pytest.raises(SpriteError, match="expected integrity"):
        ensure_package(package, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [archive.name]


@pytest.mark.parametrize(
    "name", ["package/../../evil", "/etc/evil", "package/../evil", "package/a\\..\\evil", "package/c:evil"]
)
def test_paths_that_escape_are_refused(tmp_path: Path, name: str) -> None:
    archive = pack(tmp_path / "x.tgz", name)
    with pytest.raises(SpriteError, match="unsafe"):
        extract(archive, tmp_path / "out")
    assert not [p for p in tmp_path.rglob("*") if p.name.endswith("evil")]


def test_links_are_refused(tmp_path: Path) -> None:
    archive = pack(tmp_path / "x.tgz", "package/link", link="/etc/passwd")
    with pytest.raises(SpriteError, match="unsafe"):
        extract(archive, tmp_path / "out")


def test_missing_npm_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    with pytest.raises(SpriteError, match="Install Node.js"):
        ensure_package(NAMES, tmp_path)


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
