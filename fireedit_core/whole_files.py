# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are there whole or as they were before, however the process that writes them ends."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text beside its place, and put it there when it is whole. Raises OSError where that cannot be done."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)  # of a disk that was full


def write_json(path: Path, value: Any, indent: int = 2) -> None:
    """The same of a JSON value."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False) + "\n")
