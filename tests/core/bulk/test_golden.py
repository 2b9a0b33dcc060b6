# SPDX-License-Identifier: GPL-3.0-or-later
"""A list through `python -m fireedit_core.bulk`: each row's picture, instruction and seed arrive in what is written for it."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from fireedit_core.bulk.__main__ import DONE, main
from tests.golden.cases import BUNDLE, ROWS, check, scene


@pytest.mark.parametrize("batch", [1, 3])
def test_rows(tmp_path, batch):
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "instruction", "key", "seed"])
        for name, case in ROWS.items():
            scene(case.scene).save(tmp_path / f"{case.scene}.png")
            table.writerow([f"{case.scene}.png", case.instruction, name, case.seed])
    case = ROWS["row 0"]
    options = {
        "--steps": case.steps, "--text-guidance": case.text_guidance, "--image-guidance": case.image_guidance,
        "--keep-outside": case.keep_outside, "--batch": batch, "--bundle": BUNDLE, "--out": tmp_path / "out", "--device": "cpu",
    }  # fmt: skip
    assert main([str(tmp_path / "rows.csv"), "--quiet", *(str(x) for pair in options.items() for x in pair)]) == DONE
    for name in ROWS:
        check(name, np.asarray(Image.open(tmp_path / "out" / f"{name}.png")))
