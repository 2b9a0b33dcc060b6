# SPDX-License-Identifier: GPL-3.0-or-later
"""What a benchmark is to the runners: a list of edits to make, and a list of edits to judge, each with all that is compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ...data.formats import BrokenRow, Reader
from .profiles import Profile

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True, kw_only=True)
class Edit:
    """An edit that a benchmark asks for.

    Attributes:
        key: the result's place below the folder, without ending. row: of the reader, whose source it starts from.
        after: the key of the edit whose result it starts from instead; "" for none.
    """

    key: str
    instruction: str
    row: int
    after: str = ""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """An edit that is judged: its key, the row that holds what it is compared with, and the group it counts in."""

    key: str
    row: int
    task: str
    start: int = -1  # the row whose source it started from; -1 is `row` itself


@dataclass(kw_only=True)
class Case:
    """All that a metric may look at, besides the edit.

    Attributes:
        source: what a do-nothing editor gives. reference: what edits are compared with. mask: (H, W) bool, or float32
            in 0..1, at the reference's size, where the edit belongs; None where the benchmark has none.
        caption: what the whole edit shows, by which CLIP-T goes; source_caption, target_caption: by which CLIP-dir goes; "" for none.
    """

    instruction: str
    source: Image.Image
    reference: Image.Image
    mask: np.ndarray | None = None
    caption: str = ""
    source_caption: str = ""
    target_caption: str = ""


class Benchmark(ABC):
    """One public benchmark on disk.

    Attributes:
        name: as on the command line. views: its tables, most have one. titles: their headings. reader: of its rows.
        counts: the published number of edits in each view. oracle: what the references themselves are known to get in a view.
        folder: subfolder of results in the authors' layout that may be left out, "" for none.
    """

    name: str
    views: tuple[str, ...] = ("all",)
    titles: dict[str, str] = {}
    counts: dict[str, int] = {}
    oracle: dict[str, dict[str, float]] = {}
    folder: str = ""
    reader: Reader

    @abstractmethod
    def edits(self, views: Sequence[str]) -> list[Edit]:
        """Every edit that the views need, one that starts from another's result behind that one."""

    @abstractmethod
    def trials(self, view: str) -> list[Trial]:
        """What is judged in a view, in the order of the data."""

    @abstractmethod
    def case(self, trial: Trial, profile: Profile) -> Case:
        """What the edit is compared with. Raises BrokenRow if it cannot be read."""

    def groups(self, limit: int) -> set[int]:
        """The rows that a run over the first `limit` pictures (sessions, where there are some) looks at; 0 is all of them."""
        return set(range(min(limit, len(self.reader)) if limit else len(self.reader)))

    def source_file(self, row: int) -> Path | None:
        """Where the source of a row lies as a file; None where it has to be written out first. Raises BrokenRow."""
        return None

    def seen(self, edit: Image.Image) -> Image.Image:
        """The edit as every metric sees it, where the protocol crops or resizes it first."""
        return edit

    def refused(self, edit: Image.Image, profile: Profile) -> str | None:
        """Why the protocol leaves an edit out, if it does."""
        return None

    def find(self, generated: Path, key: str) -> Path | None:
        """The picture of an edit in a folder of results, in the authors' layout or from `folder` downwards.

        Raises BrokenRow where there are several, of which nobody knows which one is meant.
        """
        names = [key] + ([f"{self.folder}/{key}", key.removeprefix(f"{self.folder}/")] if self.folder else [])
        # keys are checked; a link to a picture elsewhere is the user's own
        files = [generated / f"{name}{ending}" for name in dict.fromkeys(names) for ending in ENDINGS]
        found = [file for file in files if file.is_file()]
        if len(found) > 1:
            raise BrokenRow(f"several results: {' and '.join(str(file.relative_to(generated)) for file in found)}; keep one")
        return found[0] if found else None


def checked_key(key: str) -> str:
    """A key that is safe as a file's name. Raises BrokenRow for one that is empty, absolute or leads out of the folder."""
    parts = key.split("/")
    if any(part in ("", ".", "..") or part != part.strip() or set(part) & set('\\:*?"<>|\0\n') for part in parts):
        raise BrokenRow(f"no file name: {key!r} cannot name a result")
    return key


def opened(file: Path, what: str) -> Image.Image:
    """A picture as RGB, as the official scripts open it: EXIF turns are not applied. Raises BrokenRow, also for more than 8 bits a channel,
    which PIL cuts off: nearly all of the picture would be white."""
    try:
        with Image.open(file) as found:
            if found.mode.startswith(("I", "F")):
                raise BrokenRow(f"more than 8 bits: the {what} has {found.mode} pixels; save it with 8 bits a channel")
            return found.convert("RGB")
    except BrokenRow:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BrokenRow(f"broken {what}: {error}") from error
