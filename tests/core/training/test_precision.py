# SPDX-License-Identifier: GPL-3.0-or-later
"""A CPU that only emulates bfloat16 trains in float32; every other device in mixed precision."""

import pytest
import torch
from torch import nn

from fireedit_core.precision import autocast, quick_in_bfloat16
from fireedit_core.training.loop import StageConfig, TrainingStage


@pytest.mark.parametrize("quick, dtype, name", [(True, torch.bfloat16, "bf16"), (False, torch.float32, "no")])
def test_format_of_a_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path, quick: bool, dtype: torch.dtype, name: str):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: quick)
    layer = nn.Linear(4, 4)
    with autocast("cpu"):
        assert layer(torch.ones(1, 4)).dtype == dtype
    stage = TrainingStage("stage", tmp_path, layer, StageConfig(1.0), lambda number, device: (torch.zeros(()), {}))
    assert stage.accelerator.mixed_precision == name


def test_a_gpu_computes_in_bfloat16(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert quick_in_bfloat16("cuda") and not quick_in_bfloat16("cpu")


@pytest.mark.parametrize("quick", [True, False])
def test_a_run_in_bfloat16_on_a_cpu_that_emulates_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path, caplog, quick: bool):
    from fireedit_core.training.paper import train
    from fireedit_core.training.paper.config import PaperConfig

    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: quick)

    def stops(*_):
        raise RuntimeError("far enough")

    monkeypatch.setattr(train, "_check_same_run", stops)
    for precision, said in (("bf16", not quick), ("no", False)):
        caplog.clear()
        with pytest.raises(RuntimeError, match="far enough"):
            train.train(PaperConfig(sources="x", out=str(tmp_path), precision=precision, frozen_dtype="float32"))
        assert ("--precision no --frozen_dtype float32" in caplog.text) == said
