# SPDX-License-Identifier: GPL-3.0-or-later
"""A pair made by hand: two squares on grey, the left one is removed."""

from __future__ import annotations

import numpy as np
import pytest

from fireedit_core.data import SceneSample

LEFT, RIGHT = (4, 10, 14, 20), (20, 10, 30, 20)


def make_pair(edit_type: str = "remove", target_index: int = 0, twins: bool = False) -> SceneSample:
    """32 px. "remove" and "recolour" change the left square, "background" everything around both."""
    source = np.full((32, 32, 3), 128, np.uint8)
    for x0, y0, x1, y1 in (LEFT, RIGHT):
        source[y0:y1, x0:x1] = (220, 40, 40)
    target, mask = source.copy(), np.zeros((32, 32), bool)
    x0, y0, x1, y1 = LEFT
    if edit_type == "background":
        mask[:] = True
        for a0, b0, a1, b1 in (LEFT, RIGHT):
            mask[b0:b1, a0:a1] = False
        target[mask] = (20, 90, 200)
    else:
        mask[y0:y1, x0:x1] = True
        target[mask] = 128 if edit_type == "remove" else (40, 40, 220)
    return SceneSample(
        id=f"hand-{edit_type}", source=source, target=target, instruction="remove the left apple", edit_type=edit_type,
        mask=mask, boxes=np.array([LEFT, RIGHT], np.float32), labels=("apple", "apple" if twins else "dog"),
        colours=("", ""), target_index=target_index, edit_box=np.array(LEFT, np.float32), referring="the left apple",
        twins=twins, source_caption="", target_caption="",
    )  # fmt: skip


@pytest.fixture
def pair() -> SceneSample:
    return make_pair()
