# SPDX-License-Identifier: GPL-3.0-or-later
"""What a state of a stage holds beside the weights."""

import math

import torch
from torch import nn

from fireedit_core.training.loop import StageConfig
from fireedit_core.training.paper.stage import PaperStage


def stage(folder, scale: float | None) -> PaperStage:
    """One whose fp16 scaler, which is there on a GPU alone, is put in by hand."""
    made = PaperStage("a", folder, nn.Linear(2, 1), StageConfig(math.inf, max_steps=1), lambda *_: None, mixed_precision="no", trackers=())
    made.accelerator.scaler = None if scale is None else torch.amp.GradScaler("cpu", init_scale=scale)
    if scale is not None:
        made.accelerator.scaler.scale(torch.ones(()))  # it makes its number when it is first asked
    return made


def test_the_scale_of_half_precision_goes_on(tmp_path):
    """Begun anew at 65536, a resumed run left out its first steps, until it had found the scale again."""
    stage(tmp_path / "one", 256.0)._save_tensors(tmp_path / "state")
    again = stage(tmp_path / "two", 65536.0)
    again._load_tensors(tmp_path / "state")
    assert again.accelerator.scaler.get_scale() == 256.0
    stage(tmp_path / "old", None)._save_tensors(tmp_path / "older")  # a state from before there was one in it
    again._load_tensors(tmp_path / "older")
    assert again.accelerator.scaler.get_scale() == 256.0
