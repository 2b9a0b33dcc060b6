# SPDX-License-Identifier: GPL-3.0-or-later
"""The evaluation of confinement: what is counted, its controls, and a page that can be read before the end."""

from __future__ import annotations

import numpy as np
import torch

from fireedit_core.evaluation import confine
from fireedit_core.evaluation.scenes import Scenes, Settings


class Judge:
    """Says of nothing that it is there."""

    def look(self, picture, boxes):
        return [("nothing", "")] * len(boxes)


def test_a_run_of_few_scenes(tiny_pipe):
    pages = []
    scenes = Scenes(3, "heldout", 0, ("recolour", "remove"))
    found = confine.evaluate(
        tiny_pipe, scenes, Judge(), Settings(steps=2), batch=2, look=lambda result: pages.append(confine.report(result, "by hand"))
    )
    rows = found["rows"]
    assert list(rows) == list(confine.MASKS) and all(len(row.success) == 3 for row in rows.values())
    # random weights change everything; confined, off the mask, only what their autoencoder smears over from there (cells of 16 px here)
    assert np.mean(rows["true"].off) < 0.7 * np.mean(rows["none"].off)
    assert rows["true"].overlap == [1, 1, 1] and np.mean(rows["random"].overlap) < 0.5 and max(rows["none"].overlap) < 0.6
    assert len(pages) == 2 and "fireedit-tiny on 2 scenes" in pages[0] and "on 3 scenes of heldout" in pages[1]
    assert all(f"| {name} |" in pages[1] for name in confine.MASKS)


def test_the_random_mask_is_as_large_and_elsewhere():
    masks = torch.zeros(4, 64, 64)
    masks[:, 10:30, 20:50] = 1
    moved = confine.moved(masks, [1, 2, 3, 4])
    assert torch.equal(moved.sum((1, 2)), masks.sum((1, 2))) and ((moved * masks).sum((1, 2)) <= 0.5 * masks.sum((1, 2))).all()
    assert torch.equal(moved, confine.moved(masks, [1, 2, 3, 4])) and not torch.equal(moved[0], moved[1])
