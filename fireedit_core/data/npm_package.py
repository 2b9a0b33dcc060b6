# SPDX-License-Identifier: GPL-3.0-or-later
"""Pinned packages of the npm registry: fetched, verified by the registry's own hash, unpacked without trust in their paths."""

from __future__ import annotations

import base64
import hashlib
import logging
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

log = logging.getLogger("fireedit")


class PackageError(RuntimeError):
    """A package could not be fetched, verified or read; the text says what mends it."""


@dataclass(frozen=True)
class Package:
    """A pinned npm package: ``integrity`` is the registry's own ``dist.integrity`` (sha512, base64)."""

    name: str
    version: str
    integrity: str

    @property
    def spec(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def slug(self) -> str:
        return self.spec.replace("@", "_").replace("/", "_").strip("_")

    @property
    def archive_name(self) -> str:
        """What `npm pack` calls its archive."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"


def check_integrity(archive: Path, package: Package) -> None:
    """Compare the sha512 of ``archive`` with the pinned one. Raises PackageError where they differ."""
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != package.integrity:
        raise PackageError(
            f"{archive} is not {package.spec}: expected integrity {package.integrity}, came {found}. "
            "Delete the file and fetch again; if it stays different, do not use it."
        )


def files_of(archive: Path) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """Path without its ``package/`` root, and content, of each file of an npm tarball, in its order; read one before the next.

    Raises PackageError, at that entry, for a link, a device or a path that would leave the package.
    """
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            if member.isdir():
                continue
            parts = PurePosixPath(member.name).parts[1:]
            unsafe = not member.isfile() or not parts or ".." in parts or "\\" in member.name or ":" in member.name
            if unsafe or member.name.startswith("/"):
                raise PackageError(
                    f"{archive.name} holds the unsafe entry {member.name!r}; expected plain files in package/."
                )
            stream = tar.extractfile(member)
            if stream is None:
                raise PackageError(f"{archive.name}: {member.name!r} cannot be read; delete the file and fetch again.")
            yield PurePosixPath(*parts), stream


def extract(archive: Path, folder: Path) -> int:
    """Unpack the regular files of an npm tarball into ``folder`` without its ``package/`` root; returns how many.

    Raises PackageError, and writes nothing more, for a link, a device or a path that would leave ``folder``.
    """
    count = 0
    root = folder.resolve()
    for name, stream in files_of(archive):
        path = root / name
        if root not in path.resolve().parents:
            raise PackageError(f"{archive.name} holds the unsafe entry {str(name)!r}; expected plain files in package/.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stream.read())
        count += 1
    return count


def ensure_archive(package: Package, folder: Path) -> Path:
    """The verified archive of ``package`` in ``folder``; fetched with npm first where it is absent.

    An archive that somebody put there by hand (no npm on this machine) is as good, if its hash is right.
    """
    ready = folder / package.archive_name
    if not ready.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as room:
            fetched = _pack(package, Path(room), folder)
            check_integrity(fetched, package)
            fetched.replace(ready)
    else:
        check_integrity(ready, package)
    return ready


def ensure_package(package: Package, folder: Path) -> Path:
    """The folder with the unpacked files of ``package`` in ``folder``; fetched, verified and unpacked first where it is absent."""
    ready = folder / package.slug
    if ready.is_dir():
        return ready
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as room:
        local = folder / package.archive_name
        archive = local if local.is_file() else _pack(package, Path(room), folder)
        check_integrity(archive, package)
        fresh = Path(room) / "files"
        log.info("unpacked %d files of %s", extract(archive, fresh), package.spec)
        try:
            fresh.replace(ready)  # one rename: a reader never sees half a package
        except OSError:
            if not ready.is_dir():  # else another process was faster, which is fine
                raise
    return ready


def _pack(package: Package, folder: Path, cache: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise PackageError(
            f"npm was not found, and {package.spec} is not in {cache}. Install Node.js (it brings npm), or run "
            f"'npm pack {package.spec}' elsewhere and put the .tgz file into {cache}."
        )
    command = [npm, "pack", package.spec, "--ignore-scripts", "--silent"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    archives = list(folder.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        raise PackageError(
            f"'npm pack {package.spec}' gave no archive (exit {done.returncode}): {done.stderr.strip()[-500:]}. "
            "Check the connection to the npm registry and try again."
        )
    return archives[0]
