# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether ultralytics (AGPL-3.0, optional) is there in a release that may be used. Looks without importing it."""

from __future__ import annotations

import importlib.metadata
import importlib.util

# Published with a coin miner inside (ultralytics issue 18027).
COMPROMISED_VERSIONS = ("8.3.41", "8.3.42", "8.3.45", "8.3.46")


def ultralytics_available() -> bool:
    """Whether ultralytics is installed in a release that may be used. Imports nothing."""
    try:
        check_version()
    except ImportError:
        return False
    return True


def check_version() -> None:
    """Raises ImportError if ultralytics is not installed, or is a release that carried malware."""
    try:
        version = importlib.metadata.version("ultralytics")
    except importlib.metadata.PackageNotFoundError:
        version = None
    if version is None or importlib.util.find_spec("ultralytics") is None:
        raise ImportError("This detector needs ultralytics (AGPL-3.0), which is not installed: pip install ultralytics")
    if version in COMPROMISED_VERSIONS:
        raise ImportError(
            f"ultralytics {version} was published with malware (ultralytics issue 18027) and is refused. Replace it: "
            "pip install --upgrade ultralytics, and check the machine."
        )
