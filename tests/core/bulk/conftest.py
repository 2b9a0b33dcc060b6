# SPDX-License-Identifier: GPL-3.0-or-later
"""A few small pictures of two sizes, and rows for them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fireedit_core.bulk import EditRow

WORDS = ("remove the apple", "make the cat red", "replace the left apple with a dog", "make it bigger")


@pytest.fixture(autouse=True)
def one_thread():
    """As a worker of a CPU cluster has: sums of several threads may round in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_rows(picture, tmp_path):
    """`make_rows(6)`: rows animals/0 .. animals/5 with pictures of (64, 64) and (48, 96) by turns, written to disk."""

    def make(count: int) -> list[EditRow]:
        folder = tmp_path / "pictures"
        folder.mkdir(exist_ok=True)
        rows = []
        for i in range(count):
            file = folder / f"{i}.png"
            picture(*((64, 64) if i % 2 == 0 else (48, 96)), seed=i).save(file)
            rows.append(EditRow(f"animals/{i}", file, WORDS[i % len(WORDS)], seed=i // 2))
        return rows

    return make


@pytest.fixture
def edits():
    """`edits(out)`: the bytes of every result by its key."""
    return lambda out: {f.relative_to(out).as_posix()[:-4]: f.read_bytes() for f in sorted(Path(out).rglob("*.png"))}
