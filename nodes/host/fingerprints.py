# SPDX-License-Identifier: GPL-3.0-or-later
"""What a picture in the server's folders is known by: GET /fireedit/fingerprint, so that what is drawn on it before the first run belongs
to it (web/region_select.js)."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import folder_paths
from aiohttp import web

import nodes
from fireedit_core.thumbnail import fingerprint

from . import compat

ROUTE = "/fireedit/fingerprint"


def fingerprint_of(kind: str, subfolder: str, name: str) -> str:
    """The fingerprint of the first picture of a file, read as Load Image reads it.

    Args:
        kind: the host's name of the folder: input, output or temp.

    Raises:
        ValueError: for a file outside of that folder, or none. OSError: for one that is no picture.
    """
    folder = folder_paths.get_directory_by_type(kind)
    # as the host's /view does: a link below the folder is a place within it, wherever it leads to
    path = Path(os.path.abspath(Path(folder or "", subfolder, name)))
    if folder is None or not path.is_relative_to(os.path.abspath(folder)) or not path.is_file():
        raise ValueError(f"there is no file {name!r} in the folder {kind!r}")
    image, _ = nodes.LoadImage().load_image(f"{Path(subfolder, name).as_posix()} [{kind}]")
    return fingerprint(image[0, ..., :3].movedim(-1, 0))


async def answer(request: web.Request) -> web.Response:
    """The fingerprint as JSON, for the same query as the host's /view; 400 with a text for a file that is none."""
    query = request.query
    asked = query.get("type", "input"), query.get("subfolder", ""), query.get("filename", "")
    try:
        return web.json_response({"picture": await asyncio.to_thread(fingerprint_of, *asked)})
    except (ValueError, OSError) as error:
        return web.json_response({"error": str(error)}, status=400)


def register_route() -> None:
    """Add the route once, where there is a server."""
    compat.add_route(ROUTE, answer)
