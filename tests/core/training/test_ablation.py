# SPDX-License-Identifier: GPL-3.0-or-later
"""The ablation at the smallest scale: four models, one seed, two steps each."""

import json
from functools import partial

import numpy as np
import pytest
import torch

pytest.importorskip("tensorboard")
from fireedit_core.checkpoints.bundle import load_components, save_bundle
from fireedit_core.data import WORLD, vocabulary
from fireedit_core.evaluation import ablation
from fireedit_core.evaluation.scenes import Scenes
from fireedit_core.training import alignment
from fireedit_core.training.ablation import VARIANTS, Budget, train_variant
from fireedit_core.training.build import OPTIONS
from fireedit_core.training.tiny import tiny_components
from fireedit_core.vlm import VisionFeatures

from .small import SIZES

pytestmark = pytest.mark.slow

BUDGET = Budget(align_steps=1, first_steps=1, edit_steps=2, pairs=24)


@pytest.fixture(autouse=True)
def few_validation_scenes(monkeypatch):
    # how well it points is measured at each save; here it is not what is asked
    monkeypatch.setattr(alignment, "evaluate_alignment", partial(alignment.evaluate_alignment, count=64))


@pytest.fixture(scope="module")
def start(repo, tmp_path_factory):
    """A bundle with a small language model and the real autoencoder and detector."""
    folder = tmp_path_factory.mktemp("start")
    components = tiny_components(vocabulary(WORLD), SIZES)
    save_bundle(folder, components | load_components(repo / "models" / "fireedit-tiny", names=("vae", "detector")), OPTIONS)
    return folder


@pytest.fixture
def run(tmp_path, start, monkeypatch):
    small = lambda *args: train_variant(*args, sizes=SIZES)  # noqa: E731
    monkeypatch.setattr(ablation, "train_variant", small)
    return lambda scenes=Scenes(count=4): ablation.run(tmp_path, start, [0], BUDGET, scenes, None)  # noqa: B008


def test_four_models_are_trained_measured_and_drawn(run, tmp_path):
    result = run()
    assert list(result["variants"]) == [v.name for v in VARIANTS]
    values = [result["variants"][v.name]["0"]["l1"] for v in VARIANTS]
    assert all(len(v) == 4 for v in values)
    text = ablation.report(result, "the command")
    assert all(f"| {v.name} | 1 |" in text for v in VARIANTS) and "docs" not in text
    change = np.mean(np.subtract(values[1], values[0]))
    assert f"| {VARIANTS[1].name} | {change:.4f} [" in text and f"] | {int(change < 0)} of 1 |" in text
    ablation.plot(result, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000
    # a second call measures nothing again, and another setting is refused
    before = (tmp_path / "ablation.json").stat().st_mtime_ns
    assert run() == json.loads((tmp_path / "ablation.json").read_text())
    assert (tmp_path / "ablation.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="another scenes"):
        run(Scenes(count=5))


def test_a_module_that_is_off_changes_nothing_and_one_that_is_on_learns(start, tmp_path):
    fresh = train_variant(VARIANTS[0], 0, tmp_path / "a", start, Budget(1, 1, 0, 24), sizes=SIZES)
    for variant, learns in ((VARIANTS[0], False), (VARIANTS[1], True), (VARIANTS[3], True)):
        pipe = train_variant(variant, 0, tmp_path / "b", start, BUDGET, sizes=SIZES)
        before, after = (p.visual_attention.attentions[0].to_mark.weight for p in (fresh, pipe))
        assert torch.equal(before, after) != learns
        visual = pipe.hvca(torch.randn(2, 77, SIZES.context_size), pipe.hvca.visual_memory(vision_features()))
        assert visual.shape[1] == (1 if variant is VARIANTS[1] else 16)


def vision_features() -> VisionFeatures:
    """Of two pictures, random."""
    dino = tuple(torch.randn(2, (SIZES.image_size // SIZES.dino_patch) ** 2, SIZES.dino_size) for _ in range(SIZES.dino_layers + 1))
    clip = tuple(torch.randn(2, (SIZES.image_size // SIZES.clip_patch) ** 2, SIZES.clip_size) for _ in range(SIZES.clip_layers + 1))
    return VisionFeatures(dino, clip, (16, 16))
