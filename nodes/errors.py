# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors and warnings that an artist reads: they name the node, what came, and what mends it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

logger = logging.getLogger("fireedit")


class FireEditNodeError(ValueError):
    """A node cannot work with what it was given. The message starts with the node's display name."""

    # The host writes the type in front of the message, and names our modules by their whole path on the disk.
    __module__ = "fireedit"

    def __init__(self, node: str, message: str):
        super().__init__(f"{node}: {message}")


def check_choice(node: str, name: str, value: str, choices: Sequence[str]) -> None:
    """Raises FireEditNodeError for what is none of the choices: a value that comes over a wire is checked nowhere else."""
    if value not in choices:
        raise FireEditNodeError(node, f"{name} must be {' or '.join(choices)}, got {value!r}.")


def warned(node: str, text: str) -> list[str]:
    """Say a warning in the log; returns it for the report too, nothing where there is none."""
    if text:
        logger.warning("%s: %s", node, text)
    return [text] if text else []


@contextmanager
def named(node: str, mend: str = "") -> Iterator[None]:
    """Give a ValueError of the core the node's name, and `mend` where the core cannot know what mends it."""
    try:
        yield
    except FireEditNodeError:
        raise
    except ValueError as error:
        raise FireEditNodeError(node, f"{error} {mend}".strip()) from error
