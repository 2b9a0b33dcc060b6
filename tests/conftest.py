# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests share. `pythonpath` in pyproject.toml makes our packages importable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fireedit_cli.comfy_host import ComfyServer, HostNotFound

# No test may reach for a model hub: what it needs lies in the repository or is made on the spot. Set before
# transformers, huggingface_hub and ultralytics are imported, which read them at import; servers inherit them.
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
os.environ.update(OFFLINE)

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of this repository."""
    return REPO


@pytest.fixture(scope="session")
def server() -> Iterator[ComfyServer]:
    """One ComfyUI for the whole session, on the CPU so that results do not depend on the machine."""
    try:
        host = ComfyServer(cpu=True, preview="latent2rgb")
    except HostNotFound as error:
        pytest.fail(f"these tests need a ComfyUI. {error}", pytrace=False)
    with host:
        yield host
