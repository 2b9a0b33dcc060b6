# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a stage of `make train-tiny` takes the parts that it does not train."""

from __future__ import annotations

import pytest
import torch

from fireedit_core.training.build import load_parts, save_parts
from fireedit_core.vlm.adapter import VisionAdapter


def adapters():
    return {"adapter": VisionAdapter(4, 8)}


def test_parts_of_this_run_come_before_the_bundles(tmp_path):
    out, bundle = tmp_path / "out", tmp_path / "bundle"
    ours, released, fresh = adapters(), adapters(), adapters()
    with pytest.raises(FileNotFoundError, match="no trained adapter"):
        load_parts(fresh, ["adapter"], out, bundle)
    released["adapter"].half().save_pretrained(bundle / "adapter")
    load_parts(fresh, ["adapter"], out, bundle)
    for wanted, got in zip(released["adapter"].parameters(), fresh["adapter"].parameters(), strict=True):
        assert got.dtype == torch.float32 and torch.equal(got, wanted.float())
    save_parts(ours, out, ["adapter"])
    load_parts(fresh, ["adapter"], out, bundle)
    for wanted, got in zip(ours["adapter"].parameters(), fresh["adapter"].parameters(), strict=True):
        assert torch.equal(got, wanted)
