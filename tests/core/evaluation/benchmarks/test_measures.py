# SPDX-License-Identifier: GPL-3.0-or-later
"""Each measure by hand, on pictures of one colour: which picture it looks at, and what it makes of the numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from fireedit_core.evaluation.benchmarks.benchmark import Case
from fireedit_core.evaluation.benchmarks.measures import Comparison, Unmeasured, measure
from fireedit_core.evaluation.benchmarks.profiles import Metric

TEXTS = {"a dog": (0.0, 1.0, 0.0), "a cat": (1.0, 0.0, 0.0)}
EDIT, SOURCE, REFERENCE = (204, 51, 0), (0, 51, 204), (51, 51, 51)


class Network:
    """What CLIP and DINO are to the measures: the mean colour of a picture is its embedding."""

    def __init__(self, factor: float):
        self.factor, self.asked = factor, 0

    def picture(self, image):
        self.asked += 1
        return torch.from_numpy(np.asarray(image, np.float64).mean((0, 1)) / 255) * torch.tensor([1.0, 1.0, self.factor])

    def text(self, text):
        return torch.tensor(TEXTS[text], dtype=torch.float64)


class Weights:
    def __init__(self):
        self.networks = {"small": Network(1.0), "large": Network(2.0)}

    def clip(self, name):
        return self.networks[name]

    dino = clip

    def lpips(self, name):
        return lambda edit, reference: float(np.abs(edit - reference).max())


def plain(colour, size=(40, 40)):
    return Image.new("RGB", size, colour)


@pytest.fixture
def comparison():
    mask = np.zeros((40, 40), bool)
    mask[:10] = True  # a quarter
    case = Case(
        instruction="make it a cat", source=plain(SOURCE), reference=plain(REFERENCE), mask=mask, caption="a cat",
        source_caption="a dog", target_caption="a cat",
    )  # fmt: skip
    return Comparison(plain(EDIT), case, Weights())


def number(comparison, kind, weights="small"):
    return measure(comparison, Metric(kind, kind, weights, kind, True))


def angle(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(x * x for x in b))


def test_every_measure_looks_at_its_pictures(comparison):
    """Edit (.8, .2, 0), source (0, .2, .8), reference (.2, .2, .2)."""
    wanted = {
        "l1": (0.6 + 0 + 0.2) / 3,
        "l2": (0.36 + 0 + 0.04) / 3,
        "mse_background": 0.75 * 0.4 / 3,
        "psnr_background": -10 * math.log10(0.1),
        "lpips": 0.6,
        "clip_picture": angle((0.8, 0.2, 0), (0.2, 0.2, 0.2)),
        "dino": angle((0.8, 0.2, 0), (0.2, 0.2, 0.2)),
        "clip_text": 0.8 / math.sqrt(0.68),
        "clip_score": 80 / math.sqrt(0.68),
        "clip_score_edited": 80 / math.sqrt(0.68),  # a quarter of it, so a quarter of its embedding
        # from the source (0, .2, .8) and not from the reference, towards (1, -1, 0)
        "clip_direction": angle((0.8, 0, -0.8), (1, -1, 0)),
    }
    assert {kind: number(comparison, kind) for kind in wanted} == pytest.approx(wanted, rel=1e-5)


def test_embeddings_are_kept_by_network_and_picture(comparison):
    """Blue counts double in the large network. Every picture is seen once by each, though several measures ask."""
    assert number(comparison, "clip_picture", "large") == pytest.approx(angle((0.8, 0.2, 0), (0.2, 0.2, 0.4)), rel=1e-5)
    assert number(comparison, "clip_picture") == pytest.approx(angle((0.8, 0.2, 0), (0.2, 0.2, 0.2)), rel=1e-5)
    assert number(comparison, "clip_direction", "large") == pytest.approx(angle((0.8, 0, -1.6), (1, -1, 0)), rel=1e-5)
    assert number(comparison, "clip_text", "large") == pytest.approx(0.8 / math.sqrt(0.68), rel=1e-5)
    other = Comparison(plain((0, 0, 255)), comparison.case, comparison.weights, comparison.kept)  # identity's row beside the edit's
    assert number(other, "clip_picture") == pytest.approx(angle((0, 0, 1), (1, 1, 1)), rel=1e-5)
    networks = comparison.weights.networks
    assert networks["large"].asked == 3 and networks["small"].asked == 3


def test_opposite_texts_and_what_has_no_number(comparison):
    comparison.edit = plain((0, 0, 255))
    comparison.case.caption = "a dog"
    assert number(comparison, "clip_score") == 0  # never below
    comparison.edit = plain(REFERENCE)
    assert number(comparison, "psnr_background") == math.inf
    comparison.case.source_caption = "A  cat"
    with pytest.raises(Unmeasured, match="identical captions"):
        number(comparison, "clip_direction")
    comparison.case.caption = " "
    with pytest.raises(Unmeasured, match="no caption"):
        number(comparison, "clip_text")
