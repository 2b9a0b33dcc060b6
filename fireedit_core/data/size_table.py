# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes of a dataset's pictures on disk, found once for all processes and runs that share a folder.

Batches are planned by shape, and every process and every loader worker plans them all: without a table each picture's header is opened
by each of them, in every epoch.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

SIDE = 16  # bits of a side


class SizeTable:
    """`table[row]` is (height, width), or None for a row that nobody has looked at yet; `table[row] = size` keeps it.

    One number per row in a file that all processes map. Height and width lie in the same four bytes, so that a row is either there or
    not, whoever reads while another one writes.

    Args:
        folder: of the file, made if it is not there. name, rows: of the dataset; another number of rows is another table.
    """

    def __init__(self, folder: Path, name: str, rows: int):
        digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
        self.file, self.rows = folder / f"{digest}-{rows}.sizes", rows
        self._map: np.ndarray | None = None

    def __getitem__(self, row: int) -> tuple[int, int] | None:
        value = int(self._mapped()[row])
        return (value >> SIDE, value & ((1 << SIDE) - 1)) if value else None

    def __setitem__(self, row: int, size: tuple[int, int]) -> None:
        height, width = size
        if 0 < height < 1 << SIDE and 0 < width < 1 << SIDE:  # a larger one is looked at again
            self._mapped()[row] = height << SIDE | width

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_map": None}  # a worker maps the file itself: a pickled map would be a copy

    def _mapped(self) -> np.ndarray:
        if self._map is None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("ab") as file:
                os.truncate(file.fileno(), 4 * self.rows)  # zeros where it is new; what is there stays
            self._map = np.memmap(self.file, np.uint32, "r+", shape=(self.rows,))
        return self._map
