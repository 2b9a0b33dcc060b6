# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle that trains a step in no time, all datasets on disk, and a configuration that joins them."""

from __future__ import annotations

import pytest

pytest.importorskip("tensorboard")
pytest.importorskip("datasets")


from fireedit_core.checkpoints.bundle import load_components, save_bundle
from fireedit_core.data import WORLD, vocabulary
from fireedit_core.data.writers.registry import write
from fireedit_core.training.build import OPTIONS
from fireedit_core.training.paper.config import PaperConfig
from fireedit_core.training.tiny import tiny_components

from ..small import SIZES


@pytest.fixture(scope="session")
def bundle(repo, tmp_path_factory):
    """All components small and random but the autoencoder and the detector."""
    folder = tmp_path_factory.mktemp("paper") / "bundle"
    components = tiny_components([*vocabulary(WORLD), "user", "assistant"], SIZES)
    save_bundle(folder, components | load_components(repo / "models" / "fireedit-tiny", names=("vae", "detector")), OPTIONS)
    return folder


@pytest.fixture(scope="session")
def sources(tmp_path_factory):
    """Every format with a few rows; its `sources` are twelve datasets."""
    return write(tmp_path_factory.mktemp("datasets"), count=4)


@pytest.fixture
def config(bundle, sources, tmp_path):
    """Makes a configuration of a run in a folder of its own; numbers that a test does not name are the smallest."""

    def make(**changes) -> PaperConfig:
        numbers = {
            "bundle": str(bundle), "sources": str(sources), "out": str(tmp_path / "run"), "size": 64, "buckets": False, "max_regions": 4,
            "steps": 2, "batch": 2, "lr": 1e-3, "warmup": 1, "ema_decay": 0.5, "precision": "no", "frozen_dtype": "float32",
            "lora_dropout": 0.0, "validation": 0, "validation_steps": 2, "log_steps": 1, "save_minutes": 1000.0,
        }  # fmt: skip
        return PaperConfig(**(numbers | changes))

    return make
